"""Scores that a bundle gives to good parts of the simulated belt while light, lens or mounting go wrong, kind by kind.

    python benchmarks/drift_pictures.py --bundle edge/data/demo.onbelt --out build/drift-scores.json
    python benchmarks/drift_pictures.py --bundle edge/data/demo.onbelt --pictures 6 --out /tmp/scores.json

Every picture is drawn once and drifted in ten ways at three strengths; the engine that would run here scores all of them. The
parts come from a belt that neither training nor calibration nor test pictures come from. `benchmarks/limits.py` turns the scores
into times to alarm.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from edge.belt.dice import Dice
from edge.belt.scene import PRODUCTS, render
from edge.belt.writer import FIRST_SEED, INDEX_STEP
from edge.bundle.reader import open_bundle
from edge.bundle.signing import default_trust
from edge.camera.belt_faults import defocused, noisy
from edge.engine import open_engine
from edge.engine.machine import this_machine
from edge.errors import DataError, OnbeltError
from edge.preprocess import Frame8, fit

SEED = FIRST_SEED + 987_654_321
"""Far from every data set's belts, which begin at FIRST_SEED and step by ten."""
SCENE_PX = 256
"""As `onbelt scenes` draws them: parts drawn at the network's own side have harder edges than scaled ones, and score higher."""

Drift = Callable[[Frame8, float, int], Frame8]


def _clip(pixels: np.ndarray) -> Frame8:
    return np.asarray(np.clip(np.rint(pixels), 0, 255), np.uint8)


def light(frame: Frame8, factor: float, _index: int) -> Frame8:
    """The lamp at this share of its brightness."""
    return _clip(frame.astype(np.float64) * factor)


def tint(frame: Frame8, share: float, _index: int) -> Frame8:
    """A lamp that has become warmer: more red, less blue."""
    return _clip(frame.astype(np.float64) * [1.0 + share, 1.0, 1.0 - share])


def haze(frame: Frame8, share: float, _index: int) -> Frame8:
    """A film on the lens: so much of the picture is its own mean."""
    return _clip((1.0 - share) * frame.astype(np.float64) + share * frame.mean())


def defocus(frame: Frame8, radius_px: float, _index: int) -> Frame8:
    """A lens that has moved; radius in pixels of a 256 px frame."""
    return defocused(frame, radius_px)


def noise(frame: Frame8, deviation: float, index: int) -> Frame8:
    """A hot sensor; deviation in 8-bit counts."""
    return noisy(frame, deviation, Dice("drift", index))


def dirt(frame: Frame8, spots: float, _index: int) -> Frame8:
    """So many specks on the lens, always at the same places, 3 % of the frame wide each."""
    height, width = frame.shape[:2]
    y, x = np.mgrid[:height, :width]
    shade = np.ones((height, width))
    places = np.random.default_rng(3).random((round(spots), 2))
    for across, down in places:
        distance = np.hypot((x - across * width) / width, (y - down * height) / height)
        shade *= 1.0 - 0.6 * np.clip(1.0 - distance / 0.03, 0.0, 1.0)
    return _clip(frame * shade[:, :, None])


def shifted(frame: Frame8, share: float, _index: int) -> Frame8:
    """The camera has slipped sideways by this share of the picture; the edge is what was there."""
    moved = round(share * frame.shape[1])
    return np.concatenate([np.repeat(frame[:, :1], moved, axis=1), frame[:, : frame.shape[1] - moved]], axis=1)


def turned(frame: Frame8, degrees: float, _index: int) -> Frame8:
    """The camera has turned in its mount."""
    return np.asarray(Image.fromarray(frame).rotate(degrees, Image.Resampling.BILINEAR, fillcolor=tuple(map(int, frame[0, 0]))))


