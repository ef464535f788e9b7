"""What is done with random bytes, by name: every reader of the updater, and the one error each may end with.

A target returns when the input was refused as documented, or was believed and is what a trusted key had signed. Everything else
that comes out is a fault. `benchmarks/fuzz.py` feeds them with atheris, `tests/unit/test_update_fuzz.py` with hypothesis.
"""

import contextlib
import hashlib
import json
import socket
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from securesystemslib.exceptions import FormatError
from securesystemslib.formats import encode_canonical
from tuf.api import exceptions as tuf
from tuf.ngclient._internal.trusted_metadata_set import TrustedMetadataSet
from tuf.ngclient.config import EnvelopeType

from edge.bundle import format as bundle_format
from edge.bundle.reader import read_bundle
from edge.bundle.signing import TrustStore, generate_key, load_private, sign
from edge.errors import BundleError, ContractError, LimitError, UpdateError
from edge.limits.file import _PREFIX, decode_file
from edge.limits.form import encode_limit
from edge.update.release import Channel, channel_path, decode_channel, encode_channel, model_path
from edge.update.state import Model, State, Step, load_state, save_state
from edge.wire import update as wire
from edge.wire.carried import INDEX, CarriedFile, Index
from edge.wire.parts import PART, PART_SCHEMA, PartHead, receive_part
from tests.support.bundles import make_key, make_tiny_bundle, signed, tiny_members
from tests.support.gate_messages import BOOT, MODEL
from tests.support.limits import form_for
from tests.support.tuf_site import LATER, ROOT, SNAPSHOT, TARGETS, TIMESTAMP, TufSite

Target = tuple[Callable[[bytes], None], list[bytes]]
WHERE = Path("the file")
SHA = "ab" * 32


def make(name: str) -> Target:
    """The target of a name, and inputs to begin with."""
    return {
        "bundle": bundle,
        "member": member,
        "channel": channel,
        "state": state,
        "desired": desired,
        "desired-signed": desired_signed,
        "reported": reported,
        "carried": carried,
        "part": part,
        "limit": limit,
        "tuf": metadata,
        "tuf-signed": metadata_signed,
    }[name]()


def _folder() -> Path:
    return Path(tempfile.mkdtemp())


def bundle() -> Target:
    """Whatever is read is the bundle that was signed, byte for byte."""
    path, trust, _ = make_tiny_bundle(_folder(), size=40)
    good = path.read_bytes()

    def run(data: bytes) -> None:
        with contextlib.suppress(BundleError):
            read_bundle(data, trust, WHERE)
            assert data == good, "an altered bundle was believed"

    # Whole, and with a model of a few bytes: the fuzzer alters small inputs better.
    small = bundle_format.pack(dict.fromkeys(bundle_format.REQUIRED, b"{}"))
    return run, [good, small]


def member() -> Target:
    """The first byte names the member, the rest is what it holds; hashes and signature are right."""
    folder = _folder()
    make_tiny_bundle(folder, size=40)
    key, trusted = make_key(folder)
    trust = TrustStore.from_folders([trusted])
    manifest, members = tiny_members(size=40)
    plain = msgspec.json.encode(manifest)
    names = [bundle_format.MANIFEST, *sorted(members)]

    def run(data: bytes) -> None:
        if not data:
            return
        name, content = names[data[0] % len(names)], data[1:]
        if name == bundle_format.MANIFEST:
            files = signed(content, members, key)
        else:
            changed = {**members, name: content}
            told = {**manifest.members, name: msgspec.structs.replace(manifest.members[name], **_hashes(content))}
            files = signed(msgspec.json.encode(msgspec.structs.replace(manifest, members=told)), changed, key)
        with contextlib.suppress(BundleError):
            opened = read_bundle(bundle_format.pack(files), trust, WHERE)
            for golden in opened.golden:
                opened.picture(golden.picture)

    return run, [bytes([index]) + content for index, content in enumerate([plain, *(members[name] for name in sorted(members))])]


