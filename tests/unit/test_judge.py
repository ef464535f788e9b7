"""The limit decides, the p-value is the conformal one, and cause and regions say where to look."""

import math
import time

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.anomaly_map import to_picture
from edge.bundle.manifest import Rule
from edge.engine import Scores
from edge.errors import ConfigError, EngineError
from edge.judge import Judge
from edge.regions import MAX_REGIONS, find_regions, label
from tests.support.bundles import tiny_members

N = 8


@pytest.fixture(scope="module")
def manifest():
    plain, _ = tiny_members(calibration=[0.1, 0.2, 0.2, 0.4])
    limit = msgspec.structs.replace(plain.limit, raw=2.0, branches={"st": 1.0, "ae": 2.0, "global": 4.0})
    return msgspec.structs.replace(plain, limit=limit)


def scores(raw: float = 0.0, st: float = 0.0, ae: float = 0.0, global_: float = 0.0, maps=None) -> Scores:
    map_st, map_ae = maps or (np.zeros((N, N), np.float32), np.zeros((N, N), np.float32))
    return Scores(raw, st, ae, global_, map_st, map_ae)


def test_scores_are_published_in_units_of_their_limits(manifest):
    found = Judge(manifest).judge(scores(raw=1.0, st=0.5, ae=0.5, global_=0.5))
    assert (found.raw, found.cal, found.st, found.ae, found.global_) == (1.0, 0.5, 0.5, 0.25, 0.125)
    assert found.verdict == "pass"
    assert found.cause is None
    assert found.regions == ()


@pytest.mark.parametrize(
    ("raw", "verdict"),
    [(2.0, "pass"), (math.nextafter(2.0, 3.0), "reject"), (-5.0, "pass"), (0.0, "pass"), (1e30, "reject")],
)
def test_a_part_passes_if_and_only_if_raw_is_within_the_limit(manifest, raw, verdict):
    assert Judge(manifest).judge(scores(raw=raw)).verdict == verdict


@settings(deadline=None)
@given(raw=st.floats(-1e6, 1e6), limit=st.floats(1e-6, 1e6))
def test_a_pass_is_never_published_above_one(raw, limit):
    plain, _ = tiny_members()
    judge = Judge(msgspec.structs.replace(plain, limit=msgspec.structs.replace(plain.limit, raw=limit)))
    found = judge.judge(scores(raw=raw))
    assert found.verdict == ("pass" if raw <= limit else "reject")
    assert found.verdict != "pass" or found.cal <= 1.0


