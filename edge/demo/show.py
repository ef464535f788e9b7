"""One demo from beginning to end: measure the machine, set the stage, run the belt, break what was asked for, sum up.

The belt runs in this process, everything else in processes of its own, as on a box. Progress goes to standard error.
"""

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.broker.launch import choose as choose_broker
from edge.broker.launch import free_port
from edge.bundle.reader import Bundle, open_bundle
from edge.bundle.signing import TrustStore, default_trust
from edge.demo.faults import Fault, parse_faults
from edge.demo.plan import Plan, Speed, choose, measure
from edge.demo.stage import GATE, Stage, StageOptions
from edge.demo.summary import Moments, Scores, read_journal, summarise
from edge.demo.truth import Truth
from edge.errors import OnbeltError

READY_S = 60.0
LOOK_S = 0.1  # how often this loop looks around
TELL_S = 5.0  # how often it says something where there is no terminal


@dataclass(frozen=True, slots=True)
class Options:
    """The command line.

    Attributes:
        seconds: how long the belt runs. rate_hz: parts per second asked for. bundle: the model file.
        trust: folders of trusted keys. product: what runs on the belt, empty for the bundle's own. seed: which belt.
        page: serve the live page. port: its port, 0 for a free one. broker, engine: "auto" or a name. faults: as typed.
    """

    seconds: float
    rate_hz: float
    bundle: Path
    trust: tuple[Path, ...]
    product: str
    seed: int
    page: bool
    port: int
    broker: str
    engine: str
    faults: str


