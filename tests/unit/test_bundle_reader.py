"""A bundle is taken whole and vouched for, or refused with the member's name and a remedy."""

import contextlib
import hashlib
import os
import zlib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.bundle import reader
from edge.bundle.format import MAX_BUNDLE_BYTES, pack, unpack
from edge.bundle.manifest import SCHEMA_VERSION, Golden, decode_manifest, encode_manifest
from edge.bundle.reader import open_bundle, read_bundle
from edge.bundle.signing import TrustStore
from edge.errors import BundleError, SignatureError
from tests.support.bundles import good_frame, make_key, make_tiny_bundle, png, seal_hashes, signed, tiny_members

DEMO = Path(__file__).parents[2] / "edge" / "data" / "demo.onbelt"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("bundles")


@pytest.fixture(scope="module")
def key(home):
    return make_key(home)[0]


@pytest.fixture(scope="module")
def trust(home, key):
    return TrustStore.from_folders([make_key(home)[1]])


@pytest.fixture(scope="module")
def small(key):
    """A valid bundle of some 3 kB: the reader looks at no graph, so the model may be any bytes."""
    frame = np.full((40, 40, 3), 100, np.uint8)
    manifest, members = tiny_members(size=40, model=b"graph", calibration=[0.5])
    for name in list(members):
        if name.endswith(".png"):
            del members[name]
    members["golden/a.png"] = png(frame)
    members["golden/golden.json"] = msgspec.json.encode([Golden("golden/a.png", "none", [0.0, 0.0, 0.0, 0.0], "pass")])
    return pack(signed(encode_manifest(seal_hashes(manifest, members)), members, key))


def resigned(data: bytes, key: Ed25519PrivateKey, *, manifest=None, members=None, rehash: bool = True) -> bytes:
    """The bundle with other contents, signed anew by a trusted key: what only its maker could do."""
    parts = unpack(data)
    parts.update(members or {})
    parts = {name: content for name, content in parts.items() if content is not None}
    text = msgspec.json.decode(parts.pop("manifest.json"))
    parts.pop("manifest.sig")
    if rehash:
        text["members"] = {n: {"sha256": hashlib.sha256(c).hexdigest(), "bytes": len(c)} for n, c in parts.items()}
    text = manifest(text) if manifest else text
    return pack(signed(msgspec.json.encode(text), parts, key))


def test_a_whole_bundle_opens(home, small, trust):
    path, store, _ = make_tiny_bundle(home, name="whole")
    bundle = open_bundle(path, store)
    assert bundle.manifest.name == "whole"
    assert bundle.certificate["flips"] == 0
    assert len(bundle.golden) == 3
    assert bundle.path == path
    assert bundle.key_id in store.keys
    assert bundle.sha256 == hashlib.sha256(bundle.members["manifest.json"]).hexdigest()
    assert np.array_equal(bundle.picture("golden/good.png"), good_frame())
    assert bundle.model.startswith(b"\x08")
    assert read_bundle(small, trust, path).model == b"graph"


def test_every_flipped_bit_of_a_bundle_is_refused(small, trust, tmp_path):
    for at in range(len(small)):
        for flip in (1, 128, 255):
            altered = bytearray(small)
            altered[at] ^= flip
            with pytest.raises(BundleError):
                read_bundle(bytes(altered), trust, tmp_path)


def test_every_flipped_byte_with_its_crc_repaired_is_refused_by_name(small, trust, tmp_path):
    for name, content in unpack(small).items():
        for at in range(len(content)):
            altered = bytearray(content)
            altered[at] ^= 0x20
            members = {**unpack(small), name: bytes(altered)}
            with pytest.raises(BundleError) as caught:
                read_bundle(pack(members), trust, tmp_path)
            # A whole but wrong signature is said of what it should fit: the manifest.
            assert caught.value.member == name or (name, caught.value.member) == ("manifest.sig", "manifest.json")


