"""The datagrams between the line and us, over UDP on loopback: a part has come, where the belt stands, what the output does.

Datagrams are the simulated line's wiring; on a real line these are two electrical signals. A lost trigger datagram is a part
without a verdict, and the gate, which hears the line itself, rejects it.
"""

from typing import Literal

import msgspec

from edge.wire.codec import Codec, Count, Micros, Name, Text24, schema_of

TRIGGER_SCHEMA = "onbelt.trigger/1"
ENCODER_SCHEMA = "onbelt.encoder/1"
OUTPUT_SCHEMA = "onbelt.output/1"
MAX_DATAGRAM_BYTES = 512


class LineTrigger(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part stands before the camera.

    Attributes:
        count: number of the part on the line, counting up; the same datagram goes to the box and to the gate.
        mono_us: CLOCK_MONOTONIC of the line's machine when the light barrier fired, microseconds.
        enc: encoder counts at that moment, 0 without an encoder. part: serial number, empty when nothing reads one.
    """

    sch: str
    count: Count
    mono_us: Micros
    enc: Count = 0
    part: Text24 = ""


class EncoderCount(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the belt stands: sent to a gate that goes by counts, some hundred times a second, at rest as well.

    Attributes:
        mono_us: CLOCK_MONOTONIC of the line's machine when the counter was read, microseconds. enc: its counts.
    """

    sch: str
    mono_us: Micros
    enc: Count


class GateOutput(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The state of a gate's output, for the line.

    Attributes:
        count: the part this is about, or null for a mere sign of life.
        output: "open" lets the part through; "closed" ejects it, and is what a line assumes when nothing comes.
            "reinspect", only from a gate that was told to, sends it to a person; a line that does not know the word ejects.
        toggle: flips with every sign of life: a line that sees it stand still for longer than its limit ejects everything.
        stop: the gate asks for a line stop. mono_us: CLOCK_MONOTONIC of the gate's machine, microseconds.
    """

    sch: str
    gate: Name
    count: Count | None
    output: Literal["open", "closed", "reinspect"]
    toggle: bool
    stop: bool
    mono_us: Micros


TRIGGER: Codec[LineTrigger] = Codec(TRIGGER_SCHEMA, LineTrigger, max_bytes=MAX_DATAGRAM_BYTES)
ENCODER: Codec[EncoderCount] = Codec(ENCODER_SCHEMA, EncoderCount, max_bytes=MAX_DATAGRAM_BYTES)
OUTPUT: Codec[GateOutput] = Codec(OUTPUT_SCHEMA, GateOutput, max_bytes=MAX_DATAGRAM_BYTES)


def decode_line(payload: bytes) -> LineTrigger | EncoderCount:
    """Read what a line tells a gate. Raises ContractError: it is neither."""
    return ENCODER.decode(payload) if schema_of(payload) == ENCODER_SCHEMA else TRIGGER.decode(payload)
