"""Counters for OEE, their message and their metrics, and what Home Assistant is told."""

import msgspec
import pytest

from edge.daemon.state.oee import IDLE_S, Oee
from edge.daemon.state.phase import Station
from edge.daemon.talk.homeassistant import discovery
from edge.page.live import LiveView
from edge.page.metrics import metrics_text
from edge.wire import station as wire
from edge.wire import topics
from edge.wire.station import Check
from edge.wire.topics import Topics
from tests.support.desk import BOOT, WHO
from tests.support.station import HandClock

NAMES = Topics("plant", "hall", "line3", "st2")


@pytest.fixture
def clock():
    return HandClock()


@pytest.fixture
def station(clock):
    return Station(clock)


def arm(station, clock):
    station.warming()
    station.checked(Check("chk-1", clock.utc_us(), clock.utc_us() + 10**12, 1), 10**9)


def run(oee, clock, seconds, verdicts):
    for _ in range(round(seconds)):
        clock.forward(1000)
        oee.look(verdicts(), clock.monotonic_ns())


def test_time_is_down_before_it_is_armed_then_idle_then_running(station, clock):
    oee, made = Oee(station), {"pass": 0, "reject": 0, "invalid": 0}
    oee.look(made, clock.monotonic_ns())
    run(oee, clock, 10, lambda: dict(made))
    assert (oee.total.down_s, oee.total.idle_s, oee.total.running_s) == (10.0, 0.0, 0.0)
    arm(station, clock)
    run(oee, clock, 5, lambda: dict(made))
    assert oee.total.idle_s == 5.0

    def parts():
        made["pass"] += 3
        made["reject"] += 1
        return dict(made)

    run(oee, clock, 60, parts)
    assert oee.total.running_s == 60.0
    run(oee, clock, 2 * IDLE_S, lambda: dict(made))
    assert oee.total.running_s == 60.0 + IDLE_S
    assert oee.total.idle_s == 5.0 + IDLE_S
    assert (oee.total.good, oee.total.bad) == (180, 60)


def test_the_last_hour_forgets_what_was_before(station, clock):
    arm(station, clock)
    oee, made = Oee(station), {"pass": 0}

    def one():
        made["pass"] += 1
        return dict(made)

    run(oee, clock, 2 * 3600, one)
    assert oee.total.good == 7200
    assert 3540 <= oee.hour().good <= 3720
    assert len(oee._minutes) <= 61


def test_the_message_and_the_metrics_carry_it():
    stats = wire.Stats(wire.STATS_SCHEMA, "st2", BOOT, "hour", 3, 1, 0, 0, 60.0, 5.0, 10.0, 10**15)
    assert wire.STATS.decode(wire.STATS.encode(stats)) == stats
    view = LiveView()
    assert "onbelt_station_seconds_total" not in metrics_text(view)
    view.seconds = {"running": 60.0, "idle": 5.0, "down": 10.0}
    assert 'onbelt_station_seconds_total{doing="down"} 10' in metrics_text(view)


def test_home_assistant_reads_what_the_station_publishes():
    jinja2 = pytest.importorskip("jinja2", reason="comes with torch")
    topic, payload = discovery(NAMES, WHO, "http://box:8080/")
    assert topic == "homeassistant/device/onbelt-line3-st2/config"
    told = msgspec.json.decode(payload)
    assert told["availability"][0]["topic"] == NAMES.topic(topics.STATUS)
    values = {
        NAMES.topic(topics.STATE): {"armed": True, "phase": "RUNNING", "reasons": []},
        NAMES.topic(topics.HEALTH): {"verdicts": {"pass": 7, "reject": 2}, "disk_free_mb": 900},
        NAMES.topic(topics.STATS, "hour"): {"good": 7, "bad": 2, "invalid": 0, "down_s": 12.5},
        NAMES.topic(topics.CAMERA_STATE, WHO.camera): {"state": "online"},
    }
    shown = {}
    for name, entity in told["components"].items():
        template = jinja2.Environment(autoescape=False).from_string(entity["value_template"])
        shown[name] = template.render(value_json=values[entity["state_topic"]])
        assert entity["platform"] in {"sensor", "binary_sensor"}
    assert shown == {
        "armed": "ON",
        "phase": "RUNNING",
        "reason": "all well",
        "good": "7",
        "bad": "2",
        "invalid": "0",
        "down": "12.5",
        "rate": "9",
        "disk": "900",
        "camera": "ON",
    }
    assert len({entity["unique_id"] for entity in told["components"].values()}) == len(shown)
