"""A camera over the simulated belt: every part known, every fault of a camera at hand, no hardware.

    >>> camera = BeltCamera("tray", seed=3)
    >>> camera.start()
    >>> frame = camera.grab(Trigger(count=7, mono_ns=time.monotonic_ns()), timeout_s=1.0)
    >>> camera.truth(7)                                       # what it shows, known without drawing it
    (<Kind.GOOD: 'good'>, '')
    >>> camera.fail(FaultKind.TORN, parts=range(40, 45))      # five frames made of two parts each
    >>> camera.fail(FaultKind.LATE, strength=0.25)            # from now on a quarter of a second late
    >>> camera.heal(FaultKind.LATE)
    >>> camera.counts.faults
    {}

The picture of trigger number n is part n of the belt: a pure function of (product, seed, n), so nobody has to tell another
process what passed. One thread draws the next few parts while nobody asks; `grab` then takes a finished one. Knobs may be turned
from any thread while another one grabs.
"""

import threading
import time
from dataclasses import dataclass
from types import TracebackType

from edge.belt.dice import Dice
from edge.belt.scene import MIN_SIZE_PX, PRODUCTS, Kind, render, truth_of
from edge.camera.base import Frame, SilentError, Trigger
from edge.camera.belt_counts import Counts
from edge.camera.belt_drawing import Drawing, View
from edge.camera.belt_faults import KNOBS, Fault, FaultKind, Pixels, drifted_light, spoiled
from edge.camera.belt_missed import EXPOSURE_NS, NextExposure
from edge.camera.stream import late_bound_ns
from edge.errors import CameraError, ConfigError

MAX_SIZE_PX = 2048
MAX_AHEAD = 64  # 12 MB of waiting pictures at 256 px
MAX_FAULTS = 256  # at one time: a list that only grows is a leak


@dataclass(frozen=True, slots=True)
class _Exposure:
    """A picture as the sensor took it, and when."""

    pixels: Pixels
    sof_ns: int


