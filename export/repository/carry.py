"""Carry a repository to a broker: its files as retained chunks, for boxes that have no other way (`edge.wire.carried`).

New files go first, the index that names them next, and what the index before this one's predecessor named is cleared last, so a
box that reads meanwhile finds everything it has begun to read. A command that was killed has changed no index; given again, it
sends the files that no index names yet.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from edge.clock import Clock
from edge.errors import BrokerError, ContractError, DataError
from edge.mqtt.connection import Connection
from edge.mqtt.message import Delivery, Incoming
from edge.mqtt.settings import Broker
from edge.wire.carried import CHUNK_BYTES, INDEX, INDEX_SCHEMA, CarriedFile, Index, chunk_topic, chunks, index_topic, tag_of
from export.repository.store import RepositoryFolder

logger = logging.getLogger(__name__)

CONNECT_S = 10.0
RETAINED_S = 3.0  # an index that is there comes with the subscription
CONFIRM_S = 30.0


@dataclass(frozen=True, slots=True)
class Carried:
    """What was done. `files`, `bytes`: carried now. `sent`: chunks sent. `cleared`: chunks taken off the broker."""

    files: int
    bytes: int
    sent: int
    cleared: int


def carry(repository: RepositoryFolder, broker: Broker, base: str, clock: Clock) -> Carried:
    """Bring the broker up to date.

    Args:
        repository: what is carried: the metadata in force, all roots, and every target that is listed.
        broker: where to.
        base: topic of the repository on it.
        clock: for the index's label.

    Raises:
        BrokerError: the broker is away or does not confirm. DataError: the repository is not whole, or too large for an index.
    """
    files = contents(repository)
    listed = {path: CarriedFile(len(content), tag_of(content)) for path, content in files.items()}
    with _Sender(broker, base) as sender:
        before = sender.index
        known = {one.tag for one in before.files.values()} if before else set()
        for path, file in listed.items():
            if file.tag not in known:
                for number in range(chunks(file.size)):
                    sender.send(
                        chunk_topic(base, file.tag, number), files[path][number * CHUNK_BYTES : (number + 1) * CHUNK_BYTES]
                    )
        sender.confirm()
        now = {one.tag for one in listed.values()}
        gone = {one.tag: one.size for one in before.files.values() if one.tag not in now} if before else {}
        index = Index(INDEX_SCHEMA, clock.utc_us(), listed, gone)
        try:
            content = INDEX.encode(index)
        except ContractError as exc:
            raise DataError(f"{repository.folder}: cannot be carried ({exc}); withdraw models nobody needs") from exc
        sent = sender.sent
        sender.send(index_topic(base), content)
        sender.confirm()
        clear = {tag: size for tag, size in before.stale.items() if tag not in now and tag not in gone} if before else {}
        for tag, size in clear.items():
            for number in range(chunks(size)):
                sender.send(chunk_topic(base, tag, number), b"")
        sender.confirm()
        return Carried(len(listed), sum(one.size for one in listed.values()), sent, sender.sent - sent - 1)


def contents(repository: RepositoryFolder) -> dict[str, bytes]:
    """All files a client can be sent to, by path. Raises DataError."""
    snapshot = repository.snapshot().signed
    names = ["timestamp", f"{snapshot.version}.snapshot"]
    names += [f"{meta.version}.{role.removesuffix('.json')}" for role, meta in snapshot.meta.items()]
    names += [path.name.removesuffix(".json") for path in sorted(repository.metadata.glob("*.root.json"))]
    found = {}
    for name in names:
        path = repository.metadata / f"{name}.json"
        try:
            found[f"metadata/{path.name}"] = path.read_bytes()
        except OSError as exc:
            raise DataError(f"{path}: cannot be read ({exc.strerror}); restore the repository from its copy") from exc
    for role in ["targets", *repository.delegated()]:
        for target in repository.targets_of(role).signed.targets.values():
            found[f"targets/{target.get_prefixed_paths()[0]}"] = repository.read_target(target)
    return found


class _Sender:
    """A connection that sends in order and knows what the broker has confirmed."""

    def __init__(self, broker: Broker, base: str) -> None:
        self.sent = 0
        self.index: Index | None = None
        self._broker = broker
        self._came = threading.Event()
        self._waiting: list[Delivery] = []
        self._connection = Connection(
            broker,
            f"onbelt-carry-{time.time_ns()}",
            subscriptions=[(index_topic(base), 1)],
            on_message=self._take,
            quiet=True,
        )

    def __enter__(self) -> "_Sender":
        self._connection.start()
        if not _until(lambda: self._connection.connected, CONNECT_S):
            why = self._connection.why
            self._connection.close(0.0)
            raise BrokerError(f"{self._broker}: {why}; is the broker running there, and does it know this user?")
        self._came.wait(RETAINED_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close(1.0)

    def send(self, topic: str, payload: bytes) -> None:
        """Publish retained; waits while too much is under way."""

        def taken() -> bool:
            self._waiting = [one for one in self._waiting if not one.done]
            delivery = self._connection.publish(topic, payload, qos=1, retain=True)
            if delivery is not None:
                self._waiting.append(delivery)
            return delivery is not None

        if not _until(taken, CONFIRM_S):
            raise BrokerError(f"{self._broker}: takes no more messages ({self._connection.why}); give the command again")
        self.sent += 1

    def confirm(self) -> None:
        """Wait until the broker has all of it."""
        if not _until(lambda: all(one.done for one in self._waiting), CONFIRM_S):
            raise BrokerError(
                f"{self._broker}: confirms nothing any more; does this user write here, and is a message of "
                f"{CHUNK_BYTES} bytes allowed (message_size_limit)?"
            )

    def _take(self, message: Incoming) -> None:
        if not message.payload:
            return
        try:
            self.index = INDEX.decode(message.payload)
        except ContractError as exc:
            logger.warning("%s: %s; everything is sent again", message.topic[:160], exc)
        self._came.set()


def _until(true: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True
