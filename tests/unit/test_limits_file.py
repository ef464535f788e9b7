"""Limit files: read strictly, believed only when signed for limits by a trusted key, in force for one model only."""

import os
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.limit import guaranteed_rank
from calibration.rules import shares
from edge.bundle.manifest import Limit, Rule, wrong_promise
from edge.bundle.reader import open_bundle
from edge.bundle.signing import TrustStore, generate_key, load_private, sign
from edge.errors import LimitError, OnbeltError
from edge.judge import Judge
from edge.limits.apply import model_hash, with_limit
from edge.limits.file import decode_file, pack_limit, read_limit, write_limit
from edge.limits.form import Source, decode_limit, encode_limit
from edge.wire.verdict import references
from tests.support.bundles import make_key, make_tiny_bundle
from tests.support.limits import SCORES, form_for


@pytest.fixture
def shop(tmp_path):
    path, trust, folder = make_tiny_bundle(tmp_path)
    return open_bundle(path, trust), trust, folder, make_key(tmp_path)[0]


def test_what_was_written_is_read(shop, tmp_path):
    bundle, trust, _, key = shop
    form = form_for(model_hash(bundle))
    written = write_limit(tmp_path / "tiny.limit", form, key)
    found = read_limit(tmp_path / "tiny.limit", trust)
    assert found == written
    assert found.form == form
    assert list(tmp_path.glob(".tiny*")) == []


def test_the_limit_in_force_changes_verdict_p_value_and_what_verdicts_name(shop, tmp_path):
    bundle, _, _, key = shop
    signed = write_limit(tmp_path / "tiny.limit", form_for(model_hash(bundle), raw=0.3), key)
    changed = with_limit(bundle, signed)
    assert changed.manifest.limit.raw == 0.3
    assert changed.sha256 == bundle.sha256
    assert Judge(changed.manifest).p_value(0.65) == pytest.approx((1 + 5) / 61)
    model, recipe, limit = references(bundle.manifest, bundle.sha256)
    now = references(changed.manifest, changed.sha256)
    assert now[:2] == (model, recipe)
    assert now[2] != limit
    # Engines may differ by the same amount as before, whatever the unit has become.
    allowed = [one.manifest.agreement * one.manifest.limit.raw for one in (bundle, changed)]
    assert allowed[0] == pytest.approx(allowed[1])


def test_golden_verdicts_follow_the_limit_and_a_missed_defect_must_be_named(shop, tmp_path):
    bundle, _, _, key = shop
    loose = form_for(model_hash(bundle), raw=2.5)
    with pytest.raises(LimitError, match=r"golden/logical\.png, golden/structural\.png; the file says none"):
        with_limit(bundle, write_limit(tmp_path / "a.limit", loose, key))
    named = msgspec.structs.replace(loose, lets_pass=["golden/logical.png", "golden/structural.png"])
    changed = with_limit(bundle, write_limit(tmp_path / "b.limit", named, key))
    assert {one.verdict for one in changed.golden} == {"pass"}
    # A file that speaks of golden pictures which are not let pass was made for other ones.
    spoken = form_for(model_hash(bundle), raw=0.3, lets_pass=["golden/structural.png"])
    with pytest.raises(LimitError, match=r"none; the file says golden/structural\.png"):
        with_limit(bundle, write_limit(tmp_path / "c.limit", spoken, key))


def test_the_limit_of_another_model_is_refused(shop, tmp_path):
    bundle, _, _, key = shop
    signed = write_limit(tmp_path / "other.limit", form_for("ab" * 32), key)
    with pytest.raises(LimitError, match=r"expected a limit of model .* got one of model abababab"):
        with_limit(bundle, signed)


def test_every_altered_byte_is_refused(shop, tmp_path):
    bundle, trust, _, key = shop
    content = pack_limit(form_for(model_hash(bundle)), key)
    for at in range(0, len(content), 7):
        altered = bytearray(content)
        altered[at] ^= 1
        with pytest.raises(LimitError):
            decode_file(bytes(altered), trust, Path("x.limit"))
    for wrong in (b"", content[:100], content + b"\n", content[:-1], b"\n" + content):
        with pytest.raises(LimitError):
            decode_file(wrong, trust, Path("x.limit"))


