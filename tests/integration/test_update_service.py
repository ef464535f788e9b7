"""A box updates itself over a real broker while its daemon judges: good models stay, bad ones go, and it says why."""

import argparse
import hashlib
import socket
import threading

import pytest

from edge.bundle.signing import generate_key
from edge.clock import SystemClock
from edge.commands import update
from edge.daemon.stages import inference
from edge.errors import BrokerError, ConfigError
from edge.system.notify import Notifier
from edge.update.config import load_update_config
from edge.update.prove import PROVE_SECONDS
from edge.update.reported import report_failed
from edge.update.service import UpdateService
from tests.support.rig import until
from tests.support.update_station import UpdateStation

pytestmark = pytest.mark.broker


@pytest.fixture
def box(request, tmp_path, mosquitto, monkeypatch):
    """A box whose site is the topic's plant, and whose daemon does not wait for a pause; keys of update.toml by parameter."""
    monkeypatch.setattr(inference, "SWAP_PATIENCE_NS", 0)
    one = UpdateStation(tmp_path, mosquitto.port, **getattr(request, "param", {}))
    yield one
    one.close()


def running(box):
    return hashlib.sha256((box.state / "current").read_bytes()).hexdigest()


def test_a_published_model_is_brought_in_under_running_parts(box):
    box.belt()
    box.serve()
    assert box.committed(1)
    published = box.site.publish(2, limit=0.9)
    assert box.committed(2), box.reported()
    assert box.steps()[-7:] == ["idle", "download", "verify", "prove", "switch", "guard", "idle"]
    assert running(box) == published.sha256
    assert box.ear.last("state")["model"] == box.reported()["committed"]["ref"]
    assert any(" parts: 0 rejected" in text for text in box.texts())
    seqs = [one.seq for one in box.ear.verdicts()]
    assert seqs == sorted(set(seqs))


@pytest.mark.parametrize("box", [{"guard_parts": 2000}], indirect=True)
def test_a_model_that_judges_worse_goes_back_by_itself(box):
    """It proves itself: golden frames hold and agree. On live parts it rejects a third of the good ones."""
    box.belt(20.0)
    box.serve()
    assert box.committed(1)
    before = running(box)
    assert until(lambda: box.service.ear._usual.shares().parts > 60, 60)
    box.site.publish(2, limit=0.0338)
    assert box.idle_because("rejects"), box.reported()
    assert running(box) == before
    assert until(lambda: box.ear.last("state").get("model") == box.reported()["committed"]["ref"])
    assert box.reported()["refused"] == ["2 rejects"]
    assert "parts rejected, that is not what was promised or usual" in box.reported()["text"]
    assert box.daemon.station.armed


def test_the_desired_state_drives_it(box):
    box.site.publish(2)
    box.site.publish(3)
    box.belt()
    box.desire(5, "pin", version=2)
    box.serve()
    assert box.committed(2), box.reported()
    assert (box.reported()["serial"], box.reported()["mode"]) == (5, "pin")
    box.desire(6, "pause")
    assert until(lambda: box.reported()["mode"] == "pause")
    # An old message played again, and one by a stranger, change nothing.
    box.desire(5, "pin", version=1)
    assert box.idle_because("stale")
    generate_key(box.folder / "stranger.key")
    box.desire(9, key=box.folder / "stranger.key")
    assert box.idle_because("not-signed-by-operator")
    box.desire(9, site="elsewhere")
    assert box.idle_because("not-for-us")
    assert box.reported()["committed"]["version"] == 2
    box.desire(10)
    assert box.committed(3), box.reported()


class DeadBattery(SystemClock):
    """A clock that woke up fourteen years ahead."""

    def utc_us(self):
        return super().utc_us() + 14 * 31_557_600_000_000


def test_an_operator_tells_a_box_the_time(box, capsys, monkeypatch):
    monkeypatch.setattr(update, "ANSWER_S", 3.0)
    box.service = UpdateService(*load_update_config(box.config), clock=DeadBattery())
    box.site.publish(2)
    box.belt()
    box.serve()
    assert box.idle_because("expired")
    parser = argparse.ArgumentParser()
    update.add_arguments(parser)
    where = ["--station", "onbelt/v1/plant1/hall2/line3/st2", "--mqtt", f"127.0.0.1:{box.port}"]
    generate_key(box.folder / "stranger.key")
    with pytest.raises(BrokerError, match="no answer; does the box trust"):
        update.run(parser.parse_args(["set-time", "--key", str(box.folder / "stranger.key"), *where]))
    assert update.run(parser.parse_args(["set-time", "--key", str(box.folder / "operator.key"), *where])) == 0
    assert "clock is right now" in capsys.readouterr().out
    assert box.committed(2), box.reported()


