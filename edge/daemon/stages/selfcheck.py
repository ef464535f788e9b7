"""The self-check: the golden frames in the bundle must give the scores they must, on this machine, now.

It runs at start, in pauses (where it also keeps caches and clocks warm), and when its token grows old. Each pass gives a token
that every verdict carries; a gate opens for verdicts with a living token only. One wrong golden score and the station disarms:
memory, driver or model are no longer what was certified.
"""

import time
from dataclasses import replace

from edge.bundle.reader import Bundle
from edge.clock import Clock
from edge.engine.base import Engine
from edge.engine.proof import GoldenResult, Percentiles, measure_inference, replay_golden
from edge.wire.station import Check

BUDGET_FRAMES = 20  # a p99 of 20 is their maximum; enough to see a machine that is too slow
BUDGET_ROUNDS = 3  # one disturbance by another process must not condemn a machine that is fast enough


class SelfCheck:
    """Replays golden frames of one bundle on one engine, in the engine's thread.

    Args:
        bundle: with its golden frames.
        engine: what must reproduce them.
        clock: labels the token.
    """

    def __init__(self, bundle: Bundle, engine: Engine, clock: Clock) -> None:
        self._bundle = bundle
        self._engine = engine
        self._clock = clock
        self._next = 0
        self._in_row = 0
        self._last = ""

    def all(self) -> tuple[GoldenResult, ...]:
        """Judge all golden frames again. Raises EngineError, BundleError."""
        self._in_row = 0
        return replay_golden(self._bundle, self._engine)

    def one(self) -> GoldenResult:
        """Judge the next golden frame again, in turn. Raises EngineError, BundleError."""
        golden = self._bundle.golden[self._next % len(self._bundle.golden)]
        self._next += 1
        passed, self._in_row = self._in_row, 0  # a frame that gives no scores at all has not passed either
        result = replay_golden(replace(self._bundle, golden=(golden,)), self._engine)[0]
        self._in_row = passed + 1 if result.holds else 0
        return result

    @property
    def complete(self) -> bool:
        """`one` has passed every golden frame since the last failure or token."""
        return self._in_row >= len(self._bundle.golden)

    def restart(self) -> None:
        """Count from the beginning: the next token needs all golden frames again."""
        self._in_row = 0

    def token(self, valid_ms: float) -> Check:
        """The proof of a pass, from now on."""
        self._in_row = 0
        now_us = self._clock.utc_us()
        name = "chk-" + time.strftime("%Y%m%d-%H%M%S", time.gmtime(now_us // 1_000_000))
        if name == self._last:
            name += "b"  # a second check within one second: a gate must see that it is another
        self._last = name
        return Check(name, now_us, now_us + round(valid_ms * 1000), len(self._bundle.golden))

    def budget(self, budget_ms: float) -> Percentiles:
        """Time the engine on the golden frames, again while it exceeds the budget. Raises EngineError, BundleError."""
        frames = [self._bundle.picture(golden.picture) for golden in self._bundle.golden]
        times = measure_inference(self._engine, frames, BUDGET_FRAMES)
        for _ in range(BUDGET_ROUNDS - 1):
            if times.p99 <= budget_ms:
                break
            times = measure_inference(self._engine, frames, BUDGET_FRAMES)
        return times


def describe(result: GoldenResult, agreement: float) -> str:
    """A failed golden frame in words."""
    return (
        f"golden frame {result.picture}: expected raw {result.expected[0]:.6g}, got {result.got[0]:.6g} "
        f"({result.difference:.2g} of the limit, allowed {agreement:.2g})"
    )
