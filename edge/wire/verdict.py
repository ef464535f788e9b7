"""The verdict: one per trigger, at most 1 kB, and everything a gate needs to decide without asking anybody.

The gate opens on `pass` only, so a `pass` must be consistent in itself: it has scores, its score is within the limit, all
cameras it needs delivered, and it gives no reason. A message that says `pass` and something else is refused whole.

`id` = station/boot/seq is the key against duplicates. `seq` counts up by one per trigger, scored or not, from 1 after each
start: a gap is a loss in transport. Times are integer microseconds UTC (nanoseconds overflow a double's 2^53) and labels only;
`t.valid_ms`, counted from the trigger, is what binds. `score.cal` is raw/limit: 1.0 is the limit for every model.

With a key the payload ends in a MAC over all bytes before `,"mac":"`: a controller without a JSON library can check it.
"""

import hashlib
import hmac
from typing import Annotated, Literal

import msgspec

from edge.bundle.manifest import Manifest
from edge.errors import ContractError
from edge.wire.codec import Boot, Codec, Count, Micros, ModelRef, Name, Short, Text24, Text48

SCHEMA = "onbelt.verdict/1"
GENESIS = "sha256:" + "0" * 32  # `prev` of a journal's first verdict
MIN_MAC_KEY_BYTES = 16
MAC_CHARS = 32  # HMAC-SHA256 truncated to 128 bits, as RFC 2104 section 5 allows

VerdictName = Literal["pass", "reject", "invalid", "uncertain"]
ReasonName = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9-]{0,31}\Z")]

# What `reason` may hold today. A receiver shows an unknown one as it is: a new reason is no new schema.
REASONS = {
    "logical": "the composition is wrong: something is missing, too many, or in the wrong place",
    "structural": "the surface is wrong: scratch, dent, stain, break",
    "global": "the part as a whole differs from good parts",
    "near-limit": "the score lies in the band around the limit that is set aside for a person",
    "late": "the verdict was ready after its deadline",
    "lost": "the frame never came, or a newer part needed the engine first",
    "frozen": "the camera gave the same picture again",
    "incomplete": "the transport lost a part of the picture",
    "camera": "the camera failed",
    "engine": "the inference engine failed",
    "journal": "the verdict journal cannot be written",
    "not-armed": "the station is not armed: no living self-check, or it is starting or in fault",
    "stopping": "the station is being stopped",
    "frame-unfit": "the frame has a size or type the model cannot take",
    "light": "the light has failed",
    "exposure": "the frame is too dark, too bright or washed out",
    "defocus": "the frame is not sharp",
    "absent": "no part is seen where one should be",
    "shifted": "the part lies elsewhere than it should",
    "stale": "the frame was exposed before its trigger, too long after it or after the deadline: it may show another part",
}

Fraction = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
Pixels = Annotated[int, msgspec.Meta(ge=0, le=65535)]


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which part this is about.

    Attributes:
        id: serial number, or the trigger's number as text where nothing reads a serial number.
        src: what `id` comes from. lot: lot or order, may be empty.
        enc: encoder counts at the trigger, 0 where there is no encoder.
        trig: the trigger's number on the line, the same for box and gate: what a gate finds its slot by.
    """

    id: Text24
    src: Literal["barcode", "encoder", "counter"]
    lot: Text24
    enc: Count
    trig: Count


class Score(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the model found.

    Attributes:
        raw: fused score. cal: raw/limit. p: share of good calibration parts that scored at least as high.
        st: structural, ae: logical, global_: whole part, each divided by the limit of its branch.
    """

    raw: float
    cal: float
    p: Fraction
    st: float
    ae: float
    global_: float = msgspec.field(name="global")


