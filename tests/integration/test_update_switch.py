"""The daemon takes another model while parts run: no trigger missed, nothing late, every verdict in the name of its model.

Here 10 parts a second, and a part displaced by a newer one is no failure, since the machine that runs the tests may be busy;
`make update-switch` runs 30 a second and forgives nothing.
"""

import os

import pytest

from edge.bundle.reader import open_bundle
from edge.daemon.daemon import Daemon
from edge.daemon.stages import inference
from edge.update.files import point
from edge.wire.verdict import references
from tests.support.bundles import make_tiny_bundle
from tests.support.rig import Ear, Line, TestCamera, is_bad, until
from tests.support.station import station_config

pytestmark = pytest.mark.broker
STRICT = "ONBELT_SWITCH_RATE" in os.environ
RATE_HZ = float(os.environ.get("ONBELT_SWITCH_RATE", "10"))


class Station:
    """A daemon in this process whose bundle is a link, as an updater leaves it."""

    def __init__(self, folder, port):
        self.folder = folder
        self.refs = {}
        _, self.trust, trust_folder = make_tiny_bundle(folder / "bundle")
        self.link = folder / "current"
        self.put(1)
        config = station_config(
            folder,
            model={"bundle": str(self.link), "trust": [str(trust_folder)], "threads": 1, "engine": "onnxruntime"},
            mqtt={"port": port},
        )
        self.ear = Ear(port)
        self.daemon = Daemon(config, open_bundle(self.link, self.trust), camera=TestCamera())
        self.daemon.start()
        self.line = Line(self.daemon.trigger.address)  # type: ignore[attr-defined]
        assert until(lambda: self.daemon.station.armed, 30)

    def put(self, version, **variant):
        """Let the link point to another model."""
        path, trust, _ = make_tiny_bundle(self.folder / "bundle", version=version, name=f"tiny-{version}", **variant)
        bundle = open_bundle(path, trust)
        self.refs[version] = references(bundle.manifest, bundle.sha256)[0]
        point(self.link, str(path))

    def runs(self, version):
        return until(lambda: self.ear.last("state").get("model") == self.refs[version], 20)

    def close(self):
        self.daemon.stop()
        self.line.close()
        self.ear.close()


@pytest.fixture
def station(tmp_path, mosquitto):
    one = Station(tmp_path, mosquitto.port)
    yield one
    one.close()


@pytest.fixture
def impatient(monkeypatch):
    """Do not wait for a pause in the parts."""
    monkeypatch.setattr(inference, "SWAP_PATIENCE_NS", 0)


def test_a_good_model_under_a_running_belt(station, impatient):
    station.line.parts(30, RATE_HZ)
    station.put(2, limit=0.9)
    during = round(5 * RATE_HZ)  # five seconds: the link is seen, the engine built, and the model taken over meanwhile
    station.line.parts(during, RATE_HZ)
    assert station.runs(2)
    station.line.parts(30, RATE_HZ)
    total = 60 + during
    assert until(lambda: len(station.ear.verdicts()) + len(station.ear.verdicts("verdict-late")) >= total)
    verdicts = station.ear.verdicts()
    late = [one.seq for one in station.ear.verdicts("verdict-late")]
    assert sorted([*(one.seq for one in verdicts), *late]) == list(range(1, total + 1))
    lost = [one.seq for one in verdicts if one.verdict == "invalid"]
    assert not STRICT or (lost, late) == ([], [])
    verdicts = [one for one in verdicts if one.verdict != "invalid"]
    slack_ms = sorted(one.t.slack_ms for one in verdicts)
    said = f"{len(lost)} invalid, {len(late)} late, least slack {slack_ms[0]:.0f} of {verdicts[0].t.valid_ms:g} ms"
    print(f"{total} parts at {RATE_HZ:g}/s: {said}")
    # One boundary: everything before it in the old name, everything after it in the new one.
    models = [one.ctx.model for one in verdicts]
    boundary = models.index(station.refs[2])
    assert models == [station.refs[1]] * boundary + [station.refs[2]] * (len(models) - boundary)
    assert {one.ctx.recipe for one in verdicts} == {"tiny@1", "tiny@2"}
    # And each was judged right by whichever judged it.
    assert [one.verdict for one in verdicts] == ["reject" if is_bad(one.part.trig) else "pass" for one in verdicts]
    # The gate must not honour a token of the other model's check.
    tokens = {model: {one.ctx.check for one in verdicts if one.ctx.model == model} for model in set(models)}
    assert tokens[station.refs[1]].isdisjoint(tokens[station.refs[2]])
    assert station.ear.last("birth")["model"] == station.refs[2]


def test_it_waits_for_a_pause(station):
    """In a pause no part is under way to the gate, so none loses its permit."""
    station.line.parts(10)
    station.put(2)
    station.line.parts(60)
    assert {one.ctx.model for one in station.ear.verdicts()} == {station.refs[1]}
    assert station.runs(2)


@pytest.mark.parametrize("variant", [{"golden_error": 0.01}, {"budget_ms": 0.001}, {"nan_above": 10.0}], ids=str)
def test_a_bad_model_changes_nothing_but_an_alarm(station, impatient, variant):
    station.put(2, **variant)
    assert until(lambda: "the new model is not taken" in station.ear.last("alarm/update").get("text", ""), 20)
    station.line.parts(5, 2.0)
    assert until(lambda: station.ear.verdicts())
    assert {one.ctx.model for one in station.ear.verdicts()} == {station.refs[1]}
    assert station.daemon.station.armed
    station.put(3)
    assert station.runs(3)
    assert until(lambda: station.ear.payloads("alarm/update")[-1] == b"")


def test_a_link_that_points_nowhere_changes_nothing(station, impatient):
    point(station.link, "nowhere.onbelt")
    assert until(lambda: "no such bundle" in station.ear.last("alarm/update").get("text", ""), 20)
    station.line.parts(3, 2.0)
    assert until(lambda: "pass" in [one.verdict for one in station.ear.verdicts()])


def test_back_to_the_first(station, impatient):
    station.put(2)
    assert station.runs(2)
    station.put(1)
    assert station.runs(1)
