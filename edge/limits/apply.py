"""Puts a limit in force: the bundle as if it had been made with this limit.

Everything that judges takes limit and calibration scores from the manifest, so the one place where a limit enters is here, and
every verdict names it (`ctx.limit` is a hash of the limit in force). Refused are:

- a limit fitted for another network (its hash of `model.onnx` differs): its numbers mean nothing here;
- a limit under which a golden picture passes that the bundle says must be rejected, unless the signed file names that picture:
  nobody loosens a limit past a known defect without having said so.
"""

from dataclasses import replace

import msgspec

from edge.bundle.format import MODEL
from edge.bundle.manifest import Golden
from edge.bundle.reader import Bundle, LimitFile
from edge.errors import LimitError
from edge.limits.file import SignedLimit


def model_hash(bundle: Bundle) -> str:
    """SHA-256 of the network, hex: what a limit belongs to."""
    return bundle.manifest.members[MODEL].sha256


def newly_passing(golden: tuple[Golden, ...], raw_limit: float) -> list[str]:
    """Golden pictures that must be rejected and would pass under this limit."""
    return sorted(one.picture for one in golden if one.verdict == "reject" and one.scores[0] <= raw_limit)


def with_limit(bundle: Bundle, signed: SignedLimit) -> Bundle:
    """The bundle with this limit in force.

    Args:
        bundle: a verified bundle, with its own limit.
        signed: a verified limit file.

    Returns:
        The same model with the limit, the calibration scores and the golden verdicts that follow from it. `agreement` is in
        units of the limit and is rescaled: how far engines may differ does not depend on where the limit stands.

    Raises:
        LimitError: the limit is of another model, or lets a golden picture pass without saying so.
    """
    manifest, form = bundle.manifest, signed.form
    if form.model != model_hash(bundle):
        raise LimitError(
            f"{signed.path}: expected a limit of model {model_hash(bundle)[:16]} ({manifest.name}), got one of model "
            f"{form.model[:16]} ({form.name[:32]}); fit one for this model with onbelt limit"
        )
    passing = newly_passing(bundle.golden, form.limit.raw)
    if passing != sorted(form.lets_pass):
        raise LimitError(
            f"{signed.path}: golden pictures that must be rejected pass under this limit: {', '.join(passing) or 'none'}; the "
            f"file says {', '.join(form.lets_pass) or 'none'}; fit the limit again, and with --accept-missed if that is meant"
        )
    agreement = manifest.agreement * manifest.limit.raw / form.limit.raw
    golden = tuple(
        msgspec.structs.replace(one, verdict="pass" if one.scores[0] <= form.limit.raw else "reject") for one in bundle.golden
    )
    return replace(
        bundle,
        manifest=msgspec.structs.replace(manifest, limit=form.limit, calibration=form.calibration, agreement=agreement),
        golden=golden,
        limit_file=LimitFile(form.version, signed.sha256, signed.key_id, form.approved_by, form.note),
    )
