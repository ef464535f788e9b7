"""The gate's rules as a state machine without I/O: events and the time go in, actions come out.

    trigger, count, verdict, beat, birth, state, status, tick  ->  open, close, ack, quarantine, alarm, armed, disarmed, line stop

The nine rules of the verdict contract (docs/gate.md), and the method that holds each:

1. a slot per part, PENDING                                     `trigger`
2. a verdict is ignored unless everything about it fits         `verdict`, `Station.refusal`, `_in_time`
3. anything but a pass is sticky; duplicates and late ones      `verdict`, `_take`
4. at D: pass only with a valid PASS in hand                    `_decide`, `_may_open`
5. a reject after D never actuates                              `_after_the_fact`
6. missed beats or armed=false disarm                           `Station.reasons`, `Standing.look`
7. missing verdicts or an outage ask for a line stop            `Standing.decided`, `Standing.stop_or_go`
8. every decision is acked                                      `_ack`
9. the output is normally closed                                only `_decide` ever says "open"; the loop kicks the watchdog

What holds at the moment a verdict arrives is asked again at D: a new boot, another model, a dead self-check or a disarmed
gate in between takes the permit back.
"""

import math
from collections import Counter

from edge.gate.acks import COUNTED, Decision, make_ack, output_for
from edge.gate.actions import Action, Armed, Quarantine, SendAck, Why
from edge.gate.arming import ClockWatch, Commissioning, Station
from edge.gate.counts import InStep
from edge.gate.encoder import Encoder
from edge.gate.pitch import Pitch
from edge.gate.register import Register, Slot
from edge.gate.settings import NS_PER_MS, GateSettings
from edge.gate.standing import Standing
from edge.wire.station import Beat, Birth, State, Status
from edge.wire.trigger import EncoderCount, LineTrigger
from edge.wire.verdict import Verdict


