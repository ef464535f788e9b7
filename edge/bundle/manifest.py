"""The manifest of a bundle: what the model is, what it takes, what it promises, and the hash of every other member.

Decoding refuses unknown fields and wrong types with the path of the fault. `schema` is an integer from the first day; a
reader knows the versions it can read and refuses others (docs/adr/0004).
"""

import msgspec

SCHEMA_VERSION = 1


class Member(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file in the bundle besides manifest and signature."""

    sha256: str
    bytes: int


class Limit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The limit on `raw` and what is promised of it.

    Attributes:
        raw: a part with a raw score above this is rejected; > 0, so that score/limit is 1.0 at the limit.
        false_reject: share of good parts the user accepts to be rejected.
        confidence: probability that the promise holds, over the draw of the calibration parts; 0 for an estimate.
        kind: "guarantee" (order statistic, distribution-free) or "estimate" (too few good parts for the promise).
        n: number of good parts it was fitted on.
        branches: limits of st, ae and global alone at the same rate; they attribute a cause, they reject nothing.
    """

    raw: float
    false_reject: float
    confidence: float
    kind: str
    n: int
    branches: dict[str, float]


class Provenance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the model comes from, enough to make it again."""

    data_sha256: str
    seed: int
    steps: int
    recipe: str
    teacher: str
    commit: str
    packages: dict[str, str]
    notes: str = ""


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `manifest.json` holds.

    Attributes:
        schema: version of this form.
        name: the bundle's name, also its file name. product: what it inspects. version: counts up per product.
        model: "dfsc-efficientad-s" and so on.
        size: side of the square input, pixels. color: "rgb". resize: "stretch-bilinear" (edge.preprocess.fit).
        precision: "int8", "fp16" or "fp32".
        created_utc: ISO 8601, a label.
        limit: the limit and its promise.
        calibration: raw scores of held-out good parts by the graph in this bundle, ascending; p-values come from them.
        agreement: largest |score difference| / limit seen between OpenVINO and ONNX Runtime on the golden and held-out
            frames, times the stated headroom: what `onbelt check` allows across engines.
        budget_ms: the daemon rejects this model at start if its p99 on the machine is above.
        members: every member but manifest.json and manifest.sig.
    """

    schema: int
    name: str
    product: str
    version: int
    model: str
    size: int
    color: str
    resize: str
    precision: str
    created_utc: str
    limit: Limit
    calibration: list[float]
    agreement: float
    budget_ms: float
    members: dict[str, Member]
    provenance: Provenance


class Golden(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One golden frame: `golden/{name}.png` and the scores it must give.

    Attributes:
        picture: member name of the PNG, (size, size, 3) RGB, lossless.
        engine: engine the scores were made with.
        scores: [raw, st, ae, global].
        verdict: "pass" or "reject" at the bundle's limit.
    """

    picture: str
    engine: str
    scores: list[float]
    verdict: str
