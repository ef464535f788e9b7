"""The whole check: arm the gate, throw the probes at it, let the station fail in every way, and close the books.

Findings come in the order they are made; each belongs to one of the nine rules of the verdict contract (docs/gate.md).
"""

import os
import signal
from collections.abc import Callable, Iterator
from typing import get_args

from edge.errors import ConfigError
from edge.gate.actions import Why
from edge.gate.kit.belt import KitBelt
from edge.gate.kit.bench import GOOD, GRACE_S, TRIES, Bench, Finding, Passage
from edge.gate.kit.probes import EARLY, PROBES, Probe, Send
from edge.gate.settings import GateSettings

ACK_WAIT_S = 2.0
ARM_MARGIN = 24  # good parts beyond the commissioning before a gate is said not to arm
_DISARMED = frozenset({"disarmed"})
_UNCHECKED = frozenset({"no-token", "disarmed"})

_UNSAID = frozenset({"missing", "disarmed"})  # its PASS did not arrive, or would have opened nothing anyway
NOTHING = Probe(4, "", lambda _s, _n: [], why=_UNSAID)
BLOCKED = Probe(4, "", lambda s, n: [Send(EARLY, s.encode(s.verdict(n, "pass")))], why=frozenset(get_args(Why)) - _UNSAID)
CLOSED = Probe(6, "", lambda s, n: [Send(EARLY, s.encode(s.verdict(n, "pass")))], why=_DISARMED)


def opened_at_rest(bench: Bench, belt: KitBelt) -> list[str]:
    """A good part on a belt that stops before D: the parts let through while it rested, though they had not come."""
    found: list[int] = []

    def rest() -> None:
        belt.run(on=False)
        bench.rest(0.05)  # what was on its way when the belt stopped
        before = len(bench.line.opened(bench.newest))
        bench.rest(2.0 * bench.deadline_ns / 1e9)
        if len(bench.line.opened(bench.newest)) > before:
            found.append(bench.newest)
        belt.run(on=True)

    bench.play([GOOD], rest)
    return [f"part {n} was let through while the belt rested" for n in found]


