"""One call per judged part, and an alarm when what the limit promises has stopped being true.

Four things are told apart, because their remedies differ:

    promise     more parts are above the limit than the false-reject rate and the bad parts together explain
    creep-up    parts that pass score higher than good parts did: light, lens, tool wear; rejects will follow
    creep-down  parts that pass score lower than good parts did: the camera sees less, and so will it miss more
    narrow      parts that pass score more alike than good parts did: the picture hardly changes any more

The first looks at every part and asks nothing but whether it was above the limit. The others look at the parts that pass, by
rank among the calibration scores, so that a run of bad parts that were found is no drift. Together they raise at most one
false alarm in `parts_per_alarm` parts, on all but a share `risk` of calibrations, as long as good parts are exchangeable with
the calibration parts and no more than the stated shares are bad. Parts that come in batches of their own, each unlike the last,
are not: `bad_passed` is the room for that.
"""

from dataclasses import dataclass
from typing import Literal

from edge.binomial import quantile
from edge.bundle.manifest import Limit, Manifest, Rule
from edge.drift.bets import above_limit, downward, highest_bounds, inward, upward
from edge.drift.detector import Detector

DriftKind = Literal["promise", "creep-up", "creep-down", "narrow"]
KINDS: tuple[DriftKind, ...] = ("promise", "creep-up", "creep-down", "narrow")

_SAYS: dict[DriftKind, tuple[str, str]] = {
    "promise": (
        "more parts are rejected than the limit promises and bad parts explain",
        "look at rejected parts: if they are good, fit the limit again with onbelt limit; if they are bad, look at the process",
    ),
    "creep-up": (
        "good parts score higher than they did when the limit was fitted",
        "check light, lens, focus and tool wear; if parts and picture are as they should be, fit the limit again",
    ),
    "creep-down": (
        "parts score lower than good parts did: the camera may see less than it did, and defects be missed",
        "check focus, exposure and the picture itself with a known bad part; hold parts judged meanwhile",
    ),
    "narrow": (
        "parts score more alike than good parts did: the picture may hardly change any more",
        "check that the camera delivers a new picture of every part; hold parts judged meanwhile",
    ),
}


@dataclass(frozen=True, slots=True)
class DriftSettings:
    """What is promised of the alarms.

    Attributes:
        parts_per_alarm: mean number of parts between false alarms, at least, over all kinds together.
        bad_share: share of all parts that may be bad; beyond it and the promised rate, rejects are an alarm.
        bad_passed: share of passed parts that may be anything: missed defects, a batch that differs.
        risk: share of calibrations for which the rate of false alarms is not promised.
    """

    parts_per_alarm: float = 10_000_000.0
    bad_share: float = 0.02
    bad_passed: float = 0.01
    risk: float = 0.01


@dataclass(frozen=True, slots=True)
class DriftAlarm:
    """Something has changed.

    Attributes:
        kind: what. part: number of the part that raised it, counted from 1 since the monitor was made.
        since: how many parts ago it most likely began. earliest: how many parts ago it may have begun. surely: how far a
            quarantine has to reach. All are estimates, counted in the parts that are watched (all of them for a promise, else
            those that passed).
        evidence: log10 of the e-value reached. text, remedy: for people.
    """

    kind: DriftKind
    part: int
    since: int
    earliest: int
    surely: int
    evidence: float
    text: str
    remedy: str


def above_rule(limit: Limit, rule: Rule, n: int) -> int:
    """Calibration parts above a rule's limit, which the manifest does not list, from how such limits are fitted.

    A guaranteed one is the lowest order statistic that keeps its share with its part of the confidence (`calibration.rules`), so
    all parts of higher rank lie above it. An estimate never lies below the highest of them.
    """
    if limit.kind != "guarantee":
        return 0
    confidence = 1.0 - (1.0 - limit.confidence) / (1 + len(limit.rules))
    return max(0, n - 1 - quantile(confidence, n, 1.0 - rule.false_reject))


class DriftMonitor:
    """Watches the parts of one station under one limit. Make a new one for a new limit.

    Args:
        n: calibration scores that p-values come from. false_reject: rate all limits together promise.
        above: calibration scores above the fused limit. settings: of the alarms.
        ruled: for each further rule, calibration parts above its limit: what only rules reject does not pass either.
    """

    def __init__(
        self, n: int, false_reject: float, above: int = 0, settings: DriftSettings | None = None, ruled: tuple[int, ...] = ()
    ) -> None:
        settings = settings or DriftSettings()
        shares = (false_reject, settings.bad_share, settings.bad_passed, settings.risk)
        if n < 1 or not all(0.0 <= share < 1.0 for share in shares) or not settings.parts_per_alarm >= 1 or settings.risk <= 0:
            raise ValueError(f"expected n >= 1, shares in [0, 1), risk > 0, parts_per_alarm >= 1, got {n}, {shares}, {settings}")
        self._n = n
        self._part = 0
        risk = settings.risk / highest_bounds(n, len(ruled))
        each = len(KINDS) * settings.parts_per_alarm
        self._promise = Detector(above_limit(false_reject + settings.bad_share), each)
        self._passed: dict[DriftKind, Detector] = {
            "creep-up": Detector(upward(n, settings.bad_passed, risk, ruled), each),
            "creep-down": Detector(downward(n, settings.bad_passed, risk, above, ruled), each),
            "narrow": Detector(inward(n, settings.bad_passed, risk, above, ruled), each),
        }

    @classmethod
    def of(cls, manifest: Manifest, settings: DriftSettings | None = None) -> "DriftMonitor":
        """For the limit in force."""
        limit, n = manifest.limit, len(manifest.calibration)
        above = sum(score > limit.raw for score in manifest.calibration)
        return cls(n, limit.false_reject, above, settings, tuple(above_rule(limit, rule, n) for rule in limit.rules))

    def add(self, p: float, *, above: bool = False) -> DriftAlarm | None:
        """Take one judged part.

        Args:
            p: its p-value, (1 + calibration scores at least as high) / (n + 1).
            above: its score was above the limit.

        Returns:
            The alarm this part raises, or None. Where two kinds are due, the other one comes with the next part. After an alarm
            of one kind, that kind begins anew.

        Raises:
            ValueError: p is no p-value of this calibration.
        """
        count = round(p * (self._n + 1)) - 1
        if not 0 <= count <= self._n:
            raise ValueError(f"expected a p-value from 1/{self._n + 1} to 1, got {p}")
        self._part += 1
        alarm = self._alarm("promise", self._promise) if self._promise.add(0 if above else 1) else None
        if not above:
            for kind, detector in self._passed.items():
                if detector.add(count) and alarm is None:
                    alarm = self._alarm(kind, detector)
        return alarm

    def evidence(self) -> dict[DriftKind, float]:
        """log10 of what each kind of bet has won so far: 0 none, log10(4 parts_per_alarm) the alarm. For the page."""
        return {"promise": self._promise.evidence, **{kind: one.evidence for kind, one in self._passed.items()}}

    def _alarm(self, kind: DriftKind, detector: Detector) -> DriftAlarm:
        text, remedy = _SAYS[kind]
        alarm = DriftAlarm(kind, self._part, *detector.began(), detector.evidence, text, remedy)
        detector.reset()
        return alarm
