"""The reference gate with one rule broken at a time, as somebody's controller might have it; `onbelt gatecheck` must find each.

A mutant runs in a thread of this process with the real wires and a real broker.
"""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from edge.broker.launch import free_port
from edge.clock import SystemClock
from edge.gate.actions import Open, SendAck
from edge.gate.config import GateConfig, load_config
from edge.gate.process import GateProcess
from edge.gate.rules import Gate
from tests.support.gate_line import GATE_MS, write_gate_toml

# `gate` is Any on purpose: methods are replaced.
Break = Callable[[Any, Any], None]


class Mutant(NamedTuple):
    """A broken gate: what is broken, which checks to run on it, and of which rule one must fail."""

    text: str
    only: str
    rule: int
    breaks: Break


def _boot(process: Any, gate: Any) -> None:
    gate._station.is_current = lambda verdict: True


def _model(process: Any, gate: Any) -> None:
    gate._station.fits = lambda verdict: True


def _token(process: Any, gate: Any) -> None:
    gate._station.token_lives = lambda token, now_ns: True


def _names(process: Any, gate: Any) -> None:
    take, settings = gate.verdict, gate._settings

    def verdict(given: Any, now_ns: int, *, mac_ok: bool = False) -> Any:
        return take(msgspec.structs.replace(given, station=settings.station, gate=settings.gate), now_ns, mac_ok=mac_ok)

    gate.verdict = verdict


def _seal(process: Any, gate: Any) -> None:
    refusal = gate._station.refusal
    gate._station.refusal = lambda verdict, now_ns, *, mac_ok: refusal(verdict, now_ns, mac_ok=True)


def _lenient(process: Any, gate: Any) -> None:
    hear = process._hear

    def lenient(got: Any) -> Any:
        payload = got.payload.replace(b"onbelt.verdict/2", b"onbelt.verdict/1").replace(b'"verdict":"good"', b'"verdict":"pass"')
        return hear(got._replace(payload=payload))

    process._hear = lenient


def _early_verdict(process: Any, gate: Any) -> None:
    verdict, trigger = gate.verdict, gate.trigger
    waiting: dict[int, Any] = {}

    def keep(given: Any, now_ns: int, *, mac_ok: bool = False) -> Any:
        if gate._register.find(given.part.trig) is None:
            waiting[given.part.trig] = given
        return verdict(given, now_ns, mac_ok=mac_ok)

    def replay(given: Any, now_ns: int) -> Any:
        actions = trigger(given, now_ns)
        return actions + (verdict(waiting.pop(given.count), now_ns) if given.count in waiting else [])

    gate.verdict, gate.trigger = keep, replay


def _validity(process: Any, gate: Any) -> None:
    gate._in_time = lambda slot, verdict, now_ns: now_ns < slot.deadline_ns


def _last_word(process: Any, gate: Any) -> None:
    take = gate._take

    def last(slot: Any, verdict: Any, now_ns: int, **more: Any) -> None:
        if verdict.verdict == "pass":
            slot.veto = ""
        take(slot, verdict, now_ns, **more)

    gate._take = last


def _first_word(process: Any, gate: Any) -> None:
    take = gate._take
    gate._take = lambda slot, verdict, now_ns, **more: None if slot.permit else take(slot, verdict, now_ns, **more)


def _permissive(process: Any, gate: Any) -> None:
    gate._may_open = lambda slot, now_ns: not slot.veto


def _any_moment(process: Any, gate: Any) -> None:
    gate._in_step.apart = lambda stamp_us, trigger_ns: ""


def _any_pitch(process: Any, gate: Any) -> None:
    gate._pitch.blocks = lambda slot, *, reinspect=False: False


def _at_once(process: Any, gate: Any) -> None:
    verdict = gate.verdict

    def at_once(given: Any, now_ns: int, *, mac_ok: bool = False) -> Any:
        actions = verdict(given, now_ns, mac_ok=mac_ok)
        slot = gate._register.find(given.part.trig)
        return actions + (gate._decide(slot, now_ns) if slot is not None and slot.permit and not slot.decided else [])

    gate.verdict = at_once


def _late(process: Any, gate: Any) -> None:
    gate._after_the_fact = lambda slot, verdict: [Open(slot.count)] if verdict.verdict == "pass" else []


def _no_quarantine(process: Any, gate: Any) -> None:
    gate._after_the_fact = lambda slot, verdict: []


def _deaf_to_silence(process: Any, gate: Any) -> None:
    gate._station._life = lambda birth, now_ns: []


