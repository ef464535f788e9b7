"""Recipes and their knobs: what the command line may ask for, and what it is told otherwise."""

import itertools
import math

import msgspec
import pytest

from training.errors import RecipeError
from training.losses import DfscKnobs
from training.recipe import FAST_STUDENT_WIDTH, FastKnobs, PaperKnobs, RunConfig, height_at, make_config


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"size": 130}, "multiple of 32"), ({"steps": 0}, "at least 1 step"), ({"recipe": "slow"}, "fast or paper")],
)
def test_impossible_recipes_are_refused(changes, said):
    with pytest.raises(RecipeError, match=said):
        make_config("efficientad-s", **changes)


@pytest.mark.parametrize("seed", [-1, 2**31, 5_000_000_000])
@pytest.mark.parametrize("model", ["dfsc-efficientad-s", "lgfdr"])
def test_seeds_that_not_everything_drawn_can_take_are_refused(model, seed):
    with pytest.raises(RecipeError, match=f"expected a seed from 0 to 2147483647, got {seed}"):
        make_config(model, seed=seed)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"weight": -1.0}, "weight: expected lambda from 0, got -1.0"),
        ({"weight": math.nan}, "weight: expected lambda from 0, got nan"),
        ({"quantile": 1.5}, "quantile: expected from 0 to below 1, got 1.5"),
        ({"quantile": math.nan}, "quantile"),
        ({"margin": -1.0}, "margin: expected above 0, got -1.0"),
        ({"margin_most": math.inf}, "margin_most"),
        ({"start": 2.0}, "start and ramp: expected parts of the steps, each from 0 to 1, got 2.0, 0.2"),
        ({"ramp": -1.0}, "start and ramp"),
    ],
)
def test_a_constraint_that_cannot_act_is_refused(wrong, said):
    with pytest.raises(RecipeError, match=said):
        make_config("dfsc-efficientad-s", dfsc=DfscKnobs(**wrong))


def test_unknown_model_names_the_known_ones():
    with pytest.raises(RecipeError, match=r"dfsc-efficientad-m"):
        make_config("lgfdrr")


def test_steps_scale_both_phases():
    knobs = make_config("efficientad-s", steps=7).knobs
    whole = FastKnobs()
    assert isinstance(knobs, FastKnobs)
    assert knobs.steps == 7
    assert knobs.autoencoder_steps == pytest.approx(7 * whole.autoencoder_steps / whole.steps, abs=1)
    assert make_config("efficientad-m", recipe="paper").knobs == PaperKnobs()


def test_new_runs_have_a_narrow_student_and_runs_that_name_no_width_the_papers():
    assert make_config("dfsc-efficientad-s").student_width == FAST_STUDENT_WIDTH < 1
    assert make_config("efficientad-m", steps=7).student_width == FAST_STUDENT_WIDTH
    assert make_config("efficientad-s", changes=["student_width=1"]).student_width == 1
    assert make_config("efficientad-s", recipe="paper").student_width == 1
    older = msgspec.json.decode(b'{"recipe": "fast", "steps": 1600}', type=FastKnobs)
    assert RunConfig("efficientad-s", 128, 0, older, None).student_width == 1


def test_knobs_of_the_recipe_come_from_the_command_line():
    made = make_config("efficientad-s", steps=7, changes=["autoencoder_noise=6", "student_batch=1", "steps=9"]).knobs
    assert isinstance(made, FastKnobs)
    assert (made.steps, made.student_batch, made.autoencoder_noise) == (9, 1, 6.0)
    for wrong, message in (
        ("autoencoder_noise=-1", "autoencoder_noise: expected from 0 to 1000, got -1.0"),
        ("autoencoder_batch=1", "at least 2"),
        ("student_width=0.3", "student_width: expected above 0 and up to 1, a multiple of 0.125, got 0.3"),
        ("warmup=2", "warmup and final_rate: expected each from 0 to 1, got 2.0, 0.01"),
        ("student_adam_rate=0", "student_adam_rate: expected each above 0"),
        ("student_adam_rate=inf", "--knob student_adam_rate=inf: expected a finite number, got inf"),
        ("damage_margin=nan", "--knob damage_margin=nan: expected a finite number, got nan"),
        ("gate=se", "--knob gate=se: expected NAME=VALUE with a name of steps, "),
    ):
        with pytest.raises(RecipeError, match=message):
            make_config("efficientad-s", changes=[wrong])
    with pytest.raises(RecipeError, match="to the letter"):
        make_config("efficientad-s", recipe="paper", changes=["steps=3"])


def test_rates_warm_up_and_fall():
    knobs = FastKnobs(warmup=0.1, final_rate=0.1)
    rates = [height_at(step, 100, knobs) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[10] == pytest.approx(1.0)
    assert rates[-1] == pytest.approx(0.1, abs=0.01)
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))
