"""What a decision means: for the outputs, and, rule 8, for the station, which is told of each part."""

from typing import Literal

from edge.gate.actions import Close, Open, Reinspect, Why
from edge.gate.register import Slot
from edge.gate.settings import NS_PER_MS, GateSettings
from edge.wire.station import ACK_SCHEMA, Ack

Decision = Literal["pass", "reject", "hold", "reinspect"]
COUNTED = {"pass": "opened", "reinspect": "reinspected"}  # all others are "closed"


def output_for(decision: Decision, count: int) -> Open | Close | Reinspect:
    """Which output a decision drives; only "pass" opens."""
    if decision == "pass":
        return Open(count)
    return Reinspect(count) if decision == "reinspect" else Close(count, hold=decision == "hold")


def make_ack(settings: GateSettings, slot: Slot, decision: Decision, why: Why, at_us: int) -> Ack:
    """The ack of a decided part; `at_us` is the wall clock, a label.

    Its slack is counted to D as it would be at the belt's top speed: the station closes its loop on it, and a belt that stood
    still must not make a slow verdict look quick.
    """
    answered = bool(slot.permit or slot.veto)
    slack_ms = settings.deadline_ms - (slot.arrived_ns - slot.trigger_ns) / NS_PER_MS
    return Ack(
        sch=ACK_SCHEMA,
        station=settings.station,
        gate=settings.gate,
        id=slot.veto or slot.permit or slot.refused_id,
        trig=slot.count,
        part=slot.part_id,
        decision=decision,
        why=why,
        slack_ms=round(slack_ms, 3) if answered else None,
        fired=decision in {"pass", "reinspect"},
        confirmed=None,
        at_us=at_us,
    )
