"""Parts that stand so close together that one state of the output holds for both.

The output is a level: it is driven for a part from that part's decision on, up to `lead_ms + margin_ms` before the part is at
the rejector. A valve may be quicker than `lead_ms` says; what has not passed the rejector by then meets an open gate. So with a
shortest pitch

    a part is let through only if every part less than the pitch before it was let through as well;
    nor is it where a part without a decision of its own may stand beside it, one whose trigger was lost or that found no slot:
    nothing would close the output before such a part.

A part behind needs no rule: its own decision closes the output before it comes. What is rejected so makes the next one stay out
as well, and so on to the first gap: of two parts that cannot be told apart neither may be called good.

On a line that goes by counts the pitch is a distance in counts.
"""

from collections import deque

from edge.gate.register import Slot

UNSEEN = Slot(count=-1, part_id="", trigger_ns=0, deadline_ns=0, actuate_until_ns=0)
"""A part of which nothing is known but that it was there: never let through."""


class Pitch:
    """Tells each part's neighbours.

    Args:
        min_ns: parts closer than this by their triggers are neighbours; 0 for none.
        min_counts: the same by where the belt stood, and then this alone counts; 0 where the register goes by time.
    """

    def __init__(self, min_ns: int, min_counts: int) -> None:
        self._min_ns = min_ns
        self._min_counts = min_counts
        self._recent: deque[Slot] = deque()

    def came(self, slot: Slot, lost: int) -> None:
        """A part came, after so many whose triggers were lost or never seen: find its neighbours before it."""
        if not self._min_ns:
            return
        if lost and self._recent:
            self._recent[-1].near += (UNSEEN,)
        self._recent = deque(one for one in self._recent if self._close(one, slot))
        slot.near = (*self._recent, UNSEEN) if lost else tuple(self._recent)
        self._recent.append(slot)

    def unheld(self, slot: Slot) -> None:
        """The part that came last has no slot: it stays out, and so do those just before it."""
        slot.near = ()
        for one in self._recent:
            if one is not slot and not one.decided:
                one.near += (UNSEEN,)

    def blocks(self, slot: Slot, *, reinspect: bool = False) -> bool:
        """The output may not be driven for this part alone. What goes to a person may also follow what goes to a person."""
        return any(not (one.opened or (reinspect and one.doubted)) for one in slot.near)

    def _close(self, one: Slot, slot: Slot) -> bool:
        if self._min_counts and one.position is not None and slot.position is not None:
            return abs(slot.position - one.position) < self._min_counts
        return abs(slot.trigger_ns - one.trigger_ns) < self._min_ns
