"""Priority, processors and memory: what is asked for is done, what is refused is said and is no error."""

import logging
import os
import resource
import subprocess
import sys

from edge.system.realtime import prepare_cpus, prepare_thread, shortfalls

LOCK = """
from edge.system.realtime import lock_memory
print(repr(lock_memory()))
print([line for line in open("/proc/self/status") if line.startswith("VmLck")][0].split()[1])
"""


def test_memory_is_locked_where_that_is_allowed_and_else_said():
    """In a process of its own: locked memory would stay with the tests."""
    done = subprocess.run([sys.executable, "-c", LOCK], capture_output=True, text=True, timeout=120, check=True)
    refused, kilobytes = done.stdout.splitlines()
    if os.geteuid() == 0:
        assert refused == "''"
    assert (refused == "''") == (int(kilobytes) > 0)


def test_processors_are_taken_and_others_refused_in_words(caplog):
    before = os.sched_getaffinity(0)
    try:
        prepare_cpus([min(before)])
        assert os.sched_getaffinity(0) == {min(before)}
        with caplog.at_level(logging.WARNING):
            prepare_cpus([5000])
        assert "process.cpus = [5000] refused" in caplog.text
        prepare_cpus([])
        assert os.sched_getaffinity(0) == {min(before)}
    finally:
        os.sched_setaffinity(0, before)


def test_a_priority_beyond_the_limit_is_said(caplog):
    with caplog.at_level(logging.WARNING):
        prepare_thread(500)
    assert "real-time priority 500 refused" in caplog.text


def test_what_would_be_refused_is_known_before_it_is_tried(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    allowed = {resource.RLIMIT_RTPRIO: 10, resource.RLIMIT_MEMLOCK: 8 * 2**20}
    monkeypatch.setattr(resource, "getrlimit", lambda which: (allowed[which], allowed[which]))
    assert list(shortfalls(10, [], lock_memory=False)) == []
    priority, memory = list(shortfalls(11, [min(os.sched_getaffinity(0))], lock_memory=True))[::-1]
    assert (priority.what, priority.remedy) == ("priority", "LimitRTPRIO=11")
    assert "allowed is 10" in priority.found
    assert (memory.what, memory.remedy) == ("memory lock", "LimitMEMLOCK=infinity")
    assert "8192 kB" in memory.found
    allowed.update({resource.RLIMIT_RTPRIO: 50, resource.RLIMIT_MEMLOCK: resource.RLIM_INFINITY})
    assert list(shortfalls(49, [], lock_memory=True)) == []
    (cpus,) = shortfalls(0, [5000], lock_memory=False)
    assert "process.cpus names [5000]" in cpus.found
