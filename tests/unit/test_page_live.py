"""The page's memory: bounded, cheap for the inference thread, and complete for every reader."""

import os
import threading
import time
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.page.live import (
    KEPT_RECENT_PICTURES,
    KEPT_REJECT_PICTURES,
    LISTED_REJECTS,
    GateAckView,
    LiveView,
    PartView,
)
from edge.page.rows import MAX_REGIONS, MAX_TEXT, VERDICTS
from edge.regions import Region


class StillClock:
    """A clock that moves when told to."""

    def __init__(self) -> None:
        self.now_ns = 1_000_000_000

    def monotonic_ns(self) -> int:
        return self.now_ns

    def utc_us(self) -> int:
        return 0


def part(seq: int, verdict: str = "pass", *, pixels=None, heat=None, **fields) -> PartView:
    defaults: dict[str, Any] = {
        "part_id": f"SN-{seq}",
        "reasons": () if verdict == "pass" else ("logical",),
        "cal": 0.4,
        "p": 0.3,
        "st": 0.2,
        "ae": 0.4,
        "global_": 0.1,
        "infer_ms": 9.8,
        "slack_ms": 205.0,
        "trig_us": 1_795_302_862_000_000,
    }
    return PartView(seq=seq, verdict=verdict, pixels=pixels, anomaly_map=heat, **(defaults | fields))


def frame(side: int = 32) -> np.ndarray:
    return np.zeros((side, side, 3), np.uint8)


def test_a_new_reader_gets_the_last_parts_in_order_and_all_counters():
    view = LiveView()
    for seq in range(1, 401):
        view.add_part(part(seq, "reject" if seq % 50 == 0 else "pass"))
    snapshot = view.snapshot(parts=300)
    seqs = [row.seq for row in snapshot.parts]
    assert snapshot.reset
    assert seqs[-300:] == list(range(101, 401))
    assert seqs[:-300] == [50, 100]  # rejects older than the chart stay for the row of rejects
    assert snapshot.rejects == [50, 100, 150, 200, 250, 300, 350, 400]
    assert snapshot.counts == {"pass": 392, "reject": 8, "invalid": 0, "uncertain": 0}


def test_a_reader_that_comes_back_gets_what_changed_and_nothing_else():
    view = LiveView()
    for seq in range(1, 11):
        view.add_part(part(seq))
    known = view.snapshot().revision
    assert view.snapshot(known).parts == []
    view.add_part(part(11))
    view.add_ack(GateAckView(4, "pass", "verdict", "g1", 180.0, fired=False))
    later = view.snapshot(known)
    assert not later.reset
    assert [row.seq for row in later.parts] == [4, 11]
    assert later.parts[0].gate is not None
    assert later.parts[0].gate.slack_ms == 180.0


def test_a_gate_answer_is_counted_by_decision_and_reason_even_for_a_part_long_gone():
    view = LiveView(parts=3)
    for seq in range(10):
        view.add_part(part(seq))
    for ack in (
        GateAckView(0, "pass", "verdict"),
        GateAckView(9, "reject", "late"),
        GateAckView(None, "reject", "missing"),
        GateAckView(None, "open-sesame", "x" * 1000),
    ):
        view.add_ack(ack)
    assert view.snapshot().gate == {"pass/verdict": 1, "reject/late": 1, "reject/missing": 1, "other/other": 1}


def test_inventing_reasons_does_not_make_the_counters_grow():
    view = LiveView()
    for index in range(1000):
        view.add_ack(GateAckView(None, f"d{index}", f"w{index}"))
    assert view.snapshot().gate == {"other/other": 1000}


def test_an_unknown_verdict_is_refused_with_its_number():
    with pytest.raises(ValueError, match=r"expected a verdict of pass, reject, invalid, uncertain, got 'good' \(seq 7\)"):
        part(7, "good")


