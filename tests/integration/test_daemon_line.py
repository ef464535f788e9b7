"""The whole daemon against a real broker: verdicts, outages, restarts, faults, and how it starts and ends."""

import json
import socket
import time
from collections import Counter

import pytest

from edge.errors import JournalError
from edge.journal.chain import verify_chain
from edge.journal.reader import Reader
from edge.journal.store import Journal
from edge.wire import station as wire
from tests.conftest import free_port, start_mosquitto, stop_process
from tests.support.bundles import make_tiny_bundle
from tests.support.gate_wires import Proxy
from tests.support.rig import BASE, Ear, Process, Rig, free_udp_port, is_bad, run_once, until

pytestmark = pytest.mark.broker


@pytest.fixture
def ear(mosquitto):
    heard = Ear(mosquitto.port)
    yield heard
    heard.close()


@pytest.fixture
def rigs():
    made: list[Rig] = []
    yield made
    for rig in made:
        rig.stop()


def test_every_trigger_gets_one_right_verdict(tmp_path, mosquitto, ear, rigs):
    rig = Rig(tmp_path, mosquitto.port)
    rigs.append(rig.start())
    rig.parts(60)
    assert until(lambda: len(ear.verdicts()) == 60)
    verdicts = ear.verdicts()
    assert sorted(one.seq for one in verdicts) == list(range(1, 61))
    assert {one.boot for one in verdicts} == {rig.daemon.boot}
    judged = [one for one in verdicts if one.verdict != "invalid"]
    assert len(judged) > 40, Counter(tuple(one.reason) for one in verdicts)
    for one in judged:
        assert one.verdict == ("reject" if is_bad(one.part.trig) else "pass")
        assert one.t.slack_ms > 0
    assert until(lambda: ear.last("beat").get("seq") == 60)
    assert ear.last("beat")["armed"] is True
    assert ear.last("status")["status"] == "online"
    assert ear.last("state")["state"] == "ContinuousExecution"
    assert ear.last("camera/c1/state")["state"] == "online"
    birth = ear.last("birth")
    assert birth["boot"] == rig.daemon.boot
    assert {(one.ctx.model, one.ctx.limit, one.ctx.recipe, one.ctx.check) for one in judged} == {
        (birth["model"], birth["limit"], birth["recipe"], birth["check"]["token"])
    }
    assert rig.stop() < 2.0
    assert until(lambda: ear.last("status").get("status") == "offline")
    assert ear.last("state")["state"] == "Halted"
    with Reader(tmp_path / "journal.db") as reader:
        report = verify_chain(reader)
        assert (report.rows, report.boots) == (60, 1)


def test_beats_come_ten_times_a_second_numbered(tmp_path, mosquitto, ear, rigs):
    rigs.append(Rig(tmp_path, mosquitto.port).start())
    ear.messages.clear()
    time.sleep(3)
    beats = [wire.BEAT.decode(payload) for payload in ear.payloads("beat")]
    assert 20 <= len(beats) <= 40
    assert [one.n for one in beats] == list(range(beats[0].n, beats[0].n + len(beats)))


@pytest.mark.parametrize("fault", ["frozen", "broken", "torn"])
def test_a_camera_fault_gives_no_pass_and_heals(tmp_path, mosquitto, ear, rigs, fault):
    rig = Rig(tmp_path, mosquitto.port)
    rigs.append(rig.start())
    rig.parts(5)
    setattr(rig.camera, fault, True)
    rig.parts(10)
    assert rig.daemon.station.armed is False
    code = {"frozen": "frozen", "broken": "camera", "torn": "incomplete"}[fault]
    assert until(lambda: ear.last("alarm/camera") != {})
    assert until(lambda: ear.last("state")["armed"] is False)
    setattr(rig.camera, fault, False)
    rig.parts(15)
    assert rig.daemon.station.armed
    rig.parts(5)
    assert until(lambda: len(ear.verdicts()) == 35)
    by_part = {one.part.trig: one for one in ear.verdicts()}
    assert all(by_part[part].verdict == "invalid" for part in range(6, 16))
    reasons = Counter(by_part[part].reason[0] for part in range(6, 16))
    assert reasons[code] >= 8, reasons
    assert all(by_part[part].verdict != "invalid" for part in range(33, 36))
    assert until(lambda: ear.payloads("alarm/camera")[-1] == b"")


