"""`onbelt repo`: from an empty folder to a published model, rotation with keys in different places, a lost key, withdrawal."""

import argparse
import json
import shutil
from datetime import timedelta

import pytest

from edge.bundle.signing import generate_key
from edge.errors import ConfigError, DataError, OnbeltError, SignatureError, UpdateError
from edge.update.release import decode_channel
from export.commands import repo
from export.repository.keyring import Keyring
from export.repository.models import withdraw
from export.repository.store import LIFETIME, RepositoryFolder
from tests.support.bundles import make_tiny_bundle
from tests.support.update_site import PRODUCT, SITE, Client, UpdateSite

WHAT = f"{SITE}/{PRODUCT}"


def onbelt_repo(*words, capsys):
    parser = argparse.ArgumentParser()
    repo.add_arguments(parser)
    assert repo.run(parser.parse_args([*map(str, words), "--json"])) == 0
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def made(tmp_path, capsys):
    """A repository made by the commands a person types: keys in folders of their own, as on sticks."""
    folder, keys = tmp_path / "repo", tmp_path / "keys"
    onbelt_repo("init", folder, "--keys", keys, capsys=capsys)
    for name in ("root-1", "root-2", "root-3", "targets"):
        (tmp_path / name).mkdir()
        shutil.move(keys / f"{name}.key", tmp_path / name)
    generate_key(tmp_path / "keys" / "publisher.key")
    public = keys / "publisher.key.pub"
    onbelt_repo("add-key", folder, WHAT, public, "--keys", tmp_path / "targets", "--keys", keys, capsys=capsys)
    return tmp_path


def publish(made, version, *words, capsys, **variant):
    bundle, _, trust = make_tiny_bundle(made / "bundle", version=version, **variant)
    arguments = ("publish", made / "repo", bundle, "--site", SITE, "--keys", made / "keys", "--trust", trust, *words)
    return onbelt_repo(*arguments, capsys=capsys)


def test_first_publish_needs_neither_root_nor_targets_key(made, capsys):
    done = publish(made, 1, "--channel", "canary", capsys=capsys)
    assert done["path"] == f"{SITE}/{PRODUCT}/{PRODUCT}-1.onbelt"
    status = onbelt_repo("status", made / "repo", capsys=capsys)
    assert status["products"][WHAT]["channels"] == {"canary": 1}
    assert status["root_threshold"] == "2 of 3"
    assert status["expires_within_12_h"] == []


def test_promote_newer_and_older(made, capsys):
    for version in (1, 2):
        publish(made, version, "--channel", "canary", capsys=capsys)
    keys = ("--keys", made / "keys")
    onbelt_repo("promote", made / "repo", WHAT, 2, "stable", *keys, capsys=capsys)
    back = onbelt_repo("promote", made / "repo", WHAT, 1, "stable", *keys, capsys=capsys)
    assert back["version"] == 1
    status = onbelt_repo("status", made / "repo", capsys=capsys)
    assert status["products"][WHAT]["channels"] == {"canary": 2, "stable": 1}


def test_a_minimum_never_falls(made, capsys):
    for version in (1, 2):
        publish(made, version, capsys=capsys)
    keys = ("--keys", made / "keys")
    onbelt_repo("promote", made / "repo", WHAT, 2, "stable", "--minimum", 2, *keys, capsys=capsys)
    with pytest.raises(ConfigError, match="below the channel's lowest, 2"):
        onbelt_repo("promote", made / "repo", WHAT, 1, "stable", *keys, capsys=capsys)


def test_a_version_is_never_changed(made, capsys):
    publish(made, 1, capsys=capsys)
    publish(made, 1, capsys=capsys)  # the same file again is no harm
    with pytest.raises(ConfigError, match="a version is never changed"):
        publish(made, 1, limit=0.5, capsys=capsys)


def test_a_bundle_of_a_stranger_is_not_published(made, capsys):
    bundle, _, _ = make_tiny_bundle(made / "elsewhere")
    _, _, trust = make_tiny_bundle(made / "bundle")
    with pytest.raises(SignatureError):
        onbelt_repo("publish", made / "repo", bundle, "--site", SITE, "--trust", trust, "--keys", made / "keys", capsys=capsys)


def test_withdraw_what_a_channel_holds_says_what_to_do(made, capsys):
    for version in (1, 2):
        publish(made, version, "--channel", "stable", capsys=capsys)
    keys = ("--keys", made / "keys")
    with pytest.raises(ConfigError, match="first give the channel another version"):
        onbelt_repo("withdraw", made / "repo", WHAT, 2, *keys, capsys=capsys)
    onbelt_repo("promote", made / "repo", WHAT, 1, "stable", *keys, capsys=capsys)
    onbelt_repo("withdraw", made / "repo", WHAT, 2, *keys, capsys=capsys)
    with pytest.raises(DataError, match="listed are tiny-1"):
        onbelt_repo("promote", made / "repo", WHAT, 2, "stable", *keys, capsys=capsys)


def test_a_missing_key_is_named_and_nothing_is_written(made, capsys):
    before = sorted(path.name for path in (made / "repo" / "metadata").iterdir())
    (made / "keys" / "publisher.key").unlink()
    with pytest.raises(ConfigError, match=f"{SITE}~{PRODUCT}: expected 1 of the keys .* found 0 in"):
        publish(made, 1, capsys=capsys)
    assert sorted(path.name for path in (made / "repo" / "metadata").iterdir()) == before


