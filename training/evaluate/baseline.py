"""What averages of colour and an untrained network reach: the floors any model has to clear on a data set.

A data set that a ruler of average colours solves proves nothing about the model that solves it too. The ruler sees the means
of 8 x 8 cells and the mean and spread of each channel, and asks how many standard deviations of the good training parts a
picture is off, root mean square over all of them (a Mahalanobis distance with a diagonal covariance).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge.errors import DataError
from training.datasets import GOOD, Dataset, Item, load_frames
from training.metrics import auroc

SIDE_PX = 64
_CELLS = 8
_LEVEL_FLOOR = 1.0  # a gray level: what a camera's noise leaves of a cell's mean; spares a division by almost nothing


def colour_features(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(N, 64, 64, 3) uint8 -> (N, 198) float32: 8 x 8 cell means of each channel, then mean and deviation of each channel."""
    cell = SIDE_PX // _CELLS
    cells = frames.reshape(-1, _CELLS, cell, _CELLS, cell, 3).mean(axis=(2, 4), dtype=np.float32)
    return np.concatenate(
        [
            cells.reshape(len(frames), -1),
            frames.mean(axis=(1, 2), dtype=np.float32),
            frames.std(axis=(1, 2), dtype=np.float32),
        ],
        axis=1,
    )


def colour_scores(train: Sequence[Item], test: Sequence[Item]) -> NDArray[np.float64]:
    """(len(test),) root mean square of standard scores against the training parts."""
    known = colour_features(load_frames(train, SIDE_PX))
    seen = colour_features(load_frames(test, SIDE_PX))
    apart = (seen - known.mean(axis=0)) / (known.std(axis=0) + _LEVEL_FLOOR)
    return np.asarray(np.sqrt(np.square(apart, dtype=np.float64).mean(axis=1)), np.float64)


def colour_auroc(data: Dataset) -> float | None:
    """Image AUROC of average colours; None without training pictures or without both classes in the test."""
    if not data.train or not data.test:
        return None
    return auroc(colour_scores(data.train, data.test), [item.type != GOOD for item in data.test])


def untrained_auroc(data: Dataset, size: int) -> dict[str, float]:
    """Image AUROC, type by type, of an untrained random PDN whose pooled vectors feed a Mahalanobis head (seed 0, needs torch).

    Args:
        data: a data set with training and test pictures.
        size: side of the model's input in pixels.

    Raises:
        DataError: no training pictures, or no good or bad ones to test on.
    """
    from training.baselines import RandomPdn  # torch only where this is asked for

    good = [item for item in data.test if item.type == GOOD]
    types = sorted({item.type for item in data.test} - {GOOD})
    if not data.train or not good or not types:
        raise DataError(
            f"{data.root}: expected training pictures, and good and bad test pictures, for the baseline; "
            f"got {len(data.train)}, {len(good)} and {len(data.test) - len(good)}"
        )
    network = RandomPdn(load_frames(data.train, size))
    usual = network.score(load_frames(good, size))
    areas = {}
    for kind in types:
        scores = network.score(load_frames([item for item in data.test if item.type == kind], size))
        area = auroc(np.concatenate([usual, scores]), [False] * len(usual) + [True] * len(scores))
        assert area is not None  # both classes are there
        areas[kind] = area
    return areas
