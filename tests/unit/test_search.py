"""The mix that is shipped: the cheapest that is foretold to hold, tried in turn, and judged by the certificate alone."""

import logging
import re
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

from export import equality
from export.certificate import Mix, allowed_flips, pictures_needed
from export.equality import Promise, find_equal, gather
from export.quantize.scheme import Form
from export.search import COSTS_TOLD_APART, Choice, Layer, candidates, foretold_flips, mixes

ERRORS = {"cheap": 1e-4, "dear": 4e-4, "worst": 1e-2}
LAYERS = {
    name: Layer(macs, {Form.INT8: ERRORS[name], Form.TWOFOLD: ERRORS[name] / 100})
    for name, macs in {"cheap": 1.0, "dear": 10.0, "worst": 2.0}.items()
}


def more(forms):
    """What is more than plain INT8."""
    return {name: form for name, form in forms.items() if form is not Form.INT8}


def error_of(forms):
    """Foretold error of a mix of LAYERS."""
    return sum({**layer.errors, Form.FLOAT: 0.0}[forms.get(name, Form.INT8)] for name, layer in LAYERS.items())


def test_as_many_flips_are_allowed_as_the_bound_bears():
    assert allowed_flips(1496, 0.95) == -1
    assert allowed_flips(1497, 0.95) == 0
    assert pictures_needed(0, 0.95) == 1497
    assert allowed_flips(4000, Mix(allowed=3).confidence) == 2
    assert allowed_flips(pictures_needed(7, 0.9), 0.9) == 7


def test_only_mixes_that_no_other_beats_are_considered():
    found = mixes(LAYERS)
    assert set(found[0].forms.values()) == {Form.INT8}
    assert more(found[1].forms) == {"cheap": Form.TWOFOLD}
    assert more(found[2].forms) == {"worst": Form.TWOFOLD}
    costs, errors = [one.cost for one in found], [one.error for one in found]
    assert costs == sorted(costs)
    assert errors == sorted(errors, reverse=True)
    assert set(found[-1].forms.values()) == {Form.FLOAT}
    assert len(found) < 27


def test_a_form_that_is_dearer_and_no_better_is_never_chosen():
    spoilt = {"one": Layer(1.0, {Form.INT8: 1e-4, Form.TWOFOLD: 2e-4})}
    assert [one.forms["one"] for one in mixes(spoilt)] == [Form.INT8, Form.FLOAT]


def test_thirty_convolutions_are_mixed_in_no_time_and_hardly_worse_than_by_looking_at_every_mix():
    rng = np.random.default_rng(0)
    layers = {
        f"conv.{i}": Layer(float(macs), {Form.INT8: float(error), Form.TWOFOLD: float(error * rng.uniform(0.01, 1.5))})
        for i, (macs, error) in enumerate(zip(rng.lognormal(0, 1, 30), 1e-4 * rng.lognormal(0, 2, 30), strict=True))
    }
    found = mixes(layers)
    assert len(found) <= COSTS_TOLD_APART + 3
    assert set(found[0].forms.values()) == {Form.INT8}
    assert set(found[-1].forms.values()) == {Form.FLOAT}
    # Ten of them can be listed in full.
    few = dict(list(layers.items())[:10])
    every = [Choice(0.0, 0.0, {})]
    for name, layer in few.items():
        every = [Choice(one.cost + c, one.error + e, {**one.forms, name: f}) for one in every for c, e, f in layer.choices]
    found = mixes(few)
    dearest = max(one.cost for one in every)
    for bound in np.geomspace(1e-5, 1e-2, 20):
        least = min(one.cost for one in every if one.error <= bound)
        assert least <= min(one.cost for one in found if one.error <= bound) <= least + 0.01 * dearest


