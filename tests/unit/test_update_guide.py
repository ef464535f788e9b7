"""The guide for whoever updates a fleet: every command in it is one the parser takes, every reason one the code knows."""

import re
import shlex
from pathlib import Path

import pytest

from edge.cli import build_parser
from edge.update.reasons import ALL, REFUSED

GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "guides" / "update.md").read_text()
BLOCKS = re.findall(r"```\n(.*?)```", GUIDE, re.DOTALL)
COMMANDS = [line for block in BLOCKS for line in block.splitlines() if line.startswith("onbelt ")]


def test_there_are_commands():
    assert len(COMMANDS) >= 15


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_guide_is_one(command):
    words = shlex.split(command, comments=True)
    assert build_parser().parse_args(words[1:]).verb == words[1]


def test_a_reason_of_the_guide_is_one():
    named = {word for row in GUIDE.splitlines() if row.startswith("|") for word in re.findall(r"`([a-z]+(?:-[a-z]+)*)`", row)}
    other = {"carry", "onbelt-updater", "reason", "current", "disagrees", "refused", "timestamp", "snapshot", "snapshot-cron"}
    assert sorted(named - set(ALL) - other) == []


def test_every_reason_a_model_is_refused_for_is_in_the_guide():
    told = set(re.findall(r"`([a-z-]+)`", GUIDE))
    assert sorted(set(REFUSED) - told) == []
