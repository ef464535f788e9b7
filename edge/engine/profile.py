"""A profile for people and for machines: which layers take how much of the time."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from edge.engine.base import LayerTime

_LONGEST_NAME = 100


def profile_report(layers: Sequence[LayerTime]) -> list[dict[str, Any]]:
    """Every layer in the order they run, with its share (0 to 1) of the time of all."""
    total = _total_ms(layers)
    return [asdict(layer) | {"share": layer.mean_ms / total} for layer in layers]


def profile_lines(layers: Sequence[LayerTime], most: int) -> list[str]:
    """One line for each of the slowest layers, and one for all others.

    Args:
        layers: of `Engine.profile`.
        most: layers with a line of their own.
    """
    total = _total_ms(layers)
    ordered = sorted(layers, key=lambda layer: layer.mean_ms, reverse=True)
    lines = [
        f"{layer.mean_ms:9.4f} ms {layer.mean_ms / total:6.1%}  {layer.precision or '-':5}  {_printable(layer.name)}"
        for layer in ordered[:most]
    ]
    if rest := ordered[most:]:
        rest_ms = sum(layer.mean_ms for layer in rest)
        lines.append(f"{rest_ms:9.4f} ms {rest_ms / total:6.1%}         {len(rest)} layers more")
    return lines


def _total_ms(layers: Sequence[LayerTime]) -> float:
    return sum(layer.mean_ms for layer in layers) or 1.0  # a profile of nothing has shares of nothing


def _printable(name: str) -> str:
    """A name as a terminal can take it: names come from the model."""
    return "".join(letter if letter.isprintable() else "?" for letter in name[:_LONGEST_NAME])