def test_flips_are_foretold_from_how_many_scores_lie_near():
    rng = np.random.default_rng(0)
    before = rng.uniform(0.0, 2.0, 100_000)
    error = 0.01
    after = before + rng.normal(0.0, error, before.size)
    limit = 1.0 + rng.normal(0.0, error, before.size)  # a limit that errs as a score does, drawn anew for each
    flips = int(((before > 1.0) != (after > limit)).sum())
    assert foretold_flips(np.abs(before - 1.0), error**2) == pytest.approx(flips, rel=0.06)
    assert foretold_flips(np.abs(before - 1.0), 0.0) == 0.0


def test_the_cheapest_mix_that_is_foretold_to_hold_comes_first():
    distances = np.linspace(0.001, 1.0, 1000)
    tries = candidates(LAYERS, distances, allowed=60)
    assert more(tries[0]) == {"worst": Form.TWOFOLD}
    assert error_of(tries[0]) > error_of(tries[1]) > error_of(tries[2])


@pytest.mark.parametrize("allowed", [-1, 0, 2])
def test_where_none_is_foretold_to_hold_the_nearest_to_float_is_tried_and_never_float_itself(allowed):
    crowded = np.full(10_000, 1e-6)  # every score lies at the limit: any error changes verdicts
    tries = candidates(LAYERS, crowded, allowed)
    assert tries == [{"cheap": Form.TWOFOLD, "dear": Form.FLOAT, "worst": Form.FLOAT}]


class FakeQuantizer:
    """Graphs are just the set of their convolutions in INT8; each adds an error of its own to every score."""

    macs: ClassVar[dict[str, float]] = {name: layer.macs for name, layer in LAYERS.items()}

    def __init__(self, noise=1.0):
        self.noise = noise

    def graph(self, forms=None):
        return SimpleNamespace(error=self.noise * error_of(forms or {}))


def frames_of(raw):
    """Frames that carry the score they get in their first eight bytes."""
    frames = np.zeros((len(raw), 4, 4, 3), np.uint8)
    frames.reshape(len(raw), -1)[:, :8] = np.asarray(raw, np.float64)[:, None].view(np.uint8)
    return frames


@pytest.fixture
def inferences(monkeypatch):
    """Count inferences of engines that score what a frame carries, plus the graph's error."""
    count = []

    @contextmanager
    def build(model, size, precision, backend):
        rng = np.random.default_rng(1)

        def infer(frame):
            count.append(precision)
            raw = float(frame.reshape(-1)[:8].view(np.float64)[0]) + rng.normal(0.0, model.error**0.5)
            return SimpleNamespace(raw=raw, st=0.0, ae=0.0, global_=0.0)

        yield SimpleNamespace(infer=infer)

    monkeypatch.setattr(equality, "build_engine", build)
    return count


def witnesses(inferences):
    good, damaged = np.linspace(0.0, 1.0, 600), np.linspace(0.2, 8.0, 3400)
    plain: Any = SimpleNamespace(error=0.0)
    seen = gather(plain, 4, frames_of(good), frames_of(damaged), frames_of(np.linspace(0.0, 6.0, 150)), Promise(0.005, 0.95))
    inferences.clear()
    return seen


def test_pictures_near_the_limit_are_kept_to_measure_on(inferences):
    seen = witnesses(inferences)
    assert seen.float_limit == 1.0
    assert seen.float_near.size == equality.NEAR_PICTURES
    assert 0.5 < seen.float_near.min() < 1.0 < seen.float_near.max() < 2.0
    assert seen.distances.size == seen.pictures - 1


def test_plain_int8_is_taken_where_it_holds(inferences):
    judged = find_equal(FakeQuantizer(noise=1e-6), 4, witnesses(inferences))
    assert judged.certificate.equal
    assert (judged.certificate.tried, judged.certificate.forms) == (1, {})
    assert judged.certificate.confidence == pytest.approx(1 - 0.05 / 3)
    assert len(inferences) == 4000 + 2 * len(LAYERS) * equality.NEAR_PICTURES


