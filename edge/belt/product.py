"""What the scene gives to a product's drawing function, and what it gets back."""

from dataclasses import dataclass

from edge.belt.canvas import Colour
from edge.belt.dice import Dice


@dataclass(frozen=True, slots=True)
class Draft:
    """One part to be drawn.

    Attributes:
        batch: numbers shared by the parts of a batch: material, tint, supplier.
        dice: numbers of this part alone. Every read is from a named fork, so a defect changes nothing but its own piece.
        fault: numbers of the defect.
        defect: name of the logical defect, or an empty string.
    """

    batch: Dice
    dice: Dice
    fault: Dice
    defect: str = ""


@dataclass(frozen=True, slots=True)
class Surface:
    """A rectangle of the part, in its own units, inside which a structural defect may have its middle."""

    u: float
    v: float
    half_u: float
    half_v: float


def tinted(colour: Colour, dice: Dice, spread: float, hue: float = 0.0) -> Colour:
    """A colour within the harmless range: lighter or darker by `spread`, each channel by `hue` on top."""
    level = dice.around(1.0, spread)
    red, green, blue = (min(1.0, channel * level + dice.around(0.0, hue)) for channel in colour)
    return max(0.01, red), max(0.01, green), max(0.01, blue)
