"""Built engines on disk: found under the key they were made for, refused when damaged or when others could have written them."""

import os
import stat
from pathlib import Path

import pytest

from edge.engine.tensorrt import cache as cache_module
from edge.engine.tensorrt import settings
from edge.engine.tensorrt.cache import MAX_FILES, EngineCache, EngineKey
from edge.engine.tensorrt.settings import Settings
from edge.errors import EngineError

KEY = EngineKey("a" * 64, "10.3.0", "Orin, SM 8.7, 8 multiprocessors", 12060, "{}", "pmode:0000")
PLAN = bytes(range(256)) * 40


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "var" / "engines"


def kept(folder, kind="engine"):
    (path,) = folder.glob(f"*.{kind}")
    return path


def test_what_was_kept_is_found_again(folder):
    with EngineCache(folder) as cache:
        assert cache.load_engine(KEY) is None
        assert cache.load_timing(KEY) == b""
        assert cache.store(KEY, PLAN, b"timings")
    with EngineCache(folder) as cache:
        assert cache.load_engine(KEY) == PLAN
        assert cache.load_timing(KEY) == b"timings"
    assert stat.S_IMODE(folder.stat().st_mode) & 0o022 == 0
    assert stat.S_IMODE(kept(folder).stat().st_mode) & 0o022 == 0
    assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize("field", ["model_sha256", "tensorrt", "gpu", "driver", "settings", "power_mode"])
def test_every_part_of_the_key_matters(folder, field):
    other = EngineKey(**{**{name: getattr(KEY, name) for name in KEY.__slots__}, field: 1 if field == "driver" else "other"})
    with EngineCache(folder) as cache:
        cache.store(KEY, PLAN, b"timings")
        assert cache.load_engine(other) is None
        shared = field in {"model_sha256", "driver", "settings"}
        assert (cache.load_timing(other) == b"timings") is shared


@pytest.mark.parametrize("at", [0, 15, 20, 90, 150, 160, 161, 162, 5000, -1])
def test_any_changed_byte_means_building_again(folder, caplog, at):
    with EngineCache(folder) as cache:
        cache.store(KEY, PLAN, b"")
        content = bytearray(kept(folder).read_bytes())
        content[at] ^= 1
        kept(folder).write_bytes(content)
        assert cache.load_engine(KEY) is None
    assert "is not used" in caplog.text


@pytest.mark.parametrize("length", [0, 10, 160, 161, 162, 3000])
def test_a_file_that_was_cut_off_means_building_again(folder, length):
    with EngineCache(folder) as cache:
        cache.store(KEY, PLAN, b"")
        os.truncate(kept(folder), length)
        assert cache.load_engine(KEY) is None
        assert cache.store(KEY, PLAN, b"")
        assert cache.load_engine(KEY) == PLAN


def test_bytes_added_at_the_end_mean_building_again(folder):
    with EngineCache(folder) as cache:
        cache.store(KEY, PLAN, b"")
        with kept(folder).open("ab") as file:
            file.write(b"x")
        assert cache.load_engine(KEY) is None


def test_an_engine_renamed_to_another_key_is_not_used(folder):
    other = EngineKey("b" * 64, *(getattr(KEY, name) for name in KEY.__slots__[1:]))
    with EngineCache(folder) as cache:
        cache.store(KEY, PLAN, b"")
        kept(folder).rename(folder / f"{other.digest()}.engine")
        assert cache.load_engine(other) is None


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_others_may_write_is_not_used(folder, caplog, mode):
    with EngineCache(folder) as cache:
        cache.store(KEY, PLAN, b"")
        kept(folder).chmod(mode)
        assert cache.load_engine(KEY) is None
    assert f"its mode is {mode:04o}" in caplog.text


@pytest.mark.parametrize("mode", [0o720, 0o777])
def test_a_folder_others_may_write_is_refused(folder, mode):
    folder.mkdir(parents=True)
    folder.chmod(mode)
    with pytest.raises(EngineError, match=rf"only root and this user may write, its mode is {mode:04o}; .*chmod go-w"):
        EngineCache(folder)


