"""The what-if of a bundle and its limit, from pictures to a folder with a page and its figures."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from calibration.parts import GoodParts, list_pictures, score_pictures
from calibration.whatif import MAP_RATES, SHOWN, Beside, WhatIf, explore, with_maps
from calibration.whatif_page import Seen, page
from calibration.whatif_words import in_words
from edge.bundle.manifest import Manifest
from edge.bundle.reader import Bundle
from edge.engine.base import Engine
from edge.errors import ConfigError, DataError
from edge.judge import Judge
from edge.preprocess import Frame8, fit, read_picture

PAGE, DATA = "index.html", "whatif.json"
_ALIKE = 1e-4  # of a score: what the manifest's calibration and a golden frame's stored score may differ by


@dataclass(frozen=True, slots=True)
class Study:
    """What is asked.

    Attributes:
        bundle: the model, with the limit in force.
        good: scores of good parts; None for those the limit in force was fitted on.
        bad: pictures of bad parts and folders of them; may be empty.
        false_reject, confidence: the promise.
    """

    bundle: Bundle
    good: GoodParts | None
    bad: tuple[Path, ...]
    false_reject: float
    confidence: float


def write_study(study: Study, folder: Path, open_engine: Callable[[], Engine], progress: Callable[[int, int], None]) -> list[str]:
    """Answer, and write the page and its figures.

    Args:
        study: what is asked.
        folder: made where it does not exist; files of an earlier answer in it are replaced.
        open_engine: builds the engine, where pictures have to be judged.
        progress: called with (done, of).

    Returns:
        The answer in words.

    Raises:
        ConfigError: the folder cannot be written. DataError: too few good parts. EngineError: the engine fails.
    """
    manifest = study.bundle.manifest
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise ConfigError(f"--report: cannot make the folder {folder} ({exc.strerror}); name another") from exc
    scores, names = _good(study)
    pictured = study.bad or (study.good is not None and study.good.kind == "pictures") or _golden_of(study, scores)
    beside: list[Beside] = []
    setters: list[Seen] = []
    passing: list[Seen] = []
    if not pictured:
        found = explore(scores, {}, study.false_reject, study.confidence)
    else:
        with open_engine() as engine:
            bad = {kind: score_pictures(list_pictures(paths), engine, progress) for kind, paths in _kinds(study.bad).items()}
            empty = [kind for kind, parts in bad.items() if not len(parts.scores)]
            if empty:
                raise DataError(f"--bad: none of the pictures in {', '.join(empty)} could be judged; check the files")
            found = explore(
                scores, {kind: parts.scores[:, 0] for kind, parts in bad.items()}, study.false_reject, study.confidence
            )
            if study.good is not None and bad:
                columns = {kind: parts.scores for kind, parts in bad.items()}
                beside = [with_maps(study.good.scores, columns, rate, study.confidence) for rate in MAP_RATES]
            setters, passing = _pictures(study, found, names, bad, engine)
    words = in_words(found, names, study.confidence, beside)
    title = f"{manifest.name}, {manifest.product}, {len(scores)} good parts"
    record = {
        **asdict(found),
        "beside": [asdict(one) for one in beside],
        "names": {one.place: names[one.index] for one in found.setters},
        "title": title,
    }
    try:
        (folder / PAGE).write_text(page(found, title, words, setters, passing, beside), encoding="utf-8")
        (folder / DATA).write_text(json.dumps(record, indent=1, default=str, allow_nan=False) + "\n", encoding="utf-8")
    except OSError as exc:
        raise ConfigError(f"--report: cannot write into {folder} ({exc.strerror}); name another folder") from exc
    return words


def _good(study: Study) -> tuple[NDArray[np.float64], list[str]]:
    if study.good is not None:
        return study.good.scores[:, 0], list(study.good.names)
    scores = np.asarray(study.bundle.manifest.calibration, np.float64)
    golden = _golden_of(study, scores)
    names = [f"the calibration part of {scores.size - i}. highest score" for i in range(scores.size)]
    return scores, [golden.get(i, name) for i, name in enumerate(names)]


def _golden_of(study: Study, scores: NDArray[np.float64]) -> dict[int, str]:
    """Golden pictures of calibration parts, by place in the scores: the exporter keeps the one nearest below the limit."""
    if study.good is not None:
        return {}
    found = {}
    for golden in study.bundle.golden:
        near = int(np.abs(scores - golden.scores[0]).argmin())
        if golden.verdict == "pass" and abs(scores[near] - golden.scores[0]) <= _ALIKE * abs(scores[near]):
            found[near] = golden.picture
    return found


def _kinds(paths: Sequence[Path]) -> dict[str, list[Path]]:
    """Pictures by kind: the name of the folder named, "bad" for single files."""
    kinds: dict[str, list[Path]] = {}
    for path in paths:
        kinds.setdefault(path.resolve().name if path.is_dir() else "bad", []).append(path)
    return kinds


def _pictures(
    study: Study, found: WhatIf, names: list[str], bad: dict[str, GoodParts], engine: Engine
) -> tuple[list[Seen], list[Seen]]:
    """The good parts that set the limit and the bad ones that pass, judged again at this limit for their maps."""
    manifest = study.bundle.manifest
    limit = msgspec.structs.replace(manifest.limit, raw=found.limit.value)
    judge = Judge(msgspec.structs.replace(manifest, limit=limit))

    def seen(name: str, frame: Frame8, says: str) -> Seen:
        judgement = judge.judge(engine.infer(fit(frame, engine.size)))
        return Seen(name, judgement.cal, says, frame, judgement)

    setters = []
    for one in found.setters:
        frame = _frame_of(study, names[one.index], manifest)
        if frame is not None:
            says = (
                "The limit stands on it." if one.raw == found.limit.value else "Above the limit." * (one.raw > found.limit.value)
            )
            setters.append(seen(Path(names[one.index]).name, frame, says))
    missed = [(parts.scores[i, 0], parts.names[i], kind) for kind, parts in bad.items() for i in range(len(parts.names))]
    nearest = sorted((one for one in missed if one[0] <= found.limit.value), reverse=True)[:SHOWN]
    passing = [seen(f"{kind}/{Path(name).name}", read_picture(Path(name)), "Passes.") for _, name, kind in nearest]
    return setters, passing


def _frame_of(study: Study, name: str, manifest: Manifest) -> Frame8 | None:
    if study.good is not None:
        return read_picture(Path(name)) if study.good.kind == "pictures" else None
    return study.bundle.picture(name) if name in manifest.members else None
