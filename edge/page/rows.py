"""What goes into the page's memory and what comes out of it: parts, gate answers, snapshots.

The daemon hands in `PartView` and `GateAckView`; a browser gets `PartRow` and `GateRow` inside a `Snapshot`, plain numbers and
bounded text that encode to JSON without surprises.
"""

from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.regions import Region

VERDICTS = ("pass", "reject", "invalid", "uncertain")
DECISIONS = ("pass", "reject", "hold", "reinspect")
# Why a gate did it, in words for the operator; the codes are those of the gate's ack.
WHYS = {
    "verdict": "by the verdict",
    "missing": "no verdict came",
    "late": "the verdict came too late",
    "stale-boot": "the verdict was of an earlier start",
    "wrong-model": "the verdict was of another model, limit or recipe",
    "no-token": "the self-check has run out",
    "bad-mac": "the verdict's seal is wrong",
    "disarmed": "the station was not armed",
    "other": "a reason this page does not know",
}
HEAT_FROM = 0.5  # of the limit: a map that stays below has nothing to draw
MAX_REGIONS = 16
MAX_TEXT = 120  # characters of any text that reaches the page from outside


@dataclass(frozen=True, slots=True)
class PartView:
    """One judged part as the page shows it.

    Attributes:
        seq: the verdict's sequence number. part_id: the part's own number, or an empty string.
        verdict: "pass", "reject", "invalid" or "uncertain". reasons: the verdict's reason codes.
        cal: score/limit, 1.0 is the limit. p: p-value. st, ae, global_: the branches over their own limits. None: not judged.
        infer_ms: time in the engine. slack_ms: time left to the deadline at publication, negative when late.
        trig_us: wall clock of the trigger in microseconds UTC, a label.
        pixels: (H, W, 3) uint8 RGB or None. Kept by reference: the caller must not write to it afterwards.
        anomaly_map: (n, n) float32 in units of the limit or None. Kept by reference too.
        regions: boxes in fractions of the picture.
        verdict_ms: trigger to publication, milliseconds.
    """

    seq: int
    part_id: str
    verdict: str
    reasons: tuple[str, ...]
    cal: float | None
    p: float | None
    st: float | None
    ae: float | None
    global_: float | None
    infer_ms: float | None
    slack_ms: float | None
    trig_us: int
    pixels: NDArray[np.uint8] | None = None
    anomaly_map: NDArray[np.float32] | None = None
    regions: tuple[Region, ...] = ()
    verdict_ms: float | None = None

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise ValueError(f"expected a verdict of {', '.join(VERDICTS)}, got {self.verdict!r} (seq {self.seq})")


@dataclass(frozen=True, slots=True)
class GateAckView:
    """What a gate says it did with one part.

    Attributes:
        seq: the verdict's sequence number, or None when no verdict reached the gate.
        decision: "pass" (opened), "reject" (kept closed) or "hold". why: "verdict", "missing", "late", "stale-boot",
            "wrong-model", "no-token", "bad-mac" or "disarmed". Anything else is counted as "other": it comes from the network.
        gate: which gate. slack_ms: time left when the verdict came. fired: the actuator moved. confirmed: a sensor saw it.
    """

    seq: int | None
    decision: str
    why: str
    gate: str = ""
    slack_ms: float | None = None
    fired: bool | None = None
    confirmed: bool | None = None


class GateRow(msgspec.Struct, frozen=True):
    """A gate's decision on its way to the browser."""

    decision: str
    why: str
    gate: str
    slack_ms: float | None
    fired: bool | None
    confirmed: bool | None


class PartRow(msgspec.Struct):
    """A part's numbers on their way to the browser; `gate` arrives later than the rest."""

    seq: int
    part: str
    verdict: str
    reasons: tuple[str, ...]
    cal: float | None
    p: float | None
    st: float | None
    ae: float | None
    global_: float | None = msgspec.field(name="global")
    infer_ms: float | None
    slack_ms: float | None
    verdict_ms: float | None
    trig_us: int
    pic: bool
    heat: bool
    regions: tuple[Region, ...]
    gate: GateRow | None = None


class Snapshot(msgspec.Struct, frozen=True):
    """What a reader gets: everything but the parts is whole, `parts` are those changed after the revision asked for."""

    run: str
    revision: int
    reset: bool
    parts: list[PartRow]
    rejects: list[int]
    kept: list[int]
    counts: dict[str, int]
    gate: dict[str, int]
    rate: float
    latency: dict[str, dict[str, float | None]]
    uptime_s: float
    idle_s: float | None
    state: msgspec.Raw


def part_row(part: PartView) -> PartRow:
    """A part's numbers as plain Python values, its text and regions cut to bounds."""
    return PartRow(
        seq=part.seq,
        part=part.part_id[:MAX_TEXT],
        verdict=part.verdict,
        reasons=tuple(reason[:MAX_TEXT] for reason in part.reasons[:MAX_REGIONS]),
        cal=_plain(part.cal),
        p=_plain(part.p),
        st=_plain(part.st),
        ae=_plain(part.ae),
        global_=_plain(part.global_),
        infer_ms=_plain(part.infer_ms),
        slack_ms=_plain(part.slack_ms),
        verdict_ms=_plain(part.verdict_ms),
        trig_us=part.trig_us,
        pic=part.pixels is not None,
        heat=part.anomaly_map is not None and bool((part.anomaly_map >= HEAT_FROM).any()),
        regions=tuple(
            Region(float(r.x), float(r.y), float(r.w), float(r.h), float(r.peak), r.branch) for r in part.regions[:MAX_REGIONS]
        ),
    )


def _plain(value: float | None) -> float | None:
    """A numpy number would stop the encoder, in a thread far from where it came from."""
    return None if value is None else float(value)


def gate_row(ack: GateAckView) -> GateRow:
    """An ack with its codes narrowed to those we know: they come from the network and become counters."""
    decision = ack.decision if ack.decision in DECISIONS else "other"
    why = ack.why if ack.why in WHYS else "other"
    return GateRow(decision, why, ack.gate[:MAX_TEXT], _plain(ack.slack_ms), ack.fired, ack.confirmed)
