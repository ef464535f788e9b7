"""The certificate counts what changed, bounds what it did not see, and says why it is not more."""

import msgspec
import numpy as np
import pytest

from edge.binomial import clopper_pearson_upper
from export.certificate import (
    AGREEMENT_FLOOR,
    AGREEMENT_HEADROOM,
    Certificate,
    Mix,
    agreement_of,
    auroc,
    certify,
    forms_in_words,
    verdict_in_words,
)
from export.quantize.scheme import Form
from training.metrics.ranking import auroc as reference_auroc

NO_ENGINES = (np.zeros(2), np.zeros(2))


def scores(good=1500, bad=100):
    """Good parts below 0.8, damaged ones from 0.6 to 3."""
    return np.linspace(0.1, 0.8, good), np.linspace(0.6, 3.0, bad)


def test_the_area_under_the_curve_counts_ties_half():
    rng = np.random.default_rng(0)
    good, bad = rng.integers(0, 6, 40).astype(float), rng.integers(2, 9, 30).astype(float)
    labels = np.arange(70) >= 40
    assert auroc(good, bad) == pytest.approx(reference_auroc(np.concatenate([good, bad]), labels))
    assert auroc(np.zeros(3), np.zeros(4)) == 0.5


def test_the_same_scores_are_certified_equal():
    good, bad = scores()
    certificate = certify((good, bad), (good, bad), (1.0, 1.0), NO_ENGINES, "fp32")
    assert certificate.equal
    assert certificate.why_not == []
    assert certificate.flips == 0
    assert certificate.deviation_max == 0.0
    assert certificate.pictures == {"good": 1500, "damaged": 100}
    assert certificate.flip_bound == pytest.approx(clopper_pearson_upper(0, 1600, 0.95))


def test_each_graph_is_judged_at_its_own_limit():
    good, bad = scores()
    certificate = certify((good, bad), (3 * good, 3 * bad), (1.0, 3.0), NO_ENGINES, "fp32")
    assert certificate.flips == 0
    assert certificate.deviation_max == pytest.approx(0.0, abs=1e-12)


def test_flips_in_both_directions_count_and_cost_the_certificate():
    good, bad = scores()
    worse, better = good.copy(), bad.copy()
    worse[:2] = 1.2  # two good parts rejected only after quantization
    better[-1] = 0.9  # one damaged part passed only after quantization
    certificate = certify((good, bad), (worse, better), (1.0, 1.0), NO_ENGINES, "fp32")
    assert certificate.flips == 3
    assert not certificate.equal
    assert "3 of 1600 verdicts changed" in certificate.why_not[0]
    assert certificate.worst == {"before": pytest.approx(3.0), "after": pytest.approx(0.9)}
    assert certificate.deviation_max == pytest.approx(2.1)


def test_no_flip_among_few_pictures_proves_little():
    good, bad = scores(100, 20)
    certificate = certify((good, bad), (good, bad), (1.0, 1.0), NO_ENGINES, "fp32")
    assert certificate.flips == 0
    assert not certificate.equal
    assert "1,497" in certificate.why_not[0]


def test_a_lost_ranking_costs_the_certificate_even_without_a_flip():
    good, bad = scores()
    low = np.minimum(bad, 0.5)
    certificate = certify((good, bad / 4), (good, low / 4), (1.0, 1.0), NO_ENGINES, "fp32")
    assert certificate.flips == 0
    assert certificate.auroc < certificate.auroc_reference
    assert any("AUROC fell" in reason for reason in certificate.why_not)
    named = certify((good, bad / 4), (good, low / 4), (1.0, 1.0), NO_ENGINES, "fp32", Mix(left={"ae": 0.01, "st": 0.99}))
    assert named.why_not == ["AUROC fell by 0.4640 (bound 0.002); to blame: st 99%"]


def test_the_forms_are_said_in_words():
    good, bad = scores()
    forms = {"a": Form.FLOAT, "b": Form.INT8, "c": Form.TWOFOLD, "d": Form.FLOAT}
    mix = Mix(forms, blame=dict.fromkeys(forms, 0.1))
    said = forms_in_words(certify((good, bad), (good, bad), (1.0, 1.0), NO_ENGINES, "fp32", mix))
    assert said == "1 of 4 convolutions twofold: c; 2 of 4 convolutions float: a, d"


def test_a_refused_certificate_says_why_and_what_to_do():
    good, bad = scores()
    fine = certify((good, bad), (good, bad), (1.0, 1.0), NO_ENGINES, "fp32")
    assert verdict_in_words(fine) == "certified equal to float"
    refused = certify((good, bad), (good, bad - 1.0), (1.0, 1.0), NO_ENGINES, "fp32")
    assert not refused.equal
    said = verdict_in_words(refused)
    assert said.startswith("not certified equal to float: ")
    assert all(why in said for why in refused.why_not)
    assert said.endswith("; --precision fp32 packs the float graph itself")


def test_engines_are_compared_in_units_of_the_limit():
    good, bad = scores()
    engines = np.array([0.5, 2.0]), np.array([0.5, 2.02])
    certificate = certify((good, bad), (good, bad), (1.0, 2.0), engines, "fp32")
    assert certificate.engines_max == pytest.approx(0.01)
    assert certificate.engines_pictures == 2
    assert agreement_of(certificate) == pytest.approx(AGREEMENT_HEADROOM * 0.01)


def test_engines_that_agree_exactly_are_still_allowed_a_rounding():
    good, bad = scores()
    assert agreement_of(certify((good, bad), (good, bad), (1.0, 1.0), NO_ENGINES, "fp32")) == AGREEMENT_FLOOR


def test_a_certificate_survives_its_file():
    good, bad = scores()
    certificate = certify((good, bad), (good * 1.001, bad), (1.0, 1.0), NO_ENGINES, "fp32")
    assert msgspec.json.decode(msgspec.json.encode(certificate), type=Certificate) == certificate
