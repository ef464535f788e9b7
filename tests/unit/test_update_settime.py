"""A clock that can be told the time: by an operator alone, for one box, once; and metadata that expires by it."""

import msgspec
import pytest

from edge.bundle.signing import TrustStore, generate_key, load_private
from edge.errors import ContractError, UpdateError
from edge.update.client import RepositoryClient
from edge.update.fetch import Fetcher
from edge.update.settime import CHALLENGE_NS, UpdateClock
from edge.update.source import Source
from edge.update.store import ModelStore
from edge.wire.update import DESIRED_SCHEMA, TIME_SCHEMA, Desired, SetTime, open_desired, open_time, sign_desired, sign_time
from tests.support.station import HandClock
from tests.support.update_site import PRODUCT, SITE, UpdateSite

STATION = "onbelt/v1/plant1/hall2/line3/st2"
TRUE_US = 1_800_000_000_000_000
YEAR_US = 31_557_600_000_000


def told(clock, **changes):
    return msgspec.structs.replace(SetTime(TIME_SCHEMA, STATION, clock.challenge, TRUE_US, "me", "0" * 64), **changes)


@pytest.fixture
def clock(tmp_path):
    one = HandClock()
    one.stepped_us = 14 * YEAR_US  # a dead battery
    return UpdateClock(tmp_path / "clock.json", one, STATION, "boot-1")


def again(clock, boot="boot-1"):
    """The updater started anew."""
    return UpdateClock(clock._path, clock._system, STATION, boot)


def test_the_time_that_was_told_goes_on_whatever_the_system_says(clock):
    clock.take(told(clock))
    assert clock.utc_us() == TRUE_US
    clock._system.forward(5000)
    assert clock.utc_us() == TRUE_US + 5_000_000
    clock._system.stepped_us = -40 * YEAR_US
    assert clock.utc_us() == TRUE_US + 5_000_000
    assert again(clock).utc_us() == TRUE_US + 5_000_000


def test_after_a_boot_it_is_the_earliest_the_time_can_be(clock):
    clock.take(told(clock))
    clock._system.stepped_us = -40 * YEAR_US
    assert again(clock, "boot-2").utc_us() == TRUE_US
    clock._system.stepped_us = 14 * YEAR_US
    assert again(clock, "boot-2").utc_us() == clock._system.utc_us()


def test_a_second_time_corrects_a_wrong_first_one(clock):
    clock.take(told(clock, utc_us=TRUE_US + 20 * YEAR_US))
    clock.take(told(clock))
    assert clock.utc_us() == TRUE_US


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"to": "onbelt/v1/plant1/hall2/line3/st3"}, "not-for-us"),
        ({"challenge": "0" * 32}, "stale"),
        ({"challenge": ""}, "stale"),
        ({"utc_us": 0}, "stale"),
        ({"utc_us": 5_000_000_000_000_000}, "stale"),
    ],
)
def test_what_is_not_for_this_box_now_changes_nothing(clock, changes, reason):
    before = clock.utc_us()
    with pytest.raises(UpdateError) as caught:
        clock.take(told(clock, **changes))
    assert (caught.value.reason, clock.utc_us()) == (reason, before)


def test_an_answer_is_good_once(clock):
    said = told(clock)
    clock.take(said)
    with pytest.raises(UpdateError, match="old challenge"):
        clock.take(said)


def test_an_answer_held_back_is_refused(clock):
    said = told(clock)
    clock._system.forward(CHALLENGE_NS / 1e6 + 1)
    with pytest.raises(UpdateError, match="old challenge"):
        clock.take(said)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff" * 100, b'{"schema":2,"utc_us":1,"mono_ns":0,"boot":""}'])
def test_a_damaged_file_is_none(clock, content):
    clock._path.write_bytes(content)
    assert again(clock).utc_us() == clock._system.utc_us()


def test_only_an_operator_tells_the_time(tmp_path, clock):
    (tmp_path / "trusted").mkdir()
    for name in ("operator", "stranger"):
        generate_key(tmp_path / f"{name}.key")
    (tmp_path / "operator.key.pub").rename(tmp_path / "trusted" / "operator.pub")
    trust = TrustStore.from_folders([tmp_path / "trusted"])
    operator, stranger = (load_private(tmp_path / f"{name}.key") for name in ("operator", "stranger"))
    assert open_time(sign_time(told(clock), operator), trust).utc_us == TRUE_US
    with pytest.raises(ContractError, match="not signed by an operator"):
        open_time(sign_time(told(clock), stranger), trust)
    payload = bytearray(sign_time(told(clock), operator))
    payload[60] ^= 1
    with pytest.raises(ContractError):
        open_time(bytes(payload), trust)
    # A signature over one kind of message is none over another.
    desired = sign_desired(Desired(DESIRED_SCHEMA, "a", "b", 1, "follow", "c", 0, [], 1, "me", "0" * 64), operator)
    with pytest.raises(ContractError):
        open_time(desired, trust)
    with pytest.raises(ContractError):
        open_desired(sign_time(told(clock), operator), trust)


@pytest.mark.parametrize("years", [14, -40])
def test_updates_go_on_once_the_time_is_told(tmp_path, years):
    site = UpdateSite(tmp_path / "site")
    site.publish(1)
    (tmp_path / "root.json").write_bytes(site.root)
    system = HandClock()
    true_us = system.utc_us()  # some time in 2026, as the repository's own
    system.stepped_us = years * YEAR_US
    clock = UpdateClock(tmp_path / "clock.json", system, STATION, "boot-1")
    store = ModelStore(tmp_path / "update", reserve_bytes=0)
    source = Source(store, tmp_path / "root.json", site.metadata_url, site.target_url, SITE, PRODUCT, clock=clock)
    if years > 0:
        with pytest.raises(UpdateError) as caught:
            source.channel("stable")
        assert caught.value.reason == "expired"
    clock.take(told(clock, utc_us=true_us))
    assert source.channel("stable").version == 1


def test_the_client_asks_for_the_time_where_we_tell_it(tmp_path):
    """ngclient keeps it in a private place: a release that moves it must be noticed here."""
    from datetime import datetime, timezone

    site = UpdateSite(tmp_path / "site")
    later = datetime(2060, 1, 1, tzinfo=timezone.utc)
    client = RepositoryClient(tmp_path / "metadata", site.metadata_url, site.root, Fetcher(), now=later)
    with pytest.raises(UpdateError) as caught:
        client.refresh()
    assert caught.value.reason == "expired"
