"""Random numbers that are the same on every machine, Python and NumPy version.

Only `random.Random(str).random()` (whose stream Python guarantees) and the raw output of NumPy's PCG64 (whose stream NumPy
guarantees) are used. Derived distributions are computed here, without logarithms or trigonometry: those differ in the last
bit between mathematical libraries, and a part must be bit-identical wherever it is drawn.
"""

import random
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")


class Dice:
    """A stream of random numbers named by a key; a fork with another name is independent of how far this one was read.

    Example:
        >>> dice = Dice("tray", 7, 0)
        >>> dice.fork("light").uniform(0.9, 1.1) == Dice("tray", 7, 0, "light").uniform(0.9, 1.1)
        True
    """

    def __init__(self, *key: object) -> None:
        self._key = "/".join(str(word) for word in key)
        self._next = random.Random(self._key).random

    def fork(self, *key: object) -> "Dice":
        """Return the stream of a longer key."""
        return Dice(self._key, *key)

    def uniform(self, low: float, high: float) -> float:
        """A number in [low, high)."""
        return low + (high - low) * self._next()

    def around(self, centre: float, spread: float) -> float:
        """A number in centre +- spread, more often near the centre (sum of two uniforms)."""
        return centre + spread * (self._next() + self._next() - 1.0)

    def steep(self, low: float, high: float) -> float:
        """A number in [low, high), more often near the low end (square of a uniform)."""
        return low + (high - low) * self._next() ** 2

    def integer(self, count: int) -> int:
        """A whole number in [0, count)."""
        return int(count * self._next())

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self._next() < probability

    def pick(self, items: Sequence[T]) -> T:
        """One of the items."""
        return items[self.integer(len(items))]


def noise_bytes(seed: int, count: int) -> NDArray[np.uint8]:
    """`count` independent uniform bytes.

    Args:
        seed: any non-negative whole number.
        count: how many.

    Returns:
        (count,) uint8.
    """
    words = np.random.PCG64(seed).random_raw((count + 7) // 8)
    return np.asarray(words, dtype="<u8").view(np.uint8)[:count]


def bell(seed: int, *shape: int) -> NDArray[np.float32]:
    """Noise of mean 0 and deviation 1 that looks normal: the sum of four uniform bytes, computed exactly.

    Returns:
        `shape` float32 in about [-3.5, 3.5].
    """
    count = int(np.prod(shape))
    parts = noise_bytes(seed, 4 * count).reshape(4, count).astype(np.int16)
    total = parts[0] + parts[1] + parts[2] + parts[3] - np.int16(510)
    # Variance of a uniform byte is (256^2 - 1) / 12; four of them give a deviation of 147.8.
    scaled: NDArray[np.float32] = (total.astype(np.float32) / np.float32(147.8)).reshape(shape)
    return scaled
