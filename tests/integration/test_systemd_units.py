"""The units as systemd itself reads them: no unknown key, no warning, exposure at most 2.5."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import skip_unless

UNITS = sorted((Path(__file__).resolve().parents[2] / "systemd").glob("*.service"))


def analyze(*words):
    return subprocess.run(["systemd-analyze", *words], check=False, capture_output=True, text=True, timeout=60)


@pytest.fixture(autouse=True)
def _needs_systemd_analyze():
    skip_unless(shutil.which("systemd-analyze") is not None, "systemd-analyze is not installed (apt-get install systemd)")


@pytest.mark.parametrize("unit", UNITS, ids=lambda p: p.name)
def test_unit_has_no_unknown_key(unit, tmp_path):
    # The program is not installed where the tests run; everything else is read as it stands.
    copy = tmp_path / unit.name
    copy.write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", unit.read_text(), flags=re.MULTILINE))
    # Without --recursive-errors an unknown key is printed but the exit status stays 0.
    done = analyze("verify", "--man=no", "--recursive-errors=no", str(copy))
    assert (done.returncode, done.stderr) == (0, "")


def test_an_unknown_key_would_be_noticed(tmp_path):
    unit = tmp_path / "broken.service"
    unit.write_text("[Service]\nExecStart=/bin/true\nWatchdogSeconds=5\n")
    done = analyze("verify", "--man=no", "--recursive-errors=no", str(unit))
    assert "WatchdogSeconds" in done.stderr


@pytest.mark.parametrize("unit", UNITS, ids=lambda p: p.name)
def test_unit_is_hardened(unit):
    done = analyze("security", "--offline=yes", "--threshold=25", str(unit))
    exposure = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert exposure is not None, done.stdout + done.stderr
    assert float(exposure.group(1)) <= 2.5
    assert done.returncode == 0
