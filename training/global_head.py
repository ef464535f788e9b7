"""The global head: how far the mean of a picture's vectors lies from those of good parts.

Counts, colours and amounts change the mean of a picture's feature vectors even where every patch looks right. The head keeps the
mean and a shrunk covariance of the pooled vectors of good parts; its score is the Mahalanobis distance, centred and scaled on
held-out good parts.

Source: PUAD (ICIP 2024); shrinkage: Ledoit and Wolf, "A well-conditioned estimator for large-dimensional covariance matrices",
J. Multivariate Analysis 88 (2004), lemma 3.2-3.4; the trimmed centre follows CSAD (middle 20-80 %).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from training.errors import RecipeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

TRIM = 0.2
"""Part left out at either end for the centre and the scale."""

NORMAL_SPREAD = 1.6832424671458286
"""Distance between the 0.2- and 0.8-quantile of a normal distribution, in standard deviations."""


@dataclass(frozen=True, slots=True)
class PooledGaussian:
    """Mean and precision of pooled vectors.

    Attributes:
        mean: (C,) float64.
        precision: (C, C) float64, symmetric.
        shrinkage: Part of the covariance replaced by a multiple of the identity, 0 to 1.
    """

    mean: NDArray[np.float64]
    precision: NDArray[np.float64]
    shrinkage: float

    def distance(self, pooled: NDArray[np.floating]) -> NDArray[np.float64]:
        """(N, C) -> (N,) Mahalanobis distances."""
        apart = pooled - self.mean
        squares: NDArray[np.float64] = np.einsum("nc,cd,nd->n", apart, self.precision, apart)
        return np.sqrt(np.maximum(squares, 0))


def ledoit_wolf(vectors: NDArray[np.floating]) -> tuple[NDArray[np.float64], float]:
    """Shrinks the empirical covariance towards a multiple of the identity by the Ledoit-Wolf amount.

    Args:
        vectors: (N, C) samples, N >= 2.

    Returns:
        (C, C) float64 covariance, and the amount of shrinkage from 0 to 1.
    """
    samples = np.asarray(vectors, np.float64)
    samples = samples - samples.mean(0)
    count, channels = samples.shape
    covariance = samples.T @ samples / count
    scale = np.trace(covariance) / channels
    # delta: how far the empirical covariance lies from the target; beta: how much of that is sampling noise.
    delta = (np.sum(covariance**2) - channels * scale**2) / channels
    beta = (np.sum((samples**2).sum(1) ** 2) / count - np.sum(covariance**2)) / (channels * count)
    shrinkage = 1.0 if delta <= 0 else float(np.clip(beta / delta, 0, 1))
    return (1 - shrinkage) * covariance + shrinkage * scale * np.eye(channels), shrinkage


def fit_pooled(vectors: NDArray[np.floating]) -> PooledGaussian:
    """Fits the head.

    Args:
        vectors: (N, C) pooled vectors of good training parts.

    Raises:
        RecipeError: Fewer than two, or all alike.
    """
    if len(vectors) < 2:
        raise RecipeError(f"the global head needs at least 2 good parts to learn from, got {len(vectors)}")
    covariance, shrinkage = ledoit_wolf(vectors)
    if not np.trace(covariance) > 0:
        raise RecipeError(
            f"all {len(vectors)} good parts give the same vector: expected parts that differ, as parts on a belt do"
        )
    precision = np.linalg.inv(covariance)
    return PooledGaussian(np.asarray(vectors, np.float64).mean(0), (precision + precision.T) / 2, shrinkage)


def trimmed_center_scale(values: NDArray[np.floating]) -> tuple[float, float]:
    """Centre and scale from the middle 60 %: some outliers among the held-out parts move neither.

    Args:
        values: (N,) scores of held-out good parts.

    Returns:
        The mean of the middle part, and the distance between the 0.2- and 0.8-quantile in a normal's standard deviations, so
        that the scale of normal scores is their standard deviation.
    """
    scores = np.sort(np.asarray(values, np.float64))
    low, high = np.quantile(scores, [TRIM, 1 - TRIM])
    middle = scores[(scores >= low) & (scores <= high)]
    center = float(middle.mean() if len(middle) else scores.mean())
    scale = float(high - low) / NORMAL_SPREAD
    return center, max(scale, 1e-6 * max(1.0, abs(center)))
