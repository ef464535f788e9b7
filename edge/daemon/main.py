"""The daemon as a process: configuration in, signals, exit status out."""

import logging
import os
import signal
from pathlib import Path
from types import FrameType

from edge import journald
from edge.clock import SystemClock
from edge.config.file import load_config, read_given, render
from edge.daemon import build, build_camera
from edge.daemon.daemon import Daemon
from edge.daemon.stages.selfcheck import SelfCheck, describe
from edge.errors import BrokerError, BundleError, OnbeltError
from edge.installation import verify_installation
from edge.journal.store import Journal
from edge.mqtt.probe import probe
from edge.system.notify import Notifier
from edge.system.owner import as_owner_of

logger = logging.getLogger(__name__)


def run_daemon(path: Path) -> int:
    """Run until a signal or a crash.

    Returns:
        0 after SIGTERM or SIGINT, 1 after a crash. With a stage that hangs the process ends here, with 1.

    Raises:
        OnbeltError: something needed at start is missing; nothing was started.
    """
    config = load_config(path)
    report = verify_installation()
    if report.faults:
        raise OnbeltError(f"the installation is not what was shipped: {report.faults[0]}")
    daemon = Daemon(config, build.load_bundle(config), notifier=Notifier.from_environment())
    journald.fields.update(ONBELT_STATION=config.station.station, ONBELT_BOOT=daemon.boot)
    asked: list[str] = []

    def ask(number: int, _frame: FrameType | None) -> None:
        asked.append(signal.Signals(number).name)
        daemon.done.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        daemon.start()
        daemon.done.wait()
        daemon.stop(asked[0] if asked else f"{daemon.crashed} has crashed")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if daemon.left_behind:
        # A thread inside a vendor's library would be torn down under it: end without the interpreter's own clean-up.
        logging.shutdown()
        os._exit(1)
    return 1 if daemon.crashed else 0


def print_config(path: Path) -> str:
    """The configuration in force as TOML, with the source and the meaning of every value. Raises ConfigError."""
    return render(load_config(path), read_given(path))


def check_config(path: Path) -> list[str]:
    """Try everything the daemon needs at start, without starting it.

    Returns:
        One line per thing that was tried and is well, or is missing but no reason not to start.

    Raises:
        OnbeltError: the first thing that would keep the station from inspecting.
    """
    config = load_config(path)
    lines = [f"configuration  ok: {path}"]
    bundle = build.load_bundle(config)
    manifest = bundle.manifest
    lines.append(
        f"bundle         ok: {bundle.path.name}, {manifest.product} version {manifest.version}, key {bundle.key_id[:16]}"
    )
    build.make_identity(config, bundle, "0" * 26, config.mac_key())
    config.anchor_key()
    build.make_judge(config, bundle)
    with build.make_engine(config, bundle) as engine:
        check = SelfCheck(bundle, engine, SystemClock())
        wrong = [result for result in check.all() if not result.holds]
        if wrong:
            raise BundleError(
                f"{bundle.path}: {describe(wrong[0], manifest.agreement)}; run onbelt check", member=wrong[0].picture
            )
        budget_ms = config.model.budget_ms or manifest.budget_ms
        times = check.budget(budget_ms)
        if times.p99 > budget_ms:
            raise BundleError(
                f"{bundle.path}: the engine takes {times.p99:.1f} ms (p99) on this machine, the budget is {budget_ms:g} ms; "
                "free the processor, take a smaller model or a faster box"
            )
        lines.append(f"engine         ok: {engine.name}, p50 {times.p50:.1f} ms, p99 {times.p99:.1f} ms of {budget_ms:g} ms")
        lines.append(f"golden frames  ok: {len(bundle.golden)} of {len(bundle.golden)}")
    with build.make_camera(config) as camera:
        camera.start()
        simulated = build_camera.is_simulated(config.camera)
        lines.append(f"camera         {'SIMULATED, sees no real part' if simulated else 'ok'}: {camera.name}")
    source, _ = build.make_trigger(config, SystemClock(), build.make_camera(config))
    build.make_check(config)
    source.open()
    source.close()
    lines.append(f"trigger        ok: {source.name}")
    path = Path(config.journal.path)
    with as_owner_of(path.parent), Journal(path, config.station.station, round(config.journal.max_mb * 2**20)) as journal:
        lines.append(f"journal        ok: {journal.path}, {journal.rows} verdicts")
    try:
        protocol = probe(config.broker(), f"onbelt-check-{config.station.station}")
        lines.append(f"broker         ok: {config.broker()}, MQTT {protocol}")
    except BrokerError as exc:
        # The daemon starts without a broker and inspects; the gate stays shut until there is one.
        lines.append(f"broker         MISSING: {exc}")
    return lines
