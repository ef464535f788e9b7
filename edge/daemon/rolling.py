"""Rolling figures over the last few thousand parts, in memory allocated once."""

import numpy as np

WINDOW = 4096  # at 10 parts/s seven minutes; enough for a p99.9


class Rolling:
    """The last WINDOW values of one quantity; `count` of them were taken in all. Written by one thread, read by others."""

    def __init__(self) -> None:
        self._values = np.zeros(WINDOW, np.float64)
        self.count = 0

    def add(self, value: float) -> None:
        """Take a value."""
        self._values[self.count % WINDOW] = value
        self.count += 1

    def percentiles(self, *q: float) -> list[float] | None:
        """Nearest-rank percentiles in [0, 100], rounded to 0.001; None before the first value."""
        n = min(self.count, WINDOW)
        if n == 0:
            return None
        return [round(float(value), 3) for value in np.percentile(self._values[:n], q, method="inverted_cdf")]
