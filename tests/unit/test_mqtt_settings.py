"""Secrets of a connection: where they come from, and what is refused."""

import pytest

from edge.errors import ConfigError
from edge.mqtt.settings import Broker, read_secret


@pytest.fixture
def secret(tmp_path):
    path = tmp_path / "s"
    path.write_text("hush\n")
    path.chmod(0o600)
    return path


def test_a_named_file_wins_over_the_credential(tmp_path, secret):
    (tmp_path / "mqtt.password").write_text("other")
    assert read_secret("mqtt.password", str(secret), credentials=str(tmp_path)) == b"hush"
    assert read_secret("mqtt.password", "", credentials=str(tmp_path)) == b"other"


def test_neither_is_no_secret(tmp_path):
    assert read_secret("mqtt.password", "", credentials=str(tmp_path)) == b""
    assert read_secret("mqtt.password", "", credentials="") == b""


@pytest.mark.parametrize(("content", "mode"), [(b"", 0o600), (b"\n", 0o600), (b"x" * 5000, 0o600)])
def test_empty_and_huge_secrets_are_refused(secret, content, mode):
    secret.write_bytes(content)
    with pytest.raises(ConfigError, match="expected a secret of 1 to 4096 bytes"):
        read_secret("k", str(secret))


def test_a_missing_or_open_file_is_refused_by_name_and_never_quoted(tmp_path, secret):
    with pytest.raises(ConfigError, match="cannot read the secret k"):
        read_secret("k", str(tmp_path / "none"))
    secret.chmod(0o604)
    with pytest.raises(ConfigError, match="chmod 600") as caught:
        read_secret("k", str(secret))
    assert "hush" not in str(caught.value)


def test_a_broker_is_told_without_its_password():
    broker = Broker("h", 1883, user="u", password="hush")
    assert str(broker) == "h:1883"
    assert "hush" not in f"{broker!r} {broker}"
