"""The wheel: our four top-level names, the data files, nothing else; installed elsewhere it works and notices tampering."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAMES = {"edge", "export", "calibration", "training"}


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)],
        check=True,
        capture_output=True,
        timeout=120,
    )
    return next(out.glob("onbelt-*.whl"))


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel installed and nothing else."""
    target = tmp_path_factory.mktemp("site")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", str(target), str(wheel)],
        check=True,
        capture_output=True,
        timeout=120,
    )
    return target


def run_python(code: str, site: Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(site)}
    return subprocess.run(
        [sys.executable, "-c", code], check=False, env=environment, cwd=cwd, capture_output=True, text=True, timeout=120
    )


def test_wheel_holds_our_names_and_no_others(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == NAMES
    assert not [name for name in names if name.endswith((".engine", ".key", ".pt"))]


def test_wheel_ships_the_page_the_demo_model_and_the_types(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {f"{name}/py.typed" for name in NAMES} <= names
    assert "edge/data/demo.onbelt" in names
    assert any(name.startswith("edge/data/trusted/") and name.endswith(".pub") for name in names)
    assert any(name.startswith("edge/page/") and name.endswith(".html") for name in names)


def test_installed_wheel_runs_from_another_folder(installed, tmp_path):
    done = run_python(
        "import edge, edge.cli, sys; assert edge.__file__.startswith(sys.argv[1] if len(sys.argv) > 1 else ''), edge.__file__;"
        "print(edge.__file__); sys.exit(edge.cli.main(['judge', '--help']))",
        installed,
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert str(installed) in done.stdout
    assert "usage: onbelt judge" in done.stdout


def test_unit_tests_of_the_box_pass_against_the_installed_wheel(installed, tmp_path):
    """The same tests, run from another folder, against the files a user gets."""
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    tests = [str(ROOT / "tests/unit/test_bundle_reader.py"), str(ROOT / "tests/unit/test_preprocess.py")]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:randomly",
            "-c",
            str(ROOT / "pyproject.toml"),
            "--rootdir",
            str(ROOT / "tests"),
            "-k",
            "not every_byte",
            *tests,
        ],
        check=False,
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]


def test_overwritten_module_is_noticed(installed, tmp_path):
    check = (
        "import sys; sys.path.insert(0, {site!r});"
        "from edge.installation import verify_installation as v; r = v(); print(r.kind); print('|'.join(r.faults))"
    )
    before = run_python(check.format(site=str(installed)), installed, tmp_path)
    assert before.stdout.splitlines()[0] == "wheel", before.stderr
    victim = installed / "calibration" / "__init__.py"
    original = victim.read_bytes()
    try:
        victim.write_bytes(b"'''another distribution's file'''\n")
        after = run_python(check.format(site=str(installed)), installed, tmp_path)
    finally:
        victim.write_bytes(original)
    assert "calibration/__init__.py: differs" in after.stdout
    assert "calibration/__init__.py: differs" not in before.stdout
