"""What the conformance suite of the TUF project asks of a client's metadata, case by case, against the box's own client.

The suite (theupdateframework/tuf-conformance) runs any executable with its protocol. These are its cases built anew, with a
repository of our own over real HTTP, so that they run wherever our tests run. The client's entry point is called in this process;
`test_update_attacks.py` calls it as a process once.
"""

import json

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import MetaFile

from tests.support.tuf_site import LATER, ROOT, SNAPSHOT, TARGETS, TIMESTAMP, TOP, in_days, live_in

FIRST = [(ROOT, 2), (TIMESTAMP, None), (SNAPSHOT, 1), (TARGETS, 1)]


# --- the workflow ---------------------------------------------------------------------------------------------------------


def test_refresh_asks_in_the_specified_order(site, client):
    assert client.refresh() == 0
    assert site.asked == FIRST


def test_refresh_trusts_what_is_served(site, client):
    assert client.refresh() == 0
    assert {role: client.content(role) for role in TOP} == {role: site.versions[role][-1] for role in TOP}


def test_download_refreshes_first(site, client):
    assert client.download("nothing of this name") == 1
    assert site.asked == FIRST
    assert client.trusts() == dict.fromkeys(TOP, 1)


@pytest.mark.parametrize("fault", ["no version", "another signature", "no signature", "no JSON", "empty"])
def test_a_bad_initial_root_ends_before_the_first_request(site, client, fault):
    document = json.loads(site.versions[ROOT][0])
    if fault == "no version":
        del document["signed"]["version"]
    elif fault == "another signature":
        document["signatures"][0]["sig"] = "ab" * 64
    else:
        document["signatures"] = []
    content = {"no JSON": b"{", "empty": b""}.get(fault, json.dumps(document).encode())
    client.init(content)
    assert client.refresh() == 1
    assert site.asked == []


@pytest.mark.parametrize(
    ("role", "trusted"),
    [
        (ROOT, {ROOT: 1}),
        (TIMESTAMP, {ROOT: 2}),
        (SNAPSHOT, {ROOT: 2, TIMESTAMP: 2}),
        (TARGETS, {ROOT: 2, TIMESTAMP: 2, SNAPSHOT: 2}),
    ],
)
def test_an_unsigned_role_ends_the_refresh_there(site, client, role, trusted):
    site.signers[role].clear()
    site.publish(ROOT, *LATER)
    assert client.refresh() == 1
    assert client.trusts() == trusted


@pytest.mark.parametrize(
    ("role", "trusted"),
    [(ROOT, {ROOT: 1}), (SNAPSHOT, {ROOT: 2, TIMESTAMP: 2}), (TARGETS, {ROOT: 2, TIMESTAMP: 2, SNAPSHOT: 2})],
)
def test_a_file_with_another_version_than_its_name_is_refused(site, client, role, trusted):
    site.publish(ROOT, *LATER)
    site.replace(role, lambda document: document["signed"].update(version=3))
    assert client.refresh() == 1
    assert client.trusts() == trusted


def test_a_timestamp_that_changes_within_its_version_is_not_taken(site, client):
    assert client.refresh() == 0
    site.signed[TIMESTAMP].snapshot_meta = MetaFile(100)
    site.put(TIMESTAMP)
    assert client.refresh() == 0
    assert site.asked[-1] == (TIMESTAMP, None)
    assert json.loads(client.content(TIMESTAMP))["signed"]["meta"]["snapshot.json"]["version"] == 1


def test_hashes_of_metadata_are_checked(site, client):
    site.meta_hashes = True
    site.publish(*LATER)
    assert client.refresh() == 0
    site.publish(TARGETS)
    site.signed[SNAPSHOT].version += 1
    site.signed[SNAPSHOT].meta["targets.json"] = MetaFile(3, hashes={"sha256": "46" * 32})
    site.put(SNAPSHOT)
    site.publish(TIMESTAMP)
    assert client.refresh() == 1
    assert (client.version(SNAPSHOT), client.version(TARGETS)) == (3, 2)


def test_metadata_is_kept_byte_for_byte(site, client):
    site.versions[TIMESTAMP][-1] += b" "
    assert client.refresh() == 0
    assert client.content(TIMESTAMP) == site.versions[TIMESTAMP][-1]


def test_unknown_fields_belong_to_what_is_signed(site, client):
    assert client.refresh() == 0
    root = site.signed[ROOT]
    root.unrecognized_fields["custom"] = "value"
    root.roles[ROOT].unrecognized_fields["other"] = "value"
    signer = CryptoSigner.generate_ed25519()
    signer.public_key.unrecognized_fields["extra"] = {"a": 1, "b": 2}
    signer.public_key.keyid = "ab" * 32
    site.add_key(ROOT, signer)
    site.publish(ROOT)
    assert client.refresh() == 0
    assert client.version(ROOT) == 2


