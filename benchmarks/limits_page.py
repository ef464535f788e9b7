"""Words and pictures for docs/limits.md, from what `benchmarks/limits.py` measured."""

# ruff: noqa: E501 - the lines are those of the page

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt  # the backend must be chosen first
import numpy as np
from matplotlib.lines import Line2D

from edge.binomial import clopper_pearson_upper
from edge.drift.monitor import DriftKind
from edge.errors import OnbeltError

COLOURS: dict[DriftKind, str] = {
    "promise": "#b3261e",
    "creep-up": "#1f6feb",
    "creep-down": "#8250df",
    "narrow": "#57606a",
}
_LONG = 6000.0


def text(result: dict[str, Any]) -> str:
    """The measured block, Markdown."""
    bundle = result["bundle"]
    head = (
        f"Bundle {bundle['name']} ({bundle['product']}, manifest sha256 {bundle['sha256'][:16]}, {bundle['n']} calibration scores),\n"
        f"seed {result['seed']}, {result['machine']}, {result['date']}; the simulations took {result['seconds']:.0f} s."
    )
    return "\n".join([head, "", *_promises(result), *_false_alarms(result), *_drift(result), *_quarantine(result), ""])


def _promises(result: dict[str, Any]) -> list[str]:
    lines = [
        "### The promise",
        "Parts are drawn from a continuous law through the bundle's calibration scores (exponential tail), the limit is fitted, and",
        "the true share of good parts above it is computed.",
        "",
        "| promise | good parts | fitted as | simulations | rate kept (95 % interval) | median share above | 90 % interval held the truth |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in [*result["promises"], *result["estimates"]]:
        said = f"at most {one['false_reject']:.1%} at {one['confidence']:.0%}"
        promised = said if one["kind"] == "guarantee" else f"none ({one['false_reject']:.1%} aimed at)"
        n = one["simulations"]
        held = "-" if one["covered"] is None else f"{one['covered'] / n:.0%}"
        low, high = 1.0 - clopper_pearson_upper(n - one["kept"], n, 0.975), clopper_pearson_upper(one["kept"], n, 0.975)
        kept = f"{one['kept'] / n:.1%} ({low:.1%} to {high:.1%})"
        cells = (promised, one["n"], one["kind"], n, kept, f"{one['median_share']:.2%}", held)
        lines.append(_row(cells))
    lines += ["", "![Share of good parts above the limit, over the simulations](limits/promise.svg)"]
    split = result["splits"]
    if split is not None:
        rate, share = f"{split['false_reject']:.0%}", split["kept"] / split["simulations"]
        lines += [
            "",
            f"The calibration scores alone, nothing drawn: the limit for {rate} at 95 % fitted on {split['n']} of them taken at random,",
            f"the other {split['others']} counted. At most {rate} of those were above it in {share:.1%} of {split['simulations']} splits;",
            f"the exact law of that count (beta-binomial) says {split['expected']:.1%}.",
        ]
    if "fresh" in result:
        fresh = result["fresh"]
        lines += [
            "",
            f"New good parts, drawn and judged for this page: {fresh['rejected']} of {fresh['n']} above the bundle's limit (rate at most",
            f"{fresh['bound']:.2%} with 95 % confidence).",
        ]
    return [*lines, ""]


def _false_alarms(result: dict[str, Any]) -> list[str]:
    alarm, naive = result["false_alarms"], result["naive"]
    counts = ", ".join(f"{kind} {count}" for kind, count in alarm["alarms"].items())
    return [
        "### False alarms",
        f"{alarm['parts']:,} good parts at 1,000 stations, each with a calibration of its own, alarms set to one in 1,000,000 parts:",
        f"{sum(alarm['alarms'].values())} alarms ({counts}), {alarm['allowed']:.0f} allowed. Wall time {alarm['seconds']:.0f} s.",
        "",
        "The same bets against the calibration as if it were the truth (each bound at its median, no bad parts), as a conformal",
        f"martingale on p-values from a fixed calibration would bet: {sum(naive['alarms'].values())} alarms in {naive['parts']:,} good",
        f"parts, at {naive['stations']} of 1,000 stations; {naive['allowed']:.0f} were allowed.",
        "",
    ]


def _drift(result: dict[str, Any]) -> list[str]:
    if "drift" not in result:
        return []
    pictures = result["pictures"]
    lines = [
        "### Time to alarm",
        f"Good parts of the belt, drawn, drifted and scored by {pictures['engine']} ({pictures['seconds']:.0f} s); then streams resampled",
        "from those scores: 300 parts as they should be, then drifted ones until an alarm or 6,000 parts; 20 streams each, alarms set to",
        "one in 10,000,000 parts. Score: median against that of good parts. Rejected: share above the limit.",
        "",
        f"Read it with care: a stream resampled from {pictures['each']} pictures of a drift repeats their luck. The row `nothing` is the control, {pictures['good']}",
        f"good parts resampled (against the calibration: Kolmogorov-Smirnov p = {pictures['alike']:.2g}); an alarm that does not come clearly",
        "earlier than its own is no evidence of that drift.",
        "",
        "| drift | strength | score | rejected | alarm after, parts (median) | worst of 20 | says |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, one in result["drift"].items():
        kind, _, strength = name.partition("|")
        after = f"none ({one['alarmed']} of 20 alarmed)" if one["median"] is None else f"{one['median']:.0f}"
        after += f" ({one['early']} before the drift)" if one["early"] else ""
        worst = "-" if one["worst"] is None else one["worst"]
        strength = f"{strength} {pictures['units'].get(kind, '')}"
        lines.append(_row((kind, strength, f"{one['ratio']:.2f} x", f"{one['rejected']:.0%}", after, worst, one["kind"] or "-")))
    control = result["drift"]["nothing"]["median"] or _LONG
    unseen = [
        name.replace("|", " ")
        for name, one in result["drift"].items()
        if (one["median"] or _LONG) > control / 2 and name != "nothing"
    ]
    if unseen:
        lines += [
            "",
            f"**Not found** (no alarm, or none before half the control's {control:.0f} parts): {', '.join(unseen)}. An alarm on scores sees what",
            "scores show, and no more.",
        ]
    starts = [one["starts"] for one in result["drift"].values() if one["starts"] and one["starts"][0] > 0]
    if starts:
        off = [abs(likeliest - true) / true for true, likeliest, _ in starts]
        covered = sum(earliest >= true for true, _, earliest in starts)
        beyond = [max(0.0, earliest / true - 1) for true, _, earliest in starts]
        lines += [
            "",
            "![Time to alarm by drift and strength](limits/drift.svg)",
            "",
            f"When the change began, as the alarm says it (one stream of each of the {len(starts)} drifts that alarmed): the likeliest start is",
            f"off by {np.median(off):.0%} of the affected parts (median); the earliest possible one covers all affected parts in",
            f"{covered} of {len(starts)} and exceeds them by {np.median(beyond):.0%} (median).",
        ]
    return [*lines, ""]


def _quarantine(result: dict[str, Any]) -> list[str]:
    found = result["quarantine"]
    n = found["simulations"]
    return [
        "### Quarantine",
        f"{n} stations that go blind between two self-checks, 200 parts apart, with 3 % bad parts: the window covers all affected parts",
        f"in {found['covered']} of {n}; it exceeds what was judged since the last proof by {found['excess']:.0%}; the bound on escapes held",
        f"in {found['bound_kept']} of {n} (promised: 95 %). Against the parts truly affected, which nobody can know, it was less than 20 %",
        f"longer in {found['within']} of {n}: self-checks this far apart cannot tell more.",
        "",
        "After a drift alarm: good scores move up by a share of their spread, at a part of its own at each station; the quarantine goes back",
        "to the earliest part that the alarm cannot rule out at odds of 10,000.",
        "",
        "| scores higher by, deviations | stations that alarmed | parts affected (median) | window covers all of them | longer than that by (median) |",
        "|---|---|---|---|---|",
        *(
            _row(
                (
                    row["strength"],
                    f"{row['alarmed']} of {row['simulations']}",
                    "-" if row["affected"] is None else f"{row['affected']:.0f}",
                    f"{row['covered']} of {row['alarmed']}",
                    "-" if row["excess"] is None else f"{row['excess']:.0%}",
                )
            )
            for row in result["drift_quarantine"]
        ),
    ]


def _row(cells: tuple[object, ...]) -> str:
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def draw(result: dict[str, Any], folder: Path) -> None:
    """The pictures. Raises OnbeltError: the folder cannot be written."""
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise OnbeltError(f"{folder}: cannot make this folder ({error.strerror})") from error
    mpl.rcParams.update({"svg.hashsalt": "onbelt", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    _draw_promise(result, folder / "promise.svg")
    if "drift" in result:
        _draw_drift(result, folder / "drift.svg")


def _draw_promise(result: dict[str, Any], path: Path) -> None:
    figure, axes = plt.subplots(1, 3, figsize=(9, 2.6), layout="constrained")
    for axis, one in zip(axes, result["promises"], strict=True):
        shares = 100 * np.asarray(one["shares"])
        axis.hist(shares, bins=40, color="#8fb8f6")
        axis.axvline(100 * one["false_reject"], color="#b3261e", linewidth=1.2)
        axis.set_title(f"{one['false_reject']:.1%} at {one['confidence']:.0%}, {one['n']} parts", fontsize=9)
        axis.set_xlabel("true share of good parts above, %")
        kept = f"kept in {one['kept'] / one['simulations']:.1%}"
        axis.text(0.97, 0.92, kept, transform=axis.transAxes, ha="right", fontsize=8)
    axes[0].set_ylabel("simulations")
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _draw_drift(result: dict[str, Any], path: Path) -> None:
    kinds: dict[str, list[dict[str, Any]]] = {}
    for name, one in result["drift"].items():
        if name != "nothing":
            kinds.setdefault(name.partition("|")[0], []).append(one)
    figure, axis = plt.subplots(figsize=(9, 3.8), layout="constrained")
    for row, (_, strengths) in enumerate(kinds.items()):
        for size, one in enumerate(strengths, start=1):
            at = one["median"] or _LONG
            colour = COLOURS.get(one["kind"], "#c8ccd1") if one["median"] else "#c8ccd1"
            axis.scatter(max(1.0, at), row, s=26 * size**1.4, color=colour, alpha=0.85, edgecolor="white", linewidth=0.5)
    axis.set_xscale("log")
    axis.set_xlim(1, 9000)
    axis.set_yticks(range(len(kinds)), list(kinds))
    axis.invert_yaxis()
    axis.grid(axis="x", color="#e5e7eb", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.set_xlabel("parts until the alarm, median of 20 (grey at the right: none within 6,000); larger dot = stronger drift")
    handles = [Line2D([], [], marker="o", linestyle="", color=colour, label=kind) for kind, colour in COLOURS.items()]
    figure.legend(handles=handles, frameon=False, loc="outside upper right", ncols=4, fontsize=8)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