def test_rotation_of_a_publisher_key(tmp_path):
    site = UpdateSite(tmp_path)
    client = Client(tmp_path, site)
    site.publish(1)
    generate_key(site.key_folder / "publisher-2.key")
    lost = site.repository.role(f"{SITE}~{PRODUCT}").keyids[0]
    parser = argparse.ArgumentParser()
    repo.add_arguments(parser)
    public = site.key_folder / "publisher-2.key.pub"
    words = ["add-key", site.repository.folder, WHAT, public, "--remove", lost[:12], "--keys", site.key_folder, "--json"]
    assert repo.run(parser.parse_args(list(map(str, words)))) == 0
    (site.key_folder / "publisher.key").unlink()
    site.keys = Keyring([site.key_folder])
    published = site.publish(2)
    assert client.download(published.path) == 0


def test_root_rotation_with_keys_that_never_meet(made, capsys):
    """One root key is lost. Two sticks, brought one after the other, replace it."""
    (made / "root-4").mkdir()
    generate_key(made / "root-4" / "root-4.key")
    repository = RepositoryFolder(made / "repo")
    lost = next(key for key, name in Keyring([made / "root-3"]).names.items() if name == "root-3")
    add = ("add-key", made / "repo", "root", made / "root-4" / "root-4.key.pub", "--remove", lost)
    first = onbelt_repo(*add, "--keys", made / "root-1", capsys=capsys)
    assert first["in_force"] is False
    assert first["missing"] == {"of_the_old_root_keys": 1, "of_the_new_root_keys": 1}
    assert repository.root().signed.version == 1
    with pytest.raises(ConfigError, match="a root waits for signatures"):
        onbelt_repo(*add, "--keys", made / "root-1", capsys=capsys)
    second = onbelt_repo("sign", made / "repo", "--keys", made / "root-2", capsys=capsys)
    assert second == {"root": 2, "in_force": True}
    assert lost not in repository.root().signed.roles["root"].keyids
    assert not (made / "repo" / "staged-root.json").exists()


def test_one_root_key_alone_changes_nothing(made, capsys):
    generate_key(made / "mine.key")
    add = ("add-key", made / "repo", "timestamp", made / "mine.key.pub", "--keys", made / "root-1")
    assert onbelt_repo(*add, capsys=capsys)["in_force"] is False
    again = onbelt_repo("sign", made / "repo", "--keys", made / "root-1", capsys=capsys)
    assert again["missing"] == {"of_the_old_root_keys": 1, "of_the_new_root_keys": 1}
    assert RepositoryFolder(made / "repo").root().signed.version == 1


def test_snapshot_cron_needs_the_online_key_only(made, capsys):
    publish(made, 1, capsys=capsys)
    (made / "online").mkdir()
    shutil.copy(made / "keys" / "online.key", made / "online")
    repository = RepositoryFolder(made / "repo")
    before = repository.timestamp().signed
    done = onbelt_repo("snapshot-cron", made / "repo", "--keys", made / "online", capsys=capsys)
    assert (done["timestamp"], done["snapshot"]) == (before.version + 1, before.snapshot_meta.version)
    forced = onbelt_repo("snapshot-cron", made / "repo", "--force", "--keys", made / "online", capsys=capsys)
    assert forced["snapshot"] == before.snapshot_meta.version + 1
    assert LIFETIME["timestamp"] <= timedelta(days=2)


def test_a_killed_publish_leaves_the_repository_as_it_was(tmp_path, monkeypatch):
    """Killed before the timestamp: clients see the old state, and the next publish writes over what lies about."""
    site = UpdateSite(tmp_path)
    site.publish(1)
    client = Client(tmp_path, site)

    class KilledError(Exception):
        pass

    def die(*_):
        raise KilledError

    monkeypatch.setattr(RepositoryFolder, "_write_timestamp", die)
    with pytest.raises(KilledError):
        site.publish(2)
    monkeypatch.undo()
    assert client.download(f"{WHAT}/{PRODUCT}-2.onbelt") == 1
    assert client.download(f"{WHAT}/{PRODUCT}-1.onbelt") == 0
    again = site.publish(2, limit=0.5)
    assert client.download(again.path) == 0


def test_two_commands_at_once_are_refused(tmp_path):
    site = UpdateSite(tmp_path)
    with site.repository.locked(), pytest.raises(ConfigError, match="another `onbelt repo` is at work"):
        withdraw(site.repository, SITE, PRODUCT, 1, site.keys)


@pytest.mark.parametrize("content", [b"", b"{}", b"[" * 5000, b'{"schema":1}'], ids=["empty", "object", "deep", "short"])
def test_a_channel_document_that_is_none(content):
    with pytest.raises(UpdateError) as caught:
        decode_channel(content, SITE, PRODUCT, "stable")
    assert caught.value.reason == "malformed"


def test_a_channel_document_for_another_product_is_refused(tmp_path):
    site = UpdateSite(tmp_path)
    site.publish(1)
    role = site.repository.targets_of(f"{SITE}~{PRODUCT}").signed
    content = site.repository.read_target(role.targets[f"{WHAT}/stable.json"])
    with pytest.raises(OnbeltError, match="expected schema, site, product"):
        decode_channel(content, SITE, "other", "stable")


def test_status_without_a_repository(tmp_path):
    parser = argparse.ArgumentParser()
    repo.add_arguments(parser)
    with pytest.raises(DataError, match="make one with: onbelt repo init"):
        repo.run(parser.parse_args(["status", str(tmp_path)]))