class BeltCamera:
    """The camera.

    Args:
        product: what runs on the belt, one of `edge.belt.PRODUCTS`.
        seed: which belt.
        size: side of the frames in pixels, 128 to 2048.
        logical_share: share of parts with a logical defect.
        structural_share: share of parts with a structural one.
        ahead: how many coming parts are drawn beforehand, 0 to 64; each takes size x size x 3 bytes.
        first: number of the first trigger expected; its part is drawn at start.
        late_ns: how long after its trigger an exposure may begin; 0: as of a camera triggered by hardware.

    Attributes:
        counts: calls and faults.

    Raises:
        ConfigError: no such product, or a setting out of its range.
    """

    def __init__(
        self,
        product: str,
        seed: int = 1,
        *,
        size: int = 256,
        logical_share: float = 0.05,
        structural_share: float = 0.05,
        ahead: int = 4,
        first: int = 1,
        late_ns: int = 0,
    ) -> None:
        if product not in PRODUCTS:
            raise ConfigError(f"product of the simulated belt: expected one of {', '.join(PRODUCTS)}, got {product!r}")
        if not MIN_SIZE_PX <= size <= MAX_SIZE_PX:
            raise ConfigError(f"frames of the simulated belt: expected {MIN_SIZE_PX} to {MAX_SIZE_PX} px a side, got {size}")
        if not 0 <= ahead <= MAX_AHEAD:
            raise ConfigError(f"simulated belt: expected 0 to {MAX_AHEAD} parts ahead, got {ahead}")
        if min(logical_share, structural_share) < 0.0 or logical_share + structural_share > 1.0:
            raise ConfigError(
                f"simulated belt: expected shares of defects from 0 that sum to at most 1, got {logical_share:g} logical and "
                f"{structural_share:g} structural"
            )
        self.counts = Counts()
        self._product = product
        self._seed = seed
        self._size = size
        self._shares = (logical_share, structural_share)
        self._drawing = Drawing(self.name, self._view, self._draw, self.counts, ahead=ahead, first=first)
        self._knobs = threading.Lock()
        self._faults: tuple[Fault, ...] = ()  # replaced as a whole: read without the lock
        # Touched by the grabbing thread alone.
        self._late_ns = late_bound_ns(late_ns, 0, triggered=True)
        self._next = NextExposure(self.name, self._drawing, self._late_ns, self._is_missed)
        self._before: _Exposure | None = None
        self._last: Frame | None = None
        self._frame_id = 0

    @property
    def name(self) -> str:
        """What runs under it."""
        return f"simulated belt of {self._product}, seed {self._seed}"

    @property
    def waiting(self) -> int:
        """Parts drawn and not yet asked for: at most `ahead`, and the one somebody waits for."""
        return self._drawing.waiting

    def truth(self, count: int) -> tuple[Kind, str]:
        """Kind and defect of part `count`, without drawing it; the defect's name is empty for a good part."""
        logical, structural = self._shares
        return truth_of(self._product, self._seed, count, logical_share=logical, structural_share=structural)

    # --- knobs --------------------------------------------------------------------------------------------------------------

    def fail(self, kind: FaultKind, strength: float | None = None, parts: range | None = None) -> None:
        """Put a fault in force.

        Args:
            kind: what goes wrong.
            strength: how much, in the unit of the kind's knob; None takes its default.
            parts: numbers of the parts it hits; None: all from now on, until `heal`.

        Raises:
            ValueError: a strength outside the knob, an empty range or one with gaps, or 256 faults already in force.
        """
        amount = KNOBS[kind].default if strength is None else strength
        if parts is None:
            # A drift begins where the line is now; anything else holds for every part, also after the line counts anew.
            fault = Fault(kind, amount, self._drawing.next if kind is FaultKind.LIGHT else 0)
        elif not len(parts):
            raise ValueError(f"{kind.value}: expected at least one part, got {parts}")
        elif parts.step != 1:
            raise ValueError(f"{kind.value}: expected a range with a step of 1, got {parts}; give one fault for each part")
        else:
            fault = Fault(kind, amount, parts[0], parts[-1])
        with self._knobs:
            if len(self._faults) >= MAX_FAULTS:
                raise ValueError(f"{kind.value}: expected at most {MAX_FAULTS} faults at one time; heal some first")
            self._faults = (*self._faults, fault)
        self._drawing.look_again()

    def heal(self, kind: FaultKind | None = None) -> None:
        """Take away all faults of one kind, or all."""
        with self._knobs:
            self._faults = tuple(fault for fault in self._faults if kind is not None and fault.kind is not kind)
        self._drawing.look_again()

    # --- the caller's thread ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to draw. Raises CameraError: unplugged."""
        if FaultKind.UNPLUGGED in self._hits(self._drawing.next):
            raise CameraError(f"{self.name}: no device; it is unplugged on purpose: heal(FaultKind.UNPLUGGED) plugs it in")
        self.counts.starts += 1
        self._next.begin()
        self._drawing.start()

    def grab(self, trigger: Trigger, timeout_s: float) -> Frame:
        """Return the frame of part `trigger.count`.

        Args:
            trigger: the part.
            timeout_s: how long to wait at most, in seconds.

        Raises:
            CameraError: not started, interrupted, not drawn in time, or a fault that was asked for.
        """
        self.counts.grabs += 1
        hits = self._hits(trigger.count)
        self.counts.faults.update(kind.value for kind in hits)
        try:
            frame = self._grab(trigger, hits, timeout_s)
        except CameraError:
            self.counts.errors += 1
            raise
        self.counts.frames += 1
        return frame

    def interrupt(self) -> None:
        """Make a blocked `grab` raise at once, and every later one until `start`."""
        self._drawing.interrupt()

    def close(self) -> None:
        """Stop drawing. May be called twice."""
        self._drawing.close()

    def __enter__(self) -> "BeltCamera":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _grab(self, trigger: Trigger, hits: dict[FaultKind, Fault], timeout_s: float) -> Frame:
        count, end_ns = trigger.count, time.monotonic_ns() + round(timeout_s * 1e9)
        self._drawing.check()
        if FaultKind.UNPLUGGED in hits:
            self._drawing.skip(count)
            raise CameraError(f"{self.name}: device gone at part {count}")
        if FaultKind.FROZEN in hits and self._last is not None:
            self._drawing.skip(count)
            return self._last
        if self._next.is_due(trigger):
            self._last = self._next.take(trigger, end_ns, timeout_s, self._frame_id + 1)
            self._frame_id += 1
            return self._last
        if FaultKind.DROPPED in hits:
            self._drawing.skip(count)
            self._frame_id += 1
            self._drawing.sleep_until(end_ns)
            raise SilentError(f"{self.name}: no frame for part {count} within {timeout_s:g} s")
        exposure = _Exposure(self._drawing.take(count, end_ns, timeout_s), trigger.mono_ns)
        before, self._before = self._before, exposure
        self._frame_id += 1
        self._drawing.sleep_until(min(trigger.mono_ns + EXPOSURE_NS, end_ns))  # a part drawn ahead is still exposed first
        if FaultKind.LATE in hits:
            arrival_ns = trigger.mono_ns + round(hits[FaultKind.LATE].strength * 1e9)
            self._drawing.sleep_until(min(arrival_ns, end_ns))
            if arrival_ns > end_ns:
                raise SilentError(f"{self.name}: no frame within {timeout_s:g} s for part {count}; it comes later")
        if FaultKind.STALE in hits and before is not None:
            exposure = before
        dice = Dice("burst", self._seed, count)
        pixels = spoiled(exposure.pixels, None if before is None else before.pixels, hits, dice)
        if FaultKind.REPEATED in hits and self._last is not None:
            pixels = self._last.pixels
        pixels.flags.writeable = False
        complete = FaultKind.INCOMPLETE not in hits
        sof_ns = exposure.sof_ns
        self._last = Frame(pixels, self._frame_id, sof_ns, sof_ns + EXPOSURE_NS, complete, late_ns=self._late_ns)
        return self._last

    def _hits(self, count: int) -> dict[FaultKind, Fault]:
        """Faults in force for this part; of two of a kind the later one."""
        return {fault.kind: fault for fault in self._faults if fault.holds(count)}

    def _is_missed(self, count: int) -> bool:
        return FaultKind.MISSED in self._hits(count)

    def _view(self, count: int) -> View:
        hits = self._hits(count)
        light = drifted_light(hits[FaultKind.LIGHT], count) if FaultKind.LIGHT in hits else 1.0
        shift = hits[FaultKind.SHIFTED].strength if FaultKind.SHIFTED in hits else 0.0
        return View(count, light, shift, FaultKind.ABSENT not in hits)

    def _draw(self, view: View) -> Pixels:
        logical, structural = self._shares
        made: Pixels = render(
            self._product,
            self._seed,
            view.index,
            size=self._size,
            logical_share=logical,
            structural_share=structural,
            light=view.light,
            shift=(view.shift, 0.0),
            present=view.present,
        ).frame
        return made
