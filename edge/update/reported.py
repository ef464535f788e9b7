"""What an updater says of itself on `update/reported`, retained: how its update stands, or that it stays down.

A report stands until the next one. So the last one of an updater that was started too often and is not started again would stand
there for ever and look like a box that is well; its unit has a last word said instead, by a process of its own.
"""

import time
from pathlib import Path

import msgspec

from edge import __version__
from edge.bundle.signing import TrustStore
from edge.clock import Clock, SystemClock
from edge.config.station import StationConfig
from edge.errors import UpdateError
from edge.mqtt.connection import Connection
from edge.update.config import UpdateConfig
from edge.update.desired import Addressee, Desired, Wish
from edge.update.state import Model, State, load_state
from edge.wire import topics
from edge.wire import update as wire

TELL_S = 20.0  # to reach a broker with the last word


def desired_of(config: UpdateConfig, station: StationConfig, operators: TrustStore, clock: Clock) -> Desired:
    """What is wanted of this box."""
    plain = Wish("follow", config.channel, 0, list(config.windows), 0)
    who = Addressee(station.station.site, config.product, station.topics().base)
    return Desired(Path(config.folder) / "desired.json", plain, who, operators, clock)


def report_of(
    config: UpdateConfig, station: StationConfig, state: State, wish: Wish, utc_us: int, challenge: str = ""
) -> wire.Reported:
    """The report. `challenge`: what somebody who tells this box the time has to name, empty where nobody listens."""
    return wire.Reported(
        wire.REPORTED_SCHEMA,
        station.station.station,
        utc_us,
        f"onbelt {__version__}",
        station.station.site,
        config.product,
        state.step.value,
        _model(state.committed),
        _model(state.candidate),
        wish.serial,
        wish.mode,
        wish.channel,
        state.reason,
        state.text[:400],
        [f"{one.model.version} {one.reason}" for one in state.refused],
        challenge,
    )


def report_failed(config: UpdateConfig, station: StationConfig, clock: Clock | None = None) -> bool:
    """Say for an updater that stays down that it does.

    Returns:
        False when no broker took it in time.

    Raises:
        ConfigError: a folder of keys is missing or holds what is no key.
    """
    clock = clock or SystemClock()
    try:
        state = load_state(Path(config.folder) / "state.json") or State()
    except UpdateError:
        state = State()  # perhaps that is why it stays down
    text = "the updater was started too often and stays down, the model that runs goes on; journalctl -u onbelt-updater says why"
    state = msgspec.structs.replace(state, reason="updater-failed", text=text)
    wish = desired_of(config, station, TrustStore.from_folders(map(Path, config.operators)), clock).wish
    report = wire.REPORTED.encode(report_of(config, station, state, wish, clock.utc_us()))
    connection = Connection(station.broker(), f"onbelt-{station.station.line}-{station.station.station}-uf")
    connection.start()
    end = time.monotonic() + TELL_S
    while not connection.connected and time.monotonic() < end:
        time.sleep(0.05)
    told = connection.publish(station.topics().topic(topics.UPDATE_REPORTED), report, qos=1, retain=True)
    connection.close(max(1.0, end - time.monotonic()))
    return told is not None and told.done


def status_of(state: State) -> str:
    """One line for the service manager."""
    version = f"version {state.committed.version}" if state.committed else "no model yet"
    return " ".join(f"{state.step.value}, {version}; {state.reason} {state.text}".split()).rstrip("; ")[:200]


def _model(model: Model | None) -> wire.ReportedModel | None:
    return None if model is None else wire.ReportedModel(model.version, model.sha256, model.ref)
