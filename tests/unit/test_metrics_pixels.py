from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from scipy import ndimage
from sklearn.metrics import average_precision_score, roc_auc_score

from edge.anomaly_map import to_picture
from training.metrics import PixelCounts, count_pixels, threshold_edges
from training.metrics.pixels import no_pixels

EIGHT = np.ones((3, 3), int)
Defects = list[tuple[np.ndarray, int]]
Picture = tuple[np.ndarray, Defects]


def add_up(pictures: list[Picture], edges: np.ndarray) -> PixelCounts:
    total = no_pixels(edges.size + 1)
    for scores, defects in pictures:
        total += count_pixels(scores, defects, edges)
    return total


def slow_area(pictures: list[Picture], overlap: Callable[..., list[float]], limit: float) -> float:
    """AU-PRO and AU-sPRO straight from the definition: binarise at every distinct score, measure, integrate."""
    thresholds = np.unique(np.concatenate([scores.ravel() for scores, _ in pictures]))[::-1]
    points = [(0.0, 0.0)]
    for threshold in thresholds:
        wrong = negatives = 0
        overlaps: list[float] = []
        for scores, defects in pictures:
            union = np.zeros(scores.shape, bool)
            for mask, _ in defects:
                union |= mask
            found = scores >= threshold
            wrong += np.count_nonzero(found & ~union)
            negatives += np.count_nonzero(~union)
            overlaps += overlap(found, union, defects)
        points.append((wrong / negatives, float(np.mean(overlaps))))
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 >= limit:
            break
        end = min(x1, limit)
        height = y1 if end == x1 else y0 + (y1 - y0) * (end - x0) / (x1 - x0)
        area += (end - x0) * (y0 + height) / 2
    return area / limit


def by_region(found: np.ndarray, union: np.ndarray, _defects: Defects) -> list[float]:
    labels, count = ndimage.label(union, structure=EIGHT)
    return [float(found[labels == i].mean()) for i in range(1, count + 1)]


def by_defect(found: np.ndarray, _union: np.ndarray, defects: Defects) -> list[float]:
    return [min(np.count_nonzero(found & mask) / saturation, 1.0) for mask, saturation in defects]


def made_up_pictures(seed: int, distinct: int, count: int = 6, side: int = 24) -> list[Picture]:
    """Maps with ties, good pictures among them, defects that overlap, touch at a corner or fall apart."""
    rng = np.random.default_rng(seed)
    pictures = []
    for index in range(count):
        scores = rng.integers(0, distinct, (side, side)).astype(np.float32) / distinct
        defects: Defects = []
        for _ in range(index % 3):
            mask = np.zeros((side, side), bool)
            for _ in range(int(rng.integers(1, 3))):
                top, left = rng.integers(0, side - 6, 2)
                mask[top : top + rng.integers(1, 6), left : left + rng.integers(1, 6)] = True
            scores[mask] += rng.choice([0.0, 0.25])
            defects.append((mask, max(1, int(mask.sum() * rng.choice([0.3, 1.0])))))
        pictures.append((scores, defects))
    return pictures


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("distinct", [3, 40])
@pytest.mark.parametrize("limit", [0.05, 0.3, 1.0])
def test_areas_follow_the_definition_when_every_score_has_its_bin(seed, distinct, limit):
    pictures = made_up_pictures(seed, distinct)
    counts = add_up(pictures, threshold_edges(scores for scores, _ in pictures))
    assert counts.au_pro(limit) == pytest.approx(slow_area(pictures, by_region, limit), abs=1e-12)
    assert counts.au_spro(limit) == pytest.approx(slow_area(pictures, by_defect, limit), abs=1e-12)


@pytest.mark.parametrize("distinct", [3, 40, 4000])
def test_pixel_auroc_and_ap_agree_with_scikit_learn(distinct):
    pictures = made_up_pictures(11, distinct)
    counts = add_up(pictures, threshold_edges(scores for scores, _ in pictures))
    flat = np.concatenate([scores.ravel() for scores, _ in pictures])
    truth = np.concatenate(
        [np.logical_or.reduce([m for m, _ in d]).ravel() if d else np.zeros(s.size, bool) for s, d in pictures]
    )
    assert counts.auroc() == pytest.approx(roc_auc_score(truth, flat), abs=1e-12)
    assert counts.average_precision() == pytest.approx(average_precision_score(truth, flat), abs=1e-12)


