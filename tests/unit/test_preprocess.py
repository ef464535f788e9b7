"""Preprocessing is a definition: fixed pictures give fixed bytes, and what cannot be judged is refused by name."""

import hashlib
import multiprocessing

import numpy as np
import pytest
from PIL import Image

from edge.errors import PictureError
from edge.preprocess import fit, read_picture


def ramp(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([(x * 7 + y * 3) % 256, (x * 2 + y * 11) % 256, (x ^ y) % 256], axis=2).astype(np.uint8)


@pytest.mark.parametrize(
    ("shape", "digest"),
    [((1200, 1920), "3130aa144161fb7b"), ((256, 256), "33e2a175516a4e4a"), ((100, 90), "632acb26900513d3")],
)
def test_fixed_picture_gives_fixed_bytes(shape, digest):
    out = fit(ramp(*shape), 128)
    assert out.shape == (128, 128, 3)
    assert hashlib.sha256(out.tobytes()).hexdigest()[:16] == digest


@pytest.mark.parametrize(("shape", "size"), [((1200, 1920), 256), ((1080, 1920), 128), ((1024, 1280), 256), ((960, 1280), 160)])
def test_two_bands_give_the_bytes_of_one(shape, size, monkeypatch):
    frame = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    banded = fit(frame, size)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0})
    assert np.array_equal(fit(frame, size), banded)


def test_the_direction_that_goes_first_is_ours_to_choose():
    # Pillow 13 shrinks these proportions vertically first, Pillow 12 horizontally: the last bit of a quarter of the bytes.
    frame = np.random.default_rng(0).integers(0, 256, (300, 275, 3), dtype=np.uint8)
    across = Image.fromarray(frame).resize((256, 300), Image.Resampling.BILINEAR)
    assert np.array_equal(fit(frame, 256), np.asarray(across.resize((256, 256), Image.Resampling.BILINEAR)))


def test_only_frames_four_times_as_large_are_averaged_in_blocks():
    frame = np.random.default_rng(0).integers(0, 256, (512, 800, 3), dtype=np.uint8)
    plain = np.asarray(Image.fromarray(frame[:511]).resize((128, 128), Image.Resampling.BILINEAR))
    assert np.array_equal(fit(frame[:511], 128), plain)
    blocks = Image.fromarray(frame).reduce((6, 4))
    averaged = blocks.resize((128, 128), Image.Resampling.BILINEAR, box=(0, 0, 800 / 6, 128))
    assert np.array_equal(fit(frame, 128), np.asarray(averaged))


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_process_has_a_second_thread_of_its_own():
    frame = ramp(1200, 1920)
    expected = fit(frame, 128)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert np.array_equal(pool.apply_async(fit, (frame, 128)).get(timeout=30), expected)


def test_frame_of_the_right_size_is_untouched():
    frame = ramp(128, 128)
    assert fit(frame, 128) is frame or np.array_equal(fit(frame, 128), frame)


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((64, 64), np.uint8),
        np.zeros((64, 64, 3), np.uint16),
        np.zeros((64, 64, 4), np.uint8),
        np.zeros((8, 64, 3), np.uint8),
    ],
)
def test_fit_refuses_what_is_no_frame(frame):
    with pytest.raises(PictureError, match="expected a frame"):
        fit(frame, 128)


def save(tmp_path, image: Image.Image, name: str, **options):
    path = tmp_path / name
    image.save(path, **options)
    return path


def test_gray_palette_alpha_and_rgb_are_read_alike(tmp_path):
    gray = Image.fromarray(ramp(40, 40)[:, :, 0])
    wanted = np.repeat(np.asarray(gray)[:, :, None], 3, axis=2)
    for name, image in (("l", gray), ("p", gray.convert("P")), ("rgb", gray.convert("RGB")), ("rgba", gray.convert("RGBA"))):
        assert np.array_equal(read_picture(save(tmp_path, image, f"{name}.png")), wanted), name


def test_exif_rotation_is_applied(tmp_path):
    image = Image.fromarray(ramp(30, 50))
    exif = Image.Exif()
    exif[0x0112] = 6
    read = read_picture(save(tmp_path, image, "turned.png", exif=exif))
    assert np.array_equal(read, np.rot90(ramp(30, 50), -1))


def test_a_damaged_exif_field_is_said_and_names_the_picture(tmp_path):
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "maker", 6
    path = save(tmp_path, Image.fromarray(ramp(30, 50)), "turned.jpg", exif=exif)
    whole = bytearray(path.read_bytes())
    first_tag = whole.index(b"Exif") + 16  # behind "Exif", the byte order's eight bytes and the number of tags
    assert whole[first_tag : first_tag + 2] == b"\x01\x0f"
    whole[first_tag + 1] = 0x24  # a name where a number belongs: Pillow fails to write the turned picture's field
    path.write_bytes(whole)
    with pytest.raises(PictureError, match=r"turned\.jpg: not a readable picture"):
        read_picture(path)


@pytest.mark.parametrize(
    ("mode", "suffix", "remedy"),
    [("I;16", "png", "16-bit"), ("CMYK", "jpg", "CMYK"), ("F", "tif", "mode F")],
)
def test_colour_models_we_will_not_guess_at_are_refused(tmp_path, mode, suffix, remedy):
    image = Image.fromarray(np.zeros((32, 32), np.uint16)) if mode == "I;16" else Image.new(mode, (32, 32))
    path = save(tmp_path, image, f"odd.{suffix}")
    with pytest.raises(PictureError, match=remedy) as caught:
        read_picture(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("size", [(1, 1), (15, 300)])
def test_tiny_pictures_are_refused(tmp_path, size):
    with pytest.raises(PictureError, match="at least 16 px"):
        read_picture(save(tmp_path, Image.new("RGB", size), "tiny.png"))


def test_missing_truncated_and_foreign_files_are_refused(tmp_path):
    with pytest.raises(PictureError, match="no such picture"):
        read_picture(tmp_path / "none.png")
    whole = save(tmp_path, Image.fromarray(ramp(64, 64)), "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    for name in ("cut", "text", "empty", "folder"):
        with pytest.raises(PictureError, match="not a readable picture"):
            read_picture(tmp_path / f"{name}.png")
