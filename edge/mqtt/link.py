"""What the stages ask of a connection to the broker; tests bring their own."""

from typing import Literal, Protocol


class Delivering(Protocol):
    """A message under way."""

    @property
    def done(self) -> bool:
        """The broker has confirmed it."""
        ...


class Link(Protocol):
    """Hands messages to a broker without ever waiting."""

    @property
    def connected(self) -> bool:
        """There is a connection."""
        ...

    @property
    def protocol(self) -> Literal["5", "3.1.1"]:
        """The protocol in use."""
        ...

    @property
    def reconnects(self) -> int:
        """Connections made so far: what was under way in an earlier one will never be confirmed."""
        ...

    @property
    def refused(self) -> int:
        """Messages not taken."""
        ...

    def publish(
        self, topic: str, payload: bytes, *, qos: int, retain: bool = False, expiry_s: int = 0, correlation: bytes = b""
    ) -> Delivering | None:
        """Hand a message over, or None: it will not be sent."""
        ...

    def renew(self, why: str) -> None:
        """Give up the connection and make another."""
        ...

    def keep(self, topic: str, payload: bytes) -> None:
        """Publish retained, now or as soon as possible; an empty payload clears."""
        ...