def test_every_truncation_of_a_bundle_is_refused(small, trust, tmp_path):
    for length in range(len(small)):
        with pytest.raises(BundleError):
            read_bundle(small[:length], trust, tmp_path)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    member=st.sampled_from(
        ["manifest.json", "manifest.sig", "model.onnx", "certificate.json", "golden/golden.json", "golden/a.png"]
    ),
    content=st.binary(max_size=200) | st.text(max_size=100).map(str.encode),
)
def test_random_member_contents_raise_nothing_but_bundle_error(small, trust, tmp_path, member, content):
    with pytest.raises(BundleError):
        read_bundle(pack({**unpack(small), member: content}), trust, tmp_path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=10,
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(field=st.sampled_from(sorted(tiny_members()[0].__struct_fields__)), value=JSON)
def test_a_signed_manifest_with_random_values_is_read_or_refused(small, key, trust, tmp_path, field, value):
    data = resigned(small, key, manifest=lambda text: {**text, field: value})
    with contextlib.suppress(BundleError):
        read = getattr(read_bundle(data, trust, tmp_path).manifest, field)
        assert read == value or field in {"limit", "provenance", "members"}


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=100) | JSON.map(msgspec.json.encode))
def test_signed_manifests_of_random_bytes_raise_nothing_but_bundle_error(small, key, trust, tmp_path, content):
    parts = {name: value for name, value in unpack(small).items() if name not in {"manifest.json", "manifest.sig"}}
    with pytest.raises(BundleError):
        read_bundle(pack(signed(content, parts, key)), trust, tmp_path)


def test_a_manifest_nested_too_deep_is_refused(small, key, trust, tmp_path):
    parts = {name: value for name, value in unpack(small).items() if name not in {"manifest.json", "manifest.sig"}}
    deep = b'{"x":' * 20000 + b"1" + b"}" * 20000
    with pytest.raises(BundleError, match=r"manifest\.json"):
        read_bundle(pack(signed(deep, parts, key)), trust, tmp_path)
    with pytest.raises(BundleError, match=r"certificate\.json"):
        read_bundle(resigned(small, key, members={"certificate.json": deep}), trust, tmp_path)


def test_the_signature_is_checked_before_anything_is_interpreted(small, trust, tmp_path, monkeypatch):
    monkeypatch.setattr(reader, "decode_manifest", lambda content: pytest.fail("parsed before it was verified"))
    parts = {name: value for name, value in unpack(small).items() if name not in {"manifest.json", "manifest.sig"}}
    stranger = signed(unpack(small)["manifest.json"], parts, Ed25519PrivateKey.generate())
    with pytest.raises(SignatureError, match="does not trust"):
        read_bundle(pack(stranger), trust, tmp_path)


def test_an_unsigned_bundle_and_an_unknown_key_say_so(small, home, trust, tmp_path):
    parts = unpack(small)
    with pytest.raises(SignatureError, match="ed25519 KEY-ID SIGNATURE"):
        read_bundle(pack({**parts, "manifest.sig": b""}), trust, tmp_path)
    with pytest.raises(SignatureError, match=r"trusted: none; looked in no folder\); put the signer's \.pub"):
        read_bundle(small, TrustStore(), tmp_path)
    other, other_trust, _ = make_tiny_bundle(tmp_path / "other")
    with pytest.raises(SignatureError, match="which this box does not trust") as caught:
        open_bundle(other, trust)
    assert str(other) in str(caught.value)
    assert open_bundle(other, other_trust)


def test_a_newer_schema_is_told_from_a_damaged_one(small, key, trust, tmp_path):
    newer = resigned(small, key, manifest=lambda text: {**text, "schema": SCHEMA_VERSION + 1, "something_new": 1})
    with pytest.raises(BundleError, match=f"expected schema {SCHEMA_VERSION}, got {SCHEMA_VERSION + 1}; update onbelt"):
        read_bundle(newer, trust, tmp_path)
    unknown = resigned(small, key, manifest=lambda text: {**text, "something_new": 1})
    with pytest.raises(BundleError, match="something_new"):
        read_bundle(unknown, trust, tmp_path)
    lacking = resigned(small, key, manifest=lambda text: {k: v for k, v in text.items() if k != "budget_ms"})
    with pytest.raises(BundleError, match="budget_ms"):
        read_bundle(lacking, trust, tmp_path)


