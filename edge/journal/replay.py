"""Judge a stored frame again: the same pixels, model and limit must give the score that stands in the journal.

This closes the chain of proof: the journal shows that a verdict was not altered, the hash in it that the frame is the one
that was judged, and the replay that this model really gives that score. Scores are compared as the journal holds them, to six
digits. One engine on one machine repeats them exactly; another engine, or another number of threads, may differ by the
agreement its bundle's certificate states, and the verdict must be the same all the same unless the score lies so close to the
limit that the agreement spans it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edge.bundle.reader import Bundle
from edge.engine.base import Engine
from edge.errors import EvidenceError
from edge.journal.evidence import read_frame
from edge.preprocess import fit
from edge.wire.codec import significant
from edge.wire.verdict import Verdict, references

Result = Literal["same", "agrees", "differs", "damaged", "gone", "other-model", "no-frame"]
# What each result means, for people and for --json.
RESULTS: dict[Result, str] = {
    "same": "the score is the one in the journal, digit for digit",
    "agrees": "the score differs by less than the bundle's certificate allows between engines",
    "differs": "another score or verdict than the journal's: this model did not judge this frame so",
    "damaged": "the stored frame is unreadable or not the one that was judged",
    "gone": "the frame is not kept any more",
    "other-model": "judged by another model or limit than this bundle's",
    "no-frame": "no frame was kept, or it was not judged",
}
FAILURES: frozenset[Result] = frozenset({"differs", "damaged"})


@dataclass(frozen=True, slots=True)
class Replayed:
    """One verdict judged again.

    Attributes:
        verdict: as it stands in the journal. result: see RESULTS. text: in words, where it is a failure.
        raw: the score now, six digits; None where nothing was judged.
        difference: |raw now - raw then| / limit, None likewise.
    """

    verdict: Verdict
    result: Result
    text: str = ""
    raw: float | None = None
    difference: float | None = None


class Replay:
    """Judges stored frames with one bundle.

    Args:
        bundle: a verified bundle. engine: its engine. folder: where the evidence lies.
    """

    def __init__(self, bundle: Bundle, engine: Engine, folder: Path) -> None:
        self._engine = engine
        self._folder = folder
        self._limit = bundle.manifest.limit.raw
        self._agreement = bundle.manifest.agreement
        self._model, _, self._limit_name = references(bundle.manifest, bundle.sha256)

    def run(self, verdicts: Iterator[Verdict]) -> Iterator[Replayed]:
        """Judge each again. Raises EngineError."""
        return map(self.one, verdicts)

    def one(self, verdict: Verdict) -> Replayed:
        """Judge one verdict's frame again. Raises EngineError: the engine fails, PictureError: the frame does not fit it."""
        if verdict.score is None or verdict.ev is None:
            return Replayed(verdict, "no-frame")
        if (verdict.ctx.model, verdict.ctx.limit) != (self._model, self._limit_name):
            return Replayed(verdict, "other-model")
        try:
            frame = read_frame(self._folder, verdict.ev.sha256)
        except EvidenceError as exc:
            return Replayed(verdict, "gone" if exc.gone else "damaged", str(exc))
        raw = significant(self._engine.infer(fit(frame, self._engine.size)).raw)
        then = verdict.score.raw
        difference = abs(raw - then) / self._limit
        # Only these two follow from the score alone: `invalid` and `uncertain` have other reasons.
        near = abs(then - self._limit) <= self._agreement * self._limit
        turned = verdict.verdict in {"pass", "reject"} and (raw <= self._limit) != (verdict.verdict == "pass") and not near
        if raw == then and not turned:
            return Replayed(verdict, "same", raw=raw, difference=0.0)
        if difference <= self._agreement and not turned:
            return Replayed(verdict, "agrees", raw=raw, difference=difference)
        text = (
            f"{verdict.id}: expected {verdict.verdict} with raw {then:g}, got raw {raw:g} ({difference:.2g} of the limit away, "
            f"allowed {self._agreement:.2g}); the journal, the frame's name or this machine's engine is wrong: run onbelt check"
        )
        return Replayed(verdict, "differs", text, raw, difference)
