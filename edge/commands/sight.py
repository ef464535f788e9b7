"""Learn from good pictures what a station's camera should see; frames that show anything else are then `invalid`.

onbelt sight FOLDER --out sight.json                # then camera.sight = "sight.json" in station.toml
onbelt sight FOLDER --out sight.json --check OTHER  # and how many pictures of OTHER it would refuse
"""

import argparse
import json
from pathlib import Path

from edge.binomial import clopper_pearson_upper
from edge.camera.sight import learn, read_sight, write_sight
from edge.errors import ConfigError
from edge.preprocess import read_picture

_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}
_MOST = 2000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare flags."""
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="good pictures of this camera, as it stands now, at least 20")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="where what was learned is written")
    parser.add_argument("--check", type=Path, metavar="FOLDER", help="good pictures not learned from: how many would be refused")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Learn, write, and say how many good pictures would be refused."""
    if not args.out.absolute().parent.is_dir() or args.out.is_dir():  # said before a thousand pictures are read
        raise ConfigError(f"--out {args.out}: expected a file in a folder that exists")
    pictures = [read_picture(file) for file in _files(args.folder)]
    write_sight(args.out, learn(pictures))
    found: dict[str, object] = {"sight": str(args.out), "learned_from": len(pictures)}
    if args.check is not None:
        sight = read_sight(args.out)
        files = _files(args.check)
        refused = [(file.name, seen) for file in files if (seen := sight.look(read_picture(file))) is not None]
        found |= {
            "checked": len(files),
            "refused": len(refused),
            "refused_at_most": round(clopper_pearson_upper(len(refused), len(files), 0.95), 4),
            "reasons": [f"{name}: {seen.reason}: {seen.text}" for name, seen in refused[:10]],
        }
    if args.json:
        print(json.dumps(found))
        return 0
    print(f"{args.out}: learned from {len(pictures)} pictures")
    if args.check is not None:
        share = float(str(found["refused_at_most"]))
        print(
            f"refuses {found['refused']} of {found['checked']} others: with 95 % confidence at most {share:.2%} of good pictures"
        )
        for text in found["reasons"]:  # type: ignore[attr-defined]  # the list above
            print(f"  {text}")
    return 0


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise ConfigError(f"{folder}: expected a folder of pictures, there is none")
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in _SUFFIXES)
    if not files:
        raise ConfigError(f"{folder}: expected PNG, JPEG, BMP or TIFF pictures, found none")
    return files[:_MOST]
