"""The shift register: one slot per part between the light barrier and the rejector, and a memory of those just decided."""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from edge.gate.actions import Why
from edge.wire.verdict import Part


@dataclass(slots=True)
class Slot:
    """One part on its way.

    Attributes:
        count: the part's number on the line. part_id: its serial number, or empty.
        encoder: encoder counts at the trigger, 0 without one.
        position, deadline_count: where the belt stood at the trigger, and where it will stand at D, counts; None where the
            register goes by time.
        trigger_ns: light barrier. deadline_ns: D, when it is decided. actuate_until_ns: last moment the output can act.
            All CLOCK_MONOTONIC.
        permit: id of the valid PASS in hand, or empty. token: self-check token it was given under. stamp_us: its trigger.
        veto: id of the valid verdict other than pass, or empty. Sticky: it beats every permit.
        doubt: self-check token of an `uncertain` that no firmer verdict has beaten, or empty.
        arrived_ns: when that permit or veto came.
        refused: why a verdict for this part was not accepted, for the ack; None while none was.
        refused_id: its id.
        decided: False while PENDING. opened: it went through. doubted: it was sent to a person.
        near: parts before it that the output cannot tell from it (`edge.gate.pitch`); let go with the decision.
    """

    count: int
    part_id: str
    trigger_ns: int
    deadline_ns: int
    actuate_until_ns: int
    encoder: int = 0
    position: int | None = None
    deadline_count: int | None = None
    permit: str = ""
    token: str = ""
    stamp_us: int = 0
    veto: str = ""
    doubt: str = ""
    arrived_ns: int = 0
    refused: Why | None = None
    refused_id: str = ""
    decided: bool = False
    opened: bool = False
    doubted: bool = False
    near: tuple["Slot", ...] = ()

    def is_of(self, part: Part) -> bool:
        """The number alone could be an old line's; encoder and serial number, where there are any, must agree as well."""
        if self.encoder and part.enc and self.encoder != part.enc:
            return False
        return not self.part_id or part.src != "barcode" or self.part_id == part.id

    def forbid(self, verdict_id: str, doubt: str = "") -> None:
        """Rule 3: a verdict other than pass sticks; the first one is named, or the first firm one.

        An `uncertain` comes with its self-check as `doubt`; a reject or invalid, before or after, leaves no doubt.
        """
        if not self.veto:
            self.veto, self.doubt = verdict_id, doubt
        elif self.doubt and not doubt:
            self.veto, self.doubt = verdict_id, ""

    def withdraw(self, why: Why) -> None:
        """Take a permit back, or what would spare the part the reject bin: what it rested on no longer holds."""
        self.doubt = ""
        if self.permit:
            self.refused, self.refused_id = why, self.permit
            self.permit = self.token = ""


class Register:
    """Slots by the part's number, oldest first; bounded in both halves.

    Args:
        max_pending: parts that may be on their way.
        max_decided: parts remembered after their decision, to tell late and duplicate verdicts from unknown ones.
    """

    def __init__(self, max_pending: int, max_decided: int = 256) -> None:
        self._max_pending = max_pending
        self._max_decided = max_decided
        self._pending: OrderedDict[int, Slot] = OrderedDict()
        self._decided: OrderedDict[int, Slot] = OrderedDict()

    def __len__(self) -> int:
        return len(self._pending)

    def add(self, slot: Slot) -> bool:
        """Take a new part in; False when the register is full, and then the part has no slot and is rejected."""
        if len(self._pending) >= self._max_pending:
            return False
        self._pending[slot.count] = slot
        return True

    def find(self, count: int) -> Slot | None:
        """The part's slot, pending or just decided."""
        return self._pending.get(count) or self._decided.get(count)

    def pending(self) -> Iterator[Slot]:
        """All parts on their way, oldest first."""
        return iter(tuple(self._pending.values()))

    def due(self, now_ns: int, position: int | None = None) -> Iterator[Slot]:
        """Parts whose deadline has come, oldest first: by time, or by where the belt stands now."""
        return iter(tuple(slot for slot in self._pending.values() if slot.deadline_ns <= now_ns or _come(slot, position)))

    def next_deadline_ns(self) -> int | None:
        """When the next part must be decided; None when there is none."""
        return min((slot.deadline_ns for slot in self._pending.values()), default=None)

    def settle(self, slot: Slot, *, opened: bool, doubted: bool = False) -> None:
        """A part is decided for good."""
        slot.decided, slot.opened, slot.doubted = True, opened, doubted
        slot.near = ()  # or each part would hold all before it
        self._pending.pop(slot.count, None)
        self._decided[slot.count] = slot
        while len(self._decided) > self._max_decided:
            self._decided.popitem(last=False)

    def forget(self) -> None:
        """Drop the memory of decided parts: the line counts from the beginning."""
        self._decided.clear()


def _come(slot: Slot, position: int | None) -> bool:
    return position is not None and slot.deadline_count is not None and position >= slot.deadline_count
