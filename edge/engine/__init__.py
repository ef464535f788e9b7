"""Inference engines behind one protocol: uint8 frame in, score vector and small maps out."""

from edge.engine.base import Engine, LayerTime, Scores
from edge.engine.registry import open_engine

__all__ = ["Engine", "LayerTime", "Scores", "open_engine"]
