"""The simulated belt: parts under a camera, drawn so that every rule, defect and nuisance is known."""

from edge.belt.scene import PRODUCTS, Kind, Part, Truth, render, truth_of

__all__ = ["PRODUCTS", "Kind", "Part", "Truth", "render", "truth_of"]
