"""What is asked of Linux: the boot id, steps of the wall clock, and the service manager."""

import socket
import time

from edge.system.boot import new_boot
from edge.system.clocksync import StepWatch, read_clock
from edge.system.notify import Notifier
from edge.system.thermal import ZONES, temperatures
from tests.support.station import HandClock


def test_boot_is_a_ulid_that_sorts_by_time():
    # The example of the ULID specification: 01ARYZ6S41 is 1469918176385 ms.
    assert new_boot(1469918176385_000, 0) == "01ARYZ6S410000000000000000"
    assert new_boot(1469918176385_000, 2**80 - 1) == "01ARYZ6S41ZZZZZZZZZZZZZZZZ"
    assert new_boot(1_000_000) < new_boot(2_000_000)
    assert len({new_boot(5) for _ in range(100)}) == 100


def test_a_step_of_the_wall_clock_is_seen_and_slewing_is_not():
    clock = HandClock()
    watch = StepWatch(clock)
    assert watch.look() == 0
    clock.forward(1000)
    clock.stepped_us += 500
    assert watch.look() == 0
    clock.stepped_us += 3_600_000_000
    assert watch.look() == 3_600_000_000
    assert watch.look() == 0


def test_the_kernel_is_asked_for_the_clock():
    state = read_clock()
    assert state.src in {"ntp", "free"}
    assert (state.unc_us is None) == (state.src == "free")


def test_notify_speaks_systemds_protocol(tmp_path):
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind(path)
        supervisor.settimeout(2)
        notifier = Notifier(path, 2_000_000)
        notifier.ready("RUNNING")
        assert supervisor.recv(100) == b"READY=1\nSTATUS=RUNNING"
        notifier.alive()
        assert supervisor.recv(100) == b"WATCHDOG=1"
        notifier.patient(900.0)
        assert supervisor.recv(100) == b"WATCHDOG_USEC=900000000\nWATCHDOG=1"
        notifier.patient(0.0)
        assert supervisor.recv(100) == b"WATCHDOG_USEC=2000000\nWATCHDOG=1"
        notifier.stopping()
        assert supervisor.recv(100) == b"STOPPING=1"
        notifier.close()
        notifier.alive()
    Notifier("", 0).ready("nobody listens")


def test_notify_takes_the_watchdog_of_this_process_only(monkeypatch):
    monkeypatch.setenv("WATCHDOG_USEC", "2000000")
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert Notifier.from_environment().watchdog_s == 0
    monkeypatch.delenv("WATCHDOG_PID")
    assert Notifier.from_environment().watchdog_s == 2.0


def test_a_supervisor_that_is_gone_does_no_harm(tmp_path):
    notifier = Notifier(str(tmp_path / "gone"), 1)
    begin = time.monotonic()
    notifier.alive()
    assert time.monotonic() - begin < 1
    notifier.close()


def zones(folder, *found):
    for number, (kind, text) in enumerate(found):
        zone = folder / f"thermal_zone{number}"
        zone.mkdir()
        (zone / "type").write_text(f"{kind}\n")
        if text is not None:
            (zone / "temp").write_text(f"{text}\n")
    return temperatures(folder)


def test_temperatures_are_those_of_the_hottest_zones_that_can_be_read(tmp_path):
    found = zones(
        tmp_path, ("CPU-therm", 61_500), ("GPU-therm", 58_250), ("off", None), ("unknown", -274_000), ("CPU-therm", 40_000)
    )
    assert found == {"CPU-therm": 61.5, "GPU-therm": 58.2}
    assert list(found) == ["CPU-therm", "GPU-therm"]


def test_names_and_number_of_zones_are_bounded(tmp_path):
    found = zones(tmp_path, ('a "quoted" zone with a long name', 50_000), *((f"z{n}", n * 1000) for n in range(20)))
    assert len(found) == ZONES
    assert next(iter(found)) == "a__quoted__zone_with_a_l"


def test_a_machine_without_thermal_zones_has_no_temperature(tmp_path):
    assert temperatures(tmp_path) is None
    assert temperatures(tmp_path / "none") is None
