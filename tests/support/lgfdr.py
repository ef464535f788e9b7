"""LGFDR detectors with real pretrained features and random towers, small enough for tests of seconds."""

import numpy as np
import torch
from numpy.typing import NDArray

from tests.support.detectors import pictures
from training.lgfdr.detector import LgfdrDetector
from training.lgfdr.knobs import LgfdrKnobs
from training.lgfdr.pretrained import load_pyramid
from training.lgfdr.trainer import assemble_detector

SIZE = 128
SWITCHES = [
    {}, {"maps": "fused"}, {"gate": "mean"}, {"gate": "se"}, {"gate": "eca"}, {"gate": "simam"},
    {"maps": "towers", "smooth_cells": 1}, {"weighed_error": "root"}, {"loudest_st": 2, "loudest_ae": 8},
    {"towers": "local"}, {"towers": "global"}, {"towers": "global", "maps": "fused"}, {"towers": "global", "maps": "towers"},
    {"token_blind": -1}, {"token_cells": 8}, {"token_heads": 2}, {"pooled_head": True},
]  # fmt: skip
"""Changes of knobs, one of every kind."""


def small_knobs(**changes) -> LgfdrKnobs:
    """Narrow towers, few steps."""
    narrow = {
        "local_width": 24, "local_depth": 1, "token_width": 32, "token_layers": 1, "steps": 3, "batch": 2, "damage_versions": 1,
        "damage_pictures": 0, "discriminator_width": 16, "discriminator_steps": 2,
    }  # fmt: skip
    return LgfdrKnobs(**{**narrow, **changes})


def assembled(knobs: LgfdrKnobs, frames: NDArray[np.uint8], seed: int = 0) -> LgfdrDetector:
    """An untrained detector with pretrained features, for frames of their side."""
    pyramid, _ = load_pyramid(knobs.backbone, frames.shape[1])
    return assemble_detector(knobs, pyramid, seed, frames, torch.device("cpu"))


def random_lgfdr(seed: int = 0, size: int = SIZE, **changes) -> LgfdrDetector:
    """A frozen detector, every constant off its default so that a graph that forgets one is seen."""
    return off_its_defaults(assembled(small_knobs(**changes), pictures(4, size), seed), seed)


def off_its_defaults(detector: LgfdrDetector, seed: int = 0) -> LgfdrDetector:
    """The same, every constant and every trained weight moved."""
    detector.eval()
    generator = torch.Generator().manual_seed(seed + 1)

    def draw(*shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=generator)

    with torch.no_grad():
        trained = [detector.rebuilding_parts(), *([] if detector.discriminator is None else [detector.discriminator])]
        for parameter in (parameter for part in trained for parameter in part.parameters()):
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    grid, channels = detector.pyramid.grid, detector.pyramid.channels
    for name in ("cell_st", "cell_ae"):
        getattr(detector, name).copy_(torch.stack([draw(grid, grid), 0.05 + 0.1 * draw(grid, grid)]))
    detector.q_st.copy_(torch.tensor([1.0, 3.0]))
    detector.q_ae.copy_(torch.tensor([0.5, 3.0]))
    detector.head_mean.copy_(0.1 * draw(channels))
    root = draw(channels, channels) / 40
    detector.head_precision.copy_(root @ root.T + 0.5 * torch.eye(channels))
    detector.head_z.copy_(torch.tensor([10.0, 3.0]))
    detector.fusion.copy_(torch.tensor([0.3, 0.5, 1.0, 0.2, 0.4, 0.7, 0.9]))
    return detector.requires_grad_(requires_grad=False)
