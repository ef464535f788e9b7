"""docs/faults.md lists the fault tests there are, and docs/gate.md the rules and reasons the code has."""

import ast
import re
from pathlib import Path
from typing import get_args

from edge.gate.actions import Why

ROOT = Path(__file__).resolve().parents[2]


def fault_tests() -> set[str]:
    found = set()
    for file in (ROOT / "tests" / "fault").glob("test_*.py"):
        found |= {
            n.name for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.FunctionDef) and n.name[:5] == "test_"
        }
    return found


def test_the_table_of_faults_and_the_fault_tests_are_the_same():
    listed = re.findall(r"\| `(test_\w+)` \|$", (ROOT / "docs" / "faults.md").read_text(), re.MULTILINE)
    assert len(listed) == len(set(listed))
    assert set(listed) == fault_tests()


def test_every_rule_of_the_contract_has_its_row():
    text = (ROOT / "docs" / "gate.md").read_text()
    assert re.findall(r"^\| (\d) ", text, re.MULTILINE) == [str(n) for n in range(1, 10)]


def test_the_reasons_of_an_ack_are_those_of_the_wire():
    from edge.wire.station import Ack

    assert set(get_args(Why)) == set(get_args(Ack.__annotations__["why"]))
