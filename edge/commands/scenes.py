"""Write the simulated belt's pictures as a data set with masks (MVTec LOCO AD layout), one folder per product.

onbelt scenes scenes
onbelt scenes /tmp/tray --product tray --train 20 --validation 20 --test 10 --size 128 --json

Each OUT/PRODUCT holds train/good, validation/good, test/{good,logical_anomalies,structural_anomalies}, ground_truth,
defects_config.json and scenes.json (seeds and indices: enough to draw every picture again). The same arguments give the same
pixels on every machine. Progress goes to standard error.
"""

import argparse
import json
import sys
import time
from pathlib import Path

from edge.belt.scene import MIN_SIZE_PX, PRODUCTS
from edge.belt.writer import Progress, claim, splits, write_scenes
from edge.commands._bundle import positive

PROGRESS_EVERY_S = 2.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write to; must be empty, or not exist")
    parser.add_argument(
        "--product", choices=["all", *PRODUCTS], default="all", help="what runs on the belt (default: %(default)s)"
    )
    parser.add_argument(
        "--train", type=positive, default=500, metavar="N", help="good parts to learn from (default: %(default)s)"
    )
    parser.add_argument(
        "--validation", type=positive, default=700, metavar="N", help="good parts to set limits on (default: %(default)s)"
    )
    parser.add_argument(
        "--test",
        type=positive,
        default=100,
        metavar="N",
        help="parts to judge of each type: good, logical, structural (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=_whole, default=0, metavar="S", help="which parts; two seeds share none (default: %(default)s)"
    )
    parser.add_argument("--size", type=_side, default=256, metavar="PX", help="side of the pictures (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def run(args: argparse.Namespace) -> int:
    """Write the data sets and say what they hold."""
    products = list(PRODUCTS) if args.product == "all" else [args.product]
    parts = splits(args.seed, args.train, args.validation, args.test)
    claim(args.out)
    began = time.monotonic()
    written = {name: write_scenes(name, args.out / name, parts, args.size, _progress(name)) for name in products}
    took_s = time.monotonic() - began
    if args.json:
        report = {
            name: {
                "path": str(args.out / name),
                "scene_version": PRODUCTS[name].version,
                "pictures": made.pictures,
                "sha256": made.sha256,
            }
            for name, made in written.items()
        }
        print(json.dumps({"out": str(args.out), "seconds": round(took_s, 2), "products": report}))
        return 0
    for name, made in written.items():
        print(f"{args.out / name}: {made.pictures} pictures, sha256 {made.sha256[:16]}")
        print(f"  {PRODUCTS[name].rule}")
    total = sum(made.pictures for made in written.values())
    print(f"{total} pictures in {took_s:.0f} s; next:")
    print(f"  onbelt train {args.out / products[0]} --model dfsc-efficientad-s --size 128 --out runs/{products[0]}")
    return 0


def _progress(name: str) -> Progress:
    """A line on standard error every two seconds, and one at the end."""
    last = time.monotonic()

    def report(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if done == total or now - last >= PROGRESS_EVERY_S:
            last = now
            print(f"{name}: {done} of {total}", file=sys.stderr, flush=True)

    return report


def _whole(text: str) -> int:
    """A seed."""
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"expected a whole number from 0, got {text}")
    return number


def _side(text: str) -> int:
    """A picture's side in pixels."""
    number = int(text)
    if not MIN_SIZE_PX <= number <= 4096:
        raise argparse.ArgumentTypeError(f"expected {MIN_SIZE_PX} to 4096 px, got {text}")
    return number
