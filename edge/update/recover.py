"""Where an updater stands when it starts: its state, what runs, and what to make of it when the two do not agree."""

import logging

import msgspec

from edge.bundle.reader import read_bundle
from edge.bundle.signing import TrustStore
from edge.errors import BundleError, UpdateError
from edge.update.state import TEXT, Model, State, Step, load_state, save_state
from edge.update.store import ModelStore
from edge.wire.verdict import references

logger = logging.getLogger(__name__)


def recover(store: ModelStore, trust: TrustStore) -> State:
    """Read the state; where it is missing or lost, the model that runs is the one that counts.

    Raises:
        UpdateError: the state or the link cannot be written.
    """
    try:
        state = load_state(store.state)
    except UpdateError as exc:
        logger.exception("the state is lost, the running model is kept")
        state = State(reason=exc.reason, text=str(exc)[:TEXT])
    if state is None:
        state = State()
    if state.step is not Step.IDLE and state.candidate is None:
        state = msgspec.structs.replace(state, step=Step.IDLE)
    running = store.running()
    if state.committed is None and running and state.step is Step.IDLE:
        state = msgspec.structs.replace(state, committed=_committed(store, trust, running))
        save_state(store.state, state)
    committed = state.committed
    if committed is not None and state.step not in {Step.SWITCH, Step.GUARD, Step.REVERT} and running != committed.sha256:
        # The link is the state's to say: a stranger's hand or a lost link is put right here.
        store.switch(committed.sha256)
    return state


def _committed(store: ModelStore, trust: TrustStore, sha256: str) -> Model | None:
    content = store.path(sha256).read_bytes()
    try:
        bundle = read_bundle(content, trust, store.path(sha256))
    except BundleError:
        logger.exception("the running model does not verify; it is left as it is")
        return None
    return Model(sha256, bundle.manifest.version, references(bundle.manifest, bundle.sha256)[0])