def inside(path: str, value: object):
    """An edit of the manifest: set the value at a dotted path."""

    def edit(text: dict[str, Any]) -> dict[str, Any]:
        target = text
        *parents, last = path.split(".")
        for parent in parents:
            target = target[parent]
        target[last] = value
        return text

    return edit


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("name", "a/b"), ("name", ""), ("name", "a" * 33), ("name", "../x"), ("product", "a b"), ("product", "#"),
        ("version", 0), ("version", 2**31), ("size", 36), ("size", 130), ("size", 2048), ("color", "bgr"), ("resize", "crop"),
        ("precision", "int4"), ("limit.raw", 0.0), ("limit.raw", -1.0), ("limit.false_reject", 0.0), ("limit.false_reject", 1.0),
        ("limit.confidence", 1.0),
        ("limit.kind", "hope"), ("limit.n", 0), ("limit.branches", {"st": 1.0, "ae": 1.0}),
        ("limit.branches", {"st": 1.0, "ae": 1.0, "global": 0.0}),
        ("limit.branches", {"st": 1.0, "ae": 1.0, "global": 1.0, "x": 1.0}),
        ("calibration", []), ("calibration", [2.0, 1.0]), ("agreement", 0.0), ("agreement", -1.0), ("budget_ms", 0.0),
        ("inspected", 0.0), ("inspected", 1.5), ("uncounted", ["sT"]), ("uncounted", ["st", "ae", "global"]),
    ],
)  # fmt: skip
def test_impossible_manifest_values_are_refused_by_name(small, key, trust, tmp_path, path, value):
    with pytest.raises(BundleError, match=rf"manifest\.json: {path}: expected .* got") as caught:
        read_bundle(resigned(small, key, manifest=inside(path, value)), trust, tmp_path)
    assert caught.value.member == "manifest.json"


@pytest.mark.parametrize(
    ("limit", "path", "said"),
    [
        ({"n": 99}, r"limit\.n", "the number of calibration scores, 100"),
        ({"raw": 1.01}, r"limit\.raw", "one of the calibration scores"),
        ({"raw": 0.5000001}, r"limit\.raw", "one of the calibration scores"),
        ({"raw": 0.5}, "limit", "rank 51 of 100 keeps"),
        (
            {"false_reject": 0.001, "confidence": 0.95},
            "limit",
            r"rank 100 of 100 keeps 0\.100% with 9\.5% confidence, not 95\.0%",
        ),
        ({"confidence": 0.0}, r"limit\.confidence", "0 for an estimate"),
        ({"kind": "estimate"}, r"limit\.confidence", "0 for an estimate"),
    ],
)
def test_a_guarantee_rests_on_the_scores_in_the_bundle(limit, path, said):
    manifest, _ = tiny_members()
    assert manifest.limit.kind == "guarantee"
    changed = msgspec.structs.replace(manifest, limit=msgspec.structs.replace(manifest.limit, **limit))
    with pytest.raises(BundleError, match=rf"manifest\.json: {path}: expected .*{said}"):
        encode_manifest(changed)
    with pytest.raises(BundleError, match=path):
        decode_manifest(msgspec.json.encode(changed))


def test_a_limit_rounded_by_another_writer_is_still_the_score_it_stands_on():
    manifest, _ = tiny_members()
    for raw in (1.0 - 1e-12, 1.0 + 1e-12):
        limit = msgspec.structs.replace(manifest.limit, raw=raw)
        assert decode_manifest(encode_manifest(msgspec.structs.replace(manifest, limit=limit))).limit.raw == raw


def test_the_bundle_that_ships_keeps_its_promise():
    manifest = decode_manifest(unpack(DEMO.read_bytes())["manifest.json"])
    assert (manifest.limit.kind, manifest.limit.n) == ("guarantee", 600)
    assert manifest.uncounted == [], "bundles made before the field say nothing of it"
    assert b"uncounted" not in encode_manifest(manifest)


def test_the_writer_refuses_what_the_reader_would(small):
    manifest = decode_manifest(unpack(small)["manifest.json"])
    assert decode_manifest(encode_manifest(manifest)) == manifest
    for bad in ({"calibration": [float("nan")]}, {"budget_ms": float("inf")}, {"agreement": float("nan")}, {"name": "a b"}):
        with pytest.raises(BundleError, match=next(iter(bad))):
            encode_manifest(msgspec.structs.replace(manifest, **bad))


def test_members_must_be_exactly_those_listed(small, key, trust, tmp_path):
    added = resigned(small, key, members={"golden/b.png": b"x"}, rehash=False)
    with pytest.raises(BundleError, match="not in the manifest") as caught:
        read_bundle(added, trust, tmp_path)
    assert caught.value.member == "golden/b.png"
    removed = resigned(small, key, members={"golden/a.png": None}, rehash=False)
    with pytest.raises(BundleError, match="not in the file") as caught:
        read_bundle(removed, trust, tmp_path)
    assert caught.value.member == "golden/a.png"
    changed = resigned(small, key, members={"model.onnx": b"grapH"}, rehash=False)
    with pytest.raises(BundleError, match="altered after signing") as caught:
        read_bundle(changed, trust, tmp_path)
    assert caught.value.member == "model.onnx"


