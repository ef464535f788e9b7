"""Keys: made once, readable by their owner, never overwritten; signatures hold for the exact bytes and trusted keys only."""

import hashlib
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from edge.bundle.signing import TrustStore, default_trust, generate_key, key_id, load_private, load_public, sign
from edge.errors import ConfigError, SignatureError

MANIFEST = b'{"schema": 1}'
# RFC 8032 section 7.1, test 2: the signature of one byte 0x72.
RFC_SECRET = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
RFC_SIGNATURE = (
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
    "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
)
RFC_PUBLIC = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")


@pytest.fixture
def pair(tmp_path):
    generate_key(tmp_path / "k")
    (tmp_path / "trusted").mkdir()
    (tmp_path / "k.pub").rename(tmp_path / "trusted" / "k.pub")
    return load_private(tmp_path / "k"), TrustStore.from_folders([tmp_path / "trusted"])


def test_known_answer():
    line = sign(b"\x72", Ed25519PrivateKey.from_private_bytes(RFC_SECRET))
    assert line == f"ed25519 {hashlib.sha256(RFC_PUBLIC).hexdigest()} {RFC_SIGNATURE}\n".encode()


def test_generated_keys_have_the_right_modes_and_fit_each_other(tmp_path):
    identity = generate_key(tmp_path / "signing.key")
    assert stat.S_IMODE((tmp_path / "signing.key").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "signing.key.pub").stat().st_mode) == 0o644
    assert key_id(load_private(tmp_path / "signing.key").public_key()) == identity
    assert key_id(load_public(tmp_path / "signing.key.pub")) == identity


@pytest.mark.parametrize("existing", ["k", "k.pub"])
@pytest.mark.parametrize("kind", ["file", "dangling link"])
def test_a_key_is_never_overwritten(tmp_path, existing, kind):
    if kind == "file":
        (tmp_path / existing).write_text("precious")
    else:
        (tmp_path / existing).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="never overwritten"):
        generate_key(tmp_path / "k")
    assert sorted(path.name for path in tmp_path.iterdir()) == [existing]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(ConfigError, match="cannot write a key there"):
        generate_key(tmp_path / "none" / "k")


def test_signatures_hold_for_the_exact_bytes(pair):
    key, trust = pair
    line = sign(MANIFEST, key)
    assert trust.verify(MANIFEST, line) == key_id(key.public_key())
    with pytest.raises(SignatureError, match="does not fit") as caught:
        trust.verify(MANIFEST + b" ", line)
    assert caught.value.member == "manifest.json"


def test_every_altered_character_of_a_signature_is_refused(pair):
    key, trust = pair
    line = sign(MANIFEST, key)
    for at in range(len(line)):
        for value in {line[at] ^ 1, line[at] ^ 0x20, 0x30, 0x66} - {line[at]}:
            with pytest.raises(SignatureError):
                trust.verify(MANIFEST, line[:at] + bytes([value]) + line[at + 1 :])


@pytest.mark.parametrize(
    "change", [bytes.upper, bytes.strip, lambda line: line + b"\n", lambda line: b" " + line, lambda line: b""]
)
def test_other_spellings_of_a_signature_are_refused(pair, change):
    key, trust = pair
    with pytest.raises(SignatureError):
        trust.verify(MANIFEST, change(sign(MANIFEST, key)))


def test_the_malleable_twin_of_a_signature_is_refused(pair):
    key, trust = pair
    head, identity, text = sign(MANIFEST, key).split()
    raw = bytes.fromhex(text.decode())
    order = 2**252 + 27742317777372353535851937790883648493
    twin = raw[:32] + (int.from_bytes(raw[32:], "little") + order).to_bytes(32, "little")
    with pytest.raises(SignatureError, match="does not fit"):
        trust.verify(MANIFEST, b"%s %s %s\n" % (head, identity, twin.hex().encode()))


def test_a_key_id_of_one_trusted_key_does_not_cover_another(pair, tmp_path):
    key, _ = pair
    generate_key(tmp_path / "second")
    (tmp_path / "second.pub").rename(tmp_path / "trusted" / "second.pub")
    trust = TrustStore.from_folders([tmp_path / "trusted"])
    assert len(trust.keys) == 2
    line = sign(MANIFEST, key).split()
    other = key_id(load_private(tmp_path / "second").public_key()).encode()
    with pytest.raises(SignatureError, match="does not fit"):
        trust.verify(MANIFEST, b"%s %s %s\n" % (line[0], other, line[2]))


def test_a_removed_file_revokes_its_key(pair, tmp_path):
    key, trust = pair
    line = sign(MANIFEST, key)
    trust.verify(MANIFEST, line)
    (tmp_path / "trusted" / "k.pub").unlink()
    with pytest.raises(SignatureError, match=r"trusted: none; looked in .*trusted"):
        TrustStore.from_folders([tmp_path / "trusted"]).verify(MANIFEST, line)


def test_private_keys_that_others_can_read_are_refused(tmp_path):
    generate_key(tmp_path / "k")
    for mode in (0o640, 0o604, 0o660):
        (tmp_path / "k").chmod(mode)
        with pytest.raises(ConfigError, match="chmod 600"):
            load_private(tmp_path / "k")


def write_private(path: Path, key: Any, encryption: Any = None) -> None:
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption()))
    path.chmod(0o600)


def test_what_is_no_ed25519_key_is_refused_by_name(tmp_path):
    curve = generate_private_key(SECP256R1())
    write_private(tmp_path / "curve", curve)
    write_private(tmp_path / "locked", Ed25519PrivateKey.generate(), BestAvailableEncryption(b"secret"))
    (tmp_path / "text").write_text("hello")
    (tmp_path / "large").write_bytes(b"x" * 5000)
    for path in tmp_path.iterdir():
        path.chmod(0o600)
    for name in ("curve", "locked", "text", "large", "missing"):
        with pytest.raises(ConfigError, match=name):
            load_private(tmp_path / name)
    trusted = tmp_path / "trusted"
    trusted.mkdir()
    public = curve.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for content in (public, b"hello", b"", b"x" * 5000):
        (trusted / "odd.pub").write_bytes(content)
        with pytest.raises(ConfigError, match=r"odd\.pub"):
            TrustStore.from_folders([trusted])
    (trusted / "odd.pub").rename(trusted / "odd.txt")
    assert not TrustStore.from_folders([trusted]).keys


def test_a_missing_trust_folder_is_an_error_but_not_among_the_usual_ones(tmp_path):
    with pytest.raises(ConfigError, match="folder of trusted keys"):
        TrustStore.from_folders([tmp_path / "none"])
    assert any("/etc/onbelt/trusted" in source for source in default_trust().sources)


def test_the_users_own_folder_is_trusted(tmp_path):
    folder = Path.home() / ".config" / "onbelt" / "trusted"
    folder.mkdir(parents=True)
    identity = generate_key(tmp_path / "k")
    shutil.copy(tmp_path / "k.pub", folder)
    assert identity in default_trust().keys


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_openssl_checks_the_same_signature(tmp_path):
    generate_key(tmp_path / "k")
    (tmp_path / "m").write_bytes(MANIFEST)
    line = sign(MANIFEST, load_private(tmp_path / "k"))
    (tmp_path / "raw").write_bytes(bytes.fromhex(line.split()[2].decode()))
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", "k.pub", "-rawin", "-in", "m", "-sigfile", "raw"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=20, check=False).returncode == 0
    (tmp_path / "m").write_bytes(MANIFEST + b" ")
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=20, check=False).returncode != 0