def test_bins_chosen_from_small_maps_keep_the_measures():
    rng = np.random.default_rng(2)
    small = rng.gamma(2.0, 1.0, (20, 24, 24)).astype(np.float32)
    for index in range(1, 20, 2):
        small[index, 6 : 7 + index // 2, 6:12] += 2.0
    pictures = []
    for index, field in enumerate(small):
        mask = np.zeros((192, 160), bool)
        mask[60 : 66 + 3 * index, 50:80] = True
        pictures.append((to_picture(field, 192, 160), [(mask, int(mask.sum() // 2))] if index % 2 else []))
    counts = add_up(pictures, threshold_edges(small))
    exact = add_up(pictures, threshold_edges([s for s, _ in pictures], bins=10**7))
    assert counts.negative.size <= 8192 < exact.negative.size
    assert counts.auroc_resolution() < 1e-4
    whole, binned = exact.average_precision(), counts.average_precision()
    assert whole is not None
    assert binned is not None
    assert 0 <= whole - binned < 0.002
    assert counts.auroc() == pytest.approx(exact.auroc(), rel=0, abs=counts.auroc_resolution())
    for limit in (0.05, 0.3):
        assert counts.au_pro(limit) == pytest.approx(exact.au_pro(limit), abs=5e-4)
        assert counts.au_spro(limit) == pytest.approx(exact.au_spro(limit), abs=5e-4)


def worked_example() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ten good pixels scored 0.0 to 0.9; a region of 4 at 0.95 0.95 0.05 0.05, and one of 2 at 0.55 0.55."""
    scores = np.zeros((2, 8), np.float32)
    first, second = np.zeros((2, 8), bool), np.zeros((2, 8), bool)
    first[:, 0:2] = True
    second[:, 3] = True
    scores[:, 0:2] = [[0.95, 0.05], [0.95, 0.05]]
    scores[:, 3] = 0.55
    scores[~(first | second)] = np.arange(10) / 10
    return scores, first, second


def test_au_pro_of_an_example_worked_by_hand():
    scores, first, second = worked_example()
    counts = count_pixels(scores, [(first, 4), (second, 2)], threshold_edges([scores]))
    # Half of the first region leads: PRO = (1/2 + 0) / 2 = 0.25 from FPR 0 on. Four good pixels (0.9 to 0.6) come before the
    # second region, whose arrival lifts PRO to (1/2 + 1) / 2 = 0.75 at FPR 0.4.
    assert counts.regions == 2
    assert counts.au_pro(0.3) == pytest.approx(0.25)
    assert counts.au_pro(0.6) == pytest.approx((0.4 * 0.25 + 0.2 * 0.75) / 0.6)
    assert counts.au_spro(0.6) == pytest.approx(counts.au_pro(0.6))


def test_saturation_gives_full_marks_for_part_of_a_region():
    scores, first, second = worked_example()
    counts = count_pixels(scores, [(first, 2), (second, 2)], threshold_edges([scores]))
    # Two of the first region's four pixels saturate it: sPRO = (1 + 0) / 2 at once, 1 when the second region is found.
    assert counts.au_spro(0.3) == pytest.approx(0.5)
    assert counts.au_spro(0.6) == pytest.approx((0.4 * 0.5 + 0.2 * 1.0) / 0.6)
    assert counts.au_pro(0.3) == pytest.approx(0.25)


def test_regions_that_touch_at_a_corner_are_one():
    mask = np.eye(4, dtype=bool)
    counts = count_pixels(np.zeros((4, 4), np.float32), [(mask, 4)], np.array([0.0], np.float32))
    assert counts.regions == 1


def test_one_defect_in_two_pieces_counts_once_for_spro_and_twice_for_pro():
    mask = np.zeros((4, 9), bool)
    mask[:, 0], mask[:, 8] = True, True
    scores = np.zeros((4, 9), np.float32)
    scores[:, 0] = 1.0
    counts = count_pixels(scores, [(mask, 8)], threshold_edges([scores]))
    assert (counts.regions, counts.defects) == (2, 1)
    assert counts.au_pro(0.3) == pytest.approx(counts.au_spro(0.3))


def test_good_pictures_alone_give_no_measure():
    counts = count_pixels(np.ones((4, 4), np.float32), [], np.array([0.5], np.float32))
    assert counts.auroc() is None
    assert counts.au_pro(0.3) is None
    assert counts.au_spro(0.3) is None
    assert counts.auroc_resolution() == 0.0


def test_edges_are_distinct_ascending_and_few():
    rng = np.random.default_rng(0)
    edges = threshold_edges([rng.normal(0, 1, (300, 300)).astype(np.float32)], bins=100)
    assert edges.size <= 99
    assert (np.diff(edges) > 0).all()
    np.testing.assert_array_equal(threshold_edges([np.zeros((3, 3), np.float32)]), [0.0])
