"""Says which parts are suspect when something is found wrong: those judged since the last passed self-check.

It listens to the station: a new token is a proof, a wrong golden score ends the window. The parts come from the publisher, after
the engine: one that was judged before a check may be counted after it, never the other way round, so a window may hold a part
too many and never one too few.

Golden frames do not pass through the camera, so they prove nothing of it: a drift alarm says itself how far back it reaches. A
picture that comes again is caught at once (`edge.daemon.framecheck`) and leaves no part in doubt.

The result stands as the condition `suspect-parts` until the next start: it is for the people who have to find those parts.
"""

import threading

from edge.daemon.phase import Snapshot, Station
from edge.drift.quarantine import EscapeWindow, Quarantine

CONDITION = "suspect-parts"
DOUBT = "golden"
"""The condition that casts doubt on verdicts already given: a golden frame did not get the score it must."""


class EscapeWatch:
    """Counts parts and proofs, and raises `suspect-parts`.

    Args:
        station: listened to, and told.

    Attributes:
        found: all windows since the start, oldest first, at most 32.
    """

    def __init__(self, station: Station) -> None:
        self.found: list[Quarantine] = []
        self._station = station
        self._window = EscapeWindow()
        self._lock = threading.Lock()
        self._token = ""
        self._in_doubt = False

    def judged(self, seq: int, *, passed: bool) -> None:
        """A part was answered."""
        with self._lock:
            self._window.judged(seq, passed=passed)

    def on_change(self, snapshot: Snapshot) -> None:
        """The station has changed."""
        doubts = [one for one in snapshot.conditions if one.code == DOUBT]
        token = snapshot.check.token if snapshot.check else ""
        with self._lock:
            new, self._in_doubt = bool(doubts) and not self._in_doubt, bool(doubts)
            found = self._window.failed(doubts[0].text) if new else None
            if token and token != self._token:
                self._window.proof()
            self._token = token
            if found is None or found.last < found.first:
                return
            self.found = [*self.found, found][-32:]
            text = _describe(self.found)
        # Raising again would change nothing while it stands: the text must name every window.
        self._station.clear(CONDITION)
        self._station.raise_(CONDITION, "warning", text, "hold these parts and inspect them again")


def _describe(windows: list[Quarantine]) -> str:
    newest = windows[-1]
    ranges = ", ".join(f"{one.first}-{one.last}" for one in windows[-6:])
    return (
        f"parts {ranges} are suspect, judged since the last passed self-check: {newest.passed} of the newest range passed, "
        f"{newest.expected:.1f} bad ones expected among them, at most {newest.bound}"
    )