class Gate:
    """Decides every part of one gate.

    Not thread-safe; call it from one thread, triggers before verdicts that came at the same time. `tick` must be called at
    least at `next_wake_ns`.

    Attributes:
        counts: what happened so far, by name ("opened", "late", "duplicate", ...).
        max_late_ns: the longest that a part's D had passed when it was decided.
    """

    def __init__(self, settings: GateSettings) -> None:
        self._settings = settings
        self._register = Register(settings.max_slots)
        self._pitch = Pitch(round(settings.min_pitch_ms * NS_PER_MS), settings.min_pitch_counts)
        self._station = Station(settings)
        self._commissioning = Commissioning(settings.commissioning_parts, settings.deadline_ms, settings.clock_uncertainty_ms)
        self._clock = ClockWatch(settings.clock_step_ms)
        self._encoder = Encoder(settings.encoder) if settings.encoder is not None else None
        self._in_step = InStep(settings.stamp_apart_ms)
        self._utc_us = 0
        self._last_count = -1
        self._count_back = ""
        self.counts: Counter[str] = Counter()
        self.max_late_ns = 0
        self._standing = Standing(settings, self.counts)

    @property
    def armed(self) -> bool:
        """A valid PASS opens."""
        return self._standing.armed

    @property
    def stopping(self) -> bool:
        """A line stop is requested."""
        return self._standing.stopping

    @property
    def p999_ms(self) -> float:
        """Trigger to gate as measured by the commissioning, ms."""
        return self._commissioning.p999_ms

    @property
    def shares_clock(self) -> bool:
        """The station reads this machine's clock: the trigger a verdict names is compared with the part's."""
        return self._in_step.shared

    def hears_beats(self, now_ns: int) -> bool:
        """The station's beats come at this moment."""
        return self._station.beats_come(now_ns)

    def next_wake_ns(self) -> int | None:
        """When `tick` must be called at the latest: the next decision, or the moment silence disarms."""
        moments = [self._register.next_deadline_ns(), self._station.silent_after_ns() if self.armed else None]
        if self._encoder is not None and len(self._register) > 0:
            moments.append(self._encoder.silent_at_ns())
        return min((moment for moment in moments if moment is not None), default=None)

    def trigger(self, trigger: LineTrigger, now_ns: int) -> list[Action]:
        """Rule 1: a part stands before the camera. Its time is the line's stamp, so a late reader does not gain time.

        A stamp in the future cannot be true and would gain time: the part gets no slot, and so never passes.
        """
        trigger_ns = trigger.mono_us * 1000
        if trigger_ns > now_ns:
            self.counts["trigger-refused"] += 1
            return []
        actions: list[Action] = []
        lost = 0 if self._last_count >= 0 else 1  # before the first one there may be one from before this gate's start
        if trigger.count <= self._last_count:
            known = self._register.find(trigger.count)
            if known is not None and known.trigger_ns == trigger_ns:
                self.counts["trigger-duplicate"] += 1
                return []
            actions = self._start_over(trigger.count, now_ns)
        elif self._last_count >= 0:
            lost = trigger.count - self._last_count - 1
            self.counts["trigger-lost"] += lost
        self._last_count = trigger.count
        slot = Slot(
            count=trigger.count,
            part_id=trigger.part,
            encoder=trigger.enc,
            trigger_ns=trigger_ns,
            deadline_ns=trigger_ns + self._settings.decide_by_ns,
            actuate_until_ns=trigger_ns + self._settings.actuate_until_ns,
        )
        if self._encoder is not None:
            slot.position = self._encoder.part(trigger.enc, trigger_ns, len(self._register))
            slot.deadline_count = slot.position + self._encoder.settings.deadline_counts
        self.counts["parts"] += 1
        self._pitch.came(slot, lost)
        if self._register.add(slot):
            return actions
        self._pitch.unheld(slot)
        self.counts["overflow"] += 1
        text = f"more than {self._settings.max_slots} parts between camera and rejector"
        remedy = "gate_ms is far too long for this line, or the light barrier chatters"
        return actions + self._standing.alarm("overflow", "fault", text, remedy)

    def count(self, count: EncoderCount, now_ns: int) -> list[Action]:
        """Rule 4 by counts: the belt stands there; what that decides is decided by the next `tick`."""
        if self._encoder is None or count.mono_us * 1000 > now_ns:
            self.counts["encoder-refused"] += 1
        else:
            self._encoder.read(count.enc, count.mono_us * 1000, len(self._register))
        return []

    def verdict(self, verdict: Verdict, now_ns: int, *, mac_ok: bool = False) -> list[Action]:
        """Rules 2, 3 and 5: a decoded verdict came at `now_ns`. `mac_ok`: its MAC held under the configured key."""
        if verdict.station != self._settings.station or verdict.gate != self._settings.gate or verdict.hist is True:
            self.counts["not-for-us"] += 1
            return []
        why = self._station.refusal(verdict, now_ns, mac_ok=mac_ok)
        slot = self._register.find(verdict.part.trig)
        if slot is None or not slot.is_of(verdict.part):
            self.counts[why or "unknown-part"] += 1
            if why is None:
                self._in_step.stranger(verdict.part.trig)
            return []
        if why is not None:
            self.counts[why] += 1
            if slot.refused is None and not slot.decided:
                slot.refused, slot.refused_id = why, verdict.id
            return []
        apart = self._in_step.apart(verdict.clk.mono_us, slot.trigger_ns)
        actions = self._out_of_step(slot, apart) if apart else []
        if slot.decided:
            return actions + self._after_the_fact(slot, verdict)
        if not self._in_time(slot, verdict, now_ns):
            self.counts["late"] += 1
            slot.refused, slot.refused_id = "late", verdict.id
        elif not apart or verdict.verdict != "pass":
            self._take(slot, verdict, now_ns, own=not apart)
        return actions

    def malformed(self) -> None:
        """A message on the verdict topic that the codec refused: no part gains anything by it."""
        self.counts["malformed"] += 1

    def beat(self, beat: Beat, now_ns: int) -> list[Action]:
        """Rule 6: a sign of life."""
        if beat.station == self._settings.station and self._station.on_beat(beat, now_ns):
            self._in_step.beat(beat.mono_us, now_ns)
        return self._look_around(now_ns)

    def birth(self, birth: Birth, now_ns: int) -> list[Action]:
        """Who speaks from now on. Permits of another boot or model are void."""
        if birth.station != self._settings.station:
            return []
        boot = self._station.boot
        if self._station.on_birth(birth, now_ns):
            why: Why = "stale-boot" if boot != birth.boot else "wrong-model"
            for slot in self._register.pending():
                slot.withdraw(why)
        if boot != birth.boot:
            self._count_back = ""
            self._in_step.new_boot()
        self._commissioning.begin((birth.model, birth.limit, birth.recipe), birth.valid_ms)
        return self._look_around(now_ns)

    def state(self, state: State, now_ns: int) -> list[Action]:
        """The station's own view of itself; armed=false disarms."""
        if state.station == self._settings.station:
            self._station.on_state(state, now_ns)
        return self._look_around(now_ns)

    def status(self, status: Status, now_ns: int) -> list[Action]:
        """Online or offline: an explanation for people, never a reason by itself."""
        if status.station == self._settings.station:
            self._station.on_status(status)
        return self._look_around(now_ns)

    def tick(self, now_ns: int, utc_us: int) -> list[Action]:
        """Rules 4, 6 and 7: time has passed. `utc_us` labels the acks and shows clock steps."""
        self._utc_us = utc_us
        self._clock.look(now_ns, utc_us, self._station.token)
        lost = self._encoder is not None and self._encoder.watch(now_ns, len(self._register))
        actions = self._look_around(now_ns)
        position = self._encoder.position if self._encoder is not None else None
        for slot in self._register.pending() if lost else self._register.due(now_ns, position):
            actions += self._decide(slot, now_ns)
        if len(self._register) <= self._settings.max_slots // 2:
            actions += self._standing.clear("overflow")
        actions += self._standing.apart_again(now_ns)
        return actions + self._standing.stop_or_go(now_ns, len(self._register))

    # --- rules 2 to 5: one part ------------------------------------------------------------------------------------------

    def _in_time(self, slot: Slot, verdict: Verdict, now_ns: int) -> bool:
        """Before D, and before the validity the verdict states for itself, both from the gate's own trigger."""
        return now_ns < min(slot.deadline_ns, slot.trigger_ns + round(verdict.t.valid_ms * NS_PER_MS))

    def _take(self, slot: Slot, verdict: Verdict, now_ns: int, *, own: bool = True) -> None:
        """`own`: its trigger is this part's; what is not may only warn."""
        if verdict.id in {slot.permit, slot.veto}:
            self.counts["duplicate"] += 1
            return
        first = not slot.permit and not slot.veto
        if first and verdict.verdict != "invalid":
            self._commissioning.measured((now_ns - slot.trigger_ns) / NS_PER_MS, verdict.clk.unc_us)
        if verdict.verdict != "pass":
            proven = own and verdict.verdict == "uncertain" and self._station.token_lives(verdict.ctx.check, now_ns)
            slot.forbid(verdict.id, verdict.ctx.check if proven else "")
        elif not slot.permit:
            slot.permit, slot.token, slot.stamp_us = verdict.id, verdict.ctx.check, verdict.clk.mono_us
        if first:
            slot.arrived_ns = now_ns

    def _may_open(self, slot: Slot, now_ns: int) -> bool:
        """Rule 4, asked at D: a permit of this part's, no veto, the self-check behind it still alive, and time left to act."""
        if not slot.permit or slot.veto or self._in_step.apart(slot.stamp_us, slot.trigger_ns):
            return False
        return self._permit_lives(slot, now_ns) and self._can_act(slot, now_ns)

    def _may_reinspect(self, slot: Slot, now_ns: int) -> bool:
        """An `uncertain`, no reject, and what a permit would need; else the part is rejected like any other."""
        doubted = self._settings.on_uncertain == "reinspect" and self._station.token_lives(slot.doubt, now_ns)
        return doubted and self._can_act(slot, now_ns)

    def _can_act(self, slot: Slot, now_ns: int) -> bool:
        """The part stands where the output acts on it: neither gone by, nor, on a belt that rests, still to come."""
        if now_ns >= slot.actuate_until_ns:
            return False
        return self._encoder is None or self._encoder.reaches(slot.position, now_ns)

    def _permit_lives(self, slot: Slot, now_ns: int) -> bool:
        return self._station.token_lives(slot.token, now_ns)

    def _decide(self, slot: Slot, now_ns: int) -> list[Action]:
        self.max_late_ns = max(self.max_late_ns, now_ns - slot.deadline_ns)
        answered = bool(slot.permit or slot.veto)
        ripe = self.armed and self._may_open(slot, now_ns)
        opened = ripe and not self._pitch.blocks(slot)
        doubted = self.armed and self._may_reinspect(slot, now_ns) and not self._pitch.blocks(slot, reinspect=True)
        why: Why
        if not self.armed:
            why = "disarmed"
        elif opened or slot.veto:
            why = "verdict"
        elif answered:
            why = "late" if self._permit_lives(slot, now_ns) else "no-token"
        else:
            why = slot.refused or "missing"
        self._register.settle(slot, opened=opened, doubted=doubted)
        held = not opened and why != "verdict" and self._settings.on_missing == "hold"
        decision: Decision = "pass" if opened else "reinspect" if doubted else "hold" if held else "reject"
        self.counts[COUNTED.get(decision, "closed")] += 1
        self.counts[f"why-{why}"] += 1
        if not answered:
            self._commissioning.measured(math.inf, None)
        standing = self._standing.decided(slot, now_ns, answered=answered, held=held)
        if wrong := self._in_step.decided(slot.count, answered=answered):
            standing += self._standing.out_of_step(wrong)
        elif self._in_step.again:
            standing += self._standing.clear("counts")
        if ripe and not opened:
            standing += self._standing.too_close(slot, now_ns)
        return [output_for(decision, slot.count), self._ack(slot, why, decision), *standing]

    def _after_the_fact(self, slot: Slot, verdict: Verdict) -> list[Action]:
        """Rule 5, and the late half of rule 3: the part is decided; nothing moves any more."""
        if verdict.id in {slot.permit, slot.veto}:
            self.counts["duplicate"] += 1
            return []
        self.counts["late"] += 1
        if verdict.verdict == "pass" or not slot.opened:
            return []
        self.counts["quarantined"] += 1
        text = f"{verdict.verdict} came after part {slot.count} had passed"
        alarm = self._standing.alarm("quarantine", "fault", text, f"take part {slot.count} {slot.part_id} out by hand")
        return [Quarantine(slot.count, slot.count, text), *alarm]

    def _out_of_step(self, slot: Slot, apart: str) -> list[Action]:
        """A verdict with this part's number is of a part triggered at another time."""
        self.counts["other-part"] += 1
        self._in_step.disagreed()
        return self._standing.out_of_step(f"the verdict for part {slot.count} is of one triggered {apart} it")

    def _ack(self, slot: Slot, why: Why, decision: Decision) -> SendAck:
        return SendAck(make_ack(self._settings, slot, decision, why, self._utc_us))

    def _start_over(self, count: int, now_ns: int) -> list[Action]:
        """The line counts from the beginning: a number is no name any more until the station starts anew, too."""
        self.counts["count-back"] += 1
        self._count_back = (
            f"the line's part number went back from {self._last_count} to {count}: restart the station, "
            "so that an old verdict cannot meet a new part"
        )
        actions = self._look_around(now_ns)
        for slot in self._register.pending():
            actions += self._decide(slot, now_ns)
        self._register.forget()
        return actions

    # --- rule 6: the gate as a whole ----------------------------------------------------------------------------------

    def _reasons(self, now_ns: int) -> list[str]:
        """What keeps the gate from opening, apart from the commissioning, which needs the parts to come."""
        belt = self._encoder.reason() if self._encoder is not None else ""
        found = [reason for reason in (self._clock.reason(), self._count_back, belt) if reason]
        return found + self._station.reasons(now_ns)

    def _look_around(self, now_ns: int) -> list[Action]:
        """Rule 6: arm or disarm, and say why."""
        proof = Armed(self._station.armed_set[0], self.p999_ms)
        return self._standing.look(self._reasons(now_ns), self._commissioning.reason(), proof, now_ns)
