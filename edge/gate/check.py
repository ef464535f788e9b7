"""Everything a gate needs at start, tried without deciding a part: `onbelt gate --check`."""

from pathlib import Path

from edge.clock import SystemClock
from edge.errors import BrokerError
from edge.gate.config import load_config
from edge.gate.process import GateProcess
from edge.mqtt.probe import probe
from edge.system.realtime import shortfalls


def check_gate(path: Path) -> list[str]:
    """Reads the configuration and its secrets, takes wires or pins and the socket for a moment, and asks for the broker.

    The output stays closed and the watchdog stands still meanwhile: nothing passes. A gate that runs keeps its wires, so this is
    refused beside one.

    Returns:
        One line per thing that was tried and is well, or is missing but no reason not to start.

    Raises:
        OnbeltError: the first thing that would keep the gate from deciding.
    """
    config = load_config(path)
    settings, broker, mac_key = config.settings(), config.broker(), config.mac_key()
    sealed = "sealed verdicts only" if config.rules.require_mac else "sealed verdicts" if mac_key else "unsealed verdicts"
    lines = [
        f"configuration  ok: {path}, {settings.deadline_ms:g} ms after the trigger, {settings.on_missing} without a verdict",
        f"secrets        ok: {sealed}",
    ]
    process = config.process
    missing = list(shortfalls(process.priority, process.cpus, lock_memory=process.lock_memory))
    # The gate starts without: it decides all the same, later when others keep it waiting.
    lines += [f"scheduling     MISSING: {one.found}; {one.remedy}" for one in missing] or [
        f"scheduling     ok: priority {process.priority}, processors {process.cpus or 'any'}, memory "
        f"{'locked' if process.lock_memory else 'not locked'}"
    ]
    with GateProcess(config, SystemClock(), broker, mac_key):
        line = config.line
        wires = f"{line.listen} and {line.output}" if line.kind == "udp" else f"the pins of {line.chip}"
        lines.append(f"wires          ok: {wires}")
        if line.socket:
            lines.append(f"socket         ok: {line.socket}")
    try:
        protocol = probe(broker, f"onbelt-check-{config.station.gate}")
        lines.append(f"broker         ok: {broker}, MQTT {protocol}")
    except BrokerError as exc:
        # The gate starts without a broker: it rejects every part until it hears of its station.
        lines.append(f"broker         MISSING: {exc}")
    return lines
