"""The gate's wires to the line: datagrams of parts and of encoder counts in, of the output out, both on loopback.

The output is normally closed. A part is let through only by an `open` that names it, and only while the watchdog toggles: the
loop flips it each turn, so a gate that hangs or dies ejects everything. A lost datagram can only eject a part.
"""

import logging
import socket
from types import TracebackType

from edge.clock import Clock
from edge.errors import ConfigError, ContractError
from edge.wire.trigger import MAX_DATAGRAM_BYTES, OUTPUT, OUTPUT_SCHEMA, EncoderCount, GateOutput, LineTrigger, decode_line

logger = logging.getLogger(__name__)

MAX_PER_TURN = 64  # a flood of datagrams must not keep the loop from deciding


class Wiring:
    """Two UDP sockets on loopback.

    Args:
        gate: name of this gate. listen: where triggers come in. output: where the line listens.

    Raises:
        ConfigError: the port is taken.
    """

    def __init__(self, gate: str, listen: tuple[str, int], output: tuple[str, int], clock: Clock) -> None:
        self._gate = gate
        self._clock = clock
        self._output = output
        self._toggle = False
        self.refused = 0
        self._in = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._in.setblocking(False)
        self._out.setblocking(False)
        try:
            self._in.bind(listen)
        except OSError as exc:
            self.close()
            raise ConfigError(
                f"line.listen: {listen[0]}:{listen[1]} cannot be used ({exc.strerror}); is another gate running?"
            ) from exc

    def fileno(self) -> int:
        """For poll: readable when a part or a count waits."""
        return self._in.fileno()

    def triggers(self) -> list[LineTrigger | EncoderCount]:
        """All triggers and counts that wait, in order, at most 64; what is neither is counted and dropped."""
        found: list[LineTrigger | EncoderCount] = []
        for _ in range(MAX_PER_TURN):
            try:
                payload = self._in.recv(MAX_DATAGRAM_BYTES + 1)
            except BlockingIOError:
                break
            try:
                found.append(decode_line(payload))
            except ContractError as error:
                self.refused += 1
                logger.debug("trigger refused: %s", error)
        return found

    def drive(self, count: int, *, opened: bool, stop: bool, reinspect: bool = False) -> None:
        """Say what the output does for one part."""
        self._send(count, opened=opened, stop=stop, reinspect=reinspect)

    def kick(self, *, stop: bool) -> None:
        """Flip the watchdog and repeat the line-stop request."""
        self._toggle = not self._toggle
        self._send(None, opened=False, stop=stop)

    def _send(self, count: int | None, *, opened: bool, stop: bool, reinspect: bool = False) -> None:
        payload = OUTPUT.encode(
            GateOutput(
                sch=OUTPUT_SCHEMA,
                gate=self._gate,
                count=count,
                output="open" if opened else "reinspect" if reinspect else "closed",
                toggle=self._toggle,
                stop=stop,
                mono_us=self._clock.monotonic_ns() // 1000,
            )
        )
        try:
            self._out.sendto(payload, self._output)
        except OSError as error:
            # Nobody listens, or its buffer is full: the line then ejects, which is what it does without us.
            logger.debug("output to %s not sent: %s", self._output, error)

    def close(self) -> None:
        """Give the ports back. May be called twice."""
        self._in.close()
        self._out.close()

    def __enter__(self) -> "Wiring":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