def test_a_signature_on_something_else_is_none_on_a_limit(shop):
    """A key that signs bundles: without the prefix a manifest's signature could be taken for a limit's."""
    bundle, trust, _, key = shop
    body = encode_limit(form_for(model_hash(bundle)))
    with pytest.raises(LimitError, match="not signed as a limit"):
        decode_file(sign(body, key) + body, trust, Path("x.limit"))


def test_a_strangers_limit_is_refused_and_a_box_key_may_sign_limits_but_no_bundles(shop, tmp_path):
    bundle, trust, folder, _ = shop
    generate_key(tmp_path / "box.key")
    own = load_private(tmp_path / "box.key")
    write_limit(tmp_path / "own.limit", form_for(model_hash(bundle)), own)
    with pytest.raises(LimitError, match="which this box does not trust"):
        read_limit(tmp_path / "own.limit", trust)
    (folder / "limits").mkdir()
    (tmp_path / "box.key.pub").rename(folder / "limits" / "box.pub")
    assert read_limit(tmp_path / "own.limit", trust).form.approved_by == "A. Miller"
    assert len(TrustStore.from_folders([folder]).keys) == 1


def test_paths_that_are_no_limit_file(shop, tmp_path):
    trust = shop[1]
    os.mkfifo(tmp_path / "pipe.limit")
    for name, said in (("none.limit", "no such limit file"), ("pipe.limit", "device or pipe"), ("", "got a folder")):
        with pytest.raises(LimitError, match=said):
            read_limit(tmp_path / name, trust)
    (tmp_path / "page.limit").write_bytes(b"<html>")
    with pytest.raises(LimitError, match="begin with its signature"):
        read_limit(tmp_path / "page.limit", trust)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"schema": 2}, "expected schema 1, got 2; update onbelt"),
        ({"version": 0}, "version"),
        ({"model": "9f"}, "model"),
        ({"approved_by": ""}, "approved_by"),
        ({"note": "a\nb"}, "note"),
        ({"created_utc": "yesterday"}, "created_utc"),
        ({"rank": 61}, "rank"),
        ({"rank": 5}, "the score of its rank"),
        ({"calibration": [*SCORES[1:], 0.1]}, "ascending"),
        ({"calibration": SCORES[1:]}, "limit.n"),
        ({"branches": {"st": [0.1]}}, "branches"),
        ({"interval": (2.0, 1.0)}, "interval"),
        ({"source": Source("pictures", "0" * 64, 50, 0, 0, 0, "x")}, "new and pooled parts to be 60"),
    ],
)
def test_impossible_values_are_refused_before_signing_and_after(changes, said):
    form = msgspec.structs.replace(form_for("ab" * 32), **changes)
    if "schema" not in changes:
        with pytest.raises(LimitError, match=said):
            encode_limit(form)
    with pytest.raises(LimitError, match=said):
        decode_limit(msgspec.json.encode(form))


def test_an_estimate_that_claims_confidence_is_refused():
    """The one lie that matters: a promise nothing stands behind."""
    form = form_for("ab" * 32, raw=0.77)
    assert form.limit.kind == "estimate"
    for lie in ({"kind": "guarantee", "confidence": 0.95}, {"confidence": 0.95}, {"confidence": 1.0}):
        with pytest.raises(LimitError, match=r"limit\.confidence|rank"):
            encode_limit(msgspec.structs.replace(form, limit=msgspec.structs.replace(form.limit, **lie)))


def promising(form, n, **limit):
    """The form with n rising scores, the limit at its largest, and another promise."""
    scores = [0.01 * i for i in range(1, n + 1)]
    changed = msgspec.structs.replace(form.limit, raw=scores[-1], n=n, **limit)
    source = msgspec.structs.replace(form.source, new=n)
    return msgspec.structs.replace(form, limit=changed, calibration=scores, rank=n, interval=(scores[-1],) * 2, source=source)


