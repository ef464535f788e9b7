"""The real updater, killed before its changes to the disk: old or new, never mixed, and it finishes afterwards."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Every change is `make update-kills`; here every ninth.
STRIDE = int(os.environ.get("ONBELT_KILL_STRIDE", "9"))


@pytest.mark.timeout(1600)
@pytest.mark.parametrize("scenario", ["commit", "revert"])
def test_killed_anywhere_it_is_old_or_new_and_finishes(tmp_path, scenario):
    script = ROOT / "tests" / "support" / "update_kill.py"
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path), scenario, str(STRIDE)],
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    kills = [json.loads(line) for line in done.stdout.splitlines()]
    print(f"{scenario}: {len(kills) - 1} kills, found in {sorted({one['step'] for one in kills})}")
    assert len(kills) > 40 / STRIDE
    wanted = "new" if scenario == "commit" else "old"
    for one in kills:
        assert one["left"] in {one["old"], one["new"]}, one
        assert one["end"] == "idle", one
        assert one["running"] == one["committed"] == one[wanted], one
    assert STRIDE > 1 or {"download", "verify", "prove", "shadow", "switch", "guard"} <= {one["step"] for one in kills}
    assert kills[-1]["signal"] == 0
    assert all(one["signal"] == 9 for one in kills[:-1])
