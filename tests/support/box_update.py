"""The updater's units in the container of `tests.support.box`: without a repository it looks in vain, and that is enough here."""

import time

from tests.support.box import Box, is_ready, restarted

UNIT = "onbelt-updater.service"
LAST_WORD = "onbelt-update-failed.service"
_CONFIG = """
station = "station-update.toml"
metadata_url = "file:///nowhere/metadata/"
target_url = "file:///nowhere/targets/"
root = "root.json"
product = "tiny"
folder = "{folder}"
"""
FOLDER = "/var/lib/onbelt/update"


def install_updater(box: Box, watchdog_s: float) -> None:
    """update.toml as an integrator would write it, and shorter times than shipped."""
    _configure(box, FOLDER)
    drop_in = box.root / f"etc/systemd/system/{UNIT}.d"
    drop_in.mkdir()
    # At its own priority it waits for every other test of this machine.
    usual = "Nice=0\nCPUSchedulingPolicy=other\nCPUWeight=100\nIOSchedulingClass=best-effort\n"
    (drop_in / "test.conf").write_text(f"[Service]\nWatchdogSec={watchdog_s:g}\nRestartSec=100ms\n{usual}")
    box.run("systemctl", "daemon-reload", check=True)


def updater_lives(box: Box, watchdog_s: float) -> float:
    """From `systemctl start` to READY, seconds; then it feeds its watchdog while there is nothing to do."""
    box.run("systemctl", "start", "--no-block", UNIT, check=True)
    before, seconds = box.wait_for(is_ready, 60, UNIT)
    time.sleep(2.5 * watchdog_s)
    assert box.show(UNIT)["MainPID"] == before["MainPID"], box.journal(UNIT)
    return seconds


def updater_freezes(box: Box) -> float:
    """The whole process frozen: seconds until it is ready again."""
    before = box.show(UNIT)
    box.run("systemctl", "kill", "--kill-who=main", "--signal=STOP", UNIT, check=True)
    _, seconds = box.wait_for(restarted(before), 90, UNIT)
    return seconds


def updater_stays_down(box: Box) -> float:
    """A folder it cannot write: seconds until it is not started any more, and that is reported."""
    _configure(box, "/etc/onbelt/update")
    box.run("systemctl", "reset-failed", UNIT)
    begin = time.monotonic()
    box.run("systemctl", "restart", "--no-block", UNIT)
    box.wait_for(lambda state: state["ActiveState"] == "failed", 120, UNIT)
    seconds = time.monotonic() - begin
    box.wait_for(lambda state: (state["ActiveState"], state["Result"]) == ("inactive", "success"), 60, LAST_WORD)
    assert "Finished" in box.journal(LAST_WORD), box.journal(LAST_WORD)
    return seconds


def _configure(box: Box, folder: str) -> None:
    etc = box.root / "etc/onbelt"
    station = (etc / "station.toml").read_text()
    bundle = 'bundle = "/var/lib/onbelt/tiny.onbelt"'
    assert bundle in station
    (etc / "station-update.toml").write_text(station.replace(bundle, f'bundle = "{folder}/current"'))
    (etc / "update.toml").write_text(_CONFIG.format(folder=folder))
