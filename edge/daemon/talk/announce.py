"""What the station says about itself: state, birth, cameras, alarms, status; retained, and again after each reconnect."""

import threading
from typing import Literal

from edge import __version__
from edge.bundle.reader import Bundle
from edge.clock import Clock
from edge.config.station import StationConfig
from edge.daemon.build_camera import is_simulated
from edge.daemon.stages.figures import Facts
from edge.daemon.stages.identity import Identity
from edge.daemon.stages.ledger import Ledger
from edge.daemon.state.phase import OPC, Snapshot, Station
from edge.daemon.talk.homeassistant import discovery
from edge.limits.curve import false_rejects
from edge.mqtt.link import Link
from edge.mqtt.message import Message
from edge.page.live import LiveView
from edge.wire import station as wire
from edge.wire import topics
from edge.wire.topics import Topics
from edge.wire.trigger import TRIGGER_SCHEMA
from edge.wire.verdict import SCHEMA as VERDICT_SCHEMA

BEAT_HZ = 10.0
GATE_ALARMS = "gate-"  # begins the code of every alarm that a gate raises and clears itself


def will(names: Topics, station: str, boot: str) -> Message:
    """What the broker says for us when we vanish."""
    payload = wire.STATUS.encode(wire.Status(wire.STATUS_SCHEMA, station, boot, "offline", "connection lost"))
    return Message(names.topic(topics.STATUS), payload, topics.STATUS.qos, topics.STATUS.retain)


