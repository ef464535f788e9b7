"""What is looked at, in this order, and that a check which fails itself is a finding too.

A finding is "ok", "warn" (it inspects, but something is missing or slower than it could be) or "fail" (it will not inspect).
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from edge.config.file import load_config
from edge.doctor import disk, machine, software, station
from edge.doctor.finding import Finding
from edge.errors import OnbeltError

_OF_THE_BOX = (
    software.software,
    software.installation,
    software.engines,
    machine.processor,
    machine.gpu,
    machine.clock,
    machine.priority,
    software.cameras,
)
_OF_THE_STATION = (machine.realtime, station.model, station.secrets, station.broker, station.ports, station.camera)


def examine(config: Path | None) -> list[Finding]:
    """Look at everything; a check that fails itself is a finding, not the end."""
    findings = [finding for check in _OF_THE_BOX for finding in _guard(check)]
    if config is None:
        return [*findings, *_guard(software.default_keys), *_guard(lambda: disk.disk(Path.cwd() / "journal.db"))]
    try:
        wanted = load_config(config)
    except OnbeltError as exc:
        return [
            *findings,
            Finding("configuration", "fail", str(exc), "correct the file; docs/examples/station.toml has every key"),
        ]
    findings.append(Finding("configuration", "ok", str(config)))
    for check in _OF_THE_STATION:
        findings += _guard(partial(check, wanted))
    return [*findings, *_guard(lambda: disk.disk(Path(wanted.journal.path)))]


def _guard(check: Callable[[], Iterator[Finding]]) -> list[Finding]:
    try:
        return list(check())
    except OnbeltError as exc:
        return [Finding("check", "fail", str(exc))]
    except OSError as exc:
        return [Finding("check", "warn", f"could not look: {exc}")]
