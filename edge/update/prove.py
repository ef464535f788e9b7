"""Prove a model on this machine before it may judge a single part: in a process of its own that steps aside for the line.

python -m edge.update.prove NEW.onbelt --trust DIR [--previous RUNNING.onbelt]     prints one JSON object

What must hold, in this order: an engine here runs it, its golden frames give their scores, it judges the running model's
golden frames as that model does (where that was clear), its certificate, its time budget, its memory. The golden frames of the
running model are what catches a model that is consistent with itself and wrong: inverted, noisy, or with a limit that passes
everything.

The process lowers its own priority, so its clock says less than it should about a busy box. A round within the budget proves
the model. When no round is, the processor time the inference took decides: above the budget the model is too slow; below it
the box was busy, and the proof is put off.
"""

import argparse
import contextlib
import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edge.bundle.reader import Bundle, open_bundle
from edge.bundle.signing import TrustStore, default_trust
from edge.engine import open_engine
from edge.engine.base import Engine
from edge.engine.proof import measure_inference, replay_golden
from edge.errors import BundleError, EngineError, LimitError, OnbeltError
from edge.preprocess import fit
from edge.update.limited import limited

FRAMES = 20
ROUNDS = 5
CLEAR = (0.8, 1.25)  # in units of the limit: between them two good models may disagree
PROVE_SECONDS = 900.0  # a large model on a slow box at the lowest priority
MAX_OUTPUT_BYTES = 64 * 1024


