"""The teacher's vectors: their statistics, versions of a picture with other light, and a store that holds them.

A version changes brightness, contrast or saturation (one of them, by a factor from 0.8 to 1.2) exactly as Algorithm 1 of
EfficientAD does for the auto-encoder; nothing is mirrored, moved or turned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from training.networks.normalize import normalize_frames
from training.networks.pdn import TEACHER_CHANNELS, Pdn, grid_side
from training.progress import told

if TYPE_CHECKING:
    from numpy.typing import NDArray

LUMA = (0.299, 0.587, 0.114)
"""ITU-R BT.601 weights, as Pillow and torchvision use for grey."""

JITTER = (0.8, 1.2)
"""Range of the factor (Algorithm 1: lambda drawn from U(0.8, 1.2))."""

_BATCH = 8


def jitter(frame: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Changes the light of one picture.

    Args:
        frame: (H, W, 3) uint8 RGB.
        rng: Draws which of the three changes, and its factor.

    Returns:
        (H, W, 3) uint8 RGB: the picture blended with black (brightness), with its mean grey (contrast) or with its own grey
        picture (saturation).
    """
    kind, factor = int(rng.integers(0, 3)), rng.uniform(*JITTER)
    pixels = frame.astype(np.float32)
    grey = pixels @ np.asarray(LUMA, np.float32)
    other = np.float32(0) if kind == 0 else np.round(grey.mean()) if kind == 1 else grey[..., None]
    return np.clip(other + factor * (pixels - other), 0, 255).astype(np.uint8)


def version_of(frames: NDArray[np.uint8], index: int, version: int, seed: int) -> NDArray[np.uint8]:
    """Gives version `version` of picture `index`; version 0 is the picture itself.

    Args:
        frames: (N, H, W, 3) uint8.
        index: Which picture.
        version: Which version.
        seed: Seed of the run.
    """
    if version == 0:
        return np.asarray(frames[index], np.uint8)
    return jitter(frames[index], np.random.default_rng([seed, index, version, 0x11]))


@torch.no_grad()
def teacher_statistics(teacher: Pdn, frames: NDArray[np.uint8], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and deviation of every teacher channel over all positions of all pictures.

    Args:
        teacher: The teacher, on the device.
        frames: (N, S, S, 3) uint8: the training pictures, unchanged.
        device: Where to work.

    Returns:
        Two (384,) float32 on the device; the deviation is at least 1e-6 of the largest.
    """
    total = torch.zeros(TEACHER_CHANNELS, dtype=torch.float64, device=device)
    squares = torch.zeros_like(total)
    count = 0
    for start in told(range(0, len(frames), _BATCH), f"the teacher's statistics over {len(frames)} pictures"):
        vectors = teacher(to_input(frames[start : start + _BATCH], device)).to(torch.float64)
        total += vectors.sum((0, 2, 3))
        squares += vectors.square().sum((0, 2, 3))
        count += vectors.shape[0] * vectors.shape[2] * vectors.shape[3]
    mean = total / count
    std = (squares / count - mean.square()).clamp_min(0).sqrt()
    return mean.to(torch.float32), std.clamp_min(1e-6 * std.max().item()).to(torch.float32)


def to_input(frames: NDArray[np.uint8], device: torch.device) -> torch.Tensor:
    """(N, S, S, 3) uint8 frames -> (N, 3, S, S) float32 normalized, channels last in memory, on the device."""
    x = normalize_frames(torch.from_numpy(np.array(frames)).to(device))
    return x.contiguous(memory_format=torch.channels_last)


class FeatureStore:
    """Vectors of every version of every training picture, in half precision on the CPU.

    Rounding to fp16 is at most 2^-11 of a vector's element, far below what student and auto-encoder leave.

    Args:
        pictures: How many pictures.
        versions: Versions of each.
        size: Side of a picture in pixels.
    """

    def __init__(self, pictures: int, versions: int, size: int) -> None:
        side = grid_side(size)
        self.versions = versions
        self._vectors = torch.empty(pictures, versions, TEACHER_CHANNELS, side, side, dtype=torch.float16)

    @staticmethod
    def versions_within(pictures: int, versions: int, size: int, store_mib: int) -> int:
        """Most versions (at least 1) of which two stores, the teacher's and the auto-encoder's, fit the memory given."""
        one_mib = 2 * pictures * 2 * TEACHER_CHANNELS * grid_side(size) ** 2 / 2**20
        return max(1, min(versions, int(store_mib // one_mib)))

    def put(self, index: int, version: int, vectors: torch.Tensor) -> None:
        """Stores (384, n, n) vectors."""
        self._vectors[index, version] = vectors.to("cpu", torch.float16)

    def get(self, chosen: list[tuple[int, int]], device: torch.device) -> torch.Tensor:
        """Reads (index, version) pairs as (N, 384, n, n) float32 on the device, channels last in memory."""
        picked = torch.stack([self._vectors[index, version] for index, version in chosen]).to(device, torch.float32)
        return picked.contiguous(memory_format=torch.channels_last)
