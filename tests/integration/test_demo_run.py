"""`onbelt demo` from the outside: real processes, an honest summary, and nothing left behind however it ends.

The model is the tiny one of the tests with a limit so high that it passes everything: each bad part is then a miss, and must be
counted as an escape.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.broker.launch import wait_until
from edge.demo.truth import Truth
from tests.support.bundles import make_tiny_bundle

PRODUCT, SEED = "vials", 1
PATIENCE_S = 90.0


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("model")
    bundle, _, trust = make_tiny_bundle(folder, product=PRODUCT, limit=1000.0, calibration=[0.1 * n for n in range(100)])
    return ["--bundle", str(bundle), "--trust", str(trust)]


@contextlib.contextmanager
def demo(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    argv = [sys.executable, "-m", "edge.cli", "demo", *arguments]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def descendants(pid: int) -> set[int]:
    """All processes below this one."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    found: set[int] = set()
    fresh = {pid}
    while fresh:
        fresh = {child for child, parent in parents.items() if parent in fresh}
        found |= fresh
    return found


def alive(pids: set[int]) -> set[int]:
    def lives(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False

    return {pid for pid in pids if lives(pid)}


def wait_for_line(process: subprocess.Popen[str], text: str) -> str:
    """Read the demo's progress up to a line with this text."""
    assert process.stderr is not None
    end = time.monotonic() + PATIENCE_S
    seen = []
    for line in process.stderr:
        seen.append(line)
        if text in line:
            return line
        assert time.monotonic() < end, seen
    raise AssertionError(f"the demo ended without {text!r}: {seen}")


def test_the_summary_is_complete_and_honest(model):
    with demo(*model, "--seconds", "12", "--json", "--rate", "8") as process:
        url = wait_for_line(process, "live page").partition(": ")[2].strip()
        with urllib.request.urlopen(url, timeout=10) as page:
            assert page.status == 200
        out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    summary = json.loads(out)
    truth = Truth(PRODUCT, SEED)
    bad = [n for n in range(1, summary["parts"] + 1) if not truth.is_good(n)]
    assert summary["parts"] >= 6
    assert sum(summary["verdicts"].values()) == summary["parts"]
    assert summary["good"]["passed"] > 0
    assert summary["bad"]["rejected"] + summary["bad"]["missed"] == len(bad)
    assert summary["bad"]["missed"] == len(summary["misses"])
    assert summary["escapes"] == summary["escapes_by"]["unjudged"] == summary["escapes_by"]["against_verdict"] == 0
    assert {miss["part"] for miss in summary["misses"]} <= set(bad)
    assert all("/" in miss["truth"] and miss["score"] is not None for miss in summary["misses"])
    good = summary["good"]
    assert sum(good.values()) + len(bad) == summary["parts"]
    assert 0 < summary["trigger_to_gate_ms"]["p50"] <= summary["trigger_to_gate_ms"]["p999"]
    assert summary["infer_ms"]["n"] == summary["journal_verdicts"] - summary["verdicts"]["invalid"]
    assert summary["decisions"]["disarmed"] >= 1
    assert summary["decisions"]["verdict"] + summary["decisions"]["disarmed"] <= summary["parts"]
    assert summary["first_verdict_s"] < summary["first_open_s"]
    assert summary["broker"].startswith("embedded, MQTT 5")
    assert summary["late"] == 0
    assert {"engine", "machine", "line", "bundle", "parts_per_s", "faults", "false_rejects"} <= set(summary)


def test_a_killed_gate_comes_back_and_lets_nothing_through_meanwhile(model):
    arguments = ["--seconds", "9", "--json", "--no-page", "--rate", "8", "--faults", "kill-gate@3"]
    with demo(*model, *arguments) as process:
        out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    summary = json.loads(out)
    assert summary["faults"] == [{"at_s": 3.0, "what": "kill-gate"}]
    assert summary["escapes_by"]["unjudged"] == summary["escapes_by"]["against_verdict"] == 0
    assert summary["good"]["lost"] >= 3
    assert summary["page"] == ""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_ends_in_order_and_sums_up(model, how):
    with demo(*model, "--seconds", "600", "--json", "--no-page") as process:
        wait_for_line(process, "parts  ")
        pids = descendants(process.pid)
        assert len(pids) >= 3
        process.send_signal(how)
        begun = time.monotonic()
        out, err = process.communicate(timeout=30)
        assert time.monotonic() - begun < 20
    assert process.returncode == 0, err
    assert json.loads(out)["parts"] >= 1
    assert not alive(pids)


def test_a_killed_demo_leaves_no_process_behind(model):
    with demo(*model, "--seconds", "600", "--no-page") as process:
        wait_for_line(process, "parts  ")
        pids = descendants(process.pid)
        assert len(alive(pids)) >= 3
        os.kill(process.pid, signal.SIGKILL)
        assert wait_until(lambda: not alive(pids), 10.0), alive(pids)


@pytest.mark.parametrize(
    ("arguments", "status", "expected"),
    [
        (["--faults", "kill-everything"], 2, "--faults: expected kill-daemon"),
        (["--faults", "kill-gate@99", "--seconds", "5"], 2, "within the run of 5 s"),
        (["--product", "spoons"], 2, "spoons"),
        (["--bundle", "/nowhere/none.onbelt"], 3, "none.onbelt"),
    ],
)
def test_what_cannot_work_is_said_in_one_line(model, arguments, status, expected):
    with demo(*model, *arguments) as process:
        _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == status, err
    assert expected in err
    assert "Traceback" not in err
