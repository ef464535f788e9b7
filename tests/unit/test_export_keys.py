"""The first export's key is trusted where the box looks for keys, whatever XDG_CONFIG_HOME says."""

from edge.bundle.signing import default_trust, key_id
from export.keys import default_signing_key


def test_the_key_made_on_first_use_is_trusted_and_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "elsewhere"))
    first = key_id(default_signing_key().public_key())
    assert first in default_trust().keys
    assert key_id(default_signing_key().public_key()) == first
    assert not (tmp_path / "elsewhere").exists()
