"""An update in waves: a few boxes first, then more, none any more once too many fail. Pure: the fleet goes in, orders come out.

A box has

- done    when it has committed the version, is online and armed
- failed  when it refused the version, went back, is not armed with it, or did not end before the wave's time was up
- pending in between, whatever it reports: a full disk may be freed, a network come back

The boxes of a wave are drawn by a hash of version and topic, so every version meets other canaries first, and the same command
given twice goes on where it stopped: what is done is done.

Stopping is decided twice. While a wave runs, by a sequential test that may be looked at after every box: at most 1 % of all
rollouts whose true share of failures is the allowed one are stopped by it. At its end, by the lower 95 % bound of the share
(Wilson): one failed canary of one stops, two of ten do not where a tenth is allowed.
"""

import hashlib
import itertools
import math
from dataclasses import dataclass
from typing import Literal

from edge.errors import ConfigError
from edge.fleet.view import Box
from edge.update.reasons import REFUSED
from edge.update.sequential import ShareTest, wilson

Word = Literal["done", "failed", "pending"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is wanted.

    Attributes:
        version: that boxes shall have committed. serial: of the desired states of this rollout.
        shares: of all boxes, reached with each wave, rising, the last 1.0.
        allowed: share of boxes that may fail. wave_s: longest time of a wave. soak_s: pause after each wave.
    """

    version: int
    serial: int
    shares: tuple[float, ...] = (0.01, 0.1, 0.5, 1.0)
    allowed: float = 0.05
    wave_s: float = 7200.0
    soak_s: float = 0.0

    def __post_init__(self) -> None:
        rising = all(before < after for before, after in zip((0.0, *self.shares), self.shares, strict=False))
        if not self.shares or not rising or self.shares[-1] != 1.0:
            raise ConfigError(f"waves: expected rising percentages that end with 100, got {self.shares}")
        if not 0.0 <= self.allowed < 1.0:
            raise ConfigError(f"allowed failures: expected a share from 0 to below 1, got {self.allowed}")


@dataclass(frozen=True, slots=True)
class Orders:
    """What is to be done now.

    Attributes:
        tell: boxes that shall go to the version. pause: boxes that shall stay with what they run.
        ended: nothing follows. ok: it ended well. text: one line when something changed, or empty.
    """

    tell: tuple[str, ...] = ()
    pause: tuple[str, ...] = ()
    ended: bool = False
    ok: bool = False
    text: str = ""


class Rollout:
    """One version on its way through a fleet.

    Args:
        plan: what is wanted. boxes: topics of the stations. canaries: which of them come first; others follow by hash.

    Attributes:
        wave: number of the wave under way, from 1. failed: why, by box.
    """

    def __init__(self, plan: Plan, boxes: list[str], canaries: tuple[str, ...] = ()) -> None:
        unknown = sorted(set(canaries) - set(boxes))
        if unknown:
            raise ConfigError(f"canary {unknown[0]}: no such box online with this product; see onbelt fleet status")
        self.plan = plan
        others = sorted(set(boxes) - set(canaries), key=lambda base: _draw(plan.version, base))
        ordered = [*canaries, *others]
        reach = [math.ceil(share * len(ordered)) for share in plan.shares]
        begins = [0, *(max(one, len(canaries)) for one in reach)]
        self.waves = [ordered[first:last] for first, last in itertools.pairwise(begins) if first < last]
        self.wave = 0
        self.failed: dict[str, str] = {}
        self._done: set[str] = set()
        self._test = ShareTest(max(plan.allowed, 0.001), above=True, alpha=0.01)
        self._begun_s = 0.0
        self._settled_s: float | None = None

    @property
    def done(self) -> int:
        """Boxes that have committed the version."""
        return len(self._done)

    def look(self, fleet: dict[str, Box], now_s: float) -> Orders:
        """Decide what happens next.

        Args:
            fleet: the boxes as they stand.
            now_s: seconds of a monotonic clock.
        """
        if self.wave == 0:
            return self._next(now_s) if self.waves else Orders(ended=True, ok=True, text="no box is to be updated")
        late = now_s - self._begun_s > self.plan.wave_s
        pending = self._settle(fleet, late=late)
        if self._test.alarm or (not pending and self._too_many):
            return self._stop(pending)
        if pending:
            return Orders()
        if self._settled_s is None:
            self._settled_s = now_s
        if now_s - self._settled_s < self.plan.soak_s:
            return Orders()
        self._relapse(fleet)
        return self._stop([]) if self._too_many else self._next(now_s)

    def summary(self) -> str:
        """How far it is."""
        reached = sum(map(len, self.waves[: self.wave]))
        total = sum(map(len, self.waves))
        return (
            f"wave {self.wave} of {len(self.waves)}, {reached} of {total} boxes told: {self.done} done, {len(self.failed)} failed"
        )

    @property
    def _too_many(self) -> bool:
        return wilson(len(self.failed), self.done + len(self.failed))[0] > self.plan.allowed

    def _next(self, now_s: float) -> Orders:
        if self.wave == len(self.waves):
            return Orders(ended=True, ok=True, text=f"{self.summary()}; complete")
        self.wave += 1
        self._begun_s, self._settled_s = now_s, None
        wave = self.waves[self.wave - 1]
        return Orders(tell=tuple(wave), text=f"wave {self.wave} of {len(self.waves)}: {len(wave)} boxes")

    def _stop(self, pending: list[str]) -> Orders:
        share = len(self.failed) / max(1, self.done + len(self.failed))
        text = (
            f"{self.summary()}; stopped: too many failures ({share:.0%} of those that ended, {self.plan.allowed:.0%} are allowed)"
        )
        return Orders(pause=tuple(pending), ended=True, text=text)

    def _settle(self, fleet: dict[str, Box], *, late: bool) -> list[str]:
        """Take up what has ended in this wave; returns what has not."""
        pending = []
        for base in self.waves[self.wave - 1]:
            if base in self._done or base in self.failed:
                continue
            word, why = judge(fleet.get(base), self.plan)
            if word == "pending" and not late:
                pending.append(base)
                continue
            self._test.add(hit=word != "done")
            if word == "done":
                self._done.add(base)
            else:
                self.failed[base] = why
        return pending

    def _relapse(self, fleet: dict[str, Box]) -> None:
        """What was done and is not any more has failed."""
        worse = {base: why for base in self._done for word, why in [judge(fleet.get(base), self.plan)] if word != "done"}
        self._done -= set(worse)
        self.failed |= worse


def judge(box: Box | None, plan: Plan) -> tuple[Word, str]:
    """How a box stands to the version, and why."""
    if box is None or box.reported is None:
        return "pending", "nothing is heard of it"
    reported = box.reported
    said = f"{reported.step}: {reported.reason} {reported.text}".strip() if reported.reason else reported.step
    if box.version == plan.version and reported.step == "idle":
        if box.armed:
            return "done", ""
        return "pending", "it has the version and is not armed" if box.online else "it has the version and is offline"
    if reported.serial != plan.serial:
        return "pending", f"has not obeyed yet; {said}" if box.online else "offline"
    refused = f"{plan.version} "
    known = next((one.removeprefix(refused) for one in reversed(reported.refused) if one.startswith(refused)), "")
    if reported.step == "idle" and known in REFUSED:
        return "failed", f"{known}: {reported.text}" if reported.reason == known else known
    return "pending", said if box.online else "offline"


def _draw(version: int, base: str) -> str:
    return hashlib.sha256(f"{version} {base}".encode()).hexdigest()