def test_the_old_field_of_hash_algorithms_means_nothing(site, client):
    site.signed[ROOT].roles[SNAPSHOT].keyids.clear()
    site.signers[SNAPSHOT].clear()
    signer = CryptoSigner.generate_ed25519()
    signer.public_key.unrecognized_fields["keyid_hash_algorithms"] = "md5"
    signer.public_key.keyid = "cd" * 32
    site.add_key(SNAPSHOT, signer)
    site.publish(ROOT, SNAPSHOT, TIMESTAMP)
    assert client.refresh() == 0
    assert (client.version(ROOT), client.version(SNAPSHOT)) == (2, 2)


def test_a_missing_snapshot(site, client):
    assert client.refresh() == 0
    site.signed[TIMESTAMP].version = 2
    site.signed[TIMESTAMP].snapshot_meta = MetaFile(2)
    site.put(TIMESTAMP)
    assert client.refresh() == 1
    assert site.asked[-1] == (SNAPSHOT, 2)
    assert client.trusts() == {ROOT: 1, TIMESTAMP: 2, SNAPSHOT: 1, TARGETS: 1}


def test_missing_targets(site, client):
    assert client.refresh() == 0
    site.signed[SNAPSHOT].version = 2
    site.signed[SNAPSHOT].meta["targets.json"] = MetaFile(2)
    site.put(SNAPSHOT)
    site.publish(TIMESTAMP)
    assert client.refresh() == 1
    assert site.asked[-1] == (TARGETS, 2)
    assert client.trusts() == {ROOT: 1, TIMESTAMP: 2, SNAPSHOT: 2, TARGETS: 1}


def test_a_missing_timestamp(site, client):
    assert client.refresh() == 0
    site.versions[TIMESTAMP].clear()
    assert client.refresh() == 1
    assert site.asked[-1] == (TIMESTAMP, None)


def test_a_snapshot_in_the_timestamps_place(site, client):
    """Signed by the timestamp's key, well-formed as a timestamp, and still a snapshot."""
    site.add_key(SNAPSHOT, site.signers[TIMESTAMP][0])
    site.signed[SNAPSHOT].meta = {"snapshot.json": MetaFile(1)}
    site.signed[SNAPSHOT].version = 2
    site.put(SNAPSHOT)
    site.publish(ROOT)
    site.versions[TIMESTAMP].append(site.versions[SNAPSHOT].pop())
    assert client.refresh() == 1
    assert client.trusts() == {ROOT: 2}


# --- rollback and fast forward --------------------------------------------------------------------------------------------


def test_a_snapshot_that_goes_back_under_the_same_timestamp(site, client):
    site.publish(SNAPSHOT, TIMESTAMP)
    assert client.refresh() == 0
    site.signed[SNAPSHOT].version = 1
    site.put(SNAPSHOT)
    assert client.refresh() == 0  # it has the snapshot the timestamp names and asks for no other
    assert client.version(SNAPSHOT) == 2
    assert site.asked[-1] == (TIMESTAMP, None)


def test_a_timestamp_that_goes_back(site, client):
    site.publish(TIMESTAMP)
    assert client.refresh() == 0
    site.signed[TIMESTAMP].version = 1
    site.put(TIMESTAMP)
    assert client.refresh() == 1
    assert client.version(TIMESTAMP) == 2
    assert site.asked[-1] == (TIMESTAMP, None)


@pytest.mark.parametrize("hashes", [False, True])
def test_a_snapshot_that_goes_back_with_its_timestamp(site, client, hashes):
    site.meta_hashes = hashes
    site.publish(SNAPSHOT, TIMESTAMP)
    assert client.refresh() == 0
    site.signed[SNAPSHOT].version = 1
    site.put(SNAPSHOT)
    site.publish(TIMESTAMP)
    assert client.refresh() == 1
    assert (client.version(TIMESTAMP), client.version(SNAPSHOT)) == (2, 2)
    assert site.asked[-1] == (TIMESTAMP, None)


@pytest.mark.parametrize("hashes", [False, True])
def test_targets_that_go_back(site, client, hashes):
    site.meta_hashes = hashes
    site.publish(TARGETS)
    site.publish(*LATER)
    assert client.refresh() == 0
    assert client.version(TARGETS) == 3
    site.signed[TARGETS].version = 2
    site.put(TARGETS)
    site.publish(SNAPSHOT, TIMESTAMP)
    assert client.refresh() == 1
    assert client.version(TARGETS) == 3


