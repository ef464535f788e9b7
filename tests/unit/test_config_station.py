"""station.toml: what is read, what is refused and in which words, and that every key is documented."""

import re
import sys
import time
from pathlib import Path

import msgspec
import pytest

from edge.camera.base import Trigger
from edge.config.file import keys, load_config, parse_config, read_given, render, sections
from edge.config.station import StationConfig
from edge.daemon.build import make_camera
from edge.errors import ConfigError
from tests.conftest import skip_unless
from tests.support import aravis
from tests.support.station import station_config

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"
MINIMAL = """
[station]
site = "plant1"
area = "hall2"
line = "line3"
station = "st2"

[model]
bundle = "bottle.onbelt"

[deadline]
valid_ms = 400
"""
CAMERA = """
[camera]
kind = "belt"
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "station.toml"
    path.write_text(MINIMAL + CAMERA)
    return path


def test_minimal_file_has_defaults_for_the_rest(file):
    config = load_config(file)
    assert config.deadline.valid_ms == 400.0
    assert config.give_up_ms == pytest.approx(360.0)
    assert config.mqtt.port == 1883
    assert config.topics().base == "onbelt/v1/plant1/hall2/line3/st2"
    assert config.listen_address() == ("127.0.0.1", 47101)
    assert config.mac_key() is None
    assert str(config.broker()) == "127.0.0.1:1883"


def test_paths_are_relative_to_the_file(file):
    file.write_text(MINIMAL.replace("bottle.onbelt", "models/bottle.onbelt") + f'{CAMERA}[journal]\npath = "/var/j.db"\n')
    config = load_config(file)
    assert config.model.bundle == str(file.parent / "models" / "bottle.onbelt")
    assert config.journal.path == "/var/j.db"


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ("[mqtt]\nhosst = 'a'", r"unknown key mqtt.hosst: did you mean mqtt.host\?"),
        ("[selfcheck]\nmasters = ['M=maybe']", r"selfcheck.masters: expected .*got 'M=maybe'"),
        ("[selfcheck]\nmasters = ['M=pass', 'M=reject']", r"selfcheck.masters: expected each part once"),
        ("[selfcheck]\nshifts = ['25:00']", r"selfcheck.shifts: expected .*got '25:00'"),
        ("[mqqt]\nhost = 'a'", r"unknown key mqqt: did you mean mqtt\?"),
        ("[page]\nvalid_ms = 3", r"unknown key page.valid_ms: did you mean deadline.valid_ms\?"),
        ("[camera.belt]\nsead = 3", r"unknown key camera.belt.sead: did you mean camera.belt.seed\?"),
        ("[mqtt]\nzzz = 1", r"unknown key mqtt.zzz: expected one of host, port"),
        ("[mqtt]\nport = 'x'", r"mqtt.port: expected int, got str \(TCP port"),
        ("[mqtt]\nport = 70000", r"mqtt.port: expected int <= 65535"),
        ("[mqtt]\nprotocol = '4'", r"mqtt.protocol: invalid enum value '4'"),
        ("[camera]\nkind = 'picamera'", r"camera.kind: invalid enum value 'picamera'"),
        ("[camera]\nkind = 'folder'", r"camera.folder.path: expected a folder of pictures"),
        ("[mqtt]\npassword = 'p'", r"expected mqtt.user beside it"),
        ("[mqtt]\nca = 'ca.pem'", r"have no effect while mqtt.tls = false"),
        ("[mqtt]\ntls = true\ncert = 'c.pem'", r"mqtt.cert and mqtt.key: expected both or none"),
        ("[trigger]\nlisten = '0.0.0.0:1'", r"trigger.listen: expected a loopback address"),
        ("[trigger]\nlisten = 'nonsense'", r"trigger.listen: expected host:port"),
        ("[journal]\nmax_mb = 0", r"journal.max_mb: expected float >= 1.0"),
        ("mqtt = 3", r"mqtt: expected a section \[mqtt\], got 3"),
        ("[page", r"no TOML"),
    ],
)
def test_refused_in_words(file, extra, words):
    text = f"{extra}\n{MINIMAL}" if extra.startswith("mqtt = ") else f"{MINIMAL}\n{extra}\n"
    file.write_text(text)
    with pytest.raises(ConfigError, match=words) as caught:
        load_config(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("valid_ms = 400", "", r"deadline.valid_ms: this key must be given \(ms after the trigger"),
        ("[deadline]\nvalid_ms = 400", "", r"deadline: this section must be given"),
        ('kind = "belt"', 'id = "c2"', r"camera.kind: this key must be given \(belt \(simulated\)"),
        ('[camera]\nkind = "belt"', "", r"camera.kind: this key must be given"),
        ('station = "st2"', 'station = "a/b"', r"station.station: expected str matching"),
        ("valid_ms = 400", "valid_ms = 400\ngive_up_ms = 400", r"deadline.give_up_ms: expected less than"),
        ('bundle = "bottle.onbelt"', 'bundle = "b"\nuncertain_band = [0.9]', r"model.uncertain_band: expected \[low, high\]"),
    ],
)
def test_required_and_contradicting_keys(file, old, new, words):
    assert old in MINIMAL + CAMERA
    file.write_text((MINIMAL + CAMERA).replace(old, new))
    with pytest.raises(ConfigError, match=words):
        load_config(file)


def test_missing_and_huge_files(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot be read .* copy docs/examples/station.toml"):
        load_config(tmp_path / "none.toml")
    (tmp_path / "huge.toml").write_text("#" * 100_000)
    with pytest.raises(ConfigError, match="at most 65536 bytes"):
        load_config(tmp_path / "huge.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="no TOML"):
        load_config(tmp_path / "binary.toml")


def test_secrets_come_from_files_or_credentials_and_are_never_printed(tmp_path, monkeypatch):
    secret = tmp_path / "password"
    secret.write_text("tell-nobody\n")
    secret.chmod(0o600)
    config = station_config(tmp_path, mqtt={"user": "box", "password": "password"})
    assert config.broker().password == "tell-nobody"
    assert "tell-nobody" not in render(config)
    assert "tell-nobody" not in repr(config.broker())
    secret.chmod(0o644)
    with pytest.raises(ConfigError, match="can be read by everybody"):
        config.broker()
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "mqtt.password").write_text("from-systemd")
    (credentials / "verdict.key").write_text("0123456789abcdef")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    assert station_config(tmp_path, mqtt={"user": "box"}).broker().password == "from-systemd"
    assert station_config(tmp_path, seal={"enabled": True}).mac_key() == b"0123456789abcdef"


def test_a_missing_or_short_seal_key_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="at least 16 bytes, got 0"):
        station_config(tmp_path, seal={"enabled": True}).mac_key()


def test_the_belt_with_its_faults(tmp_path):
    belt = {"product": "vials", "seed": 7, "size": 128, "faults": ["frozen@4-6", "late=0.01"]}
    with make_camera(station_config(tmp_path, camera={"kind": "belt", "belt": belt})) as camera:
        camera.start()
        frames = [camera.grab(Trigger(count, time.monotonic_ns()), 20.0) for count in (3, 4)]
    assert frames[0].pixels.shape == (128, 128, 3)
    assert frames[0].frame_id == frames[1].frame_id, "frozen"


@pytest.mark.parametrize(
    ("belt", "words"),
    [
        ({"faults": ["frosen"]}, r"'frosen': 'frosen' is not a valid FaultKind; expected \"kind\", .* kinds are absent, "),
        ({"faults": ["late=99"]}, r"'late=99': late: expected a strength from 0 to 60"),
        ({"faults": ["late=1.2.3"]}, r"'late=1.2.3': could not convert"),
        ({"faults": ["frozen@9-1"]}, r"'frozen@9-1': frozen: expected at least one part"),
        ({"faults": ["frozen 3"]}, r"'frozen 3': .* expected \"kind\""),
        ({"product": "bottles"}, r"expected one of .*tray.*, got 'bottles'"),
        ({"logical_share": 0.8, "structural_share": 0.8}, r"sum to at most 1"),
    ],
)
def test_a_belt_that_cannot_be(tmp_path, belt, words):
    with pytest.raises(ConfigError, match=words):
        make_camera(station_config(tmp_path, camera={"belt": belt}))


def test_every_key_and_section_is_documented():
    silent = [key.path for key in keys() if len(key.doc) < 3]
    assert silent == []
    assert all(sections().values())


def test_print_config_is_toml_that_gives_the_same_configuration(file):
    config = load_config(file)
    text = render(config, read_given(file))
    assert parse_config(tomllib.loads(text), file.parent) == config
    assert re.search(r"^valid_ms = 400.0  # file; ms after the trigger", text, re.MULTILINE)
    assert re.search(r"^port = 1883  # default; TCP port", text, re.MULTILINE)
    assert len(re.findall(r"^\w+ = ", text, re.MULTILINE)) == len(list(keys()))


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("station*.toml")), ids=lambda path: path.name)
def test_examples_load(example):
    assert isinstance(load_config(example), StationConfig)


# What the full example shows instead of the default: without a camera named, a station would judge the simulated belt, and a file
# to be copied should not name that one.
NOT_THE_DEFAULT = {"camera.kind": "genicam"}


def written(example):
    """Keys and sections of a file as a person reads it: path -> (value, comment), section -> comment."""
    shown: dict[str, tuple[object, str]] = {}
    headings: dict[str, str] = {}
    section = ""
    for line in example.read_text().splitlines():
        text, _, comment = line.partition("  # ")
        if line.startswith("["):
            section = text.strip("[]")
            headings[section] = comment
        elif " = " in text and not line.startswith("#"):
            name, _, value = text.partition(" = ")
            shown[f"{section}.{name}"] = (tomllib.loads(f"it = {value}")["it"], comment)
    return shown, headings


def test_the_full_example_shows_every_key_with_its_default():
    shown, headings = written(EXAMPLES / "station.toml")
    assert headings == sections()
    assert {path: comment for path, (_, comment) in shown.items()} == {key.path: key.doc for key in keys()}
    defaults = {key.path: key.default for key in keys() if key.default is not msgspec.NODEFAULT} | NOT_THE_DEFAULT
    assert {path: value for path, (value, _) in shown.items() if path in defaults} == defaults


def test_a_genicam_camera_is_made_as_configured(tmp_path):
    lack = aravis.missing(tmp_path)
    skip_unless(not lack, f"no GigE Vision here: {lack}")
    config = station_config(tmp_path, camera={"kind": "genicam", "genicam": {"region": [8, 16, 640, 480], "mode": "free"}})
    assert make_camera(config).name == "genicam first found"


@pytest.mark.parametrize("region", [[1, 2, 3], [0, 0, 0, 10], [-1, 0, 10, 10]])
def test_a_region_that_is_none_is_refused(tmp_path, region):
    with pytest.raises(ConfigError, match=r"camera\.genicam\.region: expected \[x, y, width, height\]"):
        station_config(tmp_path, camera={"kind": "genicam", "genicam": {"region": region}})


def test_a_genicam_camera_without_its_library_is_said_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gi", None)
    monkeypatch.delitem(sys.modules, "edge.camera.genicam", raising=False)
    with pytest.raises(ConfigError, match=r"apt-get install gir1\.2-aravis-0\.8"):
        make_camera(station_config(tmp_path, camera={"kind": "genicam"}))
