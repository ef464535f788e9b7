"""Many boxes at once, over their broker: how they stand, and a model in waves, a few boxes first.

onbelt fleet status --mqtt broker:1883
onbelt fleet roll --mqtt broker:1883 --key operator.key --site plant1 --product bottle --version 7 --waves 1,10,50,100

Everything comes from and goes to retained topics: the broker and the repository are all there is. `roll` may be ended and given
again; boxes that have the version are done. Exit status: 0 ok, 1 a rollout was stopped or the broker is away, 2 usage.
"""

import argparse
import json
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.commands._broker import add_broker_arguments, broker_of, time_window

if TYPE_CHECKING:
    from edge.fleet.view import Box

DAY_S = 86_400
LOOK_S = 0.5
TELL_S = 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True, help="what to do")

    def action(name: str, text: str) -> argparse.ArgumentParser:
        one = actions.add_parser(name, help=text, description=text)
        add_broker_arguments(one)
        one.add_argument(
            "--prefix", default="onbelt/v1", metavar="TOPIC", help="first levels of all topics (default: %(default)s)"
        )
        one.add_argument("--json", action="store_true", help="print JSON instead of text")
        return one

    status = action("status", "every box: online, armed, which model, which step and why")
    status.add_argument("--site", default="", metavar="SITE", help="one site only")
    status.add_argument("--product", default="", metavar="NAME", help="boxes of one product only")
    status.add_argument("--all", action="store_true", help="also list boxes that are well")
    roll = action("roll", "bring a version to the boxes of a site and product in waves, and stop when too many fail")
    roll.add_argument(
        "--key", type=Path, required=True, metavar="FILE", help="the operator's private key, made with onbelt keygen"
    )
    roll.add_argument("--site", required=True, metavar="SITE", help="site of the boxes")
    roll.add_argument("--product", required=True, metavar="NAME", help="their product")
    roll.add_argument("--version", type=int, required=True, metavar="N", help="version they shall run; it must be published")
    roll.add_argument(
        "--channel", default="", metavar="NAME", help="let them follow this channel, which holds the version (default: pin it)"
    )
    roll.add_argument(
        "--waves",
        default="1,10,50,100",
        metavar="PERCENT,...",
        help="share of boxes reached with each wave (default: %(default)s)",
    )
    roll.add_argument(
        "--canary", action="append", default=[], metavar="TOPIC", help="a station of the first wave; may be given more than once"
    )
    roll.add_argument(
        "--allowed", type=float, default=5.0, metavar="PERCENT", help="share of boxes that may fail (default: %(default)s)"
    )
    roll.add_argument(
        "--wave-hours", type=float, default=24.0, metavar="H", help="what is not done by then has failed (default: %(default)s)"
    )
    roll.add_argument("--soak-minutes", type=float, default=30.0, metavar="M", help="pause after a wave (default: %(default)s)")
    roll.add_argument(
        "--window",
        type=time_window,
        action="append",
        default=[],
        metavar="HH:MM-HH:MM",
        help="time of day (UTC) for a switch; may be repeated",
    )
    roll.add_argument("--issuer", default="operator", metavar="NAME", help="who asks, for logs (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Do one action."""
    return {"status": _status, "roll": _roll}[args.action](args)


def _status(args: argparse.Namespace) -> int:
    from edge.fleet.link import FleetLink
    from edge.fleet.view import Fleet

    fleet = Fleet(args.prefix, args.site)
    link = FleetLink(broker_of(args), fleet, f"onbelt-fleet-{time.time_ns()}").open()
    boxes = [box for _, box in sorted(link.boxes().items())]
    link.close(0.2)
    if args.product:
        boxes = [box for box in boxes if box.reported is not None and box.reported.product == args.product]
    if args.json:
        print(json.dumps({"boxes": [_plain(box) for box in boxes], "refused_messages": fleet.refused}))
        return 0
    shown = boxes if args.all else [box for box in boxes if _trouble(box)]
    for box in shown:
        print(f"{box.where:<40} {_word(box):<9} version {box.version or '-':<6} {_why(box)}")
    versions: dict[int, int] = {}
    for box in boxes:
        versions[box.version] = versions.get(box.version, 0) + 1
    counts = ", ".join(
        f"{count} run {f'version {version}' if version else 'none'}" for version, count in sorted(versions.items())
    )
    online, armed = sum(box.online for box in boxes), sum(box.armed for box in boxes)
    print(f"{len(boxes)} boxes: {online} online, {armed} armed{'; ' if counts else ''}{counts}")
    if fleet.refused:
        print(f"{fleet.refused} messages were not as agreed: are all boxes of a version this onbelt knows?")
    return 0


def _roll(args: argparse.Namespace) -> int:
    from edge.bundle.signing import load_private
    from edge.clock import SystemClock
    from edge.errors import ConfigError
    from edge.fleet.link import FleetLink
    from edge.fleet.view import Fleet
    from edge.fleet.waves import Plan, Rollout
    from edge.wire import topics
    from edge.wire.update import DESIRED_SCHEMA, Desired, sign_desired

    try:
        shares = tuple(float(one) / 100 for one in args.waves.split(","))
    except ValueError as exc:
        raise ConfigError(f"--waves: expected percentages such as 1,10,50,100, got {args.waves!r}") from exc
    key, clock = load_private(args.key), SystemClock()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    link = FleetLink(broker_of(args), Fleet(args.prefix, args.site), f"onbelt-roll-{time.time_ns()}").open()
    boxes = {base: box for base, box in link.boxes().items() if box.reported and box.reported.product == args.product}
    if not boxes:
        link.close(0.2)
        raise ConfigError(
            f"no box of site {args.site} and product {args.product} has reported at {args.mqtt}; onbelt fleet status --all lists "
            "who has"
        )
    offline = [base for base, box in boxes.items() if not box.online]
    # Higher than whatever any of them has obeyed, also where a clock was wrong once.
    serial = max([clock.utc_us() // 1000, *(box.reported.serial + 1 for box in boxes.values() if box.reported)])
    plan = Plan(args.version, serial, shares, args.allowed / 100, args.wave_hours * 3600, args.soak_minutes * 60)
    rollout = Rollout(plan, [base for base in boxes if base not in offline], tuple(args.canary))

    def tell(bases: tuple[str, ...], number: int, mode: str) -> None:
        for base in bases:
            pin = mode == "follow" and not args.channel
            desired = Desired(
                DESIRED_SCHEMA,
                args.site,
                args.product,
                number,
                "pin" if pin else "follow" if mode == "follow" else "pause",
                args.channel or "stable",
                args.version if pin else 0,
                args.window,
                clock.utc_us() + round(30 * DAY_S * 1e6),
                args.issuer,
                "0" * 64,
                base,
            )
            link.connection.keep(f"{base}/{topics.UPDATE_DESIRED.suffix}", sign_desired(desired, key))

    def say(text: str) -> None:
        if text and not args.json:
            print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)

    if offline:
        say(f"{len(offline)} boxes are offline and left out; give the command again when they are back")
    ended = None
    while not stop.is_set():
        orders = rollout.look(link.boxes(), time.monotonic())
        say(orders.text)
        tell(orders.tell, serial, "follow")
        tell(orders.pause, serial + 1, "pause")
        if orders.ended:
            ended = orders
            break
        stop.wait(LOOK_S)
    link.close(TELL_S)
    if ended is None:
        say(f"{rollout.summary()}; ended by a signal: boxes that were told go on, give the command again to go on with the rest")
    for base, why in sorted(rollout.failed.items()):
        say(f"failed: {base}: {why}")
    if args.json:
        report = {
            "version": args.version,
            "serial": serial,
            "ok": bool(ended and ended.ok),
            "text": ended.text if ended else "ended by a signal",
            "waves": [len(wave) for wave in rollout.waves],
            "wave": rollout.wave,
            "done": rollout.done,
            "failed": rollout.failed,
            "offline": offline,
        }
        print(json.dumps(report))
    return 0 if ended is not None and ended.ok else 1


def _plain(box: "Box") -> dict[str, Any]:
    reported = box.reported
    return {
        "station": box.base,
        "online": box.online,
        "armed": box.armed,
        "version": box.version,
        "model": box.state.model if box.state else "",
        "step": reported.step if reported else None,
        "reason": reported.reason if reported else None,
        "text": reported.text if reported else None,
        "serial": reported.serial if reported else 0,
        "mode": reported.mode if reported else None,
        "channel": reported.channel if reported else None,
        "refused": reported.refused if reported else [],
        "software": box.birth.software if box.birth else "",
    }


def _word(box: "Box") -> str:
    return "armed" if box.armed else "not armed" if box.online else "offline"


def _trouble(box: "Box") -> bool:
    return not box.armed or box.reported is None or bool(box.reported.reason) or box.reported.step != "idle"


def _why(box: "Box") -> str:
    reported = box.reported
    if reported is None:
        return "no updater"
    reasons = "" if box.armed or box.state is None else "; ".join(box.state.reasons)
    said = f"{reported.reason}: {reported.text}" if reported.reason else ""
    return " ".join(part for part in (reported.step, said, reasons) if part)[:200]
