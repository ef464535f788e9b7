"""Judge picture files with a bundle, one line each.

onbelt judge bottle.onbelt part.png
onbelt judge bottle.onbelt parts/*.png --json --heatmaps maps/

A picture that cannot be judged gets the verdict invalid, with the reason, and the others are judged all the same.
Exit status: 0 every picture was judged (whatever the verdict), 1 one could not be, 2 usage, 3 the bundle is not to be trusted.
"""

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edge.commands._bundle import add_bundle_arguments, open_from
from edge.engine import Engine, open_engine
from edge.errors import ConfigError, EngineError, PictureError
from edge.heatmap import overlay
from edge.judge import Judge, Judgement
from edge.preprocess import Frame8, fit, read_picture


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    add_bundle_arguments(parser)
    parser.add_argument("pictures", nargs="+", type=Path, metavar="PICTURE", help="picture files: PNG, JPEG, BMP or TIFF")
    parser.add_argument("--heatmaps", type=Path, metavar="DIR", help="also write each picture with its anomaly map laid over it")


def run(args: argparse.Namespace) -> int:
    """Judge every picture named."""
    bundle = open_from(args)
    judge = Judge(bundle.manifest)
    if args.heatmaps is not None:
        _make_folder(args.heatmaps)
    names = _heatmap_names(args.pictures)
    all_judged = True
    with open_engine(bundle, args.engine, args.threads) as engine:
        for path, name in zip(args.pictures, names, strict=True):
            try:
                frame = read_picture(path)
                judgement, infer_ms = _judge(frame, engine, judge)
            except (PictureError, EngineError) as exc:
                all_judged = False
                _print_invalid(path, str(exc), as_json=args.json)
                continue
            _print_judged(path, judgement, infer_ms, as_json=args.json)
            if args.heatmaps is not None:
                _write_heatmap(args.heatmaps / name, frame, judgement)
    return 0 if all_judged else 1


def _judge(frame: Frame8, engine: Engine, judge: Judge) -> tuple[Judgement, float]:
    fitted = fit(frame, engine.size)
    begin = time.perf_counter_ns()
    scores = engine.infer(fitted)
    infer_ms = (time.perf_counter_ns() - begin) / 1e6
    return judge.judge(scores), infer_ms


def _print_judged(path: Path, judgement: Judgement, infer_ms: float, *, as_json: bool) -> None:
    if as_json:
        _print_json(
            path,
            judgement.verdict,
            score=judgement.cal,
            p=judgement.p,
            cause=judgement.cause,
            infer_ms=round(infer_ms, 3),
            st=judgement.st,
            ae=judgement.ae,
            **{"global": judgement.global_},
            regions=[asdict(region) for region in judgement.regions],
            reason=None,
        )
        return
    line = f"{path}  {judgement.verdict:9}  score {judgement.cal:.3f}  p {judgement.p:.3g}"
    if judgement.cause is not None:
        line += f"  {judgement.cause}"
    if judgement.regions:
        top = judgement.regions[0]
        line += f" at {100 * (top.x + top.w / 2):.0f} % across, {100 * (top.y + top.h / 2):.0f} % down"
    print(line, flush=True)


def _print_invalid(path: Path, reason: str, *, as_json: bool) -> None:
    if as_json:
        nothing: dict[str, Any] = dict.fromkeys(("score", "p", "cause", "infer_ms", "st", "ae", "global"))
        _print_json(path, "invalid", **nothing, regions=[], reason=reason)
    else:
        print(f"{path}  {'invalid':9}  {reason}", flush=True)


def _print_json(path: Path, verdict: str, **fields: object) -> None:
    print(json.dumps({"picture": str(path), "verdict": verdict, **fields}, allow_nan=False), flush=True)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise ConfigError(f"{folder}: cannot make this folder for heat maps ({exc.strerror}); name another") from exc


def _heatmap_names(pictures: list[Path]) -> list[str]:
    """One file name for each picture; those of one name from several folders are numbered."""
    seen: dict[str, int] = {}
    names = []
    for path in pictures:
        seen[path.stem] = seen.get(path.stem, 0) + 1
        names.append(f"{path.stem}.png" if seen[path.stem] == 1 else f"{path.stem}~{seen[path.stem]}.png")
    return names


def _write_heatmap(path: Path, frame: Frame8, judgement: Judgement) -> None:
    try:
        overlay(frame, judgement).save(path)
    except OSError as exc:
        raise ConfigError(f"{path}: cannot write the heat map ({exc.strerror}); check space and permissions") from exc
