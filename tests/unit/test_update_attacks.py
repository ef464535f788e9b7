"""The attacks on update systems, by the names the literature gives them, against the client the box runs.

Source of the names: Samuel et al., "Survivable key compromise in software update systems", CCS 2010; the TUF specification,
section 1.5.2. The client is driven through the conformance suite's protocol.
"""

import os
import shutil
import subprocess
import sys
import time
import types
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from edge.bundle.signing import generate_key
from edge.errors import UpdateError
from edge.update.client import RepositoryClient
from edge.update.fetch import Fetcher
from edge.update.release import channel_path, model_path
from export.repository import roles
from export.repository.keyring import Keyring
from tests.support.update_site import PRODUCT, SITE, Client, StaticServer, UpdateSite

MODEL_1 = model_path(SITE, PRODUCT, 1)
CHANNEL = channel_path(SITE, PRODUCT, "stable")
ROLE = f"{SITE}~{PRODUCT}"
LONG_AGO = datetime(2020, 1, 1, tzinfo=timezone.utc)


@pytest.fixture
def site(tmp_path):
    return UpdateSite(tmp_path)


@pytest.fixture
def client(tmp_path, site):
    return Client(tmp_path, site)


@pytest.fixture
def server(site):
    one = StaticServer(site.repository.folder)
    yield one
    one.close()


def copy_of(site, name):
    """The repository as it is now, to be served again later."""
    return shutil.copytree(site.repository.folder, site.folder / name)


def serve(site, copy):
    shutil.rmtree(site.repository.folder)
    shutil.copytree(copy, site.repository.folder)


def reason_of(tmp_path, site, name="why"):
    """What the updater itself would report."""
    client = RepositoryClient(tmp_path / name, site.metadata_url, site.root, Fetcher())
    with pytest.raises(UpdateError) as caught:
        client.refresh()
    return caught.value.reason


def target_file(site, path):
    role = site.repository.targets_of(ROLE).signed
    return site.repository.targets / role.targets[path].get_prefixed_paths()[0]


def test_a_good_repository_is_believed(site, client):
    published = site.publish(1)
    assert client.refresh() == 0
    assert client.download(MODEL_1) == 0
    assert [len(content) for content in client.files()] == [published.bytes]
    assert client.version("timestamp") == site.repository.timestamp().signed.version


def test_a_target_that_is_not_listed_is_not_fetched(site, client):
    site.publish(1)
    assert client.download(model_path(SITE, PRODUCT, 2)) == 1
    assert client.files() == []


def test_arbitrary_software_attack(site, client):
    """The server hands out another file of the same length under the model's name."""
    site.publish(1)
    path = target_file(site, MODEL_1)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert client.download(MODEL_1) == 1
    assert client.files() == []


def test_arbitrary_metadata_attack(site, client):
    """The server lists its own target in the site's role, keeping the old signature."""
    site.publish(1)
    version = site.repository.snapshot().signed.meta[f"{ROLE}.json"].version
    path = site.repository.metadata / f"{version}.{ROLE}.json"
    path.write_bytes(path.read_bytes().replace(b'"length": ', b'"length": 1', 1))
    assert client.download(MODEL_1) == 1
    assert client.files() == []


def test_endless_data_attack_on_metadata(tmp_path, site, server):
    server.endless = ("/metadata/timestamp",)
    client = Client(tmp_path, site, metadata_url=f"{server.url}/metadata/")
    begin = time.monotonic()
    assert client.refresh() == 1
    assert time.monotonic() - begin < 5
    assert client.version("timestamp") == 0


def test_endless_data_attack_on_a_target(tmp_path, site, server):
    site.publish(1)
    server.endless = (f"/targets/{SITE}",)
    client = Client(tmp_path, site, metadata_url=f"{server.url}/metadata/", target_url=f"{server.url}/targets/")
    assert client.download(MODEL_1) == 1
    assert client.files() == []


