"""Where models come from: one repository, one site and product, seen through verified metadata."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from edge.bundle.format import MAX_BUNDLE_BYTES
from edge.clock import Clock, SystemClock
from edge.errors import UpdateError
from edge.update.carrier import Carrier
from edge.update.client import RepositoryClient
from edge.update.fetch import Fetcher
from edge.update.release import MAX_CHANNEL_BYTES, channel_path, decode_channel, model_path
from edge.update.store import ModelStore


@dataclass(frozen=True, slots=True)
class Release:
    """A model the repository lists. `minimum`: lowest version its channel allows, 0 where no channel was asked."""

    target: str
    version: int
    sha256: str
    minimum: int = 0


class Source:
    """The repository as this box sees it.

    Args:
        store: where metadata is cached and downloads go.
        root: file of the trusted root, installed with the box.
        metadata_url, target_url: where the repository is served: https, or file: for a mounted copy.
        site, product: whose models. ca: CA file for HTTPS, empty for the system's.
        clock: what time it is for metadata that expires.
        carrier: the way to a repository that is carried over MQTT, None where it is not.
    """

    def __init__(
        self,
        store: ModelStore,
        root: Path,
        metadata_url: str,
        target_url: str,
        site: str,
        product: str,
        *,
        ca: str = "",
        clock: Clock | None = None,
        carrier: Carrier | None = None,
    ) -> None:
        self._store = store
        self._root = root
        self._metadata_url = metadata_url
        self._target_url = target_url
        self._site = site
        self._product = product
        self._ca = ca
        self._carrier = carrier
        self._clock = clock or SystemClock()

    def channel(self, channel: str) -> Release:
        """What a channel holds now. Raises UpdateError."""
        path = channel_path(self._site, self._product, channel)
        where = self._store.staging / f"{channel}.json"
        with self._client() as client:
            target = client.require(path, MAX_CHANNEL_BYTES)
            content = client.download(target, where).read_bytes()
        document = decode_channel(content, self._site, self._product, channel)
        return Release(document.target, document.version, document.sha256, document.minimum)

    def version(self, version: int) -> Release:
        """A certain version, as long as it is listed. Raises UpdateError."""
        path = model_path(self._site, self._product, version)
        with self._client() as client:
            target = client.require(path, MAX_BUNDLE_BYTES)
        return Release(path, version, target.hashes.get("sha256", ""))

    def fetch(self, release: Release) -> None:
        """Bring a release into the staging folder, verified against fresh metadata.

        Raises:
            UpdateError: as `RepositoryClient`; "disk-full"; "mismatch" when the repository now lists other content.
        """
        with self._client() as client:
            target = client.require(release.target, MAX_BUNDLE_BYTES)
            listed = target.hashes.get("sha256", "")
            if listed != release.sha256:
                raise UpdateError(
                    f"{release.target}: expected sha256 {release.sha256[:12]}, listed is {listed[:12]}; looked up anew",
                    reason="mismatch",
                )
            self._store.check_room(target.length)
            client.download(target, self._store.staged(release.sha256))

    @contextlib.contextmanager
    def _client(self) -> Iterator[RepositoryClient]:
        """A client over fresh metadata. A connection to a carried repository lives as long as it is used."""
        try:
            root = self._root.read_bytes()
        except OSError as exc:
            raise UpdateError(
                f"{self._root}: the trusted root cannot be read ({exc.strerror}); install it from the repository's 1.root.json",
                reason="disk",
            ) from exc
        fetcher = Fetcher(self._store.staging, ca=self._ca, carrier=self._carrier)
        now = datetime.fromtimestamp(self._clock.utc_us() / 1e6, timezone.utc)
        client = RepositoryClient(self._store.metadata, self._metadata_url, root, fetcher, target_url=self._target_url, now=now)
        try:
            client.refresh()
            yield client
        finally:
            if self._carrier is not None:
                self._carrier.close()
