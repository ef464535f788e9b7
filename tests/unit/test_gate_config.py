"""gate.toml: typed, unknown keys refused, the example complete and true."""

import re
from pathlib import Path

import msgspec
import pytest

from edge.errors import ConfigError
from edge.gate.config import GateConfig, Rules, describe, load_config

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "gate.toml"
SMALL = '[station]\nsite = "p"\narea = "a"\nline = "l"\nstation = "s"\n[timing]\ngate_ms = 300\n'


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "gate.toml"
    path.write_text(text)
    return path


def test_the_example_is_valid_and_names_every_key_with_its_default(tmp_path):
    example = load_config(EXAMPLE)
    small = load_config(write(tmp_path, SMALL))
    for section, values in msgspec.to_builtins(small).items():
        for key, value in values.items():
            assert re.search(rf"^{key} = ", EXAMPLE.read_text(), re.MULTILINE), f"{section}.{key} is not in the example"
            if key not in {"site", "area", "line", "station", "gate_ms"}:
                assert getattr(getattr(example, section), key) == value, f"{section}.{key}"


def test_the_example_of_a_gate_by_counts_is_valid_and_counts_by_its_own_pins():
    config = load_config(EXAMPLE.parent / "gate-encoder.toml")
    settings, pins = config.settings(), config.pins()
    assert settings.encoder is not None
    assert settings.deadline_ms == 720.0
    assert pins is not None
    assert (pins.encoder, pins.encoder_b) == (112, 113)


def test_what_is_left_out_has_its_default(tmp_path):
    config = load_config(write(tmp_path, SMALL))
    assert config.rules == Rules()
    assert config.settings().deadline_ms == 260.0
    assert config.topics().base == "onbelt/v1/p/a/l/s"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("gate_ms = 300", "gate_ms = 300\nspeed = 3"), r"unknown key timing.speed: expected one of gate_ms, lead_ms, margin_ms"),
        (("gate_ms = 300", "gate_ms = 300\nport = 1884"), r"unknown key timing.port: did you mean mqtt.port\?"),
        (("gate_ms = 300", "gate_ms = 30"), "no time is left for a verdict"),
        (("gate_ms = 300", 'gate_ms = "300"'), r"Expected `float`, got `str` - at `\$.timing.gate_ms`"),
        (("gate_ms = 300", "gate_ms = 0"), r"> 0"),
        (
            ("gate_ms = 300", 'gate_ms = 300\n[rules]\non_missing = "pass"'),
            r"Invalid enum value 'pass' - at `\$.rules.on_missing`",
        ),
        (("gate_ms = 300", 'gate_ms = 300\n[line]\nlisten = "0.0.0.0:5"'), "line.listen: expected a loopback address"),
        (("gate_ms = 300", 'gate_ms = 300\n[line]\noutput = "127.0.0.1"'), "line.output: expected a loopback address"),
        (("gate_ms = 300", 'gate_ms = 300\n[mqtt]\ncert = "c.pem"'), "expected both or none"),
        (('site = "p"', 'site = "p/q"'), r"station.site"),
        (('site = "p"\n', ""), "missing required field `site`"),
        (("[timing]", "[timing"), "gate.toml"),
    ],
)
def test_what_is_wrong_is_refused_with_file_and_key(tmp_path, change, expected):
    assert change[0] in SMALL
    with pytest.raises(ConfigError, match=expected) as caught:
        load_config(write(tmp_path, SMALL.replace(*change)))
    assert "gate.toml" in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_file_of_another_kind_is_not_told_key_by_key():
    with pytest.raises(ConfigError, match=r"unknown key station\.lot.* and \d+ more: is this another kind of file\?$"):
        load_config(EXAMPLE.parent / "station.toml")


def test_a_missing_file_names_the_example(tmp_path):
    with pytest.raises(ConfigError, match=r"docs/examples/gate.toml"):
        load_config(tmp_path / "none.toml")


def test_a_required_mac_needs_its_key(tmp_path, monkeypatch):
    config = load_config(write(tmp_path, SMALL + "[rules]\nrequire_mac = true\n"))
    with pytest.raises(ConfigError, match=r"verdict\.key"):
        config.mac_key()
    (tmp_path / "verdict.key").write_bytes(b"0123456789abcdef\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert config.mac_key() == b"0123456789abcdef"
    assert config.settings().sealed


def test_the_effective_values_name_their_source(tmp_path):
    path = write(tmp_path, SMALL)
    lines = describe(load_config(path), path)
    assert "gate_ms = 300.0  # gate.toml" in lines
    assert 'on_missing = "reject"  # default' in lines
    reread = msgspec.toml.decode("\n".join(lines), type=GateConfig)
    assert reread == load_config(path)