class Proof(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the proof found.

    Attributes:
        reason: of `edge.update.reasons`, empty when everything holds. text: one line for people.
        engine: its name. p50_ms, p99_ms: the best round. cpu_ms: processor time of one inference over the engine's threads.
        budget_ms: what it may take. memory_mb: the most the process took.
        golden: largest difference of a golden frame in units of the limit.
        compared: clear golden frames of the running model that were judged.
    """

    reason: str
    text: str
    engine: str = ""
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    cpu_ms: float = 0.0
    budget_ms: float = 0.0
    memory_mb: float = 0.0
    golden: float = 0.0
    compared: int = 0


@dataclass(frozen=True, slots=True)
class ProofSettings:
    """What a proof asks for.

    Attributes:
        trust: folders of trusted keys, none for the usual ones. engine, threads: as the daemon runs it.
        budget_ms: 0 takes the bundle's own. memory_mb: most the engine's process may take.
        certificate: the certificate must say that the model equals its float reference.
        seconds: longest time the whole may take.
        limit: the station's own limit file, empty for none; see `edge.update.limited`.
    """

    trust: tuple[str, ...] = ()
    engine: str = "auto"
    threads: int = 0
    budget_ms: float = 0.0
    memory_mb: float = 2048.0
    certificate: bool = False
    seconds: float = PROVE_SECONDS
    limit: str = ""


def run_proof(new: Path, previous: Path | None, settings: ProofSettings) -> Proof:
    """Prove a model in a process of its own; whatever that process does, the answer is a proof or a refusal."""
    command = [sys.executable, "-m", "edge.update.prove", str(new)]
    command += [word for folder in settings.trust for word in ("--trust", folder)]
    command += ["--engine", settings.engine, "--threads", str(settings.threads), "--budget-ms", str(settings.budget_ms)]
    command += ["--memory-mb", str(settings.memory_mb)]
    command += ["--certificate"] if settings.certificate else []
    command += ["--limit", settings.limit] if settings.limit else []
    command += ["--previous", str(previous)] if previous else []
    try:
        done = subprocess.run(command, capture_output=True, timeout=settings.seconds, check=False)
    except subprocess.TimeoutExpired:
        return Proof("prove-failed", f"the proof did not end within {settings.seconds:g} s")
    except OSError as exc:
        return Proof("disk", f"the proof could not be started ({exc.strerror})")
    with contextlib.suppress(msgspec.MsgspecError):
        return msgspec.json.decode(done.stdout[-MAX_OUTPUT_BYTES:].strip().rpartition(b"\n")[2], type=Proof)
    ended = signal.Signals(-done.returncode).name if done.returncode < 0 else f"status {done.returncode}"
    last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2][:200]
    return Proof("prove-failed", f"the proof ended with {ended} and no answer: {last}")


def prove(bundle: Bundle, previous: Bundle | None, settings: ProofSettings) -> Proof:
    """Prove a verified bundle in this process."""
    manifest = bundle.manifest
    if settings.certificate and bundle.certificate.get("equal") is not True:
        return Proof("certificate", f"{manifest.name}: the certificate does not say that it equals its float reference")
    try:
        engine = open_engine(bundle, settings.engine, settings.threads or None)
    except OnbeltError as exc:
        return Proof("engine", str(exc)[:300])
    with engine:
        return prove_on(engine, bundle, previous, settings)


def prove_on(engine: Engine, bundle: Bundle, previous: Bundle | None, settings: ProofSettings) -> Proof:
    """Prove a verified bundle on an engine that was built for it."""
    try:
        return _judged(bundle, previous, engine, settings)
    except EngineError as exc:
        # The adapters' own words for a NaN; any other failure is the engine's.
        return Proof("not-finite" if "expected finite scores" in str(exc) else "engine", str(exc)[:300], engine.name)
    except BundleError as exc:
        return Proof("bundle-damaged", str(exc)[:300], engine.name)


def _judged(bundle: Bundle, previous: Bundle | None, engine: Engine, settings: ProofSettings) -> Proof:
    results = replay_golden(bundle, engine)
    worst = max(one.difference for one in results)
    wrong = [one for one in results if not one.holds]
    if wrong:
        text = f"golden frame {wrong[0].picture}: expected raw {wrong[0].expected[0]:.6g}, got {wrong[0].got[0]:.6g}"
        return Proof("golden", f"{text} ({len(wrong)} of {len(results)} frames)", engine.name, golden=worst)
    compared, differs = _compare(bundle, previous, engine) if previous else (0, "")
    if differs:
        return Proof("disagrees", differs, engine.name, golden=worst, compared=compared)
    budget_ms = settings.budget_ms or bundle.manifest.budget_ms
    p50, p99, cpu = _time(bundle, engine, budget_ms, settings.threads)
    memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    reason, text = "", f"golden frames hold, p99 {p99:.1f} ms of {budget_ms:g} ms, {memory_mb:.0f} MB"
    if p99 > budget_ms:
        reason = "slow-model" if cpu > budget_ms else "busy"
        text = f"p99 {p99:.1f} ms, {cpu:.1f} ms of processor time, the budget is {budget_ms:g} ms"
    elif memory_mb > settings.memory_mb:
        reason, text = "memory", f"{memory_mb:.0f} MB, allowed are {settings.memory_mb:g} MB"
    return Proof(reason, text, engine.name, p50, p99, cpu, budget_ms, memory_mb, worst, compared)


def _compare(bundle: Bundle, previous: Bundle, engine: Engine) -> tuple[int, str]:
    """Judge the running model's clear golden frames: how many there were, and the first that comes out otherwise."""
    compared = 0
    for golden in previous.golden:
        before = golden.scores[0] / previous.manifest.limit.raw
        if CLEAR[0] < before < CLEAR[1]:
            continue
        compared += 1
        raw = engine.infer(fit(previous.picture(golden.picture), engine.size)).raw
        now = raw / bundle.manifest.limit.raw
        if (before <= 1.0) != (now <= 1.0):
            return compared, (
                f"frame {golden.picture} of the running model: it scores {before:.2f} of the limit there and {now:.2f} here"
            )
    return compared, ""


def _time(bundle: Bundle, engine: Engine, budget_ms: float, threads: int) -> tuple[float, float, float]:
    """p50 and p99 of the best round in ms, and the processor time of one inference over the engine's threads."""
    frames = [bundle.picture(golden.picture) for golden in bundle.golden]
    best, cpu = (np.inf, np.inf), np.inf
    for _ in range(ROUNDS):
        begin = time.process_time()
        times = measure_inference(engine, frames, FRAMES)
        cpu = min(cpu, (time.process_time() - begin) * 1000 / FRAMES / max(1, threads or len(os.sched_getaffinity(0))))
        best = min(best, (times.p50, times.p99), key=lambda one: one[1])
        if best[1] <= budget_ms:
            break
    return float(best[0]), float(best[1]), float(cpu)


def step_aside() -> None:
    """Take the lowest ordinary priority, and end when whoever started us ends: nobody would read the answer."""
    os.nice(19)
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG, linux/prctl.h


def main(argv: list[str] | None = None) -> int:
    """The proof as a process."""
    parser = argparse.ArgumentParser(prog="python -m edge.update.prove", description="prove a model on this machine")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--previous", type=Path)
    parser.add_argument("--trust", action="append", default=[])
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--budget-ms", type=float, default=0.0)
    parser.add_argument("--memory-mb", type=float, default=2048.0)
    parser.add_argument("--certificate", action="store_true")
    parser.add_argument("--limit", default="")
    args = parser.parse_args(argv)
    step_aside()
    proof: Proof
    try:
        trust = TrustStore.from_folders(map(Path, args.trust)) if args.trust else default_trust()
        bundle = limited(open_bundle(args.bundle, trust), args.limit, trust)
        previous = _open_previous(args.previous, args.limit, trust)
        settings = ProofSettings(tuple(args.trust), args.engine, args.threads, args.budget_ms, args.memory_mb, args.certificate)
        proof = prove(bundle, previous, settings)
    except BundleError as exc:
        proof = Proof("bundle-damaged", str(exc)[:300])
    except LimitError as exc:
        proof = Proof("limit", str(exc)[:300])  # the daemon could not take it either
    except OnbeltError as exc:
        proof = Proof("prove-failed", str(exc)[:300])
    plain: dict[str, Any] = msgspec.to_builtins(proof)
    print(json.dumps(plain))
    return 0


def _open_previous(path: Path | None, limit: str, trust: TrustStore) -> Bundle | None:
    # A running model that cannot be opened any more must not keep a good one away.
    with contextlib.suppress(BundleError, LimitError):
        return limited(open_bundle(path, trust), limit, trust) if path else None
    return None


if __name__ == "__main__":
    sys.exit(main())
