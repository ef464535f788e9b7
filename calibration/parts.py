"""Scores of good parts for a new limit: from pictures, judged again here, or from the journal, as they were judged on the line.

A limit's promise is about independent good parts. So the same picture twice counts once: a frozen camera or a copied folder
would else turn ten parts into a thousand. And what was rejected counts as well: the parts that a limit let pass say nothing
about what lies above it, and a limit fitted on them alone would creep down at every refit.
"""

import hashlib
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.bundle.manifest import BRANCHES, Rule
from edge.bundle.reader import Bundle
from edge.engine.base import Engine
from edge.errors import ContractError, DataError, JournalError, PictureError
from edge.journal.reader import Reader
from edge.limits.form import MAX_SCORES
from edge.limits.rules import RuleCells
from edge.preprocess import fit, read_picture
from edge.wire.verdict import Verdict, decode_verdict, payload_hash, references

logger = logging.getLogger(__name__)

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"})
_CHUNK = 1000
_ROUNDING = 5e-6
"""Verdicts carry raw with 6 significant digits: the true score is at most this share above what is written."""


@dataclass(frozen=True, slots=True)
class GoodParts:
    """Scores of parts that somebody vouches are good.

    Attributes:
        kind: "pictures" or "journal". scores: (n, 4) raw, st, ae, global. sha256: hash over the parts, hex.
        repeated: left out since an identical part was there. invalid: could not be judged. engine: what gave the scores.
        names: (n,) for people, in the order of the scores: paths of pictures, or numbers of verdicts.
        ruled: (n, m) what the m rules asked for look at.
    """

    kind: str
    scores: NDArray[np.float64]
    sha256: str
    repeated: int
    invalid: int
    engine: str
    names: tuple[str, ...] = ()
    ruled: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)))


def list_pictures(paths: Iterable[Path]) -> list[Path]:
    """Picture files named, and those in the folders named (not their subfolders), in the order of names.

    Raises:
        DataError: a path does not exist, or a folder holds no picture.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
            if not inside:
                raise DataError(f"{path}: expected PNG, JPEG, BMP or TIFF pictures in this folder, found none; name another")
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise DataError(f"{path}: no such picture or folder")
    return found


def score_pictures(
    paths: Sequence[Path],
    engine: Engine,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
    rules: Sequence[Rule] = (),
) -> GoodParts:
    """Judge pictures of good parts.

    Args:
        paths: picture files.
        engine: the one the limit is for.
        progress: called with (done, of).
        rules: further limits that are to be fitted.

    Raises:
        DataError: more pictures than a limit file may hold.
        EngineError: the engine fails.
    """
    _check_count(len(paths))
    seen: set[bytes] = set()
    total = hashlib.sha256()
    rows: list[tuple[float, ...]] = []
    names: list[str] = []
    ruled: list[list[float]] = []
    repeated = invalid = 0
    for done, path in enumerate(paths, start=1):
        try:
            frame = fit(read_picture(path), engine.size)
        except PictureError as exc:
            logger.warning("left out: %s", exc)
            invalid += 1
            continue
        digest = hashlib.sha256(frame.tobytes()).digest()
        if digest in seen:
            repeated += 1
        else:
            seen.add(digest)
            total.update(digest)
            scores = engine.infer(frame)
            rows.append((scores.raw, scores.st, scores.ae, scores.global_))
            ruled.append([RuleCells.of(rule, scores.map_st.shape[0]).value(scores) for rule in rules])
            names.append(str(path))
        progress(done, len(paths))
    values = np.asarray(ruled, np.float64).reshape(len(rows), len(rules))
    return GoodParts("pictures", _as_array(rows), total.hexdigest(), repeated, invalid, engine.name, tuple(names), values)


def score_journal(
    reader: Reader, bundle: Bundle, boot: str, first: int, last: int, masters: frozenset[str] = frozenset()
) -> GoodParts:
    """Take scores from journaled verdicts: all parts of one boot with first <= seq <= last that have a score.

    Args:
        reader: an open journal.
        bundle: the model with the limit that was in force then.
        boot: which start of the daemon.
        first: sequence number of the first part.
        last: of the last part, included.
        masters: numbers of master parts: what they score says nothing about the parts of the line.

    Raises:
        JournalError: no such parts, some are missing, a payload is no verdict, or another model or limit judged them.
        DataError: more parts than a limit file may hold.
    """
    if not 1 <= first <= last:
        raise DataError(f"expected parts FIRST-LAST with 1 <= FIRST <= LAST, got {first}-{last}")
    _check_count(last - first + 1)
    units = [1.0] + [bundle.manifest.limit.branches[name] for name in BRANCHES]
    model, _, limit = references(bundle.manifest, bundle.sha256)
    seen: set[tuple[float, ...]] = set()
    total = hashlib.sha256()
    rows: list[tuple[float, ...]] = []
    names: list[str] = []
    found = repeated = invalid = 0
    for payload, verdict in _verdicts(reader, boot, first, last):
        found += 1
        if verdict.score is None or verdict.part.id in masters:
            invalid += 1
            continue
        if (verdict.ctx.model, verdict.ctx.limit) != (model, limit):
            raise JournalError(
                f"{reader.path}: part {verdict.seq}: expected one judged by {model} under {limit}, it was by {verdict.ctx.model} "
                f"under {verdict.ctx.limit}; name the bundle, and with --limit the limit, that were in force then"
            )
        score = verdict.score
        written = (score.raw, score.st, score.ae, score.global_)
        if written in seen:
            repeated += 1
            continue
        seen.add(written)
        total.update(payload_hash(payload).encode())
        raw = score.raw + abs(score.raw) * _ROUNDING
        names.append(f"part {verdict.seq}")
        rows.append((raw, *(value * unit for value, unit in zip(written[1:], units[1:], strict=True))))
    if found != last - first + 1:
        raise JournalError(
            f"{reader.path}: expected {last - first + 1} parts of boot {boot}, found {found}; a part left out may be the "
            "one that matters: name a range the journal holds whole"
        )
    return GoodParts(
        "journal", _as_array(rows), total.hexdigest(), repeated, invalid, f"as journaled by boot {boot}", tuple(names)
    )


def _verdicts(reader: Reader, boot: str, first: int, last: int) -> Iterable[tuple[bytes, Verdict]]:
    after = 0
    while chunk := reader.rows(after, _CHUNK):
        after = chunk[-1].n
        for row in chunk:
            if row.boot != boot or not first <= row.seq <= last:
                continue
            try:
                yield row.payload, decode_verdict(row.payload)
            except ContractError as exc:
                raise JournalError(f"{reader.path}: row {row.n} is no verdict ({exc}); altered after it was written") from exc


def _check_count(count: int) -> None:
    if count > MAX_SCORES:
        raise DataError(f"expected at most {MAX_SCORES} parts for a limit, got {count}; take the newest ones")


def _as_array(rows: list[tuple[float, ...]]) -> NDArray[np.float64]:
    return np.asarray(rows, np.float64).reshape(-1, 1 + len(BRANCHES))