class Roi(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where it was found: a box in pixels of the camera's frame, its peak in units of the limit, and the branch."""

    x: Pixels
    y: Pixels
    w: Pixels
    h: Pixels
    peak: float
    branch: Literal["st", "ae", "global"]


class Times(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When it happened.

    Attributes:
        trig_us: trigger. exp_us: end of exposure, 0 without a frame. done_us: judged. pub_us: sealed, just before the
            journal. All microseconds UTC, labels.
        valid_ms: the verdict is void so many ms after its trigger.
        infer_ms: time in the engine, null when it did not run. slack_ms: time left at pub_us, negative when late.
    """

    trig_us: Micros
    exp_us: Micros
    done_us: Micros
    pub_us: Micros
    valid_ms: Annotated[float, msgspec.Meta(gt=0.0)]
    infer_ms: float | None
    slack_ms: float


class Clk(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The box's clock: its source, offset and uncertainty in microseconds (null where unknown), CLOCK_MONOTONIC at trigger."""

    src: Literal["ptp", "ntp", "free"]
    off_us: int | None
    unc_us: int | None
    mono_us: Micros


class Context(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What judged: a gate compares it with what it was armed for.

    Attributes:
        recipe: product@version. model: name@hash of the bundle's manifest. limit: hash of the limit in force (`references`).
        check: token of the living self-check, empty when there is none (then the verdict is not a pass).
    """

    recipe: Text48
    model: ModelRef
    limit: Short
    check: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9-]{0,32}\Z")]


class Cam(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which cameras the part needs and which delivered; age of the oldest frame when judging began, ms, null without one."""

    need: Annotated[list[Name], msgspec.Meta(min_length=1, max_length=4)]
    have: Annotated[list[Name], msgspec.Meta(max_length=4)]
    frame_age_ms: float | None


class Evidence(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the picture is: hash of its pixels, and a path on the box's page server."""

    sha256: Short
    url: Text48


class Verdict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One verdict. `prev` is the hash of the journal's verdict before this one; `hist` marks a back-filled one."""

    sch: str
    id: str
    station: Name
    boot: Boot
    seq: Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]
    part: Part
    gate: Name
    verdict: VerdictName
    reason: Annotated[list[ReasonName], msgspec.Meta(max_length=4)]
    score: Score | None
    roi: Annotated[list[Roi], msgspec.Meta(max_length=8)]
    t: Times
    clk: Clk
    ctx: Context
    cam: Cam
    ev: Evidence | None
    prev: Short
    hist: bool | msgspec.UnsetType = msgspec.UNSET
    mac: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z")] | msgspec.UnsetType = msgspec.UNSET


def verdict_id(station: str, boot: str, seq: int) -> str:
    """The key against duplicates."""
    return f"{station}/{boot}/{seq}"


def _check(verdict: Verdict) -> None:
    expected = verdict_id(verdict.station, verdict.boot, verdict.seq)
    if verdict.id != expected:
        raise ContractError(f"verdict: expected id {expected!r} from station, boot and seq, got {verdict.id[:96]!r} - at `$.id`")
    if verdict.verdict == "pass":
        if verdict.score is None or verdict.score.cal > 1.0:
            raise ContractError("verdict: a pass needs a score within the limit (cal <= 1) - at `$.score`; refused")
        if verdict.reason:
            raise ContractError(f"verdict: a pass gives no reason, got {verdict.reason} - at `$.reason`; refused")
        if not set(verdict.cam.need) <= set(verdict.cam.have):
            raise ContractError("verdict: a pass needs a frame of every camera it names - at `$.cam.have`; refused")
        if not verdict.ctx.check:
            raise ContractError("verdict: a pass needs the token of a living self-check - at `$.ctx.check`; refused")
    elif not verdict.reason:
        raise ContractError(f"verdict: {verdict.verdict} needs a reason, got none - at `$.reason`; refused")


CODEC: Codec[Verdict] = Codec(SCHEMA, Verdict, check=_check)
_MAC_HEAD = b',"mac":"'
_MAC_TAIL_BYTES = len(_MAC_HEAD) + MAC_CHARS + len(b'"}')


def encode_verdict(verdict: Verdict, key: bytes | None = None) -> bytes:
    """Write a verdict, sealed with the key where one is given.

    Regions give way where the message would exceed 1 kB, the last (weakest) first; nothing else is ever left out.

    Raises:
        ContractError: a value is out of range or fields contradict each other.
    """
    body = msgspec.structs.replace(verdict, mac=msgspec.UNSET)
    room = CODEC.max_bytes - (0 if key is None else _MAC_TAIL_BYTES - 1)
    encoder = msgspec.json.Encoder()
    payload = encoder.encode(body)
    while len(payload) > room and body.roi:
        body = msgspec.structs.replace(body, roi=body.roi[:-1])
        payload = encoder.encode(body)
    payload = payload if key is None else _seal(payload, key)
    CODEC.decode(payload)
    return payload


def decode_verdict(payload: bytes) -> Verdict:
    """Read a verdict. Raises ContractError; its MAC is not checked here, see `verify_mac`."""
    return CODEC.decode(payload)


def verify_mac(payload: bytes, key: bytes) -> bool:
    """True when the payload ends in a MAC made with this key over all bytes before it."""
    head, tail = payload[:-_MAC_TAIL_BYTES], payload[-_MAC_TAIL_BYTES:]
    if not (tail.startswith(_MAC_HEAD) and tail.endswith(b'"}')):
        return False
    given = tail[len(_MAC_HEAD) : -2]
    return hmac.compare_digest(given, hmac.new(key, head, hashlib.sha256).hexdigest()[:MAC_CHARS].encode())


def as_history(payload: bytes, key: bytes | None = None) -> bytes:
    """The same verdict as back-fill for `verdict-late`: marked `hist`, and sealed anew where a key is given.

    Raises:
        ContractError: the payload is no verdict of ours, or is marked already.
    """
    verdict = CODEC.decode(payload)
    if verdict.hist is not msgspec.UNSET:
        raise ContractError("verdict: expected one that is not back-filled yet, got `hist` - at `$.hist`")
    return encode_verdict(msgspec.structs.replace(verdict, hist=True), key)


def payload_hash(payload: bytes) -> str:
    """What the next verdict carries as `prev`: the hash of the payload as journaled, its first 128 bits."""
    return "sha256:" + hashlib.sha256(payload).hexdigest()[:32]


def _seal(payload: bytes, key: bytes) -> bytes:
    if len(key) < MIN_MAC_KEY_BYTES:
        raise ContractError(
            f"verdict: expected a MAC key of at least {MIN_MAC_KEY_BYTES} bytes, got {len(key)}; make a longer one"
        )
    mac = hmac.new(key, payload[:-1], hashlib.sha256).hexdigest()[:MAC_CHARS].encode()
    return payload[:-1] + _MAC_HEAD + mac + b'"}'


def references(manifest: Manifest, manifest_sha256: str) -> tuple[str, str, str]:
    """How verdicts name what judged: (model, recipe, limit), as `ctx` and birth carry them and a gate compares them.

    Args:
        manifest: the bundle's manifest.
        manifest_sha256: 64 hex digits, the hash of the bundle's manifest.json.
    """
    limit = hashlib.sha256(msgspec.json.encode(manifest.limit, order="sorted")).hexdigest()
    return (
        f"{manifest.model}@sha256:{manifest_sha256[:32]}",
        f"{manifest.product}@{manifest.version}",
        f"sha256:{limit[:32]}",
    )
