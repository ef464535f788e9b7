"""A model in the shadow: judges the parts the running model judges, in a process of its own that steps aside for the line.

python -m edge.update.shadow NEW.onbelt --parts-from FOLDER --report FILE --trust DIR     prints a JSON object per step

It reads parts from the daemon's socket (`edge.daemon.stages.tap`); while it is busy the daemon goes on and counts what was not
compared. The last object it prints has a decision, the ones before say how far it is. Whatever this process does, the line does
not notice.
"""

import argparse
import contextlib
import os
import resource
import socket
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.bundle.reader import Bundle, open_bundle
from edge.bundle.signing import TrustStore, default_trust
from edge.engine import open_engine
from edge.engine.base import Engine
from edge.errors import ContractError, EngineError, LimitError, OnbeltError, PictureError
from edge.judge import Judge, Judgement
from edge.preprocess import fit
from edge.update.compare import Comparison, Pair
from edge.update.files import write_atomic
from edge.update.limited import limited
from edge.update.prove import step_aside
from edge.update.report import MOST_PICTURES, Shown, render, show
from edge.wire.parts import PartHead, address, peer_uid, receive_part

RETRY_S = 1.0
STEPS = 10  # progress is told ten times


class Told(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the process says.

    Attributes:
        decided: this is the last word. reason: of `edge.update.reasons`; empty and decided: it may take over.
        text: one line for people. parts: compared so far. dropped: judged parts that were not compared.
    """

    decided: bool
    reason: str
    text: str
    parts: int = 0
    dropped: int = 0


class Shadow:
    """One model beside the running one.

    Args:
        bundle: the verified model. engine: runs it. parts: pairs it takes. budget_ms: 0 takes the bundle's own.
        threads: the engine's, for its share of processor time. report: file to write at the end.
    """

    def __init__(self, bundle: Bundle, engine: Engine, parts: int, budget_ms: float, threads: int, report: Path) -> None:
        manifest = bundle.manifest
        self.comparison = Comparison(parts, manifest.limit.false_reject, budget_ms or manifest.budget_ms)
        self._title = f"{manifest.product} version {manifest.version} beside the running model"
        self._engine = engine
        self._judge = Judge(manifest)
        self._threads = max(1, threads or len(os.sched_getaffinity(0)))
        self._report = report
        self._shown: list[Shown] = []
        self._dropped = 0
        self._running = ""
        self._times: tuple[list[float], list[float]] = ([], [])

    def step(self, head: PartHead, pixels: NDArray[np.uint8]) -> Told | None:
        """Judge a part; what there is to say, None for nothing."""
        if head.verdict == "uncertain":  # left to a person: there is nothing to compare with
            return None
        pair, judgement = self._judged(head, pixels)
        self.comparison.add(pair)
        self._running, self._dropped = head.model, head.dropped
        if len(self._times[0]) < 10_000:
            self._times[0].append(head.infer_ms)
            self._times[1].append(pair.cpu_ms)
        if (pair.differs or pair.after == "invalid") and len(self._shown) < MOST_PICTURES:
            self._shown.append(show(pair, pixels, judgement))
        seen = self.comparison.look()
        if seen is not None:
            self._write(seen.reason, seen.text)
            text = seen.text + (f"; pictures in {self._report}" if self.comparison.differing else "")
            return Told(True, seen.reason, text, self.comparison.count, self._dropped)
        return self.progress() if self.comparison.count % max(1, self.comparison.parts // STEPS) == 0 else None

    def progress(self) -> Told:
        """How far it is."""
        done = self.comparison
        return Told(False, "shadow", f"{done.summary()}; {done.parts} are asked for", done.count, self._dropped)

    def _judged(self, head: PartHead, pixels: NDArray[np.uint8]) -> tuple[Pair, Judgement | None]:
        begin = time.process_time()
        judgement: Judgement | None = None
        text, finite = "", True
        try:
            judgement = self._judge.judge(self._engine.infer(fit(pixels, self._engine.size)))
        except (EngineError, PictureError) as exc:
            text, finite = str(exc)[:200], "expected finite scores" not in str(exc)
        cpu_ms = (time.process_time() - begin) * 1000 / self._threads
        if judgement is None:
            return Pair(head.seq, head.verdict, head.cal, "invalid", np.inf, cpu_ms, finite, text), None
        return Pair(head.seq, head.verdict, head.cal, judgement.verdict, judgement.cal, cpu_ms), judgement

    def _write(self, reason: str, text: str) -> None:
        running, new = (f"{np.quantile(one, 0.99, method='higher'):.1f} ms" for one in self._times)
        facts = {
            "running model": self._running,
            "compared": f"{self.comparison.count} parts; {self._dropped} were judged while this process was busy",
            "running model, time in its engine, p99": running,
            "new model, processor time, p99": f"{new} of {self.comparison.budget_ms:g} ms, at the lowest priority",
            "memory of the new model's process": f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB",
        }
        page = render(self._title, reason, text, facts, self.comparison, self._shown)
        with contextlib.suppress(OnbeltError):  # a full disk must not keep the decision from anybody
            write_atomic(self._report, page)


def connect(folder: Path) -> socket.socket | None:
    """Connect to the daemon; None when there is none."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        with address(folder) as where:
            connection.connect(where)
        if peer_uid(connection) in {os.getuid(), 0}:
            connection.settimeout(None)
            return connection
    except OSError:
        pass
    connection.close()
    return None


def watch(shadow: Shadow, folder: Path) -> None:
    """Compare until it is decided; a daemon that is not there is waited for."""
    waiting = False
    while True:
        connection = connect(folder)
        if connection is None:
            if not waiting:
                _tell(Told(False, "silent", "the daemon hands no parts over: is it running, with model.bundle on the link?"))
            waiting = True
            time.sleep(RETRY_S)
            continue
        waiting = False
        with connection:
            _tell(shadow.progress())
            with contextlib.suppress(OSError, ContractError):
                while (part := receive_part(connection)) is not None:
                    told = shadow.step(*part)
                    if told is not None:
                        _tell(told)
                        if told.decided:
                            return
        time.sleep(RETRY_S)


def main(argv: list[str] | None = None) -> int:
    """The comparison as a process."""
    parser = argparse.ArgumentParser(prog="python -m edge.update.shadow", description="judge beside the running model")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--parts-from", type=Path, required=True)
    parser.add_argument("--report", type=Path, required=True)
    parser.add_argument("--parts", type=int, default=300)
    parser.add_argument("--trust", action="append", default=[])
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--budget-ms", type=float, default=0.0)
    parser.add_argument("--limit", default="")
    args = parser.parse_args(argv)
    step_aside()
    try:
        trust = TrustStore.from_folders(map(Path, args.trust)) if args.trust else default_trust()
        bundle = limited(open_bundle(args.bundle, trust), args.limit, trust)
        with open_engine(bundle, args.engine, args.threads or None) as engine:
            watch(Shadow(bundle, engine, args.parts, args.budget_ms, args.threads, args.report), args.parts_from)
    except LimitError as exc:
        _tell(Told(True, "limit", str(exc)[:300]))
    except OnbeltError as exc:
        _tell(Told(True, "shadow-failed", str(exc)[:300]))
    return 0


def _tell(told: Told) -> None:
    sys.stdout.write(msgspec.json.encode(told).decode() + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
