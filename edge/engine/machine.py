"""Which machine a figure was measured on: a latency without its machine says nothing."""

import os
import platform
from dataclasses import dataclass
from pathlib import Path

# What decides the speed of INT8 on a CPU, from the flags Linux lists (x86, then Arm).
_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm", "sve")
_GPU_NODES = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/nvhost-gpu", "/dev/nvgpu", "/dev/nvmap")  # the last three: Jetson


@dataclass(frozen=True, slots=True)
class Machine:
    """Attributes: cpu: its name. cores: how many this process may use. extensions: the CPU's, as far as INT8 cares."""

    cpu: str
    cores: int
    extensions: tuple[str, ...]

    @property
    def saturates_int8(self) -> bool:
        """Whether its u8 x s8 products add up in 16 bits: x86 without VNNI or AMX.

        There two products of 255 and a weight above 64 do not fit. Arm's dot products add up in 32 bits.
        """
        return "avx2" in self.extensions and not {"avx512_vnni", "avx_vnni", "amx_int8"} & set(self.extensions)

    def __str__(self) -> str:
        return f"{self.cpu}, {self.cores} cores, {' '.join(self.extensions) or 'no INT8 extensions'}"


def available_cores() -> int:
    """Number of CPU cores this process may run on (the affinity mask, not the machine's count)."""
    return len(os.sched_getaffinity(0))


def gpu_node() -> str:
    """The device file of an NVIDIA GPU, "" where the kernel offers none. Says nothing about whether it can be used."""
    return next((node for node in _GPU_NODES if Path(node).exists()), "")


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
