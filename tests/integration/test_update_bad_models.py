"""Scripted bad models against a running line: each is refused by itself with the right reason, and no bad part passes meanwhile.

`make update-bad-models` runs all of them and prints what happened; here is one only live parts can tell, and a good one.
"""

import hashlib
import os
import time

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from edge.camera.base import Frame
from edge.daemon.stages import inference
from edge.update import service
from edge.update.release import CHANNEL_SCHEMA, Channel, channel_path, encode_channel
from export.repository.models import _give
from tests.support import update_station
from tests.support.bundles import bad_frame, good_frame, make_tiny_bundle, tiny_model
from tests.support.rig import TestCamera, is_bad, until
from tests.support.update_site import PRODUCT, SITE
from tests.support.update_station import UpdateStation

pytestmark = pytest.mark.broker
WHICH = os.environ.get("ONBELT_BAD_MODELS", "one")  # one, live or all
RATE_HZ = float(os.environ.get("ONBELT_BAD_MODELS_RATE", "12"))


class MixedCamera(TestCamera):
    """Good parts, every third with a defect; good ones differ in brightness, so that scores spread as real ones do."""

    def grab(self, trigger, timeout_s):
        now = time.monotonic_ns()
        pixels = bad_frame("logical", seed=trigger.count) if is_bad(trigger.count) else good_frame(seed=trigger.count)
        if not is_bad(trigger.count):
            pixels = pixels + np.uint8(trigger.count % 31)  # up to 0.68 of the limit
        return Frame(pixels, trigger.count, now, now, complete=True)


def graph(*, noise=0.0, luck=0.0, sign=1.0):
    """The tiny graph, changed after the fact: `noise` adds up to so much, which follows wildly from the picture."""
    model = tiny_model()
    nodes, last = model.graph.node, model.graph.node[-1]
    plain = last.input[0]
    nodes.remove(last)

    def constant(name, value):
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value, np.float32), name))
        return name

    def node(operator, inputs, output, **attributes):
        nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    if sign != 1.0:  # what is far from good scores low, and the other way round
        plain = node("Sub", [constant("top", 2.0), plain], "inverted")
    if noise:
        mean = node("ReduceMean", ["float"], "mean_of_all", keepdims=0)
        wild = node("Sin", [node("Mul", [mean, constant("large", luck)], "far")], "wild")
        plain = node("Add", [plain, node("Mul", [wild, constant("noise", noise)], "noise_now")], "noisy")
    node("Identity", [plain], "scores")
    onnx.checker.check_model(model)
    return model.SerializeToString()


def scores_of(model):
    """frame -> scores, by the graph itself."""
    session = onnxruntime.InferenceSession(model)
    return lambda frame: [float(one) for one in session.run(["scores"], {"frame": frame[None]})[0]]


def noisy(site, version):
    """Its golden frames hold, since they were recorded from itself; and by bad luck the running model's come out right, too."""
    frames = [good_frame(), bad_frame("structural"), bad_frame("logical")]
    for luck in range(7919, 8919):
        model = graph(noise=1.6, luck=luck)
        if [scores_of(model)(frame)[0] <= 1.0 for frame in frames] == [True, False, False]:
            site.publish(version, model=model, golden_scores=scores_of(model))
            return
    raise AssertionError("no bad luck in a thousand")


def mute_on_live_parts(site, version):
    site.publish(version, nan_above=118.0)


def drifted(site, version):
    """A limit a third too low: golden frames of both models still come out as they did."""
    site.publish(version, limit=0.35)


def inverted(site, version):
    model = graph(sign=-1.0)
    site.publish(version, model=model, golden_scores=scores_of(model))


def slow(site, version):
    site.publish(version, work=20, budget_ms=20.0)


def wrong_product(site, version):
    path, _, _ = make_tiny_bundle(site.folder / "bundle", version=version, product="other", name="other")
    as_it_is(site, version, path.read_bytes())


def unsigned(site, version):
    path, _, _ = make_tiny_bundle(site.folder / f"stranger-{version}", version=version, product=PRODUCT)
    as_it_is(site, version, path.read_bytes())


def too_old(site, version):
    """A channel that asks for no lower than 2**20 and gives less: the publisher's key was misused."""
    site.publish(version, channel="")
    name = f"{SITE}~{PRODUCT}"
    role = site.repository.targets_of(name)
    path = f"{SITE}/{PRODUCT}/{PRODUCT}-{version}.onbelt"
    document = Channel(CHANNEL_SCHEMA, SITE, PRODUCT, "stable", path, version, role.signed.targets[path].hashes["sha256"], 2**20)
    where = channel_path(SITE, PRODUCT, "stable")
    role.signed.targets[where] = site.repository.add_target(where, encode_channel(document))
    site.repository.write({name: role}, site.keys)


