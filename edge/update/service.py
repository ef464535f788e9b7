"""The updater as a process: looks at the repository now and then, obeys the signed desired state, reports every step.

It never stops the daemon and never speaks for it. Whatever fails here is logged, reported and tried again; the model that runs
goes on running.

Its supervisor hears a sign of life from each turn and from each look at a model on trial. The few steps that wait for others
longer than that, a download and a proof, say beforehand how long they take at most.
"""

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from edge.bundle.reader import open_bundle
from edge.bundle.signing import TrustStore, default_trust
from edge.clock import Clock, SystemClock
from edge.config.station import StationConfig
from edge.errors import ConfigError, ContractError, UpdateError
from edge.system.notify import Notifier
from edge.update.carrier import Carrier
from edge.update.config import UpdateConfig, carried_base
from edge.update.desired import Wish
from edge.update.ear import Ear
from edge.update.fetch import METADATA_SECONDS, TARGET_SECONDS
from edge.update.guard import GuardSettings
from edge.update.machine import Machine, Watched
from edge.update.prove import PROVE_SECONDS, Proof, ProofSettings, run_proof
from edge.update.reasons import REFUSED
from edge.update.reported import desired_of, report_of, status_of
from edge.update.settime import UpdateClock
from edge.update.shadowing import Shadowing, ShadowSettings
from edge.update.source import Release, Source
from edge.update.state import Model, State, Step
from edge.update.store import ModelStore
from edge.update.windows import is_open
from edge.wire import topics
from edge.wire import update as wire
from edge.wire.verdict import references

logger = logging.getLogger(__name__)

RETRY_S = 5.0  # between two looks at a step that waits, and after a fault
_METADATA_FILES = 30  # of a look: four roles, delegations, and a root for each rotation since the last one
# What one step may wait for others, seconds; every other one is over within the unit's own watchdog.
LONGEST_S = {
    Step.IDLE: _METADATA_FILES * METADATA_SECONDS,
    Step.DOWNLOAD: _METADATA_FILES * METADATA_SECONDS + TARGET_SECONDS,
    Step.PROVE: PROVE_SECONDS + 60.0,
}


class _Stop(threading.Event):
    """Set to end; whoever waits for it with a time limit, again and again, thereby says that he lives."""

    def __init__(self, alive: Callable[[], None]) -> None:
        super().__init__()
        self._alive = alive

    def wait(self, timeout: float | None = None) -> bool:
        """As an event does."""
        self._alive()
        return super().wait(timeout)


