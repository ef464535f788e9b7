"""Two models on the same parts: what refuses one, how sure, how soon; the socket between daemon and shadow; the report."""

import os
import random
import socket
import threading
import time

import msgspec
import numpy as np
import pytest

from edge.bundle.reader import open_bundle
from edge.daemon.stages.parts import Outcome
from edge.daemon.stages.tap import WAITING, Tap
from edge.engine import open_engine
from edge.errors import ContractError
from edge.judge import Judge
from edge.preprocess import fit
from edge.update.compare import Comparison, Pair
from edge.update.machine import Watched
from edge.update.report import MOST_PICTURES
from edge.update.shadow import Shadow, connect
from edge.update.state import Step
from edge.wire.parts import MAX_HEAD_BYTES, PART_SCHEMA, PartHead, receive_part, send_part
from tests.support.bundles import bad_frame, good_frame, make_tiny_bundle
from tests.support.gate_messages import BOOT, MODEL, make_verdict
from tests.support.rig import until
from tests.support.station import ticket
from tests.support.update_box import Box
from tests.support.update_site import UpdateSite

GOOD = {"before": "pass", "before_cal": 0.3, "after": "pass", "after_cal": 0.3, "cpu_ms": 5.0}
BAD = {"before": "reject", "before_cal": 2.0, "after": "reject", "after_cal": 2.0, "cpu_ms": 5.0}
NEAR = {"before": "pass", "before_cal": 0.95, "after": "reject", "after_cal": 1.05, "cpu_ms": 5.0}


def pair(seq, base=GOOD, **changes):
    return Pair(seq, **{**base, **changes})


def decided(make, most=2000, parts=10_000):
    """(number of parts, reason) of the decision; (None, "") when there was none."""
    one = Comparison(parts, 0.005, 50.0)
    for seq in range(1, most + 1):
        one.add(make(seq))
        seen = one.look()
        if seen is not None:
            return seq, seen.reason
    return None, ""


# --- the decision -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("worse", "reason", "within"),
    [
        (lambda seq: pair(seq, after="reject", after_cal=1.4) if seq % 10 == 0 else pair(seq), "rejects", 100),
        (lambda seq: pair(seq, BAD, after="pass") if seq % 10 == 0 else pair(seq), "passes", 120),
        (lambda seq: pair(seq, NEAR) if seq % 5 == 0 else pair(seq), "disagrees", 150),
        (lambda seq: pair(seq, cpu_ms=51.0) if seq % 8 == 0 else pair(seq), "slow-model", 150),
        (lambda seq: pair(seq, after="invalid") if seq % 20 == 0 else pair(seq), "invalids", 120),
        (lambda seq: pair(seq, after="invalid", finite=False) if seq == 40 else pair(seq), "not-finite", 40),
        (lambda seq: pair(seq, after="pass"), None, None),
    ],
)
def test_what_refuses_a_model_and_how_soon(worse, reason, within):
    parts, why = decided(worse)
    assert why == (reason or "")
    assert (parts or 0) <= (within or 0)


def test_near_the_limit_two_good_models_may_disagree_now_and_then():
    assert decided(lambda seq: pair(seq, NEAR) if seq % 40 == 0 else pair(seq)) == (None, "")


def test_false_rejects_of_the_running_model_need_not_be_repeated():
    """One in seven of its clear rejects passes the new model: no reason against it."""
    assert decided(lambda seq: pair(seq, BAD, after="pass" if seq % 70 == 0 else "reject") if seq % 10 == 0 else pair(seq)) == (
        None,
        "",
    )


def test_a_model_at_its_bounds_is_refused_with_a_chance_below_the_budget():
    """200 runs of 300 parts with every share exactly at its bound: 2 refusals may be expected, 7 with a wide margin."""
    dice = random.Random(20261122)

    def at_the_bounds(seq):
        if dice.random() < 0.1:
            return pair(seq, BAD, after="pass" if dice.random() < 0.25 else "reject", cpu_ms=cpu())
        if dice.random() < 0.005:
            return pair(seq, after="invalid")
        return pair(seq, after="reject" if dice.random() < 0.01 else "pass", cpu_ms=cpu())

    def cpu():
        return 60.0 if dice.random() < 0.02 else 5.0

    refused = sum(bool(decided(at_the_bounds, 300)[1]) for _ in range(200))
    assert refused <= 7


def test_after_enough_parts_it_may_take_over():
    one = Comparison(100, 0.005, 50.0)
    for seq in range(100):
        assert one.look() is None
        one.add(pair(seq))
    assert one.look() == Watched("", "100 parts beside the running model, 0 judged otherwise (below 2.6%, 95 % sure)")


# --- the machine's step -----------------------------------------------------------------------------------------------------