def test_a_snapshot_that_forgets_targets(site, client):
    """A role that was listed may not disappear."""
    site.delegate(TARGETS, "site")
    site.publish("site", *LATER)
    assert client.download("nothing") == 1
    assert client.version("site") == 1
    del site.signed["site"]
    del site.signed[SNAPSHOT].meta["site.json"]
    site.publish(*LATER)
    assert client.refresh() == 1
    assert client.version(SNAPSHOT) == 2


def test_targets_recover_from_a_fast_forward(site, client):
    site.versions[TARGETS] *= 100
    site.signed[TARGETS].version = 100
    site.publish(TARGETS, bump=False)
    site.versions[TARGETS].pop(0)
    site.publish(SNAPSHOT, TIMESTAMP)
    assert client.refresh() == 0
    assert client.version(TARGETS) == 100
    site.new_keys(SNAPSHOT)
    site.signed[TARGETS].version = 1
    del site.versions[TARGETS]
    site.publish(*LATER, ROOT)
    assert client.refresh() == 0
    assert client.version(TARGETS) == 1


def test_a_snapshot_recovers_from_a_fast_forward(site, client):
    site.signed[SNAPSHOT].version = 200
    site.versions[SNAPSHOT] *= 199
    site.publish(SNAPSHOT, bump=False)
    site.publish(TIMESTAMP)
    assert client.refresh() == 0
    assert client.version(SNAPSHOT) == 200
    site.new_keys(SNAPSHOT)
    site.new_keys(TIMESTAMP)
    site.signed[SNAPSHOT].version = 1
    del site.versions[SNAPSHOT]
    site.publish(SNAPSHOT, TIMESTAMP, ROOT)
    assert client.refresh() == 0
    assert client.version(SNAPSHOT) == 1


def test_a_timestamp_recovers_from_a_fast_forward(site, client):
    site.signed[TIMESTAMP].version = 99_999
    site.publish(TIMESTAMP)
    assert client.refresh() == 0
    assert client.version(TIMESTAMP) == 100_000
    site.new_keys(TIMESTAMP)
    site.signed[TIMESTAMP].version = 1
    site.put(TIMESTAMP)
    site.publish(ROOT)
    assert client.refresh() == 0
    assert client.version(TIMESTAMP) == 1


# --- expiry ---------------------------------------------------------------------------------------------------------------


def test_an_expired_root_is_kept_and_ends_the_refresh(site, client):
    site.publish(ROOT)
    assert client.refresh() == 0
    site.signed[ROOT].expires = in_days(-1)
    site.publish(ROOT, *LATER)
    assert client.refresh() == 1
    assert client.trusts() == {ROOT: 3, TIMESTAMP: 1, SNAPSHOT: 1, TARGETS: 1}


@pytest.mark.parametrize(
    ("role", "trusted"),
    [
        (TIMESTAMP, {ROOT: 1, TIMESTAMP: 1, SNAPSHOT: 1, TARGETS: 1}),
        (SNAPSHOT, {ROOT: 1, TIMESTAMP: 2, SNAPSHOT: 1, TARGETS: 1}),
        (TARGETS, {ROOT: 1, TIMESTAMP: 2, SNAPSHOT: 2, TARGETS: 1}),
    ],
)
def test_an_expired_role_is_not_taken(site, client, role, trusted):
    assert client.refresh() == 0
    site.signed[role].expires = in_days(-5)
    site.publish(*LATER)
    assert client.refresh() == 1
    assert client.trusts() == trusted


@pytest.mark.parametrize("role", TOP)
def test_what_has_expired_in_the_cache_is_replaced(site, client, monkeypatch, role):
    """On day 0 the role lasts until day 7; on day 18 a version that lasts until day 30 is served."""
    site.signed[role].expires = in_days(7)
    site.publish(*LATER, ROOT)
    assert client.refresh() == 0
    site.signed[role].expires = in_days(30)
    site.publish(*LATER, ROOT)
    live_in(monkeypatch, 18)
    assert client.refresh() == 0
    assert client.trusts() == dict.fromkeys(TOP, 3)


@pytest.mark.parametrize("role", TOP)
def test_what_has_expired_in_the_cache_is_not_used(site, client, monkeypatch, role):
    site.signed[role].expires = in_days(7)
    site.publish(*LATER, ROOT)
    assert client.refresh() == 0
    live_in(monkeypatch, 8)
    assert client.refresh() == 1
