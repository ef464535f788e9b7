"""What is thrown at a gate part by part: each probe is one part, what is said about it and when, and what must become of it.

Times are shares of D, the gate's own deadline after the trigger; 0 is the trigger, 1 is D. A negative time is before the trigger.
Between any two probes the runner puts a part with a plain PASS, which must open: a gate that opens for nobody passes no check.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from edge.gate.kit.station import KitStation
from edge.wire import topics as channels
from edge.wire.topics import Channel
from edge.wire.verdict import SCHEMA, verdict_id

BEFORE, EARLY, MIDDLE, LAST_CALL, AFTER = -2.0, 0.1, 0.35, 0.65, 1.25
NEIGHBOUR_NS = 100_000_000
OTHER_HASH = "sha256:" + "00" * 16
OTHER_BOOT = "0" * 26


@dataclass(frozen=True, slots=True)
class Send:
    """One message: when, as a share of D after the trigger, and its bytes."""

    at: float
    payload: bytes
    channel: Channel = channels.VERDICT


@dataclass(frozen=True, slots=True)
class Probe:
    """One part.

    Attributes:
        rule: of the contract. name: what is thrown at the gate, and what it must do, in words.
        sends: what is said about part n by this station.
        opens: the part must be let through, exactly once; else never.
        why: what the ack may give as the reason; empty leaves it open.
        sealed: only where verdicts carry a MAC. stamped: only where the gate knows when the kit's parts come.
        quarantines: the part must be named in `quarantine` afterwards.
        timely: the part stays out only if a message arrives in time, which a busy broker may prevent: an escape is tried again.
    """

    rule: int
    name: str
    sends: Callable[[KitStation, int], list[Send]]
    opens: bool = False
    why: frozenset[str] = field(default_factory=frozenset)
    sealed: bool = False
    stamped: bool = False
    quarantines: bool = False
    timely: bool = False


def _pass(station: KitStation, n: int, at: float = EARLY, **changes: object) -> Send:
    return Send(at, station.encode(station.verdict(n, "pass", **changes)))


def _say(station: KitStation, n: int, name: str, at: float) -> Send:
    return Send(at, station.encode(station.verdict(n, name)))


def _edited(old: bytes, new: bytes) -> Callable[[KitStation, int], list[Send]]:
    """A valid PASS with some bytes exchanged after it was written, where no seal shows it."""

    def sends(station: KitStation, n: int) -> list[Send]:
        payload = station.encode(station.verdict(n, "pass"), b"")
        if old not in payload:
            raise RuntimeError(f"expected {old!r} in {payload!r}")
        return [Send(EARLY, payload.replace(old, new))]

    return sends


def _without(name: str) -> Callable[[KitStation, int], list[Send]]:
    def sends(station: KitStation, n: int) -> list[Send]:
        body = msgspec.json.decode(station.encode(station.verdict(n, "pass"), b""))
        del body[name]
        return [Send(EARLY, msgspec.json.encode(body))]

    return sends


def _raw(payload: bytes) -> Callable[[KitStation, int], list[Send]]:
    return lambda _station, _n: [Send(EARLY, payload)]


def _twice(station: KitStation, n: int) -> list[Send]:
    payload = station.encode(station.verdict(n, "pass"))
    return [Send(EARLY, payload), Send(MIDDLE, payload), Send(AFTER, payload)]


def _history(station: KitStation, n: int) -> list[Send]:
    verdict = msgspec.structs.replace(station.verdict(n, "pass"), hist=True)
    return [Send(EARLY, station.encode(verdict), channels.VERDICT_LATE)]


def _torn(station: KitStation, n: int) -> list[Send]:
    return [Send(EARLY, station.encode(station.verdict(n, "pass"))[:-30])]


def _other_part(station: KitStation, n: int) -> list[Send]:
    # The verdict of another part, which has no slot: nothing may come of it, and this part has none.
    return [_pass(station, n + 1_000_000)]


def _other_station(station: KitStation, n: int) -> list[Send]:
    name = "nobody"
    verdict = station.verdict(n, "pass")
    return [
        Send(
            EARLY,
            station.encode(msgspec.structs.replace(verdict, station=name, id=verdict_id(name, verdict.boot, verdict.seq))),
        )
    ]


def _other_moment(station: KitStation, n: int) -> list[Send]:
    # The number is this part's, the picture the neighbour's: a camera that missed an exposure counts so.
    return [_pass(station, n, clk={"mono_us": (station.part_ns - NEIGHBOUR_NS) // 1000})]


IGNORED = frozenset({"missing"})  # a message that is nobody's verdict leaves no better reason than that none came
LATE = frozenset({"late", "missing"})

PROBES: tuple[Probe, ...] = (
    Probe(1, "PASS before its trigger, for a part that has no slot yet: not kept for it", lambda s, n: [_pass(s, n, BEFORE)]),
    Probe(1, "PASS for a part that never came: opens nothing", _other_part, why=IGNORED),
    Probe(2, "PASS of schema major 2", _edited(SCHEMA.encode(), b"onbelt.verdict/2"), why=IGNORED),
    Probe(2, "PASS of another station", _other_station, why=IGNORED),
    Probe(2, "PASS for another gate on this gate's topic", lambda s, n: [_pass(s, n, gate="nobody")], why=IGNORED),
    Probe(
        2,
        "PASS of a boot that was never born",
        lambda s, n: [_pass(s, n, boot=OTHER_BOOT)],
        why=frozenset({"stale-boot"}),
    ),
    Probe(
        2,
        "PASS of another model",
        lambda s, n: [_pass(s, n, ctx={"model": f"other@{OTHER_HASH}"})],
        why=frozenset({"wrong-model"}),
    ),
    Probe(2, "PASS under another limit", lambda s, n: [_pass(s, n, ctx={"limit": OTHER_HASH})], why=frozenset({"wrong-model"})),
    Probe(2, "PASS of another recipe", lambda s, n: [_pass(s, n, ctx={"recipe": "other@9"})], why=frozenset({"wrong-model"})),
    Probe(
        2,
        "PASS under a self-check that was never announced",
        lambda s, n: [_pass(s, n, ctx={"check": "chk-forged"})],
        why=frozenset({"no-token"}),
    ),
    Probe(2, "PASS later than its own valid_ms", lambda s, n: [_pass(s, n, LAST_CALL, t={"valid_ms": 1.0})], why=LATE),
    Probe(2, "PASS of a part triggered 100 ms before this one", _other_moment, why=IGNORED, stamped=True),
    Probe(2, "PASS after D", lambda s, n: [_pass(s, n, AFTER)], why=IGNORED),
    Probe(
        2,
        "PASS without a seal",
        lambda s, n: [Send(EARLY, s.encode(s.verdict(n, "pass"), b""))],
        why=frozenset({"bad-mac"}),
        sealed=True,
    ),
    Probe(
        2,
        "PASS sealed with another key",
        lambda s, n: [Send(EARLY, s.encode(s.verdict(n, "pass"), b"another key of enough bytes"))],
        why=frozenset({"bad-mac"}),
        sealed=True,
    ),
    Probe(2, "a verdict word nobody knows", _edited(b'"verdict":"pass"', b'"verdict":"good"'), why=frozenset()),
    Probe(2, "PASS without its score's field", _without("score")),
    Probe(2, "PASS without its validity", _without("t")),
    Probe(2, "PASS cut off in the middle", _torn),
    Probe(2, "an empty message", _raw(b""), why=IGNORED),
    Probe(2, "no JSON", _raw(b"\xff\xfe\x00" * 60), why=IGNORED),
    Probe(2, "JSON nested a thousand times", _raw(b"[" * 1000), why=IGNORED),
    Probe(2, "a message of 16 kB", _raw(b'{"verdict":"pass","x":"' + b"x" * 16_384 + b'"}'), why=IGNORED),
    Probe(2, "PASS as back-fill on verdict-late", _history, why=IGNORED),
    Probe(3, "REJECT, then PASS", lambda s, n: [_say(s, n, "reject", EARLY), _pass(s, n, MIDDLE)], why=frozenset({"verdict"})),
    Probe(
        3, "PASS, then REJECT", lambda s, n: [_pass(s, n), _say(s, n, "reject", MIDDLE)], why=frozenset({"verdict"}), timely=True
    ),
    Probe(
        3,
        "PASS, then INVALID",
        lambda s, n: [_pass(s, n), _say(s, n, "invalid", MIDDLE)],
        why=frozenset({"verdict"}),
        timely=True,
    ),
    Probe(3, "INVALID, then PASS", lambda s, n: [_say(s, n, "invalid", EARLY), _pass(s, n, MIDDLE)], why=frozenset({"verdict"})),
    Probe(3, "REJECT alone", lambda s, n: [_say(s, n, "reject", EARLY)], why=frozenset({"verdict"})),
    Probe(3, "UNCERTAIN alone: only PASS opens", lambda s, n: [_say(s, n, "uncertain", EARLY)], why=frozenset({"verdict"})),
    Probe(3, "the same PASS three times, once after D: opens once", _twice, opens=True),
    Probe(3, "two PASSes with different ids: opens once", lambda s, n: [_pass(s, n), _pass(s, n, MIDDLE)], opens=True),
    Probe(4, "no verdict at all", lambda _s, _n: [], why=frozenset({"missing"})),
    Probe(
        4,
        "PASS early, REJECT just before D: nothing opens before D",
        lambda s, n: [_pass(s, n), _say(s, n, "reject", LAST_CALL)],
        timely=True,
    ),
    Probe(
        5,
        "REJECT after the part has gone: moves nothing, is quarantined",
        lambda s, n: [_pass(s, n), _say(s, n, "reject", AFTER)],
        opens=True,
        quarantines=True,
    ),
)
