"""The sorted tray: nine cavities, eight pieces of three types in fixed places, one cavity empty, and a box of spares.

Rule: top row nut, cap, block; middle row cap, nut, empty; bottom row block, cap, nut. The compartment on the right may hold
none to four spares of any type, anywhere: only the nine cavities count.
"""

from edge.belt.canvas import Canvas, Colour, Pose, box, disc, hexagon, ring
from edge.belt.dice import Dice
from edge.belt.marks import sticker
from edge.belt.product import Draft, Surface, tinted

PITCH = 52.0
COLUMNS_U = (-80.0, -28.0, 24.0)
ROWS_V = (-53.0, 0.0, 53.0)
ORDER: tuple[str | None, ...] = ("nut", "cap", "block", "cap", "nut", None, "block", "cap", "nut")
EMPTY_CAVITY = 5
OUTER = box(110.0, 86.0, 9.0)
CAVITY = box(22.5, 22.5, 6.0)
SPARES = box(25.0, 74.0, 7.0)
SPARES_U = 78.0
MATERIALS: tuple[tuple[str, Colour, float], ...] = (
    ("fibre", (0.62, 0.48, 0.33), 0.07),
    ("smooth", (0.20, 0.21, 0.23), 0.05),
    ("wood", (0.58, 0.42, 0.27), 0.08),
    ("grain", (0.60, 0.62, 0.64), 0.03),
)


