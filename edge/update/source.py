"""Where models come from: one repository, one site and product, seen through verified metadata."""

from dataclasses import dataclass
from pathlib import Path

from edge.bundle.format import MAX_BUNDLE_BYTES
from edge.errors import UpdateError
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
    """

    def __init__(
        self, store: ModelStore, root: Path, metadata_url: str, target_url: str, site: str, product: str, *, ca: str = ""
    ) -> None:
        self._store = store
        self._root = root
        self._metadata_url = metadata_url
        self._target_url = target_url
        self._site = site
        self._product = product
        self._ca = ca

    def channel(self, channel: str) -> Release:
        """What a channel holds now. Raises UpdateError."""
        client = self._client()
        path = channel_path(self._site, self._product, channel)
        target = client.require(path, MAX_CHANNEL_BYTES)
        where = self._store.staging / f"{channel}.json"
        content = client.download(target, where).read_bytes()
        document = decode_channel(content, self._site, self._product, channel)
        return Release(document.target, document.version, document.sha256, document.minimum)

    def version(self, version: int) -> Release:
        """A certain version, as long as it is listed. Raises UpdateError."""
        path = model_path(self._site, self._product, version)
        target = self._client().require(path, MAX_BUNDLE_BYTES)
        return Release(path, version, target.hashes.get("sha256", ""))

    def fetch(self, release: Release) -> None:
        """Bring a release into the staging folder, verified against fresh metadata.

        Raises:
            UpdateError: as `RepositoryClient`; "disk-full"; "mismatch" when the repository now lists other content.
        """
        client = self._client()
        target = client.require(release.target, MAX_BUNDLE_BYTES)
        listed = target.hashes.get("sha256", "")
        if listed != release.sha256:
            raise UpdateError(
                f"{release.target}: expected sha256 {release.sha256[:12]}, the repository lists {listed[:12]}; looked up anew",
                reason="mismatch",
            )
        self._store.check_room(target.length)
        client.download(target, self._store.staged(release.sha256))

    def _client(self) -> RepositoryClient:
        try:
            root = self._root.read_bytes()
        except OSError as exc:
            raise UpdateError(
                f"{self._root}: the trusted root cannot be read ({exc.strerror}); install it from the repository's 1.root.json",
                reason="disk",
            ) from exc
        client = RepositoryClient(
            self._store.metadata, self._metadata_url, root, Fetcher(self._store.staging, ca=self._ca), target_url=self._target_url
        )
        client.refresh()
        return client