def test_a_folder_of_another_user_is_refused(folder, monkeypatch):
    folder.mkdir(parents=True)
    owner = folder.stat().st_uid
    if owner == 0:
        os.chown(folder, 12345, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(EngineError, match=r"user \d+ owns it"):
        EngineCache(folder)


def test_a_link_in_place_of_folder_or_file_is_not_followed(folder, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    folder.parent.mkdir()
    folder.symlink_to(elsewhere)
    with pytest.raises(EngineError, match="expected a folder for built engines"):
        EngineCache(folder)
    folder.unlink()
    with EngineCache(folder) as cache:
        cache.store(KEY, PLAN, b"")
        moved = elsewhere / "plan"
        kept(folder).rename(moved)
        (folder / f"{KEY.digest()}.engine").symlink_to(moved)
        assert cache.load_engine(KEY) is None


def test_a_pipe_in_place_of_a_file_does_not_block(folder):
    with EngineCache(folder) as cache:
        os.mkfifo(folder / f"{KEY.digest()}.engine", 0o600)
        assert cache.load_engine(KEY) is None


def test_the_cache_is_where_engines_are_or_may_be_kept(tmp_path, monkeypatch):
    first, second = tmp_path / "cache", tmp_path / "lib"
    monkeypatch.setattr(settings, "MACHINE_FOLDERS", (first, second))
    assert Settings().cache_folder() == Path.home() / ".cache" / "onbelt" / "engines"
    second.mkdir()
    assert Settings().cache_folder() == second / "engines"
    first.mkdir()
    assert Settings().cache_folder() == first / "engines"
    (second / "engines").mkdir()
    assert Settings().cache_folder() == second / "engines"
    assert Settings(cache="/elsewhere").cache_folder() == Path("/elsewhere")


def test_root_may_build_for_the_daemon_which_only_reads(folder):
    with EngineCache(folder) as cache:
        cache.store(KEY, PLAN, b"")
    folder.chmod(0o555)
    with EngineCache(folder) as cache:
        assert cache.load_engine(KEY) == PLAN
        if os.geteuid() != 0:
            assert not cache.store(KEY, PLAN, b"")


def test_a_full_disk_costs_the_cache_and_not_the_engine(folder, monkeypatch, caplog):
    def full(fd):
        raise OSError(28, "No space left on device")

    with EngineCache(folder) as cache:
        monkeypatch.setattr(os, "fsync", full)
        assert not cache.store(KEY, PLAN, b"")
        monkeypatch.undo()
        assert cache.load_engine(KEY) is None
        assert list(folder.iterdir()) == []
    assert "No space left" in caplog.text


def test_an_engine_too_large_to_keep_is_not_kept(folder, monkeypatch, caplog):
    monkeypatch.setattr(cache_module, "MAX_ENGINE_BYTES", 100)
    with EngineCache(folder) as cache:
        assert not cache.store(KEY, PLAN, b"")
    assert "100 is the most" in caplog.text


def test_the_oldest_engines_go_and_remains_of_cut_off_writes_too(folder):
    with EngineCache(folder) as cache:
        for number in range(MAX_FILES + 3):
            key = EngineKey(f"{number:064d}", *(getattr(KEY, name) for name in KEY.__slots__[1:]))
            assert cache.store(key, PLAN, b"")
            os.utime(folder / f"{key.digest()}.engine", (number, number))
        old, young = (folder / f".{'0' * 64}.engine.{number}.tmp" for number in (1, 2))
        foreign = folder / "README"
        for path in (old, young, foreign):
            path.write_bytes(b"")
        os.utime(old, (1, 1))
        cache.store(KEY, PLAN, b"")
        assert cache.load_engine(KEY) == PLAN
    assert len(list(folder.glob("*.engine"))) == MAX_FILES
    assert not old.exists()
    assert young.exists()
    assert foreign.exists()
