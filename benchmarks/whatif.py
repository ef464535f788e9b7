"""What the guaranteed limit costs in misses, and what buys them back: figures of docs/limits.md from a bundle and its data set.

    python benchmarks/whatif.py products/tray.onbelt products/scenes/tray --out build/whatif-tray.json
    python benchmarks/whatif.py --read build/whatif-tray.json build/whatif-vials.json --write

The held-out good parts are found again by their scores: they must be those of the bundle's manifest, or the program ends. Bad
parts are the data set's test parts. `--reports DIR` also writes the page that `onbelt limit --report` writes.
"""

import argparse
import json
import sys
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.page import replace_block
from calibration.limit import LimitKind
from calibration.parts import GoodParts, list_pictures, score_pictures
from calibration.study import Study, write_study
from calibration.whatif import MAP_RATES, WhatIf, explore, with_maps
from edge.bundle.reader import Bundle, open_bundle
from edge.bundle.signing import TrustStore, default_trust
from edge.engine import open_engine
from edge.engine.machine import this_machine
from edge.errors import DataError, OnbeltError

DOC = Path("docs/limits.md")
BEGIN, END = "<!-- measured: make whatif -->", "<!-- end of measured whatif -->"
KINDS = {"logical": "logical_anomalies", "structural": "structural_anomalies"}
CONFIDENCE = 0.95

Floats = NDArray[np.float64]


def measure(bundle_path: Path, data: Path, trust: TrustStore, reports: Path | None, threads: int | None) -> dict[str, Any]:
    """Score the parts and answer.

    Raises:
        DataError: the data set is not the one the bundle was made from.
    """
    bundle = open_bundle(bundle_path, trust)
    manifest = bundle.manifest
    pictures = list_pictures([data / "validation" / "good"])[-len(manifest.calibration) :]
    with open_engine(bundle, threads=threads) as engine:
        good = score_pictures(pictures, engine, _told)
        _check_same(bundle, good)
        bad = {kind: score_pictures(list_pictures([data / "test" / folder]), engine, _told) for kind, folder in KINDS.items()}
        tested = score_pictures(list_pictures([data / "test" / "good"]), engine, _told)
        name = engine.name
    raws = {kind: parts.scores[:, 0] for kind, parts in bad.items()}
    rate = manifest.limit.false_reject
    found = explore(good.scores[:, 0], raws, rate, CONFIDENCE)
    if reports is not None:
        study = Study(bundle, good, tuple(data / "test" / folder for folder in KINDS.values()), rate, CONFIDENCE)
        write_study(study, reports / manifest.product, lambda: open_engine(bundle, threads=threads), _told)
    return {
        "product": manifest.product,
        "bundle": bundle.sha256,
        "false_reject": rate,
        "engine": name,
        "machine": str(this_machine()),
        "date": datetime.now(timezone.utc).date().isoformat(),
        "good": len(good.scores),
        "rows": _rows(found, raws, tested),
        "rules": [_ruled(good, bad, tested, one) for one in MAP_RATES],
        "setters": _setters(found, good),
        "forecasts": [asdict(one) for one in found.forecasts],
    }


def _told(done: int, total: int) -> None:
    if done == total:
        print(f"judged {done}", file=sys.stderr, flush=True)


def _check_same(bundle: Bundle, good: GoodParts) -> None:
    stored = np.asarray(bundle.manifest.calibration)
    if len(good.scores) != stored.size:
        raise DataError(f"expected the {stored.size} held-out parts of {bundle.path}, got {len(good.scores)} that differ")
    apart = float(np.abs(np.sort(good.scores[:, 0]) - stored).max()) / bundle.manifest.limit.raw
    if apart > bundle.manifest.agreement:
        raise DataError(f"these held-out parts do not score as those of {bundle.path} ({apart:.3f} of the limit apart)")


def _rows(found: WhatIf, bad: dict[str, Floats], tested: GoodParts) -> list[dict[str, Any]]:
    rows = []
    for limit, point in sorted(((found.limit, found.now), *found.rates), key=lambda one: one[0].false_reject):
        rows.append(
            {
                "false_reject": limit.false_reject,
                "guarantee": limit.kind is LimitKind.GUARANTEE,
                "limit": limit.value / found.limit.value,
                "missed": {kind: rate.count for kind, rate in point.missed.items()},
                "of": {kind: int(values.size) for kind, values in bad.items()},
                "rejected": int((tested.scores[:, 0] > limit.value).sum()),
                "tested": len(tested.scores),
            }
        )
    return rows


