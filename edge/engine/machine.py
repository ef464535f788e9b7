"""Which machine a figure was measured on: a latency without its machine says nothing."""

import platform
from dataclasses import dataclass
from pathlib import Path

from edge.engine.registry import available_cores

# What decides the speed of INT8 on a CPU, from the flags Linux lists (x86, then Arm).
_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm", "sve")


@dataclass(frozen=True, slots=True)
class Machine:
    """Attributes: cpu: its name. cores: how many this process may use. extensions: the CPU's, as far as INT8 cares."""

    cpu: str
    cores: int
    extensions: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.cpu}, {self.cores} cores, {' '.join(self.extensions) or 'no INT8 extensions'}"


def this_machine(cpuinfo: Path = Path("/proc/cpuinfo")) -> Machine:
    """Describe the machine this process runs on."""
    fields: dict[str, str] = {}
    try:
        for line in cpuinfo.read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            fields.setdefault(name.strip().lower(), value.strip())
    except OSError:
        fields = {}
    flags = set((fields.get("flags") or fields.get("features") or "").split())
    cpu = fields.get("model name") or fields.get("model") or platform.machine()
    return Machine(cpu, available_cores(), tuple(flag for flag in _FLAGS if flag in flags))
