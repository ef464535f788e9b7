"""The line before the gate under test: makes a part come, and sees what the gate's output does.

Two ways. `Wires` are the reference's datagrams: every output, the watchdog and the line stop are seen. `Pulses` run a command of
the integrator's per part (set a digital output, a test bit of the controller): the gate counts the parts itself, its number is
learned from its first ack, and what its output does is known from its acks only.
"""

import os
import shlex
import socket
import subprocess
import threading
from collections import defaultdict
from collections.abc import Callable
from typing import Protocol

from edge.clock import Clock
from edge.errors import ConfigError, ContractError
from edge.gate.kit.belt import KitBelt
from edge.wire.trigger import MAX_DATAGRAM_BYTES, OUTPUT, TRIGGER, TRIGGER_SCHEMA, GateOutput, LineTrigger

PULSE_TIMEOUT_S = 2.0


class LineSide(Protocol):
    """What the kit needs of a line."""

    @property
    def sees_output(self) -> bool:
        """False where only the gate's acks tell what its output did."""
        ...

    @property
    def belt(self) -> KitBelt | None:
        """The belt, where the gate goes by its counts and the kit drives it."""
        ...

    def part(self, count: int, at_ns: int) -> int:
        """A part comes that was due then; returns when, CLOCK_MONOTONIC ns. Raises ConfigError: the trigger cannot be made."""
        ...

    def opened(self, count: int) -> list[int]:
        """Each moment the output was told to open for this part, ns."""
        ...

    def stop_requested(self) -> bool:
        """The gate asks for a line stop."""
        ...

    def stops(self) -> int:
        """How often a line stop has been asked for so far: a gate whose station is well takes it back within moments."""
        ...

    def toggles(self) -> int:
        """How often the watchdog has flipped so far."""
        ...

    def close(self) -> None:
        """Give everything back."""
        ...


class Wires:
    """The reference's two datagram wires.

    Args:
        gate: its name in the output datagrams. listen: where the gate hears triggers. output: where it drives its output.
        clock: shared with the gate's machine. belt: where the gate goes by counts; closed with the line.

    Raises:
        ConfigError: the output's port is taken.
    """

    sees_output = True

    def __init__(
        self, gate: str, listen: tuple[str, int], output: tuple[str, int], clock: Clock, belt: KitBelt | None = None
    ) -> None:
        self.belt = belt
        self._gate = gate
        self._listen = listen
        self._clock = clock
        self._opened: dict[int, list[int]] = defaultdict(list)
        self._stop = False
        self._stops = 0
        self._toggle: bool | None = None
        self._toggles = 0
        self._ended = threading.Event()
        self._out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._in = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._in.settimeout(0.1)
        try:
            self._in.bind(output)
        except OSError as exc:
            self._in.close()
            self._out.close()
            raise ConfigError(
                f"line.output: {output[0]}:{output[1]} cannot be used ({exc.strerror}); stop the line that listens there"
            ) from exc
        self._thread = threading.Thread(target=self._watch, name="gatecheck-line", daemon=True)
        self._thread.start()

    def part(self, count: int, at_ns: int) -> int:
        """Send the trigger datagram, with the time it was due: a busy kit tells of it late, as a light barrier's sender may."""
        stamp_ns = min(at_ns, self._clock.monotonic_ns())
        enc = 0 if self.belt is None else self.belt.counts(stamp_ns)
        self._out.sendto(TRIGGER.encode(LineTrigger(TRIGGER_SCHEMA, count, stamp_ns // 1000, enc)), self._listen)
        return stamp_ns

    def opened(self, count: int) -> list[int]:
        """Each moment an `open` for this part came."""
        return list(self._opened.get(count, ()))

    def stop_requested(self) -> bool:
        """As the newest datagram says."""
        return self._stop

    def stops(self) -> int:
        """Requests so far."""
        return self._stops

    def toggles(self) -> int:
        """Flips of the watchdog."""
        return self._toggles

    def close(self) -> None:
        """Stop listening."""
        if self.belt is not None:
            self.belt.close()
        self._ended.set()
        self._thread.join(1.0)
        self._in.close()
        self._out.close()

    def _watch(self) -> None:
        while not self._ended.is_set():
            try:
                payload = self._in.recv(MAX_DATAGRAM_BYTES + 1)
            except TimeoutError:
                continue
            try:
                self._take(OUTPUT.decode(payload))
            except ContractError:
                continue  # somebody else's datagram drives nothing

    def _take(self, output: GateOutput) -> None:
        if output.gate != self._gate:
            return
        self._stops += output.stop and not self._stop
        self._stop = output.stop
        if self._toggle is not None and output.toggle != self._toggle:
            self._toggles += 1
        self._toggle = output.toggle
        if output.count is not None and output.output == "open":
            # Its own stamp where that is earlier: a busy kit must not make a gate late.
            self._opened[output.count].append(min(self._clock.monotonic_ns(), output.mono_us * 1000))


class Pulses:
    """Parts made by a command; what the gate did is read from its acks.

    Args:
        command: run once per part, without a shell; ONBELT_PART holds the kit's own count.
        fired: how often the gate acked a part as let through, by the gate's number of it, with the time of the ack.
        offset: the gate's number less the kit's, once known.
        alarmed: True while an alarm of the gate stands whose code speaks of a stop.
    """

    sees_output = False
    belt = None

    def __init__(self, command: str, clock: Clock, fired: Callable[[int], list[int]], alarmed: Callable[[], bool]) -> None:
        self._words = shlex.split(command)
        self._clock = clock
        self._fired = fired
        self._alarmed = alarmed
        if not self._words:
            raise ConfigError("--trigger-command: expected a command that makes one part come, got nothing")

    def part(self, count: int, at_ns: int) -> int:
        """Run the command; the part counts from its start, whenever it was due."""
        del at_ns
        now_ns = self._clock.monotonic_ns()
        try:
            done = subprocess.run(
                self._words,
                env={**os.environ, "ONBELT_PART": str(count)},
                capture_output=True,
                timeout=PULSE_TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as exc:
            raise ConfigError(f"--trigger-command: {self._words[0]} did not make a part come ({exc})") from exc
        if done.returncode != 0:
            told = done.stderr.decode(errors="replace").strip()[:200]
            raise ConfigError(f"--trigger-command: {self._words[0]} ended with {done.returncode}: {told}")
        return now_ns

    def opened(self, count: int) -> list[int]:
        """Each ack that says the part was let through."""
        return self._fired(count)

    def stop_requested(self) -> bool:
        """As the gate's alarms say."""
        return self._alarmed()

    def stops(self) -> int:
        """One while an alarm of a stop stands: more is not seen."""
        return int(self._alarmed())

    def toggles(self) -> int:
        """Not seen."""
        return 0

    def close(self) -> None:
        """Nothing to give back."""
