"""What the run has shown, as one object and as a page of text. Every figure is counted or measured, none is assumed."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge.demo.book import PartBook
from edge.demo.faults import Fault
from edge.demo.line import Line
from edge.demo.observer import Observer
from edge.demo.plan import Plan, Speed
from edge.engine.machine import this_machine
from edge.engine.proof import percentiles_of
from edge.errors import ContractError, JournalError
from edge.journal.reader import Reader
from edge.wire.verdict import Verdict, decode_verdict

NAMED_PARTS = 20  # misses and false rejects listed one by one; all are counted
SHOWN_PARTS = 5  # of them in the text
PAGE_ROWS = 500
KEPT = 10_000  # odd parts remembered in detail


@dataclass(frozen=True, slots=True)
class Moments:
    """Seconds after the command began: first verdict and first opened gate; and how long the belt ran."""

    first_verdict_s: float | None
    first_open_s: float | None
    belt_s: float


class Scores:
    """Score/limit by part, for naming misses and false rejects."""

    def __init__(self) -> None:
        self._cal: dict[int, float] = {}
        self._late: set[int] = set()

    @property
    def late(self) -> int:
        """Parts whose verdict the station itself found late."""
        return len(self._late)

    def note(self, book: PartBook, verdict: Verdict) -> None:
        """Take one verdict into the book, and its score where it may be asked for."""
        count = verdict.part.trig
        book.verdict(count, verdict.verdict)
        if "late" in verdict.reason and len(self._late) < KEPT:
            self._late.add(count)
        odd = 0 < count <= book.last and (verdict.verdict == "pass") != book.is_good(count)
        if odd and verdict.score is not None and len(self._cal) < KEPT:
            self._cal[count] = round(verdict.score.cal, 3)

    def of(self, count: int) -> float | None:
        """Score/limit of a part, None when it was not noted."""
        return self._cal.get(count)


def read_journal(path: Path, book: PartBook, scores: Scores) -> int:
    """Fill in from the journal what nobody heard; the number of verdicts it holds.

    The journal is what the station swears to: a part that went through needs its PASS here.
    """
    rows = 0
    try:
        with Reader(path) as reader:
            last = 0
            while batch := reader.rows(last, PAGE_ROWS):
                for row in batch:
                    scores.note(book, decode_verdict(row.payload))
                last = batch[-1].n
                rows += len(batch)
    except (JournalError, ContractError):
        return rows
    return rows


def percentiles(values_ms: Sequence[float]) -> dict[str, float] | None:
    """p50, p99, p99.9 (each a time that was measured) and the number of values; None without any."""
    if not values_ms:
        return None
    of = percentiles_of((np.asarray(values_ms, np.float64) * 1e6).astype(np.int64))
    return {"p50": round(of.p50, 1), "p99": round(of.p99, 1), "p999": round(of.p999, 1), "n": of.n}


def summarise(
    line: Line,
    observer: Observer,
    scores: Scores,
    plan: Plan,
    speed: Speed,
    moments: Moments,
    faults: list[Fault],
    about: dict[str, Any],
    truth: Callable[[int], str],
) -> dict[str, Any]:
    """The whole summary; `truth(count)` names a part's defect, empty for a good one."""
    book, tally = line.book, line.book.tally()

    def named(counts: Iterable[int]) -> list[dict[str, Any]]:
        return [
            {"part": count, "truth": truth(count) or "good", "score": scores.of(count)}
            for _, count in zip(range(NAMED_PARTS), counts, strict=False)
        ]

    return {
        "parts": line.count,
        "verdicts": book.verdicts(),
        "escapes": tally.escapes,
        "escapes_by": {
            "unjudged": tally.unjudged,
            "against_verdict": tally.against_verdict,
        },
        "late": observer.why["late"] + scores.late,
        "trigger_to_gate_ms": percentiles(list(observer.to_gate_ms)),
        "infer_ms": percentiles(list(observer.infer_ms)),
        "good": {"passed": tally.good_passed, "false_rejects": tally.false_rejects, "lost": tally.good_lost},
        "bad": {"rejected": tally.bad_rejected, "missed": tally.misses},
        "misses": named(book.missed()),
        "false_rejects": named(book.falsely_rejected()),
        "decisions": dict(sorted(observer.why.items())),
        "first_verdict_s": moments.first_verdict_s,
        "first_open_s": moments.first_open_s,
        "parts_per_s": round(line.count / moments.belt_s, 2) if moments.belt_s else None,
        "line": {
            "rate_hz": plan.rate_hz,
            "deadline_ms": plan.valid_ms,
            "gate_ms": plan.gate_ms,
            "remark": plan.remark,
            **dict(sorted(line.counts.items())),
        },
        "faults": [{"at_s": round(fault.at_s, 1), "what": str(fault)} for fault in faults],
        "engine": speed.engine,
        **about,
        "machine": asdict(this_machine()),
    }


def render(summary: dict[str, Any]) -> str:
    """The summary for people."""
    good, bad, by = summary["good"], summary["bad"], summary["escapes_by"]
    verdicts = ", ".join(f"{count} {name}" for name, count in summary["verdicts"].items() if count)
    lines = [
        f"{summary['parts']} parts at {summary['parts_per_s']} parts/s: {verdicts}",
        f"good parts     {good['passed']} passed, {good['false_rejects']} rejected by the model, "
        f"{good['lost']} ejected unjudged (commissioning, faults)",
        f"bad parts      {bad['rejected']} ejected, {bad['missed']} missed by the model",
        f"escapes        {summary['escapes']} (unjudged {by['unjudged']}, against the verdict {by['against_verdict']})",
        f"late           {summary['late']}",
        f"to the gate    {_times(summary['trigger_to_gate_ms'])} of {summary['line']['deadline_ms']:.0f} ms",
        f"inference      {_times(summary['infer_ms'])}, {summary['engine']}",
        f"gate           {', '.join(f'{count} {why}' for why, count in summary['decisions'].items())}",
        f"first verdict  after {summary['first_verdict_s']} s, first open gate after {summary['first_open_s']} s",
        f"broker         {summary['broker']}",
    ]
    lines += [f"fault          {fault['what']} at {fault['at_s']} s" for fault in summary["faults"]]
    lines += _some("missed         ", summary["misses"], bad["missed"])
    lines += _some("false reject   ", summary["false_rejects"], good["false_rejects"])
    return "\n".join(lines)


def _some(head: str, parts: list[dict[str, Any]], count: int) -> list[str]:
    shown = [f"{head}part {part['part']}: {part['truth']}, score {part['score']}" for part in parts[:SHOWN_PARTS]]
    return shown + ([f"{head}and {count - SHOWN_PARTS} more; --json names {NAMED_PARTS}"] if count > SHOWN_PARTS else [])


def _times(times: dict[str, float] | None) -> str:
    if times is None:
        return "none measured"
    return f"p50 {times['p50']} ms, p99 {times['p99']} ms, p99.9 {times['p999']} ms"
