"""Recipes as step functions, driven by `training.loop`."""

from training.trainers.fast import FastTrainer
from training.trainers.interruption import Interruption
from training.trainers.paper import PaperTrainer
from training.trainers.trainer import NaturalPictures, StepReport, Trainer, refuse_divergence
from training.trainers.weights import WeightMean, initialize_at_he_scale

__all__ = [
    "FastTrainer",
    "Interruption",
    "NaturalPictures",
    "PaperTrainer",
    "StepReport",
    "Trainer",
    "WeightMean",
    "initialize_at_he_scale",
    "refuse_divergence",
]