def cavity_uv(cavity: int) -> tuple[float, float]:
    """Where a cavity's middle lies, in units from the part's middle."""
    return COLUMNS_U[cavity % 3], ROWS_V[cavity // 3]


def draw(canvas: Canvas, pose: Pose, draft: Draft) -> tuple[Surface, ...]:
    """Draw one tray, with a logical defect where the draft names one; return where structural defects may lie."""
    batch, dice, fault = draft.batch, draft.dice, draft.fault
    order = list(ORDER)
    changed: list[int] = []
    filled = [cavity for cavity in range(len(ORDER)) if cavity != EMPTY_CAVITY]
    if draft.defect == "piece_missing":
        changed = [fault.pick(filled)]
        order[changed[0]] = None
    elif draft.defect == "piece_extra":
        changed = [EMPTY_CAVITY]
        order[EMPTY_CAVITY] = fault.pick(("nut", "cap", "block"))
    elif draft.defect == "piece_wrong_place":
        changed = [fault.pick(filled), EMPTY_CAVITY]
        order[EMPTY_CAVITY], order[changed[0]] = order[changed[0]], None
    elif draft.defect == "pieces_swapped":
        first = fault.pick(filled)
        changed = [first, fault.pick([other for other in filled if order[other] != order[first]])]
        order[changed[0]], order[changed[1]] = order[changed[1]], order[changed[0]]
    elif draft.defect == "piece_wrong_type":
        changed = [fault.pick(filled)]
        order[changed[0]] = fault.pick([name for name in ("nut", "cap", "block") if name != order[changed[0]]])

    texture, colour, contrast = batch.fork("tray").pick(MATERIALS)
    colour = tinted(colour, dice.fork("tray tint"), 0.10, hue=0.015)
    canvas.shadow(pose, OUTER, 110.0, 86.0, height=dice.fork("rise").uniform(5.0, 9.0), strength=0.5)
    canvas.solid(
        pose, OUTER, 110.0, 86.0, colour, bevel=4.0, depth=0.25, gloss=0.08, grain=(texture, contrast), dice=dice.fork("grain")
    )
    floor: Colour = (colour[0] * 0.55, colour[1] * 0.55, colour[2] * 0.55)
    for cavity in range(len(ORDER)):
        place = pose.at(*cavity_uv(cavity))
        canvas.recess(place, CAVITY, 22.5, 22.5, floor, depth=0.6, wall=5.0)
        if cavity in changed:
            canvas.mark(place, CAVITY, 22.5, 22.5)
        name = order[cavity]
        if name is not None:
            own = dice.fork("piece", cavity)
            _piece(canvas, place.at(own.around(0.0, 2.0), own.around(0.0, 2.0), own.uniform(-25.0, 25.0)), name, batch, own)
    canvas.recess(pose.at(SPARES_U, 0.0), SPARES, 25.0, 74.0, floor, depth=0.6, wall=5.0)
    spares = dice.fork("spares")
    for spot in range(4):
        name = spares.pick(("nut", "cap", "block"))
        u, v, turn = spares.around(0.0, 4.0), spares.around(0.0, 2.5), spares.uniform(0.0, 90.0)
        if spares.chance(0.5):
            _piece(canvas, pose.at(SPARES_U + u, -54.0 + 36.0 * spot + v, turn), name, batch, dice.fork("spare", spot))
    if dice.fork("sticker").chance(0.5):
        sticker(canvas, pose.at(dice.fork("sticker u").uniform(-70.0, 60.0), 80.0), dice.fork("sticker look"), 20.0, 4.5)
    return (
        Surface(-28.0, 0.0, 70.0, 70.0),
        Surface(0.0, 80.0, 90.0, 3.0),
        Surface(0.0, -80.0, 90.0, 3.0),
        Surface(50.0, 0.0, 4.0, 70.0),
    )


def _piece(canvas: Canvas, pose: Pose, name: str, batch: Dice, dice: Dice) -> None:
    """Draw a nut, a cap or a block; finish and tint vary piece by piece within the harmless range."""
    size = dice.fork("size").uniform(0.94, 1.04)
    pose = pose.at(0.0, 0.0, 0.0, size)
    gloss = dice.fork("gloss").uniform(0.1, 0.45)
    if name == "nut":
        outer = hexagon(16.0)
        metal = tinted(batch.fork("metal").pick(((0.62, 0.62, 0.64), (0.66, 0.58, 0.42))), dice.fork("tint"), 0.16)
        canvas.shadow(pose, outer, 19.0, 19.0, height=3.5, strength=0.5)
        canvas.solid(
            pose,
            ring(outer, 8.5),
            19.0,
            19.0,
            metal,
            bevel=3.0,
            depth=0.4,
            gloss=gloss,
            grain=("brushed", 0.06),
            dice=dice.fork("grain"),
        )
        canvas.solid(
            pose,
            ring(disc(12.5), 8.5),
            13.0,
            13.0,
            (metal[0] * 0.92, metal[1] * 0.92, metal[2] * 0.92),
            bevel=2.0,
            depth=-0.3,
            gloss=0.1,
        )
    elif name == "cap":
        plastic = tinted((0.80, 0.33, 0.06), dice.fork("tint"), 0.14, hue=0.02)
        canvas.shadow(pose, disc(17.0), 17.0, 17.0, height=4.0, strength=0.5)
        canvas.solid(pose, disc(17.0), 17.0, 17.0, plastic, bevel=6.0, depth=0.4, gloss=gloss)
        canvas.solid(
            pose, disc(9.0), 9.0, 9.0, (plastic[0] * 0.9, plastic[1] * 0.9, plastic[2] * 0.9), bevel=3.0, depth=-0.3, gloss=0.1
        )
    else:
        block = tinted((0.10, 0.15, 0.30), dice.fork("tint"), 0.25, hue=0.02)
        shape = box(15.5, 15.5, 3.0)
        canvas.shadow(pose, shape, 15.5, 15.5, height=4.0, strength=0.5)
        canvas.solid(
            pose, shape, 15.5, 15.5, block, bevel=3.0, depth=0.7, gloss=gloss, grain=("grain", 0.06), dice=dice.fork("grain")
        )
        canvas.solid(pose, box(9.0, 2.2, 1.5), 9.0, 2.2, (0.55, 0.57, 0.60), bevel=1.5, depth=0.3, gloss=0.3)
