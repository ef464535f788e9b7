"""LGFDR's parts: shapes under every switch, towers, gates, noise, loss and knobs."""

import math

import msgspec
import numpy as np
import pytest
import torch

from tests.support.detectors import pictures
from tests.support.lgfdr import SIZE, SWITCHES, assembled, random_lgfdr, small_knobs
from training.errors import RecipeError
from training.feature_noise import feature_noise
from training.few_parts import ENOUGH_PARTS
from training.knobs import with_changes
from training.lgfdr.detector import fold_rim, loudest
from training.lgfdr.gates import EcaGate, SeGate, SelectiveHead, SimamGate, make_gate
from training.lgfdr.knobs import GATES, MUON_RATE, LgfdrKnobs, check_knobs
from training.lgfdr.losses import rebuild_loss
from training.recipe import make_config

CPU = torch.device("cpu")
CHANNELS, GRID = 160, 32

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("switches", SWITCHES, ids=str)
def test_every_switch_gives_the_contracts_shapes(switches):
    detector = random_lgfdr(**switches)
    frame = torch.from_numpy(pictures(1, SIZE))
    scores, map_st, map_ae = detector(frame)
    assert scores.shape == (4,)
    assert map_st.shape == map_ae.shape == (24, 24)
    assert torch.isfinite(scores).all()
    assert scores[1] == loudest(map_st[None], detector.knobs.loudest_st)[0]
    assert scores[2] == loudest(map_ae[None], detector.knobs.loudest_ae)[0]
    assert (map_st == 0).all() == (not detector.knobs.has_structural)
    assert (map_ae == 0).all() == (switches.get("towers") == "local")


def test_the_fused_map_is_not_the_local_towers():
    frame = torch.from_numpy(pictures(1, SIZE))
    fused, towers = random_lgfdr(maps="fused")(frame), random_lgfdr(maps="towers")(frame)
    assert not torch.allclose(fused[1], towers[1])
    assert torch.equal(fused[2], towers[2])


def test_the_rim_takes_what_lies_beyond_it():
    grid = torch.zeros(1, GRID, GRID)
    grid[0, 1, 20], grid[0, 31, 31], grid[0, 4, 5] = 3.0, 5.0, 2.0
    folded = fold_rim(grid)
    assert folded.shape == (1, 24, 24)
    assert folded[0, 0, 16] == 3
    assert folded[0, 23, 23] == 5
    assert folded[0, 0, 1] == 2
    assert folded.sum() == 10


