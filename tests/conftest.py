"""Shared fixtures: an isolated environment for every test, a real mosquitto, the real pictures, and honest skips."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parents[1]
# `tests/support` is test code shared between folders; the tests themselves are no package.
sys.path.insert(0, str(ROOT))


# No example is too slow because the machine is busy: where time matters a test measures it.
settings.register_profile("onbelt", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("onbelt")


def skip_unless(condition: bool, reason: str) -> None:
    """Skip where a machine lacks something, fail where it must not (ONBELT_NO_SKIP=1, as CI sets it)."""
    if condition:
        return
    if os.environ.get("ONBELT_NO_SKIP") == "1":
        pytest.fail(f"nothing may be skipped here, but: {reason}")
    pytest.skip(reason)


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys and caches go to a fresh home: no test sees another's, nor the developer's own."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / ".cache"))
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """One thread of torch for a whole file: bits repeat, and workers side by side do not wait for each other."""
    import torch  # not at the top: the box's tests run without it

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def real_pictures() -> Path:
    """The folder of real pictures, from ONBELT_DATA or ../shared/data."""
    folder = Path(os.environ.get("ONBELT_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "real").is_dir():
        pytest.skip(f"no real pictures: expected {folder}/real; set ONBELT_DATA to their folder")
    return folder


def free_port() -> int:
    """A TCP port on loopback nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, timeout_s: float = 10.0) -> None:
    """Return when somebody accepts connections on a loopback port; TimeoutError otherwise."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        with socket.socket() as probe:
            probe.settimeout(0.2)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise TimeoutError(f"nobody listens on 127.0.0.1:{port} after {timeout_s} s")


class Broker(NamedTuple):
    """A running mosquitto: its address, its process, and how to start it again after a kill."""

    host: str
    port: int
    process: subprocess.Popen[bytes]
    config: Path


def start_mosquitto(folder: Path, port: int | None = None) -> Broker:
    """Start a mosquitto with nothing but one loopback listener; skips (or fails in CI) where there is none."""
    binary = shutil.which("mosquitto") or (Path("/usr/sbin/mosquitto").exists() and "/usr/sbin/mosquitto") or ""
    skip_unless(bool(binary), "mosquitto is not installed (apt-get install mosquitto)")
    port = port or free_port()
    config = folder / f"mosquitto-{port}.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nlog_type error\n")
    process = subprocess.Popen([binary, "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for_port(port)
    except TimeoutError:
        process.kill()
        raise
    return Broker("127.0.0.1", port, process, config)


def stop_process(process: subprocess.Popen[bytes]) -> None:
    """End a process politely, then not."""
    if process.poll() is None:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Broker]:
    """A real mosquitto of this test's own."""
    broker = start_mosquitto(tmp_path)
    yield broker
    stop_process(broker.process)
