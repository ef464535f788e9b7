"""What a simulated camera counts."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Counts:
    """What was asked of the camera and what came of it.

    Attributes:
        starts: calls that opened it. grabs: calls of `grab`. frames: delivered. errors: CameraErrors raised by `grab`.
        ready: frames that had been drawn before they were asked for. drawn: parts drawn.
        faults: frames hit, by the name of the fault.
    """

    starts: int = 0
    grabs: int = 0
    frames: int = 0
    errors: int = 0
    ready: int = 0
    drawn: int = 0
    faults: Counter[str] = field(default_factory=Counter)
