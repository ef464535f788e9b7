"""`onbelt train`: what is asked for on the command line is what is trained."""

import msgspec
import pytest

from edge import cli
from tests.support.resnets import KINDS, save_resnet
from tests.support.trainings import make_ground
from training import loop
from training.lgfdr.pretrained import load_pyramid
from training.losses import DfscKnobs
from training.run import load_run


class Asked(Exception):  # noqa: N818 no error: it carries the request out of the command
    """The training that would have begun."""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_ground(tmp_path_factory.mktemp("ground")).data


@pytest.fixture
def ask(data, tmp_path, monkeypatch):
    def stop(request):
        raise Asked(request)

    def asked(*words, model="dfsc-efficientad-s"):
        monkeypatch.setattr(loop, "train", stop)
        with pytest.raises(Asked) as found:
            cli.main(["train", str(data), "--model", model, "--out", str(tmp_path / "run"), *words])
        return found.value.args[0]

    return asked


@pytest.mark.parametrize(
    ("words", "changed"),
    [
        ([], {}),
        (["--dfsc-weight", "0.5"], {"weight": 0.5}),
        (["--dfsc-quantile", "0.9"], {"quantile": 0.9}),
        (["--dfsc-margin", "2", "--dfsc-absolute"], {"margin": 2.0, "margin_of_tau": False}),
        (["--dfsc-by-position"], {"by_position": True}),
        (["--dfsc-margin-most", "4"], {"margin_most": 4.0}),
        (["--dfsc-all-elements"], {"similar_only": False}),
        (["--dfsc-start", "0", "--dfsc-ramp", "0.5"], {"start": 0.0, "ramp": 0.5}),
    ],
)
def test_every_knob_of_the_constraint_has_its_option(ask, words, changed):
    assert ask(*words).config.dfsc == msgspec.structs.replace(DfscKnobs(), **changed)


def test_no_knob_of_the_constraint_lacks_an_option(data, capsys):
    with pytest.raises(SystemExit):
        cli.main(["train", "--help"])
    said = capsys.readouterr().out
    options = {"weight", "quantile", "margin", "absolute", "by-position", "margin-most", "all-elements", "start", "ramp"}
    assert all(f"--dfsc-{option}" in said for option in options)
    assert len(options) == len(msgspec.structs.fields(DfscKnobs))


def test_the_constraint_s_options_are_refused_for_models_without_it(data, tmp_path, capsys):
    words = ["train", str(data), "--model", "efficientad-s", "--out", str(tmp_path / "run"), "--dfsc-start", "0.2"]
    assert cli.main(words) != 0
    assert "act on models named dfsc-*" in capsys.readouterr().err


@pytest.mark.parametrize(("head", "weight"), [("off", 0.0), ("teacher", 1.0), ("student", 1.0)])
def test_the_global_head_counts_where_it_is_asked_for(ask, head, weight):
    config = ask("--head", head, model="efficientad-s").config
    assert config.head_weight == weight
    assert config.head_input == ("student" if head == "student" else "teacher")
    assert config.dfsc is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--head", "teacher"], "its own is --knob pooled_head=true"),
        (["--teacher", "t.safetensors"], "expected no --teacher, got"),
    ],
)
def test_what_lgfdr_has_not_is_refused(data, tmp_path, capsys, words, said):
    assert cli.main(["train", str(data), "--model", "lgfdr", "--out", str(tmp_path / "run"), *words]) != 0
    assert said in capsys.readouterr().err


def test_lgfdr_rebuilds_the_features_of_a_users_resnet(data, tmp_path, monkeypatch):
    """The weight file is needed while it trains, and never again."""
    monkeypatch.setattr("training.natural_pictures.GENERATED_PICTURES", 4)
    weights, out = tmp_path / "resnet.pth", tmp_path / "run"
    save_resnet(weights, **KINDS[0])
    narrow = ("damage_versions=1", "damage_pictures=0", "least_parts=0", "local_width=16", "token_width=32", "batch=2")
    words = ["train", str(data), "--model", "lgfdr", "--size", "128", "--steps", "2", "--out", str(out), "--threads", "1"]
    assert cli.main([*words, "--weights", str(weights), *(f"--knob={knob}" for knob in narrow)]) == 0
    expected = load_pyramid("resnet-basic-1-2-1-16-16x1", 128, weights)[1]
    weights.unlink()
    run = load_run(out)
    assert run.config.knobs.backbone == "resnet-basic-1-2-1-16-16x1"
    assert (run.record.teacher, run.record.teacher_sha256) == (None, expected)
    assert run.detector.feature_mean.shape == (32 + 64,)


def test_a_backbones_file_is_refused_for_models_with_a_teacher(data, tmp_path, capsys):
    words = ["train", str(data), "--model", "efficientad-s", "--out", str(tmp_path / "run"), "--weights", "w.pth"]
    assert cli.main(words) != 0
    assert "its own is --teacher" in capsys.readouterr().err
