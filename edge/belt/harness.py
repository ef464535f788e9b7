"""The wire harness: a connector housing with six slots, five coloured wires in a fixed order and an off-centre latch.

Rule: from left to right red, yellow, blue, white, an empty slot, green; one latch, above the second slot. Cut lengths, bends,
tints, the housing's shade, the date code, the tape around the wires and offcuts on the belt are free: the amount of a colour
says nothing, its place does.
"""

from edge.belt.canvas import Canvas, Colour, Pose, Shape, box
from edge.belt.dice import Dice
from edge.belt.marks import print_code
from edge.belt.product import Draft, Surface, tinted
from edge.belt.tube import tube

PITCH = 29.0
SLOTS = 6
EMPTY_SLOT = 4
RADIUS = 10.5  # of a wire; 21 px in a 256 px frame
ORDER: tuple[str | None, ...] = ("red", "yellow", "blue", "white", None, "green")
WIRES: dict[str, Colour] = {
    "red": (0.72, 0.10, 0.09),
    "yellow": (0.86, 0.69, 0.08),
    "blue": (0.08, 0.22, 0.66),
    "white": (0.85, 0.84, 0.80),
    "green": (0.07, 0.46, 0.20),
}
HOUSING = box(93.0, 40.0, 7.0)
LATCH = box(24.0, 11.0, 4.0)
TAPES: tuple[Colour, ...] = (*WIRES.values(), (0.07, 0.07, 0.08), (0.45, 0.46, 0.47), (0.80, 0.40, 0.08))
LATCH_U, LATCH_WRONG_U, LATCH_V = -43.5, 43.5, -83.0


def slot_u(slot: int) -> float:
    """Where a slot's middle lies, in units from the part's middle."""
    return (slot - (SLOTS - 1) / 2) * PITCH


def draw(canvas: Canvas, pose: Pose, draft: Draft) -> tuple[Surface, ...]:
    """Draw one harness, with a logical defect where the draft names one; return where structural defects may lie."""
    batch, dice, fault = draft.batch, draft.dice, draft.fault
    order = list(ORDER)
    changed: list[int] = []
    filled = [slot for slot in range(SLOTS) if slot != EMPTY_SLOT]
    if draft.defect == "wires_swapped":
        first = fault.integer(len(filled) - 1)
        second = first + 1 + fault.integer(len(filled) - 1 - first)
        changed = [filled[first], filled[second]]
        order[changed[0]], order[changed[1]] = order[changed[1]], order[changed[0]]
    elif draft.defect == "wire_wrong_colour":
        changed = [fault.pick(filled)]
        order[changed[0]] = fault.pick([name for name in WIRES if name != order[changed[0]]])
    elif draft.defect == "wire_missing":
        changed = [fault.pick(filled)]
        order[changed[0]] = None
    elif draft.defect == "wire_extra":
        changed = [EMPTY_SLOT]
        order[EMPTY_SLOT] = fault.pick(list(WIRES))

    housing = tinted(
        batch.fork("housing").pick(((0.80, 0.77, 0.68), (0.66, 0.68, 0.69), (0.50, 0.51, 0.53))), dice.fork("housing"), 0.08
    )
    centre = pose.at(0.0, -40.0)
    _offcuts(canvas, pose, dice)
    canvas.shadow(centre, HOUSING, 93.0, 40.0, height=dice.fork("rise").uniform(5.0, 10.0), strength=0.5)

    latch_u = LATCH_WRONG_U if draft.defect == "latch_misplaced" else LATCH_U
    latch_shape = pose.at(latch_u + dice.fork("latch").around(0.0, 1.5), LATCH_V)
    if draft.defect in {"latch_missing", "latch_misplaced"}:
        canvas.mark(pose.at(LATCH_U, LATCH_V), LATCH, 24.0, 11.0)
    if draft.defect == "latch_misplaced":
        canvas.mark(latch_shape, LATCH, 24.0, 11.0)
    if draft.defect != "latch_missing":
        canvas.shadow(latch_shape, LATCH, 24.0, 11.0, height=5.0, strength=0.4)
        canvas.solid(
            latch_shape, LATCH, 24.0, 11.0, tinted(housing, dice.fork("latch tint"), 0.03), bevel=3.5, depth=0.3, gloss=0.25
        )

    # Wires leave under the housing's lower edge, so their far ends are drawn first.
    for slot in range(SLOTS):
        own = dice.fork("wire", slot)
        end = own.uniform(66.0, 104.0)
        bend, tint = own.around(0.0, 5.0), own.fork("tint")
        name = order[slot]
        if slot in changed:
            canvas.mark(pose.at(slot_u(slot), 30.0), box(RADIUS, 60.0, 3.0), RADIUS, 60.0)
        if name is None:
            continue
        colour = tinted(WIRES[name], tint, 0.10, hue=0.03)
        tube(canvas, pose.at(slot_u(slot), -10.0), end + 10.0, RADIUS * own.uniform(0.94, 1.04), colour, bend=bend, dice=own)

    _tape(canvas, pose, dice)
    canvas.solid(
        centre,
        HOUSING,
        93.0,
        40.0,
        housing,
        bevel=5.0,
        depth=0.28,
        gloss=0.2,
        grain=("grain", dice.fork("grain amount").uniform(0.015, 0.035)),
        dice=dice.fork("grain"),
    )
    _slots(canvas, pose, housing, order, changed, dice)
    print_code(canvas, pose.at(dice.fork("code place").around(0.0, 30.0), -66.0), dice.fork("code"), ink=0.45)
    return (
        Surface(0.0, -62.0, 78.0, 9.0),
        Surface(0.0, -10.0, 80.0, 6.0),
        Surface(0.0, 40.0, 76.0, 20.0),
        Surface(0.0, -40.0, 78.0, 24.0),
    )


