"""What a station says about itself besides verdicts: beat, state, birth, cameras, alarms; and what others tell it.

The gate reads `beat` and `birth` (which boot, which model, is it armed); people, SCADA and pages read the rest.
"""

from typing import Annotated, Literal

import msgspec

from edge.wire.codec import Boot, Codec, Count, Micros, Name, Short, Text24, Text48

BEAT_SCHEMA = "onbelt.beat/1"
STATE_SCHEMA = "onbelt.state/1"
BIRTH_SCHEMA = "onbelt.birth/1"
STATUS_SCHEMA = "onbelt.status/1"
CAMERA_SCHEMA = "onbelt.camera/1"
ALARM_SCHEMA = "onbelt.alarm/1"
ACK_SCHEMA = "onbelt.ack/1"
COMMAND_SCHEMA = "onbelt.command/1"
RESULT_SCHEMA = "onbelt.result/1"
HEALTH_SCHEMA = "onbelt.health/2"
STATS_SCHEMA = "onbelt.stats/1"
EVIDENCE_SCHEMA = "onbelt.evidence/1"

MAX_BIRTH_BYTES = 4096
MAX_HEALTH_BYTES = 2048

Line = Annotated[str, msgspec.Meta(max_length=240)]
MaybeModel = Annotated[str, msgspec.Meta(pattern=r"^([A-Za-z0-9._-]{1,32}@sha256:[0-9a-f]{32})?\Z")]
MaybeShort = Annotated[str, msgspec.Meta(pattern=r"^(sha256:[0-9a-f]{32})?\Z")]
MaybeSha256 = Annotated[str, msgspec.Meta(pattern=r"^(sha256:[0-9a-f]{64})?\Z")]
Token = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9-]{0,32}\Z")]

# OPC 40100-1 (machine vision), the states of its vision state machine.
OpcState = Literal["Preoperational", "Initialized", "Ready", "SingleExecution", "ContinuousExecution", "Error", "Halted"]

CameraName = Literal["online", "offline", "frozen", "degraded"]


