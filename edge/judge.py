"""From scores to a verdict: the limit decides, the p-value says how rare the part is among good ones, the maps say where.

- `cal` = raw / limit, so that 1.0 is the limit of every model. A part passes if and only if raw <= limit.
- `p` = (1 + number of calibration scores >= raw) / (n + 1), the conformal p-value: for exchangeable good parts
  P(p <= a) <= a for every a (Vovk, Gammerman, Shafer, "Algorithmic Learning in a Random World", 2005, section 2.2; for
  outliers Bates et al., "Testing for outliers with conformal p-values", Annals of Statistics 51, 2023, equation 1).
- Where the limit has further rules, for a cause or a place (`edge.limits.rules`), a part passes when it is within all of them,
  `cal` is the largest of score / limit, and the map shows each place in units of the limit in force there.
- The cause is the branch that is furthest above its own limit: `st` structural, `ae` logical, `global` the part as a whole.
  Where the fused score rejects and no branch does so alone, it is the branch nearest to its limit. A branch that has no weight in
  the fused score rejects nothing and is no cause, unless a rule on it rejects. A hint for people; it decides nothing.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge.bundle.manifest import BRANCHES, Manifest
from edge.engine.base import Scores
from edge.errors import ConfigError, EngineError
from edge.limits.rules import RuleCells
from edge.regions import Region, find_regions

VerdictName = Literal["pass", "reject", "uncertain"]
Cause = Literal["structural", "logical", "global"]
_CAUSES: dict[str, Cause] = {"st": "structural", "ae": "logical", "global": "global"}


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is published about one part.

    Attributes:
        verdict: "pass", "reject" or, inside the band, "uncertain".
        raw: fused score. cal: raw / limit, or the largest of that and the rules'. p: p-value in (0, 1].
        st: structural, ae: logical, global_: whole part, each divided by its branch's limit.
        cause: the branch at fault; None for a pass.
        regions: where the maps exceed their limits, at most 8, highest peak first; none for a pass.
        anomaly_map: (n, n) float32, at each cell the larger of both maps, each divided by its branch's limit.
    """

    verdict: VerdictName
    raw: float
    cal: float
    p: float
    st: float
    ae: float
    global_: float
    cause: Cause | None
    regions: tuple[Region, ...]
    anomaly_map: NDArray[np.float32]

    @property
    def above(self) -> bool:
        """The score is above the limit, whatever the band makes of it."""
        return self.cal > 1.0


class Judge:
    """Judges the scores of one model. Holds nothing of one part for the next."""

    def __init__(self, manifest: Manifest, uncertain_band: tuple[float, float] | None = None) -> None:
        """Prepare for one model.

        Args:
            manifest: of a verified bundle.
            uncertain_band: (low, high) in units of the limit around 1.0: a part with low < cal <= high is "uncertain" and is
                left to a person. None: every part passes or is rejected.

        Raises:
            ConfigError: the band does not surround 1.0, so that parts outside it would not be judged by the limit.
        """
        if uncertain_band is not None and not 0.0 < uncertain_band[0] <= 1.0 <= uncertain_band[1] < math.inf:
            raise ConfigError(
                f"uncertain band: expected low <= 1.0 <= high in units of the limit, such as (0.9, 1.1), got {uncertain_band}"
            )
        self._limit = manifest.limit.raw
        self._branches = manifest.limit.branches
        self._calibration = np.asarray(manifest.calibration, np.float64)
        self._band = uncertain_band
        self._counted = [name for name in BRANCHES if name not in manifest.uncounted]
        self._rules = manifest.limit.rules
        self._cells: list[RuleCells] = []

    def judge(self, scores: Scores) -> Judgement:
        """Judge one part.

        Args:
            scores: what an engine gave.

        Raises:
            EngineError: a score is not finite (engines refuse that themselves; nothing of the kind may pass here).
        """
        if not all(map(math.isfinite, (scores.raw, scores.st, scores.ae, scores.global_))):
            raise EngineError(
                f"expected finite scores, got raw {scores.raw}, st {scores.st}, ae {scores.ae}, global {scores.global_}; "
                "the model or the engine is damaged: run onbelt check"
            )
        cal = scores.raw / self._limit
        within = scores.raw <= self._limit
        strictest = ""
        for one in self._rules_on(scores):
            value = one.value(scores)
            within = within and value <= one.rule.limit
            if value / one.rule.limit > cal:
                cal, strictest = value / one.rule.limit, one.rule.branch
        verdict: VerdictName = "pass" if within else "reject"
        if self._band is not None and self._band[0] < cal <= self._band[1]:
            verdict = "uncertain"
        st = scores.st / self._branches["st"]
        ae = scores.ae / self._branches["ae"]
        global_ = scores.global_ / self._branches["global"]
        map_st = np.asarray(scores.map_st / self._branches["st"], np.float32)
        map_ae = np.asarray(scores.map_ae / self._branches["ae"], np.float32)
        # A map without weight in the score has nothing to show either: its noise would lie over the other one's defects.
        map_st, map_ae = (one if name in self._counted else np.zeros_like(one) for name, one in (("st", map_st), ("ae", map_ae)))
        for one in self._cells:
            if one.rule.branch != "global":
                own, fused = (scores.map_st, map_st) if one.rule.branch == "st" else (scores.map_ae, map_ae)
                np.maximum(one.cells(fused), one.cells(own) / np.float32(one.rule.limit), out=one.cells(fused))
        if not strictest:
            alone = {"st": st, "ae": ae, "global": global_}
            strictest = max(self._counted, key=alone.__getitem__)
        return Judgement(
            verdict=verdict,
            raw=scores.raw,
            cal=cal,
            p=self.p_value(scores.raw),
            st=st,
            ae=ae,
            global_=global_,
            cause=None if verdict == "pass" else _CAUSES[strictest],
            regions=() if verdict == "pass" else find_regions(map_st, map_ae),
            anomaly_map=np.maximum(map_st, map_ae),
        )

    def _rules_on(self, scores: Scores) -> list[RuleCells]:
        if len(self._cells) != len(self._rules):  # the size of the maps is known with the first part
            self._cells = [RuleCells.of(rule, scores.map_st.shape[0]) for rule in self._rules]
        return self._cells

    def p_value(self, raw: float) -> float:
        """Conformal p-value of a raw score: from 1/(n+1), no calibration part scored as high, to 1."""
        n = len(self._calibration)
        at_least_as_high = n - int(np.searchsorted(self._calibration, raw, side="left"))
        return (1 + at_least_as_high) / (n + 1)
