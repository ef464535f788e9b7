"""Two models on the same parts: may the new one take over? Pure: pairs go in, a decision comes out.

What refuses a model, each with its bound and its reason:

- it rejects parts the running model passes clearly            twice its promise, 1 % at least: "rejects"
- it passes parts the running model rejects clearly            a quarter of them: "passes"
- it judges otherwise, in whichever direction                  5 % of the parts: "disagrees"
- it leaves parts without a judgement                          0.5 %: "invalids"; one score that is no number: "not-finite"
- it takes more processor time than its budget                 2 % of the parts: "slow-model"

"Clearly" means a score outside 0.8 to 1.25 of the limit, as in the proof: between them two good models may disagree. Each bound
is watched by a sequential test that may be looked at after every part. Together, the chance that a model within all bounds is
ever refused is at most `alpha`, however long it is watched: that is the budget.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from edge.update.machine import Watched
from edge.update.prove import CLEAR
from edge.update.sequential import ShareTest, wilson

MIN_REJECTS = 0.01
PASSES = 0.25
DISAGREES = 0.05
INVALIDS = 0.005
SLOW = 0.02
Among = Callable[["Pair"], bool]
Word = Literal["pass", "reject", "uncertain", "invalid"]


@dataclass(frozen=True, slots=True)
class Pair:
    """One part, judged by both.

    Attributes:
        seq: its number in the verdict. before, before_cal: what the running model said, and its score over its limit.
        after, after_cal: the new model's; "invalid" and infinity where it gave none.
        cpu_ms: processor time of the new model over the engine's threads.
        finite: False when its scores were no numbers. text: what went wrong, for people.
    """

    seq: int
    before: Word
    before_cal: float
    after: Word
    after_cal: float
    cpu_ms: float
    finite: bool = True
    text: str = ""

    @property
    def differs(self) -> bool:
        """One would let the part through and the other would not."""
        return (self.before == "pass") != (self.after == "pass")


class Comparison:
    """Counts pairs and decides.

    Args:
        parts: pairs after which a model that was not refused may take over.
        promise: share of good parts the new model's limit may reject.
        budget_ms: processor time one part may take.
        alpha: chance that a model within all bounds is refused.
    """

    def __init__(self, parts: int, promise: float, budget_ms: float, alpha: float = 0.01) -> None:
        self.count = 0
        self.differing = 0
        self._stricter = 0
        self.rejects_bound = min(0.5, max(MIN_REJECTS, 2.0 * promise))
        self.parts = parts
        self.budget_ms = budget_ms
        self._not_finite = ""
        self._tests: list[tuple[str, str, Among, Among, ShareTest]] = []
        kinds: tuple[tuple[str, str, Among, Among, float], ...] = (
            ("rejects", "clearly good parts rejected", _clearly_good, _rejects, self.rejects_bound),
            ("passes", "clearly bad parts passed", _clearly_bad, _passes, PASSES),
            ("disagrees", "parts judged otherwise", _both, _differs, DISAGREES),
            ("invalids", "parts without a judgement", _every, _nothing, INVALIDS),
            ("slow-model", f"parts above {budget_ms:g} ms of processor time", _both, self._slow, SLOW),
        )
        for reason, what, among, hit, bound in kinds:
            self._tests.append((reason, what, among, hit, ShareTest(bound, above=True, alpha=alpha / len(kinds))))

    def add(self, pair: Pair) -> None:
        """Take one part."""
        self.count += 1
        self.differing += pair.differs
        self._stricter += pair.differs and pair.before == "pass"
        if not pair.finite:
            self._not_finite = f"part {pair.seq}: {pair.text}"
        for _, _, among, hit, test in self._tests:
            if among(pair):
                test.add(hit=hit(pair))

    def look(self) -> Watched | None:
        """What is decided by now: a refusal, "" for good, None for not yet."""
        if self._not_finite:
            return Watched("not-finite", self._not_finite)
        for reason, what, _, _, test in self._tests:
            if test.alarm:
                ways = (
                    f" ({self._stricter} not passed, {self.differing - self._stricter} passed)" if reason == "disagrees" else ""
                )
                return Watched(
                    reason, f"{test.hits} of {test.count} {what}{ways}, beside the running model; {self.bound(reason)}"
                )
        return Watched("", self.summary()) if self.count >= self.parts else None

    def bound(self, reason: str) -> str:
        """The bound that was broken, in words."""
        bounds = {"rejects": self.rejects_bound, "passes": PASSES, "disagrees": DISAGREES, "invalids": INVALIDS}
        return f"at most {bounds.get(reason, SLOW):.1%} are allowed"

    def summary(self) -> str:
        """What was counted, and how much worse the model could still be."""
        worst = wilson(self.differing, self.count)[1]
        return f"{self.count} parts beside the running model, {self.differing} judged otherwise (below {worst:.1%}, 95 % sure)"

    def rows(self) -> list[tuple[str, int, int, str]]:
        """(what, hits, parts it was asked of, bound) of every test, for the report."""
        return [(what, test.hits, test.count, self.bound(reason)) for reason, what, _, _, test in self._tests]

    def _slow(self, pair: Pair) -> bool:
        return pair.cpu_ms > self.budget_ms


def _every(_pair: Pair) -> bool:
    return True


def _both(pair: Pair) -> bool:
    return pair.after != "invalid"


def _clearly_good(pair: Pair) -> bool:
    return _both(pair) and pair.before == "pass" and pair.before_cal <= CLEAR[0]


def _clearly_bad(pair: Pair) -> bool:
    return _both(pair) and pair.before != "pass" and pair.before_cal >= CLEAR[1]


def _rejects(pair: Pair) -> bool:
    return pair.after != "pass"


def _passes(pair: Pair) -> bool:
    return pair.after == "pass"


def _differs(pair: Pair) -> bool:
    return pair.differs


def _nothing(pair: Pair) -> bool:
    return pair.after == "invalid"
