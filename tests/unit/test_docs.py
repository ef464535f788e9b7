"""The docs say what the code does: generated pages are current, links lead somewhere, every verb and dependency is described."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def load_generator():
    spec = importlib.util.spec_from_file_location("generate_reference", ROOT / "docs" / "generate_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_command_line_reference_is_what_the_code_says():
    generator = load_generator()
    assert generator.TARGET.read_text() == generator.render(), "run python docs/generate_reference.py"


def test_every_argument_has_help():
    generator = load_generator()
    silent = [
        f"{verb} {action.dest}" for verb, parser in generator.verbs().items() for action in parser._actions if not action.help
    ]
    assert silent == []


@pytest.mark.parametrize("page", DOCS, ids=lambda p: str(p.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
    missing = [t for t in targets if not t.startswith(("http", "mailto:")) and not (page.parent / t).exists()]
    assert missing == []


def test_every_dependency_has_its_reason():
    tomllib = pytest.importorskip("tomllib" if sys.version_info >= (3, 11) else "tomli", reason="tomli is not installed")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(d for extra in project["optional-dependencies"].values() for d in extra)]
    names = {re.split(r"[^A-Za-z0-9_-]", d)[0] for d in wanted}
    text = (ROOT / "docs" / "dependencies.md").read_text()
    assert sorted(name for name in names if name not in text) == []


def test_readme_shows_the_two_commands_first():
    first_screen = "\n".join((ROOT / "README.md").read_text().splitlines()[:40])
    assert "make demo" in first_screen
    assert "make test" in first_screen