def test_the_machine_compares_before_it_switches(tmp_path):
    site = UpdateSite(tmp_path / "site")
    site.publish(1)
    box = Box(tmp_path / "box", site)
    box.update()  # the first model has nothing to be compared with
    said = [Watched("shadow", "20 of 300"), Watched("shadow", "200 of 300"), Watched("", "300 parts, 0 judged otherwise")]
    box.shadow = lambda _: said.pop(0)
    box.start()
    first = box.running
    site.publish(2)
    box.machine.offer(box.source.channel("stable"))
    while box.machine.state.step is not Step.SHADOW:
        box.machine.advance()
    for _ in range(2):
        box.machine.advance()
        assert (box.machine.state.step, box.machine.state.reason, box.running) == (Step.SHADOW, "shadow", first)
    assert box.start().finish().committed.version == 2  # the updater was started anew in between


def test_a_refusal_in_the_shadow_never_touches_the_link(tmp_path):
    site = UpdateSite(tmp_path / "site")
    site.publish(1)
    box = Box(tmp_path / "box", site)
    box.update()
    first = box.running
    box.shadow = lambda _: Watched("passes", "9 of 12 clearly bad parts passed")
    box.start()
    site.publish(2)
    state = box.update()
    assert (state.committed.version, state.reason, state.text) == (1, "passes", "9 of 12 clearly bad parts passed")
    assert box.running == first
    assert box.guarded[-1].version == 1


# --- the socket between daemon and shadow --------------------------------------------------------------------------------------


class FolderTap(Tap):
    """A tap that says where it is."""

    def __init__(self, folder):
        super().__init__(folder)
        self.folder = folder


@pytest.fixture
def tap(tmp_path):
    deep = tmp_path / ("d" * 60) / ("e" * 60)  # longer than a Unix socket's address may be
    deep.mkdir(parents=True)
    one, stop = FolderTap(deep), threading.Event()
    thread = threading.Thread(target=one.run, args=(stop,), daemon=True)
    thread.start()
    assert until((deep / "parts.sock").exists)
    yield one
    stop.set()
    thread.join(5)
    assert not thread.is_alive()


@pytest.fixture
def judged(tmp_path):
    path, trust, _ = make_tiny_bundle(tmp_path / "bundle")
    bundle = open_bundle(path, trust)
    with open_engine(bundle, "onnxruntime", 1) as engine:
        yield lambda pixels: Judge(bundle.manifest).judge(engine.infer(fit(pixels, 64)))


def outcome(judged, seq, pixels):
    return make_verdict(seq, "pass"), Outcome(ticket(seq), pixels=pixels, judgement=judged(pixels), infer_ms=3.0)


def joined(tap):
    connection = None

    def answered():  # the socket's name is there a moment before anybody listens on it
        nonlocal connection
        connection = connect(tap.folder)
        return connection

    assert until(answered)
    assert until(lambda: tap._read)
    connection.settimeout(5)
    return connection


def test_parts_arrive_as_they_were_judged(tap, judged):
    with joined(tap) as connection:
        frames = [good_frame(seed=seq, size=64 + seq) for seq in range(1, 6)]
        for seq, pixels in enumerate(frames, 1):
            tap.offer(*outcome(judged, seq, pixels))
            head, got = receive_part(connection)
            assert (head.seq, head.model, head.verdict, head.infer_ms, head.dropped) == (seq, MODEL, "pass", 3.0, 0)
            assert np.array_equal(got, pixels)


def test_a_reader_outlasts_the_pauses_of_a_slow_line(tap, judged):
    """Half a second between parts: the same connection, and every part at once."""
    with joined(tap) as connection:
        for seq in range(1, 4):
            time.sleep(0.5)
            begin = time.monotonic()
            tap.offer(*outcome(judged, seq, good_frame()))
            head, _ = receive_part(connection)
            assert (head.seq, head.dropped) == (seq, 0)
            assert time.monotonic() - begin < 0.5


def test_nobody_reads_nothing_is_kept(tap, judged):
    for seq in range(50):
        tap.offer(*outcome(judged, seq, good_frame()))
    assert (tap.sent, tap.dropped, len(tap._queue)) == (0, 0, 0)


def test_a_reader_that_takes_nothing_costs_parts_and_never_time(tap, judged):
    offered = outcome(judged, 1, good_frame(size=512))  # larger than a socket's buffer
    with joined(tap) as connection:
        begin = time.monotonic()
        for _ in range(200):
            tap.offer(*offered)
        assert time.monotonic() - begin < 0.5
        assert len(tap._queue) <= WAITING
        assert tap.dropped >= 190
        seen = [0]
        while seen[-1] < tap.dropped:  # a slow sender may have taken one while parts still came
            part = receive_part(connection)
            assert part is not None
            seen.append(part[0].dropped)
        assert seen == sorted(seen)
        assert seen[-1] == tap.dropped
    assert until(lambda: not tap._read)
    assert len(tap._queue) == 0


