"""Updates where the broker is the only way in: a repository carried as retained chunks over a real mosquitto.

`make update-mqtt` runs these, and the large model too, with its rate.
"""

import argparse
import hashlib
import json
import os
import time

import pytest

from edge.clock import SystemClock
from edge.errors import BrokerError, UpdateError
from edge.mqtt.settings import Broker
from edge.update import carrier as carrying
from edge.update.carrier import AHEAD, Carrier
from edge.wire.carried import CHUNK_BYTES, INDEX, chunk_topic, index_topic
from export.commands import repo
from export.repository import carry as sending
from export.repository.carry import carry
from export.repository.models import withdraw
from tests.support.rig import Ear, until
from tests.support.update_box import Box
from tests.support.update_site import PRODUCT, SITE, UpdateSite
from tests.support.update_station import UpdateStation

pytestmark = pytest.mark.broker
BASE = "onbelt/repo"


class Carriage:
    """A site, a broker its repository is carried to, and a box that has nothing else."""

    def __init__(self, folder, port):
        self.broker = Broker("127.0.0.1", port)
        self.site = UpdateSite(folder / "site")
        self.site.publish(1)
        self.carry()
        self.carrier = Carrier(self.broker, BASE, "box-c")
        self.ear = Ear(port)
        self.box = Box(folder / "box", self.site, carrier=self.carrier)

    def carry(self):
        return carry(self.site.repository, self.broker, BASE, SystemClock())

    def index(self):
        assert until(lambda: any(one.topic == index_topic(BASE) for one in self.ear.messages))
        return INDEX.decode([bytes(one.payload) for one in self.ear.messages if one.topic == index_topic(BASE)][-1])

    def put(self, topic, payload):
        self.ear.client.publish(topic, payload, 1, retain=True).wait_for_publish(5)

    def model(self, version):
        """The carried file of a model."""
        name = f"{PRODUCT}-{version}.onbelt"
        assert until(lambda: any(name in path for path in self.index().files))
        return next(file for path, file in self.index().files.items() if name in path)


@pytest.fixture
def carriage(tmp_path, mosquitto, monkeypatch):
    monkeypatch.setattr(carrying, "SILENCE_S", 1.0)
    monkeypatch.setattr(carrying, "CONNECT_S", 3.0)
    monkeypatch.setattr(sending, "RETAINED_S", 0.3)
    one = Carriage(tmp_path, mosquitto.port)
    yield one
    one.ear.close()


def test_a_box_updates_over_the_broker_alone(carriage):
    assert carriage.box.update().committed.version == 1
    published = carriage.site.publish(2, limit=0.9)
    done = carriage.carry()
    assert carriage.box.update().committed.version == 2
    assert hashlib.sha256(carriage.box.running).hexdigest() == published.sha256
    # Only what is new was sent: the model, the channel, and the metadata that names them.
    assert done.sent < done.files
    assert carriage.carry().sent == 0
    # The root that follows is looked for and is not there: that costs no waiting.
    begin = time.monotonic()
    carriage.box.source.channel("stable")
    assert time.monotonic() - begin < 20 * carrying.SILENCE_S


def test_what_is_withdrawn_leaves_the_broker_one_carrying_later(carriage):
    carriage.site.publish(2)
    carriage.carry()
    model = carriage.model(2)
    carriage.site.promote(1)
    withdraw(carriage.site.repository, SITE, PRODUCT, 2, carriage.site.keys)
    carriage.carry()
    assert until(lambda: model.tag in carriage.index().stale)
    assert model.tag not in {file.tag for file in carriage.index().files.values()}
    carriage.site.publish(3)
    assert carriage.carry().cleared >= 1
    first = chunk_topic(BASE, model.tag, 0)
    assert until(lambda: [one.payload for one in carriage.ear.messages if one.topic == first][-1] == b"")
    assert carriage.box.update().committed.version == 3


def test_a_cut_download_goes_on_with_the_byte_where_it_stopped(carriage):
    carriage.box.update()
    carriage.site.publish(2, work=3)  # a matrix of 1 MB
    carriage.carry()
    model = carriage.model(2)
    assert model.size > 3 * AHEAD * CHUNK_BYTES
    taken = carriage.carrier._take
    left = [AHEAD + 3]

    def cut(message):
        """The network ends in the middle of the second handful."""
        if model.tag in message.topic:
            left[0] -= 1
            if left[0] < 0:
                return
        taken(message)

    carriage.carrier._take = cut
    state = carriage.box.update()
    assert (state.committed.version, state.reason, state.refused) == (1, "slow", ())
    (part,) = carriage.box.store.staging.glob("*.part")
    have = part.stat().st_size
    assert AHEAD * CHUNK_BYTES <= have < model.size
    asked = []

    def watch(message):
        if model.tag in message.topic:
            asked.append(int(message.topic.rpartition("/")[2]))
        taken(message)

    carriage.carrier._take = watch
    assert carriage.box.update().committed.version == 2
    assert min(asked) == have // CHUNK_BYTES


