"""The options of every verb that speaks to a broker by itself."""

import argparse
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge.mqtt.settings import Broker

_LEVEL = r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}"
_WINDOW = re.compile(r"([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d", re.ASCII)
_STATION = re.compile(rf"{_LEVEL}(/{_LEVEL}){{4,}}")


def add_broker_arguments(parser: argparse.ArgumentParser, *, without: str = "") -> None:
    """Declare them. `without`: what the verb does when no broker is named; empty where one must be."""
    text = f"the broker (default: none, {without})" if without else "the broker"
    parser.add_argument("--mqtt", required=not without, default="", metavar="HOST:PORT", help=text)
    parser.add_argument("--user", default="", metavar="NAME", help="user at the broker (default: anonymous)")
    parser.add_argument("--password-file", default="", metavar="FILE", help="file with the user's password, mode 0600")
    parser.add_argument("--ca", default="", metavar="FILE", help="CA file; turns TLS on")
    parser.add_argument("--cert", default="", metavar="FILE", help="our own certificate, for mutual TLS")
    parser.add_argument("--cert-key", default="", metavar="FILE", help="its private key")


def station_topic(text: str) -> str:
    """An argument that is a station's topic: nobody listens at a mistyped one, and the broker would not say so."""
    if not _STATION.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"expected PREFIX/SITE/AREA/LINE/STATION, such as onbelt/v1/plant1/hall2/line3/st2, got {text!r}"
        )
    return text


def time_window(text: str) -> str:
    """An argument that is a time of day to switch in."""
    if not _WINDOW.fullmatch(text):
        raise argparse.ArgumentTypeError(f"expected HH:MM-HH:MM in UTC, such as 22:00-04:30, got {text!r}")
    return text


def broker_of(args: argparse.Namespace) -> "Broker":
    """The broker they name. Raises ConfigError."""
    from edge.errors import ConfigError
    from edge.mqtt.settings import Broker, read_secret

    host, _, port = args.mqtt.rpartition(":")
    if not host or not port.isdigit():
        raise ConfigError(f"--mqtt: expected HOST:PORT, such as broker:1883, got {args.mqtt!r}")
    password = read_secret("mqtt.password", args.password_file).decode() if args.password_file else ""
    tls = bool(args.ca or args.cert)
    return Broker(
        host.strip("[]"),
        int(port),
        user=args.user,
        password=password,
        tls=tls,
        ca=args.ca,
        cert=args.cert,
        key=args.cert_key,
    )
