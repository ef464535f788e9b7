"""The simulated belt: equal arguments give equal pixels, a defect changes its own place alone, and the truth is true."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge.belt.defects import DEFECTS
from edge.belt.dice import Dice, bell
from edge.belt.scene import BATCH, MIN_SIZE_PX, PRODUCTS, Kind, Part, render, truth_of

SIZE = 128
GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "belt.png"
GOLDEN_UNIFORMS = [0.782129467049, 0.226827285134, 0.256135482742]
GOLDEN_BELL = "81543c2a76855a5f"
LOGICAL = [(product, defect) for product in PRODUCTS for defect in PRODUCTS[product].logical]
STRUCTURAL = [(product, defect) for product in PRODUCTS for defect in DEFECTS]


def draw(product: str, index: int = 4, **settings) -> Part:
    return render(product, 21, index, size=SIZE, **settings)


def golden_parts() -> np.ndarray:
    """One good, one logical and one structural part of each product, with their masks: (6 x 128, 3 x 128, 3) uint8."""
    rows = []
    for product in PRODUCTS:
        parts = [draw(product, 7, kind=kind.value) for kind in Kind]
        rows.append(np.concatenate([part.frame for part in parts], axis=1))
        rows.append(np.concatenate([np.repeat(part.truth.mask[..., None], 3, axis=2) for part in parts], axis=1))
    return np.concatenate(rows)


def test_parts_are_the_same_on_every_machine():
    drawn = golden_parts()
    if os.environ.get("ONBELT_UPDATE_GOLDEN") == "1":  # after a change that was meant, and a new Product.version
        Image.fromarray(drawn).save(GOLDEN, optimize=True)
    with Image.open(GOLDEN) as stored:
        expected = np.asarray(stored, dtype=np.int16)
    # One count of 255 is the room for a library that rounds differently; a changed scene differs by dozens.
    worst = np.abs(drawn.astype(np.int16) - expected).max(axis=2)
    assert worst.max() <= 1 or np.mean(worst > 1) < 1e-4, f"{np.mean(worst > 1):.2%} of the pixels differ: raise Product.version"


def test_random_streams_are_the_same_in_every_version():
    dice = Dice("tray", 7, 3)
    assert [round(dice.uniform(0.0, 1.0), 12) for _ in range(3)] == GOLDEN_UNIFORMS
    assert hashlib.sha256(bell(5, 64, 64).astype("<f4").tobytes()).hexdigest()[:16] == GOLDEN_BELL


@pytest.mark.parametrize("product", PRODUCTS)
def test_equal_arguments_give_equal_pixels_and_other_ones_do_not(product):
    first, again = draw(product), draw(product)
    assert np.array_equal(first.frame, again.frame)
    assert np.array_equal(first.truth.mask, again.truth.mask)
    assert not np.array_equal(first.frame, draw(product, 5).frame)
    assert not np.array_equal(first.frame, render(product, 22, 4, size=SIZE).frame)


@pytest.mark.parametrize(("product", "defect"), [*LOGICAL, *STRUCTURAL])
def test_every_defect_shows_where_its_mask_says_and_nowhere_else(product, defect):
    kind = "logical" if defect in PRODUCTS[product].logical else "structural"
    bad, good = draw(product, kind=kind, defect=defect), draw(product, kind="good")
    assert (bad.truth.kind.value, bad.truth.defect) == (kind, defect)
    mask = bad.truth.mask > 0
    assert mask.any()
    assert set(np.unique(bad.truth.mask)) == {0, 255}
    apart = np.abs(bad.frame.astype(int) - good.frame.astype(int)).max(axis=2)
    assert apart[mask].mean() > 8.0  # counts: it can be seen
    # A shadow reaches 12 units beyond its piece, a wire's cut end 45 below its mark.
    far = ~grown(mask, 24 if product != "harness" else 30)
    assert np.mean(apart[far] > 6) < 0.01, np.mean(apart[far] > 6)


def grown(mask: np.ndarray, by_px: int) -> np.ndarray:
    """The mask and everything within so many pixels of it, along rows and columns."""
    padded = np.pad(mask, by_px)
    columns = np.lib.stride_tricks.sliding_window_view(padded, 2 * by_px + 1, axis=1).any(axis=-1)
    return np.asarray(np.lib.stride_tricks.sliding_window_view(columns, 2 * by_px + 1, axis=0).any(axis=-1))


@pytest.mark.parametrize("product", PRODUCTS)
def test_a_mask_marks_something_exactly_when_the_part_is_bad(product):
    for index in range(24):
        part = render(product, 5, index, size=SIZE, logical_share=0.3, structural_share=0.4)
        assert bool(part.truth.mask.any()) == (part.truth.kind is not Kind.GOOD)
        assert bool(part.truth.defect) == (part.truth.kind is not Kind.GOOD)
        assert truth_of(product, 5, index, logical_share=0.3, structural_share=0.4) == (part.truth.kind, part.truth.defect)


def test_defects_come_in_the_shares_asked_for():
    kinds = [truth_of("tray", 1, index, logical_share=0.2, structural_share=0.1)[0] for index in range(1000)]
    assert kinds.count(Kind.LOGICAL) == pytest.approx(200, abs=40)  # three standard deviations
    assert kinds.count(Kind.STRUCTURAL) == pytest.approx(100, abs=30)
    assert all(truth_of("tray", 1, index, logical_share=0.0, structural_share=0.0) == (Kind.GOOD, "") for index in range(50))


@pytest.mark.parametrize("product", PRODUCTS)
def test_batches_share_their_belt_and_differ_from_each_other(product):
    def belt(index: int) -> np.ndarray:
        return np.asarray(draw(product, index, kind="good", present=False).frame.mean(axis=(0, 1)))

    tones = [belt(BATCH * batch) for batch in range(8)]
    assert max(np.abs(one - other).max() for one in tones for other in tones) > 30.0


def test_an_absent_part_leaves_the_belt_and_marks_nothing():
    empty = draw("tray", kind="good", present=False)
    assert not empty.truth.mask.any()
    assert np.abs(empty.frame.astype(int) - draw("tray", kind="good").frame.astype(int)).mean() > 10.0


def test_lamp_and_place_are_knobs():
    plain, dark = draw("vials", kind="good"), draw("vials", kind="good", light=0.5)
    assert dark.frame.mean() == pytest.approx(plain.frame.mean() * 0.5, rel=0.1)
    moved = draw("vials", kind="logical", shift=(0.2, 0.0)).truth.mask
    still = draw("vials", kind="logical").truth.mask
    assert np.nonzero(moved)[1].mean() - np.nonzero(still)[1].mean() > 0.1 * SIZE


@pytest.mark.parametrize("size", [128, 200, 640])
def test_frames_come_in_any_size(size):
    part = render("harness", 2, 1, size=size)
    assert part.frame.shape == (size, size, 3)
    assert part.frame.dtype == np.uint8
    assert part.truth.mask.shape == (size, size)
    assert not part.frame.flags.writeable


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"product": "glass"}, "expected a product of harness, tray, vials, got 'glass'"),
        ({"size": MIN_SIZE_PX - 1}, f"at least {MIN_SIZE_PX} px"),
        ({"kind": "logical", "defect": "scratch"}, "expected a logical defect of piece_missing"),
        ({"kind": "broken"}, "broken"),
    ],
)
def test_impossible_scenes_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        render(**({"product": "tray", "seed": 1, "index": 1} | arguments))
