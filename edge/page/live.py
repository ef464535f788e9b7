"""What the page shows, held in bounded memory: the daemon writes, any number of browsers read.

The inference thread calls `add_part`, which costs a few microseconds and waits for nobody: readers copy references under the
lock and encode outside it. Numbers are kept for the last 600 parts. Pixels are kept for 24 of them only, the last 12 parts and
the last 12 rejects, and for fewer where frames are so large that they would exceed the memory set aside.

Every change gets the next revision number; a reader asks for what changed after the revision it knows. So a slow reader
misses intermediate states and costs no memory.
"""

import secrets
import threading
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.clock import Clock, SystemClock
from edge.page.rows import VERDICTS, GateAckView, PartRow, PartView, Snapshot, gate_row, part_row
from edge.page.stats import Histogram

if TYPE_CHECKING:
    from edge.wire.station import Health

__all__ = ["GateAckView", "LiveView", "PartView", "Picture", "Snapshot"]

KEPT_PARTS = 600
KEPT_RECENT_PICTURES = 12
KEPT_REJECT_PICTURES = 12
LISTED_REJECTS = 10  # two fewer than are kept: one may come while a browser fetches the last of them
PICTURE_BYTES = 96 * 2**20  # a 5-megapixel RGB frame has 15 MB: six of those, on a box with 8 GB for everything
STATE_BYTES = 64 * 1024
RATE_WINDOW_S = 10.0


@dataclass(slots=True)
class _Kept:
    """A part in the ring: the row, the revision of its last change and when it came."""

    row: PartRow
    revision: int
    mono_ns: int


@dataclass(frozen=True, slots=True)
class Picture:
    """The pixels of one part and what is drawn over them."""

    pixels: NDArray[np.uint8] | None
    anomaly_map: NDArray[np.float32] | None

    @property
    def nbytes(self) -> int:
        """Memory it holds."""
        return sum(array.nbytes for array in (self.pixels, self.anomaly_map) if array is not None)


@dataclass(slots=True)
class _Totals:
    """Counters since the daemon started."""

    verdicts: Counter[str] = field(default_factory=Counter)
    gate: Counter[str] = field(default_factory=Counter)
    infer: Histogram = field(default_factory=Histogram)
    verdict: Histogram = field(default_factory=Histogram)
    slack: Histogram = field(default_factory=lambda: Histogram(signed=True, worst="low"))
    at_gate: Histogram = field(default_factory=lambda: Histogram(signed=True, worst="low"))

    def histograms(self) -> dict[str, Histogram]:
        """Copies, to be summed up outside the lock: that takes longer than the daemon should wait."""
        return {name: getattr(self, name).copy() for name in ("infer", "verdict", "slack", "at_gate")}