def _keeps_permits(process: Any, gate: Any) -> None:
    # Reads armed when the PASS comes and never again.
    class Keeping(Gate):
        armed = property(lambda self: True)

    gate.__class__ = Keeping
    verdict = gate.verdict
    # Not by `armed`: that also says "commissioning", which ends by verdicts only.
    gate.verdict = lambda given, now_ns, *, mac_ok=False: ([] if gate._reasons(now_ns) else verdict(given, now_ns, mac_ok=mac_ok))


def _never_stops(process: Any, gate: Any) -> None:
    gate._standing._stop = lambda why: []


def _silent(process: Any, gate: Any) -> None:
    carry = process._carry_out
    process._carry_out = lambda action: (
        None if isinstance(action, SendAck) and action.ack.decision == "reject" else carry(action)
    )


def _vague(process: Any, gate: Any) -> None:
    ack = gate._ack
    gate._ack = lambda slot, why, *done: ack(slot, "missing", *done)


def _liar(process: Any, gate: Any) -> None:
    drive = process._wiring.drive
    process._wiring.drive = lambda count, *, opened, stop, reinspect=False: drive(count, opened=True, stop=stop)


def _dead_watchdog(process: Any, gate: Any) -> None:
    wiring = process._wiring
    wiring.kick = lambda *, stop: wiring._send(None, opened=False, stop=stop)


MUTANTS: dict[str, Mutant] = {
    "early-verdict": Mutant("keeps a verdict for a part that has not come yet", "rule 1", 1, _early_verdict),
    "any-boot": Mutant("does not compare the boot", "rule 2: PASS of a boot", 2, _boot),
    "any-model": Mutant("does not compare model, limit and recipe", "rule 2: PASS of another model", 2, _model),
    "any-check": Mutant("does not ask for a living self-check", "rule 2: PASS under a self-check", 2, _token),
    "any-name": Mutant("does not compare station and gate", "rule 2: PASS for another gate", 2, _names),
    "any-seal": Mutant("does not check the seal", "seal", 2, _seal),
    "lenient": Mutant("reads schema 2, and takes a word it does not know for a pass", "rule 2: PASS of schema", 2, _lenient),
    "no-validity": Mutant("ignores the validity a verdict states", "rule 2: PASS later", 2, _validity),
    "any-moment": Mutant("does not compare the time of the trigger", "rule 2: PASS of a part triggered", 2, _any_moment),
    "last-word": Mutant("the last verdict counts", "rule 3: REJECT, then", 3, _last_word),
    "first-word": Mutant("the first verdict counts", "rule 3: PASS, then REJ", 3, _first_word),
    "late-pass": Mutant("acts on a PASS after D", "rule 2: PASS after D", 2, _late),
    "permissive": Mutant("lets a part through without a verdict", "rule 4: no verdict", 4, _permissive),
    "at-once": Mutant("opens when the PASS comes instead of at D", "rule 4: PASS early", 4, _at_once),
    "any-pitch": Mutant("opens for two parts at once", "rule 4: a PASS half a pitch", 4, _any_pitch),
    "no-quarantine": Mutant("says nothing of a reject that came too late", "rule 5", 5, _no_quarantine),
    "deaf-to-silence": Mutant("does not miss the beats", "rule 6: 3 beats", 6, _deaf_to_silence),
    "keeps-permits": Mutant("does not ask again at D whether it is armed", "rule 6: armed=false after", 6, _keeps_permits),
    "never-stops": Mutant("never asks for a line stop", "rule 7", 7, _never_stops),
    "silent": Mutant("acks only what it lets through", "rule 8: every part", 8, _silent),
    "vague": Mutant("gives the same reason for everything", "rule", 8, _vague),
    "liar": Mutant("its output opens whatever it decided", "rule 3: REJECT alone", 3, _liar),
    "dead-watchdog": Mutant("its watchdog does not toggle", "rule 9: the watchdog", 9, _dead_watchdog),
}


@contextlib.contextmanager
def running_gate(
    folder: Path, broker_port: int, breaks: Break | None = None, *, gate_ms: float = 2 * GATE_MS, **rules: Any
) -> Iterator[GateConfig]:
    """The reference gate, or a mutant of it, in a thread: its configuration.

    Gate and kit share one interpreter here, and perhaps a busy machine: they get twice the usual time unless told otherwise.
    """
    listen, output = free_port(socket.SOCK_DGRAM), free_port(socket.SOCK_DGRAM)
    path = write_gate_toml(folder / "gate.toml", broker_port, listen, output, gate_ms=gate_ms, **rules)
    config = load_config(path)
    process = GateProcess(config, SystemClock(), config.broker(), config.mac_key())
    if breaks is not None:
        breaks(process, process._gate)
    stop = threading.Event()
    thread = threading.Thread(target=process.run, args=(stop,), daemon=True)
    thread.start()
    try:
        yield config
    finally:
        stop.set()
        thread.join(5)
        process.close()
