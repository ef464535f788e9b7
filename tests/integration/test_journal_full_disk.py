"""A full disk: the journal has its room reserved and goes on while everybody else fails to write."""

import contextlib
import os
import subprocess

import numpy as np
import pytest

from edge.errors import JournalError
from edge.journal.chain import verify_chain
from edge.journal.evidence import EvidenceStore, pixels_hash
from edge.journal.reader import Reader
from edge.journal.store import Journal
from tests.conftest import skip_unless
from tests.support.journals import chain

MB = 2**20


@pytest.fixture
def small_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=80m", "tmpfs", str(disk)], capture_output=True, check=False)
    skip_unless(done.returncode == 0, f"cannot mount a small disk here: {done.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(disk):
    with (disk / "evidence.bin").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"x" * 65536):
            pass
    assert os.statvfs(disk).f_bavail == 0


def test_the_journal_outlives_a_full_disk(small_disk):
    path = small_disk / "j.db"
    with Journal(path, "st2", 4 * MB) as journal:
        journal.append(chain(journal, 1, 10))
        fill(small_disk)
        for start in range(11, 20011, 100):
            journal.append(chain(journal, start, 100))
            journal.checkpoint(idle=False)
    with Reader(path) as reader:
        assert verify_chain(reader).last_n == 20010


def test_evidence_gives_way_to_a_neighbour_and_verdicts_go_on(small_disk):
    """A disk fills from outside: evidence is shed down to nothing, the journal writes on, and evidence returns with the room."""
    path = small_disk / "j.db"
    frames = [np.random.default_rng(seed).integers(0, 256, (256, 256, 3), np.uint8) for seed in range(8)]
    with Journal(path, "st2", 4 * MB) as journal:
        store = EvidenceStore(small_disk / "evidence", 100 * MB, 4 * MB)
        for frame in frames[:6]:
            assert store.put(pixels_hash(frame), frame, None)
        held = len(store)
        fill(small_disk)
        assert not store.put(pixels_hash(frames[6]), frames[6], None)
        assert (held, len(store)) == (6, 0)
        journal.append(chain(journal, 1, 100))
        (small_disk / "evidence.bin").unlink()
        assert store.put(pixels_hash(frames[7]), frames[7], None)
    with Reader(path) as reader:
        assert verify_chain(reader).last_n == 100


def test_a_disk_without_room_is_said_at_start(small_disk):
    fill(small_disk)
    with pytest.raises(JournalError, match="expected 4 MB of free disk for the journal"):
        Journal(small_disk / "j.db", "st2", 4 * MB)
