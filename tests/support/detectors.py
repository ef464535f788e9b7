"""Detectors with random weights whose numbers look like a trained one's: what the exporter is tested with in seconds."""

import numpy as np
import torch

from training.networks.detector import Detector, HeadInput
from training.networks.pdn import FULL_WIDTH, TEACHER_CHANNELS, PdnSize


def random_detector(
    pdn: PdnSize = PdnSize.SMALL,
    size: int = 128,
    head: HeadInput = HeadInput.TEACHER,
    seed: int = 0,
    directions: int = TEACHER_CHANNELS,
    student_width: float = FULL_WIDTH,
) -> Detector:
    """A frozen detector, every constant off its default so that a pass that forgets one is seen."""
    torch.manual_seed(seed)
    detector = Detector(pdn, size, head, directions, student_width).eval().requires_grad_(requires_grad=False)
    for module in detector.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
            assert module.bias is not None
            torch.nn.init.normal_(module.bias, std=0.1)
    side = detector.side
    detector.teacher_mean.copy_(torch.randn(TEACHER_CHANNELS) * 0.5)
    detector.teacher_std.copy_(torch.rand(TEACHER_CHANNELS) + 0.5)
    detector.cell_st.copy_(torch.stack([torch.rand(side, side) * 3, torch.rand(side, side) + 0.5]))
    detector.cell_ae.copy_(torch.stack([torch.rand(side, side) * 2, torch.rand(side, side) + 0.5]))
    for basis in (detector.basis_st, detector.basis_ae):
        basis.copy_(torch.linalg.qr(torch.randn(TEACHER_CHANNELS, TEACHER_CHANNELS))[0][:directions])
    detector.q_st.copy_(torch.tensor([2.0, 9.0]))
    detector.q_ae.copy_(torch.tensor([1.0, 4.0]))
    detector.head_mean.copy_(torch.randn(TEACHER_CHANNELS) * 0.3)
    root = torch.randn(TEACHER_CHANNELS, TEACHER_CHANNELS) / 20
    detector.head_precision.copy_(root @ root.T + 0.5 * torch.eye(TEACHER_CHANNELS))
    detector.head_z.copy_(torch.tensor([12.0, 6.0]))
    detector.fusion.copy_(torch.tensor([0.3, 0.5, 1.0, 0.2, 0.4, 0.7, 0.9]))
    return detector


def pictures(count: int, size: int = 128, seed: int = 0) -> np.ndarray:
    """(count, size, size, 3) uint8: one scene of smooth blobs, each picture a little brighter or darker and with grain."""
    rng = np.random.default_rng(seed)
    knots = rng.random((9, 9, 3))
    at = np.linspace(0, 7.999, size)
    low, part = at.astype(int), (at % 1)[:, None]
    rows = knots[low] * (1 - part[..., None]) + knots[low + 1] * part[..., None]
    scene = rows[:, low] * (1 - part) + rows[:, low + 1] * part
    gains = rng.uniform(0.9, 1.1, (count, 1, 1, 1))
    noisy = scene * 200 * gains + rng.normal(0, 4, (count, size, size, 3)) + 20
    clipped: np.ndarray = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
    return clipped
