"""The guard: is the model that was just switched to at least as good as the one before it? Judged on parts, after the switch.

What sends a model back, each with its reason:

- the daemon does not take it, or goes back by itself          within `take_s`: "not-taken"
- the station is not armed with it                             for `arm_s`: "not-armed"
- the daemon starts again and again                            three boots: "daemon-died"
- it rejects more parts than promised and than before          a sequential test: "rejects"
- it rejects far fewer than before                             a sequential test: "passes"
- it leaves parts without a judgement, or is late with them    sequential tests: "invalids", "late"

The tests know what was usual on this line before the switch (`Usual`), so a line with 8 % scrap is no alarm. Together their
chance of sending a good model back is at most 4 x alpha. Pure: events and the time go in, a decision comes out.
"""

from collections import deque
from dataclasses import dataclass

from edge.update.machine import Watched
from edge.update.sequential import ShareTest, wilson
from edge.wire.station import State
from edge.wire.verdict import Verdict

NS_PER_S = 1_000_000_000
USUAL_PARTS = 2000
USUAL_MODELS = 3  # the running one, the one on trial, the one before
RARE = 0.005  # share of invalid or late parts every line may have


@dataclass(frozen=True, slots=True)
class GuardSettings:
    """How long a model is on trial.

    Attributes:
        parts: judged parts it must have seen. seconds: time it must have run.
        take_s: the daemon must run it within so long. arm_s: longest time without being armed.
        alpha: chance of a false alarm of each test.
    """

    parts: int = 300
    seconds: float = 300.0
    take_s: float = 60.0
    arm_s: float = 10.0
    alpha: float = 0.01


@dataclass(frozen=True, slots=True)
class Shares:
    """Rejected, invalid and late parts of `parts`; rejected ones are of those that were judged, parts - invalid."""

    rejected: int = 0
    invalid: int = 0
    late: int = 0
    parts: int = 0


class Usual:
    """What verdicts were like lately, by each of the last models.

    It hears the parts a guard watches as well: what was seen of a model on trial is what is known of it once it is committed,
    and a trial that failed must not take away what was known of the model that comes back.
    """

    def __init__(self) -> None:
        self._models: dict[str, deque[tuple[bool, bool, bool]]] = {}  # the one heard last stands last

    def add(self, verdict: Verdict) -> None:
        """Take a verdict."""
        parts = self._models.pop(verdict.ctx.model, None)
        if parts is None:
            parts = deque(maxlen=USUAL_PARTS)
            if len(self._models) == USUAL_MODELS:
                del self._models[next(iter(self._models))]
        self._models[verdict.ctx.model] = parts
        parts.append(kinds(verdict))

    def shares(self, new: str = "") -> "Shares":
        """What was usual with the model heard last; `new`, the one on trial, does not count."""
        parts = next((parts for model, parts in reversed(self._models.items()) if model != new), ())
        counts = [sum(one[kind] for one in parts) for kind in range(3)]
        return Shares(counts[0], counts[1], counts[2], len(parts))


class Guard:
    """Watches one model.

    Args:
        ref: how verdicts name it. settings: how long. usual: what verdicts were like before.
        promise: share of good parts its limit may reject. now_ns: CLOCK_MONOTONIC at the switch.
    """

    def __init__(self, ref: str, settings: GuardSettings, usual: Shares, promise: float, now_ns: int) -> None:
        self._ref = ref
        self._settings = settings
        self._begun_ns = now_ns
        self._taken_ns: int | None = None
        self._armed_ns = now_ns
        self._state: State | None = None
        self._boots: list[str] = []
        self._offline = ""
        self._judged = 0
        n, alpha = usual.parts, settings.alpha
        judged = n - usual.invalid
        fewer = 0.25 * wilson(usual.rejected, judged)[0]
        self._tests: list[tuple[str, str, int, ShareTest]] = [
            ("rejects", "rejected", 0, ShareTest(_bound(usual.rejected, judged, 2.0 * promise), above=True, alpha=alpha)),
            ("invalids", "without a judgement", 1, ShareTest(_bound(usual.invalid, n, RARE), above=True, alpha=alpha)),
            ("late", "late", 2, ShareTest(_bound(usual.late, n, RARE), above=True, alpha=alpha)),
        ]
        if fewer > 1e-4:
            self._tests.append(("passes", "rejected", 0, ShareTest(fewer, above=False, alpha=alpha)))

    def on_state(self, state: State, now_ns: int) -> None:
        """The station says how it is."""
        self._state = state
        self._offline = ""
        if state.boot not in self._boots:
            self._boots.append(state.boot)
        if state.model == self._ref and self._taken_ns is None:
            self._taken_ns = self._armed_ns = now_ns
        if state.armed:
            self._armed_ns = now_ns

    def on_offline(self, why: str) -> None:
        """The station is gone: what it said last, retained by the broker, no longer holds."""
        self._offline = f"offline: {why}"

    def on_verdict(self, verdict: Verdict) -> None:
        """A part was judged."""
        if verdict.ctx.model != self._ref:
            return
        found = kinds(verdict)
        judged = verdict.verdict != "invalid"
        self._judged += judged
        for reason, _, kind, test in self._tests:
            if judged or reason not in {"rejects", "passes"}:  # parts nobody judged must not thin out those that were
                test.add(hit=found[kind])

    def look(self, now_ns: int) -> Watched | None:
        """What is decided by now, None while nothing is."""
        gone = self._gone(now_ns)
        if gone is not None or self._taken_ns is None:
            return gone
        for reason, what, _, test in self._tests:
            if test.alarm:
                return Watched(reason, f"{test.hits} of {test.count} parts {what}, that is not what was promised or usual")
        if self._judged >= self._settings.parts and now_ns - self._taken_ns >= self._settings.seconds * NS_PER_S:
            return Watched("", self.summary())
        return None

    def _gone(self, now_ns: int) -> Watched | None:
        """The station does not run the model, or is not armed with it."""
        settings, state = self._settings, self._state
        if len(self._boots) > 3:
            return Watched("daemon-died", f"the daemon started {len(self._boots) - 1} times anew with it")
        if self._taken_ns is None:
            if now_ns - self._begun_ns <= settings.take_s * NS_PER_S:
                return None
            said = f"{state.model or 'another model'} runs; {'; '.join(state.reasons)}" if state else "the station says nothing"
            return Watched("not-taken", f"not taken within {settings.take_s:g} s: {said}")
        if state is not None and state.model != self._ref:
            return Watched("not-taken", f"the daemon went back to {state.model} by itself")
        if state is not None and state.armed and not self._offline:
            self._armed_ns = now_ns
        elif now_ns - self._armed_ns > settings.arm_s * NS_PER_S:
            why = self._offline or ("; ".join(state.reasons) if state else "no word")
            return Watched("not-armed", f"not armed for {settings.arm_s:g} s: {why}")
        return None

    def summary(self) -> str:
        """What was counted."""
        shares = ", ".join(f"{test.hits} {what}" for reason, what, _, test in self._tests if reason != "passes")
        return f"{self._judged} parts: {shares}"


def kinds(verdict: Verdict) -> tuple[bool, bool, bool]:
    """Whether a part was rejected, left without a judgement, or late."""
    late = verdict.t.slack_ms < 0 or "late" in verdict.reason
    return verdict.verdict == "reject", verdict.verdict == "invalid", late


def _bound(hits: int, count: int, floor: float) -> float:
    """What may still be called usual; half of all parts where nothing is known."""
    return min(0.5, max(floor, 1.5 * wilson(hits, count)[1]))