def test_a_hanging_camera_is_answered_for_in_time_and_starves_the_watchdog(tmp_path, mosquitto, ear, rigs):
    rig = Rig(tmp_path, mosquitto.port)
    rigs.append(rig.start())
    rig.camera.hang.set()
    rig.parts(4, rate_hz=20)
    assert until(lambda: len(ear.verdicts()) == 4)
    assert {one.verdict for one in ear.verdicts()} == {"invalid"}
    assert min(one.t.slack_ms for one in ear.verdicts()) > 0, "answered before the deadline"
    assert until(lambda: rig.daemon.capture.progress.stuck_ms() > 0, 5)
    assert until(lambda: "stuck" in {one.code for one in rig.daemon.station.snapshot().conditions}, 5)
    assert not rig.daemon.station.armed
    assert rig.stop() < 2.0


def test_a_broker_that_is_not_there_at_start(tmp_path, rigs, caplog):
    port = free_port()
    rig = Rig(tmp_path, port)
    rigs.append(rig.start())
    rig.parts(20)
    assert [one.code for one in rig.daemon.station.snapshot().conditions] == ["broker"]
    assert "no connection to 127.0.0.1" in caplog.text
    broker = start_mosquitto(tmp_path)
    heard = Ear(broker.port)  # hears before the station can speak: late verdicts are not retained
    way = Proxy(broker.port, port)
    try:
        assert until(lambda: len(heard.verdicts("verdict-late")) == 20, 20)
        late = heard.verdicts("verdict-late")
        assert [one.seq for one in late] == list(range(1, 21))
        assert all(one.hist is True for one in late)
        assert heard.verdicts() == []
        assert until(lambda: rig.daemon.line.connected)
        rig.parts(5)
        assert until(lambda: len(heard.verdicts()) == 5)
        assert [one.seq for one in heard.verdicts()] == list(range(21, 26))
        assert rig.daemon.station.snapshot().conditions == ()
    finally:
        heard.close()
        way.close()
        stop_process(broker.process)


def test_a_broker_killed_in_service_loses_no_verdict_and_sends_none_stale(tmp_path, rigs):
    broker = start_mosquitto(tmp_path)
    heard = Ear(broker.port)
    rig = Rig(tmp_path, broker.port)
    rigs.append(rig.start())
    second = None
    try:
        rig.parts(15)
        broker.process.kill()
        broker.process.wait(5)
        rig.parts(30)
        second = start_mosquitto(tmp_path, broker.port)
        assert until(lambda: rig.daemon.line.connected and rig.daemon.rest.connected, 15)
        assert until(lambda: rig.daemon.line.connected and heard.client.is_connected(), 15)
        time.sleep(1.5)  # the ear subscribes again
        rig.parts(15)
        with_late = lambda: {one.seq for one in heard.verdicts()} | {one.seq for one in heard.verdicts("verdict-late")}  # noqa: E731
        # What was in flight when the broker died may have reached nobody: it is in the journal, not confirmed, and comes late.
        assert until(lambda: with_late() >= set(range(46, 61)), 20)
        live = heard.verdicts()
        assert [one.seq for one in live] == sorted({one.seq for one in live}), "none twice, none out of order"
        assert not {one.seq for one in live} & set(range(17, 45)), "none of the outage"
        assert until(lambda: rig.daemon.backfill.unsent == 0, 20)
        with Reader(tmp_path / "journal.db") as reader:
            assert verify_chain(reader).rows == 60
            assert until(lambda: reader.count_unsent() == 0, 10)
    finally:
        heard.close()
        if second:
            stop_process(second.process)


def test_after_kill_9_nothing_accepted_is_lost_and_nothing_comes_twice_as_new(tmp_path, mosquitto, ear):
    daemon = Process(tmp_path, mosquitto.port).start()
    line = daemon.line()
    try:
        assert until(lambda: ear.last("beat").get("armed") is True, 40), daemon.log.read_text()
        first_boot = ear.last("birth")["boot"]
        line.parts(40, 40)
        daemon.kill()
        with Reader(tmp_path / "journal.db") as reader:
            report = verify_chain(reader)
        assert report.rows >= 30
        daemon.start()
        assert until(lambda: ear.last("beat").get("armed") is True and ear.last("beat")["boot"] != first_boot, 40)
        line.parts(10)
        answered = lambda: ear.verdicts() + ear.verdicts("verdict-late")  # noqa: E731
        assert until(lambda: len({one.seq for one in answered() if one.boot != first_boot}) == 10)
        code, seconds = daemon.terminate()
        assert code == 0, daemon.log.read_text()
        assert seconds < 2.0
        with Reader(tmp_path / "journal.db") as reader:
            rows = {(row.boot, row.seq) for row in reader.rows(0, 1000)}
            assert verify_chain(reader).boots == 2
        live = [(one.boot, one.seq) for one in ear.verdicts()]
        late = [(one.boot, one.seq) for one in ear.verdicts("verdict-late")]
        assert len(live) == len(set(live)), "none twice as new"
        assert set(live) | set(late) == rows
    finally:
        line.close()
        daemon.kill()


