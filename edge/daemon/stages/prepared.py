"""Another model, ready to take over between two parts."""

from collections.abc import Callable
from dataclasses import dataclass

from edge.bundle.reader import Bundle
from edge.daemon.stages.identity import Identity
from edge.daemon.stages.selfcheck import SelfCheck
from edge.engine.base import Engine
from edge.engine.proof import Percentiles
from edge.judge import Judge


@dataclass(frozen=True, slots=True)
class Prepared:
    """A model that may judge from the next part on.

    Attributes:
        bundle, engine, judge, who: what takes over together. selfcheck: passed on this engine. times: of its inference.
        budget_ms: what it may take. reopen: builds its engine anew, should it break.
    """

    bundle: Bundle
    engine: Engine
    judge: Judge
    who: Identity
    selfcheck: SelfCheck
    times: Percentiles
    budget_ms: float
    reopen: Callable[[], Engine]
