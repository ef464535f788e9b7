"""What this box has and lacks, each with its remedy: machine, libraries, clock, disk, keys, and what its station needs.

A finding is "ok", "warn" (it inspects, but something is missing or slower than it could be) or "fail" (it will not inspect).
Libraries are looked up, not imported: a broken GPU library must not take the doctor with it.
"""

import importlib.util
import os
import platform
import resource
import socket
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import msgspec

from edge import __version__
from edge.bundle.signing import default_trust
from edge.daemon import build
from edge.daemon.clocksync import read_clock
from edge.daemon.config import StationConfig
from edge.daemon.configfile import load_config
from edge.engine.machine import this_machine
from edge.errors import OnbeltError
from edge.installation import verify_installation
from edge.mqtt.probe import probe

Status = Literal["ok", "warn", "fail"]

_NEEDED = ("numpy", "msgspec", "paho-mqtt", "pillow", "cryptography")
_ENGINES = ("openvino", "onnxruntime")
_SLOW_COMMIT_MS = 20.0  # half of what is left of a 400 ms deadline once a slow model has had its time


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at: what is so, and what to do about it (empty where nothing needs doing)."""

    name: str
    status: Status
    text: str
    remedy: str = ""


def examine(config: Path | None) -> list[Finding]:
    """Look at everything; a check that fails itself is a finding, not the end."""
    checks: list[Callable[[], Iterator[Finding]]] = [
        _software,
        _installation,
        _engines,
        _processor,
        _gpu,
        _clock,
        _priority,
        _cameras,
    ]
    if config is None:
        checks += [_default_keys, lambda: _disk(Path.cwd() / "journal.db")]
        return [finding for check in checks for finding in _guard(check)]
    findings = [finding for check in checks for finding in _guard(check)]
    try:
        station = load_config(config)
    except OnbeltError as exc:
        return [
            *findings,
            Finding("configuration", "fail", str(exc), "correct the file; docs/examples/station.toml has every key"),
        ]
    findings.append(Finding("configuration", "ok", str(config)))
    for with_station in (_realtime, _model, _secrets, _broker, _ports, _camera_of):
        findings += _guard(lambda check=with_station: check(station))  # type: ignore[misc]
    return [*findings, *_guard(lambda: _disk(Path(station.journal.path)))]


def _guard(check: Callable[[], Iterator[Finding]]) -> list[Finding]:
    try:
        return list(check())
    except OnbeltError as exc:
        return [Finding("check", "fail", str(exc))]
    except OSError as exc:
        return [Finding("check", "warn", f"could not look: {exc}")]


# --- the machine ------------------------------------------------------------------------------------------------------------


def _software() -> Iterator[Finding]:
    found = ", ".join(f"{name} {_version(name) or 'MISSING'}" for name in _NEEDED)
    missing = [name for name in _NEEDED if not _version(name)]
    remedy = f"pip install {' '.join(missing)}" if missing else ""
    yield Finding(
        "onbelt", "ok", f"{__version__} on Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    )
    yield Finding("libraries", "fail" if missing else "ok", found, remedy)


def _installation() -> Iterator[Finding]:
    report = verify_installation()
    if report.faults:
        yield Finding(
            "installation", "fail", "; ".join(report.faults[:3]), "reinstall onbelt in a virtual environment of its own"
        )
    else:
        text = {
            "wheel": "every installed file is the one that was shipped",
            "editable": "a checkout",
            "none": "a folder, not installed",
        }
        yield Finding("installation", "ok", text[report.kind])


def _engines() -> Iterator[Finding]:
    have = [f"{name} {_version(name)}" for name in _ENGINES if _version(name)]
    if not have:
        yield Finding("engines", "fail", "none", "pip install openvino (the fastest on a CPU) or onnxruntime")
    elif not _version("openvino"):
        yield Finding(
            "engines", "warn", ", ".join(have), "pip install openvino: on a CPU its INT8 kernels are several times faster"
        )
    else:
        yield Finding("engines", "ok", ", ".join(have))
    if _version("tensorrt"):
        yield Finding("tensorrt", "ok", f"tensorrt {_version('tensorrt')}, pycuda {_version('pycuda') or 'missing'}")


def _processor() -> Iterator[Finding]:
    machine = this_machine()
    if machine.saturates_int8:
        yield Finding(
            "processor",
            "warn",
            f"{machine}: no VNNI and no AMX: an INT8 product takes three instructions instead of one",
            "it works, slower: onbelt bench tells how slow; processors with VNNI: Intel since 2019, AMD since Zen 4",
        )
    else:
        yield Finding("processor", "ok", f"{machine}: INT8 products in hardware")
    if machine.cores < 2:
        yield Finding(
            "cores", "warn", f"{machine.cores} core", "give the daemon at least two: one for the engine, one for the rest"
        )
    governor = _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    if governor and governor not in {"performance", "schedutil"}:
        yield Finding(
            "governor",
            "warn",
            f"cpufreq governor {governor}",
            "cpupower frequency-set -g performance: first parts after a pause are late",
        )
    memory_mb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES") // 2**20
    status: Status = "ok" if memory_mb >= 512 else "warn"
    yield Finding(
        "memory", status, f"{memory_mb} MB free", "" if status == "ok" else "free some: engine and pictures take about 400 MB"
    )


def _gpu() -> Iterator[Finding]:
    nodes = [node for node in ("/dev/nvidia0", "/dev/nvhost-gpu", "/dev/nvgpu") if Path(node).exists()]
    if not nodes:
        yield Finding("gpu", "ok", "none seen; the CPU engines are used")
    elif not all(os.access(node, os.R_OK | os.W_OK) for node in nodes):
        yield Finding(
            "gpu",
            "warn",
            f"{', '.join(nodes)}: no access",
            "add this user to the group video, or set DeviceAllow= in the service",
        )
    else:
        yield Finding("gpu", "ok", ", ".join(nodes))


def _clock() -> Iterator[Finding]:
    state = read_clock()
    if state.src == "free":
        yield Finding(
            "clock",
            "warn",
            "the wall clock is set by nobody; deadlines do not depend on it, stamps of several machines cannot be compared",
            "timedatectl set-ntp true, or chrony; PTP where stamps must agree to microseconds",
        )
    else:
        yield Finding("clock", "ok", f"set by {state.src}, estimated error {state.unc_us} us")


def _priority() -> Iterator[Finding]:
    limit = resource.getrlimit(resource.RLIMIT_RTPRIO)[0]
    if limit == 0 and os.geteuid() != 0:
        yield Finding(
            "real-time priority", "warn", "not allowed to this user", "LimitRTPRIO=50 in the service, if process.priority is used"
        )
    else:
        yield Finding("real-time priority", "ok", "allowed")


def _realtime(config: StationConfig) -> Iterator[Finding]:
    wanted = config.process
    have = os.sched_getaffinity(0)
    foreign = sorted(set(wanted.cpus) - have)
    if foreign:
        yield Finding(
            "cpus", "warn", f"process.cpus names {foreign}, this process may use {sorted(have)}", "correct process.cpus"
        )
    elif wanted.cpus:
        yield Finding("cpus", "ok", f"inference on {wanted.cpus}")
    locked = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    if not wanted.lock_memory:
        yield Finding("memory lock", "ok", "not asked for (process.lock_memory)")
    elif locked not in {resource.RLIM_INFINITY, -1} and os.geteuid() != 0:
        yield Finding(
            "memory lock", "warn", f"allowed for {locked // 1024} kB, the daemon needs all of its own", "LimitMEMLOCK=infinity"
        )
    else:
        yield Finding("memory lock", "ok", "allowed")
    limit = resource.getrlimit(resource.RLIMIT_RTPRIO)[0]
    if wanted.priority and limit not in {resource.RLIM_INFINITY, -1} and limit < wanted.priority and os.geteuid() != 0:
        yield Finding(
            "priority", "warn", f"process.priority = {wanted.priority}, allowed is {limit}", f"LimitRTPRIO={wanted.priority}"
        )


def _cameras() -> Iterator[Finding]:
    nodes = sorted(str(node) for node in Path("/dev").glob("video*"))
    libraries = [name for name in ("picamera2", "gi") if importlib.util.find_spec(name)]
    text = f"devices: {', '.join(nodes) or 'none'}; libraries: {', '.join(libraries) or 'none'}"
    yield Finding("cameras", "ok", f"{text}; the simulated belt and picture folders need neither")


def _default_keys() -> Iterator[Finding]:
    trust = default_trust()
    if trust.keys:
        yield Finding("trusted keys", "ok", f"{len(trust.keys)} in {', '.join(trust.sources)}")
    else:
        yield Finding("trusted keys", "fail", "none", "put the .pub file of whoever signs models into /etc/onbelt/trusted")


def _disk(journal: Path) -> Iterator[Finding]:
    folder = journal.parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not os.access(folder, os.W_OK):
        yield Finding("disk", "fail", f"{folder} cannot be written", "give this user the folder, or name another in journal.path")
        return
    disk = os.statvfs(folder)
    free_mb = disk.f_bavail * disk.f_frsize // 2**20
    if free_mb < 512:
        yield Finding(
            "disk", "warn", f"{folder}: {free_mb} MB free", "the journal reserves journal.max_mb and 33 MB; free some space"
        )
    else:
        yield Finding("disk", "ok", f"{folder}: {free_mb} MB free")
    took_ms = _commit_ms(folder)
    if took_ms > _SLOW_COMMIT_MS:
        yield Finding(
            "disk speed",
            "warn",
            f"a verdict takes {took_ms:.1f} ms to reach it (median)",
            "use a local SSD; every verdict waits for it",
        )
    else:
        yield Finding("disk speed", "ok", f"a verdict takes {took_ms:.1f} ms to reach it (median)")


def _commit_ms(folder: Path) -> float:
    """Median time of a durable commit of one verdict's size, ms."""
    times = []
    with tempfile.TemporaryDirectory(dir=folder, prefix=".onbelt-doctor-") as name:
        database = sqlite3.connect(Path(name) / "t.db", isolation_level=None)
        try:
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("PRAGMA synchronous=FULL")
            database.execute("CREATE TABLE t (payload BLOB)")
            for _ in range(21):
                begin = time.perf_counter()
                database.execute("INSERT INTO t VALUES (zeroblob(1000))")
                times.append((time.perf_counter() - begin) * 1000)
        finally:
            database.close()
    return sorted(times)[len(times) // 2]


# --- the station ------------------------------------------------------------------------------------------------------------


def _model(config: StationConfig) -> Iterator[Finding]:
    try:
        bundle = build.load_bundle(config)
    except OnbeltError as exc:
        yield Finding("model", "fail", str(exc), "copy the bundle there, and the signer's key into a trust folder")
        return
    manifest = bundle.manifest
    yield Finding(
        "model",
        "ok",
        f"{bundle.path.name}: {manifest.product} version {manifest.version}, {manifest.precision}, key {bundle.key_id[:16]}",
    )
    try:
        with build.make_engine(config, bundle) as engine:
            engine.infer(bundle.picture(bundle.golden[0].picture))
            yield Finding("engine", "ok", f"{engine.name}; onbelt run --check proves and times it")
    except OnbeltError as exc:
        yield Finding("engine", "fail", str(exc), "choose another engine in model.engine, or install it")
    try:
        build.make_identity(config, bundle, "0" * 26, None)
    except OnbeltError as exc:
        yield Finding("names", "fail", str(exc))


def _secrets(config: StationConfig) -> Iterator[Finding]:
    try:
        broker, key = config.broker(), config.mac_key()
    except OnbeltError as exc:
        yield Finding("secrets", "fail", str(exc))
        return
    if config.mqtt.user and not broker.password:
        yield Finding(
            "secrets",
            "warn",
            "mqtt.user without a password",
            "name its file in mqtt.password, or LoadCredential=mqtt.password:...",
        )
    else:
        yield Finding("secrets", "ok", f"password {'there' if broker.password else 'not needed'}, seal {'on' if key else 'off'}")
    if not broker.tls and broker.host not in {"127.0.0.1", "::1", "localhost"}:
        yield Finding(
            "encryption",
            "warn",
            f"{broker} without TLS: anybody on the network can forge a verdict",
            "mqtt.tls = true, or [seal]",
        )


def _broker(config: StationConfig) -> Iterator[Finding]:
    broker = config.broker()
    try:
        protocol = probe(broker, f"onbelt-doctor-{config.station.station}")
    except OnbeltError as exc:
        yield Finding("broker", "fail", str(exc), "start it (apt-get install mosquitto), or correct mqtt.host and mqtt.port")
        return
    yield Finding("broker", "ok", f"{broker}, MQTT {protocol}")


def _ports(config: StationConfig) -> Iterator[Finding]:
    wanted = [("page", socket.SOCK_STREAM, (config.page.host, config.page.port))] if config.page.enabled else []
    if config.trigger.kind == "udp":
        wanted.append(("trigger", socket.SOCK_DGRAM, config.listen_address()))
    for name, kind, address in wanted:
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        with socket.socket(family, kind) as probe_socket:
            if kind == socket.SOCK_STREAM:
                probe_socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe_socket.bind(address)
            except OSError as exc:
                yield Finding(
                    f"{name} port",
                    "warn",
                    f"{address[0]}:{address[1]}: {exc.strerror}",
                    "is the daemon running already? else choose another port",
                )
                continue
        yield Finding(f"{name} port", "ok", f"{address[0]}:{address[1]} is free")


def _camera_of(config: StationConfig) -> Iterator[Finding]:
    try:
        with build.make_camera(config) as camera:
            camera.start()
            yield Finding("camera", "ok", camera.name)
    except OnbeltError as exc:
        yield Finding("camera", "fail", str(exc))


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