class Beat(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Ten times a second: the station lives, and whether its verdicts count.

    Attributes:
        n: number of this beat since the start. seq: newest trigger's number, 0 before the first.
        armed: False means that no gate may open. check_left_ms: remaining life of the self-check, 0 when there is none;
            relative, so that it holds without a common clock.
        slack_p999_ms: 99.9 % of the recent verdicts left with at least so much time to their deadline; null before the first.
        mono_us: the sender's CLOCK_MONOTONIC.
    """

    sch: str
    station: Name
    boot: Boot
    n: Count
    seq: Count
    armed: bool
    check_left_ms: Annotated[float, msgspec.Meta(ge=0.0)]
    slack_p999_ms: float | None
    mono_us: Micros


class Check(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A self-check: its token, when it was passed, until when it counts, and on how many golden frames."""

    token: Token
    at_us: Micros
    until_us: Micros
    frames: Count


class State(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Retained: what the station is doing and why.

    Attributes:
        state: the OPC 40100-1 name. phase: our own finer state (STARTING, WARMING, RUNNING, DEGRADED, FAULT, STOPPING).
        reasons: why it is not armed, or not well; empty when all is well.
    """

    sch: str
    station: Name
    boot: Boot
    state: OpcState
    phase: Literal["STARTING", "WARMING", "RUNNING", "DEGRADED", "FAULT", "STOPPING"]
    armed: bool
    reasons: Annotated[list[Line], msgspec.Meta(max_length=8)]
    recipe: Text48
    model: MaybeModel
    limit: MaybeShort
    check: Check | None
    since_us: Micros


class Promise(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is promised of the limit: false-reject rate, confidence, kind, and the number of good parts behind it."""

    false_reject: float
    confidence: float
    kind: Line
    n: Count


class Birth(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Retained: who speaks from now on, and with what. A gate takes `boot`, the hashes and the token from here.

    Attributes:
        boot: of this process; a verdict of any other boot is stale.
        first_seq: the number the next verdict will carry.
        model, limit, recipe: as in every verdict's `ctx`; empty while no model is loaded. bundle: the manifest's hash in full.
        engine: engine and precision, for people. size: input side, pixels.
        valid_ms: deadline after the trigger. budget_ms: engine p99 above which the model is not armed.
        infer_p99_ms: p99 of the engine at start on this machine, null while unknown.
        sealed: True when every verdict carries a MAC.
        mqtt: protocol in use, "5" or "3.1.1". schemas: all messages this station writes.
    """

    sch: str
    station: Name
    boot: Boot
    at_us: Micros
    first_seq: Count
    software: Line
    model: MaybeModel
    bundle: MaybeSha256
    limit: MaybeShort
    recipe: Text48
    promise: Promise | None
    check: Check | None
    engine: Line
    size: Count
    gates: Annotated[list[Name], msgspec.Meta(max_length=4)]
    cameras: Annotated[list[Name], msgspec.Meta(max_length=4)]
    trigger: Line
    valid_ms: Annotated[float, msgspec.Meta(gt=0.0)]
    budget_ms: float | None
    infer_p99_ms: float | None
    beat_hz: Annotated[float, msgspec.Meta(gt=0.0)]
    sealed: bool
    clk: Literal["ptp", "ntp", "free"]
    mqtt: Literal["5", "3.1.1"]
    page: Line
    schemas: Annotated[list[Line], msgspec.Meta(max_length=16)]


class Status(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Retained, and the last will: for people and SCADA, never for reject timing (a will may take 14 s)."""

    sch: str
    station: Name
    boot: Boot
    status: Literal["online", "offline"]
    why: Line


class CameraState(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Retained: one camera."""

    sch: str
    station: Name
    camera: Name
    state: CameraName
    detail: Line
    since_us: Micros


class Alarm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Retained while it stands: what is wrong, since when, and what to do. Cleared by an empty retained payload."""

    sch: str
    station: Name
    boot: Boot
    code: Name
    severity: Literal["warning", "fault"]
    text: Line
    remedy: Line
    since_us: Micros


class Ack(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a gate did with a part.

    Attributes:
        id: the verdict it acted on, empty when none came in time. trig: the part's trigger number. part: its id, or empty.
        decision: what was done; "reinspect" only from a gate that has an output for it. why: the reason.
        slack_ms: time left when the verdict came, null without one.
        fired: an actuator was driven, for "pass" or "reinspect". confirmed: a sensor saw it; null where there is no sensor.
        at_us: microseconds UTC, a label.
    """

    sch: str
    station: Name
    gate: Name
    id: Annotated[str, msgspec.Meta(max_length=96)]
    trig: Count
    part: Text24
    decision: Literal["pass", "reject", "hold", "reinspect"]
    why: Literal["verdict", "missing", "late", "stale-boot", "wrong-model", "no-token", "bad-mac", "disarmed"]
    slack_ms: float | None
    fired: bool
    confirmed: bool | None
    at_us: Micros


class Command(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A command that changes no judgement (`rebirth`).

    Attributes:
        nonce: comes back in the result; a second command with the same one is refused.
        not_after_us: it is refused after this time, and when this lies more than five minutes ahead.
    """

    sch: str
    nonce: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    issuer: Text48
    not_after_us: Micros


class Result(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The answer to a command."""

    sch: str
    station: Name
    name: Name
    nonce: Annotated[str, msgspec.Meta(max_length=64)]
    ok: bool
    detail: Line


class CameraCounts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Frames that became no part's picture: complete ones nobody asked for, damaged ones, and numbers that never came."""

    skipped: Count
    incomplete: Count
    dropped: Count


class ClockHealth(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The wall clock: what sets it, the offset still being corrected and the estimated error, us; null where nobody knows."""

    src: Literal["ptp", "ntp", "free"]
    off_us: int | None
    unc_us: Count | None


class Health(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Every ten seconds: counters since the start and what the box has left.

    Attributes:
        verdicts: verdicts by kind. invalid: invalid ones by reason. late: journaled but not sent live.
        unsent: verdicts in the journal that no broker has confirmed yet. dropped: telemetry messages given up.
        lost: such verdicts that a full journal had to let go, since it was begun: nobody was told of them.
        refused: messages and commands from outside that were refused.
        frame_to_verdict_ms: p50 and p99 of the recent ones; slack_ms the same, null before the first.
        gate_slack_ms: what half and 99.9 % of the recent verdicts had left of the gate's own deadline D when it had them in hand,
            by its acks; D less the second is the p99.9 from trigger to gate. Null without acks.
        disk_free_mb: free space where the journal lies. rss_mb: resident memory of the process.
        temp_c: degrees Celsius of the hottest thermal zones, null on a machine without any.
    """

    sch: str
    station: Name
    boot: Boot
    up_s: Count
    seq: Count
    verdicts: dict[Text24, Count]
    invalid: dict[Text24, Count]
    late: Count
    unsent: Count
    lost: Count
    dropped: Count
    refused: Count
    reconnects: Count
    frame_to_verdict_ms: list[float] | None
    slack_ms: list[float] | None
    gate_slack_ms: list[float] | None
    camera: CameraCounts
    journal_rows: Count
    disk_free_mb: Count
    rss_mb: Count
    temp_c: dict[Text24, float] | None
    clk: ClockHealth


class Stats(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Once a minute, for each window: what plants compute their OEE from (`edge.daemon.state.oee`).

    Attributes:
        window: "hour" for the last one, "start" for all since the daemon's start.
        good, bad, invalid, uncertain: parts by verdict.
        running_s: armed and parts came. idle_s: armed, no parts. down_s: not armed. at_us: microseconds UTC.
    """

    sch: str
    station: Name
    boot: Boot
    window: Literal["hour", "start"]
    good: Count
    bad: Count
    invalid: Count
    uncertain: Count
    running_s: float
    idle_s: float
    down_s: float
    at_us: Micros


class EvidenceKept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part's picture lies on the box's disk now; the picture itself never travels here.

    Attributes:
        boot, seq: the verdict that names it. part: as there. verdict: what was said of it.
        sha256, url: as in the verdict's `ev`: hash of the pixels, and the path on the box's page (`birth` has its address).
        size: bytes of the PNG served there. map: an anomaly map lies beside it, at url + ".map".
    """

    sch: str
    station: Name
    boot: Boot
    seq: Count
    part: Text24
    verdict: Literal["pass", "reject", "invalid", "uncertain"]
    sha256: Short
    url: Text48
    size: Count
    map: bool


EVIDENCE: Codec[EvidenceKept] = Codec(EVIDENCE_SCHEMA, EvidenceKept)
STATS: Codec[Stats] = Codec(STATS_SCHEMA, Stats)
BEAT: Codec[Beat] = Codec(BEAT_SCHEMA, Beat)
STATE: Codec[State] = Codec(STATE_SCHEMA, State, max_bytes=MAX_BIRTH_BYTES)
BIRTH: Codec[Birth] = Codec(BIRTH_SCHEMA, Birth, max_bytes=MAX_BIRTH_BYTES)
STATUS: Codec[Status] = Codec(STATUS_SCHEMA, Status)
CAMERA: Codec[CameraState] = Codec(CAMERA_SCHEMA, CameraState)
ALARM: Codec[Alarm] = Codec(ALARM_SCHEMA, Alarm)
ACK: Codec[Ack] = Codec(ACK_SCHEMA, Ack)
COMMAND: Codec[Command] = Codec(COMMAND_SCHEMA, Command)
RESULT: Codec[Result] = Codec(RESULT_SCHEMA, Result)
HEALTH: Codec[Health] = Codec(HEALTH_SCHEMA, Health, max_bytes=MAX_HEALTH_BYTES)
