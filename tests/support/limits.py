"""Limit files as a test can say them in one line."""

from typing import Any

import msgspec

from edge.bundle.manifest import Limit
from edge.limits.form import LimitForm, Source

SCORES = [round(0.1 + 0.01 * i, 3) for i in range(60)]
BRANCH = {name: [0.1, 0.2] for name in ("st", "ae", "global")}


def form_for(model: str, raw: float = SCORES[-1], lets_pass: list[str] | None = None, **changes: Any) -> LimitForm:
    """A limit at the largest of 60 scores, or an estimate elsewhere."""
    guaranteed = raw == SCORES[-1]  # of 60 parts only the largest score carries 5 % at 90 %
    limit = Limit(
        raw, 0.05, 0.9 if guaranteed else 0.0, "guarantee" if guaranteed else "estimate", 60, dict.fromkeys(BRANCH, 0.5)
    )
    form = LimitForm(
        schema=1,
        version=1,
        model=model,
        name="tiny",
        product="tiny",
        replaces="sha256:" + "0" * 32,
        created_utc="2026-11-22T05:00:00+00:00",
        approved_by="A. Miller",
        note="",
        limit=limit,
        rank=len(SCORES) if guaranteed else 0,
        interval=(raw, raw),
        carried=0.04,
        calibration=SCORES,
        branches=BRANCH,
        lets_pass=lets_pass or [],
        source=Source("pictures", "0" * 64, 60, 0, 0, 0, "onnxruntime"),
    )
    return msgspec.structs.replace(form, **changes)
