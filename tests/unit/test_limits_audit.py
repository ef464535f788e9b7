"""The record of limits: every change is written once, chained, and what was altered afterwards is found."""

import dataclasses
import json

import msgspec
import pytest

from calibration.parts import GoodParts
from calibration.refit import RefitRequest, refit
from edge.bundle.reader import open_bundle
from edge.bundle.signing import load_private
from edge.cli import main
from edge.errors import JournalError
from edge.limits.apply import with_limit
from edge.limits.audit import GENESIS, read_record, record_in_force
from edge.limits.file import write_limit
from edge.wire.verdict import references
from tests.support.bundles import make_tiny_bundle

BOOT = "01JD8Q7ZK3" + "0" * 16


@pytest.fixture
def shop(tmp_path):
    import numpy as np

    path, trust, _ = make_tiny_bundle(tmp_path)
    bundle = open_bundle(path, trust)
    scores = np.random.default_rng(0).uniform(0.1, 0.9, (60, 4))
    parts = GoodParts("pictures", scores, "0" * 64, 0, 0, "numpy", tuple(map(str, range(60))))
    request = RefitRequest(0.05, 0.9, False, False, "A. Miller", "more parts", 1_795_302_862_000_000)
    signed = write_limit(tmp_path / "a.limit", refit(bundle, None, parts, request).form, load_private(tmp_path / "signing.key"))
    return bundle, with_limit(bundle, signed), tmp_path / "journal.limits"


def note(path, bundle, at_us=1):
    return record_in_force(path, bundle, "st2", BOOT, at_us)


def test_each_change_is_written_once_with_who_approved_it_and_what_was_before(shop):
    own, refitted, path = shop
    assert note(path, own).version == 0
    assert note(path, own, 2) is None, "a restart is no change"
    change = note(path, refitted, 3)
    assert (change.n, change.version, change.approved_by, change.note) == (2, 1, "A. Miller", "more parts")
    assert change.limit == references(refitted.manifest, refitted.sha256)[2] != change.before
    assert change.before == references(own.manifest, own.sha256)[2]
    # The older one put back is a change, too.
    assert note(path, own, 4).n == 3
    record = read_record(path)
    assert [one.version for one in record.changes] == [0, 1, 0]
    assert record.changes[0].prev == GENESIS
    assert path.stat().st_mode & 0o007 == 0


@pytest.mark.parametrize("damage", ["alter", "remove", "swap", "cut", "insert"])
def test_what_was_altered_afterwards_is_found(shop, damage):
    own, refitted, path = shop
    for i in range(4):
        note(path, (own, refitted)[i % 2], i)
    lines = path.read_bytes().splitlines(keepends=True)
    if damage == "alter":
        lines[1] = lines[1].replace(b"A. Miller", b"B. Miller")
    elif damage == "remove":
        del lines[1]
    elif damage == "swap":
        lines[1], lines[2] = lines[2], lines[1]
    elif damage == "insert":
        lines.insert(1, lines[1])
    else:
        lines[-1] = lines[-1][:-20]
    path.write_bytes(b"".join(lines))
    with pytest.raises(JournalError, match="line"):
        read_record(path)
    with pytest.raises(JournalError):
        note(path, own, 9)


def test_a_record_that_cannot_be_written_is_said(shop, tmp_path):
    own, _, _ = shop
    with pytest.raises(JournalError, match="cannot be"):
        note(tmp_path / "no" / "such" / "folder.limits", own)


def test_the_command_checks_and_prints_it(shop, capsys, tmp_path):
    own, refitted, path = shop
    note(path, own, 1_795_302_862_000_000)
    note(path, refitted, 1_795_302_863_000_000)
    words = ["limit", str(tmp_path / "tiny.onbelt"), "--record", str(path)]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "1. 2026-11-2" in out
    assert "version 1, by A. Miller" in out
    assert "2 changes, the chain holds" in out
    assert main([*words, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["changes"]) == 2
    path.write_bytes(path.read_bytes().replace(b'"version":0', b'"version":7'))
    capsys.readouterr()
    assert main(words) == 1
    assert "altered, removed or put in" in capsys.readouterr().err
    assert main(["limit", "x.onbelt", "--record", str(tmp_path / "none.limits")]) == 2


def test_a_limit_that_changed_nothing_but_its_file_is_a_change(shop):
    _, refitted, path = shop
    note(path, refitted)
    assert refitted.limit_file is not None
    other = dataclasses.replace(refitted, limit_file=dataclasses.replace(refitted.limit_file, sha256="f" * 64))
    assert note(path, other).n == 2
    assert msgspec.json.decode(path.read_bytes().splitlines()[1])["file"] == "sha256:" + "f" * 64
