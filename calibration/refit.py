"""A limit for a model that exists, from more good parts, without training.

What changes is the limit and what goes with it; the network stays as it is. The same promise as at export (`calibration.limit`):
a guarantee where the parts suffice, else an estimate that says so.
"""

import datetime
from dataclasses import dataclass, replace
from typing import Literal, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from calibration.compare import two_sample_p
from calibration.limit import FittedLimit, LimitKind, fit_limit
from calibration.parts import GoodParts
from calibration.rules import fit_rules, shares
from edge.bundle.manifest import BRANCHES, Limit, Manifest, Rule
from edge.bundle.reader import Bundle
from edge.errors import DataError
from edge.limits.apply import model_hash, newly_passing
from edge.limits.file import SignedLimit
from edge.limits.form import SCHEMA_VERSION, LimitForm, Source
from edge.wire.verdict import references

POOL_P = 0.01
"""Below this, old and new scores are not of one law: a pooled limit would promise something of a mixture nobody produces."""

_SMALLEST_BRANCH = 1e-6  # a branch's limit divides: what never rises above 0 on good parts gets this, as at export


@dataclass(frozen=True, slots=True)
class Refit:
    """What came out.

    Attributes:
        form: the limit, ready to be signed. fitted: the same with its promise in words.
        before: the limit in force until now. alike: p-value of "these parts score like those the limit before was fitted on".
    """

    form: LimitForm
    fitted: FittedLimit
    before: Limit
    alike: float


@dataclass(frozen=True, slots=True)
class RefitRequest:
    """What is asked for.

    Attributes:
        false_reject, confidence: the promise. pool: add the scores of the limit in force to the new ones.
        rules: further limits, for a cause or a place, that share the promise.
        accept_missed: the limit may let golden pictures pass that were rejected before.
        approved_by, note: go into the file. now_us: microseconds UTC, a label.
        counted: versions of this model's limits that are known, whether in force or not; the new one comes after both.
    """

    false_reject: float
    confidence: float
    pool: bool
    accept_missed: bool
    approved_by: str
    note: str
    now_us: int
    rules: tuple[Rule, ...] = ()
    counted: int = 0


def refit(bundle: Bundle, in_force: SignedLimit | None, parts: GoodParts, request: RefitRequest) -> Refit:
    """Fit a limit on good parts.

    Args:
        bundle: the model, with its own limit.
        in_force: the limit file in use, None for the bundle's own limit.
        parts: scores of good parts.
        request: what is promised and by whom.

    Raises:
        DataError: too few parts, scores that are not finite, parts that differ from those to be pooled with, a limit that is not
            above 0, or one under which golden pictures pass that must be rejected.
    """
    manifest = bundle.manifest
    before, old_scores, old_branches, version = _before(manifest, in_force)
    new = parts.scores[:, 0]
    if not new.size:
        raise DataError(
            f"expected scores of good parts, got none of {parts.repeated + parts.invalid} ({parts.invalid} could not be judged)"
        )
    alike = two_sample_p(new, old_scores)
    if request.pool and alike < POOL_P:
        raise DataError(
            f"the {new.size} parts do not score like the {old_scores.size} of the limit in force (p = {alike:.2g}, median "
            f"{np.median(new):.4g} against {np.median(old_scores):.4g}): they cannot be pooled; leave out --pool to "
            "fit the limit on these parts alone"
        )
    if request.pool and request.rules:
        raise DataError("--pool and --also: the scores of the limit before say nothing of these places; leave one of them out")
    raw = np.concatenate([new, old_scores]) if request.pool else new
    each = shares(request.false_reject, request.confidence, len(request.rules))
    fitted = fit_limit(raw, *each)
    rules = fit_rules(request.rules, _ruled(request.rules, parts), *each) if request.rules else []
    if rules:
        sure = request.confidence if fitted.kind is LimitKind.GUARANTEE else 0.0
        carried = min((1 + len(rules)) * fitted.carried, 0.999999)
        fitted = replace(fitted, false_reject=request.false_reject, confidence=sure, carried=carried)
    if not fitted.value > 0:
        raise DataError(f"expected a limit above 0, got {fitted.value}: these scores are not those of parts seen by a camera")
    passing = newly_passing(bundle.golden, fitted.value)
    if passing and not request.accept_missed:
        raise DataError(
            f"under the limit {fitted.value:.6g} (before: {before.raw:.6g}) golden pictures pass that must be rejected: "
            f"{', '.join(passing)}; look for bad parts among the pictures, or say --accept-missed"
        )
    branches = {}
    for column, name in enumerate(BRANCHES, start=1):
        branches[name] = np.concatenate([parts.scores[:, column], old_branches.get(name, np.empty(0)) if request.pool else []])
    form = LimitForm(
        schema=SCHEMA_VERSION,
        version=max(version, request.counted) + 1,
        model=model_hash(bundle),
        name=manifest.name,
        product=manifest.product,
        replaces=references(msgspec.structs.replace(manifest, limit=before), bundle.sha256)[2],
        created_utc=datetime.datetime.fromtimestamp(request.now_us // 1_000_000, datetime.timezone.utc).isoformat(),
        approved_by=request.approved_by,
        note=request.note,
        limit=Limit(
            raw=fitted.value,
            false_reject=request.false_reject,
            confidence=fitted.confidence,
            kind=fitted.kind.value,
            n=fitted.n,
            branches={
                name: max(fit_limit(values, request.false_reject, request.confidence).value, _SMALLEST_BRANCH)
                for name, values in branches.items()
            },
            rules=rules,
        ),
        rank=fitted.rank,
        interval=fitted.interval,
        carried=fitted.carried,
        calibration=_ascending(raw),
        branches={name: _ascending(values) for name, values in branches.items()},
        lets_pass=passing,
        source=Source(
            kind=cast('Literal["pictures", "journal"]', parts.kind),
            sha256=parts.sha256,
            new=int(new.size),
            pooled=int(raw.size - new.size),
            repeated=parts.repeated,
            invalid=parts.invalid,
            engine=parts.engine,
        ),
    )
    return Refit(form, fitted, before, alike)


def _ruled(rules: tuple[Rule, ...], parts: GoodParts) -> NDArray[np.float64]:
    """(n, m) what the rules look at; from a journal only what verdicts carry."""
    if parts.kind == "pictures":
        return parts.ruled
    if any(rule.box for rule in rules):
        raise DataError("--also with a place: expected pictures (--good), a journal holds no maps; name a branch alone")
    return np.stack([parts.scores[:, 1 + BRANCHES.index(rule.branch)] for rule in rules], axis=1)


def _before(
    manifest: Manifest, in_force: SignedLimit | None
) -> tuple[Limit, NDArray[np.float64], dict[str, NDArray[np.float64]], int]:
    """The limit in force: limit, raw scores, branch scores where they are known, version."""
    if in_force is None:
        return manifest.limit, np.asarray(manifest.calibration, np.float64), {}, 0
    form = in_force.form
    branches = {name: np.asarray(values, np.float64) for name, values in form.branches.items()}
    return form.limit, np.asarray(form.calibration, np.float64), branches, form.version


def _ascending(values: NDArray[np.float64]) -> list[float]:
    return [float(value) for value in np.sort(values)]
