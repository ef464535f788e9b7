"""Bounded queues between stages; what happens when one is full is in its type, and each put says what it did.

Newest    the newest item wins, the displaced one is handed back: its trigger still needs a verdict
Backlog   nothing is ever dropped: put waits for room, up to a timeout, and tells the caller when there was none
"""

import threading
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Newest(Generic[T]):
    """Holds the newest `depth` items.

    Attributes:
        depth: most items held.
    """

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self._items: deque[T] = deque()
        self._ready = threading.Condition()
        self._closed = False

    def put(self, item: T) -> T | None:
        """Add an item; returns the oldest one when it had to give way."""
        with self._ready:
            displaced = self._items.popleft() if len(self._items) >= self.depth else None
            self._items.append(item)
            self._ready.notify()
        return displaced

    def get(self, timeout_s: float) -> T | None:
        """Take the oldest item, waiting at most so long; None when there is none."""
        with self._ready:
            if not self._items and not self._closed:
                self._ready.wait(timeout_s)
            return self._items.popleft() if self._items else None

    def close(self) -> None:
        """Wake whoever waits; `get` never waits from now on."""
        with self._ready:
            self._closed = True
            self._ready.notify_all()

    def __len__(self) -> int:
        return len(self._items)


class Backlog(Generic[T]):
    """Holds at most `depth` items and drops none.

    Attributes:
        depth: most items held.
    """

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self._items: deque[T] = deque()
        lock = threading.Lock()
        self._ready = threading.Condition(lock)
        self._room = threading.Condition(lock)

    def put(self, item: T, timeout_s: float) -> bool:
        """Add an item, waiting at most so long for room; False when there was none and the item was not taken."""
        with self._ready:
            if len(self._items) >= self.depth and not self._room.wait_for(lambda: len(self._items) < self.depth, timeout_s):
                return False
            self._items.append(item)
            self._ready.notify()
            return True

    def take(self, most: int, timeout_s: float) -> list[T]:
        """Take all items there are, `most` at most, waiting at most so long for the first."""
        with self._ready:
            if not self._items:
                self._ready.wait(timeout_s)
            taken = [self._items.popleft() for _ in range(min(most, len(self._items)))]
            if taken:
                self._room.notify_all()
            return taken

    def __len__(self) -> int:
        return len(self._items)
