"""How fast the belt may run on this machine: measured, then chosen with room to spare, and said.

A part costs what the camera's frame costs plus what the engine costs, one after the other. The belt gets 80 % of the rate that
this would allow on average, at most what was asked for. The deadline allows six times the usual part and 2.5 times the slowest
one seen, in steps of 50 ms between 300 ms and 2 s: a belt with a longer way to its rejector is no belt any more.
"""

import math
import time
from dataclasses import dataclass

import numpy as np

from edge.bundle.reader import Bundle
from edge.camera.base import Camera, Trigger
from edge.engine import open_engine
from edge.engine.proof import WARM_UP_FRAMES, percentiles_of
from edge.judge import Judge
from edge.preprocess import fit

LOAD = 0.8  # share of the possible rate: the rest is for broker, gate, page and the machine's other work
MIN_RATE_HZ = 0.5
USUAL_FACTOR, SLOWEST_FACTOR = 6.0, 2.5
DEADLINE_MS = (300.0, 2000.0)
DEADLINE_STEP_MS = 50.0
COMMISSIONING_S, COMMISSIONING_PARTS = 2.5, (5, 30)  # long enough to see the machine's moods, short enough to watch
LEAD_MS, MARGIN_MS = 20.0, 50.0  # the margin covers the worst wake-up of gate and line seen on a loaded machine
MEASURED_PARTS = 24


@dataclass(frozen=True, slots=True)
class Speed:
    """What one part costs on this machine.

    Attributes:
        engine: its name. part_p50_ms, part_mean_ms, part_max_ms: frame, inference and judgement together.
        infer_p50_ms: the inference alone.
    """

    engine: str
    part_p50_ms: float
    part_mean_ms: float
    part_max_ms: float
    infer_p50_ms: float


@dataclass(frozen=True, slots=True)
class Plan:
    """How the belt will run.

    Attributes:
        rate_hz: parts per second. gate_ms: from camera to rejector. valid_ms: D, when the gate decides.
        commissioning_parts: what the gate measures before it arms. remark: what a person should know about the choice.
    """

    rate_hz: float
    gate_ms: float
    valid_ms: float
    commissioning_parts: int
    remark: str


def measure(bundle: Bundle, camera: Camera, backend: str = "auto") -> Speed:
    """Take parts through camera, engine and judge as the daemon will, one at a time.

    Raises:
        EngineError, CameraError: they do not work here.
    """
    judge = Judge(bundle.manifest)
    part_ns, infer_ns = np.empty(MEASURED_PARTS, np.int64), np.empty(MEASURED_PARTS, np.int64)
    with open_engine(bundle, backend) as engine, camera:
        camera.start()
        for turn in range(-WARM_UP_FRAMES, MEASURED_PARTS):
            begin = time.monotonic_ns()
            frame = camera.grab(Trigger(turn + WARM_UP_FRAMES + 1, begin), 10.0)
            fitted = fit(frame.pixels, engine.size)
            start = time.monotonic_ns()
            scores = engine.infer(fitted)
            done = time.monotonic_ns()
            judge.judge(scores)
            if turn >= 0:
                part_ns[turn], infer_ns[turn] = time.monotonic_ns() - begin, done - start
        parts = percentiles_of(part_ns)
        mean_ms = float(part_ns.mean()) / 1e6
        return Speed(engine.name, parts.p50, mean_ms, parts.p999, percentiles_of(infer_ns).p50)


def choose(speed: Speed, wanted_hz: float) -> Plan:
    """Pick rate and deadline."""
    possible_hz = LOAD * 1000.0 / speed.part_mean_ms
    rate_hz = max(MIN_RATE_HZ, min(wanted_hz, round(possible_hz, 1)))
    need_ms = max(USUAL_FACTOR * speed.part_p50_ms, SLOWEST_FACTOR * speed.part_max_ms)
    low_ms, high_ms = DEADLINE_MS
    valid_ms = min(high_ms, max(low_ms, DEADLINE_STEP_MS * math.ceil(need_ms / DEADLINE_STEP_MS)))
    fewest, most = COMMISSIONING_PARTS
    parts = min(most, max(fewest, round(COMMISSIONING_S * rate_hz)))
    cost = f"a part costs {speed.part_mean_ms:.0f} ms here on average ({speed.infer_p50_ms:.0f} ms of it inference)"
    slow = f"too slow for {wanted_hz:g} parts/s, so " if rate_hz < wanted_hz else ""
    remark = f"{cost}: {slow}the belt runs at {rate_hz:g} parts/s, and a verdict has {valid_ms:.0f} ms"
    return Plan(rate_hz, valid_ms + LEAD_MS + MARGIN_MS, valid_ms, parts, remark)
