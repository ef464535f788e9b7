"""The update as a sequence of steps, each safe to begin again; see `edge.update.state` for the picture and the rule.

The machine is told which release is wanted (`offer`) and is driven by `advance` until it is idle. It never stops the running
model: before `switch` it only adds files, and after it the committed model is one link away.
"""

import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

from edge.bundle.reader import Bundle, read_bundle
from edge.bundle.signing import TrustStore
from edge.clock import Clock
from edge.errors import BundleError, SignatureError, UpdateError
from edge.update.prove import Proof
from edge.update.reasons import REFUSED
from edge.update.recover import recover
from edge.update.source import Release
from edge.update.state import TEXT, Model, Refusal, State, Step, save_state, with_refusal
from edge.update.store import ModelStore
from edge.wire.verdict import references

logger = logging.getLogger(__name__)

MAX_GUARDS = 3  # a box that dies in every guard goes back: the model may be why


@dataclass(frozen=True, slots=True)
class Watched:
    """What was seen of the station. `reason`: why the model goes or the switch waits, or empty. `text`: one line for people."""

    reason: str
    text: str


class Fetching(Protocol):
    """Brings a release into the staging folder."""

    def fetch(self, release: Release) -> None:
        """Raises UpdateError."""
        ...


class Machine:
    """One box's update.

    Args:
        store: models on disk. source: brings them. trust: keys bundles must be signed by. product: what this box inspects.
        prove: (new, running or None) -> Proof. hold: why the switch has to wait (a window, a silent station), if it has.
        guard: watches the model that was switched to, until it is sure; None when it was told to stop before.
        settle: waits until the daemon runs this model again, for a revert.
        report: told of every change. clock: labels.
        shadow: how the comparison with the running model on live parts stands: a reason of `REFUSED`, one to wait for, or
            none: it may take over. Does not wait. None compares nothing.
    """

    def __init__(
        self,
        store: ModelStore,
        source: Fetching,
        trust: TrustStore,
        product: str,
        prove: Callable[[Path, Path | None], Proof],
        hold: Callable[[], Watched],
        guard: Callable[[Model], Watched | None],
        settle: Callable[[Model], None],
        report: Callable[[State], None],
        clock: Clock,
        shadow: Callable[[Model], Watched] | None = None,
    ) -> None:
        self._store = store
        self._source = source
        self._trust = trust
        self._product = product
        self._prove = prove
        self._hold = hold
        self._guard = guard
        self._settle = settle
        self._report = report
        self._clock = clock
        self._shadow = shadow
        self.state = recover(store, trust)

    # --- what is wanted ---------------------------------------------------------------------------------------------------

    def offer(self, release: Release, serial: int = 0) -> bool:
        """Begin to bring a release in, unless it runs already.

        Returns:
            True when an update begins.

        Raises:
            UpdateError: another update is under way ("superseded"), it is too old, or was refused before.
        """
        state = self.state
        if state.step is not Step.IDLE:
            raise UpdateError(f"version {release.version} waits: step {state.step.value} is under way", reason="superseded")
        if release.minimum > state.minimum:
            state = self._save(msgspec.structs.replace(state, minimum=release.minimum))
        if state.committed is not None and state.committed.sha256 == release.sha256:
            return False
        model = Model(release.sha256, release.version, "", release.target)
        known = next((one for one in state.refused if one.model.sha256 == release.sha256), None)
        if known is not None and serial <= known.serial:
            raise UpdateError(
                f"{release.target}: refused before ({known.reason}: {known.text}); publish a better one, or ask for it again",
                reason="refused-before",
            )
        if release.version < state.minimum:
            text = f"version {release.version} is below the lowest allowed, {state.minimum}"
            self._refuse(model, "too-old", text, serial, state)
            raise UpdateError(f"{release.target}: {text}", reason="too-old")
        begun = msgspec.structs.replace(
            state, step=Step.DOWNLOAD, candidate=model, attempts=0, serial=max(state.serial, serial), reason="", text=""
        )
        self._save(begun)
        return True

    def adopt(self, model: Model) -> None:
        """A model that was installed by hand is the committed one. Raises UpdateError."""
        self._save(msgspec.structs.replace(self.state, committed=model, reason="", text="installed by hand"))

    def note(self, reason: str, text: str) -> None:
        """Say why nothing happens, where that is news."""
        if (reason, text[:TEXT]) != (self.state.reason, self.state.text):
            self._save(msgspec.structs.replace(self.state, reason=reason, text=text[:TEXT]))

    # --- driving ----------------------------------------------------------------------------------------------------------

    def advance(self) -> bool:
        """Do the step under way; False when there is none."""
        step, candidate = self.state.step, self.state.candidate
        if step is Step.IDLE or candidate is None:
            return False
        try:
            _STEPS[step](self, candidate)
        except UpdateError as exc:
            self._failed(candidate, exc)
        return True

    def _download(self, model: Model) -> None:
        if not self._store.holds(model.sha256) and self._store.read_staged(model.sha256) is None:
            self._source.fetch(Release(model.target, model.version, model.sha256))
        self._to(Step.VERIFY)

    def _verify(self, model: Model) -> None:
        content = self._store.read_staged(model.sha256)
        if content is None:
            if not self._store.holds(model.sha256):
                self._to(Step.DOWNLOAD)  # staged, and gone or torn since: a power cut before it was flushed
                return
            content = self._store.path(model.sha256).read_bytes()
        bundle = self._open(content)
        manifest = bundle.manifest
        if manifest.product != self._product:
            raise UpdateError(f"expected a model for {self._product}, got one for {manifest.product}", reason="wrong-product")
        if manifest.version != model.version:
            raise UpdateError(
                f"expected version {model.version} as published, the bundle says {manifest.version}", reason="wrong-version"
            )
        if not self._store.holds(model.sha256):
            self._store.keep(model.sha256)
        ref = references(manifest, bundle.sha256)[0]
        self._to(Step.PROVE, candidate=msgspec.structs.replace(model, ref=ref))

    def _proof(self, model: Model) -> None:
        committed = self.state.committed
        running = self._store.path(committed.sha256) if committed else None
        proof = self._prove(self._store.path(model.sha256), running)
        logger.info("proof of version %d: %s %s", model.version, proof.reason or "holds", proof.text)
        if proof.reason:
            raise UpdateError(proof.text, reason=proof.reason)
        # A first model has nothing to be compared with.
        self._to(Step.SHADOW if self._shadow is not None and committed is not None else Step.SWITCH)

    def _compare(self, model: Model) -> None:
        seen = self._shadow(model) if self._shadow is not None else Watched("", "")
        if seen.reason == "shadow-failed" and not self._store.holds(model.sha256):
            self._to(Step.DOWNLOAD)  # not the model's fault: the disk lost it
            return
        if seen.reason in REFUSED or seen.reason == "limit":
            raise UpdateError(seen.text, reason=seen.reason)
        if seen.reason:
            self.note(seen.reason, seen.text)
            return
        logger.info("version %d may take over: %s", model.version, seen.text)
        self._to(Step.SWITCH)
        self.note("", seen.text)

    def _switch(self, model: Model) -> None:
        held = self._hold()
        if held.reason:
            self.note(held.reason, held.text)
            return
        if not self._store.holds(model.sha256):
            self._to(Step.DOWNLOAD)  # the disk lost what was proved: begin anew, the running model is untouched
            return
        self._store.switch(model.sha256)
        self._to(Step.GUARD)

    def _watch(self, model: Model) -> None:
        attempts = self.state.attempts + 1
        if attempts > MAX_GUARDS:
            raise UpdateError(f"the guard was cut short {MAX_GUARDS} times: this box or its daemon dies", reason="daemon-died")
        if self._store.running() != model.sha256:
            raise UpdateError("the link points elsewhere: an earlier way back was cut short", reason="not-taken")
        with contextlib.suppress(UpdateError):  # a full disk must not keep anybody from watching
            self._save(msgspec.structs.replace(self.state, attempts=attempts))
        seen = self._guard(model)
        if seen is None:  # ended in good order: no sign against the model
            self._save(msgspec.structs.replace(self.state, attempts=attempts - 1))
            return
        if seen.reason:
            raise UpdateError(seen.text, reason=seen.reason)
        state = self.state
        committed = msgspec.structs.replace(
            state,
            step=Step.IDLE,
            committed=model,
            previous=state.committed,
            candidate=None,
            attempts=0,
            refused=tuple(one for one in state.refused if one.model.sha256 != model.sha256),
            reason="",
            text=seen.text[:TEXT],
        )
        self._save(committed)
        logger.info("version %d committed: %s", model.version, seen.text)
        self._prune()

    def _revert(self, model: Model) -> None:
        state = self.state
        if state.committed is None:
            self._store.current.unlink(missing_ok=True)
        elif self._store.running() != state.committed.sha256:
            self._store.switch(state.committed.sha256)
            self._settle(state.committed)
        idle = msgspec.structs.replace(state, step=Step.IDLE, candidate=None, attempts=0)
        if state.reason not in REFUSED:
            self._save(idle)  # the next attempt finds what is already here
            return
        self._refuse(model, state.reason, state.text, state.serial, idle)
        self._prune()

    def _failed(self, model: Model, exc: UpdateError) -> None:
        """Nothing of the running model has been touched before `switch`; from there on the way is back."""
        logger.warning("version %d, step %s: %s: %s", model.version, self.state.step.value, exc.reason, exc)
        if self.state.step is Step.REVERT:
            return  # the disk refuses even that: tried again with the next `advance`, nothing else may happen meanwhile
        self.state = msgspec.structs.replace(self.state, step=Step.REVERT, reason=exc.reason, text=str(exc)[:TEXT])
        # A disk that is full for the state must not keep the link from going back: a guard that finds the link elsewhere
        # after a restart knows what happened.
        with contextlib.suppress(UpdateError):
            self._save(self.state)

    # --- inside -----------------------------------------------------------------------------------------------------------

    def _open(self, content: bytes) -> Bundle:
        try:
            return read_bundle(content, self._trust, Path("the bundle"))
        except SignatureError as exc:
            raise UpdateError(str(exc), reason="bundle-unsigned") from exc
        except BundleError as exc:
            # "Unsigned" is also a bundle without the member that holds the signature.
            reason = "bundle-unsigned" if exc.member == "manifest.sig" else "bundle-damaged"
            raise UpdateError(str(exc), reason=reason) from exc

    def _to(self, step: Step, *, candidate: Model | None = None) -> None:
        state = msgspec.structs.replace(self.state, step=step, attempts=0)
        self._save(msgspec.structs.replace(state, candidate=candidate) if candidate else state)

    def _refuse(self, model: Model, reason: str, text: str, serial: int, state: State) -> None:
        """Remember a refusal and the state it leads to, in one write."""
        refusal = Refusal(model, reason, text[:TEXT], self._clock.utc_us(), serial)
        self._save(msgspec.structs.replace(state, refused=with_refusal(state, refusal), reason=reason, text=text[:TEXT]))

    def _save(self, state: State) -> State:
        save_state(self._store.state, state)
        self.state = state
        self._report(state)
        return state

    def _prune(self) -> None:
        state = self.state
        self._store.prune({one.sha256 for one in (state.committed, state.previous, state.candidate) if one})


_STEPS: dict[Step, Callable[[Machine, Model], None]] = {
    Step.DOWNLOAD: Machine._download,  # noqa: SLF001 - the table belongs to the class
    Step.VERIFY: Machine._verify,  # noqa: SLF001
    Step.PROVE: Machine._proof,  # noqa: SLF001
    Step.SHADOW: Machine._compare,  # noqa: SLF001
    Step.SWITCH: Machine._switch,  # noqa: SLF001
    Step.GUARD: Machine._watch,  # noqa: SLF001
    Step.REVERT: Machine._revert,  # noqa: SLF001
}