@pytest.mark.parametrize("switches", SWITCHES, ids=str)
def test_gradients_reach_every_trained_number_and_nothing_else(switches):
    detector = assembled(small_knobs(**switches), pictures(2, SIZE))
    features = torch.randn(2, CHANNELS, GRID, GRID, generator=torch.Generator().manual_seed(0))
    rebuild_loss(features, detector.rebuild(features), 1.0).total.backward()
    silent = [name for name, p in detector.rebuilding_parts().named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []
    assert all(p.grad is None for p in detector.pyramid.parameters())


def test_global_tower_sees_the_whole_picture_and_local_tower_does_not():
    detector = random_lgfdr()
    features = torch.randn(1, CHANNELS, GRID, GRID, generator=torch.Generator().manual_seed(0))
    other = features.clone()
    other[..., :4, :4] += 3.0
    far = (..., slice(16, None), slice(16, None))
    before, after = detector.rebuild(features), detector.rebuild(other)
    assert torch.equal(before["local"][far], after["local"][far])
    assert not torch.allclose(before["global"][far], after["global"][far], atol=1e-5)


def test_global_tower_is_blind_to_what_it_rebuilds():
    for blind, seen in ((1, False), (0, False), (-1, True)):
        detector = random_lgfdr(token_blind=blind)
        features = torch.randn(1, CHANNELS, GRID, GRID, generator=torch.Generator().manual_seed(0))
        other = features.clone()
        own = (..., slice(9, 11), slice(13, 15))  # inside token (2, 3), away from its edge, over which the last 3 x 3 looks
        other[..., 8:12, 12:16] += 3.0
        before, after = (detector.rebuild(one)["global"] for one in (features, other))
        assert torch.allclose(before[own], after[own], atol=1e-5) != seen
        assert not torch.allclose(before[..., 24:, 24:], after[..., 24:, 24:], atol=1e-5)


def test_gates_follow_their_formulas():
    generator = torch.Generator().manual_seed(0)
    local, whole = torch.randn(2, 2, 16, 6, 6, generator=generator)
    both = local + whole
    head = SelectiveHead(16)
    torch.nn.init.normal_(head.branches.weight, generator=generator)
    w_l, w_g = head.weights(local, whole)
    assert torch.allclose(w_l + w_g, torch.ones_like(w_l))
    assert w_l.std() > 0.05
    assert torch.allclose(head(local, whole), w_l[..., None, None] * local + w_g[..., None, None] * whole)
    for gate in (SeGate(16), EcaGate(16)):
        ratio = gate(local, whole) / both
        assert torch.allclose(ratio, ratio[..., :1, :1].expand_as(ratio), atol=1e-4)
        assert (ratio[..., 0, 0] > 0).all()
        assert (ratio[..., 0, 0] < 1).all()
    energy = (both - both.mean((2, 3), keepdim=True)).square() / (4 * (both.var((2, 3), keepdim=True) + 1e-4))
    assert torch.allclose(SimamGate()(local, whole), torch.sigmoid(energy) * both, atol=1e-6)
    assert make_gate("mean", 16) is None


def test_noise_follows_the_length_of_a_cells_vector():
    features = torch.ones(1, CHANNELS, GRID, GRID)
    features[..., 16:, :] = 3.0
    noise = feature_noise(features, 20.0, torch.Generator().manual_seed(0))
    # |f| = sqrt(160) and thrice that
    assert noise[..., :16, :].std() == pytest.approx(20 / math.sqrt(160), rel=0.01)
    assert noise[..., 16:, :].std() == pytest.approx(60 / math.sqrt(160), rel=0.01)
    assert torch.equal(noise, feature_noise(features, 20.0, torch.Generator().manual_seed(0)))


def test_the_loss_counts_every_reconstruction():
    target = torch.randn(1, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    square = target.square().mean()
    assert rebuild_loss(target, {"local": target}, 1.0).total.item() == pytest.approx(0, abs=1e-6)
    one = rebuild_loss(target, {"local": -target}, 1.0)
    assert one.total.item() == pytest.approx(4 * square.item() + 2, rel=1e-5)
    two = rebuild_loss(target, {"local": -target, "fused": torch.zeros_like(target)}, 0.0)
    assert two.total.item() == pytest.approx(5 * square.item(), rel=1e-5)
    assert two.distances["d_fused"] == pytest.approx(square.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gate": "sum"}, "gate: expected one of srh"), ({"towers": "none"}, "towers"),
        ({"towers": "local", "gate": "se"}, "gate: expected none with one tower alone"), ({"token_cells": 5}, "divisor of 32"),
        ({"token_width": 30, "token_heads": 4}, "multiple of token_heads"), ({"smooth_cells": 2}, "odd"),
        ({"noise": -1.0}, "noise"), ({"discriminator_steps": 0}, "maps=fused"),
        ({"damage_versions": 0, "damage_pictures": 0}, "for the discriminator to learn from"),
        ({"damage_share": 2.0}, "damage_share"), ({"rate": 0.0}, "rate"), ({"steps": 0}, "steps"),
        ({"weight_decay": -1.0}, "weight_decay: expected at least 0"), ({"clip_norm": 0.0}, "clip_norm: expected above 0"),
        ({"store_mib": -1}, "store_mib: expected at least 1"),
    ],
)  # fmt: skip
def test_knobs_out_of_range_are_refused(changes, message):
    with pytest.raises(RecipeError, match=message):
        check_knobs(LgfdrKnobs(**changes), SIZE)


def test_knobs_come_from_the_command_line():
    made = with_changes(LgfdrKnobs(), ["noise=0", "gate=se", "pooled_head=true", "steps=7"])
    assert (made.noise, made.gate, made.pooled_head, made.steps) == (0.0, "se", True, 7)
    for wrong in ("nose=1", "noise", "noise=much"):
        with pytest.raises(RecipeError, match="--knob"):
            with_changes(LgfdrKnobs(), [wrong])
    with pytest.raises(RecipeError, match="one recipe"):
        make_config("lgfdr", size=SIZE, recipe="paper")
    assert {*GATES} == {"srh", "mean", "se", "eca", "simam"}


@pytest.mark.parametrize(("size", "cells"), [(128, 4), (160, 5), (192, 6), (256, 8)])
def test_new_runs_see_a_picture_of_any_side_as_eight_by_eight_tokens(size, cells):
    knobs = make_config("lgfdr", size=size).knobs
    assert (knobs.token_cells, knobs.muon_rate, knobs.weighed_error) == (cells, MUON_RATE, "root")
    assert (knobs.least_parts, knobs.loudest_st, knobs.loudest_ae) == (ENOUGH_PARTS, 2, 8)
    assert make_config("lgfdr", size=size, changes=["token_cells=2"]).knobs.token_cells == 2


def test_a_run_that_names_none_of_the_newer_knobs_is_read_as_it_was_trained():
    knobs = msgspec.json.decode(b'{"recipe": "lgfdr"}', type=LgfdrKnobs)
    assert (knobs.token_cells, knobs.muon_rate, knobs.weighed_error, knobs.least_parts) == (4, 0.0, "square", 0)
    assert (knobs.loudest_st, knobs.loudest_ae) == (1, 1)


def test_a_maps_score_is_the_mean_of_its_loudest_cells():
    maps = torch.tensor([[[1.0, 5.0], [4.0, 2.0]], [[-1.0, -5.0], [-4.0, -2.0]]])
    assert loudest(maps, 1).tolist() == [5.0, -1.0]
    assert loudest(maps, 3).tolist() == [pytest.approx(11 / 3), pytest.approx(-7 / 3)]
    plain, meant = random_lgfdr(), random_lgfdr(loudest_st=2, loudest_ae=8)
    frame = torch.from_numpy(pictures(1, SIZE, seed=3))
    (old, map_st, map_ae), (new, *maps_again) = plain(frame), meant(frame)
    assert torch.equal(map_st, maps_again[0])
    for scores, st, ae in ((old, 1, 1), (new, 2, 8)):
        by_hand = [np.sort(np.asarray(m).ravel())[-cells:].mean() for m, cells in ((map_st, st), (map_ae, ae))]
        assert scores.tolist()[1:3] == pytest.approx(by_hand)
    assert new[2] < old[2]
