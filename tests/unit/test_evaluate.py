import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.structural import structural_figures
from edge import cli
from edge.errors import ConfigError, DataError, PictureError, SignatureError
from tests.support.bundles import SIZE, bad_frame, good_frame, make_tiny_bundle
from training.datasets import open_dataset
from training.evaluate import evaluate, leaked_pictures, to_json
from training.evaluate.baseline import colour_auroc, untrained_auroc

MIDDLE = slice(SIZE // 2 - 4, SIZE // 2 + 4)  # where `bad_frame` puts its patch


def save(path: Path, frame: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(frame).save(path)


def save_mask(path: Path, value: int, where: tuple[slice, slice] = (MIDDLE, MIDDLE)) -> None:
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[where] = value
    save(path, mask)


@pytest.fixture
def bundle(tmp_path):
    return make_tiny_bundle(tmp_path / "model")


@pytest.fixture
def loco(tmp_path):
    """Scores of the tiny graph are (channel - 100) / 50 with the limit at 1, so 160 is rejected and 140 passes."""
    root = tmp_path / "box"
    for i in range(6):
        save(root / f"train/good/{i}.png", good_frame(seed=i))
        save(root / f"test/good/{i}.png", good_frame(seed=50 + i))
    save(root / "validation/good/0.png", good_frame(seed=40))
    save(root / "test/good/9.png", bad_frame("structural", value=160))  # a good part that looks bad
    for i, value in enumerate((140, 200, 240)):
        save(root / f"test/logical_anomalies/{i}.png", bad_frame("logical", value=value, seed=i))
        save_mask(root / f"ground_truth/logical_anomalies/{i}/000.png", 255)
        save(root / f"test/structural_anomalies/{i}.png", bad_frame("structural", value=value + 5, seed=i))
        save_mask(root / f"ground_truth/structural_anomalies/{i}/000.png", 254)
    rows = [
        {"defect_name": name, "pixel_value": value, "saturation_threshold": 1.0, "relative_saturation": True}
        for name, value in (("missing", 255), ("scratch", 254))
    ]
    (root / "defects_config.json").write_text(json.dumps(rows))
    return root


def test_figures_follow_from_scores_known_beforehand(bundle, loco):
    path, trust, _ = bundle
    found = evaluate(path, loco, engine="onnxruntime", trust=trust)
    figures = to_json(found)
    # Bad parts score .8 .9 2.0 2.1 2.8 2.9, good ones about 0 and one 1.2: it beats 2 of 6.
    assert figures["image_auroc"] == pytest.approx(1 - 2 / (6 * 7))
    assert figures["by_type"]["logical_anomalies"]["image_auroc"] == pytest.approx(1 - 1 / (3 * 7))
    assert figures["image_auroc_mean"] == pytest.approx(1 - 1 / (3 * 7))
    assert (figures["images"], figures["good"], figures["bad"]) == (13, 7, 6)
    assert (figures["false_rejects"], figures["false_reject_rate"]) == (1, pytest.approx(1 / 7))
    assert figures["false_reject_interval"] == [pytest.approx(0.00361, abs=1e-5), pytest.approx(0.5787, abs=1e-4)]
    assert (figures["missed"], figures["miss_rate"]) == (2, pytest.approx(1 / 3))
    assert figures["by_type"]["structural_anomalies"]["missed"] == 1
    assert figures["engine"].startswith("onnxruntime")
    assert 0 < figures["seconds_per_picture"] < 1


def test_each_branch_is_ranked_alone(bundle, loco):
    path, trust, _ = bundle
    figures = to_json(evaluate(path, loco, trust=trust))
    logical, structural = (figures["by_type"][name]["branches"] for name in ("logical_anomalies", "structural_anomalies"))
    assert logical["ae"] == 1.0
    assert structural["ae"] < 0.9
    assert structural["st"] == pytest.approx(1 - 1 / (3 * 7))
    assert logical["maps"] == pytest.approx(figures["by_type"]["logical_anomalies"]["image_auroc"])
    assert 0 <= logical["global"] <= 1


def test_named_defects_are_told_apart(bundle, loco):
    path, trust, _ = bundle
    figures = to_json(evaluate(path, loco, trust=trust))
    assert list(figures["by_defect"]) == ["missing", "scratch"]
    assert figures["by_defect"]["scratch"]["bad"] == 3
    assert figures["by_defect"]["scratch"] == figures["by_type"]["structural_anomalies"]


def test_causes_are_held_against_the_types(bundle, loco):
    path, trust, _ = bundle
    save(loco / "test/logical_anomalies/7.png", bad_frame("structural", value=240))  # the model will say structural
    save_mask(loco / "ground_truth/logical_anomalies/7/000.png", 255)
    cause = to_json(evaluate(path, loco, trust=trust))["cause"]
    assert cause["table"]["logical"] == {"logical": 2, "structural": 1, "global": 0}
    assert cause["table"]["structural"] == {"logical": 0, "structural": 2, "global": 0}
    assert cause["n"] == 5
    assert cause["accuracy"] == pytest.approx(4 / 5)


def test_maps_find_marked_pixels_and_fail_where_marks_lie_elsewhere(bundle, loco):
    path, trust, _ = bundle
    right = to_json(evaluate(path, loco, trust=trust))
    assert right["pixel_auroc"] > 0.98
    assert right["au_spro_0.05"] > 0.9
    assert right["pixel_images"] == 13
    for mask in loco.glob("ground_truth/*/*/000.png"):
        value = int(np.asarray(Image.open(mask)).max())
        save_mask(mask, value, (slice(0, 8), slice(0, 8)))
    wrong = to_json(evaluate(path, loco, trust=trust))
    assert wrong["pixel_auroc"] < 0.7
    assert wrong["au_spro_0.05"] < 0.3
    assert wrong["image_auroc"] == right["image_auroc"]


def test_saturation_counts_for_spro_and_not_for_pro(bundle, loco):
    path, trust, _ = bundle
    for mask in loco.glob("ground_truth/*/*/000.png"):  # twice as tall as what can be found
        save_mask(mask, int(np.asarray(Image.open(mask)).max()), (slice(28, 44), MIDDLE))
    whole = to_json(evaluate(path, loco, trust=trust))
    table = json.loads((loco / "defects_config.json").read_text())
    for row in table:
        row["saturation_threshold"] = 0.5
    (loco / "defects_config.json").write_text(json.dumps(table))
    half = to_json(evaluate(path, loco, trust=trust))
    assert half["au_pro_0.05"] == whole["au_pro_0.05"] == whole["au_spro_0.05"]
    assert half["au_spro_0.05"] > whole["au_spro_0.05"] + 0.2


def test_without_a_table_spro_is_pro_and_without_masks_there_is_neither(bundle, loco):
    path, trust, _ = bundle
    (loco / "defects_config.json").unlink()
    figures = to_json(evaluate(path, loco, trust=trust))
    assert figures["au_spro_0.3"] == pytest.approx(figures["au_pro_0.3"], abs=1e-12)
    assert figures["by_defect"] == {}
    shutil.rmtree(loco / "ground_truth/logical_anomalies")
    figures = to_json(evaluate(path, loco, trust=trust))
    assert figures["pixel_images"] == 10
    assert figures["by_type"]["logical_anomalies"]["pixel_auroc"] is None
    shutil.rmtree(loco / "ground_truth")
    figures = to_json(evaluate(path, loco, trust=trust))
    assert figures["pixel_auroc"] is None
    assert figures["au_spro_0.05"] is None
    assert figures["image_auroc"] > 0.9


def test_map_st_alone_outlines_structural_defects_whatever_map_ae_says_of_good_parts(bundle, loco):
    path, trust, _ = bundle
    save(loco / "test/good/9.png", bad_frame("logical", value=250))  # loud in map_ae, silent in map_st
    found = evaluate(path, loco, trust=trust)
    figures = structural_figures(found, open_dataset(loco))
    shown = to_json(found)["by_type"]["structural_anomalies"]
    assert (figures["structural_ap"], figures["structural_pro"]) == (shown["pixel_ap"], shown["au_pro_0.3"])
    assert figures["st_ap"] > figures["structural_ap"] + 0.1
    assert figures["st_pro"] >= figures["structural_pro"]
    shutil.rmtree(loco / "ground_truth/structural_anomalies")
    assert structural_figures(evaluate(path, loco, trust=trust), open_dataset(loco)) == {}


def test_good_parts_alone_give_the_false_reject_rate(bundle, tmp_path):
    path, trust, _ = bundle
    for i in range(8):
        save(tmp_path / f"fresh/{i}.png", good_frame(seed=i) if i else bad_frame())
    figures = to_json(evaluate(path, tmp_path / "fresh", trust=trust))
    assert (figures["images"], figures["false_rejects"], figures["image_auroc"]) == (8, 1, None)
    assert figures["by_type"] == {}
    assert figures["cause"] is None


def test_the_parts_a_limit_was_fitted_on_prove_nothing(tmp_path):
    for i in range(8):
        save(tmp_path / f"old/{i}.png", good_frame(seed=i))
    known = open_dataset(tmp_path / "old").data_sha256

    def remember(manifest):
        from msgspec.structs import replace

        return replace(manifest, provenance=replace(manifest.provenance, data_sha256=known))

    path, trust, _ = make_tiny_bundle(tmp_path / "model", edit=remember)
    with pytest.raises(DataError, match="pictures it has not seen"):
        evaluate(path, tmp_path / "old", trust=trust)


def test_test_pictures_that_were_learnt_from_are_found(loco):
    assert leaked_pictures(open_dataset(loco)) == []
    shutil.copy(loco / "train/good/3.png", loco / "test/good/again.png")
    shutil.copy(loco / "validation/good/0.png", loco / "test/good/also.png")
    assert [item.path.name for item in leaked_pictures(open_dataset(loco))] == ["again.png", "also.png"]


def test_colour_alone_solves_tinted_parts_and_not_moved_ones(tmp_path):
    rng = np.random.default_rng(3)
    for i in range(20):
        frame = rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)
        save(tmp_path / f"data/train/good/{i}.png", frame)
        save(tmp_path / f"data/test/good/{i}.png", rng.integers(0, 255, (64, 64, 3), dtype=np.uint8))
        save(tmp_path / f"data/test/tinted/{i}.png", (frame * np.array([1.0, 0.8, 1.0])).astype(np.uint8))
    assert colour_auroc(open_dataset(tmp_path / "data")) == pytest.approx(1.0, abs=0.01)
    shutil.rmtree(tmp_path / "data/test/tinted")
    for i in range(20):
        save(tmp_path / f"data/test/same/{i}.png", rng.integers(0, 255, (64, 64, 3), dtype=np.uint8))
    assert colour_auroc(open_dataset(tmp_path / "data")) == pytest.approx(0.5, abs=0.25)


def test_an_untrained_network_sees_a_change_of_colour_and_not_of_place(tmp_path, capsys):
    rng = np.random.default_rng(8)

    def part(column: int, colour: int) -> np.ndarray:
        frame = rng.integers(90, 110, (128, 128, 3), dtype=np.uint8)
        frame[56:72, column : column + 16, 0] = colour
        return frame

    for i in range(12):
        for place, column, colour in (
            ("train/good", 40, 200), ("test/good", 40, 200), ("test/moved", 72, 200), ("test/other_colour", 40, 30),
        ):  # fmt: skip
            save(tmp_path / f"data/{place}/{i}.png", part(column, colour))
    areas = untrained_auroc(open_dataset(tmp_path / "data"), 128)
    assert areas.keys() == {"moved", "other_colour"}
    assert areas["other_colour"] > 0.95
    assert areas["moved"] < 0.85

    shutil.rmtree(tmp_path / "data/test/good")
    with pytest.raises(DataError, match="good and bad test pictures"):
        untrained_auroc(open_dataset(tmp_path / "data"), 128)


def test_what_cannot_be_evaluated_is_refused(bundle, loco, tmp_path):
    path, trust, _ = bundle
    with pytest.raises(SignatureError):
        evaluate(path, loco)
    with pytest.raises(ConfigError, match=r"expected a bundle, NAME\.onbelt, or the folder of a run"):
        evaluate(tmp_path / "absent.onbelt", loco, trust=trust)
    with pytest.raises(ConfigError, match="expected --engine openvino or onnxruntime"):
        evaluate(path, loco, engine="torch", trust=trust)
    with pytest.raises(ConfigError, match="expected --engine torch for a run"):
        evaluate(tmp_path, loco, engine="openvino")
    (loco / "test/good/0.png").write_bytes(b"no picture")
    with pytest.raises(PictureError, match=r"0\.png"):
        evaluate(path, loco, trust=trust)


def run_cli(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, Any]:
    code = cli.main(["evaluate", *map(str, words)])
    return code, capsys.readouterr()


def test_command_prints_one_json_object_with_the_promised_keys(bundle, loco, capsys):
    path, _, trust_folder = bundle
    code, out = run_cli(capsys, path, loco, "--trust", trust_folder, "--json")
    assert code == 0
    figures = json.loads(out.out)
    promised = {"image_auroc", "by_type", "pixel_auroc", "au_spro_0.05", "images", "engine", "false_reject_rate"}
    assert promised <= set(figures)
    assert figures["images"] == 13


def test_command_prints_a_table_for_people(bundle, loco, capsys):
    path, _, trust_folder = bundle
    code, out = run_cli(capsys, path, loco, "--trust", trust_folder)
    assert code == 0
    for words in ("13 pictures: 7 good, 6 bad", "structural_anomalies", "0.952", "false rejects: 1 of 7", "cause right for 100%"):
        assert words in out.out
    assert max(map(len, out.out.splitlines())) <= 120


def test_command_prints_the_baseline_beside_the_figures(bundle, loco, capsys):
    path, _, trust_folder = bundle
    assert SIZE >= 64
    code, out = run_cli(capsys, path, loco, "--trust", trust_folder, "--baselines", "--json")
    assert code == 0
    areas = json.loads(out.out)["untrained_image_auroc"]
    assert areas.keys() == {"logical_anomalies", "structural_anomalies"}
    code, out = run_cli(capsys, path, loco, "--trust", trust_folder, "--baselines")
    assert f"{areas['logical_anomalies']:.3f} on logical_anomalies" in out.out


def test_command_warns_of_leaked_pictures(bundle, loco, capsys):
    path, _, trust_folder = bundle
    shutil.copy(loco / "train/good/3.png", loco / "test/good/again.png")
    _, out = run_cli(capsys, path, loco, "--trust", trust_folder)
    assert "WARNING: 1 of 14 test pictures are also training" in out.out


def test_command_ends_with_the_exit_code_of_the_fault(bundle, loco, tmp_path, capsys):
    path, _, trust_folder = bundle
    assert run_cli(capsys, path, loco)[0] == 3  # nobody trusts this key
    code, out = run_cli(capsys, path, tmp_path / "absent", "--trust", trust_folder)
    assert code == 1
    assert "no such folder" in out.err
    assert run_cli(capsys, path, loco, "--trust", tmp_path / "absent")[0] == 2