def test_a_reader_that_takes_nothing_does_not_hold_up_a_stop(tmp_path, judged):
    one, stop = FolderTap(tmp_path), threading.Event()
    thread = threading.Thread(target=one.run, args=(stop,), daemon=True)
    thread.start()
    assert until((tmp_path / "parts.sock").exists)
    with joined(one):
        for _ in range(3):
            one.offer(*outcome(judged, 1, good_frame(size=512)))
        stop.set()
        begin = time.monotonic()
        one.interrupt()
        thread.join(5)
        assert not thread.is_alive()
        assert time.monotonic() - begin < 2


def test_a_part_without_a_judgement_is_not_offered(tap, judged):
    with joined(tap):
        tap.offer(make_verdict(1, "invalid"), Outcome(ticket(1), "engine", pixels=good_frame()))
        assert len(tap._queue) == 0
        assert tap.sent == 0


def test_the_tap_is_nice(tap):
    native = next(one.native_id or 0 for one in threading.enumerate() if one.name.startswith("Thread") and "run" in one.name)
    assert os.getpriority(os.PRIO_PROCESS, native) == 19


@pytest.mark.parametrize(
    "payload",
    [b"\xff\xff\xff\xff", b"\x00\x00\x00\x00", (MAX_HEAD_BYTES + 1).to_bytes(4, "little"), b"\x02\x00\x00\x00{}"],
    ids=["huge", "empty", "long", "no head"],
)
def test_what_is_no_part_is_refused(payload):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(payload)
        with pytest.raises(ContractError):
            receive_part(ours)


def test_a_picture_no_camera_takes_is_refused_before_it_is_read():
    head = PartHead(PART_SCHEMA, BOOT, 1, MODEL, "pass", 0.3, 3.0, 60_000, 60_000, 0)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        send_part(theirs, head, np.zeros((1, 1, 3), np.uint8))
        with pytest.raises(ContractError, match="expected at most"):
            receive_part(ours)


# --- the report ---------------------------------------------------------------------------------------------------------------


def shadow(tmp_path, parts=40, **variant):
    path, trust, _ = make_tiny_bundle(tmp_path / "bundle", version=2, **variant)
    bundle = open_bundle(path, trust)
    return Shadow(bundle, open_engine(bundle, "onnxruntime", 1), parts, 1000.0, 1, tmp_path / "report.html")


def run(one, number=400):
    """Parts as a running model with limit 1.0 judges them, every third with a defect."""
    for seq in range(1, number + 1):
        pixels = bad_frame("logical", seed=seq) if seq % 3 == 0 else good_frame(seed=seq)
        good = PartHead(PART_SCHEMA, BOOT, seq, MODEL, "pass", 0.05, 4.0, 64, 64, 3)
        bad = msgspec.structs.replace(good, verdict="reject", cal=2.0)
        told = one.step(bad if seq % 3 == 0 else good, pixels)
        if told is not None and told.decided:
            return told
    return None


def test_a_model_that_passes_defects_is_refused_with_their_pictures(tmp_path):
    told = run(shadow(tmp_path, limit=50.0))
    assert told.reason == "passes"
    assert "clearly bad parts passed, beside the running model; at most 25.0% are allowed; pictures in" in told.text
    page = (tmp_path / "report.html").read_text()
    shown = page.count("<figure>")
    assert 3 <= shown <= MOST_PICTURES
    assert page.count("data:image/png;base64,") == 2 * shown
    assert "Refused: <b>passes</b>" in page
    assert "running: reject (2.00 of its limit)<br>new: pass (0.04 of its limit)" in page
    for outside in ("http:", "https:", "<script", "<link"):
        assert outside not in page


def test_a_good_model_has_a_report_too(tmp_path):
    told = run(shadow(tmp_path, limit=0.9))
    assert (told.reason, told.parts) == ("", 40)
    page = (tmp_path / "report.html").read_text()
    assert "May take over" in page
    assert "3 were judged while this process was busy" in page


def test_a_model_that_is_mute_on_live_parts_only(tmp_path):
    """Its golden frames are 100 +- 5 in red; parts of a redder lot give no number."""
    one = shadow(tmp_path, nan_above=120.0)
    pixels = good_frame()
    pixels[:, :, 0] += 40
    told = one.step(PartHead(PART_SCHEMA, BOOT, 7, MODEL, "pass", 0.5, 4.0, 64, 64, 0), pixels)
    assert (told.decided, told.reason) == (True, "not-finite")
    assert told.text.startswith("part 7: ")