def test_ends_within_two_seconds_with_a_last_word(tmp_path, mosquitto, ear):
    daemon = Process(tmp_path, mosquitto.port).start()
    try:
        assert until(lambda: ear.last("beat").get("armed") is True, 40), daemon.log.read_text()
        code, seconds = daemon.terminate()
        assert (code, seconds < 2.0) == (0, True), daemon.log.read_text()
        assert until(lambda: ear.last("status").get("status") == "offline")
        assert ear.last("status")["why"] == "SIGTERM"
        assert ear.last("state")["state"] == "Halted"
    finally:
        daemon.kill()


def test_the_supervisor_hears_ready_and_is_fed_while_frames_are_finished(tmp_path, mosquitto):
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind(path)
        supervisor.settimeout(40)
        daemon = Process(tmp_path, mosquitto.port).start(NOTIFY_SOCKET=path, WATCHDOG_USEC="2000000")
        try:
            heard: list[str] = []
            while not any(text.startswith("READY=1") for text in heard):
                heard.append(supervisor.recv(4096).decode())
            assert not any(text == "WATCHDOG=1" for text in heard), "not before it is ready"
            supervisor.settimeout(2)
            heard += [supervisor.recv(4096).decode() for _ in range(10)]
            assert heard.count("WATCHDOG=1") >= 8
            daemon.ask_to_end()
            while heard[-1] != "STOPPING=1":
                heard.append(supervisor.recv(4096).decode())
        finally:
            daemon.kill()


