"""The updater's end of a comparison: one process beside the line, asked now and then how far it is.

The updater never waits for parts: a line that stands still would keep it from obeying anything else. It asks for a second at a
time, and the process goes on by itself in between.
"""

import contextlib
import os
import select
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import msgspec

from edge.update.machine import Watched
from edge.update.prove import ProofSettings
from edge.update.shadow import Told
from edge.update.state import Model

LOOK_S = 1.0
MAX_LINE_BYTES = 64 * 1024
MOST_STARTS = 3  # a process that dies three times dies of its model
KEPT_REPORTS = 8


@dataclass(frozen=True, slots=True)
class ShadowSettings:
    """How a model is compared: as the proof runs it, over so many parts; 0 parts compare nothing."""

    proof: ProofSettings
    parts: int


class Shadowing:
    """Runs the comparison of one model at a time.

    Args:
        settings: how. models: (sha256) -> file. parts_from: folder of the daemon's socket. reports: folder for reports.
    """

    def __init__(self, settings: ShadowSettings, models: Path, parts_from: Path, reports: Path) -> None:
        self._settings = settings
        self._models = models
        self._parts_from = parts_from
        self._reports = reports
        self._process: subprocess.Popen[bytes] | None = None
        self._model = ""
        self._starts = 0
        self._line = b""
        self._last = Watched("shadow", "begins to judge beside the running model")

    def judge(self, model: Model) -> Watched:
        """Ask for a second how far the comparison is: its last word, "" for a model that may take over."""
        if self._settings.parts == 0:
            return Watched("", "no comparison is asked for")
        if model.sha256 != self._model:
            self.end()
            self._model, self._starts = model.sha256, 0
            self._last = Watched("shadow", "begins to judge beside the running model")
        if self._process is None and not self._start(model):
            return Watched("shadow-failed", f"the comparison ended {MOST_STARTS} times without an answer")
        told = self._hear()
        if told is None:
            return self._last
        self._last = Watched(told.reason, told.text)
        if told.decided:
            self.end()
        return self._last

    def end(self) -> None:
        """End the process, if there is one."""
        process, self._process, self._line, self._model = self._process, None, b"", ""
        if process is None:
            return
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()

    def _start(self, model: Model) -> bool:
        self._starts += 1
        if self._starts > MOST_STARTS:
            return False
        proof = self._settings.proof
        report = self._reports / f"{model.version}-{model.sha256[:8]}.html"
        command = [sys.executable, "-m", "edge.update.shadow", str(self._models / f"{model.sha256}.onbelt")]
        command += ["--parts-from", str(self._parts_from), "--report", str(report), "--parts", str(self._settings.parts)]
        command += ["--engine", proof.engine, "--threads", str(proof.threads), "--budget-ms", str(proof.budget_ms)]
        command += [word for folder in proof.trust for word in ("--trust", folder)]
        command += ["--limit", proof.limit] if proof.limit else []
        try:
            self._reports.mkdir(exist_ok=True)
            self._tidy()
            # Its words about what went wrong go where the updater's own go.
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE)
        except OSError as exc:
            self._last = Watched("disk", f"the comparison could not be started ({exc.strerror})")
            return True
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)
        return True

    def _hear(self) -> Told | None:
        """The newest thing said within a second; None when nothing was, and when the process has ended without a decision."""
        process = self._process
        if process is None:
            return None
        assert process.stdout is not None
        if not select.select([process.stdout], [], [], LOOK_S)[0]:
            return None
        content = process.stdout.read(MAX_LINE_BYTES) or b""
        lines = (self._line + content).split(b"\n")
        self._line = lines.pop()[-MAX_LINE_BYTES:]
        told: Told | None = None
        for line in lines:
            with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError):
                told = msgspec.json.decode(line, type=Told)
        if not content and told is None:
            starts, model = self._starts, self._model
            self.end()
            self._starts, self._model = starts, model
        return told

    def _tidy(self) -> None:
        for old in sorted(self._reports.glob("*.html"), key=lambda one: one.stat().st_mtime)[: -KEPT_REPORTS + 1]:
            old.unlink(missing_ok=True)
