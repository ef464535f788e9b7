"""What the daemon itself costs at 30 parts/s: time from frame to published verdict beyond the engine, processor, memory, disk.

The table is printed (`pytest -s`); the limits leave room for a machine that does other things at the same time.
"""

import gc
import signal
import time

import pytest

from edge.daemon.stages.figures import Figures
from edge.daemon.talk.health import resident_mb
from tests.support.rig import Ear, Rig, until

pytestmark = [pytest.mark.broker, pytest.mark.slow]


@pytest.fixture
def rig(tmp_path, mosquitto):
    made = Rig(tmp_path, mosquitto.port, page={"enabled": True, "port": 0}).start()
    yield made
    made.stop()


def test_overhead_at_thirty_parts_a_second(rig, capsys):
    rig.parts(30)
    figures = rig.daemon.publisher._figures = Figures()  # the first parts allocate: they say nothing of the rest
    processor, wall = time.process_time(), time.monotonic()
    rig.parts(300)
    processor, wall = time.process_time() - processor, time.monotonic() - wall
    own = figures.own_ms.percentiles(50, 99) or []
    whole = figures.verdict_ms.percentiles(50, 99) or []
    slack = figures.slack_ms.percentiles(50, 1) or []
    assert own is not None
    assert whole is not None
    with capsys.disabled():
        print(f"\n{'':34}{'p50':>8}{'p99':>8}")
        print(f"{'frame to verdict less engine, ms':34}{own[0]:8.2f}{own[1]:8.2f}")
        print(f"{'trigger to verdict, ms':34}{whole[0]:8.2f}{whole[1]:8.2f}")
        print(f"{'slack of 400 ms, ms':34}{slack[0]:8.2f}{slack[1]:8.2f}")
        print(f"{'processor per part, ms':34}{processor / 300 * 1000:8.2f}   ({processor / wall:.0%} of a core)")
    assert own[0] < 60
    assert slack[0] > 200
    assert processor / 300 < 0.02
    assert figures.verdicts().get("pass", 0) + figures.verdicts().get("reject", 0) > 270


def test_memory_stands_still(rig):
    rig.parts(400, rate_hz=100)
    gc.collect()
    before = resident_mb()
    rig.parts(1200, rate_hz=100)
    gc.collect()
    assert resident_mb() - before < 24, "the page keeps 24 pictures, the figures 4096 values, nothing else grows"


def test_a_broker_that_freezes_costs_no_part_its_answer(rig, mosquitto):
    ear = Ear(mosquitto.port)
    try:
        rig.parts(10)
        mosquitto.process.send_signal(signal.SIGSTOP)
        rig.parts(90)
        assert len(rig.daemon.line._client._out_messages if rig.daemon.line._client else []) <= 16
        mosquitto.process.send_signal(signal.SIGCONT)
        assert until(lambda: rig.daemon.line.connected and rig.daemon.rest.connected, 20)
        assert until(lambda: rig.daemon.backfill.unsent == 0 and rig.daemon.publisher.settled_n == rig.daemon.publisher.rows, 30)
        assert until(lambda: ear.client.is_connected() and len(ear.verdicts()) > 0, 20)
        live = [one.seq for one in ear.verdicts()]
        assert len(live) == len(set(live))
        # What a frozen broker held in its socket buffer comes out late; the deadline in each verdict tells a gate so.
        assert len(live) <= 10 + 16 + 16
    finally:
        mosquitto.process.send_signal(signal.SIGCONT)
        ear.close()
