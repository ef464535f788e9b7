"""Whatever happens in whatever order, the gate never opens without a valid in-time PASS of the current boot for that part.

The oracle (`tests.support.gate_log`) judges every `Open` from what happened alone. Each
mutation of the rules at the end must be caught by it: an invariant that no mutant breaks would prove nothing.
"""

from collections.abc import Callable
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from edge.gate.actions import Action, Close, Open, Reinspect, SendAck
from edge.gate.arming import ClockWatch, Station
from edge.gate.register import Slot
from edge.gate.rules import Gate
from edge.gate.settings import GateSettings
from tests.support.gate_log import Log
from tests.support.gate_messages import (
    BOOT,
    GATE,
    LIMIT,
    MODEL,
    OTHER_BOOT,
    OTHER_MODEL,
    RECIPE,
    STATION,
    TOKEN,
    UTC_US,
    make_beat,
    make_birth,
    make_state,
    make_trigger,
    make_verdict,
)

MS = 1_000_000
STEP_MS = 50
BOOTS = (BOOT, OTHER_BOOT)
MODELS = (MODEL, OTHER_MODEL)
TOKENS = (TOKEN, "chk-2", "chk-3")


class GateMachine(RuleBasedStateMachine):
    """Drives a gate with everything the world may do, in any order."""

    on_uncertain: Literal["reject", "reinspect"] = "reject"

    def __init__(self) -> None:
        super().__init__()
        times: dict[str, Any] = {"gate_ms": 400.0, "lead_ms": 20.0, "margin_ms": 20.0}
        usual: dict[str, Any] = {"commissioning_parts": 2, "sealed": True, "max_slots": 8, "on_uncertain": self.on_uncertain}
        self.gate = Gate(GateSettings(station=STATION, gate=GATE, **times, **usual))
        self.log = Log()
        self.ms = 0
        self.offset_ms = 0
        self.count = 0
        self.seq = 0
        self.n = 0
        self.checks = 0
        self.boot, self.model, self.token, self.newest = BOOT, MODEL, TOKEN, TOKEN
        self.beating = True
        self.beat_left = 5000
        self.opened: set[int] = set()
        self.broken = False  # teardown also runs after a failure, and its own complaint must not hide the first one
        self.acked: list[int] = []
        self.closed: list[int] = []

    # --- plumbing ---------------------------------------------------------------------------------------------------------

    @property
    def ns(self) -> int:
        return (self.ms + 1000) * MS

    def check(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Open):
                objection = self.log.objection(action.count, self.ms)
                self.broken = bool(objection)
                assert not objection, f"opened part {action.count} at {self.ms} ms: {objection}"
                assert action.count not in self.opened, f"opened part {action.count} twice"
                self.opened.add(action.count)
            elif isinstance(action, Close):
                self.closed.append(action.count)
            elif isinstance(action, SendAck):
                self.acked.append(action.ack.trig)
                assert action.ack.fired == (action.ack.decision == "pass") == (action.ack.trig in self.opened)

    def tick(self) -> None:
        self.check(self.gate.tick(self.ns, UTC_US + (self.ms + self.offset_ms) * 1000))

    def send_beat(self, boot: str, n: int, *, armed: bool, left: int) -> None:
        self.log.add(self.ms, "beat", boot=boot, n=n, armed=armed, left=left)
        self.check(self.gate.beat(make_beat(n, boot, armed=armed, left_ms=left), self.ns))

    def send_birth(self, boot: str, model: str, token: str, life: int) -> None:
        before = self.log.birth(len(self.log.events) - 1)
        if before is None or before.at["boot"] != boot:
            self.log.add(self.ms, "boot-change")
            self.n = 0
        if before is None or (before.at["boot"], before.at["model"]) != (boot, model):
            self.log.add(self.ms, "speaker-change")
        self.log.add(self.ms, "birth", boot=boot, model=model, token=token, life=life)
        self.boot, self.model, self.token, self.newest = boot, model, token, token
        birth = make_birth(boot, token or "none", life, model=model)
        self.check(self.gate.birth(birth, self.ns))

    def send_verdict(self, trig: int, verdict: str, **at: Any) -> None:
        self.seq += 1
        said: dict[str, Any] = {
            "boot": self.boot,
            "model": self.model,
            "token": self.token,
            "valid": 400,
            "enc": trig * 10,
            "mac_ok": True,
        } | at
        self.log.add(self.ms, "verdict", trig=trig, verdict=verdict, **said)
        made = make_verdict(
            trig,
            verdict,
            seq=self.seq,
            boot=said["boot"],
            model=said["model"],
            token=said["token"],
            valid_ms=said["valid"],
            enc=said["enc"],
            limit=LIMIT,
            recipe=RECIPE,
        )
        self.check(self.gate.verdict(made, self.ns, mac_ok=said["mac_ok"]))

    def pass_time(self, ms: int) -> None:
        for _ in range(ms // 10):
            self.ms += 10
            if self.beating and self.ms % 100 == 0:
                self.n += 1
                self.send_beat(self.boot, self.n, armed=True, left=self.beat_left)
            # The token the gate's clock watch sees at this tick.
            self.log.add(self.ms, "token-now", token=self.newest)
            self.tick()

    def send_trigger(self) -> None:
        self.count += 1
        self.log.add(self.ms, "trigger", count=self.count, enc=self.count * 10)
        self.check(self.gate.trigger(make_trigger(self.count, self.ns, enc=self.count * 10), self.ns))

    def make_fit(self) -> None:
        """Whatever was wrong is over: a fresh self-check, beats, and two parts for the commissioning where it is needed."""
        self.checks += 1
        self.beating = True
        self.send_birth(self.boot, MODEL, f"chk-fit-{self.checks}", 60_000)
        self.log.add(self.ms, "state", boot=self.boot, armed=True)
        self.check(self.gate.state(make_state(self.boot, token=self.token), self.ns))
        self.pass_time(100)
        for _ in range(40):  # parts still on their way without a verdict may put the proof off
            if self.gate.armed:
                return
            self.send_trigger()
            self.pass_time(10)
            self.send_verdict(self.count, "reject")
            self.pass_time(60)
        raise AssertionError("a station that is well again could not arm the gate")

    # --- the world --------------------------------------------------------------------------------------------------------

    @initialize()
    def arm(self) -> None:
        self.make_fit()

    @rule(ms=st.sampled_from([10, 20, 60, 90, 200, 360]))
    def time_passes(self, ms: int) -> None:
        self.pass_time(ms)

    @rule(ms=st.sampled_from([100, 365, 375, 385, 1000]))
    def gate_is_frozen(self, ms: int) -> None:
        self.ms += ms - ms % 5
        self.ms -= self.ms % 10
        self.log.add(self.ms, "token-now", token=self.newest)
        self.tick()

    @rule()
    def part_comes(self) -> None:
        self.send_trigger()

    @rule()
    def all_is_well_again(self) -> None:
        self.make_fit()

    @rule(fit=st.booleans(), after=st.sampled_from([10, 60, 200]), then=st.sampled_from([0, 300, 360]))
    def good_part_is_judged(self, fit: bool, after: int, then: int) -> None:
        if fit:
            self.make_fit()
        self.send_trigger()
        self.pass_time(after)
        self.send_verdict(self.count, "pass")
        self.pass_time(then)

    @rule(back=st.integers(0, 4), verdict=st.sampled_from(["pass", "pass", "reject", "invalid", "uncertain"]))
    def verdict_comes(self, back: int, verdict: str) -> None:
        self.send_verdict(max(0, self.count - back), verdict)

    @rule(what=st.sampled_from(["reject", "invalid", "boot", "other-model", "check-dies", "frozen", "step", "silence"]))
    def something_happens_between_pass_and_deadline(self, what: str) -> None:
        self.make_fit()
        self.send_trigger()
        self.pass_time(60)
        self.send_verdict(self.count, "pass")
        self.pass_time(50)
        if what in {"reject", "invalid"}:
            self.send_verdict(self.count, what)
        elif what == "boot":
            self.send_birth(BOOTS[1 - BOOTS.index(self.boot)], self.model, self.token, 60_000)
        elif what == "other-model":
            self.send_birth(self.boot, OTHER_MODEL, self.token, 60_000)
        elif what == "check-dies":
            # A renewal keeps the gate armed while the permit's own self-check runs out.
            self.send_birth(self.boot, self.model, self.token, 100)
            self.send_birth(self.boot, self.model, f"{self.token}-next", 60_000)
        elif what == "frozen":
            self.ms += 280
            self.n += 1
            self.send_beat(self.boot, self.n, armed=True, left=5000)
            self.tick()
        elif what == "step":
            self.clock_steps(60)
        else:
            self.beating = False
        self.pass_time(300)

    @rule(
        fit=st.booleans(),
        back=st.integers(0, 1),
        flaw=st.sampled_from(["boot", "model", "token", "no-token", "valid", "mac", "enc"]),
        then=st.sampled_from([0, 360]),
    )
    def flawed_pass_comes(self, fit: bool, back: int, flaw: str, then: int) -> None:
        if fit:
            self.make_fit()
        other_boot = BOOTS[1 - BOOTS.index(self.boot)]
        other_model = MODELS[1 - MODELS.index(self.model)]
        flaws: dict[str, dict[str, Any]] = {
            "boot": {"boot": other_boot},
            "model": {"model": other_model},
            "token": {"token": "chk-9"},
            "no-token": {"token": ""},
            "valid": {"valid": 50},
            "mac": {"mac_ok": False},
            "enc": {"enc": 5},
        }
        self.send_trigger()
        self.pass_time(60)
        self.send_verdict(max(0, self.count - back), "pass", **flaws[flaw])
        self.pass_time(then)

    @rule(boot=st.sampled_from(BOOTS), model=st.sampled_from([MODEL, MODEL, OTHER_MODEL]), token=st.sampled_from(["", *TOKENS]))
    def station_is_born(self, boot: str, model: str, token: str) -> None:
        self.send_birth(boot, model, token, 60_000)

    @rule(life=st.sampled_from([50, 300, 2000]))
    def self_check_is_short(self, life: int) -> None:
        self.send_birth(self.boot, self.model, self.token, life)

    @rule(armed=st.booleans(), left=st.sampled_from([0, 40, 5000]), old=st.booleans())
    def beat_comes(self, armed: bool, left: int, old: bool) -> None:
        if not old:
            self.n += 1
        self.send_beat(self.boot, self.n, armed=armed, left=left)

    @rule(armed=st.booleans(), boot=st.sampled_from(BOOTS))
    def state_comes(self, armed: bool, boot: str) -> None:
        token = self.newest
        self.log.add(self.ms, "state", boot=boot, armed=armed)
        if boot == self.boot and not token:
            # A state with another token is a renewal; the renewals of this world come by birth.
            return
        self.check(self.gate.state(make_state(boot, armed=armed, token=token or "none"), self.ns))

    @rule(beating=st.booleans())
    def beats_stop_or_go_on(self, beating: bool) -> None:
        self.beating = beating

    @rule(step=st.sampled_from([60, -80]))
    def clock_steps(self, step: int) -> None:
        self.offset_ms += step
        self.log.add(self.ms, "step")
        self.tick()

    @precondition(lambda self: self.count > 3)
    @rule()
    def trigger_is_repeated(self) -> None:
        self.check(self.gate.trigger(make_trigger(self.count, self.ns + 10**12), self.ns))

    def teardown(self) -> None:
        """Every part that had a slot was decided once and acked once."""
        if self.broken:
            return
        self.beating = False
        self.pass_time(600)
        overflow = self.gate.counts["overflow"]
        assert len(self.acked) == len(set(self.acked)) == self.count - overflow
        assert sorted(self.acked) == self.everything_decided()

    def everything_decided(self) -> list[int]:
        return sorted([*self.opened, *self.closed])


class DoubtingMachine(GateMachine):
    """The same world before a gate with an output for re-inspection."""

    on_uncertain = "reinspect"

    def __init__(self) -> None:
        super().__init__()
        self.doubted: set[int] = set()

    def check(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Reinspect):
                objection = self.log.objection(action.count, self.ms, "uncertain")
                self.broken = bool(objection)
                assert not objection, f"opened part {action.count} to re-inspection at {self.ms} ms: {objection}"
                assert action.count not in self.opened | self.doubted
                self.doubted.add(action.count)
            elif isinstance(action, SendAck):
                decided = {"pass": self.opened, "reinspect": self.doubted}.get(action.ack.decision, set())
                self.acked.append(action.ack.trig)
                assert action.ack.fired == (action.ack.trig in decided) == (action.ack.decision in {"pass", "reinspect"})
            else:
                super().check([action])

    @rule(
        others=st.lists(st.sampled_from(["pass", "uncertain", "reject", "invalid"]), max_size=2),
        fit=st.booleans(),
        then=st.sampled_from(["", "", "check-dies", "frozen"]),
    )
    def doubtful_part_is_judged(self, others: list[str], fit: bool, then: str = "") -> None:
        if fit:
            self.make_fit()
        self.send_trigger()
        self.pass_time(60)
        for verdict in ["uncertain", *others]:
            self.send_verdict(self.count, verdict)
        if then == "check-dies":
            self.send_birth(self.boot, self.model, self.token, 100)
            self.send_birth(self.boot, self.model, f"{self.token}-next", 60_000)
        elif then == "frozen":
            self.ms += 320
            self.n += 1
            self.send_beat(self.boot, self.n, armed=True, left=5000)
            self.tick()
        self.pass_time(300)

    def everything_decided(self) -> list[int]:
        return sorted([*self.opened, *self.doubted, *self.closed])


QUICK = settings(
    max_examples=120,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
)


def worlds_of(machine: type[GateMachine]) -> list[GateMachine]:
    """Every world that was tried; each asserts after every step, and what they did in all shows that there was something to."""
    tried: list[GateMachine] = []

    def begin() -> GateMachine:
        tried.append(machine())
        return tried[-1]

    run_state_machine_as_test(begin, settings=QUICK)  # type: ignore[arg-type]  # what makes one is all it needs
    return tried


def test_the_gate_never_opens_without_a_valid_pass_in_time_of_the_current_boot_for_that_part():
    tried = worlds_of(GateMachine)
    assert len(tried) >= QUICK.max_examples
    assert sum(len(world.opened) for world in tried) > 30, "a gate that never opens keeps every rule"
    assert sum(len(world.closed) for world in tried) > 100, "a gate that never refuses a part shows nothing"


def test_nothing_goes_to_reinspection_that_a_pass_would_not_let_through():
    tried = worlds_of(DoubtingMachine)
    assert sum(len(world.doubted) for world in tried if isinstance(world, DoubtingMachine)) > 5, "nothing went to re-inspection"
    assert sum(len(world.opened) for world in tried) > 20


def test_the_machine_really_sends_parts_to_reinspection():
    machine = DoubtingMachine()
    machine.arm()
    machine.doubtful_part_is_judged(others=["pass"], fit=False)
    assert (machine.doubted, machine.opened) == ({3}, set())


def test_the_machine_really_opens_gates():
    """A machine that never gets a part through would prove nothing."""
    machine = GateMachine()
    machine.arm()
    machine.good_part_is_judged(fit=False, after=60, then=300)
    assert machine.opened == {3}


_REFUSAL = Station.refusal


def _deaf_to_vetoes(_self: Slot, _verdict_id: str, _doubt: str = "") -> None:
    return


MUTANTS: dict[str, tuple[type, str, Callable[..., Any]]] = {
    "any boot will do": (Station, "is_current", lambda *_: True),
    "any model will do": (Station, "fits", lambda *_: True),
    "tokens never die": (Station, "token_lives", lambda _self, token, _now: bool(token)),
    "a missing MAC will do": (Station, "refusal", lambda self, v, now, mac_ok: _REFUSAL(self, v, now, mac_ok=True)),
    "there is no deadline": (Gate, "_in_time", lambda *_: True),
    "the verdict's own validity is ignored": (
        Gate,
        "_in_time",
        lambda _self, slot, _verdict, now: now < slot.deadline_ns,
    ),
    "a reject is not sticky": (Slot, "forbid", _deaf_to_vetoes),
    "the number alone names a part": (Slot, "is_of", lambda *_: True),
    "permits survive a new birth": (Slot, "withdraw", lambda *_: None),
    "permits are not asked again at D": (Gate, "_permit_lives", lambda *_: True),
    "silence is fine": (Station, "_life", lambda *_: []),
    "clock steps are fine": (ClockWatch, "reason", lambda _self: ""),
    "opening late is fine": (Gate, "_may_open", lambda _self, slot, _now: bool(slot.permit) and not slot.veto),
    "a part without a verdict passes": (Gate, "_may_open", lambda _self, slot, _now: not slot.veto),
    "a disarmed gate opens": (Gate, "armed", property(lambda _self: True)),  # type: ignore[dict-item]
}


def _always_in_doubt(self: Slot, verdict_id: str, doubt: str = "") -> None:
    self.veto, self.doubt = self.veto or verdict_id, self.doubt or doubt


DOUBTFUL: dict[str, tuple[type, str, Callable[..., Any]]] = {
    "a reject leaves doubt": (Slot, "forbid", _always_in_doubt),
    "doubt survives a new birth": (Slot, "withdraw", lambda *_: None),
    "doubt needs no living self-check": (
        Gate,
        "_may_reinspect",
        lambda self, slot, now: bool(slot.doubt) and self._can_act(slot, now),
    ),
    "it goes there late": (
        Gate,
        "_may_reinspect",
        lambda self, slot, now: self._station.token_lives(slot.doubt, now),
    ),
    "a disarmed gate sends there": (Gate, "armed", property(lambda _self: True)),  # type: ignore[dict-item]
}


@pytest.mark.parametrize("name", DOUBTFUL)
def test_a_broken_rule_of_reinspection_is_caught(name, monkeypatch):
    owner, attribute, broken = DOUBTFUL[name]
    monkeypatch.setattr(owner, attribute, broken)
    search = settings(QUICK, max_examples=400, phases=[Phase.generate], report_multiple_bugs=False)
    with pytest.raises(AssertionError, match="opened part"):
        run_state_machine_as_test(DoubtingMachine, settings=search)


@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_rule_is_caught(name, monkeypatch):
    owner, attribute, broken = MUTANTS[name]
    monkeypatch.setattr(owner, attribute, broken)
    search = settings(QUICK, max_examples=400, phases=[Phase.generate], report_multiple_bugs=False)
    with pytest.raises(AssertionError, match="opened part"):
        run_state_machine_as_test(GateMachine, settings=search)
