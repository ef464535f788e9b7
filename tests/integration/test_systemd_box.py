"""The shipped units under a real systemd, in short: installer, READY, crash, stop, uninstaller (all of it: docs/systemd.md)."""

import subprocess
from pathlib import Path

import pytest

from tests.conftest import skip_unless
from tests.support import box as boxes
from tests.support import box_update as updaters

INSTALL = Path(__file__).resolve().parents[2] / "systemd" / "install.sh"


def install(*words):
    return subprocess.run([str(INSTALL), *words], capture_output=True, text=True, timeout=30, check=False)


@pytest.fixture
def image(tmp_path):
    for name in ("etc", "usr/lib", "var/lib"):
        (tmp_path / "image" / name).mkdir(parents=True)
    return tmp_path / "image"


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and "onbelt" in path.name}


def test_an_image_gets_everything_and_loses_it_again(image):
    done = install("--root", str(image))
    assert done.returncode == 0, done.stderr
    installed = files(image)
    assert installed == {
        "etc/systemd/system/onbelt.service",
        "etc/systemd/system/onbelt-gate.service",
        "etc/systemd/system/onbelt-updater.service",
        "etc/systemd/system/onbelt-update-failed.service",
        "etc/sysusers.d/onbelt.conf",
        "etc/tmpfiles.d/onbelt.conf",
        "etc/udev/rules.d/70-onbelt.rules",
    }
    assert f"/opt/onbelt/bin/pip install {INSTALL.parents[1]}" in done.stderr
    (image / "etc/onbelt").mkdir(exist_ok=True)
    (image / "etc/onbelt/station.toml").write_text("mine")
    assert install("--root", str(image)).returncode == 0, "it may run again"
    assert (image / "etc/onbelt/station.toml").read_text() == "mine"
    done = install("--root", str(image), "--uninstall")
    assert done.returncode == 0, done.stderr
    assert files(image) == set()
    assert (image / "etc/onbelt/station.toml").exists(), "configuration is kept"
    assert install("--root", str(image), "--uninstall", "--purge").returncode == 0
    assert not (image / "etc/onbelt").exists()


def test_only_secrets_that_are_there_are_named(image):
    credentials = image / "etc/onbelt/credentials"
    credentials.mkdir(parents=True)
    (credentials / "verdict.key").write_text("secret of enough bytes")
    assert install("--root", str(image)).returncode == 0
    drop_in = image / "etc/systemd/system/onbelt.service.d/credentials.conf"
    assert drop_in.read_text() == "[Service]\nLoadCredential=verdict.key:/etc/onbelt/credentials/verdict.key\n"
    gate = image / "etc/systemd/system/onbelt-gate.service.d/credentials.conf"
    (credentials / "camera.password").write_text("secret")
    assert install("--root", str(image)).returncode == 0
    assert "LoadCredential=camera.password:/etc/onbelt/credentials/camera.password\n" in drop_in.read_text()
    assert "camera.password" not in gate.read_text()
    (credentials / "camera.password").unlink()
    (credentials / "verdict.key").unlink()
    assert install("--root", str(image)).returncode == 0
    assert not drop_in.exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--rot", "/"], "unknown argument --rot"),
        (["--root"], "expected a folder after it"),
        (["--root", "/nowhere/at/all"], "expected the folder of an operating system"),
        (["--purge"], "expected --uninstall beside it"),
    ],
)
def test_wrong_words_are_refused(words, said):
    done = install(*words)
    assert done.returncode == 2
    assert said in done.stderr


@pytest.fixture
def box(tmp_path):
    """A container with a real systemd and a station installed in it."""
    skip_unless(not boxes.missing(), f"no container here: {boxes.missing()}")
    try:
        with boxes.station_box(tmp_path) as booted:
            yield booted
    except boxes.BootError as exc:
        skip_unless(False, f"no container here: {exc}")


@pytest.mark.slow
@pytest.mark.broker
def test_a_station_lives_under_systemd(box):
    boxes.starts(box)
    state = box.show()
    assert "armed: True" in state["StatusText"], state
    assert box.run("ps", "-o", "user=", "-p", state["MainPID"]).stdout.strip() == "onbelt"
    boxes.crash(box)
    assert boxes.stops(box) < 2.0
    assert_the_socket_of_a_csi_camera_is_seen(box)
    box.run("/opt/onbelt/src/systemd/install.sh", "--uninstall", check=True)
    assert box.run("systemctl", "cat", boxes.UNIT).returncode != 0


def assert_the_socket_of_a_csi_camera_is_seen(box):
    """It is served from /tmp, of which the unit sees nothing else; where there is none, the unit starts as well, as before."""
    box.run("sh", "-c", "touch /tmp/argus_socket /tmp/other", check=True)
    boxes.starts(box)
    seen = f"/proc/{box.show()['MainPID']}/root/tmp"
    assert box.run("ls", seen, check=True).stdout.split() == ["argus_socket"]
    boxes.stops(box)


@pytest.mark.slow
@pytest.mark.broker
def test_an_updater_lives_under_systemd_and_does_not_stay_down_in_silence(box):
    updaters.install_updater(box, watchdog_s=2.0)
    assert updaters.updater_lives(box, watchdog_s=2.0) < 60
    before = box.show(updaters.UNIT)
    updaters.updater_freezes(box)
    after = box.show(updaters.UNIT)
    assert after["MainPID"] != before["MainPID"]
    assert int(after["NRestarts"]) > int(before["NRestarts"]), "the watchdog, nobody else, has started it anew"
    updaters.updater_stays_down(box)
    assert box.show(updaters.UNIT)["ActiveState"] == "failed"
    assert "Finished" in box.journal(updaters.LAST_WORD), "somebody was told"
