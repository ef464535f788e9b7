"""Another model without a stop: `model.bundle` is a link that an updater moves, and this thread prepares what it points to.

Beside the running engine the new one is built, its golden frames are replayed and its time is measured; only then is it offered
to the inference, which takes it between two parts. What cannot be loaded or proved changes nothing but an alarm: the running
model goes on judging. The engine is built in this thread and used in the inference's, which OpenVINO and ONNX Runtime allow.
"""

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from edge.bundle.reader import Bundle
from edge.clock import Clock
from edge.config.station import StationConfig
from edge.daemon import build
from edge.daemon.stages.identity import Identity
from edge.daemon.stages.prepared import Prepared
from edge.daemon.stages.selfcheck import SelfCheck, describe
from edge.daemon.state.phase import Station
from edge.errors import EngineError, OnbeltError

logger = logging.getLogger(__name__)

LOOK_S = 0.5
ALARM = "update"


class ModelWatch:
    """Looks where the link points, twice a second.

    Args:
        config: names the link. running: the bundle in use. who: its identity. station: gets the alarm. clock: this machine's.
        offer: takes a prepared model.
    """

    def __init__(
        self,
        config: StationConfig,
        running: Bundle,
        who: Identity,
        station: Station,
        clock: Clock,
        offer: Callable[[Prepared], None],
    ) -> None:
        self._config = config
        self._link = Path(config.model.bundle)
        self._running = running.sha256
        self._who = who
        self._station = station
        self._clock = clock
        self._offer = offer
        self._seen = self._target()

    def run(self, stop: threading.Event) -> None:
        """Watch until told to stop."""
        while not stop.wait(LOOK_S):
            self.look()

    def look(self) -> None:
        """Prepare and offer what the link points to, where that is news."""
        target = self._target()
        if target == self._seen:
            return
        self._seen = target
        try:
            bundle = build.load_bundle(self._config)
            if bundle.sha256 != self._running:
                self._offer(self._prepare(bundle))
                self._running = bundle.sha256
        except OnbeltError as exc:
            self._station.clear(ALARM)  # another text than before must be heard, too
            self._station.raise_(
                ALARM, "warning", f"the new model is not taken: {exc}", "the running model goes on; publish another one"
            )
            return
        self._station.clear(ALARM)

    def _prepare(self, bundle: Bundle) -> Prepared:
        who = build.make_identity(self._config, bundle, self._who.boot, self._who.key)
        judge = build.make_judge(self._config, bundle)
        engine = build.make_engine(self._config, bundle)
        try:
            check = SelfCheck(bundle, engine, self._clock)
            wrong = [result for result in check.all() if not result.holds]
            if wrong:
                raise EngineError(describe(wrong[0], bundle.manifest.agreement))
            budget_ms = self._config.model.budget_ms or bundle.manifest.budget_ms
            times = check.budget(budget_ms)
            if times.p99 > budget_ms:
                raise EngineError(
                    f"the engine takes {times.p99:.1f} ms (p99) beside the running one, allowed are {budget_ms:g} ms"
                )
        except OnbeltError:
            engine.close()
            raise
        logger.info("model %s %s is ready beside the running one", who.recipe, who.model[:48])
        return Prepared(bundle, engine, judge, who, check, times, budget_ms, lambda: build.make_engine(self._config, bundle))

    def _target(self) -> str:
        try:
            return str(self._link.readlink())
        except OSError:
            return ""  # no link: a file named in the configuration is replaced with a restart
