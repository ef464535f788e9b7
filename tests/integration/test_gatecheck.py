"""The kit that proves gates: ours holds, and each gate with a broken rule is found out (docs/gatecheck.md has all of both)."""

import json
import threading

import pytest

from edge.cli import main
from edge.gate.kit.probes import PROBES
from edge.gate.kit.setup import opened_kit
from edge.mqtt.connection import Connection
from edge.mqtt.settings import Broker
from edge.wire import topics as channels
from edge.wire.station import BEAT
from tests.support.gate_messages import OTHER_BOOT, make_beat
from tests.support.mutant_gates import MUTANTS, running_gate

pytestmark = pytest.mark.broker
# The rest is run by `make gatecheck`; these stand for one kind of check each and take a second or two.
IN_SHORT = ("any-boot", "any-moment", "last-word", "any-pitch", "deaf-to-silence")


@pytest.mark.parametrize("name", IN_SHORT)
def test_a_gate_with_a_broken_rule_is_found_out(tmp_path, mosquitto, name):
    mutant = MUTANTS[name]
    with running_gate(tmp_path, mosquitto.port, mutant.breaks, min_pitch_ms=45.0) as config, opened_kit(config) as check:
        failed = [finding for finding in check.run(mutant.only) if finding.result == "fail"]
    assert mutant.rule in {finding.rule for finding in failed}, failed


def test_the_reference_holds(tmp_path, mosquitto, capsys):
    with running_gate(tmp_path, mosquitto.port):
        assert main(["gatecheck", "--config", str(tmp_path / "gate.toml"), "--only", "rule 3", "--json"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {one["result"] for one in found} == {"pass"}
    assert len(found) == 1 + sum(probe.rule == 3 for probe in PROBES)


def test_the_reference_holds_where_its_output_is_a_level(tmp_path, mosquitto, capsys):
    with running_gate(tmp_path, mosquitto.port, min_pitch_ms=45.0):
        assert main(["gatecheck", "--config", str(tmp_path / "gate.toml"), "--only", "half a pitch", "--json"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["result"] for one in found] == ["pass", "pass"]


# 1000 counts/s: D at 460 counts or ms, 60 of them for the actuator and a busy machine's loop.
BY_COUNTS = "gate_counts = 520\nwindow_counts = 60\nmax_counts_per_s = 1000.0\nsilence_ms = 300.0\n"


def test_a_gate_that_goes_by_counts_holds_on_a_belt_that_stops_and_falls_silent(tmp_path, mosquitto, capsys):
    with running_gate(tmp_path, mosquitto.port, gate_ms=20_000.0, encoder=BY_COUNTS):
        assert main(["gatecheck", "--config", str(tmp_path / "gate.toml"), "--only", "belt", "--json"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {one["result"] for one in found} == {"pass"}
    assert len([one for one in found if "belt" in one["name"]]) == 2


def test_a_gate_that_opens_on_a_belt_at_rest_is_found_out(tmp_path, mosquitto, monkeypatch):
    monkeypatch.setattr("edge.gate.kit.run.TRIES", 1)

    def by_time(process, gate):
        gate._encoder.reaches = lambda part, now_ns: True
        gate._register.due = lambda now_ns, position: (
            slot for slot in gate._register.pending() if now_ns >= slot.trigger_ns + 460_000_000
        )

    with (
        running_gate(tmp_path, mosquitto.port, by_time, gate_ms=20_000.0, encoder=BY_COUNTS) as config,
        opened_kit(config) as check,
    ):
        failed = [finding for finding in check.run("the belt stops") if finding.result == "fail"]
    assert [finding.rule for finding in failed] == [4]


def test_a_gate_that_makes_its_own_parts_is_checked_by_its_acks(tmp_path, mosquitto, capsys):
    """--trigger-command: the gate counts from where it stands, and what is not seen is skipped and said so."""
    with running_gate(tmp_path, mosquitto.port) as config:
        pulse = tmp_path / "pulse.sh"
        # Hundredths of a second of the machine's uptime: CLOCK_MONOTONIC, rounded down, without starting an interpreter per part.
        pulse.write_text(
            "read up _ < /proc/uptime\n"
            'printf \'{"sch":"onbelt.trigger/1","count":%d,"mono_us":%d}\' $((ONBELT_PART + 5000)) ${up/./}0000 '
            f"> /dev/udp/{config.line.listen.replace(':', '/')}\n"
        )
        command = f"bash {pulse}"
        words = ["gatecheck", "--config", str(tmp_path / "gate.toml"), "--trigger-command", command, "--only", "rule 9"]
        assert main([*words, "--json"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert found[0]["result"] == "pass"
    assert {one["result"] for one in found if one["rule"] == 9} == {"skip"}


def test_a_gate_that_does_not_answer_is_one_failure_with_its_cause(tmp_path, mosquitto, capsys):
    with running_gate(tmp_path, mosquitto.port, commissioning_parts=1000), pytest.MonkeyPatch.context() as patch:
        patch.setattr("edge.gate.kit.run.ARM_MARGIN", -990)
        assert main(["gatecheck", "--config", str(tmp_path / "gate.toml")]) == 3
    assert "commissioning: 1000 parts are measured first" in capsys.readouterr().out


def test_a_living_station_is_not_spoken_over(tmp_path, mosquitto, capsys):
    with running_gate(tmp_path, mosquitto.port) as config:
        other = Connection(Broker("127.0.0.1", mosquitto.port), "real-station")
        other.start()
        topic = config.topics().topic(channels.BEAT)
        ended = threading.Event()

        def beat():
            n = 0
            while not ended.wait(0.05):
                n += 1
                other.publish(topic, BEAT.encode(make_beat(n, OTHER_BOOT)), qos=0)

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            assert main(["gatecheck", "--config", str(tmp_path / "gate.toml")]) == 2
        finally:
            ended.set()
            thread.join(2)
            other.close(0.2)
    assert "stop it first" in capsys.readouterr().err
