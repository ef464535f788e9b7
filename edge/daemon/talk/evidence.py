"""Says over MQTT which part's picture has been kept, so that somebody who collects them need not read every verdict."""

from collections.abc import Callable
from pathlib import Path

from edge.journal.evidence import frame_path
from edge.mqtt.link import Link
from edge.wire import station as wire
from edge.wire import topics
from edge.wire.topics import Topics
from edge.wire.verdict import Verdict


def evidence_teller(names: Topics, rest: Link, folder: Path) -> Callable[[Verdict, bool], None]:
    """What the recorder calls for each part it has kept: with its verdict, and whether there is a map.

    Args:
        names: the station's topics.
        rest: the second connection; without a broker nothing is said, the verdict names it anyway.
        folder: where evidence lies.
    """
    topic = names.topic(topics.EVIDENCE)

    def tell(verdict: Verdict, has_map: bool) -> None:
        if verdict.ev is None:
            return
        try:
            size = frame_path(folder, verdict.ev.sha256).stat().st_size
        except OSError:
            return  # it has given way already
        kept = wire.EvidenceKept(
            wire.EVIDENCE_SCHEMA,
            verdict.station,
            verdict.boot,
            verdict.seq,
            verdict.part.id,
            verdict.verdict,
            verdict.ev.sha256,
            verdict.ev.url,
            size,
            has_map,
        )
        rest.publish(topic, wire.EVIDENCE.encode(kept), qos=topics.EVIDENCE.qos)

    return tell