class UpdateService:
    """One box's updater.

    Args:
        config: update.toml. station: the station's own configuration. clock: this machine's.

    Raises:
        ConfigError: a folder of keys is missing or holds what is no key. UpdateError: the folder cannot be written.
    """

    def __init__(self, config: UpdateConfig, station: StationConfig, clock: Clock | None = None) -> None:
        self._config = config
        self._station = station
        self._names = station.topics()
        self.store = ModelStore(Path(config.folder), reserve_bytes=round(config.reserve_mb * 2**20))
        self._clock = UpdateClock(self.store.folder / "clock.json", clock or SystemClock(), self._names.base)
        folders = station.trust_folders()
        trust = TrustStore.from_folders(folders) if folders else default_trust()
        self._operators = TrustStore.from_folders(map(Path, config.operators))
        self._notifier = Notifier("", 0)
        self._stop = _Stop(lambda: self._notifier.alive())
        self._news = threading.Event()
        self._heard = b""
        self._told = b""
        name = f"onbelt-{station.station.line}-{station.station.station}-u"
        self.ear = Ear(station.broker(), self._names, name, self._clock, self._hear, self._hear_time)
        self._desired = desired_of(config, station, self._operators, self._clock)
        self._source = Source(
            self.store,
            Path(config.root),
            config.metadata_url,
            config.target_url,
            station.station.site,
            config.product,
            ca=config.ca,
            clock=self._clock,
            carrier=Carrier(station.broker(), base, f"{name}c") if (base := carried_base(config)) else None,
        )
        self._proof = ProofSettings(
            tuple(map(str, folders)),
            station.model.engine,
            station.model.threads,
            station.model.budget_ms,
            config.memory_mb,
            config.certificate,
            limit=station.model.limit,
        )
        self._shadowing = Shadowing(
            ShadowSettings(self._proof, config.shadow_parts), self.store.models, self.store.folder, self.store.folder / "reports"
        )
        self._guard_settings = GuardSettings(config.guard_parts, config.guard_s, config.take_s, config.arm_s)
        self.machine = Machine(
            self.store,
            self._source,
            trust,
            config.product,
            self._prove,
            self._hold,
            self._guard,
            self._settle,
            self._report,
            self._clock,
            self._shadowing.judge if config.shadow_parts else None,
        )
        self._trust = trust

    @property
    def wish(self) -> Wish:
        """What is wanted now."""
        return self._desired.wish

    def install(self, bundle: Path) -> Model:
        """Put the first model on a box by hand; it is verified and proved like any other.

        Raises:
            ConfigError: a model is installed already. BundleError: the bundle is not to be used. UpdateError: it does not prove
                itself here.
        """
        if self.machine.state.committed is not None:
            raise ConfigError(
                f"{self.store.folder}: version {self.machine.state.committed.version} is installed; publish the next"
            )
        opened = open_bundle(bundle, self._trust)
        manifest = opened.manifest
        if manifest.product != self._config.product:
            raise UpdateError(
                f"{bundle}: expected a model for {self._config.product}, got one for {manifest.product}", reason="wrong-product"
            )
        proof = self._prove(bundle, None)
        if proof.reason:
            raise UpdateError(f"{bundle}: {proof.text}", reason=proof.reason)
        sha256 = self.store.install(bundle.read_bytes())
        self.store.switch(sha256)
        model = Model(sha256, manifest.version, references(manifest, opened.sha256)[0])
        self.machine.adopt(model)
        return model

    def run(self, notifier: Notifier | None = None) -> None:
        """Update until told to stop; `notifier` is the supervisor, None for nobody."""
        self._notifier = notifier or self._notifier
        self.ear.connection.start()
        self._report(self.machine.state)
        self._notifier.ready(status_of(self.machine.state))
        look_at = 0.0
        try:
            while not self._stop.is_set():
                if self._news.is_set():
                    self._news.clear()
                    told, self._told = self._told, b""
                    if self._set_time(told) or self._obey(self._heard):
                        look_at = 0.0
                due = time.monotonic() >= look_at
                if due:
                    look_at = time.monotonic() + self._config.poll_s
                self._notifier.patient(LONGEST_S.get(self.machine.state.step, 0.0))
                wait_s = self._once(due=due)
                self._notifier.patient(0.0)
                # A step that follows at once follows at once; idle waits for the next look.
                self._await_news(look_at if wait_s is None else time.monotonic() + wait_s)
        finally:
            self._notifier.stopping()
            self._notifier.close()
            self._shadowing.end()
            self.ear.connection.close(0.5)

    def stop(self) -> None:
        """End soon, wherever it is."""
        self._stop.set()
        self._news.set()

    def _await_news(self, until: float) -> None:
        every_s = self._notifier.watchdog_s / 4 or until
        while (left_s := until - time.monotonic()) > 0 and not self._news.wait(min(left_s, every_s)):
            self._notifier.alive()

    # --- one turn ---------------------------------------------------------------------------------------------------------

    def _once(self, *, due: bool) -> float | None:
        """Do what there is to do; returns the seconds until the next turn, None for the next look."""
        machine = self.machine
        try:
            if machine.state.step is Step.IDLE:
                if due:
                    self._look()
                return None if machine.state.step is Step.IDLE else 0.0
            before = machine.state.step
            machine.advance()
        except UpdateError as exc:
            logger.warning("%s: %s", exc.reason, exc)
            if machine.state.step is not Step.IDLE:
                return RETRY_S
            # What was refused and why says more than that it was refused before.
            if exc.reason != "refused-before" or machine.state.reason not in REFUSED:
                self._note(exc)
            return None
        return 0.0 if machine.state.step is not before else RETRY_S

    def _note(self, exc: UpdateError) -> None:
        try:
            self.machine.note(exc.reason, str(exc))
        except UpdateError as full:
            logger.warning("%s", full)

    def _look(self) -> None:
        wish = self.wish
        if wish.mode == "pause":
            raise UpdateError("updates are paused on this box; a desired state of mode follow or pin ends that", reason="paused")
        release: Release = self._source.version(wish.version) if wish.mode == "pin" else self._source.channel(wish.channel)
        if not self.machine.offer(release, wish.serial):
            self.machine.note("", "up to date")

    # --- the desired state ------------------------------------------------------------------------------------------------

    def _hear(self, payload: bytes) -> None:
        self._heard = payload  # the newest is the one that counts
        self._news.set()

    def _hear_time(self, payload: bytes) -> None:
        self._told = payload
        self._news.set()

    def _set_time(self, payload: bytes) -> bool:
        """Take the time an operator says it is; True when it counts from now on."""
        if not payload or self._stop.is_set():
            return False
        try:
            said = wire.open_time(payload, self._operators)
            self._clock.take(said)
        except ContractError as exc:
            logger.warning("not-signed-by-operator: %s", exc)
            return False
        except UpdateError as exc:
            logger.warning("%s: %s", exc.reason, exc)
            return False
        finally:
            self._report(self.machine.state)  # with the next challenge
        logger.warning("the time is %d us UTC from now on, says %s", said.utc_us, said.issuer)
        return True

    def _obey(self, payload: bytes) -> bool:
        """Take a desired state; True when it is in force from now on and was not before."""
        if not payload or self._stop.is_set():
            return False
        try:
            if not self._desired.take(payload):
                return False
        except UpdateError as exc:
            logger.warning("%s: %s", exc.reason, exc)
            if self.machine.state.step is Step.IDLE:
                self._note(exc)
            return False
        logger.info("desired state %d: %s", self.wish.serial, self.wish)
        self._report(self.machine.state)
        return True

    # --- what the machine asks --------------------------------------------------------------------------------------------

    def _prove(self, new: Path, previous: Path | None) -> Proof:
        return run_proof(new, previous, self._proof)

    def _hold(self) -> Watched:
        if self.wish.mode == "pause":
            return Watched("paused", "updates are paused on this box")
        if not is_open(self.wish.windows, self._clock.utc_us()):
            return Watched("window", f"waits for {', '.join(self.wish.windows)} UTC")
        silent = self.ear.silent
        # A box without a model that judges has nothing to lose, and no arms to wait for.
        if silent and self.machine.state.committed is not None:
            return Watched("silent", silent)
        return Watched("", "")

    def _guard(self, model: Model) -> Watched | None:
        return self.ear.watch(model, self._guard_settings, self._stop)

    def _settle(self, model: Model) -> None:
        if not self.ear.wait_for(model, self._config.take_s, self._stop):
            logger.warning("the daemon has not said yet that it runs version %d again", model.version)

    def _report(self, state: State) -> None:
        self._notifier.status(status_of(state))
        report = report_of(self._config, self._station, state, self.wish, self._clock.utc_us(), self._clock.challenge)
        self.ear.connection.keep(self._names.topic(topics.UPDATE_REPORTED), wire.REPORTED.encode(report))


def describe(state: State) -> dict[str, object]:
    """The state as a plain record, for `onbelt update status`."""
    plain: dict[str, object] = msgspec.to_builtins(state)
    return plain
