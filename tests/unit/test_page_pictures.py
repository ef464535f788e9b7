"""The page's pictures: what is drawn, how large, how often."""

import io

import numpy as np
import pytest
from PIL import Image

from edge.anomaly_map import to_picture
from edge.page.live import LiveView, PartView
from edge.page.pictures import CACHE_ENTRIES, SHOWN_SIDE_PX, Pictures, encode_heat, encode_jpeg


def rgba(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGBA")).astype(int)


def add(view: LiveView, seq: int, *, side: int = 32, heat: float | None = 0.8) -> None:
    pixels = np.full((side, side, 3), seq % 256, np.uint8)
    anomaly = None if heat is None else np.full((24, 24), heat, np.float32)
    view.add_part(PartView(seq, "", "reject", ("st",), 1.2, 0.0, 1.2, 0.1, 0.1, 9.0, 100.0, 0, pixels, anomaly))


def test_a_frame_keeps_its_colours():
    pixels = np.zeros((64, 96, 3), np.uint8)
    pixels[:, :48] = (200, 30, 40)
    back = np.asarray(Image.open(io.BytesIO(encode_jpeg(pixels)))).astype(int)
    assert back.shape == (64, 96, 3)
    assert np.abs(back[32, 10] - (200, 30, 40)).max() < 12
    assert back[32, 90].max() < 12


@pytest.mark.parametrize(("width", "height"), [(720, 720), (721, 400), (2592, 1944), (64, 3000)])
def test_a_large_frame_is_shrunk_in_proportion(width, height):
    picture = Image.open(io.BytesIO(encode_jpeg(np.zeros((height, width, 3), np.uint8))))
    assert max(picture.size) <= SHOWN_SIDE_PX
    factor = max(width, height) / max(picture.size)
    assert min(picture.size) == pytest.approx(min(width, height) / factor, abs=1)


def test_a_frame_that_is_a_view_into_another_array_is_drawn_as_it_looks():
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:4, :, 2] = 255
    back = np.asarray(Image.open(io.BytesIO(encode_jpeg(pixels[::-1]))))
    assert back[-1, 16, 2] > 200
    assert back[0, 16, 2] < 50


def test_heat_is_clear_below_half_the_limit_yellow_above_and_red_from_the_limit_on():
    levels = {0.0: None, 0.49: None, 0.6: "yellow", 1.0: "red", 30.0: "red"}
    for level, name in levels.items():
        red, green, blue, alpha = rgba(encode_heat(np.full((24, 24), level, np.float32)))[128, 128]
        if name is None:
            assert alpha == 0, level
        elif name == "yellow":
            assert 0 < alpha < 200, level
            assert red > 240 > green > 180 > 100 > blue, level
        else:
            assert alpha == 255, level
            assert red > 200 > 40 > green, level
            assert blue < 40, level


def test_heat_lies_where_the_map_has_its_hill():
    anomaly = np.zeros((24, 24), np.float32)
    anomaly[5, 17] = 3.0
    opaque = rgba(encode_heat(anomaly))[..., 3] == 255
    want = to_picture(anomaly, 256, 256) >= 1.0
    rows, columns = np.nonzero(opaque)
    # A map of 24 cells is that of a 128 px input, and the middle of cell j lies at 4 j + 16.5 px of it.
    assert rows.mean() / 256 == pytest.approx((4 * 5 + 16.5) / 128, abs=0.01)
    assert columns.mean() / 256 == pytest.approx((4 * 17 + 16.5) / 128, abs=0.01)
    # The last step below the limit shares the limit's colour.
    assert (opaque | ~want).all()
    assert opaque.sum() <= want.sum() * 1.1 + 4


def test_heat_of_a_map_with_values_that_are_not_finite_is_drawn_all_the_same():
    anomaly = np.array([[np.nan, np.inf], [-np.inf, 0.7]], np.float32)
    assert rgba(encode_heat(anomaly)).shape == (256, 256, 4)


def test_a_picture_is_encoded_once(monkeypatch):
    calls = []

    def counted(pixels):
        calls.append(pixels.shape)
        return encode_jpeg(pixels)

    monkeypatch.setattr("edge.page.pictures.encode_jpeg", counted)
    view = LiveView()
    add(view, 1)
    pictures = Pictures(view)
    assert pictures.jpeg(1) is pictures.jpeg(1)
    assert len(calls) == 1


def test_what_is_not_kept_or_never_was_is_none():
    view = LiveView()
    add(view, 1, heat=None)
    pictures = Pictures(view)
    assert pictures.jpeg(1) is not None
    assert pictures.heat(1) is None
    assert pictures.jpeg(2) is None


def test_the_cache_of_encoded_pictures_is_bounded():
    view = LiveView()
    pictures = Pictures(view)
    for seq in range(3 * CACHE_ENTRIES):
        add(view, seq)
        assert pictures.jpeg(seq) is not None
        assert pictures.heat(seq) is not None
    assert len(pictures._cache) == CACHE_ENTRIES


def test_large_frames_and_many_readers_are_told_to_ask_less_often():
    small, large = LiveView(), LiveView()
    few, many = Pictures(small), Pictures(large)
    for seq in range(20):
        add(small, seq)
        few.jpeg(seq)
    few._encode_ms, many._encode_ms = 1.0, 8.0
    assert few.interval_ms(0) == few.interval_ms(1) == 100.0
    assert many.interval_ms(1) == 400.0
    assert many.interval_ms(3) == 1200.0
    assert many.interval_ms(100) == 2000.0


def test_the_cost_of_a_large_frame_is_noticed():
    view = LiveView()
    pictures = Pictures(view)
    before = pictures._encode_ms
    for seq in range(12):
        add(view, seq, side=2000)
        pictures.jpeg(seq)
    assert pictures._encode_ms > before
