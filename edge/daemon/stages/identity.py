"""Who speaks on a verdict: the station, this boot of it, and the model and limit that judge."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Identity:
    """What is the same on every verdict of one boot.

    Attributes:
        station, boot, gate, lot: names. camera: the camera's id.
        cameras: of several cameras on one part, all that are needed; empty for one.
        valid_ms: the verdict's life after its trigger.
        model, recipe, limit: what judges, as `edge.wire.verdict.references` names it.
        key: seals verdicts, None where they are not sealed.
    """

    station: str
    boot: str
    gate: str
    lot: str
    camera: str
    valid_ms: float
    model: str
    recipe: str
    limit: str
    key: bytes | None
    cameras: tuple[str, ...] = ()

    @property
    def needed(self) -> list[str]:
        """Cameras a verdict rests on."""
        return list(self.cameras) or [self.camera]
