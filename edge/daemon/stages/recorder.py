"""Evidence beside the verdict path: which frames are kept, and the thread that writes them.

The publisher offers a frame only while there is room and goes on at once; compressing and writing happen here, with the
interpreter's lock released. What cannot be kept is counted and said, and never costs a verdict.
"""

import logging
import threading
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge.daemon.stages.parts import Outcome
from edge.daemon.state.phase import Station
from edge.errors import EvidenceError
from edge.journal.evidence import EvidenceStore, pixels_hash, url
from edge.queues import Backlog
from edge.wire.verdict import Evidence, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)

WAITING = 4  # frames of 5 megapixels are 60 MB; a disk that falls further behind loses evidence, not memory
RELEASE_BYTES = 32 * 2**20  # given back at once when the journal cannot be written: some thousand verdicts


class _Kept(NamedTuple):
    verdict: Verdict
    digest: str
    pixels: NDArray[np.uint8]
    anomaly_map: NDArray[np.float32] | None


class Recorder:
    """Keeps evidence of chosen parts.

    Args:
        store: used from the thread of `run` only.
        station: told of evidence that is lost.
        pass_every: each so many passed parts one is kept; 0 keeps none. What is not a pass is always kept.

    Attributes:
        kept, lost: frames written, and frames that should have been.
        on_kept: called with the verdict of each part whose frame is on the disk, and whether its map is, or None.
    """

    def __init__(self, store: EvidenceStore, station: Station, pass_every: int) -> None:
        self.kept = 0
        self.lost = 0
        self.on_kept: Callable[[Verdict, bool], None] | None = None
        self._store = store
        self._station = station
        self._pass_every = pass_every
        self._passes = 0
        self._queue = Backlog[_Kept](WAITING)
        self._release = threading.Event()

    def reference(self, verdict: Verdict, outcome: Outcome) -> Evidence | None:
        """What the verdict says about its evidence; None where none will be kept. Costs one hash of the frame.

        `keep` must follow from the same thread once the verdict is out, or the reference leads nowhere.
        """
        if outcome.pixels is None or not self._chosen(verdict):
            return None
        if len(self._queue) >= WAITING:
            self.lost += 1
            return None
        digest = pixels_hash(outcome.pixels)
        return Evidence(digest, url(digest))

    def keep(self, verdict: Verdict, outcome: Outcome) -> None:
        """Hand the frame over; the verdict has been published."""
        if verdict.ev is None or outcome.pixels is None:
            return
        anomaly_map = None if outcome.judgement is None else outcome.judgement.anomaly_map
        # A batch of verdicts is referenced before its first frame is handed over, so the room may be gone by now.
        if not self._queue.put(_Kept(verdict, verdict.ev.sha256, outcome.pixels, anomaly_map), timeout_s=0.0):
            self.lost += 1

    def release(self) -> None:
        """The journal lacks room: evidence gives some back."""
        self._release.set()

    def run(self, finish: threading.Event) -> None:
        """Write until told to finish; what waits then is dropped."""
        while not finish.is_set():
            for kept in self._queue.take(1, 0.2):
                written = self.step(kept.digest, kept.pixels, kept.anomaly_map)
                if written and self.on_kept is not None:
                    self.on_kept(kept.verdict, kept.anomaly_map is not None)
            if self._release.is_set():
                self._release.clear()
                logger.warning("the journal needs room: %d bytes of evidence removed", self._store.release(RELEASE_BYTES))

    def step(self, digest: str, pixels: NDArray[np.uint8], anomaly_map: NDArray[np.float32] | None) -> bool:
        """Write one part's evidence; False when it is lost."""
        try:
            written = self._store.put(digest, pixels, anomaly_map)
        except EvidenceError as exc:
            self._lose(str(exc))
            return False
        if not written:
            self._lose(f"{self._store.folder}: the disk is full and no older evidence is left to remove")
            return False
        self.kept += 1
        self._station.clear("evidence")
        return True

    def _chosen(self, verdict: Verdict) -> bool:
        if verdict.verdict != "pass":
            return True
        self._passes += 1
        return self._pass_every > 0 and self._passes % self._pass_every == 1 % self._pass_every

    def _lose(self, text: str) -> None:
        self.lost += 1
        self._station.raise_(
            "evidence", "warning", f"evidence: {text}"[:200], "free space on its disk; verdicts are not affected"
        )
