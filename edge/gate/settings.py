"""What the rules are told at start: names, times and limits. Plain numbers with units; the file form is `edge.gate.config`."""

from dataclasses import dataclass
from typing import Literal

from edge.gate.encoder import EncoderSettings

NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class GateSettings:
    """Times run from the part's trigger at the light barrier before the camera.

    Attributes:
        station, gate: whose verdicts count, and which of its gates this is.
        gate_ms: when the part reaches the rejector; with an encoder, the longest it may take: after that it is rejected.
        lead_ms: what the actuator needs from signal to effect.
        margin_ms: reserve for the gate's own loop. D = gate_ms - lead_ms - margin_ms is when a part is decided.
        on_missing: what becomes of a part without a valid verdict. "hold" also asks for a line stop at once.
        on_uncertain: what becomes of a part whose only verdicts are `uncertain`.
        missing_stop: so many parts in a row without a valid verdict request a line stop.
        outage_stop_s: so does an outage of this length while parts come.
        stop_hold_s: the request stands until the station has been fit for this long.
        stop_retry_s: it is lifted after this long all the same, and comes back with the first part if nothing has changed: a
            station may need a part before its camera to find itself well. 0 leaves that to the operator.
        missed_beats: so many beats missing disarm.
        commissioning_parts: trigger-to-gate times measured before arming. Their p99.9 is the maximum below 1000 parts.
        clock_uncertainty_ms: of the trigger stamps between box and gate where a verdict states none (free-running clock).
        clock_step_ms: a wall-clock jump beyond this disarms until the next self-check.
        model, limit, recipe: what the gate is armed for; empty means what the station's birth announces.
        sealed: True where a MAC key is configured: then a verdict without a good MAC is refused.
        max_slots: parts between camera and rejector; one more than that gets no slot and is rejected.
        min_pitch_ms: a part that came sooner than this after one that stays out, stays out as well; 0 where the output names its
            part, so that none can be taken for another. By counts the same way at top speed.
        stamp_apart_ms: where station and gate read one clock, a PASS whose trigger is further than this from the part's is
            refused; 0 compares none. What a camera's own start of exposure may lie behind the light barrier.
        encoder: where the register goes by the belt's counts; None for time.
    """

    station: str
    gate: str
    gate_ms: float
    lead_ms: float = 20.0
    margin_ms: float = 20.0
    on_missing: Literal["reject", "hold"] = "reject"
    on_uncertain: Literal["reject", "reinspect"] = "reject"
    missing_stop: int = 3
    outage_stop_s: float = 2.0
    stop_hold_s: float = 1.0
    stop_retry_s: float = 5.0
    missed_beats: int = 3
    commissioning_parts: int = 100
    clock_uncertainty_ms: float = 0.1
    clock_step_ms: float = 50.0
    model: str = ""
    limit: str = ""
    recipe: str = ""
    sealed: bool = False
    max_slots: int = 256
    min_pitch_ms: float = 0.0
    stamp_apart_ms: float = 20.0
    encoder: EncoderSettings | None = None

    def __post_init__(self) -> None:
        if self.encoder is not None and self.encoder.gate_ms > self.gate_ms:
            raise ValueError(
                f"expected gate_ms, the longest way to the rejector, of at least {self.encoder.gate_ms:.0f} ms (gate_counts at "
                f"max_counts_per_s), got {self.gate_ms}"
            )
        if self.gate_ms <= self.lead_ms + self.margin_ms:
            raise ValueError(
                f"expected gate_ms > lead_ms + margin_ms, got {self.gate_ms} <= {self.lead_ms} + {self.margin_ms}: "
                "no time is left for a verdict"
            )
        if 0 < self.min_pitch_ms < self.lead_ms + self.margin_ms:
            raise ValueError(
                f"expected min_pitch_ms of at least lead_ms + margin_ms, {self.lead_ms + self.margin_ms:g}, got "
                f"{self.min_pitch_ms:g}: the output opens so long before its part, and the part before it must have gone by then"
            )

        if 0 < self.min_pitch_ms <= self.stamp_apart_ms:
            raise ValueError(
                f"expected stamp_apart_ms below min_pitch_ms, {self.min_pitch_ms:g}, got {self.stamp_apart_ms:g}: the verdict of "
                "the part beside it would fit as well"
            )

    @property
    def min_pitch_counts(self) -> int:
        """The shortest pitch on a line that goes by counts, else 0: a part that trembled back stands that much nearer."""
        encoder = self.encoder
        if encoder is None or not self.min_pitch_ms:
            return 0
        return max(encoder.window_counts, encoder.counts_in(self.min_pitch_ms)) + encoder.back_counts

    @property
    def pitch_ms(self) -> float:
        """The shortest pitch, by counts at top speed; 0 for none."""
        return self.min_pitch_ms if self.encoder is None else self.min_pitch_counts / self.encoder.max_counts_per_s * 1000

    @property
    def deadline_ms(self) -> float:
        """D, the least time a verdict has: a part is decided so long after its trigger; with an encoder, at top speed."""
        return self.gate_ms - self.lead_ms - self.margin_ms if self.encoder is None else self.encoder.deadline_ms

    @property
    def decide_by_ns(self) -> int:
        """A part is decided at the latest so long after its trigger, ns; without an encoder this is D."""
        return round((self.gate_ms - self.lead_ms - self.margin_ms) * NS_PER_MS)

    @property
    def actuate_until_ns(self) -> int:
        """After this the output would no longer act in time: ns after the trigger."""
        return round((self.gate_ms - self.lead_ms) * NS_PER_MS)
