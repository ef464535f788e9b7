"""Aravis and its fake GigE Vision camera: a real network peer on loopback that can be started, frozen, killed."""

import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from types import TracebackType

CONTROL_PORT = 3956  # GigE Vision control protocol
FAKE = "arv-fake-gv-camera-0.8"
_SYSTEM_PACKAGES = Path("/usr/lib/python3/dist-packages")


def missing(folder: Path) -> str:
    """Why Aravis cannot be used here, or an empty string; where only the system's Python has the binding, it is borrowed.

    Args:
        folder: scratch: the binding alone is linked there, not all the system's packages.
    """
    if shutil.which(FAKE) is None:
        return f"{FAKE} not found (apt-get install aravis-tools gir1.2-aravis-0.8 python3-gi)"
    lack = borrow_gi(folder)
    if lack:
        return lack
    import gi

    try:
        gi.require_version("Aravis", "0.8")
        with warnings.catch_warnings():
            # Older PyGObject loads by a way that newer Pythons warn of; once loaded it stays.
            warnings.simplefilter("ignore", ImportWarning)
            from gi.repository import Aravis, GLib  # noqa: F401
    except (ValueError, ImportError) as exc:
        return f"{exc} (apt-get install gir1.2-aravis-0.8)"
    return ""


def borrow_gi(folder: Path) -> str:
    """Make `gi` importable, from the system's Python where it is of the same version; why not, or an empty string."""
    try:
        import gi
    except ImportError:
        if not (_SYSTEM_PACKAGES / "gi").is_dir():
            return "no PyGObject (pip install 'onbelt[genicam]', or apt-get install python3-gi)"
        if not (folder / "gi").exists():
            (folder / "gi").symlink_to(_SYSTEM_PACKAGES / "gi")
        sys.path.append(str(folder))
        try:
            import gi  # noqa: F401
        except ImportError as exc:
            return f"the system's PyGObject is of another Python ({exc})"
    return ""


class FakeCamera:
    """A fake camera on 127.0.0.1: one at a time, GigE Vision's port is fixed.

    Args:
        serial: its serial number. lost: per thousand of packets it loses on purpose (its option -r).
    """

    def __init__(self, serial: str = "GV01", lost: int = 0) -> None:
        self.device = f"Aravis-Fake-{serial}"
        self._words = [FAKE, "-i", "127.0.0.1", "-s", serial, *(["-r", str(lost)] if lost else [])]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Plug it in."""
        self._process = subprocess.Popen(self._words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 10.0
        while not self._listens():
            assert self._process.poll() is None, "the fake camera has ended: is its port taken?"
            assert time.monotonic() < until, f"the fake camera does not listen on UDP port {CONTROL_PORT}"
            time.sleep(0.02)

    @staticmethod
    def _listens() -> bool:
        rows = Path("/proc/net/udp").read_text().splitlines()[1:]
        return any(int(row.split()[1].rpartition(":")[2], 16) == CONTROL_PORT for row in rows)

    def freeze(self) -> None:
        """A camera that hangs."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """And goes on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def unplug(self) -> None:
        """Gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(5)
            self._process = None

    def __enter__(self) -> "FakeCamera":
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.unplug()
