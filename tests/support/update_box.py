"""A box's updater without its daemon: real store, real repository, real proof; a guard and a hold a test sets."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge.bundle.reader import open_bundle
from edge.bundle.signing import TrustStore
from edge.clock import SystemClock
from edge.update.carrier import Carrier
from edge.update.machine import Machine, Watched
from edge.update.prove import Proof, ProofSettings, prove
from edge.update.source import Source
from edge.update.state import Model, State
from edge.update.store import ModelStore
from tests.support.update_site import PRODUCT, SITE, UpdateSite

GOOD = Watched("", "watched")


def carried(carrier: Carrier) -> tuple[str, str]:
    """The addresses of a repository that is carried over MQTT."""
    return f"mqtt:{carrier.base}/metadata/", f"mqtt:{carrier.base}/targets/"


class Box:
    """One box over a site's repository.

    Attributes:
        reports: every state it reported. guarded: models the guard was asked to watch. verdict: what the guard says.
        held: why the switch waits. shadow: how a comparison stands; None compares nothing.
    The proof runs in this process: what a process of its own adds has a test of its own.
    """

    def __init__(
        self,
        folder: Path,
        site: UpdateSite,
        *,
        product: str = PRODUCT,
        carrier: Carrier | None = None,
        shadow: Callable[[Model], Watched] | None = None,
        **proof: Any,
    ) -> None:
        self.folder = folder
        self.site = site
        self.carrier = carrier
        self.product = product
        self.reports: list[State] = []
        self.guarded: list[Model] = []
        self.verdict = GOOD
        self.held = Watched("", "")
        self.shadow = shadow
        self.trust = TrustStore.from_folders([site.trust_folder])
        self.proof_settings = ProofSettings(trust=(str(site.trust_folder),), engine="onnxruntime", threads=1, **proof)
        self.root = folder / "root.json"
        folder.mkdir(parents=True, exist_ok=True)
        self.root.write_bytes(site.root)
        self.start()

    def start(self) -> "Box":
        """Start the updater, as after a power cut."""
        self.store = ModelStore(self.folder / "update", reserve_bytes=0)
        urls = (self.site.metadata_url, self.site.target_url) if self.carrier is None else carried(self.carrier)
        self.source = Source(self.store, self.root, *urls, SITE, self.product, carrier=self.carrier)
        self.machine = Machine(
            self.store,
            self.source,
            self.trust,
            self.product,
            self._prove,
            lambda: self.held,
            self._guard,
            lambda _: None,
            self.reports.append,
            SystemClock(),
            self.shadow,
        )
        return self

    def update(self, channel: str = "stable", serial: int = 0, *, before: Callable[[], None] | None = None) -> State:
        """Ask for what the channel holds, and go on until idle."""
        release = self.source.channel(channel)
        if before is not None:
            before()
        if self.machine.offer(release, serial):
            self.finish()
        return self.machine.state

    def finish(self, steps: int = 20) -> State:
        """Go on until idle."""
        while self.machine.advance():
            steps -= 1
            assert steps > 0, self.machine.state
        return self.machine.state

    @property
    def running(self) -> bytes:
        """What the daemon would open."""
        return self.store.current.read_bytes()

    def _prove(self, new: Path, previous: Path | None) -> Proof:
        old = open_bundle(previous, self.trust) if previous else None
        return prove(open_bundle(new, self.trust), old, self.proof_settings)

    def _guard(self, model: Model) -> Watched:
        self.guarded.append(model)
        return self.verdict
