"""Where an update stands, on disk: one small file, replaced as a whole, flushed before anything is done that it speaks of.

    idle ──> download ──> verify ──> prove ──> shadow ──> switch ──> guard ──> idle (committed)
      ^          │           │         │          │          │          │
      └──────────┴───────────┴─────────┴──────────┴──────────┴─────> revert      the last committed model never left the disk

The step on disk is the one under way. Each step may be begun again from its beginning, so a process that is killed anywhere
goes on with the step it finds. The rule that forbids a mixture: `current` is one symbolic link, it is moved in `switch` and
`revert` only, and only to a file that was flushed, verified and hashed before.
"""

from enum import Enum
from pathlib import Path
from typing import Annotated

import msgspec

from edge.errors import UpdateError
from edge.update.files import write_atomic
from edge.update.release import Sha256, Version

STATE_SCHEMA = 1
MAX_STATE_BYTES = 64 * 1024
MAX_REFUSALS = 16
TEXT = 400

MaybeTarget = Annotated[str, msgspec.Meta(pattern=r"^([A-Za-z0-9._-]{1,32}/[A-Za-z0-9._-]{1,32}/[A-Za-z0-9._-]{1,56})?\Z")]
Line = Annotated[str, msgspec.Meta(max_length=TEXT)]


class Step(Enum):
    """What is under way."""

    IDLE = "idle"
    DOWNLOAD = "download"
    VERIFY = "verify"
    PROVE = "prove"
    SHADOW = "shadow"
    SWITCH = "switch"
    GUARD = "guard"
    REVERT = "revert"


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model on this box.

    Attributes:
        sha256: of the bundle file, also its file's name. version: as in its manifest.
        ref: how verdicts name it, "dfsc-efficientad-s@sha256:..."; empty until it was verified.
        target: where the repository lists it, empty for one that was installed by hand.
    """

    sha256: Sha256
    version: Version
    ref: str = ""
    target: MaybeTarget = ""


class Refusal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model this box will not try again.

    Attributes:
        reason: of `edge.update.reasons.REFUSED`. text: the same for people. at_us: microseconds UTC, a label.
        serial: of the desired state it was tried for; a later one may ask for it again.
    """

    model: Model
    reason: str
    text: Line
    at_us: int
    serial: int = 0


class State(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Content of `state.json`.

    Attributes:
        step: what is under way. committed: the model that has proved itself; None before the first.
        previous: the one before it, kept on disk.
        candidate: the model being brought in; None in `idle`.
        attempts: how often the step was begun; a box that loses power in every guard must not stay there for ever.
        serial: highest serial of a desired state that was obeyed. minimum: highest lowest version seen.
        reason, text: how the last update ended or why it waits; empty when it went well.
        refused: newest last.
    """

    schema: int = STATE_SCHEMA
    step: Step = Step.IDLE
    committed: Model | None = None
    previous: Model | None = None
    candidate: Model | None = None
    attempts: int = 0
    serial: int = 0
    minimum: int = 0
    reason: str = ""
    text: Line = ""
    refused: tuple[Refusal, ...] = ()


def load_state(path: Path) -> State | None:
    """Read the state; None when there is none yet.

    Raises:
        UpdateError: unreadable ("disk") or not of this form ("malformed"): the file is only ever replaced as a whole, so this
            is a damaged disk or a stranger's hand.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_STATE_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise UpdateError(f"{path}: cannot be read ({exc.strerror}); check the disk", reason="disk") from exc
    try:
        state = msgspec.json.decode(content, type=State)
    except (msgspec.MsgspecError, ValueError, RecursionError) as exc:
        raise UpdateError(f"{path}: not as agreed ({exc}); remove it, the running model is kept", reason="malformed") from exc
    if len(content) > MAX_STATE_BYTES or state.schema != STATE_SCHEMA:
        raise UpdateError(f"{path}: expected schema {STATE_SCHEMA}, got {state.schema}; update onbelt", reason="malformed")
    return state


def save_state(path: Path, state: State) -> None:
    """Put the state on the disk before anything relies on it. Raises UpdateError."""
    write_atomic(path, msgspec.json.format(msgspec.json.encode(state), indent=1) + b"\n")


def with_refusal(state: State, refusal: Refusal) -> tuple[Refusal, ...]:
    """The refusals with one more: the newest of each model, bounded."""
    others = tuple(one for one in state.refused if one.model.sha256 != refusal.model.sha256)
    return (*others, refusal)[-MAX_REFUSALS:]
