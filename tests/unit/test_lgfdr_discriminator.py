"""LGFDR's second phase: what is stored, what the discriminator learns from it, and runs made before there was one."""

import msgspec
import numpy as np
import pytest
import torch

from edge.anomaly_map import BORDER_CELLS, to_picture
from tests.support.detectors import pictures
from tests.support.lgfdr import SIZE, assembled, small_knobs
from training.damage import paint_damage
from training.errors import RecipeError
from training.features import to_input
from training.lgfdr.discriminator import discriminator_loss
from training.lgfdr.knobs import LgfdrKnobs
from training.lgfdr.pyramid import FIRST_MIDDLE_PX
from training.lgfdr.store import StoredFeatures, damaged_cells
from training.lgfdr.trainer import LgfdrTrainer
from training.metrics.ranking import auroc
from training.networks.pdn import STRIDE_PX
from training.recipe import make_config
from training.teacher.textures import generate_texture

CPU = torch.device("cpu")

pytestmark = pytest.mark.usefixtures("one_thread")


def texture(rng):
    return generate_texture(rng, SIZE)


def test_memory_bounds_the_painted_pictures_not_the_others():
    frames = pictures(3, SIZE)
    # 0.3125 MiB a picture: 2 MiB hold six
    for mib, painted in ((0, 0), (2, 3), (100, 6)):
        knobs = small_knobs(damage_versions=2, store_mib=mib, damage_share=1.0)
        stored = StoredFeatures(knobs, 0, assembled(knobs, frames), frames, texture, CPU)
        assert (len(stored.clean), len(stored.painted), len(stored.damaged)) == (3, painted, painted)
        for j, features in enumerate(stored.painted):
            assert j in stored.versions(j % 3)
            moved = (features - stored.clean[j % 3]).abs().amax(0)
            assert moved[stored.damaged[j] == 1].min() > moved[stored.damaged[j] == 0].median()


def test_few_parts_have_more_painted_versions_each():
    frames = pictures(2, SIZE)
    knobs = small_knobs(damage_versions=1, damage_pictures=5)
    stored = StoredFeatures(knobs, 0, assembled(knobs, frames), frames, texture, CPU)
    assert len(stored.painted) == 5
    assert [len(stored.versions(index)) for index in range(2)] == [3, 2]


def test_towers_are_shown_painted_pictures_and_rebuild_the_part_itself():
    frames = pictures(3, SIZE)
    for share, shown in ((0.0, False), (1.0, True)):
        knobs = small_knobs(damage_share=share)
        trainer = LgfdrTrainer(knobs, 0, assembled(knobs, frames), frames, texture, CPU)
        targets, seen = trainer._draw(np.random.default_rng(0))
        assert torch.equal(targets, seen) != shown


@pytest.mark.parametrize("maps", ["discriminator", "fused"])
def test_without_room_for_painted_pictures_what_learns_from_them_is_refused(maps):
    frames, knobs = pictures(3, SIZE), small_knobs(store_mib=0, maps=maps)
    detector = assembled(knobs, frames)
    with pytest.raises(RecipeError, match=r"0 MiB hold none beside the 3 unpainted, .*: raise --knob store_mib"):
        LgfdrTrainer(knobs, 0, detector, frames, texture, CPU)


def test_a_cell_is_damaged_by_a_third_of_the_pixels_around_its_middle():
    changed = np.zeros((1, SIZE, SIZE), bool)
    changed[0, 8, 7:10] = True  # a row of three across the middle of cell (2, 2), pixel (8, 8)
    changed[0, 20, 20] = True  # the middle of cell (5, 5) alone
    changed[0, 30, :] = True  # halfway between two rows of cells
    cells = damaged_cells(changed)
    assert cells.shape == (1, SIZE // 4, SIZE // 4)
    assert [cells[0, 2, 2].item(), cells[0, 5, 5].item(), cells.sum().item()] == pytest.approx([1.0, 1 / 3, 4 / 3])


def test_the_discriminators_targets_lie_where_features_and_heat_maps_do():
    mark = np.zeros((1, SIZE, SIZE), bool)
    mark[0, 40:57, 24:41] = True
    cells = damaged_cells(mark)[0].numpy()
    rows, columns = np.indices(cells.shape) * STRIDE_PX + FIRST_MIDDLE_PX
    middle = (rows * cells).sum() / cells.sum(), (columns * cells).sum() / cells.sum()
    assert middle == pytest.approx((48.5, 32.5))
    shown = to_picture(cells[BORDER_CELLS:-BORDER_CELLS, BORDER_CELLS:-BORDER_CELLS], SIZE, SIZE)
    rows, columns = np.indices(shown.shape) + 0.5
    drawn = (rows * shown).sum() / shown.sum(), (columns * shown).sum() / shown.sum()
    assert drawn == pytest.approx((48.5, 32.5), abs=0.01)


def test_the_loss_forgets_what_is_told_well():
    logits, damaged = torch.tensor([[[2.0, -1.0]]]), torch.tensor([[[1.0, 0.0]]])
    wrong = 1 - torch.sigmoid(torch.tensor([2.0, 1.0]))  # how wrong each of the two cells is told
    by_hand = (wrong**2 * -torch.log(1 - wrong)).mean()
    assert discriminator_loss(logits, damaged).item() == pytest.approx(by_hand.item(), rel=1e-5)
    assert discriminator_loss(10 * logits, damaged) < 0.01 * by_hand


def test_it_learns_where_damage_is_and_leaves_the_towers_alone():
    frames = pictures(6, SIZE)
    knobs = small_knobs(
        steps=20, batch=4, damage_pictures=60, discriminator_steps=60, discriminator_width=32, mean_decay=0.9, store_mib=100
    )
    detector = assembled(knobs, frames[:5])
    trainer = LgfdrTrainer(knobs, 0, detector, frames[:5], texture, CPU)
    phases = []
    while trainer.step_number < trainer.steps:
        phases.append(trainer.step().phase)
        if trainer.step_number == knobs.steps:
            towers = {name: value.clone() for name, value in detector.rebuilding_parts().state_dict().items()}
    trainer.finish()
    assert phases == ["towers"] * 20 + ["discriminator"] * 60
    assert all(torch.equal(value, towers[name]) for name, value in detector.rebuilding_parts().state_dict().items())
    painted = [paint_damage(frames[5], texture, np.random.default_rng(seed)) for seed in range(8)]
    damaged = damaged_cells(np.stack([changed for _, changed in painted]))
    features = detector.features(to_input(np.stack([frame for frame, _ in painted]), CPU))
    with torch.no_grad():
        logits, _ = detector.eval().errors(features, detector.rebuild(features))
    certain = (damaged == 0) | (damaged == 1)
    area = auroc(logits[certain].numpy(), (damaged[certain] == 1).numpy())
    assert area is not None
    assert area > 0.85


def test_steps_of_both_phases_keep_their_ratio():
    knobs = make_config("lgfdr", size=SIZE, steps=60).knobs
    assert isinstance(knobs, LgfdrKnobs)
    assert (knobs.steps, knobs.discriminator_steps, knobs.all_steps) == (60, 80, 140)
    assert msgspec.structs.replace(knobs, maps="fused").all_steps == 60


def test_a_run_from_before_there_was_a_discriminator_keeps_its_score():
    written = msgspec.to_builtins(LgfdrKnobs(maps="fused"))
    older = {name: value for name, value in written.items() if "discriminator" not in name and name != "damage_pictures"}
    knobs = msgspec.convert(older, LgfdrKnobs)
    assert not knobs.has_discriminator
    assert assembled(knobs, pictures(2, SIZE)).discriminator is None
