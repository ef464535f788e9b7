"""Outcome to verdict: what may say pass, and that everything a station can say fits."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.daemon.stages.compose import check_room, compose
from edge.errors import ConfigError
from edge.regions import Region
from edge.wire.verdict import encode_verdict
from tests.support.desk import BOOT, KEY, TOKEN, WHO, judgement, moment, outcome
from tests.support.station import T0_NS


def test_a_pass_in_full():
    verdict = compose(outcome(7), WHO, moment())
    assert (verdict.verdict, verdict.reason, verdict.seq, verdict.id) == ("pass", [], 7, f"st2/{BOOT}/7")
    assert verdict.part.trig == 1007
    assert (verdict.part.id, verdict.part.src) == ("1007", "counter")
    assert verdict.t.slack_ms == 370.0
    assert verdict.t.pub_us - verdict.t.trig_us == 30_000
    assert verdict.t.exp_us - verdict.t.trig_us == 2_000
    assert verdict.cam.frame_age_ms == 3.0
    assert verdict.clk.mono_us == T0_NS // 1000
    assert len(encode_verdict(verdict)) < 1024


def test_a_serial_number_is_a_barcode():
    part = compose(outcome(1, part_id="SN-7"), WHO, moment()).part
    assert (part.id, part.src) == ("SN-7", "barcode")


@pytest.mark.parametrize(
    ("given", "when", "expected"),
    [
        (outcome(judged=judgement("reject", 1.4, "logical")), moment(), ("reject", ["logical"])),
        (outcome(judged=judgement("uncertain", 1.0, "structural")), moment(), ("uncertain", ["near-limit"])),
        (outcome(reason="frozen"), moment(), ("invalid", ["frozen"])),
        (outcome(), moment(after_ms=400.1), ("invalid", ["late"])),
        (outcome(), moment(token=""), ("invalid", ["not-armed"])),
        (outcome(judged=judgement("reject", 1.4, "logical")), moment(token=""), ("invalid", ["not-armed"])),
        (outcome(), moment(forced="journal"), ("invalid", ["journal"])),
        (outcome(reason="camera"), moment(after_ms=500, forced="journal"), ("invalid", ["journal"])),
    ],
)
def test_what_is_not_a_pass(given, when, expected):
    verdict = compose(given, WHO, when)
    assert (verdict.verdict, verdict.reason) == expected
    encode_verdict(verdict)


@pytest.mark.parametrize("reason", ["camera", "frozen", "incomplete", "stale"])
def test_a_frame_that_cannot_be_trusted_is_no_frame(reason):
    assert compose(outcome(reason=reason), WHO, moment()).cam.have == []


def test_regions_are_in_pixels_of_the_frame():
    found = (Region(0.25, 0.5, 0.125, 0.25, 1.87654, "ae"),)
    (roi,) = compose(outcome(judged=judgement("reject", 1.4, "logical", found)), WHO, moment()).roi
    assert (roi.x, roi.y, roi.w, roi.h, roi.peak, roi.branch) == (16, 32, 8, 16, 1.877, "ae")


@given(
    reason=st.sampled_from(["", "", "camera", "late", "engine"]),
    kind=st.sampled_from(["pass", "reject", "uncertain", None]),
    after_ms=st.floats(0, 1000),
    token=st.sampled_from(["", TOKEN]),
    forced=st.sampled_from(["", "journal", "stopping"]),
)
def test_pass_needs_everything(reason, kind, after_ms, token, forced):
    judged = None if kind is None else judgement(kind, 0.4 if kind == "pass" else 1.4, None if kind == "pass" else "global")
    given = replace(outcome(judged=judged, reason=reason or ("x" if judged is None else "")), reason=reason, judgement=judged)
    verdict = compose(given, WHO, moment(after_ms, token, forced))
    deserved = not reason and kind == "pass" and after_ms <= 400 and bool(token) and not forced
    assert (verdict.verdict == "pass") == deserved
    encode_verdict(verdict)


def test_names_that_cannot_fit_are_refused_at_start():
    check_room(WHO)
    check_room(replace(WHO, key=KEY))
    with pytest.raises(ConfigError, match="too long together for a verdict"):
        check_room(replace(WHO, station="s" * 32, gate="g" * 32, lot="l" * 24))
