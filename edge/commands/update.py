"""Remote model updates on this box: run the updater, install the first model, say how things stand, sign a desired state.

onbelt update install bottle-1.onbelt --config /etc/onbelt/update.toml
onbelt update run --config /etc/onbelt/update.toml
onbelt update status --config /etc/onbelt/update.toml
onbelt update failed --config /etc/onbelt/update.toml
onbelt update desire --key operator.key --site plant1 --product bottle --channel stable --mqtt broker:1883 --station onbelt/v1/...
onbelt update set-time --key operator.key --mqtt broker:1883 --station onbelt/v1/plant1/hall2/line3/st2

`run` is the service: it ends with SIGTERM or SIGINT. Exit status: 0 ok, 1 fault, 2 usage, 3 something does not verify.
"""

import argparse
import json
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from edge.commands._broker import add_broker_arguments, broker_of, station_topic, time_window

DAY_S = 86_400
ANSWER_S = 15.0
CONNECT_S = 10.0
REPORT_S = 2.0
OFF_S = 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True, help="what to do")

    def on_box(name: str, text: str) -> argparse.ArgumentParser:
        one = actions.add_parser(name, help=text, description=text)
        one.add_argument("--config", type=Path, required=True, metavar="FILE", help="the updater's configuration, update.toml")
        return one

    on_box("run", "fetch, verify, prove, switch and guard, for as long as it runs")
    install = on_box("install", "put the first model on a box")
    install.add_argument("bundle", type=Path, metavar="BUNDLE", help="the signed model file, NAME.onbelt")
    status = on_box("status", "what runs, what is under way, what was refused and why")
    on_box("failed", "report over MQTT that the updater stays down; its unit has this said when it was started too often")
    for one in (install, status):
        one.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    desire = actions.add_parser(
        "desire", help="sign a desired state, and publish it", description="sign a desired state, and publish it"
    )
    desire.add_argument(
        "--key", type=Path, required=True, metavar="FILE", help="the operator's private key, made with onbelt keygen"
    )
    desire.add_argument("--site", required=True, metavar="SITE", help="site of the boxes it is for")
    desire.add_argument("--product", required=True, metavar="NAME", help="product of the boxes it is for")
    what = desire.add_mutually_exclusive_group()
    what.add_argument("--channel", default="stable", metavar="NAME", help="follow this channel (default: %(default)s)")
    what.add_argument("--pin", type=int, metavar="VERSION", help="stay with this version")
    what.add_argument("--pause", action="store_true", help="stay with what runs")
    desire.add_argument(
        "--window",
        type=time_window,
        action="append",
        default=[],
        metavar="HH:MM-HH:MM",
        help="time of day (UTC) for a switch; may be given more than once",
    )
    desire.add_argument("--days", type=float, default=30.0, metavar="N", help="days until it is void (default: %(default)s)")
    desire.add_argument("--serial", type=int, default=0, metavar="N", help="its number, higher than the last (default: the time)")
    desire.add_argument("--issuer", default="operator", metavar="NAME", help="who asks, for logs (default: %(default)s)")
    set_time = actions.add_parser(
        "set-time",
        help="tell a box whose clock is wrong what time it is here",
        description="tell a box whose clock is wrong what time it is here: signed, and good once",
    )
    set_time.add_argument(
        "--key", type=Path, required=True, metavar="FILE", help="the operator's private key, made with onbelt keygen"
    )
    set_time.add_argument("--station", type=station_topic, required=True, metavar="TOPIC", help="topic of the station")
    set_time.add_argument("--issuer", default="operator", metavar="NAME", help="who says so, for logs (default: %(default)s)")
    add_broker_arguments(set_time)
    add_broker_arguments(desire, without="the signed message is printed")
    desire.add_argument(
        "--station",
        type=station_topic,
        metavar="TOPIC",
        help="topic of the one station it is for, onbelt/v1/SITE/AREA/LINE/STATION (default: every box of site and product)",
    )


def run(args: argparse.Namespace) -> int:
    """Do one action."""
    return {"run": _run, "install": _install, "status": _status, "failed": _failed, "desire": _desire, "set-time": _set_time}[
        args.action
    ](args)


def _run(args: argparse.Namespace) -> int:
    from edge.system.notify import Notifier
    from edge.update.config import load_update_config
    from edge.update.service import UpdateService

    service = UpdateService(*load_update_config(args.config))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: service.stop())
    service.run(Notifier.from_environment())
    return 0


def _install(args: argparse.Namespace) -> int:
    from edge.system.owner import as_owner_of
    from edge.update.config import load_update_config
    from edge.update.service import UpdateService

    config, station = load_update_config(args.config)
    with as_owner_of(Path(config.folder)):
        service = UpdateService(config, station)
        model = service.install(args.bundle)
    done = {"installed": model.version, "sha256": model.sha256, "model": model.ref, "link": str(service.store.current)}
    print(json.dumps(done) if args.json else "\n".join(f"{key}: {value}" for key, value in done.items()))
    return 0