ONE = {"picture": "golden/a.png", "engine": "none", "scores": [0.0, 0.0, 0.0, 0.0], "verdict": "pass"}


@pytest.mark.parametrize(
    "golden",
    [
        [], [ONE, ONE], [{**ONE, "picture": "golden/b.png"}], [{**ONE, "picture": "model.onnx"}], [{**ONE, "scores": [0.0] * 3}],
        [{**ONE, "verdict": "maybe"}], [{**ONE, "more": 1}], {}, "x",
    ],
)  # fmt: skip
def test_golden_entries_must_fit_the_pictures(small, key, trust, tmp_path, golden):
    data = resigned(small, key, members={"golden/golden.json": msgspec.json.encode(golden)})
    with pytest.raises(BundleError, match=r"golden/golden\.json") as caught:
        read_bundle(data, trust, tmp_path)
    assert caught.value.member == "golden/golden.json"


@pytest.mark.parametrize("picture", [b"x", png(good_frame(64)), png(good_frame(40))[:900], png(good_frame(40)[:, :, 0])])
def test_golden_pictures_must_be_whole_and_of_the_right_size(small, key, trust, tmp_path, picture):
    bundle = read_bundle(resigned(small, key, members={"golden/a.png": picture}), trust, tmp_path)
    with pytest.raises(BundleError, match=r"golden/a\.png: expected") as caught:
        bundle.picture("golden/a.png")
    assert caught.value.member == "golden/a.png"
    with pytest.raises(BundleError, match="expected a golden picture"):
        bundle.picture("model.onnx")


def test_a_jpeg_called_png_is_refused(small, key, trust, tmp_path):
    from PIL import Image

    Image.fromarray(good_frame(40)).save(tmp_path / "a.jpg")
    bundle = read_bundle(resigned(small, key, members={"golden/a.png": (tmp_path / "a.jpg").read_bytes()}), trust, tmp_path)
    with pytest.raises(BundleError, match="PNG"):
        bundle.picture("golden/a.png")


def test_what_is_no_file_is_refused_with_its_path(tmp_path, trust):
    (tmp_path / "empty.onbelt").write_bytes(b"")
    (tmp_path / "folder.onbelt").mkdir()
    (tmp_path / "text.onbelt").write_text("not a bundle at all")
    os.mkfifo(tmp_path / "pipe.onbelt")
    with (tmp_path / "huge.onbelt").open("wb") as file:
        file.truncate(MAX_BUNDLE_BYTES + 1)
    for name, message in {
        "missing": "no such bundle", "empty": "empty file", "folder": "got a directory", "pipe": "device or pipe",
        "huge": f"at most {MAX_BUNDLE_BYTES}", "text": r"no \.onbelt file",
    }.items():  # fmt: skip
        with pytest.raises(BundleError, match=message) as caught:
            open_bundle(tmp_path / f"{name}.onbelt", trust)
        assert str(tmp_path / f"{name}.onbelt") in str(caught.value)


def test_a_file_that_cannot_be_opened_is_refused(tmp_path, trust):
    loop = tmp_path / "loop.onbelt"
    loop.symlink_to(loop)
    with pytest.raises(BundleError, match="cannot open"):
        open_bundle(loop, trust)


def test_a_link_to_a_bundle_is_followed(small, tmp_path, trust):
    (tmp_path / "v1.onbelt").write_bytes(small)
    (tmp_path / "current.onbelt").symlink_to("v1.onbelt")
    assert open_bundle(tmp_path / "current.onbelt", trust).manifest.size == 40


def test_crc_alone_protects_nothing(small, trust, tmp_path):
    parts = unpack(small)
    forged = {**parts, "model.onnx": b"grapH"}
    assert zlib.crc32(forged["model.onnx"]) != zlib.crc32(parts["model.onnx"])
    with pytest.raises(BundleError, match=r"model\.onnx: expected 5 bytes, sha256") as caught:
        read_bundle(pack(forged), trust, tmp_path)
    assert caught.value.member == "model.onnx"
