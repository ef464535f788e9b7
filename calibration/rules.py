"""Limits for a cause or a place, fitted beside the fused one so that the promise of all together still holds.

With m further limits each of the m + 1 gets an equal share: false_reject / (m + 1), with confidence
1 - (1 - confidence) / (m + 1). Then at most `false_reject` of good parts lie above any of them with the confidence asked for,
whatever hangs together with what (Bonferroni's inequality, once for the rates and once for the confidences). It takes more good
parts: for one further limit, 0.5 % at 95 % takes 1,474 instead of 598.
"""

import re

import numpy as np
from numpy.typing import NDArray

from calibration.limit import fit_limit
from edge.bundle.manifest import BRANCHES, Rule
from edge.errors import ConfigError, DataError

_RULE = re.compile(r"([a-z][a-z0-9-]{0,23})=(st|ae|global)(?:@([\d.]+),([\d.]+),([\d.]+),([\d.]+))?")


def parse_rule(text: str) -> Rule:
    """Read "NAME=BRANCH" or "NAME=BRANCH@X,Y,W,H"; its limit is not fitted yet.

    Raises:
        ConfigError: it is neither, or the box does not lie in the picture.
    """
    match = _RULE.fullmatch(text)
    if match is None:
        raise ConfigError(
            f"--also: expected NAME=BRANCH or NAME=BRANCH@X,Y,W,H, with one of {', '.join(BRANCHES)} and fractions of the "
            f'picture, such as "label=ae@0.2,0.1,0.5,0.3", got {text!r}'
        )
    name, branch, *place = match.groups()
    try:
        box = [] if place[0] is None else [float(value) for value in place]
    except ValueError as exc:
        raise ConfigError(f"--also: {text!r}: expected four numbers after @, such as 0.2,0.1,0.5,0.3") from exc
    if box and (branch == "global" or not (box[2] > 0 and box[3] > 0 and box[0] + box[2] <= 1 and box[1] + box[3] <= 1)):
        raise ConfigError(
            f"--also: {text!r}: expected a box within the picture, and none for the branch global, which has no place"
        )
    return Rule(name, branch, 1.0, 0.5, box)


def shares(false_reject: float, confidence: float, rules: int) -> tuple[float, float]:
    """What each of the fused limit and so many rules may promise, for the whole to promise this: (false_reject, confidence)."""
    return false_reject / (1 + rules), 1.0 - (1.0 - confidence) / (1 + rules)


def fit_rules(rules: tuple[Rule, ...], values: NDArray[np.float64], false_reject: float, confidence: float) -> list[Rule]:
    """Fit each rule's limit.

    Args:
        rules: what is asked for.
        values: (n, m) what the rules look at, of the same good parts the fused limit is fitted on.
        false_reject: of each, as `shares` gives it.
        confidence: of each, likewise.

    Raises:
        DataError: as `fit_limit`, or a limit is not above 0.
    """
    fitted = []
    for rule, column in zip(rules, values.T, strict=True):
        limit = fit_limit(column, false_reject, confidence).value
        if not limit > 0:
            raise DataError(
                f"--also {rule.name}: expected a limit above 0, got {limit}: this place has nothing to say; leave it out"
            )
        fitted.append(Rule(rule.name, rule.branch, limit, false_reject, rule.box))
    return fitted
