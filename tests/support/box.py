"""A box with a real systemd: a container over this machine's own system, with a station installed in it by the shipped installer.

An overlay on the root file system (nothing outside a tmpfs is written) is booted by systemd-nspawn with a network of its own. The
program is this checkout: its folders and the interpreter are bound in, read-only, under /opt, because the units hide /home and
/tmp. The bundle is the tests' tiny one, the camera a folder of pictures, the trigger a timer, the broker a mosquitto.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from edge.broker.launch import find_mosquitto
from edge.config.file import render
from tests.support.bundles import good_frame, make_tiny_bundle
from tests.support.rig import save
from tests.support.station import station_config

ROOT = Path(__file__).resolve().parents[2]
UNIT = "onbelt.service"
PICTURES = 12
_BOOT_S = 40.0


def missing() -> str:
    """What this machine lacks for it, or an empty string."""
    if os.geteuid() != 0:
        return "a container needs root"
    for tool, package in (("systemd-nspawn", "systemd-container"), ("nsenter", "util-linux"), ("mount", "mount")):
        if shutil.which(tool) is None:
            return f"{tool} not found (apt-get install {package})"
    if not Path("/lib/systemd/systemd").exists():
        return "no systemd on this machine (apt-get install systemd)"
    if not find_mosquitto():
        return "mosquitto is not installed (apt-get install mosquitto)"
    if "overlay" not in Path("/proc/filesystems").read_text():
        return "the kernel has no overlay file system"
    return ""


class BootError(Exception):
    """The container does not come up here."""


class Box:
    """One container.

    Args:
        folder: scratch; a tmpfs is mounted inside it.
    """

    def __init__(self, folder: Path) -> None:
        self._scratch = folder / "box"
        self.root = self._scratch / "root"
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._leader = 0
        self._console = folder / "console.log"

    # --- the container ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Mount, bring the program in, boot. Raises BootError: this machine does not allow it."""
        self._scratch.mkdir()
        self._mount("tmpfs", "tmpfs", self._scratch, "mode=0755")
        for name in ("upper", "work", "root"):
            (self._scratch / name).mkdir()
        layers = f"lowerdir=/,upperdir={self._scratch / 'upper'},workdir={self._scratch / 'work'}"
        self._mount("overlay", "overlay", self.root, layers)
        for wants in (self.root / "etc/systemd/system").glob("*.wants"):
            shutil.rmtree(wants)  # this machine's own services have no business here
        binds = self._program()
        with self._console.open("wb") as log:
            self._nspawn = subprocess.Popen(
                [
                    "systemd-nspawn", "--register=no", "--keep-unit", "--boot", "--console=read-only", "--private-network",
                    "-D", str(self.root), "-M", f"onbelt-box-{os.getpid()}", *binds,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )  # fmt: skip
        if not until(self._booted, _BOOT_S):
            raise BootError(f"the container did not boot: {self._console.read_text(errors='replace')[-300:]}")

    def close(self) -> None:
        """Kill it and unmount everything."""
        if self._nspawn is not None:
            if self._leader:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self._leader, signal.SIGKILL)
            try:
                self._nspawn.wait(10)
            except subprocess.TimeoutExpired:
                self._nspawn.kill()
                self._nspawn.wait(10)
        for mounted in (self.root, self._scratch):
            subprocess.run(["umount", "--lazy", str(mounted)], check=False, capture_output=True)

    def run(self, *words: str, check: bool = False, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        """A command inside."""
        return subprocess.run(
            ["nsenter", "-t", str(self._leader), "-a", "--", *words],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=check,
            env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin", "LC_ALL": "C"},
        )

    # --- the station ------------------------------------------------------------------------------------------------------

    def install(self) -> subprocess.CompletedProcess[str]:
        """The shipped installer, then a configuration as an integrator would write it, and a broker."""
        done = self.run("/opt/onbelt/src/systemd/install.sh")
        source = self._scratch / "station"
        bundle, _, trusted = make_tiny_bundle(source)
        state, etc = self.root / "var/lib/onbelt", self.root / "etc/onbelt"
        shutil.copy(bundle, state / "tiny.onbelt")
        for key in trusted.glob("*.pub"):
            shutil.copy(key, etc / "trusted")
        pictures = state / "pictures"
        pictures.mkdir()
        for number in range(PICTURES):
            save(pictures / f"{number:02}.png", good_frame(seed=number))
        config = station_config(
            Path("/etc/onbelt"),
            model={"bundle": "/var/lib/onbelt/tiny.onbelt", "trust": ["/etc/onbelt/trusted"], "threads": 1},
            camera={"kind": "folder", "folder": {"path": "/var/lib/onbelt/pictures"}},
            trigger={"kind": "timer", "period_ms": 200.0},
            journal={"path": "/var/lib/onbelt/journal.db", "max_mb": 8.0},
            deadline={"valid_ms": 1000.0},
        )
        (etc / "station.toml").write_text(render(config))
        self.run("chown", "-R", "onbelt:onbelt", "/var/lib/onbelt", check=True)
        self.run("systemd-run", "--unit=broker", find_mosquitto(), "-p", "1883", check=True)
        return done

    def drop_in(self, **settings: str) -> None:
        """Other settings of the unit, as an administrator would give them."""
        folder = self.root / f"etc/systemd/system/{UNIT}.d"
        folder.mkdir(exist_ok=True)
        (folder / "test.conf").write_text("[Service]\n" + "".join(f"{key}={value}\n" for key, value in settings.items()))
        self.run("systemctl", "daemon-reload", check=True)

    def show(self, unit: str = UNIT) -> dict[str, str]:
        """ActiveState, SubState, Result, NRestarts, MainPID and StatusText as systemd has them."""
        names = "ActiveState,SubState,Result,NRestarts,MainPID,StatusText"
        lines = self.run("systemctl", "show", unit, "-p", names).stdout.splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def wait_for(
        self, what: Callable[[dict[str, str]], bool], timeout_s: float, unit: str = UNIT
    ) -> tuple[dict[str, str], float]:
        """Look until it holds; the state then, and the seconds it took. Raises TimeoutError."""
        begin = time.monotonic()
        while not what(state := self.show(unit)):
            if time.monotonic() - begin > timeout_s:
                raise TimeoutError(f"after {timeout_s} s: {state}\n{self.journal(unit)[-2000:]}")
            time.sleep(0.02)
        return state, time.monotonic() - begin

    def journal(self, unit: str = UNIT) -> str:
        """What the unit has logged."""
        return self.run("journalctl", "-u", unit, "--no-pager", "-o", "short-monotonic").stdout

    # --- inside -----------------------------------------------------------------------------------------------------------

    def _mount(self, kind: str, source: str, at: Path, options: str) -> None:
        done = subprocess.run(["mount", "-t", kind, "-o", options, source, str(at)], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise BootError(f"cannot mount a {kind} here: {done.stderr.strip()}")

    def _program(self) -> list[str]:
        """The interpreter, its packages and this checkout under /opt; what to bind."""
        base = Path(sys.base_prefix).resolve()
        binds = [(ROOT, "/opt/onbelt/src")]
        python = str(Path(sys.executable).resolve())
        if base != Path("/usr"):
            binds.append((base, "/opt/onbelt/python"))
            python = f"/opt/onbelt/python/{Path(python).relative_to(base)}"
        own = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
        packages = [Path(path) for path in dict.fromkeys(sys.path) if path.endswith("-packages") and path not in own]
        binds += [(path, f"/opt/onbelt/packages{number}") for number, path in enumerate(packages)]
        for _, at in binds:
            (self.root / at.lstrip("/")).mkdir(parents=True, exist_ok=True)
        command = self.root / "opt/onbelt/bin/onbelt"
        command.parent.mkdir(parents=True, exist_ok=True)
        path = ":".join(["/opt/onbelt/src", *(at for _, at in binds if "packages" in at)])
        command.write_text(
            f"#!/bin/sh\nexport PYTHONPATH={path} PYTHONDONTWRITEBYTECODE=1 LD_LIBRARY_PATH=/opt/onbelt/python/lib\n"
            f'exec {python} -m edge.cli "$@"\n'
        )
        command.chmod(0o755)
        return [f"--bind-ro={source}:{at}" for source, at in binds]

    def _booted(self) -> bool:
        assert self._nspawn is not None
        if self._nspawn.poll() is not None:
            raise BootError(f"systemd-nspawn ended: {self._console.read_text(errors='replace')[-300:].strip()}")
        children = Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children").read_text().split()
        if not children:
            return False
        self._leader = int(children[0])
        return self.run("systemctl", "is-system-running").stdout.strip() in {"running", "degraded"}


def until(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Wait for something another process does."""
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


@contextlib.contextmanager
def station_box(folder: Path) -> Iterator[Box]:
    """A box with a station installed, not started. Raises BootError."""
    box = Box(folder)
    try:
        box.start()
        box.install()
        yield box
    finally:
        box.close()


# --- what is done to it, and what must follow -------------------------------------------------------------------------------


def is_ready(state: dict[str, str]) -> bool:
    """The daemon has said READY and runs."""
    return (state["ActiveState"], state["SubState"]) == ("active", "running")


def restarted(before: dict[str, str]) -> Callable[[dict[str, str]], bool]:
    """Ready again, as another process."""
    return lambda state: is_ready(state) and state["MainPID"] != before["MainPID"]


def starts(box: Box) -> float:
    """From `systemctl start` to READY, seconds: engine built, golden frames replayed."""
    begin = time.monotonic()
    done = box.run("systemctl", "start", UNIT, timeout_s=130)
    if done.returncode != 0:
        raise AssertionError(done.stderr + box.journal())
    assert is_ready(box.show())
    return time.monotonic() - begin


def crash(box: Box, number: str = "SEGV") -> float:
    """A crash: seconds until it is ready again."""
    before = box.show()
    box.run("systemctl", "kill", "--kill-who=main", f"--signal={number}", UNIT, check=True)
    state, seconds = box.wait_for(restarted(before), 60)
    assert int(state["NRestarts"]) == int(before["NRestarts"]) + 1
    return seconds


def freeze_capture(box: Box, watchdog_s: float) -> tuple[float, float]:
    """A camera whose driver does not come back: seconds until the watchdog strikes, and from there until it is ready again.

    One picture becomes a FIFO nobody writes to: reading it blocks in the kernel, as a driver does.
    """
    before = box.show()
    picture = "/var/lib/onbelt/pictures/03.png"
    box.run("sh", "-c", f"rm {picture} && mkfifo {picture}", check=True)
    _, to_kill = box.wait_for(lambda state: state["MainPID"] != before["MainPID"], watchdog_s + 20)
    box.run("sh", "-c", f"rm {picture} && cp /var/lib/onbelt/pictures/04.png {picture}", check=True)
    _, to_ready = box.wait_for(restarted(before), 60)
    assert "Watchdog timeout" in box.journal(), box.journal()
    return to_kill, to_ready


def freeze_process(box: Box, watchdog_s: float) -> float:
    """The whole process frozen: seconds until it is ready again."""
    before = box.show()
    box.run("systemctl", "kill", "--kill-who=main", "--signal=STOP", UNIT, check=True)
    _, seconds = box.wait_for(restarted(before), watchdog_s + 60)
    return seconds


def fail_to_start(box: Box) -> float:
    """A configuration that is wrong: seconds until systemd gives up and leaves it down."""
    config = box.root / "etc/onbelt/station.toml"
    good = config.read_text()
    config.write_text(good.replace("valid_ms", "valid_mz"))
    begin = time.monotonic()
    box.run("systemctl", "start", "--no-block", UNIT)
    state, _ = box.wait_for(lambda state: state["ActiveState"] == "failed", 120)
    seconds = time.monotonic() - begin
    assert state["Result"] in {"exit-code", "start-limit-hit"}, state
    assert "did you mean" in box.journal(), "the cause stands in the journal"
    config.write_text(good)
    box.run("systemctl", "reset-failed", UNIT)
    return seconds


def stops(box: Box) -> float:
    """`systemctl stop`, seconds."""
    begin = time.monotonic()
    box.run("systemctl", "stop", UNIT, check=True)
    seconds = time.monotonic() - begin
    state = box.show()
    assert (state["ActiveState"], state["Result"]) == ("inactive", "success"), state
    return seconds
