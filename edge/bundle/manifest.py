"""The manifest of a bundle: what the model is, what it takes, what it promises, and the hash of every other member.

Decoding refuses unknown fields and wrong types with the path of the fault. `schema` is an integer from the first day; a
reader knows the versions it can read and refuses others (docs/adr/0004).
"""

import bisect
import math
import re
from collections.abc import Mapping

import msgspec

from edge.binomial import cdf
from edge.errors import BundleError

SCHEMA_VERSION = 1
BRANCHES = ("st", "ae", "global")
MAX_RULES = 8
MIN_SIZE_PX, MAX_SIZE_PX = 40, 1024  # below 40 the unpadded grid (size/4 - 8) has no cell inside; above is no INT8 model of ours
# The name goes into topics, file names and the page: nothing in it may mean something there.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
_SCORE_ROUNDING = 1e-9  # relative; float64 in JSON is exact, other writers may round
_RISK_ROUNDING = 1e-6  # relative: sums of 200,000 parts differ by some 1e-9 between machines; 95 % may be 94.999995 %


class Member(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file in the bundle besides manifest and signature."""

    sha256: str
    bytes: int


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A further limit, for a cause or a place: a part above it is rejected whatever its fused score.

    Attributes:
        name: for people. branch: "st", "ae" or "global": what it looks at.
        limit: on that branch's score, > 0. false_reject: its share of what is promised.
        box: [x, y, w, h] in fractions of the picture; empty looks everywhere.
    """

    name: str
    branch: str
    limit: float
    false_reject: float
    box: list[float] = []


class Limit(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The limit on `raw` and what is promised of it.

    Attributes:
        raw: a part with a raw score above this is rejected; > 0, so that score/limit is 1.0 at the limit.
        false_reject: share of good parts the user accepts to be rejected.
        confidence: probability that the promise holds, over the draw of the calibration parts; 0 for an estimate.
        kind: "guarantee" (order statistic, distribution-free) or "estimate" (too few good parts for the promise).
        n: number of good parts it was fitted on.
        branches: limits of st, ae and global alone at the same rate; they attribute a cause, they reject nothing.
        rules: further limits; the promise is that of the fused one and all of them together.
    """

    raw: float
    false_reject: float
    confidence: float
    kind: str
    n: int
    branches: dict[str, float]
    rules: list[Rule] = []


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


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
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
        inspected: share of the maps' cells that count; below 1 where the picture shows more than the part and a region was named.
        uncounted: branches of weight 0 in the fused score: told, and never the cause. Bundles made before do not say: none.
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
    inspected: float = 1.0
    uncounted: list[str] = []


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


class _SchemaOnly(msgspec.Struct, frozen=True):
    schema: int


def encode_manifest(manifest: Manifest) -> bytes:
    """The bytes of manifest.json: what is signed.

    Raises:
        BundleError: a value that no reader would accept.
    """
    _check(manifest)
    return msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"


def decode_manifest(content: bytes) -> Manifest:
    """Read manifest.json; call it with verified bytes only.

    Raises:
        BundleError: not JSON, a field missing, unknown or of a wrong type (with its path), an impossible value, or a schema
            this version cannot read.
    """
    try:
        schema = msgspec.json.decode(content, type=_SchemaOnly).schema
        if schema != SCHEMA_VERSION:
            remedy = "update onbelt on this box" if schema > SCHEMA_VERSION else "export the bundle again"
            raise BundleError(
                f"manifest.json: expected schema {SCHEMA_VERSION}, got {schema}; {remedy}",
                member="manifest.json",
            )
        manifest = msgspec.json.decode(content, type=Manifest)
    except (msgspec.MsgspecError, ValueError, RecursionError) as exc:
        raise BundleError(f"manifest.json: not as agreed ({exc}); export the bundle again", member="manifest.json") from exc
    _check(manifest)
    return manifest


def _check(manifest: Manifest) -> None:
    limit, calibration = manifest.limit, manifest.calibration
    guaranteed, n = limit.kind == "guarantee", len(calibration)
    rank = bisect.bisect_right(calibration, limit.raw * (1.0 + _SCORE_ROUNDING))
    ranked = 0 < rank <= n and math.isclose(calibration[rank - 1], limit.raw, rel_tol=_SCORE_ROUNDING)
    size_fits = MIN_SIZE_PX <= manifest.size <= MAX_SIZE_PX and manifest.size % 4 == 0
    rules = (
        (_NAME.fullmatch(manifest.name), "name", "letters, digits and . _ - (at most 32)", manifest.name),
        (_NAME.fullmatch(manifest.product), "product", "letters, digits and . _ - (at most 32)", manifest.product),
        (1 <= manifest.version < 2**31, "version", "from 1 to 2147483647", manifest.version),
        (size_fits, "size", f"a multiple of 4 from {MIN_SIZE_PX} to {MAX_SIZE_PX}", manifest.size),
        (manifest.color == "rgb", "color", "rgb", manifest.color),
        (manifest.resize == "stretch-bilinear", "resize", "stretch-bilinear", manifest.resize),
        (manifest.precision in {"int8", "fp16", "fp32"}, "precision", "int8, fp16 or fp32", manifest.precision),
        (_positive(limit.raw), "limit.raw", "a finite number above 0", limit.raw),
        (0 < limit.false_reject < 1, "limit.false_reject", "between 0 and 1", limit.false_reject),
        (limit.kind in {"guarantee", "estimate"}, "limit.kind", "guarantee or estimate", limit.kind),
        (
            0 < limit.confidence < 1 if guaranteed else limit.confidence == 0,
            "limit.confidence",
            "0 for an estimate, else in (0, 1)",
            limit.confidence,
        ),
        (limit.n >= 1, "limit.n", "at least 1", limit.n),
        (set(limit.branches) == set(BRANCHES), "limit.branches", f"{BRANCHES}", sorted(limit.branches)),
        (all(map(_positive, limit.branches.values())), "limit.branches", "finite numbers above 0", limit.branches),
        (not (wrong := wrong_rule(limit)), "limit.rules", "rules that can be judged by", wrong),
        (calibration and all(map(math.isfinite, calibration)), "calibration", "at least one finite score", calibration[:3]),
        (calibration == sorted(calibration), "calibration", "ascending scores", "another order"),
        (limit.n == n, "limit.n", f"the number of calibration scores, {n}", limit.n),
        (not guaranteed or ranked, "limit.raw", "one of the calibration scores, for a guarantee", limit.raw),
        (not (broken := wrong_promise(limit, rank, n)), "limit", "a guarantee that its parts carry", broken),
        (_positive(manifest.agreement), "agreement", "a finite number above 0", manifest.agreement),
        (_positive(manifest.budget_ms), "budget_ms", "a finite number above 0", manifest.budget_ms),
        (0 < manifest.inspected <= 1, "inspected", "above 0, at most 1", manifest.inspected),
        (set(manifest.uncounted) < set(BRANCHES), "uncounted", f"some of {BRANCHES}, not all", manifest.uncounted[:4]),
    )
    for holds, name, expected, got in rules:
        if not holds:
            raise BundleError(
                f"manifest.json: {name}: expected {expected}, got {got!r}; export the bundle again", member="manifest.json"
            )


def wrong_rule(limit: Limit) -> str:
    """What is wrong with the rules of a limit; empty when nothing is."""
    if len(limit.rules) > MAX_RULES or len({rule.name for rule in limit.rules}) != len(limit.rules):
        return f"{len(limit.rules)} rules, expected at most {MAX_RULES} with names of their own"
    for rule in limit.rules:
        x, y, w, h = rule.box if len(rule.box) == 4 else (0.0, 0.0, 1.0, 1.0)
        fits = all(map(math.isfinite, rule.box)) and x >= 0 and y >= 0 and w > 0 and h > 0 and x + w <= 1 and y + h <= 1
        if not _NAME.fullmatch(rule.name) or rule.branch not in BRANCHES or not _positive(rule.limit):
            return f"rule {rule.name[:32]!r}: branch {rule.branch[:16]!r}, limit {rule.limit}"
        if not fits or len(rule.box) not in {0, 4} or (rule.box and rule.branch == "global"):
            return f"rule {rule.name!r}: box {rule.box[:8]}"
        if not 0 < rule.false_reject < limit.false_reject:
            return f"rule {rule.name!r}: false_reject {rule.false_reject} of {limit.false_reject} in all"
    return ""


def wrong_promise(limit: Limit, rank: int, n: int, ranks: Mapping[str, int] | None = None) -> str:
    """What a guarantee promises beyond what its parts carry; empty when nothing, or when it is no guarantee.

    More than a share e of good parts lies above the k-th smallest of n scores with probability P(Binomial(n, e) <= n - k) at
    most (Wilks, Ann. Math. Stat. 12, 1941). Beside rules the fused limit has the share that theirs leave, and each limit has an
    equal part of the risk: so `calibration.rules` divides the promise.

    Args:
        limit: with its promise.
        rank: k of the fused limit.
        n: good parts all limits were fitted on.
        ranks: k of rules' limits, by name, where their scores are known. Of another rule only this is asked: that the largest of
            so many scores would carry its share.
    """
    if limit.kind != "guarantee":
        return ""
    risk = (1.0 - limit.confidence) / (1 + len(limit.rules))
    known = ranks or {}
    each = [("fused limit", rank, limit.false_reject - sum(rule.false_reject for rule in limit.rules))]
    each += [(f"rule {rule.name[:32]!r}", known.get(rule.name, n), rule.false_reject) for rule in limit.rules]
    for name, k, share in each:
        if not 1 <= k <= n or not 0 < share < 1:
            return f"{name}: rank {k} of {n} for {share:.3%} of good parts"
        if not (taken := cdf(n - k, n, share)) <= risk * (1.0 + _RISK_ROUNDING):
            return f"{name}: rank {k} of {n} keeps {share:.3%} with {1.0 - taken:.1%} confidence, not {1.0 - risk:.1%}"
    return ""


def _positive(value: float) -> bool:
    return math.isfinite(value) and value > 0