def test_a_guarantee_that_its_parts_do_not_carry_is_refused():
    form = form_for("ab" * 32)
    with pytest.raises(
        LimitError, match=r"expected a guarantee that its parts carry, got .*rank 10 of 10 keeps 0\.100% with 1\.0%"
    ):
        encode_limit(promising(form, 10, false_reject=0.001, confidence=0.95))
    with pytest.raises(LimitError, match="rank 597 of 597"):
        encode_limit(promising(form, 597, false_reject=0.005, confidence=0.95))
    assert encode_limit(promising(form, 598, false_reject=0.005, confidence=0.95))
    # Of 60 parts the largest score carries 5 % at 90 %, the next one does not.
    lower = msgspec.structs.replace(form.limit, raw=SCORES[-2])
    with pytest.raises(LimitError, match="rank 59 of 60"):
        encode_limit(msgspec.structs.replace(form, limit=lower, rank=59))


@pytest.mark.parametrize("n", [8, 44, 45, 298, 299, 1474, 20_000])
@pytest.mark.parametrize("rules", [0, 1, 3])
@pytest.mark.parametrize(("rate", "confidence"), [(0.05, 0.9), (0.01, 0.95), (0.3, 0.5)])
def test_what_a_refit_gives_is_carried_whatever_was_rounded(n, rules, rate, confidence):
    each = shares(rate, confidence, rules)
    rank = guaranteed_rank(n, *each)
    listed = [Rule(f"r{i}", "st", 1.0, each[0]) for i in range(rules)]
    limit = Limit(1.0, rate, confidence, "guarantee", n, {}, listed)
    if rank is None:
        assert wrong_promise(limit, n, n)
    else:
        assert not wrong_promise(limit, rank, n, {rule.name: rank for rule in listed})
        assert wrong_promise(limit, rank - 1, n)


def test_rules_leave_the_fused_limit_less_and_are_held_to_their_share_where_their_scores_are_known():
    form = promising(form_for("ab" * 32), 100, false_reject=0.08, confidence=0.9)
    scores = [0.01 * i for i in range(1, 101)]
    form = msgspec.structs.replace(form, branches=dict.fromkeys(form.branches, scores))
    place = [0.1, 0.1, 0.2, 0.2]

    def ruled(*rules):
        return msgspec.structs.replace(form, limit=msgspec.structs.replace(form.limit, rules=list(rules)))

    assert encode_limit(form)
    assert encode_limit(ruled(Rule("a", "ae", scores[-1], 0.04)))
    assert encode_limit(ruled(Rule("a", "ae", 0.5, 0.04, place))), "of a place no scores are known"
    for rules, said in (
        ([Rule("a", "ae", scores[-2], 0.04)], r"'a': rank 99 of 100 keeps 4\.000%"),
        ([Rule("a", "ae", 1.0, 0.06)], r"fused limit: rank 100 of 100 keeps 2\.000%"),
        ([Rule("a", "ae", 1.0, 0.02, place)], r"'a': rank 100 of 100 keeps 2\.000%"),
        ([Rule("a", "ae", 1.0, 0.05), Rule("b", "st", 1.0, 0.05)], r"fused limit: rank 100 of 100 for -2\.000%"),
    ):
        with pytest.raises(LimitError, match=said):
            encode_limit(ruled(*rules))


def test_unknown_and_missing_fields_are_refused_with_their_path():
    plain = msgspec.to_builtins(form_for("ab" * 32))
    with pytest.raises(LimitError, match="unknown field `extra`"):
        decode_limit(msgspec.json.encode({**plain, "extra": 1}))
    del plain["limit"]["branches"]
    with pytest.raises(LimitError, match=r"branches.*\$\.limit"):
        decode_limit(msgspec.json.encode(plain))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400))
def test_random_bytes_are_refused_and_nothing_else_happens(content):
    with pytest.raises(OnbeltError):
        decode_file(content, TrustStore(), Path("x.limit"))
