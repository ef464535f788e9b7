"""The box's trust in a repository: The Update Framework's client workflow, as python-tuf's ngclient does it.

What is added: bounded and resumable downloads (`edge.update.fetch`), a cache whose files are on the disk before they are
relied on, and errors of ours with one word of reason. The conformance entry point runs this class and nothing else.

The trusted root comes with the installation and is given at every start: the root chain is walked from there each time, so a
damaged cache costs a download and never the trust.
"""

import os
from datetime import datetime
from pathlib import Path

from tuf.api import exceptions as tuf
from tuf.api.metadata import TargetFile
from tuf.ngclient import Updater, UpdaterConfig

from edge.errors import UpdateError
from edge.update.fetch import Fetcher
from edge.update.files import disk_error, sync_folder

MAX_ROOT_ROTATIONS = 256
MAX_DELEGATIONS = 32

# The first class that fits names the reason: special ones stand before their parents.
_REASONS: tuple[tuple[type[Exception], str, str], ...] = (
    (
        tuf.ExpiredMetadataError,
        "expired",
        "run `onbelt repo snapshot-cron` where models are published; if it runs, compare this box's clock with a watch",
    ),
    (tuf.UnsignedMetadataError, "unsigned", "is this the repository of this plant, and is the root on this box its root?"),
    (tuf.BadVersionNumberError, "rollback", "an old copy of the repository is being served; serve the newest one"),
    (tuf.LengthOrHashMismatchError, "mismatch", "copy the repository again, all of it"),
    (tuf.RepositoryError, "malformed", "serve the repository as `onbelt repo` wrote it"),
    (tuf.DownloadLengthMismatchError, "too-large", "serve the repository as `onbelt repo` wrote it"),
    (tuf.SlowRetrievalError, "slow", "it goes on where it stopped with the next attempt"),
    (tuf.DownloadError, "unreachable", "check the address, the network and the server; it is tried again"),
)


class RepositoryClient:
    """Metadata of one repository, verified; usable for one refresh and the downloads that follow it.

    Args:
        metadata_dir: the cache. metadata_url: where the repository's metadata is served.
        root: bytes of the trusted root; None takes the cache's own `root.json` (the conformance protocol's `init`).
        fetcher: how bytes come.
        target_url, target_dir: where targets are served, and the folder they go to.
        now: what time it is for metadata that expires; None takes the system's clock.

    Raises:
        UpdateError: the trusted root cannot be read ("malformed"), or the cache cannot be written ("disk", "disk-full").
    """

    def __init__(
        self,
        metadata_dir: Path,
        metadata_url: str,
        root: bytes | None,
        fetcher: Fetcher,
        *,
        target_url: str = "",
        target_dir: Path | None = None,
        now: datetime | None = None,
    ) -> None:
        self._dir = metadata_dir
        config = UpdaterConfig(max_root_rotations=MAX_ROOT_ROTATIONS, max_delegations=MAX_DELEGATIONS)
        try:
            metadata_dir.mkdir(parents=True, exist_ok=True)
            self._updater = Updater(
                str(metadata_dir),
                metadata_url,
                str(target_dir) if target_dir else None,
                target_url or None,
                fetcher,
                config,
                bootstrap=root,
            )
            if now is not None:
                # ngclient has no other way to be told; a test holds that it asks here.
                self._updater._trusted_set.reference_time = now  # noqa: SLF001
        except OSError as exc:
            raise disk_error(metadata_dir, exc) from exc
        except tuf.RepositoryError as exc:
            raise UpdateError(f"the trusted root cannot be used: {exc}; install it again", reason="malformed") from exc

    def refresh(self) -> None:
        """Bring root, timestamp, snapshot and targets up to date. Raises UpdateError."""
        try:
            self._updater.refresh()
        except (tuf.RepositoryError, tuf.DownloadError) as exc:
            raise explain(exc) from exc
        except OSError as exc:
            raise disk_error(self._dir, exc) from exc
        finally:
            self._sync()

    def find(self, path: str) -> TargetFile | None:
        """What the metadata says of a target, None when it is not listed. Raises UpdateError."""
        try:
            return self._updater.get_targetinfo(path)
        except (tuf.RepositoryError, tuf.DownloadError) as exc:
            raise explain(exc) from exc
        except OSError as exc:
            raise disk_error(self._dir, exc) from exc
        finally:
            self._sync()

    def require(self, path: str, max_bytes: int) -> TargetFile:
        """What the metadata says of a target that must be listed and not larger than so.

        Raises:
            UpdateError: "not-listed" or "too-large", or as `find`.
        """
        found = self.find(path)
        if found is None:
            raise UpdateError(f"{path}: the repository does not list it; publish it, or ask for another", reason="not-listed")
        if found.length > max_bytes:
            raise UpdateError(f"{path}: expected at most {max_bytes} bytes, {found.length} are listed", reason="too-large")
        return found

    def cached(self, target: TargetFile, path: Path | None = None) -> Path | None:
        """The file, when it is there already and is what the metadata describes."""
        found = self._updater.find_cached_target(target, str(path) if path else None)
        return Path(found) if found else None

    def download(self, target: TargetFile, path: Path | None = None) -> Path:
        """Fetch a target and verify it; nothing else has looked into it before.

        Returns:
            The file. It is not flushed to the disk yet.

        Raises:
            UpdateError.
        """
        try:
            return Path(self._updater.download_target(target, str(path) if path else None))
        except (tuf.RepositoryError, tuf.DownloadError) as exc:
            raise explain(exc) from exc
        except OSError as exc:
            raise disk_error(path or self._dir, exc) from exc

    def _sync(self) -> None:
        """Flush the cache: ngclient replaces files by rename, which a power cut could otherwise leave empty."""
        for folder in (self._dir, self._dir / "root_history"):
            if not folder.is_dir():
                continue
            for file in folder.iterdir():
                if file.is_symlink() or not file.is_file():
                    continue
                handle = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    os.fsync(handle)
                finally:
                    os.close(handle)
            sync_folder(folder)


def explain(exc: Exception) -> UpdateError:
    """An error of the update framework as one of ours."""
    cause: BaseException = exc
    # ngclient wraps what a fetcher raises; the name of the inner one says more.
    while isinstance(cause, tuf.DownloadError) and isinstance(cause.__cause__, tuf.DownloadError):
        cause = cause.__cause__
    for kind, reason, remedy in _REASONS:
        if isinstance(cause, kind):
            return UpdateError(f"{str(cause) or type(cause).__name__}; {remedy}", reason=reason)
    raise TypeError(f"not an error of the update framework: {exc!r}")
