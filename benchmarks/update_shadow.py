"""How sure and how soon a comparison on live parts refuses a model: simulated pairs through the code that decides.

    python benchmarks/update_shadow.py            # 200 runs a row
    python benchmarks/update_shadow.py --runs 20 --parts 300

Each row is a model that is worse in one way by a known share. "At its bounds" breaks none: it may be refused in 1 % of all runs,
whatever their length. Exit status: 0 that holds, 1 it does not.
"""

import argparse
import random
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from edge.update.compare import DISAGREES, INVALIDS, MIN_REJECTS, PASSES, SLOW, Comparison, Pair

SCRAP = 0.05  # share of parts the running model rejects clearly
BUDGET_MS = 50.0
GOOD, BAD = ("pass", 0.3), ("reject", 2.0)
MANY_ALPHAS = 3.0  # standard deviations the share of wrongly refused models may lie above the budget


def worse(
    dice: random.Random, *, rejects: float = 0.0, passes: float = 0.0, invalid: float = 0.0, slow: float = 0.0, near: float = 0.0
) -> Callable[[int], Pair]:
    """Pairs of a model that is worse by these shares: of good parts rejected, bad ones passed, and of all parts."""

    def pair(seq: int) -> Pair:
        scrap = dice.random() < SCRAP
        word, cal = BAD if scrap else GOOD
        other = BAD if not scrap else GOOD
        cpu_ms = 60.0 if dice.random() < slow else 5.0
        if dice.random() < invalid:
            return Pair(seq, word, cal, "invalid", 0.0, cpu_ms)  # type: ignore[arg-type]  # words of a tuple
        if not scrap and dice.random() < near:  # at the limit: two good models may disagree
            return Pair(seq, "pass", 0.95, "reject", 1.05, cpu_ms)
        after = other if dice.random() < (passes if scrap else rejects) else (word, cal)
        return Pair(seq, word, cal, after[0], after[1], cpu_ms)  # type: ignore[arg-type]

    return pair


def main() -> int:
    parser = argparse.ArgumentParser(description="how sure and how soon a comparison refuses a model")
    parser.add_argument("--runs", type=int, default=200, help="of each row (default: %(default)s)")
    parser.add_argument("--parts", type=int, default=300, help="compared, as shadow_parts (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    dice = random.Random(args.seed)
    rows = {
        "as good as the running model": worse(dice),
        "at its bounds": worse(
            dice, rejects=MIN_REJECTS, passes=PASSES, invalid=INVALIDS, slow=SLOW, near=DISAGREES - MIN_REJECTS - PASSES * SCRAP
        ),
        "rejects 3 % of good parts": worse(dice, rejects=0.03),
        "rejects 5 %": worse(dice, rejects=0.05),
        "rejects 10 %": worse(dice, rejects=0.10),
        "passes half of the bad parts": worse(dice, passes=0.5),
        "passes all bad parts": worse(dice, passes=1.0),
        "2 % without a judgement": worse(dice, invalid=0.02),
        "5 % without a judgement": worse(dice, invalid=0.05),
        "10 % above the budget": worse(dice, slow=0.10),
        "10 % otherwise near the limit": worse(dice, near=0.10),
        "20 % otherwise near the limit": worse(dice, near=0.20),
    }
    print(f"{args.runs} runs of {args.parts} parts, {SCRAP:.0%} of them bad, seed {args.seed}\n")
    print("| model | refused | parts until then (median) |\n|---|---|---|")
    wrong = 0
    for name, make in rows.items():
        found = [first(make, args.parts) for _ in range(args.runs)]
        refused = [parts for parts in found if parts]
        share = len(refused) / args.runs
        print(f"| {name} | {share:.1%} | {f'{statistics.median(refused):.0f}' if refused else '-'} |", flush=True)
        if name in {"as good as the running model", "at its bounds"}:
            wrong += share > 0.01 + MANY_ALPHAS * (0.01 / args.runs) ** 0.5
    return 1 if wrong else 0


def first(make: Callable[[int], Pair], parts: int) -> int:
    """Part at which the model is refused, 0 when it is not."""
    comparison = Comparison(parts, 0.005, BUDGET_MS)
    for seq in range(1, parts + 1):
        comparison.add(make(seq))
        seen = comparison.look()
        if seen is not None and seen.reason:
            return seq
    return 0


if __name__ == "__main__":
    sys.exit(main())