def _hashes(content: bytes) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


def channel() -> Target:
    """A channel document says what its path says, or is refused."""
    good = Channel(1, "plant1", "tiny", "stable", model_path("plant1", "tiny", 2), 2, SHA, 1)

    def run(data: bytes) -> None:
        with contextlib.suppress(UpdateError):
            found = decode_channel(data, "plant1", "tiny", "stable")
            assert channel_path(found.site, found.product, found.channel) == "plant1/tiny/stable.json"
            assert found.target == model_path("plant1", "tiny", found.version)

    return run, [encode_channel(good)]


def state() -> Target:
    """What can be read can be written and read again."""
    path = _folder() / "state.json"
    model = Model(SHA, 2, "tiny@sha256:" + "ab" * 16, "plant1/tiny/tiny-2.onbelt")
    save_state(path, State(step=Step.GUARD, committed=model, candidate=model, serial=5, reason="rejects", text="a text"))
    good = path.read_bytes()

    def run(data: bytes) -> None:
        path.write_bytes(data)
        with contextlib.suppress(UpdateError):
            found = load_state(path)
            assert found is not None
            assert msgspec.json.decode(msgspec.json.encode(found), type=State) == found

    return run, [good]


def _operator() -> tuple[Any, TrustStore]:
    folder = _folder()
    generate_key(folder / "operator.key")
    (folder / "trusted").mkdir()
    (folder / "operator.key.pub").rename(folder / "trusted" / "operator.pub")
    return load_private(folder / "operator.key"), TrustStore.from_folders([folder / "trusted"])


def _desired() -> wire.Desired:
    return wire.Desired(wire.DESIRED_SCHEMA, "plant1", "tiny", 1, "pin", "stable", 2, ["22:00-04:30"], 9, "me", "0" * 64, "a/b")


def desired() -> Target:
    """Nothing but the very bytes an operator signed is a desired state."""
    key, trust = _operator()
    good = wire.sign_desired(_desired(), key)

    def run(data: bytes) -> None:
        for read in (wire.open_desired, wire.open_time):
            with contextlib.suppress(ContractError):
                read(data, trust)
                assert data == good, "an altered desired state was believed"

    return run, [good]


def desired_signed() -> Target:
    """Signed by an operator: still one of the two majors, or refused."""
    key, trust = _operator()
    good = msgspec.json.encode(_desired())

    def run(data: bytes) -> None:
        for schema in wire.DESIRED.schemas:
            payload = data + b',"sig":"' + key.sign(schema.encode() + b"\n" + data).hex().encode() + b'"}'
            with contextlib.suppress(ContractError):
                found = wire.open_desired(payload, trust)
                assert found.sch == schema
                assert (found.mode == "pin") == (found.version > 0)

    return run, [good[:-1]]


def reported() -> Target:
    """What a fleet reads of a box it can write again."""
    model = wire.ReportedModel(2, SHA, "tiny@sha256:" + "ab" * 16)
    good = wire.Reported(
        wire.REPORTED_SCHEMA,
        "st2",
        1,
        "onbelt 0.1.0",
        "plant1",
        "tiny",
        "idle",
        model,
        None,
        1,
        "follow",
        "stable",
        "",
        "",
        ["1 rejects"],
    )

    def run(data: bytes) -> None:
        with contextlib.suppress(ContractError):
            found = wire.REPORTED.decode(data)
            assert wire.REPORTED.decode(msgspec.json.encode(found)) == found if found.sch == wire.REPORTED_SCHEMA else True

    return run, [wire.REPORTED.encode(good)]


def carried() -> Target:
    """An index names files inside the repository only."""
    good = Index("onbelt.carried/1", 1, {"metadata/1.root.json": CarriedFile(5, "ab" * 16)}, {"cd" * 16: 7})

    def run(data: bytes) -> None:
        with contextlib.suppress(ContractError):
            for path in INDEX.decode(data).files:
                assert path.split("/")[0] in {"metadata", "targets"}
                assert not path.startswith("/")

    return run, [INDEX.encode(good)]