class Check:
    """Checks one gate.

    Args:
        bench: the parts. settings: what gate.toml says of the gate: times, missed beats, parts until a line stop.
        pid: the gate's process, to be frozen; 0 where it is none of this machine's.
    """

    def __init__(self, bench: Bench, settings: GateSettings, pid: int = 0) -> None:
        self._bench = bench
        self._settings = settings
        self._pid = pid
        self._why: dict[str, list[str]] = {}  # by probe, of its last try

    def run(self, only: str = "") -> Iterator[Finding]:
        """Everything, or only what has these letters in "rule N: name".

        Raises:
            ConfigError: a real station speaks on these topics, or parts cannot be made.
        """
        bench = self._bench
        bench.rest(0.5)
        strangers = bench.book.strangers - {bench.station.boot}
        if strangers:
            raise ConfigError(
                f"a station beats on {bench.station.who.topics.base} (boot {sorted(strangers)[0]}); stop it first: the check "
                "speaks in its name and would pass bad parts"
            )
        armed = bench.learn_numbers() and bench.good_parts_open(self._settings.commissioning_parts + ARM_MARGIN, 2)
        if not armed:
            told = "; ".join(bench.book.alarms.values()) or "it has acked nothing and raised no alarm"
            yield Finding(4, GOOD.name, "fail", f"no good part was let through, nothing else can be checked: {told}")
            return
        yield Finding(4, GOOD.name, "pass")
        yield from self._probes(only)
        for rule, name, scenario in self._scenarios():
            if only in f"rule {rule}: {name}":
                yield self._scenario(rule, name, scenario)
        yield from self._books(only)

    # --- probes -----------------------------------------------------------------------------------------------------------

    def _probes(self, only: str) -> Iterator[Finding]:
        chosen = [probe for probe in PROBES if only in f"rule {probe.rule}: {probe.name}"]
        waiting = [probe for probe in chosen if not self._lacks(probe)]
        found: dict[str, Finding] = {}
        for turn in range(TRIES):
            again: list[Probe] = []
            for probe, problems, for_good in self._round(waiting):
                found[probe.name] = Finding(probe.rule, probe.name, "fail" if problems else "pass", "; ".join(problems))
                if (problems or self._why[probe.name]) and not for_good and turn < TRIES - 1:
                    again.append(probe)
            waiting = again
            if not waiting:
                break
            self._recover()
        for probe in chosen:
            yield found.get(probe.name) or Finding(probe.rule, probe.name, "skip", self._lacks(probe))

    def _lacks(self, probe: Probe) -> str:
        """Why this probe says nothing of this gate; empty where it does."""
        if probe.sealed and not self._bench.station.who.key:
            return "verdicts carry no seal here"
        if probe.stamped and not (self._bench.line.sees_output and self._settings.stamp_apart_ms):
            return "the gate does not compare the trigger's time: see that it notices otherwise when counts fall out of step"
        return ""

    def _round(self, probes: list[Probe]) -> Iterator[tuple[Probe, list[str], bool]]:
        """Each probe between two good parts: (probe, what was wrong, True when that is final)."""
        if not probes:
            return
        order = [GOOD]
        for probe in probes:
            order += [probe, GOOD]
        passages = self._bench.play(order)
        for index, probe in enumerate(probes):
            before, own, after = (self._bench.judge(passages[2 * index + step]) for step in (0, 1, 2))
            # Kept out for another reason than it must be (its message came late, say) shows nothing of this rule either.
            problems = own.escaped + own.lacking + own.why
            # A part that stays out between good parts that stay out as well proves nothing.
            suffered = before.lacking or after.lacking
            if suffered and not own.escaped:
                problems.append(f"the good part beside it suffered: {suffered[0]}")
            problems += after.escaped
            self._why[probe.name] = own.why
            yield probe, problems, bool(own.escaped and not probe.timely)

    # --- scenarios --------------------------------------------------------------------------------------------------------

    def _scenarios(self) -> list[tuple[int, str, Callable[[], list[str]]]]:
        beats = self._settings.missed_beats
        return [
            (2, "after a new birth the former boot's PASS is void", self._new_boot),
            (2, "after the self-check is revoked its PASS is void", self._revoked),
            (6, f"{beats} beats missed: nothing opens, and all is well again with the beats", self._silence),
            (6, "a beat says armed=false: nothing opens", self._beat_disarms),
            (6, "the state says armed=false: nothing opens", self._state_disarms),
            (6, "armed=false after the PASS and before D: takes the permit back", self._disarmed_midway),
            *self._belt_scenarios(),
            *self._pitch_scenarios(),
            (7, f"{self._settings.missing_stop} parts in a row without a verdict: a line stop is requested", self._missing),
            (9, "the watchdog toggles", self._watchdog),
            (9, "a frozen gate: the watchdog stands still, and nothing opens late", self._frozen),
        ]

    def _scenario(self, rule: int, name: str, scenario: Callable[[], list[str]]) -> Finding:
        if rule == 9 and not self._bench.line.sees_output:
            return Finding(rule, name, "skip", "the output is not seen through --trigger-command; measure it at the terminal")
        if scenario == self._too_close and not self._bench.line.sees_output:
            return Finding(rule, name, "skip", "no command makes two parts so close for certain; try it by hand")
        if scenario == self._frozen and not self._pid:
            return Finding(rule, name, "skip", "needs --pid; else stop the controller by hand and see that it ejects")
        for _ in range(TRIES):  # each rests on a message that a busy broker may deliver late
            problems = scenario()
            if not self._recover():
                problems.append(f"no good part was let through afterwards: {'; '.join(self._bench.book.alarms.values())}")
            if not problems:
                break
        return Finding(rule, name, "fail" if problems else "pass", "; ".join(problems))

    def _recover(self) -> bool:
        """Everything well again: good parts must open."""
        station = self._bench.station
        station.beating, station.armed, station.check_left_s = True, True, 3600.0
        self._bench.rest(0.3)
        return self._bench.good_parts_open(self._settings.commissioning_parts + ARM_MARGIN)

    def _all_closed(self, passages: list[Passage]) -> list[str]:
        """What came through; and a part that stayed out for another reason proves nothing."""
        judged = [self._bench.judge(passage) for passage in passages]
        return [problem for one in judged for problem in one.escaped + one.why]

    def _new_boot(self) -> list[str]:
        station = self._bench.station
        old, old_token = station.boot, station.token
        station.rise()
        self._bench.rest(0.4)
        if not self._recover():
            return ["no good part of the new boot was let through"]

        def stale(s: object, n: int) -> list[Send]:
            del s
            return [Send(EARLY, station.encode(station.verdict(n, "pass", boot=old, ctx={"check": old_token})))]

        probe = Probe(2, "", stale, why=frozenset({"stale-boot"}))
        return self._all_closed(self._bench.play([probe, GOOD, probe]))

    def _revoked(self) -> list[str]:
        station = self._bench.station
        token = station.token
        station.check_left_s = 0.0
        station.announce(checked=False)
        self._bench.rest(0.4)

        def revoked(s: object, n: int) -> list[Send]:
            del s
            return [Send(EARLY, station.encode(station.verdict(n, "pass", ctx={"check": token})))]

        problems = self._all_closed(self._bench.play([Probe(2, "", revoked, why=_UNCHECKED)] * 2))
        station.check_left_s = 3600.0
        station.announce()
        return problems

    def _silence(self) -> list[str]:
        self._bench.station.beating = False
        self._bench.rest((self._settings.missed_beats + 1) / 10.0 + 0.2)
        return self._all_closed(self._bench.play([CLOSED] * 3))

    def _beat_disarms(self) -> list[str]:
        self._bench.station.armed = False
        self._bench.rest(0.4)
        return self._all_closed(self._bench.play([CLOSED] * 2))

    def _state_disarms(self) -> list[str]:
        self._bench.station.announce(armed=False)
        self._bench.rest(0.4)
        problems = self._all_closed(self._bench.play([CLOSED] * 2))
        self._bench.station.announce()
        return problems

    def _disarmed_midway(self) -> list[str]:
        station = self._bench.station

        def disarm() -> None:
            station.armed = False
            station.beat()

        return self._all_closed(self._bench.play([CLOSED], disarm))

    def _belt_scenarios(self) -> list[tuple[int, str, Callable[[], list[str]]]]:
        """Where the gate goes by counts, and the kit drives the belt."""
        belt, encoder = self._bench.line.belt, self._settings.encoder
        if belt is None or encoder is None:
            return []
        return [
            (4, "the belt stops before D: nothing opens while it rests", lambda: opened_at_rest(self._bench, belt)),
            (
                6,
                "the counts fall silent with parts on the belt: nothing opens",
                lambda: self._counts_end(belt, encoder.silence_ms),
            ),
        ]

    def _pitch_scenarios(self) -> list[tuple[int, str, Callable[[], list[str]]]]:
        """Where the output is a level, which its file says by a shortest pitch."""
        if not self._settings.pitch_ms:
            return []
        return [(4, "a PASS half a pitch behind a part that stays out: does not open for both", self._too_close)]

    def _too_close(self) -> list[str]:
        return self._all_closed(self._bench.play([NOTHING, BLOCKED], spacing_ms=self._settings.pitch_ms / 2))

    def _counts_end(self, belt: KitBelt, silence_ms: float) -> list[str]:
        def silence() -> None:
            belt.mute = True
            self._bench.rest(silence_ms / 1000 + 0.1)

        passages = self._bench.play([CLOSED] * 2, silence)
        belt.mute = False
        return self._all_closed(passages)

    def _missing(self) -> list[str]:
        line, before = self._bench.line, self._bench.line.stops()
        passages = self._bench.play([NOTHING] * self._settings.missing_stop)
        if not self._bench.station.wait_until(lambda: line.stops() > before or line.stop_requested(), GRACE_S + 1.0):
            return [*self._all_closed(passages), "no line stop was requested"]
        return self._all_closed(passages)

    def _watchdog(self) -> list[str]:
        before = self._bench.line.toggles()
        self._bench.rest(1.0)
        seen = self._bench.line.toggles() - before
        return [] if seen >= 4 else [f"expected a watchdog that toggles, saw {seen} flips in one second"]

    def _frozen(self) -> list[str]:
        line = self._bench.line
        stood: list[int] = []

        def freeze() -> None:
            os.kill(self._pid, signal.SIGSTOP)
            self._bench.rest(0.05)
            stood.append(line.toggles())
            self._bench.rest(self._bench.deadline_ns / 1e9 + 0.3)
            stood.append(line.toggles())
            os.kill(self._pid, signal.SIGCONT)

        passages = self._bench.play([Probe(9, "", CLOSED.sends)], freeze)
        problems = self._all_closed(passages)
        if stood[1] - stood[0] > 0:
            problems.append("the watchdog toggles while the gate is frozen: something else drives it")
        return problems

    # --- books ------------------------------------------------------------------------------------------------------------

    def _books(self, only: str) -> Iterator[Finding]:
        """Rule 8 over every part there was."""
        book, line = self._bench.book, self._bench.line
        # The last part's ack may be on its way still: that of a gate just thawed takes its time.
        self._bench.station.wait_until(lambda: all(book.acks(passage.n) for passage in self._bench.passages), ACK_WAIT_S)
        once, agree = [], []
        why = [problem for problems in self._why.values() for problem in problems]
        for passage in self._bench.passages:
            acks = book.acks(passage.n)
            if len(acks) != 1:
                once.append(f"part {passage.n} was acked {len(acks)} times")
                continue
            ack, opened = acks[0], bool(line.opened(passage.n))
            if (ack.fired and ack.decision != "reinspect") != opened or (ack.decision == "pass") != opened:
                did = "opened" if opened else "did not open"
                agree.append(f"part {passage.n}: acked {ack.decision}, fired {ack.fired}, the output {did}")
        for name, problems in (
            ("every part is acked exactly once", once + book.malformed[:3]),
            ("every ack says what the output did", agree),
            ("every ack says why", why),
        ):
            if only in f"rule 8: {name}":
                shown = "; ".join(problems[:4]) + (f"; and {len(problems) - 4} more" if len(problems) > 4 else "")
                yield Finding(8, name, "fail" if problems else "pass", shown)
