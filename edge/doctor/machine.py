"""What the machine is: processor, memory, GPU, clock, and what of the scheduler this user may ask for."""

import os
import resource
from collections.abc import Iterator
from pathlib import Path

from edge.config.station import StationConfig
from edge.doctor.finding import Finding, Status
from edge.engine.machine import this_machine
from edge.system.clocksync import read_clock
from edge.system.realtime import shortfalls


def processor() -> Iterator[Finding]:
    """What the processor does with INT8, its cores, its governor, free memory."""
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


def gpu() -> Iterator[Finding]:
    """A GPU, and whether this user may open it."""
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


def clock() -> Iterator[Finding]:
    """Who sets the wall clock."""
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


def priority() -> Iterator[Finding]:
    """Whether real-time priority may be asked for."""
    limit = resource.getrlimit(resource.RLIMIT_RTPRIO)[0]
    if limit == 0 and os.geteuid() != 0:
        yield Finding(
            "real-time priority", "warn", "not allowed to this user", "LimitRTPRIO=50 in the service, if process.priority is used"
        )
    else:
        yield Finding("real-time priority", "ok", "allowed")


def realtime(config: StationConfig) -> Iterator[Finding]:
    """What the configuration asks of the scheduler, against what is allowed."""
    wanted = config.process
    missing = {one.what: one for one in shortfalls(wanted.priority, wanted.cpus, lock_memory=wanted.lock_memory)}
    yield from (Finding(one.what, "warn", one.found, one.remedy) for one in missing.values())
    if wanted.cpus and "cpus" not in missing:
        yield Finding("cpus", "ok", f"inference on {wanted.cpus}")
    if not wanted.lock_memory:
        yield Finding("memory lock", "ok", "not asked for (process.lock_memory)")
    elif "memory lock" not in missing:
        yield Finding("memory lock", "ok", "allowed")


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
