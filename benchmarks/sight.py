"""What `onbelt sight` sees and does not see: good parts refused, defects taken for blindness, and each fault of a camera.

    onbelt scenes scenes --train 600 --validation 700 --test 150
    python benchmarks/sight.py scenes/tray scenes/vials scenes/harness --report docs/sight.md

Learned from the first 200 training pictures of each product, tried on all validation and test pictures, and on the simulated
camera's faults. Exit status: 0 at most one good part of a hundred is refused, 1 otherwise.
"""

import argparse
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.page import made_by  # noqa: E402
from edge.binomial import clopper_pearson_upper  # noqa: E402
from edge.camera.base import Trigger  # noqa: E402
from edge.camera.belt import BeltCamera  # noqa: E402
from edge.camera.belt_faults import FaultKind  # noqa: E402
from edge.camera.sight import Sight, learn  # noqa: E402
from edge.preprocess import read_picture  # noqa: E402

LEARNED = 200
FAULTS = ("black", "overexposed", "noisy", "defocused", "absent", "shifted")
MOST_REFUSED = 0.01


@dataclass
class Seen:
    """One product: pictures looked at and reasons given, by kind of picture."""

    looked: Counter[str] = field(default_factory=Counter)
    reasons: dict[str, Counter[str]] = field(default_factory=dict)

    def note(self, kind: str, reason: str) -> None:
        """One picture."""
        self.looked[kind] += 1
        if reason:
            self.reasons.setdefault(kind, Counter())[reason] += 1

    def refused(self, kind: str) -> int:
        """Pictures of this kind that would be invalid."""
        return sum(self.reasons.get(kind, Counter()).values())


def try_out(scenes: Path, frames: int) -> Seen:
    """Learn and look."""
    seen = Seen()
    sight = Sight(learn([read_picture(file) for file in sorted((scenes / "train" / "good").iterdir())[:LEARNED]]))
    for kind, folder in (
        ("good", scenes / "validation" / "good"),
        ("good", scenes / "test" / "good"),
        ("logical defect", scenes / "test" / "logical_anomalies"),
        ("structural defect", scenes / "test" / "structural_anomalies"),
    ):
        for file in sorted(folder.iterdir()):
            unseen = sight.look(read_picture(file))
            seen.note(kind, unseen.reason if unseen else "")
    for fault in FAULTS:
        camera = BeltCamera(scenes.name, 4, size=256, logical_share=0.0, structural_share=0.0)
        camera.fail(FaultKind(fault), None, None)
        with camera:
            camera.start()
            for n in range(1, frames + 1):
                unseen = sight.look(camera.grab(Trigger(n, time.monotonic_ns()), 30.0).pixels)
                seen.note(fault, unseen.reason if unseen else "")
    return seen


def page(found: dict[str, Seen]) -> str:
    """docs/sight.md."""
    lines = [
        "# What a camera should see",
        made_by("sight"),
        f"`onbelt sight` learned from {LEARNED} good pictures of each product of the simulated belt, 256 px. The belt is harder",
        "than a station: light, colour and texture of carrier and belt differ. The bound is Clopper-Pearson, 95 %.",
        "",
        "| product | good parts refused | at most | logical defects called unseen | structural defects called unseen |",
        "|---|---|---|---|---|",
    ]
    for name, seen in found.items():
        looked, refused = seen.looked["good"], seen.refused("good")
        defects = [f"{seen.refused(kind)} of {seen.looked[kind]}" for kind in ("logical defect", "structural defect")]
        most = clopper_pearson_upper(refused, looked, 0.95)
        lines.append(f"| {name} | {refused} of {looked} | {most:.2%} | {defects[0]} | {defects[1]} |")
    lines += ["", f"| fault of the camera | {' | '.join(found)} |", f"|---|{'---|' * len(found)}"]
    for fault in FAULTS:
        cells = []
        for seen in found.values():
            reasons = ", ".join(f"{reason} {n}" for reason, n in seen.reasons.get(fault, Counter()).most_common())
            cells.append(f"{seen.refused(fault)} of {seen.looked[fault]} ({reasons})")
        lines.append(f"| {fault} | {' | '.join(cells)} |")
    lines += ["", "A defect called unseen is ejected all the same, and counted as invalid instead of bad.", ""]
    return "\n".join(lines)


def main() -> int:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("scenes", nargs="+", type=Path, metavar="DIR", help="folders that onbelt scenes made, named by product")
    parser.add_argument("--frames", type=int, default=10, metavar="N", help="frames of each fault")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the page there")
    args = parser.parse_args()
    found = {scenes.name: try_out(scenes, args.frames) for scenes in args.scenes}
    text = page(found)
    print(text)
    if args.report:
        args.report.write_text(text)
    refused, looked = sum(one.refused("good") for one in found.values()), sum(one.looked["good"] for one in found.values())
    return 0 if refused <= MOST_REFUSED * looked else 1


if __name__ == "__main__":
    sys.exit(main())
