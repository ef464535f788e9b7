"""A fleet as the broker knows it: the retained birth, status, state and update report of every station.

Nothing else is kept anywhere: whoever can read these topics has the whole picture, and two people who look see the same.
"""

from dataclasses import dataclass

from edge.errors import ContractError
from edge.wire import station, topics, update

CHANNELS = (topics.BIRTH, topics.STATUS, topics.STATE, topics.UPDATE_REPORTED)
MAX_BOXES = 100_000  # a broker that invents stations must not fill our memory


@dataclass(slots=True)
class Box:
    """One station; what it has not said is None."""

    base: str
    birth: station.Birth | None = None
    status: station.Status | None = None
    state: station.State | None = None
    reported: update.Reported | None = None

    @property
    def online(self) -> bool:
        """The station says so. A will that is late counts against its own boot only."""
        status = self.status
        if status is None:
            return False
        return status.status == "online" or (self.state is not None and self.state.boot != status.boot)

    @property
    def armed(self) -> bool:
        """Its verdicts count."""
        return self.online and self.state is not None and self.state.armed

    @property
    def version(self) -> int:
        """Version that has proved itself, 0 for none."""
        return self.reported.committed.version if self.reported and self.reported.committed else 0

    @property
    def where(self) -> str:
        """site/area/line/station."""
        return "/".join(self.base.split("/")[-4:])


class Fleet:
    """Collects what is heard.

    Args:
        prefix: of all topics. site: one site only, empty for all.

    Attributes:
        boxes: by the topic of the station. refused: messages that were not as agreed.
    """

    def __init__(self, prefix: str = topics.DEFAULT_PREFIX, site: str = "") -> None:
        self.boxes: dict[str, Box] = {}
        self.refused = 0
        self._head = f"{prefix}/"
        levels = len(prefix.split("/")) + 4
        self._levels = levels
        self._site = site
        self.filters = tuple(f"{prefix}/{site or '+'}/+/+/+/{channel.suffix}" for channel in CHANNELS)

    def take(self, topic: str, payload: bytes) -> None:
        """Take a message; what is not as agreed is counted and changes nothing."""
        levels = topic.split("/")
        base, suffix = "/".join(levels[: self._levels]), "/".join(levels[self._levels :])
        if not topic.startswith(self._head) or (self._site and levels[self._levels - 4] != self._site):
            return
        box = self.boxes.get(base)
        if box is None:
            if len(self.boxes) >= MAX_BOXES:
                self.refused += 1
                return
            box = Box(base)
        try:
            if suffix == topics.BIRTH.suffix:
                box.birth = station.BIRTH.decode(payload) if payload else None
            elif suffix == topics.STATUS.suffix:
                box.status = station.STATUS.decode(payload) if payload else None
            elif suffix == topics.STATE.suffix:
                box.state = station.STATE.decode(payload) if payload else None
            elif suffix == topics.UPDATE_REPORTED.suffix:
                box.reported = update.REPORTED.decode(payload) if payload else None
            else:
                return
        except ContractError:
            self.refused += 1
            return
        # A station that was taken down clears its retained topics.
        if box.birth or box.status or box.state or box.reported:
            self.boxes[base] = box
        else:
            self.boxes.pop(base, None)

    def of(self, product: str) -> list[Box]:
        """The boxes of a product that have an updater, in the order of their topics."""
        return [box for _, box in sorted(self.boxes.items()) if box.reported is not None and box.reported.product == product]