def test_slow_retrieval_attack(tmp_path, site, server):
    """Bytes keep coming, so no socket ever times out; the clock of the whole download does."""
    server.endless, server.trickle_s = ("/metadata/timestamp",), 0.05
    client = RepositoryClient(tmp_path / "slow", f"{server.url}/metadata/", site.root, Fetcher(metadata_s=0.5))
    begin = time.monotonic()
    with pytest.raises(UpdateError) as caught:
        client.refresh()
    assert caught.value.reason == "slow"
    assert time.monotonic() - begin < 5


def test_extraneous_dependencies_attack(site, client):
    """The key of one product lists a target of another; the delegation's paths do not cover it."""
    site.publish(1)
    generate_key(site.key_folder / "other.key")
    site.keys = Keyring([site.key_folder])
    roles.add_key(site.repository, f"{SITE}/other", site.key_folder / "other.key.pub", site.keys)
    stolen = site.repository.targets_of(ROLE).signed.targets[MODEL_1]
    other = site.repository.targets_of(f"{SITE}~other")
    extra = f"{SITE}/{PRODUCT}/extra.onbelt"
    stolen.path = extra
    other.signed.targets[extra] = stolen
    site.repository.write({f"{SITE}~other": other}, site.keys)
    assert client.download(extra) == 1
    assert client.files() == []


def test_fast_forward_attack_is_recovered_by_new_keys(site, client):
    """The online key was stolen and used to sign version 2^31-2: honest updates look like rollbacks until it is replaced."""
    site.edit("timestamp", lambda signed: setattr(signed, "version", 2**31 - 2))
    assert client.refresh() == 0
    assert client.version("timestamp") == 2**31 - 2
    honest = site.repository.timestamp()
    honest.signed.version = 5
    (site.repository.metadata / "timestamp.json").write_bytes(honest.to_bytes())
    site.edit("timestamp", lambda signed: None)
    assert client.refresh() == 1
    # Recovery: rotate the online key, both of its roles, then everything is signed anew from a low version.
    stolen = site.repository.root().signed.roles["timestamp"].keyids[0]
    generate_key(site.key_folder / "online-2.key")
    site.keys = Keyring([site.key_folder])
    for role in ("timestamp", "snapshot"):
        done = roles.add_key(site.repository, role, site.key_folder / "online-2.key.pub", site.keys, remove=stolen)
        assert done is not None
        assert done.published
    assert client.refresh() == 0
    assert client.version("timestamp") < 100
    assert client.version("root") == 3