def test_only_the_last_parts_and_the_last_rejects_keep_their_pixels():
    view = LiveView()
    for seq in range(1, 301):
        view.add_part(part(seq, "reject" if seq % 20 == 0 else "pass", pixels=frame()))
    kept = view.snapshot().kept
    passed = [seq for seq in range(1, 301) if seq % 20]
    assert sorted(kept) == sorted(passed[-KEPT_RECENT_PICTURES:] + list(range(80, 301, 20)))
    assert len(kept) == KEPT_RECENT_PICTURES + KEPT_REJECT_PICTURES
    assert view.picture(1) is None
    assert view.picture(300) is not None


def test_every_listed_reject_still_has_its_picture():
    view = LiveView()
    for seq in range(100):
        view.add_part(part(seq, "reject", pixels=frame()))
    snapshot = view.snapshot()
    assert len(snapshot.rejects) == LISTED_REJECTS
    assert set(snapshot.rejects) < set(snapshot.kept)


@given(
    st.lists(st.tuples(st.sampled_from(VERDICTS), st.integers(0, 40), st.booleans()), max_size=120),
    st.integers(1, 50),
    st.integers(0, 20_000),
)
def test_whatever_comes_the_bounds_hold_and_nothing_is_miscounted(parts, capacity, budget):
    view = LiveView(parts=capacity, picture_bytes=budget)
    for seq, (verdict, side, mapped) in enumerate(parts, start=1):
        pixels = frame(side) if side else None
        heat = np.zeros((5, 5), np.float32) if mapped else None
        view.add_part(part(seq, verdict, pixels=pixels, heat=heat))
        held = [view.picture(kept) for kept in view.snapshot().kept]
        sizes = [picture.nbytes for picture in held if picture is not None]
        assert len(sizes) == len(held) <= KEPT_RECENT_PICTURES + KEPT_REJECT_PICTURES
        assert sum(sizes) <= budget or len(sizes) == 1
        if side or mapped:
            assert view.picture(seq) is not None
    snapshot = view.snapshot(parts=1000)
    assert sum(snapshot.counts.values()) == len(parts)
    assert [row.seq for row in snapshot.parts][-capacity:] == list(range(1, len(parts) + 1))[-capacity:]
    assert len(snapshot.parts) <= capacity + LISTED_REJECTS


