"""The vial kit: three vials in an insert, all of one variety.

Rule: three vials, cap up; every cap and every label band has the colour of the variety (red, green or blue, free from kit to
kit), and every label sits in the middle of its vial. Fill level, glass tint, print and insert are free.
"""

from edge.belt.canvas import Canvas, Colour, Pose, box
from edge.belt.dice import Dice
from edge.belt.glass import cylinder_shade
from edge.belt.marks import print_lines
from edge.belt.product import Draft, Surface, tinted

PLACES_U = (-66.0, 0.0, 66.0)
OUTER = box(104.0, 100.0, 8.0)
NEST = box(25.5, 90.0, 10.0)
BODY = box(20.0, 66.0, 9.0)
CAP = box(21.5, 15.0, 4.0)
LABEL = box(20.0, 24.0, 1.0)
BAND = box(20.0, 9.0, 0.5)
CAP_V, BODY_V, LABEL_V = -70.0, 14.0, 20.0
LABEL_SHIFT = 22.0
VARIETIES: dict[str, Colour] = {"red": (0.74, 0.12, 0.12), "green": (0.12, 0.50, 0.22), "blue": (0.10, 0.27, 0.70)}
INSERTS: tuple[tuple[str, Colour, float], ...] = (
    ("grain", (0.74, 0.74, 0.73), 0.03),
    ("fibre", (0.58, 0.46, 0.33), 0.06),
    ("smooth", (0.26, 0.27, 0.30), 0.05),
    ("rubber", (0.38, 0.40, 0.42), 0.05),
)


def draw(canvas: Canvas, pose: Pose, draft: Draft) -> tuple[Surface, ...]:
    """Draw one kit, with a logical defect where the draft names one; return where structural defects may lie."""
    batch, dice, fault = draft.batch, draft.dice, draft.fault
    variety = dice.fork("variety").pick(tuple(VARIETIES))
    others = [name for name in VARIETIES if name != variety]
    odd = fault.integer(len(PLACES_U)) if draft.defect else -1
    other, side = fault.pick(others), 1.0 if fault.chance(0.5) else -1.0
    texture, colour, contrast = batch.fork("insert").pick(INSERTS)
    colour = tinted(colour, dice.fork("insert tint"), 0.08, hue=0.012)
    canvas.shadow(pose, OUTER, 104.0, 100.0, height=dice.fork("rise").uniform(4.0, 8.0), strength=0.5)
    canvas.solid(
        pose, OUTER, 104.0, 100.0, colour, bevel=4.0, depth=0.25, gloss=0.08, grain=(texture, contrast), dice=dice.fork("grain")
    )
    for place, u in enumerate(PLACES_U):
        nest = pose.at(u, 0.0)
        canvas.recess(nest, NEST, 25.5, 90.0, (colour[0] * 0.5, colour[1] * 0.5, colour[2] * 0.5), depth=0.55, wall=6.0)
        own = dice.fork("vial", place)
        vial = nest.at(own.fork("u").around(0.0, 1.5), own.fork("v").around(0.0, 3.0), own.fork("turn").around(0.0, 1.5))
        cap, band, label_v = variety, variety, LABEL_V
        if place == odd:
            if draft.defect == "vial_missing":
                canvas.mark(nest, NEST, 25.5, 90.0)
                continue
            if draft.defect == "vial_reversed":
                canvas.mark(nest, NEST, 25.5, 90.0)
                vial = vial.at(0.0, 0.0, 180.0)
            if draft.defect == "cap_mismatch":
                canvas.mark(vial.at(0.0, CAP_V), CAP, 21.5, 15.0)
                cap = other
            if draft.defect == "label_mismatch":
                canvas.mark(vial.at(0.0, label_v), BAND, 20.0, 9.0)
                band = other
            if draft.defect == "label_misplaced":
                canvas.mark(vial.at(0.0, label_v), LABEL, 20.0, 24.0)
                label_v += side * LABEL_SHIFT
                canvas.mark(vial.at(0.0, label_v), LABEL, 20.0, 24.0)
        _vial(canvas, vial, batch, own, cap, band, label_v)
    return (
        Surface(-66.0, 0.0, 14.0, 70.0),
        Surface(0.0, 0.0, 14.0, 70.0),
        Surface(66.0, 0.0, 14.0, 70.0),
        Surface(0.0, -94.0, 85.0, 2.0),
    )


def _vial(canvas: Canvas, pose: Pose, batch: Dice, dice: Dice, cap: str, band: str, label_v: float) -> None:
    """Draw a vial: shadow, glass with its liquid, paper label with the band and print, ribbed cap."""
    body = pose.at(0.0, BODY_V)
    canvas.shadow(body, BODY, 20.0, 66.0, height=4.0, strength=0.4)
    glass = tinted(batch.fork("glass").pick(((0.72, 0.76, 0.77), (0.66, 0.47, 0.24))), dice.fork("glass"), 0.10, hue=0.01)
    cylinder_shade(canvas, body, BODY, 20.0, 66.0, glass, clear=0.75, gloss=dice.fork("gloss").uniform(0.15, 0.4))
    level = dice.fork("level").uniform(24.0, 54.0)
    liquid: Colour = (glass[0] * 0.80, glass[1] * 0.80, glass[2] * 0.82)
    cylinder_shade(canvas, pose.at(0.0, 80.0 - level - 2.0), box(18.0, level, 8.0), 18.0, level, liquid, clear=0.55, gloss=0.1)
    paper = tinted((0.86, 0.85, 0.82), dice.fork("paper"), 0.06)
    label = pose.at(0.0, label_v)
    cylinder_shade(canvas, label, LABEL, 20.0, 24.0, paper, clear=1.0, gloss=0.03)
    cylinder_shade(
        canvas, label, BAND, 20.0, 9.0, tinted(VARIETIES[band], dice.fork("band"), 0.10, hue=0.02), clear=1.0, gloss=0.05
    )
    print_lines(canvas, label.at(0.0, -15.5), dice.fork("print"), 28.0)
    print_lines(canvas, label.at(0.0, 15.5), dice.fork("print 2"), 28.0)
    neck = pose.at(0.0, CAP_V + 18.0)
    cylinder_shade(canvas, neck, box(13.0, 6.0, 1.0), 13.0, 6.0, (0.70, 0.70, 0.71), clear=1.0, gloss=0.4)
    canvas.shadow(pose.at(0.0, CAP_V), CAP, 21.5, 15.0, height=3.0, strength=0.35)
    colour = tinted(VARIETIES[cap], dice.fork("cap"), 0.12, hue=0.02)
    cylinder_shade(
        canvas, pose.at(0.0, CAP_V), CAP, 21.5, 15.0, colour, clear=1.0, gloss=dice.fork("cap gloss").uniform(0.1, 0.4), ribs=3.6
    )