@pytest.mark.parametrize("attack", ["other bytes", "a larger chunk", "a shorter chunk", "no chunk", "longer than listed"])
def test_a_broker_that_lies_brings_nothing_in(carriage, attack):
    carriage.box.update()
    before = carriage.box.running
    carriage.site.publish(2)
    carriage.carry()
    model = carriage.model(2)
    first = chunk_topic(BASE, model.tag, 0)
    content = next(one.payload for one in carriage.ear.messages if one.topic == first)
    if attack == "longer than listed":
        index = carriage.index()
        files = {path: file for path, file in index.files.items() if file.tag != model.tag}
        path = next(path for path, file in index.files.items() if file.tag == model.tag)
        longer = type(model)(model.size + CHUNK_BYTES, model.tag)
        carriage.put(index_topic(BASE), INDEX.encode(type(index)(index.sch, index.at_us, {**files, path: longer}, {})))
    else:
        lie = {
            "other bytes": bytes(len(content)),
            "a larger chunk": content + bytes(CHUNK_BYTES),
            "a shorter chunk": content[:-1],
            "no chunk": b"",
        }
        carriage.put(first, lie[attack])
    state = carriage.box.update()
    assert (state.committed.version, state.refused) == (1, ())
    assert state.reason in {"mismatch", "slow", "unreachable", "too-large"}
    assert carriage.box.running == before
    assert len(carriage.carrier._got) == 0


@pytest.mark.parametrize("payload", [b"", b"{", b"x" * 70_000, b'{"sch":"onbelt.carried/9"}'])
def test_an_index_that_is_none_is_a_repository_that_is_away(carriage, payload):
    carriage.put(index_topic(BASE), payload)
    with pytest.raises(UpdateError) as caught:
        carriage.box.update()
    assert caught.value.reason in {"slow", "unreachable"}


def test_an_old_index_played_again_is_a_rollback(carriage):
    old = carriage.index()
    carriage.site.publish(2)
    carriage.carry()
    carriage.box.update()
    carriage.put(index_topic(BASE), INDEX.encode(old))
    with pytest.raises(UpdateError) as caught:
        carriage.box.update()
    assert caught.value.reason in {"rollback", "slow"}
    assert carriage.box.machine.state.committed.version == 2


def test_no_broker_is_a_repository_that_is_away(carriage, mosquitto):
    carriage.box.update()
    mosquitto.process.kill()
    mosquitto.process.wait(5)
    with pytest.raises(UpdateError) as caught:
        carriage.box.update()
    assert caught.value.reason == "unreachable"
    with pytest.raises(BrokerError, match="is the broker running"):
        carry(carriage.site.repository, Broker("127.0.0.1", 9), BASE, SystemClock())


def test_the_command(tmp_path, mosquitto, capsys, monkeypatch):
    """A whole box whose update.toml names nothing but topics; the publisher's part is `onbelt repo carry`."""
    monkeypatch.setattr(sending, "RETAINED_S", 0.3)
    urls = {"metadata_url": f"mqtt:{BASE}/metadata/", "target_url": f"mqtt:{BASE}/targets/"}
    box = UpdateStation(tmp_path, mosquitto.port, **urls)
    try:
        box.site.publish(2)
        parser = argparse.ArgumentParser()
        repo.add_arguments(parser)
        words = ["carry", str(box.site.repository.folder), "--mqtt", f"127.0.0.1:{mosquitto.port}", "--base", BASE, "--json"]
        assert repo.run(parser.parse_args(words)) == 0
        assert json.loads(capsys.readouterr().out)["sent"] > 5
        box.belt()
        box.serve()
        assert box.committed(2), box.reported()
    finally:
        box.close()


@pytest.mark.skipif("ONBELT_CARRY_MB" not in os.environ, reason="make update-mqtt runs it")
@pytest.mark.timeout(600)
def test_a_large_model(carriage, capsys):
    work = int(os.environ["ONBELT_CARRY_MB"])
    carriage.box.update()
    published = carriage.site.publish(2, model=large(work))
    begin = time.monotonic()
    done = carriage.carry()
    sent_s = time.monotonic() - begin
    begin = time.monotonic()
    carriage.box.source.fetch(carriage.box.source.version(2))
    fetched_s = time.monotonic() - begin
    assert hashlib.sha256(carriage.box.store.staged(published.sha256).read_bytes()).hexdigest() == published.sha256
    rate = published.bytes / 2**20
    with capsys.disabled():
        print(f"\n{rate:.0f} MB in {done.sent} chunks: sent in {sent_s:.1f} s, fetched and verified in {fetched_s:.1f} s")


def large(megabytes):
    """A model file of so many megabytes; it need not run to be carried."""
    return os.urandom(megabytes * 2**20)
