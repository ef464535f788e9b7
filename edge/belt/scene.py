"""One part on the simulated belt: a pure function of (product, seed, index).

    >>> part = render("tray", seed=7, index=3, kind="logical")
    >>> part.frame.shape, part.truth.kind.value, bool(part.truth.mask.any())
    ((256, 256, 3), 'logical', True)

What varies harmlessly (light, place, tint, belt, dust, print) is drawn from streams of its own, so a part with a defect and the
good part of the same index differ in the defect alone. Materials, belt and tints change from batch to batch; the lamp drifts
slowly over the index.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from edge.belt import harness, marks, tray, vials
from edge.belt.canvas import Canvas, Pose
from edge.belt.defects import DEFECTS, draw_defect
from edge.belt.dice import Dice
from edge.belt.optics import DRIFT_PERIOD, Optics, expose, lay_belt, reflections
from edge.belt.product import Draft, Surface

MIN_SIZE_PX = 128  # a crack is 3 units wide: below this it would vanish between pixels
BATCH = 5  # parts that share material and belt: short, so that a data set sees many batches


class Kind(str, Enum):
    """What a part is."""

    GOOD = "good"
    LOGICAL = "logical"
    STRUCTURAL = "structural"


@dataclass(frozen=True, slots=True)
class Product:
    """A kind of part the belt can carry.

    Attributes:
        name: for the command line. rule: what every good part obeys, in words.
        logical: names of the logical defects, and the share of its mask that must be found for full marks (LOCO's saturation).
        area: of the part in square units, for the size of structural defects.
        draw: draws it and returns where structural defects may lie.
        version: raised whenever any pixel of any of its parts changes.
    """

    name: str
    rule: str
    logical: dict[str, float]
    area: float
    draw: Callable[[Canvas, Pose, Draft], tuple[Surface, ...]]
    version: int = 1


PRODUCTS: dict[str, Product] = {
    product.name: product
    for product in (
        Product(
            "harness",
            "wires from left to right: red, yellow, blue, white, empty slot, green; one latch, above the second slot",
            {
                "wires_swapped": 0.5,
                "wire_wrong_colour": 1.0,
                "wire_missing": 1.0,
                "wire_extra": 1.0,
                "latch_missing": 1.0,
                "latch_misplaced": 0.5,
            },
            24_000.0,
            harness.draw,
            version=3,
        ),
        Product(
            "tray",
            "cavities: nut cap block / cap nut empty / block cap nut; the right compartment may hold any spares",
            {"piece_missing": 1.0, "piece_extra": 1.0, "piece_wrong_place": 0.5, "pieces_swapped": 0.5, "piece_wrong_type": 1.0},
            37_000.0,
            tray.draw,
            version=2,
        ),
        Product(
            "vials",
            "three vials, cap up, labels in the middle; all caps and label bands have one colour: red, green or blue",
            {"cap_mismatch": 1.0, "label_mismatch": 1.0, "label_misplaced": 0.5, "vial_missing": 1.0, "vial_reversed": 0.5},
            41_000.0,
            vials.draw,
            version=2,
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Truth:
    """What is known of a part.

    Attributes:
        kind: good, logical or structural. defect: its name, empty when good.
        mask: (size, size) uint8, 255 where defective, all 0 when good.
        part_id: "<product>-<seed>-<index>". rule: what every good part of this product obeys.
    """

    kind: Kind
    defect: str
    mask: NDArray[np.uint8]
    part_id: str
    rule: str


@dataclass(frozen=True, slots=True)
class Part:
    """One part: what the camera sees, (size, size, 3) uint8 RGB, and the truth."""

    frame: NDArray[np.uint8]
    truth: Truth


def render(
    product: str,
    seed: int,
    index: int,
    *,
    kind: str | None = None,
    defect: str | None = None,
    size: int = 256,
    logical_share: float = 0.05,
    structural_share: float = 0.05,
    light: float = 1.0,
    shift: tuple[float, float] = (0.0, 0.0),
    present: bool = True,
) -> Part:
    """Draw one part.

    Args:
        product: one of PRODUCTS.
        seed: which belt.
        index: which part of it, from 0.
        kind: "good", "logical" or "structural"; None lets the shares decide.
        defect: name of the defect, for a kind that was given; None draws one.
        size: side of the frame in pixels.
        logical_share: share of parts with a logical defect.
        structural_share: share of parts with a structural one.
        light: the lamp's brightness against nominal, for a simulated fault.
        shift: how far the part lies off its place, as shares of the frame.
        present: False leaves the belt empty: the truth is that of the part that is not there, with an empty mask.

    Returns:
        The frame and the truth; bit-identical for equal arguments.

    Raises:
        ValueError: unknown product, kind or defect, or a size below 128 px.
    """
    if product not in PRODUCTS:
        raise ValueError(f"expected a product of {', '.join(PRODUCTS)}, got {product!r}")
    if size < MIN_SIZE_PX:
        raise ValueError(f"expected a frame of at least {MIN_SIZE_PX} px, got {size}")
    made = PRODUCTS[product]
    dice = Dice(made.version, product, seed, index)
    what, name = _draw_kind(made, dice.fork("kind"), kind, defect, logical_share, structural_share)
    batch = Dice(made.version, product, seed, "batch", index // BATCH)
    lamp = dice.fork("lamp")
    canvas = Canvas(size, _light(lamp))
    place = dice.fork("place")
    pose = Pose.of(
        place.uniform(-10.0, 10.0) + 256.0 * shift[0], place.uniform(-10.0, 10.0) + 256.0 * shift[1],
        place.uniform(-4.0, 4.0), place.uniform(0.95, 1.05),
    )  # fmt: skip
    lay_belt(canvas, batch, dice)
    if present:
        fault = dice.fork("fault", name)
        draft = Draft(batch, dice, fault, name if what is Kind.LOGICAL else "")
        surfaces = made.draw(canvas, pose, draft)
        marks.smudges(canvas, pose, dice.fork("smudges"))
        if what is Kind.STRUCTURAL:
            draw_defect(canvas, pose, surfaces, name, fault, made.area)
    marks.dust(canvas, dice.fork("dust"))
    reflections(canvas, dice.fork("reflections"))
    frame = expose(canvas, _optics(lamp, index, Dice(made.version, product, seed), light), dice.fork("noise"))
    mask = (canvas.mask > 0.5).astype(np.uint8) * np.uint8(255)
    frame.flags.writeable = False
    mask.flags.writeable = False
    return Part(frame, Truth(what, name, mask, f"{product}-{seed}-{index}", made.rule))


def truth_of(
    product: str, seed: int, index: int, *, logical_share: float = 0.05, structural_share: float = 0.05
) -> tuple[Kind, str]:
    """What `render` draws when it may decide for itself, without drawing it.

    Args:
        product: one of PRODUCTS.
        seed: which belt.
        index: which part of it.
        logical_share: share of parts with a logical defect.
        structural_share: share of parts with a structural one.

    Returns:
        Kind, and the defect's name (empty for a good part).
    """
    made = PRODUCTS[product]
    dice = Dice(made.version, product, seed, index).fork("kind")
    return _draw_kind(made, dice, None, None, logical_share, structural_share)


def _draw_kind(
    product: Product, dice: Dice, kind: str | None, defect: str | None, logical: float, structural: float
) -> tuple[Kind, str]:
    """Decide what the part is; the defect's name is empty for a good part."""
    chance = dice.uniform(0.0, 1.0)
    if kind is None:
        what = Kind.LOGICAL if chance < logical else Kind.STRUCTURAL if chance < logical + structural else Kind.GOOD
    else:
        what = Kind(kind)
    if what is Kind.GOOD:
        return what, ""
    names = tuple(product.logical) if what is Kind.LOGICAL else DEFECTS
    if defect is None:
        return what, dice.pick(names)
    if defect not in names:
        raise ValueError(f"expected a {what.value} defect of {', '.join(names)}, got {defect!r}")
    return what, defect


def _light(dice: Dice) -> tuple[float, float]:
    """Direction towards the lamp: above left, a little different for every part (vibration, neighbours)."""
    pose = Pose.of(0.0, 0.0, dice.uniform(215.0, 250.0), 1.0)
    return pose.cos, pose.sin


def _optics(dice: Dice, index: int, line: Dice, light: float) -> Optics:
    """Light and camera of one exposure: a slow drift over the index and a spread around it."""
    phase = line.fork("drift").uniform(0.0, 1.0)
    turn = index / DRIFT_PERIOD + phase
    wave = abs(2.0 * (turn - int(turn)) - 1.0) * 2.0 - 1.0  # a triangle between -1 and 1
    return Optics(
        gain=light * dice.around(1.0, 0.20) * (1.0 + 0.06 * wave),
        balance=(dice.around(1.0, 0.10) * (1.0 + 0.02 * wave), dice.around(1.0, 0.10) * (1.0 - 0.02 * wave)),
        slope=(dice.around(0.0, 0.22), dice.around(0.0, 0.22)),
        vignette=dice.uniform(0.0, 0.2),
        blur_px=dice.uniform(0.35, 0.85),
        noise=dice.uniform(1.5, 4.0),
    )
