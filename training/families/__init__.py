"""Families of detectors: what each does its own way while it is trained, fitted and restricted. Everything else asks here.

A new family is one class after `Family`, a line in `FAMILIES`, its graph in `export.passes`, and its knobs in `training.recipe`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from training.families.efficientad import EfficientAdFamily
from training.families.family import Family, Pretrained, Sources
from training.families.lgfdr import LgfdrFamily

if TYPE_CHECKING:
    from training.networks.scoring import ScoringNetwork
    from training.recipe import RunConfig

__all__ = ["FAMILIES", "Family", "Pretrained", "Sources", "family_of", "family_of_detector"]

FAMILIES: dict[str, Family[Any, Any]] = {family.name: family for family in (EfficientAdFamily(), LgfdrFamily())}
"""Name -> the family."""


def family_of(config: RunConfig) -> Family[Any, Any]:
    """The family of what is asked for."""
    return FAMILIES[config.family]


def family_of_detector(detector: ScoringNetwork) -> Family[Any, Any]:
    """The family of a detector."""
    return FAMILIES[detector.family]
