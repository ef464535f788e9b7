"""onbelt doctor: every finding has a remedy where something needs doing, and the exit status says whether the box can inspect."""

import json
import subprocess
import sys

import pytest

from edge.doctor import examine, machine, software
from tests.conftest import free_port, stop_process
from tests.support.rig import ROOT, Process

pytestmark = pytest.mark.broker


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "edge.cli", "doctor", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        check=False,
    )


def by_name(done):
    return {check["name"]: check for check in json.loads(done.stdout)["checks"]}


def test_a_box_that_has_everything(tmp_path, mosquitto):
    daemon = Process(tmp_path, mosquitto.port)
    done = run("--config", str(daemon.config), "--json")
    assert done.returncode == 0, done.stdout
    checks = by_name(done)
    for name in (
        "onbelt",
        "libraries",
        "installation",
        "configuration",
        "model",
        "engine",
        "broker",
        "disk",
        "secrets",
    ):
        assert checks[name]["status"] == "ok", checks[name]
    assert checks["camera"]["status"] == "warn", "pictures from a folder: no real part is seen"
    assert "simulated" in checks["camera"]["text"]
    assert json.loads(done.stdout)["ok"] is True
    assert all(check["remedy"] for check in checks.values() if check["status"] != "ok")


def test_what_is_missing_is_told_with_its_remedy(tmp_path, mosquitto):
    daemon = Process(tmp_path, mosquitto.port, camera={"kind": "folder", "folder": {"path": str(tmp_path / "none")}})
    stop_process(mosquitto.process)
    (tmp_path / "bundle" / "tiny.onbelt").write_bytes(b"not a bundle")
    done = run("--config", str(daemon.config), "--json")
    assert done.returncode == 1
    checks = by_name(done)
    assert {name for name, check in checks.items() if check["status"] == "fail"} == {"model", "broker", "camera"}
    assert "start it" in checks["broker"]["remedy"]
    assert "check camera.folder.path" in checks["camera"]["text"]


def test_a_bad_configuration_is_a_finding(tmp_path):
    daemon = Process(tmp_path, free_port())
    daemon.config.write_text("[station]\n")
    done = run("--config", str(daemon.config))
    assert done.returncode == 1
    assert "FAIL  configuration" in done.stdout
    assert "this box cannot inspect yet" in done.stdout


def test_a_port_that_is_taken_is_a_warning(tmp_path, mosquitto):
    daemon = Process(tmp_path, mosquitto.port, page={"enabled": True, "port": mosquitto.port})
    checks = by_name(run("--config", str(daemon.config), "--json"))
    assert checks["page port"]["status"] == "warn"
    assert checks["trigger port"]["status"] == "ok"


def test_no_key_at_all_is_a_failure(monkeypatch):
    from edge.bundle.signing import TrustStore

    monkeypatch.setattr(software, "default_trust", TrustStore)
    (finding,) = software.default_keys()
    assert (finding.status, finding.text) == ("fail", "none")
    assert "/etc/onbelt/trusted" in finding.remedy


def test_a_check_that_fails_itself_is_a_finding(monkeypatch):
    def broken():
        raise OSError("no /proc here")

    assert [finding.status for finding in examine._guard(broken)] == ["warn"]


@pytest.mark.parametrize(("saturates", "status"), [(True, "warn"), (False, "ok")])
def test_the_processor_is_explained(monkeypatch, saturates, status):
    from edge.engine.machine import Machine

    extensions = ("avx2",) if saturates else ("avx2", "avx512_vnni")
    monkeypatch.setattr(machine, "this_machine", lambda: Machine("Some CPU", 4, extensions))
    finding = next(iter(machine.processor()))
    assert finding.status == status
    assert ("three instructions" in finding.text) == saturates
