"""Starts a broker on a free loopback port and keeps its process: the embedded one, or the system's mosquitto.

with BrokerProcess(choose("auto"), folder) as broker:
    ...                                   # 127.0.0.1:broker.port
"""

import contextlib
import importlib.util
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from types import TracebackType

from edge.broker import lifeline
from edge.errors import BrokerError

START_S = 10.0
STOP_S = 2.0
MOSQUITTO_PLACES = ("/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto", "/opt/homebrew/sbin/mosquitto")


class BrokerKind(Enum):
    """Which broker."""

    EMBEDDED = "embedded"
    MOSQUITTO = "mosquitto"


def find_mosquitto() -> str:
    """Path of a mosquitto on this machine, or an empty string. Distributions put it where users have no PATH to."""
    found = shutil.which("mosquitto")
    return found or next((place for place in MOSQUITTO_PLACES if Path(place).is_file()), "")


def choose(wanted: str) -> BrokerKind:
    """Pick a broker: the one named, or with "auto" the embedded one, and mosquitto where its wheel is not installed.

    Raises:
        BrokerError: the one named, or any, is not on this machine.
    """
    embedded, mosquitto = importlib.util.find_spec("iotcore") is not None, bool(find_mosquitto())
    if wanted in {"auto", "embedded"} and embedded:
        return BrokerKind.EMBEDDED
    if wanted in {"auto", "mosquitto"} and mosquitto:
        return BrokerKind.MOSQUITTO
    remedy = {
        "embedded": "pip install 'onbelt[demo]'",
        "mosquitto": "apt-get install mosquitto",
    }.get(wanted, "pip install 'onbelt[demo]', or apt-get install mosquitto")
    raise BrokerError(f"no {'broker' if wanted == 'auto' else wanted + ' broker'} on this machine; {remedy}")


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A port of loopback nobody uses at the moment."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class BrokerProcess:
    """A broker on loopback.

    Args:
        kind: which. folder: for mosquitto's configuration and the log. port: 0 takes a free one.

    Raises:
        BrokerError: it did not begin to listen; the text ends with the last line of its log.
    """

    def __init__(self, kind: BrokerKind, folder: Path, port: int = 0) -> None:
        self.kind = kind
        self.port = port or free_port()
        self._folder = folder
        self._log = folder / f"broker-{self.port}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def pid(self) -> int:
        """Process id; 0 while it does not run."""
        return self._process.pid if self._process is not None and self._process.poll() is None else 0

    @property
    def died(self) -> bool:
        """It has ended, and nobody asked it to."""
        return self._process is not None and not self.pid

    def start(self) -> None:
        """Start it, again on the same port after `kill`, and wait until it listens."""
        with contextlib.closing(socket.socket()) as probe:
            if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                raise BrokerError(f"127.0.0.1:{self.port}: somebody listens there already; choose another port")
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._argv(),
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the parent, which ends its children in order
            )
        if not wait_until(self._listens, START_S) or not self.pid:
            self.stop()
            last = self._log.read_text(errors="replace").strip().splitlines()[-1:]
            raise BrokerError(
                f"the {self.kind.value} broker did not listen on 127.0.0.1:{self.port}: {' '.join(last) or 'no word'}"
            )

    def _argv(self) -> list[str]:
        if self.kind is BrokerKind.EMBEDDED:
            return [sys.executable, "-m", "edge.broker.embedded", str(self.port)]
        config = self._folder / f"mosquitto-{self.port}.conf"
        config.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence false\nlog_type error\n")
        return lifeline.command([find_mosquitto(), "-c", str(config)])

    def _listens(self) -> bool:
        if not self.pid:
            return True  # it has ended: waiting longer is of no use
        with contextlib.closing(socket.socket()) as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        """End it without a word, as a power cut would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it; may be called twice."""
        self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        end_process(self._process, how, STOP_S)
        self._process = None

    def __enter__(self) -> "BrokerProcess":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()


def end_process(process: subprocess.Popen[bytes], how: signal.Signals, patience_s: float) -> int:
    """Signal a process (thawing it first, or it would not hear), wait, and kill it when the patience is over."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(how)
            process.send_signal(signal.SIGCONT)
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    return process.returncode


def wait_until(true: Callable[[], bool], timeout_s: float, pause_s: float = 0.02) -> bool:
    """Ask again and again until it holds or the time is over."""
    end = time.monotonic() + timeout_s
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(pause_s)
    return True