@pytest.mark.parametrize("field", ["raw", "st", "ae", "global_"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_never_judged(manifest, field, value):
    with pytest.raises(EngineError, match="finite"):
        Judge(manifest).judge(scores(**{field: value}))


@pytest.mark.parametrize(
    ("raw", "p"), [(0.05, 1.0), (0.1, 1.0), (0.15, 4 / 5), (0.2, 4 / 5), (0.3, 2 / 5), (0.4, 2 / 5), (0.41, 1 / 5), (99.0, 1 / 5)]
)
def test_p_value_by_hand(manifest, raw, p):
    assert Judge(manifest).p_value(raw) == pytest.approx(p)


@settings(deadline=None)
@given(st.lists(st.integers(-20, 20), min_size=1, max_size=40), st.integers(-22, 22))
def test_p_value_by_its_definition(calibration, raw):
    plain, _ = tiny_members(calibration=[float(score) for score in calibration])
    wanted = (1 + sum(score >= raw for score in calibration)) / (len(calibration) + 1)
    assert Judge(plain).p_value(float(raw)) == pytest.approx(wanted)


def test_p_values_of_good_parts_are_as_rare_as_they_say():
    rng = np.random.default_rng(0)
    plain, _ = tiny_members()
    values = []
    for _ in range(400):  # fresh calibration parts each time: the promise is over their draw
        sample = rng.gumbel(size=51)
        judge = Judge(msgspec.structs.replace(plain, calibration=sorted(map(float, sample[:50]))))
        values.append(judge.p_value(float(sample[50])))
    for level in (0.1, 0.25, 0.5):
        share = np.mean(np.array(values) <= level)
        assert share <= level + 3 * math.sqrt(level * (1 - level) / 400)
        assert share >= level - 1 / 51 - 3 * math.sqrt(level * (1 - level) / 400)


def test_the_band_around_the_limit_is_left_to_a_person(manifest):
    judge = Judge(manifest, (0.9, 1.1))
    for cal, verdict in ((0.9, "pass"), (0.91, "uncertain"), (1.0, "uncertain"), (1.1, "uncertain"), (1.11, "reject")):
        found = judge.judge(scores(raw=2.0 * cal, st=0.1))
        assert found.verdict == verdict, cal
        assert (found.cause is None) == (verdict == "pass")


@pytest.mark.parametrize(
    "band", [(0.0, 1.1), (-1.0, 1.1), (1.01, 1.1), (0.9, 0.99), (0.9, math.inf), (math.nan, 1.1), (0.9, math.nan)]
)
def test_a_band_that_does_not_surround_the_limit_is_refused(manifest, band):
    with pytest.raises(ConfigError, match="uncertain band"):
        Judge(manifest, band)


@pytest.mark.parametrize(
    ("branches", "cause"),
    [
        ((1.5, 2.0, 4.0), "structural"), ((1.5, 4.0, 4.0), "logical"), ((1.5, 4.0, 12.0), "global"),
        ((0.9, 0.0, 0.0), "structural"), ((0.1, 1.0, 1.0), "logical"), ((0.0, 0.0, 0.0), "structural"),
        ((-2.0, -2.0, -8.0), "logical"),
    ],
)  # fmt: skip
def test_the_cause_is_the_branch_furthest_above_its_own_limit(manifest, branches, cause):
    assert Judge(manifest).judge(scores(9.0, *branches)).cause == cause


@pytest.mark.parametrize(
    ("uncounted", "branches", "cause"),
    [
        (["global"], (1.5, 2.0, 400.0), "structural"), (["global"], (0.1, 0.3, 400.0), "logical"),
        (["global", "ae"], (0.1, 9.0, 400.0), "structural"), (["st"], (9.0, 2.0, 3.0), "logical"),
        ([], (1.5, 2.0, 400.0), "global"),
    ],
)  # fmt: skip
def test_a_branch_without_weight_in_the_score_is_told_and_never_the_cause(manifest, uncounted, branches, cause):
    found = Judge(msgspec.structs.replace(manifest, uncounted=uncounted)).judge(scores(9.0, *branches))
    assert found.cause == cause
    assert found.global_ == branches[2] / 4.0
    assert Judge(manifest).judge(scores(9.0, *branches)).verdict == found.verdict


def test_a_map_without_weight_in_the_score_shows_nothing(manifest):
    maps = maps_with(("st", 1, 1, 3, 3, 6.0), ("ae", 5, 5, 7, 7, 60.0))
    both, alone = (
        Judge(msgspec.structs.replace(manifest, uncounted=uncounted)).judge(scores(9.0, 6.0, 60.0, 0.0, maps))
        for uncounted in ([], ["ae", "global"])
    )
    assert both.anomaly_map.argmax() == np.ravel_multi_index((5, 5), (N, N))
    assert alone.anomaly_map.argmax() == np.ravel_multi_index((1, 1), (N, N))
    assert alone.anomaly_map[5:7, 5:7].max() == 0
    assert {region.branch for region in both.regions} == {"ae", "st"}
    assert {region.branch for region in alone.regions} == {"st"}


def test_a_rule_on_a_branch_without_weight_is_a_cause_where_it_rejects(manifest):
    ruled = msgspec.structs.replace(manifest.limit, rules=[Rule("whole", "global", 4.0, 0.001)])
    judge = Judge(msgspec.structs.replace(manifest, limit=ruled, uncounted=["global"]))
    assert judge.judge(scores(1.0, 0.5, 0.5, 5.0)).cause == "global"
    assert judge.judge(scores(9.0, 0.5, 0.5, 4.0)).cause == "structural"


def maps_with(*boxes: tuple[str, int, int, int, int, float]) -> tuple[np.ndarray, np.ndarray]:
    found = {"st": np.zeros((N, N), np.float32), "ae": np.zeros((N, N), np.float32)}
    for branch, top, left, bottom, right, value in boxes:
        found[branch][top:bottom, left:right] = value
    return found["st"], found["ae"]


def test_regions_are_boxes_in_fractions_of_the_picture(manifest):
    # In units of the limits: 3.0 structural (limit 1), 2.5 logical (limit 2).
    maps = maps_with(("st", 2, 3, 4, 6, 3.0), ("ae", 6, 1, 7, 2, 5.0))
    first, second = Judge(manifest).judge(scores(raw=9.0, st=3.0, ae=5.0, maps=maps)).regions
    side = N + 8
    assert (first.x, first.y, first.w, first.h) == pytest.approx((6.625 / side, 5.625 / side, 3 / side, 2 / side))
    assert (first.branch, first.peak) == ("st", 3.0)
    assert (second.x, second.y, second.w, second.h) == pytest.approx((4.625 / side, 9.625 / side, 1 / side, 1 / side))
    assert (second.branch, second.peak) == ("ae", 2.5)


def test_the_map_is_the_larger_branch_in_units_of_its_limit(manifest):
    maps = maps_with(("st", 0, 0, 1, 8, 0.5), ("ae", 0, 0, 8, 1, 3.0))
    found = Judge(manifest).judge(scores(raw=1.0, maps=maps))
    assert found.anomaly_map.dtype == np.float32
    assert (found.anomaly_map[0, 0], found.anomaly_map[0, 4], found.anomaly_map[4, 0], found.anomaly_map[4, 4]) == (
        1.5,
        0.5,
        1.5,
        0,
    )
    assert maps[0][0, 4] == 0.5


def test_exactly_at_the_limit_is_no_region():
    assert find_regions(*maps_with(("st", 2, 2, 3, 3, 1.0))) == ()
    assert len(find_regions(*maps_with(("st", 2, 2, 3, 3, 1.0001)))) == 1


def test_a_passed_part_has_no_regions(manifest):
    assert Judge(manifest).judge(scores(raw=1.0, st=3.0, maps=maps_with(("st", 2, 3, 4, 6, 3.0)))).regions == ()


def test_a_region_lies_where_the_heat_map_is_hot():
    for top, left in ((0, 0), (0, 3), (5, 7), (7, 7), (3, 4)):
        maps = maps_with(("st", top, left, top + 1, left + 1, 2.0))
        (region,) = find_regions(*maps)
        heat = to_picture(np.maximum(*maps), 160, 320)
        rows, columns = np.nonzero(heat > 1.0)
        box = np.array([columns.min() / 320, rows.min() / 160, (columns.max() + 1) / 320, (rows.max() + 1) / 160])
        drawn = np.array([region.x, region.y, region.x + region.w, region.y + region.h])
        assert np.abs(box - drawn).max() <= 1.01 / 160  # a pixel of the lower resolution
        assert region.x >= 0
        assert region.x + region.w <= 1.0
        assert region.y >= 0
        assert region.y + region.h <= 1.0


def test_at_most_eight_regions_the_highest_first():
    rng = np.random.default_rng(0)
    structural = np.zeros((32, 32), np.float32)
    structural[::4, ::4] = rng.permutation(64).reshape(8, 8) / 10 + 1.1
    regions = find_regions(structural, np.zeros_like(structural))
    assert len(regions) == MAX_REGIONS
    assert [round(region.peak, 4) for region in regions] == [round(7.4 - index / 10, 4) for index in range(8)]


def test_equal_peaks_come_in_reading_order():
    regions = find_regions(*maps_with(("st", 6, 6, 7, 7, 2.0), ("st", 1, 5, 2, 6, 2.0), ("st", 1, 1, 2, 2, 2.0)))
    assert [(region.y, region.x) for region in regions] == sorted((region.y, region.x) for region in regions)


@pytest.mark.parametrize(
    ("picture", "count"),
    [
        (["........"], 0), (["########"], 1), (["#.#.#.#."], 4), (["#.......", ".#......"], 1), ([".#......", "#......."], 1),
        (["#.#", "###"], 1), (["###", "#.#", "###"], 1), (["#.#", "...", "#.#"], 4), (["#.#", ".#.", "#.#"], 1),
        (["####.", "....#", "####."], 1), (["#...#", "#...#", ".###."], 1), (["##..##", "......", "##..##"], 4),
    ],
)  # fmt: skip
def test_corners_join_cells_and_gaps_part_them(picture, count):
    mask = np.array([[cell == "#" for cell in row] for row in picture])
    labels, found = label(mask)
    assert found == count
    assert np.array_equal(labels > 0, mask)


def flood(mask: np.ndarray) -> np.ndarray:
    """Labels by flooding from each cell: slow, and obviously right."""
    labels = np.zeros(mask.shape, np.int32)
    number = 0
    for start in zip(*np.nonzero(mask), strict=True):
        if labels[start]:
            continue
        number += 1
        todo = [start]
        while todo:
            row, column = todo.pop()
            if 0 <= row < mask.shape[0] and 0 <= column < mask.shape[1] and mask[row, column] and not labels[row, column]:
                labels[row, column] = number
                todo += [(row + i, column + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    return labels


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.floats(0.05, 0.95), st.integers(0, 2**32 - 1))
def test_labels_are_those_of_flooding(height, width, share, seed):
    mask = np.random.default_rng(seed).random((height, width)) < share
    labels, count = label(mask)
    wanted = flood(mask)
    assert np.array_equal(labels, wanted)
    assert count == wanted.max(initial=0)


def test_labels_are_those_of_scipy():
    ndimage = pytest.importorskip("scipy.ndimage", reason="scipy is not installed (pip install 'onbelt[train]')")
    for seed in range(20):
        mask = np.random.default_rng(seed).random((56, 56)) < 0.3
        labels, count = label(mask)
        wanted, wanted_count = ndimage.label(mask, structure=np.ones((3, 3)))
        assert count == wanted_count
        assert np.array_equal(labels, wanted)


def test_judging_the_worst_map_stays_quick(manifest):
    checker = (np.indices((56, 56)).sum(axis=0) % 2).astype(np.float32) * 2
    dots = np.zeros((56, 56), np.float32)
    dots[::2, ::2] = 2.0
    judge = Judge(manifest)
    for worst in (checker, dots):
        best = math.inf
        for _ in range(5):
            begin = time.thread_time()
            judge.judge(scores(raw=9.0, st=2.0, maps=(worst, np.zeros_like(worst))))
            best = min(best, time.thread_time() - begin)
        print(f"worst map judged in {1000 * best:.2f} ms")
        assert best < 0.1
