"""Tiny signed bundles whose scores follow from the frame in a way a test can say in one line.

    st     = (mean red   of the reddest  4x4 block - 100) / 50      a red patch is a structural defect
    ae     = (mean green of the greenest 4x4 block - 100) / 50      a green patch is a logical one
    global = (mean blue of the frame               - 100) / 50      a blue frame is odd as a whole
    raw    = max(st, ae, global), limit 1.0

`good_frame` (all channels near 100) passes, `bad_frame("structural")` and its kin score 2.0 and are rejected.
"""

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from edge import __version__
from edge.bundle import format as bundle_format
from edge.bundle.manifest import SCHEMA_VERSION, Golden, Limit, Manifest, Member, Provenance
from edge.bundle.signing import TrustStore, generate_key, load_private, sign

SIZE = 64
CENTRE, SCALE = 100.0, 50.0


def good_frame(size: int = SIZE, seed: int = 0) -> np.ndarray:
    """(size, size, 3) uint8 with every channel around 100: scores near 0."""
    return np.random.default_rng(seed).integers(96, 105, (size, size, 3), dtype=np.uint8)


def bad_frame(cause: str = "structural", size: int = SIZE, value: int = 200, seed: int = 0) -> np.ndarray:
    """A good frame with a defect: an 8 px red ("structural") or green ("logical") patch, or a blue frame ("global")."""
    frame = good_frame(size, seed)
    middle = slice(size // 2 - 4, size // 2 + 4)
    if cause == "global":
        frame[:, :, 2] = value
    else:
        frame[middle, middle, {"structural": 0, "logical": 1}[cause]] = value
    return frame


def expected_scores(frame: np.ndarray) -> tuple[float, float, float, float]:
    """[raw, st, ae, global] of the tiny graph, computed in numpy."""
    size = frame.shape[0]
    blocks = frame.astype(np.float32).reshape(size // 4, 4, size // 4, 4, 3).mean(axis=(1, 3))[4:-4, 4:-4]
    st, ae = ((blocks[:, :, channel].max() - CENTRE) / SCALE for channel in (0, 1))
    global_ = (frame[:, :, 2].mean() - CENTRE) / SCALE
    return float(max(st, ae, global_)), float(st), float(ae), float(global_)


def tiny_model(size: int = SIZE, *, work: int = 0, nan_above: float | None = None) -> onnx.ModelProto:
    """The graph above.

    Args:
        size: side of the input.
        work: products of 512x512 matrices to add without effect on the scores; one takes some 3 ms on a core.
        nan_above: the scores become NaN when the frame's mean red is above this.
    """
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []

    def constant(name: str, value: object) -> str:
        weights.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    cells = size // 4 - 8
    node("Cast", ["frame"], "float", to=TensorProto.FLOAT)
    node("Transpose", ["float"], "nchw", perm=[0, 3, 1, 2])
    node("AveragePool", ["nchw"], "blocks", kernel_shape=[4, 4], strides=[4, 4])
    centre, scale = constant("centre", np.float32(CENTRE)), constant("scale", np.float32(SCALE))
    node("Div", [node("Sub", ["blocks", centre], "shifted"), scale], "scaled")
    grid = [constant(n, np.array(v, np.int64)) for n, v in (("from", [4, 4]), ("to", [4 + cells, 4 + cells]), ("axes", [2, 3]))]
    node("Slice", ["scaled", *grid], "inner")
    shape = constant("shape", np.array([cells, cells], np.int64))
    for channel, name in ((0, "map_st"), (1, "map_ae")):
        index = constant(f"channel{channel}", np.array([channel], np.int64))
        node("Reshape", [node("Gather", ["inner", index], f"{name}4", axis=1), shape], name)
        node(
            "Reshape",
            [node("ReduceMax", [name], f"{name}_max", keepdims=0), constant(f"v{channel}", np.array([1], np.int64))],
            f"s{channel}",
        )
    blue = node("Gather", ["scaled", constant("channel2", np.array([2], np.int64))], "blue", axis=1)
    node("Reshape", [node("ReduceMean", [blue], "blue_mean", keepdims=0), constant("v2", np.array([1], np.int64))], "s2")
    node("Max", ["s0", "s1", "s2"], "raw")
    scores = node("Concat", ["raw", "s0", "s1", "s2"], "scores_plain", axis=0)
    if work:
        # relu(-|x|) is 0 whatever the products give, but no optimiser knows.
        weight = constant("w", np.random.default_rng(0).normal(0, 0.04, (512, 512)).astype(np.float32))
        x = node("Add", [node("ReduceMean", ["float"], "seed_of_work", keepdims=0), weight], "work0")
        for step in range(work):
            x = node("Tanh", [node("MatMul", [x, weight], f"product{step}")], f"work{step + 1}")
        x = node("Relu", [node("Neg", [node("Abs", [node("ReduceMean", [x], "m", keepdims=0)], "a")], "neg")], "nothing")
        scores = node("Add", [scores, x], "scores_worked")
    if nan_above is not None:
        red = node("ReduceMean", [node("Gather", ["nchw", "channel0"], "red", axis=1)], "red_mean", keepdims=0)
        root = node("Sqrt", [node("Sub", [constant("bound", np.float32(nan_above)), red], "below")], "root")
        scores = node("Add", [scores, node("Mul", [root, constant("tiny", np.float32(1e-30))], "vanishing")], "scores_nan")
    node("Identity", [scores], "scores")
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("frame", TensorProto.UINT8, [1, size, size, 3])],
        [
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, [4]),
            helper.make_tensor_value_info("map_st", TensorProto.FLOAT, [cells, cells]),
            helper.make_tensor_value_info("map_ae", TensorProto.FLOAT, [cells, cells]),
        ],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def png(frame: np.ndarray) -> bytes:
    """A frame as the bytes of a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "PNG", optimize=False)
    return buffer.getvalue()


def tiny_members(
    *,
    size: int = SIZE,
    name: str = "tiny",
    product: str = "tiny",
    version: int = 1,
    limit: float = 1.0,
    budget_ms: float = 1000.0,
    agreement: float = 1e-3,
    work: int = 0,
    nan_above: float | None = None,
    golden_error: float = 0.0,
    golden_scores: Callable[[np.ndarray], list[float]] | None = None,
    calibration: list[float] | None = None,
    model: bytes | None = None,
) -> tuple[Manifest, dict[str, bytes]]:
    """The unsigned contents: a manifest and every other member. Arguments as `make_tiny_bundle`."""
    golden = []
    members = {
        bundle_format.MODEL: model or tiny_model(size, work=work, nan_above=nan_above).SerializeToString(),
        bundle_format.CERTIFICATE: msgspec.json.encode({"schema": 1, "against": "fp32", "flips": 0, "largest_difference": 0.0}),
    }
    for label, frame in (
        ("good", good_frame(size)),
        ("structural", bad_frame("structural", size)),
        ("logical", bad_frame("logical", size)),
    ):
        picture = f"golden/{label}.png"
        members[picture] = png(frame)
        scores = list((golden_scores or expected_scores)(frame))
        verdict = "pass" if scores[0] <= limit else "reject"
        golden.append(Golden(picture, "onnxruntime", [score + golden_error for score in scores], verdict))
    members[bundle_format.GOLDEN] = msgspec.json.encode(golden)
    confidence, kind = (0.9, "guarantee") if calibration is None else (0.0, "estimate")  # the largest of 100 carries 5 % at 90 %
    calibration = sorted(calibration or [*(round(limit * (0.1 + 0.008 * i), 6) for i in range(99)), limit])
    manifest = Manifest(
        schema=SCHEMA_VERSION,
        name=name,
        product=product,
        version=version,
        model="efficientad-s",
        size=size,
        color="rgb",
        resize="stretch-bilinear",
        precision="fp32",
        created_utc="2026-01-01T00:00:00Z",
        limit=Limit(limit, 0.05, confidence, kind, len(calibration), {"st": limit, "ae": limit, "global": limit}),
        calibration=calibration,
        agreement=agreement,
        budget_ms=budget_ms,
        members={},
        provenance=Provenance("0" * 64, 0, 0, "tiny", "none", "0" * 40, {"onbelt": __version__}),
    )
    return seal_hashes(manifest, members), members


def seal_hashes(manifest: Manifest, members: dict[str, bytes]) -> Manifest:
    """The manifest with the members' true sizes and hashes."""
    listed = {name: Member(hashlib.sha256(content).hexdigest(), len(content)) for name, content in sorted(members.items())}
    return msgspec.structs.replace(manifest, members=listed)


