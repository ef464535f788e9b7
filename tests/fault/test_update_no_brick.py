"""No fault of disk, network, clock or repository ends updates for good, and none ever touches the model that runs.

Each fault strikes at every point in turn: every write (a full disk), every request (a lost network), every step (a repository
that vanishes). After each the link points to a whole model, and once the fault is over the box gets where it should.
"""

import contextlib
import errno
import hashlib
import os
import shutil
import sys
from datetime import datetime, timedelta, timezone

import pytest
from tuf.api.exceptions import DownloadError

from edge.clock import SystemClock
from edge.errors import UpdateError
from edge.update.fetch import Fetcher
from edge.update.machine import Watched
from edge.update.prove import Proof
from edge.update.state import Step
from tests.support.update_box import Box
from tests.support.update_site import UpdateSite

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_CHANGES = {"os.rename", "os.symlink", "os.mkdir", "os.truncate", "os.link"}
DAY_US = 86_400_000_000


class FullDisk:
    """The `number`-th write under a folder, and every one after it, finds no room. Removing still works, as on a real disk."""

    def __init__(self):
        self.left = None
        self.folder = ""
        sys.addaudithook(self._hook)  # it stays for the life of the process, and does nothing unless it is armed

    @contextlib.contextmanager
    def after(self, number, folder):
        self.left, self.folder = number, str(folder)
        try:
            yield self
        finally:
            self.struck, self.left = self.left <= 0, None

    def _hook(self, event, args):
        if self.left is None or not str(args[0]).startswith(self.folder):
            return
        if isinstance(args[2], int) and bool(args[2] & _WRITES) if event == "open" else event in _CHANGES:
            self.left -= 1
            if self.left <= 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture(scope="module")
def full_disk():
    return FullDisk()


class QuickBox(Box):
    """The proof has tests of its own; here it holds."""

    def __init__(self, folder, site):
        super().__init__(folder, site, shadow=lambda _: Watched("", "compared"))

    def _prove(self, *_):
        return Proof("", "holds")

    def is_whole(self):
        """The link points to a file whose bytes are its name's."""
        name = self.store.current.readlink().name.removesuffix(".onbelt")
        return hashlib.sha256(self.running).hexdigest() == name

    def try_update(self):
        """What the service does while a fault lasts: it asks, goes on step by step, and does not mind standing still."""
        with contextlib.suppress(UpdateError):
            if self.machine.offer(self.source.channel("stable")):
                for _ in range(12):
                    self.machine.advance()


@pytest.fixture
def site(tmp_path):
    return UpdateSite(tmp_path / "site")


@pytest.fixture
def box(tmp_path, site):
    site.publish(1)
    one = QuickBox(tmp_path / "box", site)
    one.update()
    return one


def again(box, kept):
    """The same box as it was before the fault, started anew."""
    shutil.rmtree(box.folder)
    shutil.copytree(kept, box.folder, symlinks=True)
    return box.start()


@pytest.mark.parametrize("restart", [False, True], ids=["goes on", "restarted"])
def test_a_disk_that_fills_up_at_any_write(box, site, tmp_path, full_disk, restart):
    new = site.publish(2).sha256
    kept = shutil.copytree(box.folder, tmp_path / "kept", symlinks=True)
    ran, number = set(), 0
    while True:
        number += 1
        again(box, kept)
        with full_disk.after(number, box.folder):
            box.try_update()
            ran.add(box.store.running())
            assert box.is_whole(), number
        if not full_disk.struck:
            break
        if restart:  # with room again
            box.start()
        box.finish()
        box.update(serial=number)
        assert (box.store.running(), box.machine.state.step) == (new, Step.IDLE), number
        assert box.is_whole()
    assert number > 15
    assert len(ran) == 2  # it struck before the switch and after it
    assert box.machine.state.committed.sha256 == new


def test_a_network_that_is_lost_at_any_request(box, site, tmp_path, monkeypatch):
    new = site.publish(2).sha256
    kept = shutil.copytree(box.folder, tmp_path / "kept", symlinks=True)
    asked = Fetcher._open
    left = [0]

    def lossy(self, url, at):
        left[0] -= 1
        if left[0] <= 0:
            raise DownloadError(f"{url}: network is unreachable")
        return asked(self, url, at)

    monkeypatch.setattr(Fetcher, "_open", lossy)
    number = 0
    while True:
        number += 1
        again(box, kept)
        left[0] = number
        box.try_update()
        lost = left[0] <= 0
        assert box.is_whole()
        assert not box.machine.state.refused  # nothing is held against the model
        left[0] = 1000
        box.update()
        assert box.store.running() == new, number
        if not lost:
            break
    assert number > 5


@pytest.mark.parametrize("step", [Step.VERIFY, Step.PROVE, Step.SHADOW, Step.SWITCH, Step.GUARD], ids=lambda step: step.value)
def test_a_repository_that_vanishes_once_the_model_is_here(box, site, step):
    """From the download on nobody is asked any more."""
    new = site.publish(2).sha256
    assert box.machine.offer(box.source.channel("stable"))
    while box.machine.state.step is not step:
        assert box.machine.advance()
    shutil.rmtree(site.repository.folder)
    box.start().finish()
    assert box.store.running() == box.machine.state.committed.sha256 == new


class OtherClock(SystemClock):
    """A clock that is wrong by so many days."""

    def __init__(self, days):
        self.days = days

    def utc_us(self):
        return super().utc_us() + self.days * DAY_US


@pytest.mark.parametrize("days", [-20_000, -400, 400, 4000], ids=["1970", "last year", "next year", "ten years on"])
def test_a_clock_that_is_wrong(box, site, days):
    """One that is behind updates as ever; one that is ahead waits, says why, and goes on once it is put right."""
    new = site.publish(2).sha256
    box.source._clock = OtherClock(days)
    if days < 0:
        box.update()
    else:
        with pytest.raises(UpdateError) as caught:
            box.update()
        assert caught.value.reason == "expired"
        assert box.is_whole()
        box.source._clock = SystemClock()
        box.update()
    assert box.store.running() == new


def test_a_repository_that_was_gone_for_months(box, site, tmp_path, monkeypatch):
    """Everything has expired, half of the cache is torn: the box goes on with what runs, and takes what is published next."""
    old = box.store.running()
    away = site.repository.folder.rename(tmp_path / "away")
    box.source._clock = OtherClock(200)
    with pytest.raises(UpdateError) as caught:
        box.update()
    assert caught.value.reason == "unreachable"
    for number, path in enumerate(sorted(box.store.metadata.rglob("*.json"))):
        if number % 2:
            path.write_bytes(path.read_bytes()[: number * 50])
    box.start()
    assert box.store.running() == old
    away.rename(site.repository.folder)

    class Later(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(timezone.utc).astimezone(tz) + timedelta(days=200)

    monkeypatch.setattr("export.repository.store.datetime", Later)
    new = site.publish(2).sha256
    box.source._clock = OtherClock(200)
    box.update()
    assert box.store.running() == new
