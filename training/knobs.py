"""Changing a recipe's knobs by NAME=VALUE texts, as the command line gives them, and refusing what cannot be trained."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeVar

import msgspec

from training.errors import RecipeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Struct = TypeVar("Struct", bound=msgspec.Struct)


def with_changes(knobs: Struct, changes: Sequence[str]) -> Struct:
    """Changes knobs by NAME=VALUE texts.

    Args:
        knobs: Any recipe's.
        changes: Such as "noise=0", "gate=se".

    Raises:
        RecipeError: No such knob, a value of another kind, or a number that is not finite.
    """
    fields = {field.name: field.type for field in msgspec.structs.fields(knobs)}
    chosen: dict[str, object] = {}
    for change in changes:
        name, equals, text = change.partition("=")
        if not equals or name not in fields:
            raise RecipeError(f"--knob {change}: expected NAME=VALUE with a name of {', '.join(fields)}")
        try:
            chosen[name] = msgspec.convert(text, fields[name], strict=False)
        except msgspec.ValidationError as exc:
            raise RecipeError(f"--knob {change}: {exc}") from exc
        if isinstance(chosen[name], float) and not math.isfinite(chosen[name]):  # type: ignore[arg-type]
            raise RecipeError(f"--knob {change}: expected a finite number, got {text}")
    return msgspec.structs.replace(knobs, **chosen)


def refuse_unless(knobs: msgspec.Struct, rules: Iterable[tuple[bool, str, str]]) -> None:
    """Checks rules of (holds, names of the knobs, what is expected of them).

    Raises:
        RecipeError: The first rule that does not hold, with what came.
    """
    for holds, names, expected in rules:
        if not holds:
            got = ", ".join(repr(getattr(knobs, name)) for name in names.split(" and "))
            raise RecipeError(f"{names}: expected {expected}, got {got}")
