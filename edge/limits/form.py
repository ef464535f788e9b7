"""What a limit file holds: a limit fitted anew for one model, and everything its promise rests on.

The limit in a bundle is fitted where the model is made. On the line there are soon more good parts, and they are the line's own.
A limit file carries what they give: the limit, the scores it was fitted on (p-values and drift alarms come from them), who
approved it and why. It belongs to one network, named by the hash of `model.onnx`; under any other it is refused.

A file is signed over these exact bytes, see `edge.limits.file`. Unknown fields are refused (docs/adr/0004).
"""

import bisect
import datetime
import math
import re
from typing import Literal

import msgspec

from edge.bundle.manifest import BRANCHES, Limit, wrong_promise, wrong_rule
from edge.errors import LimitError

SCHEMA_VERSION = 1
MAX_SCORES = 200_000
"""A day of ten parts a second would be more; beyond it a limit gains nothing, and the file has to be read on a small box."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_TEXT = re.compile(r"[ -~]{0,200}")
_WHO = re.compile(r"[ -~]{1,80}")


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the good parts come from.

    Attributes:
        kind: "pictures" (a folder, judged again) or "journal" (scores as they were judged on the line).
        sha256: hash over the parts used, in order: of their pixels, or of their verdicts' payloads.
        new: parts judged for this limit. pooled: scores taken over from the limit before. repeated: parts left out because an
            identical one was there already. invalid: parts that could not be judged.
        engine: what gave the scores.
    """

    kind: Literal["pictures", "journal"]
    sha256: str
    new: int
    pooled: int
    repeated: int
    invalid: int
    engine: str


class LimitForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of a limit file.

    Attributes:
        schema: version of this form. version: counts up per model; the bundle's own limit is 0.
        model: SHA-256 of the bundle's `model.onnx`, hex. name, product: of that bundle, for people.
        replaces: reference of the limit in force before, as verdicts carry it in `ctx.limit`.
        created_utc: ISO 8601, a label. approved_by, note: who vouches that the parts were good, and why the limit is set anew.
        limit: the limit and its promise, the form a bundle has it in.
        rank: k, the limit is the k-th smallest score; 0 for an estimate.
        interval: 90 % interval of an estimate, on the raw score; for a guarantee the limit twice.
        carried: false-reject rate that so many parts can promise at the confidence asked for.
        calibration: raw scores of the good parts, ascending.
        branches: scores of "st", "ae" and "global" of the newly judged parts, each ascending.
        lets_pass: golden pictures of the bundle that were rejected and pass under this limit: whoever signs has seen them.
        source: where the parts come from.
    """

    schema: int
    version: int
    model: str
    name: str
    product: str
    replaces: str
    created_utc: str
    approved_by: str
    note: str
    limit: Limit
    rank: int
    interval: tuple[float, float]
    carried: float
    calibration: list[float]
    branches: dict[str, list[float]]
    lets_pass: list[str]
    source: Source


class _SchemaOnly(msgspec.Struct, frozen=True):
    schema: int


def encode_limit(form: LimitForm) -> bytes:
    """The bytes that are signed.

    Raises:
        LimitError: a value that no reader would accept.
    """
    _check(form)
    return msgspec.json.format(msgspec.json.encode(form), indent=1) + b"\n"


def decode_limit(content: bytes) -> LimitForm:
    """Read the bytes that were signed; call it with verified bytes only.

    Raises:
        LimitError: not JSON, a field missing, unknown or of a wrong type (with its path), an impossible value, or a schema this
            version cannot read.
    """
    try:
        schema = msgspec.json.decode(content, type=_SchemaOnly).schema
        if schema != SCHEMA_VERSION:
            remedy = "update onbelt on this box" if schema > SCHEMA_VERSION else "make the limit again with onbelt limit"
            raise LimitError(f"limit: expected schema {SCHEMA_VERSION}, got {schema}; {remedy}")
        form = msgspec.json.decode(content, type=LimitForm)
    except (msgspec.MsgspecError, ValueError, RecursionError) as exc:
        raise LimitError(f"limit: not as agreed ({exc}); make it again with onbelt limit") from exc
    _check(form)
    return form


def _check(form: LimitForm) -> None:
    limit, scores = form.limit, form.calibration
    n, guaranteed = len(scores), limit.kind == "guarantee"
    counts = (form.source.new, form.source.pooled, form.source.repeated, form.source.invalid)
    low, high = form.interval
    ranked = scores[form.rank - 1] if 1 <= form.rank <= n else math.nan
    rules = (
        (1 <= form.version < 2**31, "version", "from 1 to 2147483647", form.version),
        (_SHA256.fullmatch(form.model), "model", "64 hex digits", form.model),
        (_SHA256.fullmatch(form.source.sha256), "source.sha256", "64 hex digits", form.source.sha256),
        (_is_time(form.created_utc), "created_utc", "a time in ISO 8601", form.created_utc),
        (_WHO.fullmatch(form.approved_by), "approved_by", "1 to 80 printable ASCII characters", form.approved_by),
        (_TEXT.fullmatch(form.note), "note", "at most 200 printable ASCII characters", form.note),
        (_positive(limit.raw), "limit.raw", "a finite number above 0", limit.raw),
        (0 < limit.false_reject < 1, "limit.false_reject", "between 0 and 1", limit.false_reject),
        (limit.kind in {"guarantee", "estimate"}, "limit.kind", "guarantee or estimate", limit.kind),
        (
            0 < limit.confidence < 1 if guaranteed else limit.confidence == 0,
            "limit.confidence",
            "0 for an estimate, else in (0, 1)",
            limit.confidence,
        ),
        (set(limit.branches) == set(BRANCHES), "limit.branches", f"{BRANCHES}", sorted(limit.branches)),
        (all(map(_positive, limit.branches.values())), "limit.branches", "finite numbers above 0", limit.branches),
        (not (wrong := wrong_rule(limit)), "limit.rules", "rules that can be judged by", wrong),
        (1 <= n <= MAX_SCORES, "calibration", f"1 to {MAX_SCORES} scores", n),
        (_ascending(scores), "calibration", "finite scores, ascending", "others"),
        (limit.n == n, "limit.n", f"the number of calibration scores, {n}", limit.n),
        # A limit that claims to be an order statistic must be one: the promise is about nothing else.
        (1 <= form.rank <= n if guaranteed else form.rank == 0, "rank", "1 to n for a guarantee, else 0", form.rank),
        (not guaranteed or limit.raw == ranked, "limit.raw", "the score of its rank", limit.raw),
        (not (broken := wrong_promise(limit, form.rank, n, _ranks(form))), "limit", "a guarantee that its parts carry", broken),
        (
            math.isfinite(low) and math.isfinite(high) and low <= high,
            "interval",
            "two finite ends, the lower first",
            form.interval,
        ),
        (0 < form.carried < 1, "carried", "between 0 and 1", form.carried),
        (set(form.branches) == set(BRANCHES), "branches", f"{BRANCHES}", sorted(form.branches)),
        (all(map(_ascending, form.branches.values())), "branches", "finite scores, ascending", "others"),
        (min(counts) >= 0 and sum(counts[:2]) == n, "source", f"new and pooled parts to be {n}", counts),
    )
    for holds, name, expected, got in rules:
        if not holds:
            raise LimitError(f"limit: {name}: expected {expected}, got {got!r}; make it again with onbelt limit")


def _ranks(form: LimitForm) -> dict[str, int]:
    """Rank of each rule's limit among its branch's scores; a rule for a place looks at cells whose scores are not in the file."""
    whole = [rule for rule in form.limit.rules if not rule.box and len(form.branches.get(rule.branch, [])) == form.limit.n]
    return {rule.name: bisect.bisect_right(form.branches[rule.branch], rule.limit) for rule in whole}


def _positive(value: float) -> bool:
    return math.isfinite(value) and value > 0


def _ascending(values: list[float]) -> bool:
    return all(map(math.isfinite, values)) and values == sorted(values)


def _is_time(text: str) -> bool:
    try:
        datetime.datetime.fromisoformat(text)
    except ValueError:
        return False
    return len(text) <= 40