BAD = {  # in this order: the highest lowest version is kept for good
    "noisy": (noisy, {"disagrees", "rejects", "passes"}),
    "NaN on live parts": (mute_on_live_parts, {"not-finite"}),
    "drifted limit": (drifted, {"rejects", "disagrees"}),
    "inverted": (inverted, {"disagrees"}),
    "slow": (slow, {"slow-model"}),
    "wrong product": (wrong_product, {"wrong-product"}),
    "unsigned": (unsigned, {"bundle-unsigned"}),
    "too old": (too_old, {"too-old"}),
}
LIVE = ("noisy", "NaN on live parts", "drifted limit")
TRIED = {"one": LIVE[:1], "live": LIVE, "all": tuple(BAD)}[WHICH]


@pytest.fixture
def box(tmp_path, mosquitto, monkeypatch):
    monkeypatch.setattr(inference, "SWAP_PATIENCE_NS", 0)
    monkeypatch.setattr(service, "RETRY_S", 0.2)
    monkeypatch.setattr(update_station, "GoodCamera", MixedCamera)
    one = UpdateStation(tmp_path, mosquitto.port, shadow_parts=60)
    yield one
    one.close()


@pytest.mark.timeout(420 if WHICH == "one" else 900)
def test_bad_models_are_refused_beside_a_running_line(box, capsys):
    box.belt(RATE_HZ)
    box.serve()
    assert box.committed(1)
    first = hashlib.sha256((box.state / "current").read_bytes()).hexdigest()
    rows = []
    for version, name in enumerate(TRIED, 2):
        publish_it, reasons = BAD[name]
        begin, parts = time.monotonic(), len(box.ear.verdicts())
        publish_it(box.site, version)
        assert until(lambda v=version: any(one.startswith(f"{v} ") for one in box.reported().get("refused", [])), 120), (
            name,
            box.reported(),
        )
        why = box.reported()["refused"][-1].removeprefix(f"{version} ")
        rows.append((name, why, time.monotonic() - begin, len(box.ear.verdicts()) - parts, box.reported()["text"]))
        assert why in reasons, (name, box.reported())
        assert hashlib.sha256((box.state / "current").read_bytes()).hexdigest() == first
        assert box.reported()["committed"]["version"] == 1
    reports = sorted((box.state / "reports").glob("*.html"))
    assert len(reports) == len(set(TRIED) & set(LIVE))
    assert all(b"data:image/png;base64," in one.read_bytes() for one in reports)
    verdicts = box.ear.verdicts()
    wrong = [one.seq for one in verdicts if (one.verdict == "pass") == is_bad(one.part.trig) and one.verdict != "invalid"]
    late = [one.seq for one in verdicts if one.t.slack_ms < 0]
    missing = set(range(1, verdicts[-1].seq + 1)) - {one.seq for one in [*verdicts, *box.ear.verdicts("verdict-late")]}
    with capsys.disabled():
        for name, why, seconds, parts, text in rows:
            print(f"\n{name:<18} {why:<16} {seconds:5.1f} s {parts:4} parts  {text[:150]}", end="")
        tap = box.daemon.tap
        print(f"\n{len(verdicts)} parts, {len(wrong)} judged wrong, {len(late)} late, {len(missing)} without a verdict", end="")
        print(f"; {tap.sent} compared, {tap.dropped} not because the shadow was busy")
    assert (wrong, missing) == ([], set())
    assert {one.ctx.model for one in verdicts} == {box.reported()["committed"]["ref"]}
    if WHICH != "all":  # a box that has seen a lowest version of a million takes nothing else any more
        box.site.publish(9, limit=0.95)
        assert box.committed(9, 180.0), box.reported()
        steps = box.steps()
        assert steps[-5:] == ["prove", "shadow", "switch", "guard", "idle"]
        assert any(text.startswith("60 parts beside the running model, 0 judged otherwise") for text in box.texts())


def as_it_is(site, version, content):
    """List these bytes as a model, without the checks `onbelt repo publish` makes."""
    role = site.repository.targets_of(f"{SITE}~{PRODUCT}")
    path = f"{SITE}/{PRODUCT}/{PRODUCT}-{version}.onbelt"
    role.signed.targets[path] = site.repository.add_target(path, content)
    _give(site.repository, role, SITE, PRODUCT, "stable", version, 0)
    site.repository.write({f"{SITE}~{PRODUCT}": role}, site.keys)