def test_indefinite_freeze_attack(tmp_path, site, client, monkeypatch):
    """Somebody serves the same, once valid, state for ever. A clock that runs ahead looks the same, and breaks nothing either."""
    site.publish(1)
    assert client.refresh() == 0

    class InThreeDays(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(days=3)

    future = types.SimpleNamespace(datetime=InThreeDays, timezone=timezone)
    monkeypatch.setattr("tuf.ngclient._internal.trusted_metadata_set.datetime", future)
    assert client.refresh() == 1
    assert reason_of(tmp_path, site) == "expired"
    monkeypatch.undo()
    assert client.refresh() == 0  # nothing was broken for good


@pytest.mark.parametrize("role", ["snapshot", "targets"])
def test_freeze_of_an_inner_role(tmp_path, site, client, role):
    versions = {"snapshot": site.repository.timestamp().signed.snapshot_meta.version}
    versions["targets"] = site.repository.snapshot().signed.meta["targets.json"].version
    site.edit(f"{versions[role]}.{role}", lambda signed: setattr(signed, "expires", LONG_AGO))

    def without_hashes(signed):
        for meta in [signed.snapshot_meta] if role == "snapshot" else signed.meta.values():
            meta.length = meta.hashes = None

    # Length and hash of the changed file would be refused first; drop them to reach the expiry.
    site.edit("timestamp" if role == "snapshot" else f"{versions['snapshot']}.snapshot", without_hashes)
    site.edit("timestamp", lambda signed: setattr(signed.snapshot_meta, "hashes", None))
    site.edit("timestamp", lambda signed: setattr(signed.snapshot_meta, "length", None))
    assert client.refresh() == 1
    assert reason_of(tmp_path, site) == "expired"


def test_rollback_attack_on_the_timestamp(tmp_path, site, client):
    site.publish(1)
    old = copy_of(site, "old")
    site.publish(2)
    assert client.refresh() == 0
    seen = client.version("timestamp")
    serve(site, old)
    assert client.refresh() == 1
    assert client.version("timestamp") == seen
    updater = RepositoryClient(client.metadata_dir, site.metadata_url, site.root, Fetcher())
    with pytest.raises(UpdateError) as caught:
        updater.refresh()
    assert caught.value.reason == "rollback"


def test_rollback_attack_with_the_online_key(site, client):
    """A stolen online key cannot take a site's role back to what it was: the client has seen its newer version."""
    site.publish(1)
    old_version = site.repository.snapshot().signed.meta[f"{ROLE}.json"].version
    site.publish(2)
    assert client.refresh() == 0
    snapshot = site.repository.snapshot()
    meta = snapshot.signed.meta[f"{ROLE}.json"]
    meta.version, meta.length, meta.hashes = old_version, None, None
    site.repository._write_snapshot(snapshot, site.keys, site.repository.root().signed)
    assert client.refresh() == 1


def test_mix_and_match_attack(site, client):
    """Newest timestamp and snapshot, but the site's metadata of another day."""
    site.publish(1)
    first = site.repository.snapshot().signed.meta[f"{ROLE}.json"].version
    site.publish(2)
    second = site.repository.snapshot().signed.meta[f"{ROLE}.json"].version
    old = (site.repository.metadata / f"{first}.{ROLE}.json").read_bytes()
    (site.repository.metadata / f"{second}.{ROLE}.json").write_bytes(old)
    assert client.refresh() == 0
    assert client.download(MODEL_1) == 1
    assert client.files() == []


@pytest.mark.parametrize("name", ["timestamp", "snapshot", "targets", ROLE])
def test_wrong_key_attack(site, client, name):
    """Well-formed metadata of every role, signed by a stranger."""
    site.publish(1)
    file = name
    if name != "timestamp":
        version = (
            site.repository.timestamp().signed.snapshot_meta.version
            if name == "snapshot"
            else site.repository.snapshot().signed.meta[f"{name}.json"].version
        )
        file = f"{version}.{name}"
    site.edit(file, lambda signed: None, keys=site.strangers())
    assert client.download(MODEL_1) == 1
    assert client.files() == []


def test_wrong_key_attack_on_the_root(site, client):
    """A root signed by one of the two keys it takes, and by a stranger."""
    root = site.repository.root()
    root.signed.version = 2
    root.signatures.clear()
    for signer in [*list(site.keys._signers.values())[:1], *site.strangers()._signers.values()]:
        root.sign(signer, append=True)
    (site.repository.metadata / "2.root.json").write_bytes(root.to_bytes())
    assert client.refresh() == 1
    assert client.version("root") == 1


def test_half_written_cache_is_fetched_again(site, client):
    """A power cut left every cached file empty or torn: the client recovers without help."""
    site.publish(1)
    assert client.download(MODEL_1) == 0
    for number, path in enumerate(sorted(client.metadata_dir.glob("*.json"))):
        if path.name != "root.json":
            path.write_bytes(path.read_bytes()[: (number % 2) * 100])
    assert client.refresh() == 0
    assert client.download(MODEL_1) == 0


def test_a_damaged_root_cache_costs_nothing(tmp_path, site):
    """The updater gives the installed root at every start, so even an empty root in the cache is repaired."""
    cache = tmp_path / "cache"
    RepositoryClient(cache, site.metadata_url, site.root, Fetcher()).refresh()
    for path in (cache / "root_history").iterdir():
        path.write_bytes(b"")
    RepositoryClient(cache, site.metadata_url, site.root, Fetcher()).refresh()
    kept = list((cache / "root_history").iterdir())
    assert kept
    assert all(path.stat().st_size for path in kept)


def test_a_cut_download_goes_on_where_it_stopped(tmp_path, site, server):
    site.publish(1)
    server.cut_after, server.cuts = 3000, 2
    partial = tmp_path / "partial"
    partial.mkdir()
    url = f"{server.url}/targets/"
    for attempt in range(3):
        client = RepositoryClient(tmp_path / "m", f"{server.url}/metadata/", site.root, Fetcher(partial), target_url=url)
        client.refresh()
        target = client.require(MODEL_1, 2**20)
        if attempt < 2:
            with pytest.raises(UpdateError) as caught:
                client.download(target, tmp_path / "got")
            assert caught.value.reason == "unreachable"
            assert not (tmp_path / "got").exists()
    client.download(target, tmp_path / "got")
    assert [asked for path, asked in server.requests if path.endswith(".onbelt")] == ["", "bytes=3000-", "bytes=6000-"]
    assert list(partial.iterdir()) == []


def test_a_server_without_ranges_sends_the_whole_again(tmp_path, site, server):
    site.publish(1)
    server.cut_after, server.cuts, server.ranges = 3000, 1, False
    client = RepositoryClient(
        tmp_path / "m", f"{server.url}/metadata/", site.root, Fetcher(tmp_path), target_url=f"{server.url}/targets/"
    )
    target = client.require(MODEL_1, 2**20)
    with pytest.raises(UpdateError):
        client.download(target, tmp_path / "got")
    client.download(target, tmp_path / "got")
    target.verify_length_and_hashes((tmp_path / "got").read_bytes())


def test_a_partial_file_of_an_attacker_is_thrown_away(tmp_path, site, server):
    """What lies in the partial folder is not trusted either."""
    site.publish(1)
    server.cut_after, server.cuts = 3000, 1
    partial = tmp_path / "partial"
    partial.mkdir()
    client = RepositoryClient(
        tmp_path / "m", f"{server.url}/metadata/", site.root, Fetcher(partial), target_url=f"{server.url}/targets/"
    )
    target = client.require(MODEL_1, 2**20)
    with pytest.raises(UpdateError):
        client.download(target, tmp_path / "got")
    (part,) = partial.iterdir()
    part.write_bytes(b"evil" * 700)
    with pytest.raises(UpdateError) as caught:
        client.download(target, tmp_path / "got")
    assert caught.value.reason == "mismatch"
    client.download(target, tmp_path / "got")


def test_a_target_larger_than_a_bundle_is_not_even_begun(tmp_path, site):
    published = site.publish(1)
    client = RepositoryClient(tmp_path / "m", site.metadata_url, site.root, Fetcher(), target_url=site.target_url)
    with pytest.raises(UpdateError) as caught:
        client.require(MODEL_1, published.bytes - 1)
    assert caught.value.reason == "too-large"


def test_a_fifo_on_the_stick_does_not_hang_the_box(tmp_path, site):
    (site.repository.metadata / "timestamp.json").unlink()
    os.mkfifo(site.repository.metadata / "timestamp.json")
    assert reason_of(tmp_path, site) == "unreachable"


def test_the_protocol_as_a_process(tmp_path, site):
    """What the conformance suite starts: an executable with exit status 0 or 1."""
    site.publish(1)
    (tmp_path / "root.json").write_bytes(site.root)
    base = [sys.executable, "-m", "edge.update.conformance", "--metadata-dir", str(tmp_path / "md")]

    def client(*words):
        done = subprocess.run(
            [*base, *words], cwd=Path(__file__).resolve().parents[2], capture_output=True, text=True, timeout=60, check=False
        )
        return done.returncode, done.stderr

    assert client("init", str(tmp_path / "root.json")) == (0, "")
    got = tmp_path / "got"
    where = ("--metadata-url", site.metadata_url, "--target-base-url", site.target_url, "--target-dir", str(got))
    assert client(*where, "--target-name", CHANNEL, "download") == (0, "")
    assert len(list(got.iterdir())) == 1
    status, said = client(*where, "--target-name", "nothing", "download")
    assert status == 1
    assert "does not list it" in said
