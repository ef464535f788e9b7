"""The inspected region: what lies beside it moves no score, in the detector or in its graphs."""

import numpy as np
import pytest
import torch
from PIL import Image

from calibration.damage import damaged_frames
from edge.anomaly_map import to_picture
from edge.errors import DataError
from export.passes import passes_of
from export.run_graph import build_engine, score_all
from tests.support.detectors import pictures, random_detector
from tests.support.lgfdr import random_lgfdr
from training.errors import RecipeError
from training.inspection import cells_of, edges_of, read_region, restrict

SIZE = 128
LEFT_HALF = np.arange(200)[None, :].repeat(90, 0) < 100


def detector_of(name: str):
    """A detector without the global head in its score."""
    detector = random_lgfdr() if name == "lgfdr" else random_detector(directions=40, student_width=0.5)
    detector.fusion[6] = 0.0
    return detector


def restricted(name: str):
    """The same, with the left half inspected, and frames of good parts."""
    detector, frames = detector_of(name), pictures(6, SIZE)
    return detector, frames, restrict(detector, frames, LEFT_HALF)


def save(path, pixels):
    Image.fromarray(pixels).save(path)
    return path


def test_a_region_is_read_from_a_gray_picture(tmp_path):
    gray = np.where(LEFT_HALF, 255, 0).astype(np.uint8)
    assert np.array_equal(read_region(save(tmp_path / "part.png", gray)), LEFT_HALF)


@pytest.mark.parametrize(
    ("pixels", "said"),
    [
        (np.full((9, 9), 255, np.uint8), "white only"),
        (np.zeros((9, 9), np.uint8), "black only"),
        (np.zeros((9, 9, 3), np.uint8), "mode RGB; save it as gray"),
    ],
)
def test_regions_that_say_nothing_are_refused(tmp_path, pixels, said):
    with pytest.raises(DataError, match=said):
        read_region(save(tmp_path / "part.png", pixels))


def test_a_region_that_is_no_picture_is_refused(tmp_path):
    (tmp_path / "part.png").write_bytes(b"\x89PNG, cut off")
    with pytest.raises(DataError, match="not a readable picture"):
        read_region(tmp_path / "part.png")


@pytest.mark.parametrize("name", ["efficientad", "lgfdr"])
def test_a_cell_counts_where_its_place_in_the_picture_is_white(name):
    detector = detector_of(name)
    cells = cells_of(LEFT_HALF, edges_of(detector))
    assert cells.shape == detector.cell_st.shape[1:]
    assert (cells == cells[0]).all()
    if name == "efficientad":  # as heat maps draw it: the border between white and black lies in the middle
        drawn = to_picture(cells.astype(np.float32), 90, 200)
        assert drawn[:, :96].all()
        assert not drawn[:, 110:].any()


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        ("efficientad", [[12, 0]]),  # 64 / 4 - 3.625 = 12.4; the rim reaches to the edge
        ("lgfdr", [[16, 1]]),  # 64 / 4 + .375 = 16.4 and 3 / 4 + .375 = 1.1: four cells more before the first
    ],
)
def test_one_white_pixel_is_seen_by_the_cells_it_touches(name, seen):
    region = np.zeros((SIZE, SIZE), np.bool_)
    region[64, 3] = True
    assert np.argwhere(cells_of(region, edges_of(detector_of(name)))).tolist() == seen


@pytest.mark.parametrize("name", ["efficientad", "lgfdr"])
def test_nothing_beside_the_region_moves_a_score(name):
    detector, frames, share = restricted(name)
    assert 0.45 < share < 0.6
    _, map_st, map_ae = detector(torch.from_numpy(frames[:1]))
    beside = ~cells_of(LEFT_HALF, edges_of(random_detector(directions=40)))
    if name == "lgfdr":  # whose rim takes what lies beyond it
        beside[:, -1] = False
    for values in (map_st, map_ae):
        assert len(np.unique(values.numpy()[beside])) == 1
        assert len(np.unique(values.numpy()[:, :12])) > 100
    spoilt = frames[:1].copy()
    spoilt[:, :, 108:] = 255 - spoilt[:, :, 108:]  # further from the region than a teacher's or student's patch reaches
    changed = detector.maps(torch.from_numpy(spoilt).permute(0, 3, 1, 2).float() / 255)[0]
    unchanged = detector.maps(torch.from_numpy(frames[:1]).permute(0, 3, 1, 2).float() / 255)[0]
    assert not torch.equal(changed, unchanged)
    if name == "efficientad":
        st = [detector(torch.from_numpy(one))[0][1].item() for one in (frames[:1], spoilt)]
        assert st[0] == pytest.approx(st[1], rel=1e-5)


@pytest.mark.parametrize("name", ["efficientad", "lgfdr"])
def test_constants_of_the_score_are_those_of_the_inspected_cells(name):
    whole = detector_of(name)
    restrict(whole, pictures(6, SIZE), np.ones((9, 9), np.bool_))
    detector, _, _ = restricted(name)
    assert detector.fusion[0] != whole.fusion[0]
    assert detector.fusion[[2, 5, 6]].tolist() == whole.fusion[[2, 5, 6]].tolist()
    assert torch.isfinite(detector.q_st).all()
    assert torch.isinf(detector.cell_st[1]).any()


@pytest.mark.parametrize("name", ["efficientad", "lgfdr"])
def test_graphs_leave_out_what_the_detector_leaves_out(name):
    detector, frames, _ = restricted(name)
    passes = passes_of(detector)
    expected = np.array([detector(torch.from_numpy(frame[None]))[0].tolist() for frame in frames])
    with build_engine(passes.float_graph(), SIZE, "fp32", "onnxruntime") as engine:
        in_float = score_all(engine, frames, "float")
    assert np.allclose(in_float, expected, rtol=1e-3, atol=1e-3)
    quantizer = passes.quantizer(np.concatenate([frames[:2], damaged_frames(frames[:2], 2, 0)]), 63)
    with build_engine(quantizer.graph(), SIZE, "int8", "onnxruntime") as engine:
        assert np.isfinite(score_all(engine, frames, "INT8")).all()


def test_a_counting_global_head_allows_no_region():
    detector = random_detector(directions=40)
    with pytest.raises(RecipeError, match="global head pools the whole picture"):
        restrict(detector, pictures(4, SIZE), LEFT_HALF)
