"""What is fitted to a detector after its training: the score's constants, the directions its maps keep."""

import numpy as np
import pytest
import torch

from tests.support.trainings import CPU, make_ground, tiny
from training.calibrate import fit_bases, fit_detector
from training.errors import RecipeError
from training.families import Sources, family_of
from training.features import to_input
from training.networks.detector import Detector, mean_square
from training.networks.pdn import PdnSize
from training.teacher.textures import generate_texture


def test_untrained_networks_that_give_one_value_are_refused(tmp_path):
    teacher = make_ground(tmp_path).teacher
    frames = np.zeros((3, 128, 128, 3), np.uint8)
    frames[1:] += np.uint8(1)
    shown = np.random.default_rng(0).integers(0, 256, frames.shape, np.uint8)
    family = family_of(tiny())
    detector = family.assemble(tiny(), family.pretrained(tiny(), Sources(teacher)), shown, CPU)
    with pytest.raises(RecipeError, match="at least 2 held-out"):
        fit_detector(detector, frames, frames[:1], CPU)


def test_kept_directions_are_those_the_difference_lies_in():
    frames = np.stack([generate_texture(np.random.default_rng(seed), 128) for seed in range(3)])
    torch.manual_seed(0)
    detector = Detector(PdnSize.SMALL, 128, map_directions=6).eval()
    with torch.no_grad():  # a teacher and an auto-encoder of rank 5 against a student that says nothing
        for last in (detector.teacher.layers[-1], detector.autoencoder.output):
            assert isinstance(last, torch.nn.Conv2d)
            assert last.bias is not None
            wide = last.weight.flatten(1)
            left, values, right = torch.linalg.svd(wide, full_matrices=False)
            last.weight.copy_(((left[:, :5] * values[:5]) @ right[:5]).view_as(last.weight))
            last.bias.zero_()
        for silent in detector.student.layers[-1].parameters():
            silent.zero_()
    assert mean_square(torch.ones(1, 384, 1, 1), torch.eye(384)).item() == pytest.approx(1.0)
    shares = fit_bases(detector, frames, CPU)
    assert shares["st_kept"] == pytest.approx(1.0, abs=1e-5)
    assert shares["ae_kept"] == pytest.approx(1.0, abs=1e-5)
    assert torch.allclose(detector.basis_st @ detector.basis_st.T, torch.eye(6), atol=1e-5)
    apart_st, apart_ae, _ = detector.differences(to_input(frames, CPU))
    map_st, map_ae, _ = detector.maps(to_input(frames, CPU))
    assert torch.allclose(map_st, apart_st.square().mean(1), rtol=1e-3)
    assert torch.allclose(map_ae, apart_ae.square().mean(1), rtol=1e-3)
    assert fit_bases(Detector(PdnSize.SMALL, 128), frames, CPU) == {}
    with pytest.raises(ValueError, match="from 1 to 384"):
        Detector(PdnSize.SMALL, 128, map_directions=385)