class LiveView:
    """The shared, bounded picture of what the box does.

    Args:
        clock: times of arrival; tests pass their own.
        parts: how many parts' numbers to keep.
        picture_bytes: memory for pixels and maps; the newest picture is always kept.

    Attributes:
        seconds: time since the start by what the station did, for the metrics; replaced whole by the pulse.
        health: what the station said of itself last, for the metrics; None before that.
    """

    def __init__(self, clock: Clock | None = None, *, parts: int = KEPT_PARTS, picture_bytes: int = PICTURE_BYTES) -> None:
        if parts < 1:
            raise ValueError(f"expected to keep at least one part, got {parts}")
        self._clock = clock or SystemClock()
        self._capacity = parts
        self._picture_bytes = picture_bytes
        self._lock = threading.Lock()
        # Sequence numbers begin again with every start; a browser must not show an earlier run's cached picture.
        self.run = secrets.token_hex(4)
        self._revision = 1
        self._start_ns = self._clock.monotonic_ns()
        self._ring: deque[_Kept] = deque()
        self._by_seq: dict[int, _Kept] = {}
        self._rejects: deque[_Kept] = deque(maxlen=LISTED_REJECTS)
        self._recent_pictures: deque[int] = deque()
        self._reject_pictures: deque[int] = deque()
        self._pictures: dict[int, Picture] = {}
        self._held_bytes = 0
        self._totals = _Totals()
        self._state = msgspec.Raw(b"{}")
        self.whatif = b"null"
        self.seconds: dict[str, float] = {}
        self.health: Health | None = None

    def add_part(self, part: PartView) -> None:
        """Take a judged part. Waits for nobody; pixels and map are kept by reference."""
        # Rejects are what a person comes back to look at; an uncertain part is rejected by the gate as well.
        is_reject = part.verdict in {"reject", "uncertain"}
        row = part_row(part)
        now_ns = self._clock.monotonic_ns()
        with self._lock:
            self._revision += 1
            kept = _Kept(row, self._revision, now_ns)
            if len(self._ring) >= self._capacity:
                self._by_seq.pop(self._ring.popleft().row.seq, None)
            self._ring.append(kept)
            self._by_seq[part.seq] = kept
            if is_reject:
                self._rejects.append(kept)
            if part.pixels is not None or part.anomaly_map is not None:
                self._keep_picture(part.seq, Picture(part.pixels, part.anomaly_map), is_reject=is_reject)
            totals = self._totals
            totals.verdicts[part.verdict] += 1
            if row.infer_ms is not None:
                totals.infer.add(row.infer_ms)
            if row.verdict_ms is not None:
                totals.verdict.add(row.verdict_ms)
            if row.slack_ms is not None:
                totals.slack.add(row.slack_ms)

    def add_ack(self, ack: GateAckView) -> None:
        """Take what a gate did. An ack for a part no longer kept is counted only."""
        row = gate_row(ack)
        with self._lock:
            self._revision += 1
            self._totals.gate[f"{row.decision}/{row.why}"] += 1
            if ack.seq is not None and row.slack_ms is not None and row.decision != "hold":
                self._totals.at_gate.add(row.slack_ms)
            kept = self._by_seq.get(ack.seq) if ack.seq is not None else None
            if kept is not None:
                kept.row.gate = row
                kept.revision = self._revision

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Replace what is said of the station: model in force, armed or not and why, and so on.

        Keys the page knows, all optional: station, line, state (OPC 40100-1 name), armed (bool), reasons (list of str), boot,
        camera, broker, gate_deadline_ms, simulated (bool), model {name, version, model, precision, inspected (share), engine,
        check, limit {raw, false_reject, confidence, kind, n}}.

        Raises:
            ValueError: it cannot be written as JSON, or is larger than 64 KiB.
        """
        try:
            encoded = msgspec.json.encode(dict(state))
        except (TypeError, ValueError, RecursionError) as exc:
            raise ValueError(f"the page's state must be plain JSON: {exc}") from exc
        if len(encoded) > STATE_BYTES:
            raise ValueError(f"expected a page state of at most {STATE_BYTES} bytes, got {len(encoded)}")
        with self._lock:
            self._revision += 1
            self._state = msgspec.Raw(encoded)

    def set_whatif(self, curve: Mapping[str, Any]) -> None:
        """Replace what another limit would do, as `edge.limits.curve.false_rejects` gives it."""
        self.whatif = msgspec.json.encode(dict(curve))

    @property
    def revision(self) -> int:
        """Number of the last change; it only grows."""
        return self._revision

    def picture(self, seq: int) -> Picture | None:
        """Pixels and map of a part, or None when they are no longer kept."""
        with self._lock:
            return self._pictures.get(seq)

    def snapshot(self, after: int = 0, *, parts: int = 300) -> Snapshot:
        """What a reader needs who has seen everything up to revision `after`; 0 for a new reader.

        Args:
            after: the last snapshot's revision.
            parts: how many of the last parts a new reader gets; the kept rejects come on top.
        """
        now_ns = self._clock.monotonic_ns()
        with self._lock:
            revision = self._revision
            ring = list(self._ring)
            rejects = list(self._rejects)
            kept_pictures = list(self._pictures)
            totals = self._totals
            counts = {verdict: totals.verdicts[verdict] for verdict in VERDICTS}
            gate = dict(totals.gate)
            hists = totals.histograms()
            state = self._state
        if after:
            changed = [kept.row for kept in ring if kept.revision > after]
        else:
            last = ring[-parts:]
            oldest = last[0].row.seq if last else 0
            changed = [kept.row for kept in rejects if kept.row.seq < oldest] + [kept.row for kept in last]
        return Snapshot(
            run=self.run,
            revision=revision,
            reset=not after,
            parts=changed,
            rejects=[kept.row.seq for kept in rejects],
            kept=kept_pictures,
            counts=counts,
            gate=gate,
            rate=_rate(ring, now_ns),
            latency={name: _summary(hist) for name, hist in hists.items()},
            uptime_s=(now_ns - self._start_ns) / 1e9,
            idle_s=(now_ns - ring[-1].mono_ns) / 1e9 if ring else None,
            state=state,
        )

    def cumulative(self, bounds_ms: list[float]) -> dict[str, tuple[list[int], int, float]]:
        """Per latency: samples at or below each bound, samples in all, and their sum in milliseconds."""
        with self._lock:
            hists = self._totals.histograms()
        return {name: (hist.cumulative(bounds_ms), hist.count, hist.total_ms) for name, hist in hists.items()}

    def _keep_picture(self, seq: int, picture: Picture, *, is_reject: bool) -> None:
        """Under the lock: keep this picture and let go of those beyond the bounds."""
        line, room = (self._reject_pictures, KEPT_REJECT_PICTURES) if is_reject else (self._recent_pictures, KEPT_RECENT_PICTURES)
        self._pictures[seq] = picture
        self._held_bytes += picture.nbytes
        line.append(seq)
        if len(line) > room:
            self._drop(line.popleft())
        while self._held_bytes > self._picture_bytes and len(self._recent_pictures) + len(self._reject_pictures) > 1:
            other = self._recent_pictures if len(self._recent_pictures) > (0 if is_reject else 1) else self._reject_pictures
            self._drop(other.popleft())

    def _drop(self, seq: int) -> None:
        picture = self._pictures.pop(seq, None)
        if picture is not None:
            self._held_bytes -= picture.nbytes


def _summary(hist: Histogram) -> dict[str, float | None]:
    p50, p99, p999 = hist.percentiles(0.5, 0.99, 0.999)
    return {
        "p50": p50,
        "p99": p99,
        "p999": p999,
        "min": hist.min_ms if hist.count else None,
        "max": hist.max_ms if hist.count else None,
        "n": float(hist.count),
    }


def _rate(ring: list[_Kept], now_ns: int) -> float:
    """Parts per second over the last ten seconds, or over the ring where it holds less time than that."""
    since_ns = now_ns - int(RATE_WINDOW_S * 1e9)
    recent = [kept.mono_ns for kept in ring[-KEPT_PARTS:] if kept.mono_ns >= since_ns]
    if len(recent) < 2:
        return 0.0
    # Until the window is full, and on lines faster than the ring is long, the span is that of the parts themselves.
    if len(recent) == len(ring):
        return (len(recent) - 1) / max((now_ns - recent[0]) / 1e9, 1e-9)
    return len(recent) / RATE_WINDOW_S
