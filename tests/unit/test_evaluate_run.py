"""Evaluating a run: the float network in torch, held against its validation parts."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from edge.errors import DataError, EngineError, OnbeltError
from edge.preprocess import fit, read_picture
from tests.support.bundles import bad_frame, good_frame, make_tiny_bundle
from training.calibrate import fit_detector
from training.datasets import load_frames, open_dataset
from training.evaluate import evaluate, open_subject, to_json
from training.evaluate.subject import TorchEngine
from training.families import family_of
from training.networks.detector import Detector
from training.recipe import make_config
from training.run import RunRecord, load_run, package_versions, save_run
from training.teacher.store import TeacherInfo

SIDE = 128


def save(path: Path, frame: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(frame).save(path)


@pytest.fixture(scope="module")
def product(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "blocks"
    for i in range(10):
        save(root / f"train/good/{i}.png", good_frame(SIDE, seed=i))
    for i in range(3):
        save(root / f"test/good/{i}.png", good_frame(SIDE, seed=50 + i))
        save(root / f"test/structural_anomalies/{i}.png", bad_frame("structural", SIDE, value=250, seed=60 + i))
    return root


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory, product):
    """A run whose networks never trained: quantiles, head and fusion are fitted as after any training."""
    torch.manual_seed(0)
    data = open_dataset(product, seed=3)
    config = make_config("efficientad-s", size=SIDE, seed=3)
    detector = family_of(config).empty(config)
    assert isinstance(detector, Detector)
    fit_detector(detector, load_frames(data.train, SIDE), load_frames(data.validation, SIDE), torch.device("cpu"))
    record = RunRecord(
        config=config,
        product=data.name,
        data_sha256=data.data_sha256,
        split=data.split,
        pictures={"train": len(data.train), "validation": len(data.validation)},
        teacher=TeacherInfo("pdn-s", "none", 0, "", 0, 0, 1, SIDE, 0, 1.0, 1.0, complete=True),
        teacher_sha256="ab" * 32,
        natural="none",
        steps=0,
        wall_s=0.0,
        figures={},
        warnings=["these networks never trained"],
        packages=package_versions(),
        commit="",
        created_utc="2026-01-01T00:00:00Z",
    )
    folder = tmp_path_factory.mktemp("runs") / "blocks-1"
    folder.mkdir()
    save_run(folder, record, detector)
    return folder


@pytest.fixture(scope="module")
def found(run_folder, product):
    return evaluate(run_folder, product, engine="torch")


def test_scores_are_the_detectors_own_and_the_limit_is_the_largest_validation_score(found, run_folder, product):
    detector = load_run(run_folder).detector

    def score(path: Path) -> float:
        with torch.inference_mode():
            return float(detector(torch.from_numpy(fit(read_picture(path), SIDE).copy())[None])[0][0])

    for one in found.judged[::2]:
        assert one.scores.raw == pytest.approx(score(one.item.path), rel=1e-5)
    held_out = [score(item.path) for item in open_dataset(product, seed=3).validation]
    assert found.limit.raw == pytest.approx(max(held_out), rel=1e-5)
    assert (found.limit.kind, found.limit.n) == ("largest validation score", 2)
    assert found.engine.startswith("torch ")


def test_a_runs_network_has_no_profile_and_says_what_has(run_folder):
    with TorchEngine(load_run(run_folder)) as engine, pytest.raises(EngineError, match="onbelt bench BUNDLE --profile"):
        engine.profile(np.zeros((SIDE, SIDE, 3), np.uint8), 1)


def test_where_the_run_comes_from_is_told(found):
    figures = to_json(found)
    assert figures["warnings"] == ["these networks never trained"]
    assert figures["provenance"]["recipe"] == "fast, 0 steps, seed 3"
    assert "train and validation pictures of this data set" in figures["provenance"]["training data hash"]
    assert figures["images"] == 6
    assert figures["by_type"]["structural_anomalies"]["bad"] == 3


def test_other_pictures_than_trained_on_are_told_apart(run_folder, product, tmp_path):
    for part in ("train", "test"):
        for source in sorted((product / part).rglob("*.png"))[::2]:
            save(tmp_path / "other" / source.relative_to(product), read_picture(source))
    subject = open_subject(run_folder, tmp_path / "other")
    assert "other pictures than these" in subject.provenance["training data hash"]


def test_a_run_needs_test_pictures_and_parts_to_set_a_limit(run_folder, product, tmp_path):
    with pytest.raises(DataError, match="no test pictures"):
        evaluate(run_folder, product / "train/good")
    for source in sorted((product / "test").rglob("*.png")):
        save(tmp_path / "bare" / source.relative_to(product), read_picture(source))
    with pytest.raises(DataError, match="some good parts must set one"):
        evaluate(run_folder, tmp_path / "bare")


def test_a_folder_that_is_no_run_is_refused(product):
    with pytest.raises(OnbeltError, match="expected a finished run"):
        evaluate(product, product)


def test_a_bundle_is_evaluated_without_torch(tmp_path, product):
    path, _, trust_folder = make_tiny_bundle(tmp_path)
    code = (
        "import sys\n"
        "class Block:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in {'torch', 'onnx', 'safetensors'}: raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Block())\n"
        "from edge.cli import main\n"
        f"sys.exit(main(['evaluate', {str(path)!r}, {str(product)!r}, '--trust', {str(trust_folder)!r}, '--json', "
        f"'--report', {str(tmp_path / 'report')!r}]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert '"images": 6' in done.stdout
    assert (tmp_path / "report" / "report.html").is_file()