def test_rebirth_by_request_and_response(tmp_path, mosquitto, ear, rigs):
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties

    rigs.append(Rig(tmp_path, mosquitto.port).start())
    before = len(ear.payloads("birth"))
    properties = Properties(PacketTypes.PUBLISH)
    properties.ResponseTopic = "onbelt/answers/7"
    properties.CorrelationData = b"question 7"
    command = wire.Command(wire.COMMAND_SCHEMA, "n1", "test", time.time_ns() // 1000 + 5_000_000)
    ear.client.publish(f"{BASE}/cmd/rebirth", wire.COMMAND.encode(command), 1, properties=properties)
    assert until(lambda: any(one.topic == "onbelt/answers/7" for one in ear.messages))
    answer = next(one for one in ear.messages if one.topic == "onbelt/answers/7")
    assert answer.properties.CorrelationData == b"question 7"
    assert json.loads(answer.payload)["ok"] is True
    assert until(lambda: len(ear.payloads("birth")) > before)


def test_a_flood_of_triggers_is_answered_one_by_one(tmp_path, mosquitto, ear, rigs):
    # Eight products take 10 to 20 ms, two parts are 2.5 ms apart. Of two products a fast processor loses eight parts in 400 only.
    rig = Rig(tmp_path, mosquitto.port, model={"work": 8})
    rigs.append(rig.start())
    rig.parts(400, rate_hz=400)
    answered = lambda: len(ear.verdicts()) + rig.daemon.backfill.sent  # noqa: E731
    assert until(lambda: answered() >= 400, 30)
    with Reader(tmp_path / "journal.db") as reader:
        assert sorted(row.seq for row in reader.rows(0, 1000)) == list(range(1, 401))
    counts = rig.daemon.figures
    lost = counts.invalid().get("lost", 0)
    assert lost > 50, f"the newest frame wins, and of 400 parts only {lost} were lost"
    assert counts.verdicts().get("pass", 0) > 5


def test_log_volume_is_bounded_in_a_storm_of_faults(tmp_path, mosquitto, rigs, caplog):
    rig = Rig(tmp_path, mosquitto.port)
    rigs.append(rig.start())
    caplog.clear()
    rig.parts(30)
    rig.camera.broken = True
    rig.parts(100, rate_hz=100)
    rig.camera.broken = False
    rig.parts(30)
    assert sum(len(record.getMessage()) for record in caplog.records if record.levelname != "DEBUG") < 4000


def test_mqtt_3_1_1_carries_everything(tmp_path, mosquitto, ear, rigs):
    rig = Rig(tmp_path, mosquitto.port, mqtt={"protocol": "3.1.1"})
    rigs.append(rig.start())
    rig.parts(5)
    assert until(lambda: len(ear.verdicts()) == 5)
    assert ear.last("birth")["mqtt"] == "3.1.1"


# --- what keeps it from starting ------------------------------------------------------------------------------------------


def assert_one_line(done, code, *words):
    assert done.returncode == code, done.stderr
    lines = [line for line in done.stderr.splitlines() if " INFO " not in line]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("onbelt run: ")
    for word in words:
        assert word in lines[0]


def test_an_unknown_key(tmp_path):
    daemon = Process(tmp_path, free_port())
    daemon.config.write_text(daemon.config.read_text().replace("valid_ms", "valid_msec"))
    assert_one_line(run_once(daemon.config), 2, "unknown key deadline.valid_msec: did you mean deadline.valid_ms?")


def test_a_bundle_that_is_missing(tmp_path):
    daemon = Process(tmp_path, free_port())
    (tmp_path / "bundle" / "tiny.onbelt").unlink()
    assert_one_line(run_once(daemon.config), 3, "no such bundle")


def test_a_bundle_of_a_stranger(tmp_path):
    daemon = Process(tmp_path, free_port())
    make_tiny_bundle(tmp_path / "stranger")
    (tmp_path / "stranger" / "tiny.onbelt").replace(tmp_path / "bundle" / "tiny.onbelt")
    assert_one_line(run_once(daemon.config), 3, "which this box does not trust", "put the signer's .pub file there")


def test_a_page_port_that_is_taken(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        daemon = Process(tmp_path, free_port(), page={"enabled": True, "port": port})
        assert_one_line(run_once(daemon.config), 2, f"port {port} is taken", "another program")


def test_a_trigger_port_that_is_taken(tmp_path):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        daemon = Process(tmp_path, free_port(), trigger={"listen": f"127.0.0.1:{port}"})
        assert_one_line(run_once(daemon.config), 2, f"cannot listen on 127.0.0.1:{port}", "choose another port")


def test_a_camera_that_is_missing(tmp_path):
    daemon = Process(tmp_path, free_port())
    for picture in (tmp_path / "pictures").iterdir():
        picture.unlink()
    assert_one_line(run_once(daemon.config), 1, "found none", "check camera.folder.path")


def test_a_journal_in_use(tmp_path):
    daemon = Process(tmp_path, free_port())
    with Journal(tmp_path / "journal.db", "st2", 4 * 2**20):
        assert_one_line(run_once(daemon.config), 1, "in use by process", "a journal of its own")


def test_check_tries_everything_and_says_so(tmp_path, mosquitto):
    daemon = Process(tmp_path, mosquitto.port)
    done = run_once(daemon.config, "--check")
    assert done.returncode == 0, done.stderr
    for name in ("configuration", "bundle", "engine", "golden frames", "trigger", "journal", "broker"):
        assert any(line.startswith(name) and " ok: " in line for line in done.stdout.splitlines()), name
    assert any(line.startswith("camera ") and "SIMULATED, sees no real part: " in line for line in done.stdout.splitlines())
    stop_process(mosquitto.process)
    done = run_once(daemon.config, "--check", "--json")
    assert done.returncode == 0, "a broker that is missing keeps nothing from starting"
    assert any(line.startswith("broker") and "MISSING" in line for line in json.loads(done.stdout)["checks"])


def test_print_config_prints_what_is_in_force(tmp_path):
    daemon = Process(tmp_path, 1884)
    done = run_once(daemon.config, "--print-config")
    assert done.returncode == 0
    assert "port = 1884  # file; TCP port" in done.stdout
    assert free_udp_port()


def test_start_that_fails_half_way_frees_what_it_took(tmp_path, mosquitto):
    rig = Rig(tmp_path, mosquitto.port)
    rig.camera.broken = True
    with pytest.raises(Exception, match="no device"):
        rig.daemon.start()
    Journal(tmp_path / "journal.db", "st2", 4 * 2**20).close()
    with pytest.raises(JournalError):
        Journal(tmp_path / "journal.db", "other", 4 * 2**20)
