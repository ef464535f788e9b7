"""`onbelt judge`: one line for each picture, good or not; `--json` keeps to the documented keys."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edge.cli import main
from edge.commands.judge import _heatmap_names
from tests.support.bundles import SIZE, bad_frame, expected_scores, good_frame, make_tiny_bundle


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A folder with a bundle, pictures of each kind, and files that are no pictures."""
    folder = tmp_path_factory.mktemp("shop")
    make_tiny_bundle(folder, nan_above=240.0)
    Image.fromarray(good_frame()).save(folder / "good.png")
    for cause in ("structural", "logical", "global"):
        Image.fromarray(bad_frame(cause)).save(folder / f"{cause}.png")
    Image.fromarray(np.full((SIZE, SIZE, 3), 255, np.uint8)).save(folder / "blinding.png")
    Image.fromarray(bad_frame()).resize((4 * SIZE, 3 * SIZE), Image.Resampling.NEAREST).save(folder / "large.png")
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


def judge(shop, *names: str, json_lines: bool = True, options: tuple[str, ...] = ()) -> int:
    words = [
        "judge",
        str(shop / "tiny.onbelt"),
        *(str(shop / name) for name in names),
        "--trust",
        str(shop / "trusted"),
        *options,
    ]
    return main([*words, "--json"] if json_lines else words)


def lines(capsys) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_each_picture_gets_its_verdict(shop, capsys, engine):
    status = judge(
        shop, "good.png", "structural.png", "logical.png", "global.png", options=("--engine", engine, "--threads", "1")
    )
    found = lines(capsys)
    assert status == 0
    assert [line["verdict"] for line in found] == ["pass", "reject", "reject", "reject"]
    assert [line["cause"] for line in found] == [None, "structural", "logical", "global"]
    assert [line["picture"].rsplit("/", 1)[1] for line in found] == ["good.png", "structural.png", "logical.png", "global.png"]
    frames = [good_frame(), *map(bad_frame, ("structural", "logical", "global"))]
    for line, frame in zip(found, frames, strict=True):
        wanted = expected_scores(frame)
        assert (line["score"], line["st"], line["ae"], line["global"]) == pytest.approx(wanted, abs=1e-4)
        assert line["infer_ms"] > 0
        assert line["reason"] is None
    assert found[0]["p"] == 1.0
    assert found[1]["p"] == pytest.approx(1 / 101)
    assert found[0]["regions"] == []
    (region,) = found[1]["regions"]
    assert region["branch"] == "st"
    assert region["x"] <= 0.5 <= region["x"] + region["w"]


def test_bad_pictures_are_invalid_and_the_others_are_judged(shop, capsys):
    status = judge(shop, "broken.png", "good.png", "missing.png", "blinding.png", "structural.png")
    found = lines(capsys)
    assert status == 1
    assert [line["verdict"] for line in found] == ["invalid", "pass", "invalid", "invalid", "reject"]
    for line, reason in ((found[0], "not a readable picture"), (found[2], "no such picture"), (found[3], "finite scores")):
        assert reason in line["reason"]
        assert [line[key] for key in ("score", "p", "cause", "infer_ms", "st", "ae", "global")] == [None] * 7
        assert line["regions"] == []
    assert all(line.keys() == found[0].keys() for line in found)


def test_text_is_one_line_each(shop, capsys):
    assert judge(shop, "good.png", "broken.png", "structural.png", json_lines=False) == 1
    good, broken, structural = capsys.readouterr().out.splitlines()
    assert "pass" in good
    assert "score 0.0" in good
    assert "invalid" in broken
    assert "not a readable picture" in broken
    assert "reject" in structural
    assert "structural at 48 % across, 48 % down" in structural


def test_the_same_picture_gives_the_same_numbers_in_every_run(shop, capsys):
    found = []
    for _ in range(2):
        judge(shop, "structural.png", "good.png")
        found.append([{key: value for key, value in line.items() if key != "infer_ms"} for line in lines(capsys)])
    assert found[0] == found[1]


def test_heat_maps_show_where(shop, capsys, tmp_path):
    maps = tmp_path / "new" / "maps"
    assert judge(shop, "good.png", "large.png", "broken.png", options=("--heatmaps", str(maps))) == 1
    assert sorted(path.name for path in maps.iterdir()) == ["good.png", "large.png"]
    untouched = np.asarray(Image.open(maps / "good.png"))
    assert np.array_equal(untouched, good_frame())
    drawn = np.asarray(Image.open(maps / "large.png")).astype(int)
    plain = np.asarray(Image.open(shop / "large.png")).astype(int)
    assert drawn.shape == plain.shape
    changed = np.abs(drawn - plain).sum(axis=2) > 60
    rows, columns = np.nonzero(changed)
    assert abs(rows.mean() / (3 * SIZE) - 0.5) < 0.05
    assert abs(columns.mean() / (4 * SIZE) - 0.5) < 0.05
    assert changed.mean() < 0.1


def test_heat_maps_of_one_name_do_not_overwrite_each_other(shop):
    pictures = [Path("a/x.png"), Path("b/x.png"), Path("a/y.jpg"), Path("c/x.jpg")]
    assert _heatmap_names(pictures) == ["x.png", "x~2.png", "y.png", "x~3.png"]


def test_a_folder_for_heat_maps_that_cannot_be_made_is_a_usage_error(shop, capsys):
    assert judge(shop, "good.png", options=("--heatmaps", str(shop / "good.png" / "maps"))) == 2
    assert "cannot make this folder" in capsys.readouterr().err


def test_a_bundle_that_is_not_trusted_judges_nothing(shop, capsys, tmp_path):
    status = main(["judge", str(shop / "tiny.onbelt"), str(shop / "good.png")])
    out, err = capsys.readouterr()
    assert status == 3
    assert out == ""
    assert "which this box does not trust" in err
    assert "/etc/onbelt/trusted" in err
    altered = bytearray((shop / "tiny.onbelt").read_bytes())
    altered[len(altered) // 2] ^= 1
    (tmp_path / "altered.onbelt").write_bytes(altered)
    status = main(["judge", str(tmp_path / "altered.onbelt"), str(shop / "good.png"), "--trust", str(shop / "trusted")])
    assert status == 3
    assert "altered.onbelt: " in capsys.readouterr().err


def test_a_missing_bundle_and_a_missing_trust_folder_are_named(shop, capsys):
    assert main(["judge", str(shop / "none.onbelt"), str(shop / "good.png")]) == 3
    assert "no such bundle" in capsys.readouterr().err
    assert main(["judge", str(shop / "tiny.onbelt"), str(shop / "good.png"), "--trust", str(shop / "none")]) == 2
    assert "expected a folder of trusted keys" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [[], ["x.onbelt"], ["x.onbelt", "y.png", "--engine", "tpu"], ["x.onbelt", "y.png", "--threads", "0"]]
)
def test_wrong_usage_is_exit_status_2(words, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["judge", *words])
    assert caught.value.code == 2
    assert "usage: onbelt judge" in capsys.readouterr().err


def test_a_p_value_is_never_zero_and_never_above_one(shop, capsys):
    judge(shop, "good.png", "structural.png", "global.png")
    assert all(0 < line["p"] <= 1 and math.isfinite(line["score"]) for line in lines(capsys))
