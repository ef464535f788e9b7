"""Power cuts in small: the real journal on a real ext4, and the mutant that must fail (docs/powercuts.md has the long run)."""

import importlib.util
import sys
from pathlib import Path

import pytest

from tests.conftest import skip_unless

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "power_cuts.py"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def harness():
    spec = importlib.util.spec_from_file_location("power_cuts", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["power_cuts"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    skip_unless(not module.missing(), f"no power cuts here: {module.missing()}")
    return module


@pytest.fixture
def disk_folder(harness, tmp_path):
    probe = harness.can_mount(tmp_path)
    skip_unless(not probe, f"no power cuts here: {probe}")
    return tmp_path


def test_power_cut_loses_no_accepted_verdict(harness, disk_folder):
    outcome = harness.run("FULL", 8, 7, disk_folder)
    assert outcome.corrupt == []
    assert (outcome.cuts, outcome.lost) == (8, 0)
    assert outcome.accepted > 100


def test_power_cut_finds_a_journal_that_does_not_wait_for_the_disk(harness, disk_folder):
    outcome = harness.run("NORMAL", 8, 7, disk_folder)
    assert outcome.losing_cuts > 0
    assert outcome.corrupt == []