def test_a_desired_state_for_another_box_is_not_obeyed(box):
    """A broker hands the canary's desired state to everybody."""
    box.serve()
    assert until(lambda: box.reported().get("step") == "idle")
    box.desire(5, "pin", version=1, to="onbelt/v1/plant1/hall2/line3/canary")
    assert box.idle_because("not-for-us")
    box.desire(6, "pin", version=1, to="onbelt/v1/plant1/hall2/line3/st2")
    assert until(lambda: box.reported()["serial"] == 6)


def test_no_switch_while_nobody_could_watch_it(box):
    """The daemon is down: the model is fetched and proved, and waits."""
    box.daemon.stop()
    box.serve()
    box.site.publish(2)
    assert until(lambda: (box.reported().get("step"), box.reported().get("reason")) == ("switch", "silent"), 60)
    box.stop_service()
    box.start_daemon()
    box.service = box.make_service()
    box.belt()
    box.serve()
    assert box.committed(2), box.reported()


def test_a_stopped_updater_takes_up_the_guard_again(box):
    box.service = box.make_service()
    assert box.service.machine.state.text == "installed by hand"  # the state of a first install is read back as it was
    box.serve()
    box.site.publish(2)
    assert until(lambda: box.reported().get("step") == "guard", 60), box.reported()
    for _ in range(4):  # more often than a box may die in a guard
        box.stop_service()
        box.service = box.make_service()
        box.serve()
        assert until(lambda: box.service.ear.connection.connected)
    box.belt()
    assert box.committed(2), box.reported()


def test_the_link_of_a_station_that_names_another_file_is_refused(tmp_path, mosquitto):
    box = UpdateStation(tmp_path, mosquitto.port)
    try:
        text = (tmp_path / "station.toml").read_text()
        (tmp_path / "station.toml").write_text(text.replace("update/current", "other.onbelt"))
        with pytest.raises(ConfigError, match=r"model.bundle: expected .*update/current"):
            box.make_service()
    finally:
        box.close()


class Supervisor:
    """What a service manager hears."""

    def __init__(self, path):
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self.notifier = Notifier(str(path), 2_000_000)
        self.heard: list[str] = []
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self):
        while (said := self._socket.recv(1000).decode()) != "end":
            self.heard.append(said)
        self._socket.close()

    def close(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"end", self._socket.getsockname())
        self._thread.join(5)


@pytest.mark.parametrize("box", [{"poll_s": 3600.0, "guard_s": 3.0}], indirect=True)
def test_its_supervisor_hears_that_it_lives_and_how_long_a_step_may_take(box, tmp_path):
    supervisor = Supervisor(tmp_path / "notify")
    run, box.service.run = box.service.run, lambda: run(supervisor.notifier)
    box.site.publish(2)
    box.belt()
    box.serve()
    assert box.committed(2), box.reported()
    heard = list(supervisor.heard)
    assert [said for said in heard if said.startswith("READY=1")] == ["READY=1\nSTATUS=idle, version 1; installed by hand"]
    longest = [int(said.split()[0].partition("=")[2]) for said in heard if said.startswith("WATCHDOG_USEC=")]
    assert PROVE_SECONDS * 1e6 < sorted(set(longest))[1] < max(longest)
    guard = heard[heard.index(next(said for said in heard if said.startswith("STATUS=guard"))) :]
    assert guard.count("WATCHDOG=1") >= 8, "it watches for 3 s, and looks four times a second"
    seen = len(supervisor.heard)
    assert until(lambda: supervisor.heard[seen:].count("WATCHDOG=1") >= 3, 10), "with nothing to do for an hour"
    box.service.stop()
    assert until(lambda: supervisor.heard[-1] == "STOPPING=1")
    supervisor.close()


def test_an_updater_that_stays_down_has_it_said(box):
    box.serve()
    assert until(lambda: box.reported().get("committed"))
    box.stop_service()
    assert report_failed(*load_update_config(box.config))
    assert until(lambda: box.reported()["reason"] == "updater-failed")
    assert (box.reported()["committed"]["version"], box.reported()["step"]) == (1, "idle")
    assert "journalctl -u onbelt-updater" in box.reported()["text"]
    box.service = box.make_service()
    box.serve()
    assert until(lambda: box.reported()["reason"] != "updater-failed"), "until it runs again"
