"""`onbelt update desire` and `status`: what an operator types, and what he reads."""

import argparse
import json
from pathlib import Path

import msgspec
import pytest

from edge.bundle.signing import TrustStore, generate_key
from edge.commands import update
from edge.config.file import render
from edge.errors import ConfigError
from edge.update.config import UpdateConfig, load_update_config
from edge.update.state import Model, Refusal, State, Step, save_state
from edge.wire.update import open_desired
from tests.support.station import station_config

OLD, NEW = "1" * 64, "2" * 64


def onbelt_update(*words):
    parser = argparse.ArgumentParser()
    update.add_arguments(parser)
    return update.run(parser.parse_args(list(map(str, words))))


@pytest.fixture
def box(tmp_path):
    """The configuration of a box."""
    folder = tmp_path / "update"
    folder.mkdir()
    config = station_config(tmp_path, model={"bundle": str(folder / "current")})
    (tmp_path / "station.toml").write_text(render(config))
    lines = {
        "station": "station.toml",
        "metadata_url": "https://models.example.com/metadata/",
        "target_url": "https://models.example.com/targets/",
        "root": "root.json",
        "product": "tiny",
        "folder": str(folder),
    }
    (tmp_path / "update.toml").write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in lines.items()))
    return tmp_path


def test_a_printed_desired_state_is_one_a_box_believes(tmp_path, capsys):
    generate_key(tmp_path / "operator.key")
    (tmp_path / "trusted").mkdir()
    (tmp_path / "operator.key.pub").rename(tmp_path / "trusted" / "operator.pub")
    words = ("desire", "--key", tmp_path / "operator.key", "--site", "plant1", "--product", "tiny", "--pin", 2)
    assert onbelt_update(*words, "--window", "22:00-04:30") == 0
    payload = capsys.readouterr().out.strip().encode()
    desired = open_desired(payload, TrustStore.from_folders([tmp_path / "trusted"]))
    assert (desired.mode, desired.version, desired.windows, desired.to) == ("pin", 2, ["22:00-04:30"], "")
    assert desired.serial > 1_700_000_000_000


def test_desire_over_mqtt_needs_the_station(tmp_path):
    generate_key(tmp_path / "operator.key")
    words = ("desire", "--key", tmp_path / "operator.key", "--site", "a", "--product", "b", "--mqtt", "broker:1883")
    with pytest.raises(ConfigError, match="--station: expected the topic of the station beside --mqtt"):
        onbelt_update(*words)


def test_a_version_that_is_none_does_not_become_another_wish(tmp_path):
    with pytest.raises(ConfigError, match="--pin: expected a version, 1 or more, got 0"):
        onbelt_update("desire", "--key", tmp_path / "operator.key", "--site", "a", "--product", "b", "--pin", 0)


def test_a_window_that_is_none_is_refused_in_words(tmp_path, capsys):
    words = ("desire", "--key", tmp_path / "operator.key", "--site", "a", "--product", "b", "--window", "22-04")
    with pytest.raises(SystemExit):
        onbelt_update(*words)
    assert "expected HH:MM-HH:MM in UTC, such as 22:00-04:30, got '22-04'" in capsys.readouterr().err


@pytest.mark.parametrize("topic", ["st2", "plant1/hall2/line3/st2", "onbelt/v1/plant1/hall2/line3/st2/", "onbelt/v1/+/+/+/st2"])
def test_a_topic_nobody_listens_at_is_refused(tmp_path, capsys, topic):
    words = ("desire", "--key", tmp_path / "operator.key", "--site", "a", "--product", "b", "--station", topic)
    with pytest.raises(SystemExit):
        onbelt_update(*words)
    assert "such as onbelt/v1/plant1/hall2/line3/st2" in capsys.readouterr().err


def test_status_says_what_was_refused_and_why(box, capsys):
    refusal = Refusal(Model(NEW, 2), "golden", "golden frame good.png: expected raw 1, got 2", 0)
    state = State(committed=Model(OLD, 1, "m@sha256:" + "a" * 32), reason="golden", text=refusal.text, refused=(refusal,))
    save_state(box / "update" / "state.json", state)
    assert onbelt_update("status", "--config", box / "update.toml") == 0
    text = capsys.readouterr().out
    assert "committed  version 1" in text
    assert "refused    version 2: golden: golden frame good.png" in text
    assert onbelt_update("status", "--config", box / "update.toml", "--json") == 0
    assert json.loads(capsys.readouterr().out)["step"] == Step.IDLE.value


def test_status_of_a_new_box(box, capsys):
    assert onbelt_update("status", "--config", box / "update.toml") == 0
    assert "committed  none" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('metadata_url = "http://models.example.com/"', "expected https"),
        ('metadata_url = "ftp://models.example.com/"', "expected https"),
        ('chanel = "stable"', r"unknown key chanel: did you mean channel\?"),
        ('windows = ["25:00-01:00"]', "windows"),
        ('product = "a/b"', "product"),
        ("= 1", "no TOML"),
    ],
)
def test_a_wrong_configuration_is_refused_with_its_key(box, line, said):
    path = box / "update.toml"
    key = line.split(" =")[0]
    kept = [one for one in path.read_text().splitlines() if not one.startswith(f"{key} ")]
    path.write_text("\n".join([*kept, line]))
    with pytest.raises(ConfigError, match=said):
        load_update_config(path)


def test_the_example_is_complete(box):
    """Every key of the example is one the updater knows, and it shows all of them, with their defaults but for two."""
    example = (Path(__file__).resolve().parents[2] / "docs" / "examples" / "update.toml").read_text()
    text = example.replace("/var/lib/onbelt/update", str(box / "update")).replace('"bottle"', '"tiny"')
    (box / "update.toml").write_text(text)
    config, _ = load_update_config(box / "update.toml")
    assert config.windows == ["22:00-04:30"]
    shown = {line.split(" =")[0] for line in example.splitlines() if " = " in line and not line.startswith("#")}
    assert shown == set(UpdateConfig.__struct_fields__)
    for field in msgspec.structs.fields(UpdateConfig):
        if not field.required and field.name not in {"operators", "windows", "folder"}:
            assert getattr(config, field.name) == field.default, field.name
