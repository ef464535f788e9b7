"""Memory kept between the steps of a training, seen in the pages the kernel has to hand out."""

import ctypes
import platform
import subprocess
import sys

import pytest

from training.memory import keep_freed_memory

SCRIPT = """
import resource, sys
import torch
from training.memory import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
torch.ones(10_000_000) + 1
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.ones(10_000_000) + 1
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator is told to keep memory")
def test_freed_memory_is_used_again_without_new_pages():
    faults = {
        how: int(subprocess.run([sys.executable, "-c", SCRIPT, how], check=True, capture_output=True, text=True).stdout)
        for how in ("kept", "returned")
    }
    assert faults["kept"] < 0.3 * faults["returned"], faults


@pytest.mark.parametrize(
    "library", [object(), OSError("no such library"), TypeError("a name is needed")], ids=["no mallopt", "no library", "no name"]
)
def test_another_allocator_is_left_as_it_is(monkeypatch, library):
    """musl and macOS have no mallopt, Windows refuses to open itself."""

    def open_library(_name):
        if isinstance(library, Exception):
            raise library
        return library

    monkeypatch.setattr(ctypes, "CDLL", open_library)
    assert keep_freed_memory() is False