def part() -> Target:
    """A part over the socket between daemon and shadow."""

    def run(data: bytes) -> None:
        here, there = socket.socketpair()
        with here, there:
            there.settimeout(5.0)
            here.sendall(data[:8192])
            here.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ContractError, OSError):
                receive_part(there)

    head = PART.encode(PartHead(PART_SCHEMA, BOOT, 7, MODEL, "pass", 0.5, 9.5, 2, 2, 0))
    return run, [struct.pack("<I", len(head)) + head + bytes(12)]


def limit() -> Target:
    """A limit file whose signature holds."""
    folder = _folder()
    make_tiny_bundle(folder, size=40)
    key, trusted = make_key(folder)
    trust = TrustStore.from_folders([trusted])

    def run(data: bytes) -> None:
        with contextlib.suppress(LimitError):
            decode_file(sign(_PREFIX + data, key) + data, trust, WHERE)

    return run, [encode_limit(form_for("ab" * 32))]


def _trusted(site: TufSite, until: str) -> TrustedMetadataSet:
    """What a client trusts before it reads a role."""
    trusted = TrustedMetadataSet(site.versions[ROOT][0], EnvelopeType.METADATA)
    for role, take in ((TIMESTAMP, trusted.update_timestamp), (SNAPSHOT, trusted.update_snapshot)):
        if until in {ROOT, role}:
            return trusted
        take(site.versions[role][-1])
    return trusted


def _take(site: TufSite, role: str, data: bytes) -> bool:
    """Offer a file to a client as a role; True when it was believed."""
    trusted = _trusted(site, role)
    take: dict[str, Callable[[bytes], Any]] = {
        ROOT: trusted.update_root,
        TIMESTAMP: trusted.update_timestamp,
        SNAPSHOT: trusted.update_snapshot,
        TARGETS: trusted.update_targets,
    }
    try:
        take[role](data)
    except tuf.RepositoryError:
        return False
    return True


def metadata() -> Target:
    """The first byte names the role. Only what the role's keys signed is believed; only the framework's errors come out."""
    site = TufSite()
    site.publish(ROOT)
    roles = [ROOT, TIMESTAMP, SNAPSHOT, TARGETS]
    known = {role: {json.dumps(json.loads(one)["signed"], sort_keys=True) for one in site.versions[role]} for role in roles}

    def run(data: bytes) -> None:
        if not data:
            return
        role = roles[data[0] % len(roles)]
        if _take(site, role, data[1:]):
            said = json.dumps(json.loads(data[1:])["signed"], sort_keys=True)
            assert said in known[role], "altered metadata was believed"

    return run, [bytes([index]) + site.versions[role][-1] for index, role in enumerate(roles)]


def metadata_signed() -> Target:
    """The first byte names the role, the rest is its signed part as JSON; the role's own keys sign it."""
    site = TufSite()
    site.delegate(TARGETS, "site", ["site/*"])
    site.publish("site", *LATER, ROOT)
    roles = [ROOT, TIMESTAMP, SNAPSHOT, TARGETS]

    def run(data: bytes) -> None:
        try:
            said = json.loads(data[1:])
            content = (encode_canonical(said) or "").encode()
        except (ValueError, RecursionError, FormatError):  # no JSON, or none that can be signed: the other target has those
            return
        role = roles[data[0] % len(roles)]
        signatures = [{"keyid": one.public_key.keyid, "sig": one.sign(content).signature} for one in site.signers[role]]
        _take(site, role, json.dumps({"signed": said, "signatures": signatures}).encode())

    seeds = [
        bytes([index]) + json.dumps(json.loads(site.versions[role][-1])["signed"]).encode() for index, role in enumerate(roles)
    ]
    return run, seeds