def smear(frame: Frame8, share: float, _index: int) -> Frame8:
    """The belt runs on during the exposure: a box this share of the picture wide."""
    wide = max(1, round(share * frame.shape[1]))
    padded = np.pad(frame.astype(np.float64), ((0, 0), (wide, 0), (0, 0)), mode="edge")
    total = np.cumsum(padded, axis=1)
    return _clip((total[:, wide:] - total[:, :-wide]) / wide)


DRIFTS: dict[str, tuple[Drift, tuple[float, float, float], str]] = {
    "light down": (light, (0.95, 0.85, 0.7), "of nominal"),
    "light up": (light, (1.05, 1.15, 1.3), "of nominal"),
    "tint": (tint, (0.03, 0.08, 0.15), "red up, blue down"),
    "haze": (haze, (0.05, 0.15, 0.3), "of the contrast lost"),
    "defocus": (defocus, (0.7, 1.5, 3.0), "px of 256, radius"),
    "noise": (noise, (3.0, 8.0, 16.0), "counts, deviation"),
    "dirt": (dirt, (1.0, 4.0, 12.0), "specks"),
    "camera slipped": (shifted, (0.01, 0.03, 0.08), "of the width"),
    "camera turned": (turned, (1.0, 3.0, 8.0), "degrees"),
    "motion smear": (smear, (0.016, 0.032, 0.064), "of the width"),
}


def score(bundle_path: Path, pictures: int, clean: int) -> dict[str, object]:
    """Draw, drift and score.

    Raises:
        DataError: the bundle's product does not run on the belt.
    """
    bundle = open_bundle(bundle_path, default_trust())
    manifest = bundle.manifest
    if manifest.product not in PRODUCTS:
        raise DataError(f"{bundle_path}: expected a product of {', '.join(PRODUCTS)}, got {manifest.product}")
    began, told = time.monotonic(), time.monotonic()
    size = max(manifest.size, SCENE_PX)
    drifted: dict[str, list[float]] = {f"{name}|{one:g}": [] for name, (_, strengths, _) in DRIFTS.items() for one in strengths}
    good: list[float] = []
    with open_engine(bundle) as engine:
        for number in range(max(clean, pictures)):
            frame = render(manifest.product, SEED, number * INDEX_STEP, kind="good", size=size).frame
            if number < clean:
                good.append(engine.infer(fit(frame, manifest.size)).raw)
            if number < pictures:
                for name, (change, strengths, _) in DRIFTS.items():
                    for one in strengths:
                        worse = change(frame, one, number)
                        drifted[f"{name}|{one:g}"].append(engine.infer(fit(worse, manifest.size)).raw)
            if time.monotonic() - told > 10:
                told = time.monotonic()
                print(f"part {number + 1} of {max(clean, pictures)}", file=sys.stderr, flush=True)
        name = engine.name
    return {
        "model": manifest.members["model.onnx"].sha256,
        "product": manifest.product,
        "engine": name,
        "machine": str(this_machine()),
        "seed": SEED,
        "seconds": round(time.monotonic() - began, 1),
        "units": {name: unit for name, (_, _, unit) in DRIFTS.items()},
        "good": good,
        "drifted": drifted,
    }


def main() -> int:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--bundle", type=Path, default=Path("edge/data/demo.onbelt"), help="the model (default %(default)s)")
    arguments.add_argument("--pictures", type=int, default=48, help="parts of each drift and strength (default %(default)s)")
    arguments.add_argument("--clean", type=int, default=300, help="good parts as they are (default %(default)s)")
    arguments.add_argument("--out", type=Path, required=True, help="JSON file to write")
    args = arguments.parse_args()
    try:
        found = score(args.bundle, args.pictures, args.clean)
    except OnbeltError as error:
        print(f"drift_pictures: {error}", file=sys.stderr)
        return error.exit_code
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(found, indent=1) + "\n")
    print(f"{args.out}: {len(found['good'])} good parts and {len(found['drifted'])} drifts in {found['seconds']} s")  # type: ignore[arg-type]
    return 0


if __name__ == "__main__":
    sys.exit(main())