def _tape(canvas: Canvas, pose: Pose, dice: Dice) -> None:
    """Wrap some turns of tape around the wires, of any colour; what it covers cannot show a defect."""
    for turn in range(2):
        own = dice.fork("tape", turn)
        half = own.uniform(5.0, 9.0)
        place = pose.at(own.around(0.0, 3.0), (22.0, 50.0)[turn] + own.around(0.0, 8.0), own.around(0.0, 2.0))
        if not own.chance(0.75):
            continue
        shape = box(88.0, half, 3.0)
        canvas.shadow(place, shape, 88.0, half, height=3.0, strength=0.4)
        canvas.solid(place, shape, 88.0, half, tinted(own.pick(TAPES), own, 0.15, hue=0.03), bevel=half, depth=0.35, gloss=0.15)
        canvas.unmark(place, shape, 88.0, half)


def _offcuts(canvas: Canvas, pose: Pose, dice: Dice) -> None:
    """Up to four cut ends of wire that lie on the belt beside the part."""
    own = dice.fork("offcuts")
    for place in (pose.at(-112.0, -30.0), pose.at(112.0, -30.0), pose.at(-112.0, 40.0), pose.at(112.0, 40.0)):
        lie = place.at(own.around(0.0, 4.0), own.around(0.0, 14.0), own.uniform(-15.0, 15.0))
        length, colour = own.uniform(30.0, 60.0), tinted(own.pick(tuple(WIRES.values())), own, 0.10, hue=0.03)
        if own.chance(0.6):
            tube(canvas, lie.at(0.0, -length / 2), length, RADIUS * 0.95, colour, bend=own.around(0.0, 4.0), dice=own, body=False)


def _slots(canvas: Canvas, pose: Pose, housing: Colour, order: list[str | None], changed: list[int], dice: Dice) -> None:
    """Windows in the housing: through each one sees the wire's end and its crimp, or an empty hole."""
    hole: Shape = box(9.5, 17.0, 3.0)
    dark: Colour = (housing[0] * 0.22, housing[1] * 0.22, housing[2] * 0.22)
    for slot in range(SLOTS):
        place = pose.at(slot_u(slot), -30.0)
        canvas.recess(place, hole, 9.5, 17.0, dark, depth=0.7, wall=4.0)
        own = dice.fork("crimp", slot)
        name = order[slot]
        if slot in changed:
            canvas.mark(place, hole, 9.5, 17.0)
        if name is None:
            continue
        wire = dice.fork("wire", slot).fork("tint")
        colour = tinted(WIRES[name], wire, 0.10, hue=0.03)
        tube(
            canvas,
            pose.at(slot_u(slot), -28.0),
            14.0,
            7.0,
            (colour[0] * 0.85, colour[1] * 0.85, colour[2] * 0.85),
            bend=0.0,
            dice=own,
            bare=False,
            shadow=0.0,
        )
        crimp = box(5.5, 6.0, 2.0)
        metal = own.uniform(0.62, 0.8)
        canvas.solid(
            pose.at(slot_u(slot), -36.0), crimp, 5.5, 6.0, (metal, metal * 0.97, metal * 0.90), bevel=4.0, depth=0.4, gloss=0.5
        )
