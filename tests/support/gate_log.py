"""What happened to a gate, and whether a part may be opened, judged from that alone: the oracle of the property tests.

In its own words and not with the gate's own code, so that a fault of the gate is none of the oracle.
"""

from dataclasses import dataclass
from typing import Any

D_MS, ACT_MS, BEATS_MS = 360, 380, 350


@dataclass
class Logged:
    """One event as the world knows it; `ms` is when it happened."""

    ms: int
    what: str
    at: dict[str, Any]


class Log:
    """Everything that happened, and the questions the invariant asks about it."""

    def __init__(self) -> None:
        self.events: list[Logged] = []

    def add(self, ms: int, what: str, **at: Any) -> None:
        self.events.append(Logged(ms, what, at))

    def until(self, ms: int, index: int, *what: str) -> list[Logged]:
        return [e for e in self.events[: index + 1] if e.ms <= ms and e.what in what]

    def birth(self, index: int) -> Logged | None:
        return next((e for e in reversed(self.events[: index + 1]) if e.what == "birth"), None)

    def token_alive(self, token: str, now: int, index: int) -> bool:
        """Replay the life of one token: given by a birth, ended by revocation, another speaker, or what the last beat said."""
        until, newest, boot, model, last_n = -1, "", "", "", 0
        by_beat: int | None = None
        for e in self.events[: index + 1]:
            if e.what == "birth":
                if (e.at["boot"], e.at["model"]) != (boot, model):
                    until, by_beat = -1, None
                    if e.at["boot"] != boot:
                        newest, last_n = "", 0
                boot, model = e.at["boot"], e.at["model"]
                if not e.at["token"]:
                    until, newest, by_beat = -1, "", None
                    continue
                if e.at["token"] != newest:
                    if newest == token and by_beat is not None:
                        until = min(until, by_beat)
                    by_beat = None
                newest = e.at["token"]
                if newest == token:
                    until = e.ms + e.at["life"]
            elif e.what == "beat" and e.at["boot"] == boot and e.at["n"] > last_n:
                last_n, by_beat = e.at["n"], e.ms + e.at["left"]
        if newest == token and by_beat is not None and now >= by_beat:
            return False
        return now < until

    def alive(self, now: int, index: int) -> bool:
        """A beat of the current boot, newer than all before it and saying armed, not older than 3.5 periods."""
        birth = self.birth(index)
        if birth is None:
            return False
        seen = -1
        last: Logged | None = None
        start = next(i for i in range(index, -1, -1) if self.events[i].what == "boot-change")
        for e in self.events[start : index + 1]:
            if e.what == "beat" and e.at["boot"] == birth.at["boot"] and e.at["n"] > seen:
                seen, last = e.at["n"], e
        states = [e for e in self.events[start : index + 1] if e.what == "state" and e.at["boot"] == birth.at["boot"]]
        if states and not states[-1].at["armed"]:
            return False
        return last is not None and last.at["armed"] and now - last.ms < BEATS_MS

    def stepped(self, index: int) -> bool:
        """A clock step is standing: no birth since has brought a token other than that of the moment of the step."""
        standing, then, newest = False, "", ""
        for e in self.events[: index + 1]:
            if e.what == "token-now":
                newest = e.at["token"]
                if standing and newest not in {"", then}:
                    standing = False
            elif e.what == "step":
                standing, then = True, newest
        return standing

    def accepted(self, v: Logged, i: int, trigger: Logged) -> bool:
        """The verdict was worth something when it came."""
        birth = self.birth(i)
        return (
            birth is not None
            and v.at["mac_ok"]
            and (v.at["boot"], v.at["model"]) == (birth.at["boot"], birth.at["model"])
            and v.at["enc"] == trigger.at["enc"]
            and v.ms < trigger.ms + min(D_MS, v.at["valid"])
            and (v.at["verdict"] != "pass" or self.token_alive(v.at["token"], v.ms, i))
        )

    def objection(self, count: int, now: int, wanted: str = "pass") -> str:
        """Why this part must not be opened now, or sent to re-inspection (`wanted`); empty when it may."""
        end = len(self.events) - 1
        found = [(i, e) for i, e in enumerate(self.events) if e.what == "trigger" and e.at["count"] == count]
        if not found:
            return "no such part"
        first, trigger = found[-1]
        if not trigger.ms + D_MS <= now < trigger.ms + ACT_MS:
            return "not at its deadline"
        verdicts = [(i, e) for i, e in enumerate(self.events) if i > first and e.what == "verdict" and e.at["trig"] == count]
        worth = [(i, e) for i, e in verdicts if self.accepted(e, i, trigger)]
        if any(e.at["verdict"] not in {"pass", wanted} for _, e in worth):
            return "vetoed"
        birth = self.birth(end)
        assert birth is not None
        for i, e in worth:
            if e.at["verdict"] != wanted:
                continue
            same_speaker = not any(x.what == "speaker-change" for x in self.events[i:])
            if same_speaker and self.token_alive(e.at["token"], now, end):
                break
        else:
            return "no valid in-time PASS of the current boot and model"
        if not self.alive(now, end):
            return "no living, armed station"
        return "a clock step stands" if self.stepped(end) else ""
