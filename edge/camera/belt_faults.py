"""The faults a simulated camera can be given: what each does, how strong it is, and for which parts it holds.

Three families, in the order in which they take hold on a real line:

    scene      the part or the lamp is not as it should be   absent, shifted, light
    exposure   the picture is taken badly                    black, overexposed, defocused, noisy
    transport  the picture is lost, damaged, old or late     frozen, repeated, stale, torn, incomplete, late, dropped, unplugged,
                                                             missed (no exposure: what comes next is another part's)
"""

from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from edge.belt.dice import Dice
from edge.belt.texture import sensor_noise

Pixels = NDArray[np.uint8]


class FaultKind(str, Enum):
    """What is wrong. The value is the word used in messages and counters."""

    ABSENT = "absent"
    SHIFTED = "shifted"
    LIGHT = "light"
    BLACK = "black"
    OVEREXPOSED = "overexposed"
    DEFOCUSED = "defocused"
    NOISY = "noisy"
    FROZEN = "frozen"
    REPEATED = "repeated"
    STALE = "stale"
    TORN = "torn"
    INCOMPLETE = "incomplete"
    LATE = "late"
    DROPPED = "dropped"
    UNPLUGGED = "unplugged"
    MISSED = "missed"


@dataclass(frozen=True, slots=True)
class Knob:
    """What a fault's strength means.

    Attributes:
        unit: and meaning, in words. default: strength where none is given. low, high: what may be given.
    """

    unit: str
    default: float
    low: float
    high: float


_SWITCH = Knob("on or off", 1.0, 1.0, 1.0)
KNOBS: dict[FaultKind, Knob] = {
    FaultKind.ABSENT: _SWITCH,
    FaultKind.SHIFTED: Knob("offset to the right, share of the frame's width", 0.25, -1.0, 1.0),
    FaultKind.LIGHT: Knob("brightness lost with every part, share of nominal", 0.02, -0.5, 0.5),
    FaultKind.BLACK: _SWITCH,
    FaultKind.OVEREXPOSED: Knob("times the nominal exposure", 4.0, 1.0, 64.0),
    FaultKind.DEFOCUSED: Knob("blur radius, pixels of a 256 px frame", 5.0, 0.5, 32.0),
    FaultKind.NOISY: Knob("deviation of the noise, 8-bit counts", 30.0, 1.0, 128.0),
    FaultKind.FROZEN: _SWITCH,
    FaultKind.REPEATED: _SWITCH,
    FaultKind.STALE: _SWITCH,
    FaultKind.TORN: Knob("share of the rows from the top that are new", 0.5, 0.02, 0.98),
    FaultKind.INCOMPLETE: Knob("share of the rows from the top that arrived", 0.6, 0.0, 0.98),
    FaultKind.LATE: Knob("seconds from exposure to delivery", 0.5, 0.0, 60.0),
    FaultKind.DROPPED: _SWITCH,
    FaultKind.UNPLUGGED: _SWITCH,
    FaultKind.MISSED: _SWITCH,
}
LOWEST_LIGHT, HIGHEST_LIGHT = 0.02, 8.0  # a lamp neither goes negative nor burns the building down


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    Attributes:
        kind: what is wrong. strength: in the unit of its knob.
        first: first part it holds for. last: last one, or None for all that follow.
    """

    kind: FaultKind
    strength: float
    first: int = 0
    last: int | None = None

    def __post_init__(self) -> None:
        knob = KNOBS[self.kind]
        if not knob.low <= self.strength <= knob.high:
            raise ValueError(
                f"{self.kind.value}: expected a strength from {knob.low:g} to {knob.high:g} ({knob.unit}), got {self.strength:g}"
            )
        if self.last is not None and self.last < self.first:
            raise ValueError(
                f"{self.kind.value}: expected parts from a first to a later last one, got {self.first} to {self.last}"
            )

    def holds(self, part: int) -> bool:
        """Whether this part is hit."""
        return part >= self.first and (self.last is None or part <= self.last)


def drifted_light(fault: Fault, part: int) -> float:
    """The lamp's brightness at this part, 1 nominal: it changes by `strength` with every part from the first one on."""
    return min(HIGHEST_LIGHT, max(LOWEST_LIGHT, 1.0 - fault.strength * (part - fault.first + 1)))


def black(pixels: Pixels) -> Pixels:
    """A closed shutter: a hundredth of the light, which leaves the sensor's own dark noise in place of a picture."""
    return np.asarray(pixels // 100, dtype=np.uint8)


def overexposed(pixels: Pixels, times: float) -> Pixels:
    """Too long an exposure: everything bright clips at 255."""
    return np.asarray(np.clip(pixels.astype(np.float32) * np.float32(times), 0, 255), dtype=np.uint8)


def defocused(pixels: Pixels, radius: float) -> Pixels:
    """A lens out of focus. radius: in pixels of a 256 px frame."""
    blurred = Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(radius * pixels.shape[0] / 256.0))
    return np.asarray(blurred, dtype=np.uint8)


def noisy(pixels: Pixels, deviation: float, dice: Dice) -> Pixels:
    """A burst of noise, as a bad supply or a hot sensor gives it; the same for the same dice."""
    height, width = pixels.shape[:2]
    bank = sensor_noise()
    rows = (np.arange(height) + dice.integer(bank.shape[1])) % bank.shape[1]
    columns = (np.arange(width) + dice.integer(bank.shape[2])) % bank.shape[2]
    burst = bank[:, rows[:, None], columns[None, :]].transpose(1, 2, 0) * np.float32(deviation)
    return np.asarray(np.clip(pixels.astype(np.float32) + burst, 0, 255), dtype=np.uint8)


def torn(pixels: Pixels, before: Pixels, share: float) -> Pixels:
    """Two pictures in one: rows from the top are this part's, the rest is left over from the picture before."""
    mixed: Pixels = pixels.copy()
    row = _row(pixels, share)
    mixed[row:] = before[row:]
    return mixed


def incomplete(pixels: Pixels, share: float) -> Pixels:
    """Rows below this share never arrived; the buffer holds zeros there."""
    cut: Pixels = pixels.copy()
    cut[_row(pixels, share) :] = 0
    return cut


def _row(pixels: Pixels, share: float) -> int:
    height: int = pixels.shape[0]
    return min(height - 1, round(share * height))


def spoiled(pixels: Pixels, before: Pixels | None, hits: dict[FaultKind, Fault], dice: Dice) -> Pixels:
    """What exposure and transport make of a picture, in this order; `before` is the part before it, where there was one."""
    if FaultKind.BLACK in hits:
        pixels = black(pixels)
    if FaultKind.OVEREXPOSED in hits:
        pixels = overexposed(pixels, hits[FaultKind.OVEREXPOSED].strength)
    if FaultKind.DEFOCUSED in hits:
        pixels = defocused(pixels, hits[FaultKind.DEFOCUSED].strength)
    if FaultKind.NOISY in hits:
        pixels = noisy(pixels, hits[FaultKind.NOISY].strength, dice)
    if FaultKind.TORN in hits and before is not None:
        pixels = torn(pixels, before, hits[FaultKind.TORN].strength)
    if FaultKind.INCOMPLETE in hits:
        pixels = incomplete(pixels, hits[FaultKind.INCOMPLETE].strength)
    return pixels