class Teller:
    """Says how it goes: one line that changes on a terminal, a line now and then elsewhere."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._last = 0.0
        self._open = False

    def say(self, text: str) -> None:
        """A line that stays."""
        print(f"\r\x1b[K{text}" if self._open else text, file=sys.stderr, flush=True)
        self._open = False

    def progress(self, text: str) -> None:
        """A line that is replaced by the next."""
        if self._terminal:
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
            self._open = True
        elif time.monotonic() - self._last >= TELL_S:
            self._last = time.monotonic()
            print(text, file=sys.stderr, flush=True)


def run_demo(options: Options) -> dict[str, Any]:
    """Run it.

    Returns:
        The summary.

    Raises:
        ConfigError: an option makes no sense. BundleError, SignatureError: the model is not to be used.
        BrokerError: no broker. OnbeltError: the station did not become ready, or a process died unasked.
    """
    begun = time.monotonic()
    teller = Teller()
    faults = parse_faults(options.faults, options.seconds)
    kind = choose_broker(options.broker)
    bundle = open_bundle(options.bundle, TrustStore.from_folders(options.trust) if options.trust else default_trust())
    truth = Truth(options.product or bundle.manifest.product, options.seed)
    with _stop_on_signal() as stop:
        teller.progress(f"measuring this machine with {bundle.manifest.name} ...")
        speed = measure(bundle, truth.camera(), options.engine)
        plan = choose(speed, options.rate_hz)
        teller.say(plan.remark)
        page_port = (options.port or free_port()) if options.page else 0
        stage_options = StageOptions(
            options.bundle,
            options.trust,
            truth.product,
            options.seed,
            page_port,
            kind,
            options.engine,
        )
        with Stage(stage_options, plan, truth.is_good) as stage:
            stage.raise_all()
            _wait_until_ready(stage, teller, stop)
            assert stage.observer is not None
            if stage.observer.birth is not None and stage.observer.birth.page:
                teller.say(f"live page: {stage.observer.birth.page}")
            scores = Scores()
            started = time.monotonic()
            stage.line.start()
            _let_run(stage, scores, faults, options.seconds, teller, stop)
            belt_s = time.monotonic() - started
            about = _about(stage, bundle)
            stage.end()
            _note(stage, scores)
            about["journal_verdicts"] = read_journal(stage.journal, stage.line.book, scores)
            moments = Moments(_since(begun, stage.observer.first_verdict_ns), _since(begun, stage.observer.first_open_ns), belt_s)
            teller.say("")
            return summarise(stage.line, stage.observer, scores, plan, speed, moments, faults, about, truth.defect)


def _wait_until_ready(stage: Stage, teller: Teller, stop: threading.Event) -> None:
    """The station is armed, and nothing keeps the gate from arming but parts to measure."""
    assert stage.observer is not None
    observer = stage.observer
    end = time.monotonic() + READY_S
    while not (observer.armed and observer.alarms.get(f"gate-{GATE}-disarmed", "").startswith("commissioning")):
        stage.check()
        if stop.wait(LOOK_S):
            raise KeyboardInterrupt
        if time.monotonic() > end:
            why = "; ".join([*observer.reasons, *observer.alarms.values()]) or "no word from it"
            logs = "\n".join(child.last_words() for child in stage.children)
            raise OnbeltError(
                f"the station was not ready within {READY_S:.0f} s: {why}; on a busy machine try again when it is quiet\n{logs}"
            )
        teller.progress("starting broker, daemon and gate ...")


def _let_run(stage: Stage, scores: Scores, faults: list[Fault], seconds: float, teller: Teller, stop: threading.Event) -> None:
    """The run itself: note verdicts, carry faults out, say how it goes."""
    start = time.monotonic()
    waiting = [(fault.at_s, _strike(stage, fault), str(fault)) for fault in faults]
    waiting += [(fault.over_s, _undo(stage, fault), "") for fault in faults]
    waiting.sort(key=lambda entry: entry[0])
    while not stop.wait(LOOK_S):
        now_s = time.monotonic() - start
        while waiting and waiting[0][0] <= now_s:
            _, act, name = waiting.pop(0)
            act()
            if name:
                teller.say(f"{now_s:5.1f} s  {name}")
        _note(stage, scores)
        stage.check()
        if now_s >= seconds:
            break
        teller.progress(_progress(stage, now_s))
    for _, act, name in waiting:  # what was broken is mended before the end is counted
        if not name:
            act()


def _strike(stage: Stage, fault: Fault) -> Callable[[], None]:
    if fault.target == "broker":
        assert stage.broker is not None
        return stage.broker.kill
    child = stage.daemon if fault.target == "daemon" else stage.gate
    return child.kill if fault.act == "kill" else child.freeze


def _undo(stage: Stage, fault: Fault) -> Callable[[], None]:
    if fault.target == "broker":
        assert stage.broker is not None
        return stage.broker.start
    child = stage.daemon if fault.target == "daemon" else stage.gate
    return child.start if fault.act == "kill" else child.thaw


def _note(stage: Stage, scores: Scores) -> None:
    assert stage.observer is not None
    for verdict in stage.observer.take_verdicts():
        scores.note(stage.line.book, verdict)


def _progress(stage: Stage, now_s: float) -> str:
    assert stage.observer is not None
    line, observer = stage.line, stage.observer
    verdicts = "  ".join(f"{name} {count}" for name, count in line.book.verdicts().items() if count)
    infer = f"  {observer.infer_ms[-1]:.0f} ms" if observer.infer_ms else ""
    state = "LINE STOPPED" if line.stopped else f"gate opened {line.counts['opened']}"
    alarm = next(iter(observer.alarms.values()), "")
    return f"{now_s:5.1f} s  {line.count} parts  {verdicts}  {state}  escapes {line.book.tally().escapes}{infer}  {alarm}"[:160]


def _about(stage: Stage, bundle: Bundle) -> dict[str, Any]:
    assert stage.observer is not None
    assert stage.broker is not None
    manifest = bundle.manifest
    birth = stage.observer.birth
    return {
        "broker": f"{stage.broker.kind.value}, MQTT {stage.observer.protocol}",
        "bundle": {"name": manifest.name, "product": manifest.product, "model": manifest.model, "precision": manifest.precision},
        "page": birth.page if birth is not None else "",
    }


def _since(begun: float, at_ns: int) -> float | None:
    return round(at_ns / 1e9 - begun, 1) if at_ns else None


@contextlib.contextmanager
def _stop_on_signal() -> Iterator[threading.Event]:
    """SIGINT and SIGTERM set the event once; a second one interrupts at once."""
    stop = threading.Event()

    def ask(_number: int, _frame: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


__all__ = ["Options", "Plan", "Speed", "run_demo"]
