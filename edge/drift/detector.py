"""An alarm at a stated rate, whenever the change comes: the e-detector of Shiryaev-Roberts form.

With bets L that pay at most 1 on average while nothing has changed, each of them keeps

    R <- (R + 1) L          so that E R_t <= t while nothing has changed,

the sum over every possible start of a martingale that began there. The mean of R over all bets has the same property. The alarm
is raised when it reaches N: since E R <= E(time of the alarm) there, the mean time to a false alarm is at least N parts, and the
probability of one within m parts is at most m / N, whatever the law within the null and whenever somebody looks.

Source: Shin, Ramdas, Rinaldo, "E-detectors: a nonparametric framework for sequential change detection", New England J. of
Statistics in Data Science (2023), definition 2.2, equation 8 (e-SR), proposition 2.4 (mean time) and section 4 (mixtures).
"""

import math

import numpy as np
from numpy.typing import NDArray

from edge.drift.bets import Bets

HISTORY = 65_536
"""Parts remembered to say when the change began: 0.25 MB, and longer than any alarm worth raising has taken."""

START_ODDS = 20.0
"""Starts up to so many times less likely than the likeliest one are held possible: a 95 % likelihood set."""

SURE_ODDS = 1e4
"""And up to so many times for a quarantine, which must leave no affected part out. Of 240 changes of four strengths the window of
20 reached back to all affected parts in 90 %, by 8 % more than needed (median); of 100 in 95 %, by 15 %; of 10,000 in 99 %, by
33 %; of a million in all, by 50 %."""


class Detector:
    """Watches one kind of change.

    Args:
        bets: what is bet. parts_per_alarm: N, mean number of parts between false alarms, at least.
    """

    def __init__(self, bets: Bets, parts_per_alarm: float) -> None:
        self._pays = bets.pays
        self._parts_per_alarm = parts_per_alarm
        self._sums = np.zeros(bets.pays.shape[1])
        self._rows = np.full(HISTORY, 0, np.int32)  # written at once: memory that comes page by page looks like a leak
        self._parts = 0

    def add(self, row: int) -> bool:
        """Take one part.

        Args:
            row: of `Bets.pays`, what the part is paid by.

        Returns:
            True when the alarm is due.
        """
        self._rows[self._parts % HISTORY] = row
        self._parts += 1
        return bool(advance(self._sums, self._pays[row]).mean() >= self._parts_per_alarm)

    @property
    def evidence(self) -> float:
        """log10 of the mean of all bets: 0 is none, log10(parts_per_alarm) the alarm."""
        return math.log10(max(1.0, float(self._sums.mean())))

    def began(self) -> tuple[int, int, int]:
        """How many parts ago the change began, by the bet that has won most.

        Returns:
            (likeliest, earliest that is held possible, earliest that a quarantine has to reach), counted in parts taken, 0 before
            the first.

        Source: the likelihood of a start k is the product of pays since k; maximised by Page's CUSUM (Biometrika 41, 1954).
        """
        held = min(self._parts, HISTORY)
        if not held:
            return 0, 0, 0
        newest_first = self._rows[(self._parts - 1 - np.arange(held)) % HISTORY]
        won = np.cumsum(np.log(self._pays[newest_first, int(np.argmax(self._sums))]))
        best = int(np.argmax(won))
        possible, sure = (int(np.flatnonzero(won >= won[best] - math.log(odds))[-1]) + 1 for odds in (START_ODDS, SURE_ODDS))
        return best + 1, possible, sure

    def reset(self) -> None:
        """Forget everything: after an alarm, a new limit or a remedy."""
        self._sums[:] = 0.0
        self._parts = 0


def advance(sums: NDArray[np.float64], pays: NDArray[np.float64]) -> NDArray[np.float64]:
    """One part: R <- (R + 1) L, in place.

    Args:
        sums: (bets,) or, for many stations at once, (stations, bets).
        pays: what the part is paid, of the same shape.
    """
    sums += 1.0
    sums *= pays
    return sums