def _ruled(good: GoodParts, bad: dict[str, GoodParts], tested: GoodParts, false_reject: float) -> dict[str, Any]:
    """The fused limit with one for each map beside it, all three sharing the promise."""
    shown = {**{kind: parts.scores for kind, parts in bad.items()}, "good": tested.scores}
    found = with_maps(good.scores, shown, false_reject, CONFIDENCE)
    return {
        "false_reject": false_reject,
        "guarantee": found.guarantee,
        "missed": {kind: found.missed[kind].count for kind in bad},
        "rejected": len(tested.scores) - found.missed["good"].count,
    }


def _setters(found: WhatIf, good: GoodParts) -> list[dict[str, Any]]:
    return [
        {
            "name": "/".join(Path(good.names[one.index]).parts[-3:]),
            "of_limit": one.raw / found.limit.value,
            "chance": one.chance,
            "without": None if one.without is None else one.without.value / found.limit.value,
            "missed": {kind: rate.count for kind, rate in one.missed.items()},
        }
        for one in found.setters
    ]


def text(results: list[dict[str, Any]]) -> str:
    """The measured block, Markdown."""
    lines = []
    for one in results:
        lines += [
            f"### {one['product']}: {one['good']} good parts",
            f"Bundle manifest sha256 {one['bundle'][:16]}, {one['engine']}, {one['machine']}, {one['date']}.",
            "",
            "| false rejects asked for | promise | limit | logical that pass | structural that pass | good test parts rejected |"
            " with limits for both maps: logical, structural, good |",
            "|---|---|---|---|---|---|---|",
        ]
        ruled = {row["false_reject"]: row for row in one["rules"]}
        for row in one["rows"]:
            beside = ruled.get(row["false_reject"])
            other = "-"
            if beside is not None:
                other = f"{beside['missed']['logical']}, {beside['missed']['structural']}, {beside['rejected']}"
                other += "" if beside["guarantee"] else " (estimate)"
            cells = (
                f"{row['false_reject']:.1%}",
                "95 % sure" if row["guarantee"] else "estimate",
                f"{row['limit']:.2f}",
                *(f"{row['missed'][kind]} of {row['of'][kind]}" for kind in KINDS),
                f"{row['rejected']} of {row['tested']}",
                other,
            )
            lines.append(f"| {' | '.join(cells)} |")
        lines += ["", "Good parts that set it: " + "; ".join(map(_setter_text, one["setters"])) + "."]
        lines += ["More good parts like these: " + "; ".join(map(_forecast_text, one["forecasts"])) + ".", ""]
    return "\n".join(lines)


def _setter_text(one: dict[str, Any]) -> str:
    odd = f", a gap of 1 in {1 / one['chance']:,.0f}" if 0 < one["chance"] < 0.05 else ""
    then = (
        ""
        if one["without"] is None
        else f"; without it and those before: limit {one['without']:.2f}, passing {_pair(one['missed'])}"
    )
    return f"{one['name']} ({one['of_limit']:.2f}{odd}{then})"


def _forecast_text(forecast: dict[str, Any]) -> str:
    if not forecast["rank"]:
        return f"{forecast['parts']:,}: too few"
    passing = {kind: rate["count"] for kind, rate in forecast["missed"].items()}
    return f"{forecast['parts']:,} would let pass about {_pair(passing)}"


def _pair(missed: dict[str, int]) -> str:
    return f"{missed.get('logical', 0)} logical and {missed.get('structural', 0)} structural"


def main() -> int:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("bundle", type=Path, nargs="?", help="the model")
    arguments.add_argument("data", type=Path, nargs="?", help="the data set it was made from")
    arguments.add_argument("--trust", type=Path, action="append", help="folder of trusted keys")
    arguments.add_argument("--threads", type=int, help="CPU threads of the engine")
    arguments.add_argument("--reports", type=Path, help="folder for the pages")
    arguments.add_argument("--out", type=Path, help="JSON to write")
    arguments.add_argument("--read", type=Path, nargs="+", help="JSON files to make the page's block from")
    arguments.add_argument("--write", action="store_true", help=f"replace the block in {DOC}")
    args = arguments.parse_args()
    if args.read:
        block = text([json.loads(path.read_text()) for path in args.read])
        print(block)
        if args.write:
            replace_block(DOC, BEGIN, END, block)
        return 0
    if not (args.bundle and args.data and args.out):
        arguments.error("expected BUNDLE, DATA and --out, or --read")
    try:
        trust = TrustStore.from_folders(args.trust) if args.trust else default_trust()
        result = measure(args.bundle, args.data, trust, args.reports, args.threads)
    except OnbeltError as error:
        print(f"whatif: {error}", file=sys.stderr)
        return error.exit_code
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