def _status(args: argparse.Namespace) -> int:
    from edge.update.config import load_update_config
    from edge.update.service import describe
    from edge.update.state import State, load_state

    config, _ = load_update_config(args.config)
    state = load_state(Path(config.folder) / "state.json") or State()
    if args.json:
        print(json.dumps(describe(state)))
        return 0
    for name, model in (("committed", state.committed), ("previous", state.previous), ("candidate", state.candidate)):
        print(f"{name:<10} {f'version {model.version}  {model.ref or model.sha256[:16]}' if model else 'none'}")
    print(f"{'step':<10} {state.step.value}")
    print(f"{'why':<10} {f'{state.reason}: {state.text}' if state.reason else state.text or 'all is well'}")
    for one in state.refused:
        print(f"{'refused':<10} version {one.model.version}: {one.reason}: {one.text}")
    return 0


def _failed(args: argparse.Namespace) -> int:
    from edge.errors import BrokerError
    from edge.update.config import load_update_config
    from edge.update.reported import report_failed

    config, station = load_update_config(args.config)
    if not report_failed(config, station):
        raise BrokerError(f"{station.broker()}: it took no message in time; that the updater is down stands in the journal only")
    return 0


def _desire(args: argparse.Namespace) -> int:
    from edge.bundle.signing import load_private
    from edge.clock import SystemClock
    from edge.errors import BrokerError, ConfigError
    from edge.mqtt.connection import Connection
    from edge.wire import topics
    from edge.wire.update import DESIRED_SCHEMA, Desired, sign_desired

    if args.pin is not None and args.pin < 1:
        raise ConfigError(f"--pin: expected a version, 1 or more, got {args.pin}")
    now_us = SystemClock().utc_us()
    desired = Desired(
        DESIRED_SCHEMA,
        args.site,
        args.product,
        args.serial or now_us // 1000,
        "pin" if args.pin else "pause" if args.pause else "follow",
        args.channel,
        args.pin or 0,
        args.window,
        now_us + round(args.days * DAY_S * 1e6),
        args.issuer,
        "0" * 64,
        args.station or "",
    )
    payload = sign_desired(desired, load_private(args.key))
    if not args.mqtt:
        sys.stdout.write(payload.decode() + "\n")
        return 0
    if not args.station:
        raise ConfigError("--station: expected the topic of the station beside --mqtt, such as onbelt/v1/plant1/hall2/line3/st2")
    heard = threading.Event()
    connection = Connection(
        broker_of(args),
        f"onbelt-desire-{now_us}",
        subscriptions=[(f"{args.station}/{topics.UPDATE_REPORTED.suffix}", 1)],
        on_message=lambda _message: heard.set(),
        quiet=True,
    )
    connection.keep(f"{args.station}/{topics.UPDATE_DESIRED.suffix}", payload)
    connection.start()
    end = time.monotonic() + CONNECT_S
    while not connection.connected and time.monotonic() < end:
        time.sleep(0.05)
    connected, why = connection.connected, connection.why
    reported = connected and heard.wait(REPORT_S)  # reports are retained: one lies there unless no updater ever spoke
    connection.close(2.0)
    if not connected:
        raise BrokerError(f"{args.mqtt}: {why}; is the broker running there?")
    print(f"published to {args.station}/{topics.UPDATE_DESIRED.suffix}, serial {desired.serial}")
    if not reported:
        where = f"{args.station}/{topics.UPDATE_REPORTED.suffix}"
        print(f"nothing is reported at {where}: does an updater run there, and is this its topic?", file=sys.stderr)
    return 0


def _set_time(args: argparse.Namespace) -> int:
    from edge.bundle.signing import load_private
    from edge.clock import SystemClock
    from edge.errors import BrokerError
    from edge.mqtt.connection import Connection
    from edge.mqtt.message import Incoming
    from edge.wire import topics
    from edge.wire.update import REPORTED, TIME_SCHEMA, Reported, SetTime, sign_time

    key, clock, heard = load_private(args.key), SystemClock(), list[Reported]()

    def take(message: Incoming) -> None:
        heard.append(REPORTED.decode(message.payload))

    def wait(true: Callable[[], bool]) -> bool:
        end = time.monotonic() + ANSWER_S
        while not true() and time.monotonic() < end:
            time.sleep(0.05)
        return true()

    where = f"{args.station}/{topics.UPDATE_REPORTED.suffix}"
    connection = Connection(
        broker_of(args), f"onbelt-time-{time.time_ns()}", subscriptions=[(where, 1)], on_message=take, quiet=True
    )
    connection.start()
    try:
        if not wait(lambda: bool(heard)):
            raise BrokerError(f"{where}: nothing is heard ({connection.why or 'no report'}); is the updater running there?")
        # A challenge that lay there for too long is refused and a new one reported: the second answer is in time.
        for _ in range(2):
            before = heard[-1]
            said = SetTime(TIME_SCHEMA, args.station, before.challenge, clock.utc_us(), args.issuer, "0" * 64)
            connection.publish(f"{args.station}/{topics.UPDATE_TIME.suffix}", sign_time(said, key), qos=1)
            if not wait(lambda old=before: heard[-1].challenge != old.challenge):  # type: ignore[misc]
                raise BrokerError(f"{args.station}: no answer; does the box trust this operator's key, and may we write there?")
            off_s = abs(heard[-1].at_us - clock.utc_us()) / 1e6
            if off_s < OFF_S:
                print(f"{args.station}: its updater's clock is right now, to within {max(1.0, off_s):.0f} s")
                return 0
        raise BrokerError(f"{args.station}: still {off_s:.0f} s off; its log says why")
    finally:
        connection.close(0.5)