def signed(manifest: bytes, members: dict[str, bytes], key: Ed25519PrivateKey) -> dict[str, bytes]:
    """All members, with manifest and signature."""
    return {**members, bundle_format.MANIFEST: manifest, bundle_format.SIGNATURE: sign(manifest, key)}


def make_key(folder: Path) -> tuple[Ed25519PrivateKey, Path]:
    """The key of this folder, made when there is none: the private key, and the trust folder with its public half."""
    trust_folder = folder / "trusted"
    private = folder / "signing.key"
    if not private.exists():
        generate_key(private)
        trust_folder.mkdir(exist_ok=True)
        (folder / "signing.key.pub").rename(trust_folder / "signing.pub")
    return load_private(private), trust_folder


def make_tiny_bundle(
    folder: Path,
    *,
    edit: Callable[[Manifest], Manifest] | None = None,
    **variant: object,
) -> tuple[Path, TrustStore, Path]:
    """Write a tiny signed bundle; calls with one folder share one key.

    Args:
        folder: where bundle, key and trust folder go; made when missing.
        edit: changes the manifest before it is signed (nothing checks that the result makes sense).
        variant: what differs from the plain one: `size` (64), `name` ("tiny": also the file's name), `product`, `version`,
            `limit` (1.0), `budget_ms` (1000), `agreement` (1e-3), `work` (slow: n products of 512x512 matrices, about 3 ms
            each), `nan_above` (NaN when the mean red is above), `golden_error` (added to the stored golden scores),
            `golden_scores` (frame -> [raw, st, ae, global]: what another graph gives),
            `calibration` (100 scores, from a tenth of the limit to the limit; with scores of one's own the limit is an estimate),
            `model` (ONNX bytes in place of the tiny graph).

    Returns:
        The bundle, a trust store that trusts it, and the folder that store was read from.
    """
    folder.mkdir(parents=True, exist_ok=True)
    key, trust_folder = make_key(folder)
    manifest, members = tiny_members(**variant)  # type: ignore[arg-type]
    manifest = edit(manifest) if edit else manifest
    path = folder / f"{manifest.name}.onbelt"
    path.write_bytes(bundle_format.pack(signed(msgspec.json.encode(manifest), members, key)))
    return path, TrustStore.from_folders([trust_folder]), trust_folder
