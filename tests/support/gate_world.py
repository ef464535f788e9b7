"""A gate, a clock in ms and a station that beats, for tests of its rules; D = 360 ms."""

from typing import Any, TypeVar

from edge.gate.actions import (
    Action,
    Open,
    SendAck,
)
from edge.gate.rules import Gate
from edge.gate.settings import GateSettings
from tests.support.gate_messages import (
    BOOT,
    GATE,
    STATION,
    UTC_US,
    make_beat,
    make_birth,
    make_trigger,
    make_verdict,
)

A = TypeVar("A")
MS = 1_000_000
D_MS = 360.0


def settings(**changes: Any) -> GateSettings:
    usual: dict[str, Any] = {"gate_ms": 400.0, "lead_ms": 20.0, "margin_ms": 20.0, "commissioning_parts": 2}
    return GateSettings(STATION, GATE, **(usual | changes))


class World:
    """A gate, a clock in ms, and a station that beats whenever time passes."""

    def __init__(self, **changes: Any) -> None:
        self.gate = Gate(settings(**changes))
        self.ms = 0.0
        self.actions: list[Action] = []
        self.beats = 0
        self.beating = True
        self.utc_offset_ms = 0.0
        self.count = 0

    @property
    def ns(self) -> int:
        return round(self.ms * MS) + 10**12

    def keep(self, actions: list[Action]) -> list[Action]:
        self.actions += actions
        return actions

    def tick(self) -> list[Action]:
        return self.keep(self.gate.tick(self.ns, UTC_US + round((self.ms + self.utc_offset_ms) * 1000)))

    def beat(self, boot: str = BOOT, **changes: Any) -> list[Action]:
        self.beats += 1
        return self.keep(self.gate.beat(make_beat(self.beats, boot, **changes), self.ns))

    def birth(self, boot: str = BOOT, **changes: Any) -> list[Action]:
        return self.keep(self.gate.birth(make_birth(boot, **changes), self.ns))

    def to(self, ms: float) -> list[Action]:
        """Let time pass, with a tick at every tenth ms and a beat at every hundredth."""
        before = len(self.actions)
        while self.ms < ms:
            self.ms = min(ms, self.ms // 10.0 * 10.0 + 10.0)
            if self.beating and round(self.ms) % 100 == 0:
                self.beat()
            self.tick()
        return self.actions[before:]

    def part(self, **changes: Any) -> int:
        self.count += 1
        self.keep(self.gate.trigger(make_trigger(self.count, self.ns, **changes), self.ns))
        return self.count

    def verdict(self, trig: int, verdict: str = "pass", *, mac_ok: bool = False, **changes: Any) -> list[Action]:
        return self.keep(self.gate.verdict(make_verdict(trig, verdict, **changes), self.ns, mac_ok=mac_ok))

    def judged(self, verdict: str = "pass", after_ms: float = 60.0, **changes: Any) -> list[Action]:
        """One part from trigger to decision."""
        start = self.ms
        count = self.part()
        self.to(start + after_ms)
        self.verdict(count, verdict, **changes)
        return self.to(start + D_MS)

    def arm(self) -> "World":
        self.birth()
        self.to(100)
        self.judged()
        self.judged()
        self.to(self.ms + 10)
        assert self.gate.armed
        self.actions.clear()
        return self


def only(actions: list[Action], kind: type[A]) -> A:
    found = [action for action in actions if isinstance(action, kind)]
    assert len(found) == 1, actions
    return found[0]


def opened(actions: list[Action]) -> list[int]:
    return [action.count for action in actions if isinstance(action, Open)]


def acks(actions: list[Action]) -> list[tuple[str, str]]:
    return [(action.ack.decision, action.ack.why) for action in actions if isinstance(action, SendAck)]