@pytest.mark.skipif("ONBELT_EMULATED" in os.environ, reason="an emulated processor's time says nothing")
def test_a_part_costs_the_inference_thread_less_than_a_tenth_of_a_millisecond():
    view = LiveView()
    pixels, heat = np.zeros((1944, 2592, 3), np.uint8), np.zeros((56, 56), np.float32)
    regions = (Region(0.1, 0.1, 0.2, 0.2, 1.4, "ae"),) * 4
    stop = threading.Event()

    def read() -> None:
        known = 0
        while not stop.wait(0.005):  # twenty times as often as a browser
            known = view.snapshot(known).revision
            view.snapshot()

    reader = threading.Thread(target=read)
    reader.start()
    costs = []
    try:
        for seq in range(2000):
            row = part(seq, "reject" if seq % 10 == 0 else "pass", pixels=pixels, heat=heat, regions=regions, verdict_ms=20.0)
            start = time.perf_counter_ns()
            view.add_part(row)
            costs.append(time.perf_counter_ns() - start)
    finally:
        stop.set()
        reader.join(5)
    median_us = sorted(costs)[len(costs) // 2] / 1000
    assert median_us < 100, f"add_part: median {median_us:.1f} us"


def test_the_rate_is_that_of_the_last_ten_seconds():
    clock = StillClock()
    view = LiveView(clock)
    assert view.snapshot().rate == 0.0
    for seq in range(300):
        view.add_part(part(seq))
        clock.now_ns += 50_000_000
    assert view.snapshot().rate == pytest.approx(20.0, rel=0.01)
    clock.now_ns += 5_000_000_000
    assert view.snapshot().rate == pytest.approx(10.0, rel=0.02)
    assert view.snapshot().idle_s == pytest.approx(5.05)
    clock.now_ns += 60_000_000_000
    assert view.snapshot().rate == 0.0


def test_the_rate_is_right_when_the_belt_outruns_the_ring():
    clock = StillClock()
    view = LiveView(clock, parts=100)
    for seq in range(500):
        view.add_part(part(seq))
        clock.now_ns += 2_000_000
    assert view.snapshot().rate == pytest.approx(500.0, rel=0.02)


def test_numbers_that_are_none_or_not_finite_reach_the_browser_as_null():
    view = LiveView()
    view.add_part(part(1, "invalid", cal=float("nan"), p=float("inf"), infer_ms=None, slack_ms=None, trig_us=0))
    row = msgspec.json.decode(msgspec.json.encode(view.snapshot()))["parts"][0]
    assert (row["cal"], row["p"], row["infer_ms"]) == (None, None, None)


def test_numpy_numbers_reach_the_browser_as_numbers():
    view = LiveView()
    one: Any = np.float32(1.5)
    region = Region(one, one, one, one, one, "st")
    view.add_part(part(1, cal=one, infer_ms=np.float64(9.5), regions=(region,)))
    view.add_ack(GateAckView(1, "pass", "verdict", "g1", one + one))
    row = msgspec.json.decode(msgspec.json.encode(view.snapshot()))["parts"][0]
    assert (row["cal"], row["infer_ms"], row["regions"][0]["peak"], row["gate"]["slack_ms"]) == (1.5, 9.5, 1.5, 3.0)


def test_text_and_regions_of_any_length_are_cut():
    view = LiveView()
    regions = tuple(Region(0, 0, 1, 1, 2.0, "st") for _ in range(100))
    view.add_part(part(1, "reject", part_id="x" * 9999, reasons=tuple("r" * 9999 for _ in range(100)), regions=regions))
    assert len(msgspec.json.encode(view.snapshot().parts)) < MAX_REGIONS * (MAX_TEXT + 100) + 1000


def test_only_a_map_that_reaches_half_the_limit_is_worth_drawing():
    view = LiveView()
    quiet, loud = np.full((24, 24), 0.49, np.float32), np.full((24, 24), 0.49, np.float32)
    loud[3, 4] = 0.5
    for seq, heat in enumerate([quiet, loud, None]):
        view.add_part(part(seq, heat=heat))
    assert [row.heat for row in view.snapshot().parts] == [False, True, False]


def test_the_state_is_copied_and_must_be_small_plain_json():
    view = LiveView()
    state = {"armed": True, "reasons": ["a"]}
    view.set_state(state)
    state["armed"] = False
    assert msgspec.json.decode(view.snapshot().state) == {"armed": True, "reasons": ["a"]}
    with pytest.raises(ValueError, match="must be plain JSON"):
        view.set_state({"armed": object()})
    loop: dict[str, Any] = {}
    loop["self"] = loop
    with pytest.raises(ValueError, match="must be plain JSON"):
        view.set_state(loop)
    with pytest.raises(ValueError, match="at most 65536 bytes"):
        view.set_state({"reasons": ["x" * 70_000]})
    assert msgspec.json.decode(view.snapshot().state)["armed"] is True


def test_writers_and_readers_together_lose_nothing():
    view = LiveView(parts=10_000)
    seen: dict[int, str] = {}
    done = threading.Event()

    def read() -> None:
        known = 0
        while True:
            last = done.is_set()
            snapshot = view.snapshot(known, parts=10_000)
            known = snapshot.revision
            seen.update({row.seq: row.verdict for row in snapshot.parts})
            if last:
                return

    def write(offset: int) -> None:
        for seq in range(offset, offset + 1000):
            view.add_part(part(seq, "reject" if seq % 7 == 0 else "pass"))
            view.add_ack(GateAckView(seq, "pass", "verdict"))

    reader = threading.Thread(target=read)
    writers = [threading.Thread(target=write, args=(k * 1000,)) for k in range(3)]
    for thread in [reader, *writers]:
        thread.start()
    for thread in writers:
        thread.join(30)
    done.set()
    reader.join(30)
    assert sorted(seen) == list(range(3000))
    assert view.snapshot().gate == {"pass/verdict": 3000}


def test_at_least_one_part_must_be_kept():
    with pytest.raises(ValueError, match="at least one part"):
        LiveView(parts=0)
