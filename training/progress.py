"""What training tells: a line on standard error every few seconds; of the steps the same in `log.jsonl` for programs."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, TextIO, TypeVar

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

T = TypeVar("T")

SMOOTHING = 0.05
"""Weight of a new loss in the running mean that is shown: about the last twenty steps."""


class Progress:
    """Running means of losses, rate and time left.

    Args:
        log: The `log.jsonl` to append to.
        first_step: Step the loop starts at.
        last_step: Step it ends at.
        every_s: Seconds between two lines; 0 writes one a step.
        stream: Where the lines for people go.
    """

    def __init__(self, log: Path, first_step: int, last_step: int, *, every_s: float = 5.0, stream: TextIO | None = None) -> None:
        self._log = log
        self._first = first_step
        self._last = last_step
        self._every_s = every_s
        self._stream = stream or sys.stderr
        self._means: dict[str, float] = {}
        self._phase = ""
        self._start = self._shown = self._phase_start = time.monotonic()
        self._phase_first = first_step

    def update(self, step: int, phase: str, phase_end: int, losses: dict[str, float]) -> None:
        """Takes in one step's losses and shows a line when it is time.

        Args:
            step: Steps done in all.
            phase: Name of the phase.
            phase_end: Step at which this phase ends: the time left is told for the phase, whose steps cost alike.
            losses: Losses and other figures of the step.
        """
        now = time.monotonic()
        if phase != self._phase:
            # From the end of its first step: what a phase prepares before that says nothing of its rate.
            self._phase, self._means, self._phase_start, self._phase_first = phase, {}, now, step
        for name, value in losses.items():
            old = self._means.get(name)
            self._means[name] = value if old is None else old + SMOOTHING * (value - old)
        if now - self._shown < self._every_s and step not in {phase_end, self._last}:
            return
        self._shown = now
        rate = 0.0 if step == self._phase_first else (step - self._phase_first) / max(1e-9, now - self._phase_start)
        pace = f"{rate:.2f} steps/s, {(phase_end - step) / rate:.0f} s left in this phase" if rate else "first step of this phase"
        line = {"step": step, "phase": phase, "steps_per_s": round(rate, 3), "elapsed_s": round(now - self._start, 1)}
        line.update({name: round(value, 6) for name, value in self._means.items()})
        with self._log.open("ab") as log:
            log.write(msgspec.json.encode(line) + b"\n")
        shown = " ".join(f"{name} {value:.4f}" for name, value in self._means.items())
        print(
            f"{phase} step {step}/{self._last} {shown} | {pace}",
            file=self._stream, flush=True,
        )  # fmt: skip


def told(items: Sequence[T], what: str, *, every_s: float = 5.0, stream: TextIO | None = None) -> Iterator[T]:
    """Hands out the items of work that has no steps, and tells how far it is where it takes longer than `every_s`.

    Args:
        items: Pieces of work that cost alike.
        what: The work, such as "vectors of 600 pictures by the teacher".
        every_s: Seconds between two lines.
        stream: Where the lines go; None for standard error.
    """
    start = shown = time.monotonic()
    for done, item in enumerate(items):
        now = time.monotonic()
        if done and now - shown >= every_s:
            shown = now
            left_s = (now - start) / done * (len(items) - done)
            print(f"{what}: {done / len(items):.0%}, {left_s:.0f} s left", file=stream or sys.stderr, flush=True)
        yield item
