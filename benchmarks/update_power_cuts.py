"""Cut the power of a box's disk while its updater works: what would run afterwards is a whole old or new model, never a mixture.

    python benchmarks/update_power_cuts.py                       # 500 cuts, and 100 without fsync, as root
    python benchmarks/update_power_cuts.py --cuts 20 --mutant-cuts 20 --json

A process updates without pause between two models of 1 MB on a real ext4, every third time sent back by its guard. The ext4 lies
as an image file on a loop-mounted XFS; a cut is a reflink clone of that image while it is mounted and written, so it holds what
had reached the block device at one instant. The clone is mounted, and then
  - `current` points to a file whose bytes hash to its name, and which is one of the two models;
  - a model runs: `current` is verified, its engine is built and judges its golden pictures, and the time of that is taken;
  - the state can be read, and names only models that are there as whole files;
  - the updater, started on it, finishes, and what runs is what it has committed.
The second run does the same with os.fsync doing nothing and must find damage: else this harness could see none.

Proof and comparison only take their time here, so that cuts fall into them: they write nothing that counts. A drive that
acknowledges a flush and does not do it is not shown either. Needs root, loop devices, mkfs.ext4 and mkfs.xfs. Exit status: 0 as
it should be, 1 damage, or none without fsync, 2 cannot run here.
"""

import argparse
import collections
import contextlib
import hashlib
import json
import os
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.cut_disk import clone, cut_disk, missing, mounted
from edge.bundle.reader import open_bundle
from edge.bundle.signing import TrustStore
from edge.engine import open_engine
from edge.engine.proof import replay_golden
from edge.errors import EngineError, OnbeltError, UpdateError
from edge.update.machine import Watched
from edge.update.prove import Proof
from edge.update.state import Model, load_state
from tests.support.update_box import GOOD, Box
from tests.support.update_site import UpdateSite

DISK_MB = 128
WORK = 1  # a matrix of 1 MB in each model: more than one write of the disk


class QuickBox(Box):
    """A box that believes every model after a moment, and finds it as good as the running one."""

    moment_s = 0.0

    def __init__(self, folder: Path, site: UpdateSite) -> None:
        super().__init__(folder, site, shadow=self._compared)

    def _prove(self, *_: Path | None) -> Proof:
        time.sleep(self.moment_s)
        return Proof("", "skipped")

    def _compared(self, _model: Model) -> Watched:
        time.sleep(self.moment_s)
        return Watched("", "skipped")


def worker(site: UpdateSite, disk: Path, *, flush: bool) -> None:
    """Update for ever."""
    if not flush:
        os.__dict__["fsync"] = lambda _: None
    box = QuickBox(disk / "box", site)
    box.moment_s = 0.03
    turn = 0
    while True:
        turn += 1
        site.promote(1 + turn % 2)
        box.verdict = Watched("rejects", "too many") if turn % 3 == 0 else GOOD
        with contextlib.suppress(UpdateError):
            box.update(serial=turn)


def inspect(site: UpdateSite, disk: Path, models: set[str]) -> tuple[str, str, float]:
    """(the step the cut fell into, what is wrong or empty, seconds until a model ran)."""
    folder = disk / "box" / "update"
    ready_s = 0.0
    try:
        state = load_state(folder / "state.json")
    except UpdateError as exc:
        return "unreadable", str(exc), ready_s
    step = state.step.value if state else "none"
    try:
        ready_s = start(site, folder)
        return step, _fault(site, disk, folder, models), ready_s
    except (OSError, OnbeltError, AssertionError) as exc:
        return step, f"{type(exc).__name__}: {exc}", ready_s


def start(site: UpdateSite, folder: Path) -> float:
    """What the daemon does with the link before it arms; how long it took, seconds. Raises OnbeltError: it could not."""
    begin = time.monotonic()
    bundle = open_bundle(folder / "current", TrustStore.from_folders([site.trust_folder]))
    with open_engine(bundle, "onnxruntime", 1) as engine:
        wrong = [one.picture for one in replay_golden(bundle, engine) if not one.holds]
    if wrong:
        raise EngineError(f"golden frame {wrong[0]} does not give its scores")
    return time.monotonic() - begin


def _fault(site: UpdateSite, disk: Path, folder: Path, models: set[str]) -> str:
    if _hash(folder / "current") != (folder / "current").readlink().name.removesuffix(".onbelt"):
        return "current is not whole"
    state = load_state(folder / "state.json")
    if state is None or state.committed is None:
        return "nothing is committed"
    if _hash(folder / "models" / f"{state.committed.sha256}.onbelt") != state.committed.sha256:
        return "the committed model is damaged"
    after = QuickBox(disk / "box", site).finish()
    running = _hash(folder / "current")
    if after.committed is None or running != after.committed.sha256 or running not in models:
        return "after the start something else runs than was committed"
    return ""


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def run(cuts: int, *, flush: bool, seed: int) -> dict[str, Any]:
    """So many cuts."""
    dice = random.Random(seed)
    steps: collections.Counter[str] = collections.Counter()
    wrong: list[str] = []
    ready_s = [0.0]
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        site = UpdateSite(folder / "site")
        models = {site.publish(version, work=WORK, limit=1.0 + version / 10).sha256 for version in (1, 2)}
        with cut_disk(folder, DISK_MB) as (image, disk):
            QuickBox(disk / "box", site).update()
            os.sync()
            child = os.fork()
            if child == 0:
                with contextlib.suppress(BaseException):
                    worker(site, disk, flush=flush)
                os._exit(1)
            try:
                for _ in range(cuts):
                    time.sleep(dice.uniform(0.0, 0.15))
                    with mounted(clone(image), folder / "cut") as after:
                        step, fault, took_s = inspect(site, after, models)
                    ready_s.append(took_s)
                    steps[step] += 1
                    wrong += [f"{step}: {fault}"] if fault else []
                    if os.waitpid(child, os.WNOHANG)[0]:
                        wrong.append("the updater ended by itself")
                        break
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, 9)
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(child, 0)
    return {
        "fsync": flush,
        "cuts": sum(steps.values()),
        "steps": dict(sorted(steps.items())),
        "damaged": len(wrong),
        "first": wrong[:3],
        "longest_start_s": round(max(ready_s), 2),
        "seconds": round(time.monotonic() - begin),
    }


def main() -> int:
    """Cut, and compare with what must come out."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cuts", type=int, default=500, help="cuts of the real updater (default %(default)s)")
    parser.add_argument("--mutant-cuts", type=int, default=100, help="cuts without fsync (default %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the moments (default %(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object per run instead of text")
    args = parser.parse_args()
    lacking = missing()
    if lacking:
        print(f"update_power_cuts: {lacking}", file=sys.stderr)
        return 2
    results = [run(args.cuts, flush=True, seed=args.seed), run(args.mutant_cuts, flush=False, seed=args.seed)]
    for one in results:
        print(json.dumps(one) if args.json else f"fsync {one['fsync']}: {one}", flush=True)
    return 0 if not results[0]["damaged"] and results[1]["damaged"] else 1


if __name__ == "__main__":
    sys.exit(main())
