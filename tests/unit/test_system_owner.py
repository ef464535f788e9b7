"""What root tries or installs in the service's folder belongs to the service afterwards."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from edge.bundle.signing import default_trust
from edge.journal.store import Journal
from edge.system.owner import as_owner_of
from tests.conftest import skip_unless

NOBODY = 65534


@pytest.fixture
def service_folder():
    """A folder of another user's that he can reach; those of pytest are closed to him."""
    skip_unless(os.geteuid() == 0, "only root becomes another user")
    folder = Path(tempfile.mkdtemp(prefix="onbelt-owner-"))
    folder.chmod(0o750)
    os.chown(folder, NOBODY, NOBODY)
    yield folder
    shutil.rmtree(folder)


def test_a_journal_that_root_tries_is_the_services(service_folder):
    path = service_folder / "new" / "journal.db"
    with as_owner_of(path.parent), Journal(path, "st2", 4 * 2**20):
        assert os.geteuid() == NOBODY
    assert os.geteuid() == 0
    made = [path.parent, *path.parent.iterdir()]
    assert len(made) > 1
    assert {(one.stat().st_uid, one.stat().st_gid) for one in made} == {(NOBODY, NOBODY)}


def test_in_ones_own_folder_nothing_changes(tmp_path):
    before = os.geteuid()
    with as_owner_of(tmp_path / "not" / "there"):
        assert os.geteuid() == before


def test_root_is_root_again_after_a_failure(service_folder):
    with pytest.raises(RuntimeError), as_owner_of(service_folder):
        raise RuntimeError
    assert (os.geteuid(), os.getegid()) == (0, 0)


def test_a_home_that_may_not_be_entered_holds_no_keys(service_folder, monkeypatch):
    """`sudo -u onbelt` may leave HOME at root's."""
    home = service_folder / "home"
    home.mkdir(mode=0o700)  # root's
    monkeypatch.setenv("HOME", str(home))
    with as_owner_of(service_folder):
        assert str(home / ".config" / "onbelt" / "trusted") in default_trust().sources