def test_the_convolution_to_blame_takes_another_form_and_the_certificate_says_so(inferences):
    certificate = find_equal(FakeQuantizer(noise=1e-2), 4, witnesses(inferences)).certificate
    assert certificate.equal
    assert certificate.forms["worst"] in {"twofold", "float"}
    assert max(certificate.blame, key=certificate.blame.__getitem__) == "worst"


def test_where_no_mix_holds_the_fastest_is_shipped_and_says_whom_to_blame(inferences):
    class Hopeless(FakeQuantizer):
        """Errs less alone than together: what is foretold never comes true."""

        def graph(self, forms=None):
            floats = sum(form is Form.FLOAT for form in (forms or {}).values())
            return SimpleNamespace(error=1e-6 * error_of(forms) if floats == 2 else 0.3)

    certificate = find_equal(Hopeless(), 4, witnesses(inferences)).certificate
    assert not certificate.equal
    assert certificate.forms == {}
    assert certificate.tried == 3
    assert "to blame: worst" in certificate.why_not[0]
    # The first graph is judged to the end, the others only until they have failed.
    assert len(inferences) < 4000 + 2 * len(LAYERS) * equality.NEAR_PICTURES + 2 * 1500


def said(caplog):
    return [record.getMessage() for record in caplog.records if record.getMessage().startswith("not certified")]


def test_the_log_says_what_the_certificate_lacks_and_whom_to_blame(inferences, caplog):
    class Hopeless(FakeQuantizer):
        def graph(self, forms=None):
            floats = sum(form is Form.FLOAT for form in (forms or {}).values())
            return SimpleNamespace(error=1e-6 * error_of(forms) if floats == 2 else 0.3)

    with caplog.at_level(logging.INFO, "export.equality"):
        certificate = find_equal(Hopeless(), 4, witnesses(inferences)).certificate
    first, *others = said(caplog)
    assert first == f"not certified: {'; '.join(certificate.why_not)}"
    assert "verdicts changed" in first
    assert len(others) == 2
    for line in others:
        assert line.startswith("not certified: given up, more than 2 of 4000 verdicts changed; to blame: ")
    # In the second try "worst" has a twofold weight, and is no longer the one.
    assert [line.rpartition(": ")[2].split()[0] for line in others] == ["worst", "dear"]


def test_a_mix_that_only_loses_ranking_is_not_said_to_change_verdicts(inferences, caplog, monkeypatch):
    """Damaged pictures that swap places on their side of the limit flip no verdict."""
    ranked = iter([1.0, 0.99])
    monkeypatch.setattr("export.certificate.auroc", lambda good, bad: next(ranked, 0.99))
    with caplog.at_level(logging.INFO, "export.equality"):
        find_equal(FakeQuantizer(noise=1e-6), 4, witnesses(inferences))
    line = said(caplog)[0]
    assert re.search(r"not certified: AUROC fell by 0\.0100 \(bound 0\.002\); to blame: worst 95%", line)
    assert "verdicts" not in line


def test_where_one_mix_is_worth_trying_it_alone_is_bounded(inferences, monkeypatch):
    """Fewer tries leave each a wider bound: one graph of 4,000 pictures may change three verdicts."""
    monkeypatch.setattr(equality, "candidates", lambda layers, distances, allowed: [dict.fromkeys(layers, Form.INT8)])
    certificate = find_equal(FakeQuantizer(noise=1e-6), 4, witnesses(inferences)).certificate
    assert certificate.confidence == 0.95
    assert (certificate.equal, certificate.tried) == (True, 1)


def test_a_detector_without_a_choice_is_judged_once(inferences):
    class Fixed(FakeQuantizer):
        macs: ClassVar[dict[str, float]] = {}

    certificate = find_equal(Fixed(noise=1e-6), 4, witnesses(inferences)).certificate
    assert (certificate.confidence, certificate.blame, len(inferences)) == (0.95, {}, 4000)
