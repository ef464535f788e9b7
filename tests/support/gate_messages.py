"""Messages of a station for gate tests: valid by default, each field can be changed by name."""

from typing import Any

import msgspec

from edge.wire.station import BEAT_SCHEMA, BIRTH_SCHEMA, STATE_SCHEMA, STATUS_SCHEMA, Beat, Birth, Check, State, Status
from edge.wire.trigger import TRIGGER_SCHEMA, LineTrigger
from edge.wire.verdict import (
    GENESIS,
    SCHEMA,
    Cam,
    Clk,
    Context,
    Part,
    Score,
    Times,
    Verdict,
    verdict_id,
)

STATION = "st2"
GATE = "g1"
BOOT = "01JD8Q7ZK3A0000000000000AA"
OTHER_BOOT = "01JD8Q7ZK3B0000000000000BB"
MODEL = "tiny@sha256:" + "9f" * 16
OTHER_MODEL = "tiny@sha256:" + "00" * 16
LIMIT = "sha256:" + "77" * 16
RECIPE = "bottle@7"
TOKEN = "chk-1"
CHECK_LIFE_MS = 60_000
UTC_US = 1_795_302_862_000_000

_NO_CHECK = "none"


def make_check(token: str = TOKEN, life_ms: float = CHECK_LIFE_MS) -> Check:
    return Check(token=token, at_us=UTC_US, until_us=UTC_US + round(life_ms * 1000), frames=4)


def make_birth(boot: str = BOOT, token: str = TOKEN, life_ms: float = CHECK_LIFE_MS, **changes: Any) -> Birth:
    birth = Birth(
        sch=BIRTH_SCHEMA,
        station=STATION,
        boot=boot,
        at_us=UTC_US,
        first_seq=1,
        software="test",
        model=MODEL,
        bundle="",
        limit=LIMIT,
        recipe=RECIPE,
        promise=None,
        check=None if token == _NO_CHECK else make_check(token, life_ms),
        engine="test",
        size=64,
        gates=[GATE],
        cameras=["c1"],
        trigger="udp",
        valid_ms=400.0,
        budget_ms=None,
        infer_p99_ms=None,
        beat_hz=10.0,
        sealed=False,
        clk="free",
        mqtt="5",
        page="",
        schemas=[],
    )
    return msgspec.structs.replace(birth, **changes)


def make_beat(n: int, boot: str = BOOT, *, armed: bool = True, left_ms: float = CHECK_LIFE_MS) -> Beat:
    return Beat(
        sch=BEAT_SCHEMA,
        station=STATION,
        boot=boot,
        n=n,
        seq=0,
        armed=armed,
        check_left_ms=left_ms,
        slack_p999_ms=None,
        mono_us=0,
    )


def make_state(boot: str = BOOT, *, armed: bool = True, token: str = TOKEN, reasons: list[str] | None = None) -> State:
    return State(
        sch=STATE_SCHEMA,
        station=STATION,
        boot=boot,
        state="ContinuousExecution" if armed else "Error",
        phase="RUNNING" if armed else "FAULT",
        armed=armed,
        reasons=reasons or [],
        recipe=RECIPE,
        model=MODEL,
        limit=LIMIT,
        check=None if token == _NO_CHECK else make_check(token),
        since_us=UTC_US,
    )


def make_status(status: str, boot: str = BOOT) -> Status:
    return msgspec.convert({"sch": STATUS_SCHEMA, "station": STATION, "boot": boot, "status": status, "why": "test"}, Status)


def make_trigger(count: int, mono_ns: int, *, enc: int = 0, part: str = "") -> LineTrigger:
    return LineTrigger(sch=TRIGGER_SCHEMA, count=count, mono_us=mono_ns // 1000, enc=enc, part=part)


def make_verdict(
    trig: int,
    verdict: str = "pass",
    *,
    boot: str = BOOT,
    seq: int | None = None,
    token: str = TOKEN,
    model: str = MODEL,
    limit: str = LIMIT,
    recipe: str = RECIPE,
    valid_ms: float = 400.0,
    enc: int = 0,
    part: str = "",
    unc_us: int | None = None,
    **changes: Any,
) -> Verdict:
    seq = trig if seq is None else seq
    judged = verdict != "invalid"
    cal = 0.4 if verdict == "pass" else 1.7
    made = Verdict(
        sch=SCHEMA,
        id=verdict_id(STATION, boot, seq),
        station=STATION,
        boot=boot,
        seq=seq,
        part=Part(id=part or str(trig), src="barcode" if part else "counter", lot="", enc=enc, trig=trig),
        gate=GATE,
        verdict=verdict,  # type: ignore[arg-type]  # tests also send what the type forbids
        reason={"pass": [], "reject": ["structural"], "uncertain": ["near-limit"]}.get(verdict, ["lost"]),
        score=Score(raw=cal, cal=cal, p=0.5, st=cal, ae=0.1, global_=0.1) if judged else None,
        roi=[],
        t=Times(
            trig_us=UTC_US, exp_us=UTC_US, done_us=UTC_US, pub_us=UTC_US, valid_ms=valid_ms, infer_ms=9.0, slack_ms=valid_ms - 50
        ),
        clk=Clk(src="free", off_us=None, unc_us=unc_us, mono_us=0),
        ctx=Context(recipe=recipe, model=model, limit=limit, check=token),
        cam=Cam(need=["c1"], have=["c1"], frame_age_ms=4.0),
        ev=None,
        prev=GENESIS,
    )
    return msgspec.structs.replace(made, **changes)
