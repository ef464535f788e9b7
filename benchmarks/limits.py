"""Does the limit keep its promise, and do the drift alarms keep theirs? Simulations, and the figures of docs/limits.md.

    python benchmarks/limits.py --bundle edge/data/demo.onbelt --scores build/drift-scores.json --write
    python benchmarks/limits.py --simulations 100 --parts 100000

Scores come from the bundle's own manifest (its calibration parts) and from `benchmarks/drift_pictures.py`. With --write the block
between the markers in docs/limits.md and the pictures beside it are replaced; nothing in them is typed by hand.
"""

import argparse
import json
import sys
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.page import replace_block
from calibration.compare import two_sample_p
from calibration.limit import LimitKind, fit_limit, parts_needed
from edge.binomial import cdf, clopper_pearson_upper
from edge.bundle.manifest import Manifest
from edge.bundle.reader import open_bundle
from edge.bundle.signing import default_trust
from edge.drift.bets import Bets, above_limit, downward, highest_bounds, inward, upward
from edge.drift.detector import Detector, advance
from edge.drift.monitor import KINDS, DriftKind, DriftSettings
from edge.drift.quarantine import EscapeWindow
from edge.engine.machine import this_machine
from edge.errors import OnbeltError

DOC = Path("docs/limits.md")
BEGIN, END = "<!-- measured: make limits -->", "<!-- end of measured -->"
STREAMS = 1000
WARM_UP, LONGEST, REPEATS = 300, 6000, 20

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Law:
    """A continuous law through real scores: linear between them, with an exponential tail as heavy as their own above.

    Attributes:
        places: probabilities. scores: the quantiles there, ascending. tail: mean excess of the highest tenth.
    """

    places: Floats
    scores: Floats
    tail: float

    @classmethod
    def of(cls, scores: Floats) -> "Law":
        """Through these scores."""
        ordered = np.unique(scores)
        n = ordered.size
        top = ordered[-max(2, n // 10) :]
        return cls((np.arange(n) + 0.5) / n, ordered, float((top - top[0]).mean()))

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
        """Scores of good parts."""
        u = rng.random(shape)
        beyond = np.maximum(u - self.places[-1], 0.0) / (1.0 - self.places[-1])
        return np.asarray(np.interp(u, self.places, self.scores) - self.tail * np.log1p(-beyond))

    def above(self, value: float) -> float:
        """Share of good parts above a score."""
        if value <= self.scores[-1]:
            return float(1.0 - np.interp(value, self.scores, self.places))
        return float((1.0 - self.places[-1]) * np.exp(-(value - self.scores[-1]) / self.tail))


def promise_kept(law: Law, false_reject: float, confidence: float, n: int, simulations: int, seed: int) -> dict[str, Any]:
    """Fit the limit on n drawn parts, many times, and look at the true share above it."""
    rng = np.random.default_rng(seed)
    shares, covered, kind = [], 0, LimitKind.GUARANTEE
    true = None
    for _ in range(simulations):
        limit = fit_limit(law.draw(rng, (n,)), false_reject, confidence)
        kind = limit.kind
        shares.append(law.above(limit.value))
        if kind is LimitKind.ESTIMATE:
            true = true if true is not None else _quantile(law, false_reject)
            covered += limit.interval[0] <= true <= limit.interval[1]
    kept = int((np.asarray(shares) <= false_reject).sum())
    return {
        "n": n,
        "false_reject": false_reject,
        "confidence": confidence,
        "kind": kind.value,
        "simulations": simulations,
        "kept": kept,
        "median_share": float(np.median(shares)),
        "covered": covered if kind is LimitKind.ESTIMATE else None,
        "shares": shares,
    }


def _quantile(law: Law, share: float) -> float:
    low, high = float(law.scores[0]), float(law.scores[-1] + 50 * law.tail)
    for _ in range(200):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if law.above(middle) > share else (low, middle)
    return high


def splits_kept(scores: Floats, false_reject: float, confidence: float, n: int, simulations: int, seed: int) -> dict[str, Any]:
    """Real scores only: fit on n of them, count the others above the limit; against the exact law of that count."""
    rng = np.random.default_rng(seed)
    others = scores.size - n
    allowed = int(false_reject * others)
    kept = 0
    for _ in range(simulations):
        order = rng.permutation(scores)
        limit = fit_limit(order[:n], false_reject, confidence)
        kept += int((order[n:] > limit.value).sum()) <= allowed
    rank = limit.rank
    # Ranks of exchangeable scores: the count above the k-th of n is beta-binomial. Summed over a fine grid of the Beta law.
    grid = (np.arange(4000) + 0.5) / 4000
    density = np.exp((n - rank) * np.log(grid) + (rank - 1) * np.log1p(-grid))
    weights = density / density.sum()
    expected = sum(float(w) * cdf(allowed, others, float(share)) for w, share in zip(weights, grid, strict=True) if w > 1e-9)
    return {
        "n": n,
        "others": others,
        "false_reject": false_reject,
        "kept": kept,
        "simulations": simulations,
        "expected": expected,
    }


# --- drift ----------------------------------------------------------------------------------------------------------------


def tables(n: int, above: int, false_reject: float, settings: DriftSettings, *, naive: bool = False) -> dict[DriftKind, Bets]:
    """The bets of `DriftMonitor`; naive: against the calibration as if it were the truth."""
    risk = 0.5 if naive else settings.risk / highest_bounds(n)  # 0.5: bounds at the median of their law
    bad = 0.0 if naive else settings.bad_passed
    return {
        "promise": above_limit(false_reject + settings.bad_share),
        "creep-up": upward(n, bad, risk),
        "creep-down": downward(n, bad, risk, above),
        "narrow": inward(n, bad, risk, above),
    }


def run_streams(
    counts: NDArray[np.int32], above: NDArray[np.bool_], bets: dict[DriftKind, Bets], threshold: float, *, once: bool
) -> dict[DriftKind, NDArray[np.int64]]:
    """All stations at once, part by part.

    Args:
        counts: (stations, parts), calibration scores at least as high.
        above: (stations, parts), above the limit.
        bets: by kind.
        threshold: of each kind.
        once: a station that has alarmed is out.

    Returns:
        By kind (stations,): the part of the first alarm, 0 for none (once), or the number of alarms (not once).
    """
    stations, parts = counts.shape
    sums = {kind: np.zeros((stations, table.pays.shape[1])) for kind, table in bets.items()}
    found = {kind: np.zeros(stations, np.int64) for kind in bets}
    running = np.ones(stations, bool)
    for part in range(parts):
        for kind, table in bets.items():
            state = sums[kind]
            if kind == "promise":
                advance(state, table.pays[np.where(above[:, part], 0, 1)])
            else:
                watched = np.flatnonzero(~above[:, part])
                state[watched] = advance(state[watched], table.pays[counts[watched, part]])
            due = state.mean(axis=1) >= threshold
            if due.any():
                state[due] = 0.0
                if once:
                    found[kind][due & running] = part + 1
                    running &= ~due
                else:
                    found[kind] += due
        if once and not running.any():
            break
    return found


def false_alarms(n: int, parts: int, settings: DriftSettings, seed: int, *, naive: bool = False) -> dict[str, Any]:
    """Good parts only, each station with a calibration of its own; ranks do not depend on the law, so it is uniform here."""
    rng = np.random.default_rng(seed)
    each = parts // STREAMS
    counts = np.empty((STREAMS, each), np.int32)
    above = np.empty((STREAMS, each), bool)
    for station in range(STREAMS):
        calibration = np.sort(rng.random(n))
        scores = rng.random(each)
        counts[station] = n - np.searchsorted(calibration, scores)
        above[station] = scores > calibration[-1]
    began = time.monotonic()
    bets = tables(n, 0, 0.005, settings, naive=naive)
    alarms = run_streams(counts, above, bets, len(KINDS) * settings.parts_per_alarm, once=False)
    return {
        "parts": STREAMS * each,
        "allowed": STREAMS * each / settings.parts_per_alarm,
        "alarms": {kind: int(count.sum()) for kind, count in alarms.items()},
        "stations": int((np.sum(list(alarms.values()), axis=0) > 0).sum()),
        "seconds": time.monotonic() - began,
    }


def times_to_alarm(manifest: Manifest, scores: dict[str, Any], settings: DriftSettings, seed: int) -> dict[str, dict[str, Any]]:
    """For every drift: good parts for a while, then drifted ones until an alarm; scores resampled from those of real pictures."""
    rng = np.random.default_rng(seed)
    calibration = np.asarray(manifest.calibration)
    n, limit = calibration.size, manifest.limit.raw
    good = np.asarray(scores["good"])
    cases = {"nothing": good, **{name: np.asarray(values) for name, values in scores["drifted"].items()}}
    drawn = np.stack(
        [
            np.concatenate([rng.choice(good, WARM_UP), rng.choice(values, LONGEST)])
            for values in cases.values()
            for _ in range(REPEATS)
        ]
    )
    counts = (n - np.searchsorted(calibration, drawn)).astype(np.int32)
    above = drawn > limit
    bets = tables(n, int((calibration > limit).sum()), manifest.limit.false_reject, settings)
    found = run_streams(counts, above, bets, len(KINDS) * settings.parts_per_alarm, once=True)
    first = np.max(np.stack(list(found.values())), axis=0).reshape(len(cases), REPEATS)
    kinds = np.argmax(np.stack(list(found.values())), axis=0).reshape(len(cases), REPEATS)
    results = {}
    for row, (name, values) in enumerate(cases.items()):
        alarmed = first[row] > 0
        late = first[row][alarmed] - WARM_UP
        names, times = np.unique(kinds[row][alarmed], return_counts=True)
        results[name] = {
            "ratio": float(np.median(values) / np.median(good)),
            "rejected": float((values > limit).mean()),
            "alarmed": int(alarmed.sum()),
            "early": int((late <= 0).sum()),
            "median": float(np.median(late)) if alarmed.sum() > REPEATS / 2 else None,
            "worst": int(late.max()) if alarmed.all() else None,
            "kind": KINDS[int(names[np.argmax(times)])] if alarmed.any() else "",
            "starts": _starts(counts[row * REPEATS], above[row * REPEATS], bets, first[row][0], int(kinds[row][0])),
        }
    return results


def _starts(
    counts: NDArray[np.int32], above: NDArray[np.bool_], bets: dict[DriftKind, Bets], part: int, kind: int
) -> tuple[int, int, int] | None:
    """(true, likeliest, earliest) start of the change in the first repeat, in watched parts before the alarm."""
    if part <= WARM_UP:
        return None
    name = KINDS[kind]
    detector = Detector(bets[name], np.inf)
    true = 0
    for i in range(part):
        if name == "promise" or not above[i]:
            detector.add(int(counts[i]) if name != "promise" else int(not above[i]))
            true += i >= WARM_UP
    likeliest, earliest, _ = detector.began()
    return true, likeliest, earliest


def quarantines(simulations: int, seed: int) -> dict[str, Any]:
    """A station goes blind between two self-checks: what the next one quarantines, against the parts that were affected."""
    rng = np.random.default_rng(seed)
    covered = kept = within = 0
    excess = []
    every, share = 200, 0.03  # parts between self-checks; share of bad parts
    for _ in range(simulations):
        window = EscapeWindow()
        blind_from = int(rng.integers(2000, 6000))
        escaped = 0
        for seq in range(1, 10_000):
            bad = bool(rng.random() < share)
            window.judged(seq, passed=not bad or seq >= blind_from)
            escaped += bad and seq >= blind_from
            if seq % every == 0:
                if seq >= blind_from:
                    found = window.failed("golden frame")
                    break
                window.proof()
        affected = range(blind_from, seq + 1)
        covered += found.first <= affected[0] and found.last >= affected[-1]
        minimum = seq - (seq - 1) // every * every  # nothing is known since the last proof: no window can be shorter
        excess.append((found.last - found.first + 1) / minimum - 1.0)
        kept += escaped <= found.bound
        within += (found.last - found.first + 1) <= 1.2 * len(affected)
    return {"simulations": simulations, "covered": covered, "excess": float(np.max(excess)), "bound_kept": kept, "within": within}


def drift_quarantines(law: Law, n: int, simulations: int, seed: int) -> list[dict[str, Any]]:
    """Scores move up by a share of their spread, at a time of its own at every station: what the alarm's quarantine holds."""
    rng = np.random.default_rng(seed)
    settings = DriftSettings()
    threshold = len(KINDS) * settings.parts_per_alarm
    bets = upward(n, settings.bad_passed, settings.risk / highest_bounds(n))
    spread = float(np.std(law.scores))
    rows = []
    for strength in (0.05, 0.15, 0.5):
        affected, window = [], []
        for _ in range(simulations):
            calibration = np.sort(law.draw(rng, (n,)))
            before = int(rng.integers(200, 2000))
            scores = np.concatenate([law.draw(rng, (before,)), law.draw(rng, (LONGEST,)) + strength * spread])
            detector = Detector(bets, threshold)
            part = next((i for i, row in enumerate(n - np.searchsorted(calibration, scores), 1) if detector.add(int(row))), 0)
            if part > before:
                affected.append(part - before)
                window.append(detector.began()[2])
        true, found = np.asarray(affected), np.asarray(window)
        rows.append(
            {
                "strength": strength,
                "simulations": simulations,
                "alarmed": len(affected),
                "covered": int((found >= true).sum()),
                "affected": float(np.median(true)) if affected else None,
                "excess": float(np.median(np.maximum(found / true - 1.0, 0.0))) if affected else None,
            }
        )
    return rows


def measure(bundle_path: Path, scores: dict[str, Any] | None, simulations: int, parts: int, seed: int) -> dict[str, Any]:
    """Everything the page says."""
    began = time.monotonic()
    bundle = open_bundle(bundle_path, default_trust())
    manifest = bundle.manifest
    real = np.asarray(manifest.calibration)
    law = Law.of(real)
    strict = DriftSettings(parts_per_alarm=1_000_000.0)
    result: dict[str, Any] = {
        "bundle": {"name": bundle_path.name, "sha256": bundle.sha256, "product": manifest.product, "n": int(real.size)},
        "seed": seed,
        "promises": [
            promise_kept(law, 0.005, 0.95, parts_needed(0.005, 0.95), simulations, seed),
            promise_kept(law, 0.005, 0.95, 2000, simulations, seed + 1),
            promise_kept(law, 0.02, 0.99, parts_needed(0.02, 0.99), simulations, seed + 2),
        ],
        "estimates": [promise_kept(law, 0.005, 0.95, n, max(50, simulations // 5), seed + n) for n in (50, 150, 400)],
        "splits": splits_kept(real, 0.05, 0.95, real.size // 3, simulations, seed + 3) if real.size >= 200 else None,
        "false_alarms": false_alarms(int(real.size), parts, strict, seed + 4),
        "naive": false_alarms(int(real.size), parts, strict, seed + 5, naive=True),
        "quarantine": quarantines(max(50, simulations // 5), seed + 6),
        "drift_quarantine": drift_quarantines(law, int(real.size), max(50, simulations // 5), seed + 8),
    }
    if scores is not None:
        if scores["model"] != manifest.members["model.onnx"].sha256:
            raise OnbeltError(
                f"the drifted scores are of another model than {bundle_path}; run benchmarks/drift_pictures.py again"
            )
        good = np.asarray(scores["good"])
        rejected = int((good > manifest.limit.raw).sum())
        result["fresh"] = {"n": good.size, "rejected": rejected, "bound": clopper_pearson_upper(rejected, good.size, 0.95)}
        result["drift"] = times_to_alarm(manifest, scores, DriftSettings(), seed + 7)
        result["pictures"] = {key: scores[key] for key in ("engine", "machine", "seconds", "units")}
        result["pictures"] |= {"good": good.size, "each": min(len(values) for values in scores["drifted"].values())}
        result["pictures"]["alike"] = two_sample_p(good, real)
    result["machine"], result["seconds"] = str(this_machine()), time.monotonic() - began
    result["date"] = datetime.now(timezone.utc).date().isoformat()
    return result


def main() -> int:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--bundle", type=Path, default=Path("edge/data/demo.onbelt"), help="the model (default %(default)s)")
    arguments.add_argument("--scores", type=Path, help="JSON of benchmarks/drift_pictures.py; without it no times to alarm")
    arguments.add_argument("--simulations", type=int, default=1000, help="of each promise (default %(default)s)")
    arguments.add_argument(
        "--parts", type=int, default=10_000_000, help="good parts watched for false alarms (default %(default)s)"
    )
    arguments.add_argument("--seed", type=int, default=0, help="of all simulations (default %(default)s)")
    arguments.add_argument("--write", action="store_true", help="replace the measured block of docs/limits.md and its pictures")
    args = arguments.parse_args()
    try:
        scores = None if args.scores is None else json.loads(args.scores.read_text())
        result = measure(args.bundle, scores, args.simulations, args.parts, args.seed)
    except OnbeltError as error:
        print(f"limits: {error}", file=sys.stderr)
        return error.exit_code
    from benchmarks.limits_page import draw, text  # matplotlib is needed for the page only

    block = text(result)
    print(block)
    if args.write:
        replace_block(DOC, BEGIN, END, block)
        draw(result, DOC.parent / "limits")
    return 0


if __name__ == "__main__":
    sys.exit(main())