class Announcer:
    """Turns the station's snapshots into retained messages and the page's head.

    Args:
        connection: the second one. names: the station's topics.
        who: identity. bundle: the model. config: budgets and names. facts: what is learned later.
        station: asked for snapshots. ledger: knows the next number. clock: labels. view: the page, or None.
    """

    def __init__(
        self,
        connection: Link,
        names: Topics,
        who: Identity,
        bundle: Bundle,
        config: StationConfig,
        facts: Facts,
        station: Station,
        ledger: Ledger,
        clock: Clock,
        view: LiveView | None,
    ) -> None:
        self._connection = connection
        self._names = names
        self._who = who
        self._bundle = bundle
        self._config = config
        self._simulated = is_simulated(config.camera)
        self._facts = facts
        self._station = station
        self._ledger = ledger
        self._clock = clock
        self._view = view
        self._lock = threading.Lock()
        self._alarms: set[str] = set()
        self._born_with: tuple[str, str, str] | None = None
        self._camera: tuple[str, str] = ("", "")
        self._broker = ""
        self._show_whatif()

    def on_change(self, _snapshot: Snapshot | None = None) -> None:
        """The station has changed. What is told is the station as it is now, whoever comes first."""
        with self._lock:
            snapshot = self._station.snapshot()
            token = snapshot.check.token if snapshot.check else ""
            signs = (token, self._facts.engine, self._connection.protocol)
            # The birth first: a gate takes the new token from it before any verdict carries it.
            if signs != self._born_with:
                self._born_with = signs
                self._birth(snapshot)
            self._state(snapshot)
            self._tell_alarms(snapshot)
            self._show(snapshot)

    def on_broker(self, connected: bool, why: str) -> None:
        """A connection has changed; the page shows it, and a new session may speak another protocol."""
        self._broker = f"{self._config.mqtt.host}:{self._config.mqtt.port}" if connected else f"not connected: {why}"
        self.on_change()

    def judge_with(self, who: Identity, bundle: Bundle) -> None:
        """Another model has taken over; the birth that says so comes with its self-check, at the next change."""
        with self._lock:
            self._who, self._bundle = who, bundle
            self._show_whatif()

    def rebirth(self) -> None:
        """Say everything again, as a newcomer asked for it."""
        with self._lock:
            snapshot = self._station.snapshot()
            self._birth(snapshot)
            self._state(snapshot)

    def online(self) -> None:
        """The status, kept for every connect from now on."""
        self._status("online", "running")

    def offline(self, why: str) -> None:
        """The end, said by ourselves."""
        self._status("offline", why)

    def camera(self, state: wire.CameraName, detail: str) -> None:
        """The camera's state, when it has changed."""
        if (state, detail) == self._camera:
            return
        self._camera = (state, detail)
        message = wire.CameraState(
            wire.CAMERA_SCHEMA,
            self._who.station,
            self._who.camera,
            state,
            detail[:240],
            self._clock.utc_us(),
        )
        self._connection.keep(self._names.topic(topics.CAMERA_STATE, self._who.camera), wire.CAMERA.encode(message))

    def stale_alarm(self, code: str) -> None:
        """The broker still holds an alarm, perhaps of an earlier start: clear it unless it stands, or is a gate's."""
        if code.startswith(GATE_ALARMS):
            return
        with self._lock:
            if code not in self._alarms:
                self._connection.keep(self._names.topic(topics.ALARM, code), b"")

    # --- inside -----------------------------------------------------------------------------------------------------------

    def _birth(self, snapshot: Snapshot) -> None:
        manifest, config, facts = self._bundle.manifest, self._config, self._facts
        limit = manifest.limit
        birth = wire.Birth(
            sch=wire.BIRTH_SCHEMA,
            station=self._who.station,
            boot=self._who.boot,
            at_us=self._clock.utc_us(),
            first_seq=self._ledger.last_seq + 1,
            software=f"onbelt {__version__}",
            model=self._who.model,
            bundle=f"sha256:{self._bundle.sha256}",
            limit=self._who.limit,
            recipe=self._who.recipe,
            promise=wire.Promise(limit.false_reject, limit.confidence, limit.kind, limit.n),
            check=snapshot.check,
            engine=facts.engine[:240],
            size=manifest.size,
            gates=[self._who.gate],
            cameras=self._who.needed,
            trigger=config.trigger.kind,
            valid_ms=config.deadline.valid_ms,
            budget_ms=config.model.budget_ms or manifest.budget_ms,
            infer_p99_ms=None if facts.infer_p99_ms is None else round(facts.infer_p99_ms, 2),
            beat_hz=BEAT_HZ,
            sealed=self._who.key is not None,
            clk=facts.clock_src,
            mqtt=self._connection.protocol,
            page=facts.page_url,
            schemas=[
                VERDICT_SCHEMA,
                wire.BEAT_SCHEMA,
                wire.STATE_SCHEMA,
                wire.BIRTH_SCHEMA,
                wire.STATUS_SCHEMA,
                wire.CAMERA_SCHEMA,
                wire.ALARM_SCHEMA,
                wire.HEALTH_SCHEMA,
                wire.STATS_SCHEMA,
                wire.EVIDENCE_SCHEMA,
                wire.COMMAND_SCHEMA,
                wire.RESULT_SCHEMA,
                TRIGGER_SCHEMA,
            ],
        )
        self._connection.keep(self._names.topic(topics.BIRTH), wire.BIRTH.encode(birth))
        if config.bridge.home_assistant:
            self._connection.keep(*discovery(self._names, self._who, facts.page_url))

    def _state(self, snapshot: Snapshot) -> None:
        state = wire.State(
            wire.STATE_SCHEMA,
            self._who.station,
            self._who.boot,
            OPC[snapshot.phase],
            snapshot.phase.value,
            snapshot.armed,
            snapshot.reasons,
            self._who.recipe,
            self._who.model,
            self._who.limit,
            snapshot.check,
            snapshot.since_us,
        )
        self._connection.keep(self._names.topic(topics.STATE), wire.STATE.encode(state))

    def _tell_alarms(self, snapshot: Snapshot) -> None:
        standing = {condition.code: condition for condition in snapshot.conditions}
        for code in self._alarms - set(standing):
            self._connection.keep(self._names.topic(topics.ALARM, code), b"")
        for code, condition in standing.items():
            alarm = wire.Alarm(
                wire.ALARM_SCHEMA,
                self._who.station,
                self._who.boot,
                code,
                condition.severity,
                condition.text,
                condition.remedy,
                condition.since_us,
            )
            self._connection.keep(self._names.topic(topics.ALARM, code), wire.ALARM.encode(alarm))
        self._alarms = set(standing)

    def _status(self, status: Literal["online", "offline"], why: str) -> None:
        message = wire.Status(wire.STATUS_SCHEMA, self._who.station, self._who.boot, status, why)
        self._connection.keep(self._names.topic(topics.STATUS), wire.STATUS.encode(message))

    def _show_whatif(self) -> None:
        if self._view is not None:
            self._view.set_whatif(false_rejects(self._bundle.manifest, self._bundle.golden))

    def _show(self, snapshot: Snapshot) -> None:
        if self._view is None:
            return
        manifest = self._bundle.manifest
        limit = manifest.limit
        self._view.set_state(
            {
                "station": self._who.station,
                "line": self._config.station.line,
                "boot": self._who.boot,
                "state": OPC[snapshot.phase],
                "armed": snapshot.armed,
                "reasons": snapshot.reasons,
                "camera": self._who.camera,
                "simulated": self._simulated,
                "broker": self._broker,
                "gate_deadline_ms": self._config.deadline.valid_ms,
                "model": {
                    "name": manifest.name,
                    "version": manifest.version,
                    "model": manifest.model,
                    "precision": manifest.precision,
                    "inspected": manifest.inspected,
                    "engine": self._facts.engine,
                    "check": snapshot.check.token if snapshot.check else "",
                    "limit": {
                        "raw": limit.raw,
                        "false_reject": limit.false_reject,
                        "confidence": limit.confidence,
                        "kind": limit.kind,
                        "n": limit.n,
                    },
                },
            }
        )
