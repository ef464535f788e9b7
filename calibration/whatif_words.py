"""The answer of `calibration.whatif` for people, one line each."""

from collections.abc import Sequence

from calibration.limit import LimitKind, parts_needed
from calibration.whatif import Beside, WhatIf
from edge.limits.curve import Rate


def in_words(found: WhatIf, names: list[str], confidence: float, beside: Sequence[Beside] = ()) -> list[str]:
    """The answer for people, one line each.

    Args:
        found: what `explore` gave.
        names: (n,) of the good parts, in the order of their scores as given.
        confidence: as asked for.
        beside: what limits for each map would add.
    """
    limit, n = found.limit, found.limit.n
    lines = [f"limit {limit.value:.6g}: {limit.promise()}{_misses(found.now.missed)}"]
    lines.append("good parts that set it (look at them: is each really good, and lit and placed as it should be?)")
    for one in found.setters:
        odd = f", as far above the next as 1 in {1 / one.chance:,.0f}" if 0 < one.chance < 0.05 else ""
        lines.append(f"  {one.place}. {names[one.index]}: {one.raw:.6g} ({one.raw / limit.value:.2f} of the limit{odd})")
        if one.without is not None:
            ones = "it is" if one.place == 1 else f"these {one.place} are"
            kind = "" if one.without.kind is LimitKind.GUARANTEE else ", an estimate: too few are left for the guarantee"
            lines.append(f"     if {ones} not good: limit {one.without.value:.6g}{kind}{_misses(one.missed)}")
    lines.append(f"the same {n} good parts at another rate")
    for other, point in found.rates:
        kind = (
            "guaranteed"
            if other.kind is LimitKind.GUARANTEE
            else f"estimate, {parts_needed(other.false_reject, confidence)} parts needed"
        )
        lines.append(f"  {other.false_reject:.1%} ({kind}): limit {other.value:.6g}{_misses(point.missed)}")
    if beside:
        lines.append("with a limit for each map beside it, one promise for all (--also st=st ae=ae)")
    for added in beside:
        kind = "guaranteed" if added.guarantee else f"estimate, {added.needed} parts needed"
        lines.append(f"  {added.false_reject:.1%} ({kind}){_misses(added.missed)}")
    lines.append(f"more good parts like these at {limit.false_reject:.2%}")
    for more in found.forecasts:
        if not more.rank:
            lines.append(f"  {more.parts:,}: still too few for a guarantee")
            continue
        upper = "above all seen" if more.high is None else f"{more.high:.6g}"
        lines.append(f"  {more.parts:,}: limit about {more.about:.6g} ({more.low:.6g} to {upper}){_misses(more.missed)}")
    return lines


def _misses(missed: dict[str, Rate]) -> str:
    if not missed:
        return ""
    return "; passes " + ", ".join(f"{rate.count} of {rate.of} {kind}" for kind, rate in missed.items())
