"""Outcome to verdict: pure, and the only place that can write `pass`.

The order of the questions is the order of caution: is it too late, was something wrong with the part's picture, is the station
armed; only then does the judgement count.
"""

from dataclasses import dataclass

import msgspec

from edge.daemon.stages.identity import Identity
from edge.daemon.stages.parts import NS_PER_MS, Outcome
from edge.errors import ConfigError, ContractError
from edge.judge import Judgement
from edge.regions import Region
from edge.system.clocksync import ClockState
from edge.wire.codec import significant
from edge.wire.verdict import (
    GENESIS,
    SCHEMA,
    Cam,
    Clk,
    Context,
    Part,
    Roi,
    Score,
    Times,
    Verdict,
    VerdictName,
    encode_verdict,
    verdict_id,
)

_NO_FRAME = frozenset({"camera", "frozen", "incomplete", "stale"})


@dataclass(frozen=True, slots=True)
class Moment:
    """What holds when a verdict is written.

    Attributes:
        now_ns: CLOCK_MONOTONIC. token: the living self-check, empty when the station is not armed.
        prev: hash of the journal's newest verdict. clock: the wall clock's state.
        forced: a reason that makes it `invalid` whatever was found ("journal", "stopping"), or empty.
    """

    now_ns: int
    token: str
    prev: str
    clock: ClockState
    forced: str = ""


def compose(outcome: Outcome, who: Identity, moment: Moment) -> Verdict:
    """Write the verdict of one part."""
    ticket = outcome.ticket
    trigger = ticket.trigger
    slack_ms = (ticket.deadline_ns - moment.now_ns) / NS_PER_MS
    name, reasons = _decide(outcome, moment, late=slack_ms < 0)
    judgement = outcome.judgement

    def label(at_ns: int) -> int:
        return ticket.trig_us + (at_ns - trigger.mono_ns) // 1000 if at_ns else 0

    return Verdict(
        sch=SCHEMA,
        id=verdict_id(who.station, who.boot, ticket.seq),
        station=who.station,
        boot=who.boot,
        seq=ticket.seq,
        part=Part(
            trigger.part_id or str(trigger.count),
            "barcode" if trigger.part_id else "counter",
            who.lot,
            trigger.encoder,
            trigger.count,
        ),
        gate=who.gate,
        verdict=name,
        reason=reasons,
        score=_score(judgement),
        roi=[] if judgement is None else [_roi(region, *outcome.size_px) for region in judgement.regions],
        t=Times(
            ticket.trig_us,
            label(outcome.exp_ns),
            label(outcome.done_ns),
            label(moment.now_ns),
            who.valid_ms,
            None if outcome.infer_ms is None else round(outcome.infer_ms, 1),
            round(slack_ms, 1),
        ),
        clk=Clk(moment.clock.src, moment.clock.off_us, moment.clock.unc_us, trigger.mono_ns // 1000),
        ctx=Context(who.recipe, who.model, who.limit, moment.token),
        cam=Cam(
            who.needed,
            _have(outcome, who),
            round((outcome.begun_ns - outcome.exp_ns) / NS_PER_MS, 1) if outcome.exp_ns and outcome.begun_ns else None,
        ),
        ev=None,
        prev=moment.prev,
    )


def _decide(outcome: Outcome, moment: Moment, *, late: bool) -> tuple[VerdictName, list[str]]:
    judgement = outcome.judgement
    invalid = moment.forced or outcome.reason or ("late" if late else "") or ("" if moment.token else "not-armed")
    if invalid or judgement is None:
        return "invalid", [invalid or "engine"]
    if judgement.verdict == "pass":
        return "pass", []
    if judgement.verdict == "uncertain":
        return "uncertain", ["near-limit"]
    return "reject", [judgement.cause or "global"]


def _have(outcome: Outcome, who: Identity) -> list[str]:
    if outcome.have:
        return [name for name in who.needed if name in outcome.have]
    return who.needed if outcome.exp_ns and outcome.reason not in _NO_FRAME else []


def _score(judgement: Judgement | None) -> Score | None:
    if judgement is None:
        return None
    # A ten-thousandth of the limit is finer than any engine agrees with another; raw keeps its digits for replay.
    return Score(
        significant(judgement.raw),
        round(judgement.cal, 4),
        round(judgement.p, 5),
        round(judgement.st, 4),
        round(judgement.ae, 4),
        round(judgement.global_, 4),
    )


def _roi(region: Region, width: int, height: int) -> Roi:
    return Roi(
        round(region.x * width),
        round(region.y * height),
        round(region.w * width),
        round(region.h * height),
        significant(region.peak, 4),
        "st" if region.branch == "st" else "ae",
    )


def shortest(verdict: Verdict, reason: str) -> Verdict:
    """The same part as `invalid` without anything that can fail to be written: the last resort against silence."""
    return msgspec.structs.replace(
        verdict,
        verdict="invalid",
        reason=[reason],
        score=None,
        roi=[],
        t=msgspec.structs.replace(verdict.t, infer_ms=None),
    )


def check_room(who: Identity) -> None:
    """Make sure that the largest verdict this station can ever write fits into 1 kB.

    Raises:
        ConfigError: station, gate, camera, lot, recipe and model name are too long together.
    """
    micros = 10**16 - 1  # until the year 2286
    branch = -12.3456
    largest = Verdict(
        sch=SCHEMA,
        id=verdict_id(who.station, who.boot, 10**9 - 1),  # three years of ten parts a second
        station=who.station,
        boot=who.boot,
        seq=10**9 - 1,
        part=Part("x" * 24, "barcode", who.lot, 10**10 - 1, 10**9 - 1),
        gate=who.gate,
        verdict="reject",
        reason=["structural"],
        score=Score(-1.23457e-05, branch, 0.12345, branch, branch, branch),
        roi=[],
        t=Times(micros, micros, micros, micros, who.valid_ms, 1234.5, -1234.5),
        clk=Clk("free", -(10**6), 10**6, 10**14 - 1),  # three years since the machine was started
        ctx=Context(who.recipe, who.model, who.limit, "chk-20261122-010633"),
        cam=Cam(who.needed, who.needed, 1234.5),
        ev=None,
        prev=GENESIS,
        hist=True,
    )
    try:
        encode_verdict(largest, who.key)
    except ContractError as exc:
        raise ConfigError(
            "station.station, station.gate, station.lot, camera.id, recipe and model name are too long together for a verdict: "
            f"{exc}; shorten them"
        ) from exc
