"""Models on this box's disk, and the one link that says which of them runs.

current -> models/{sha256}.onbelt     what the daemon opens
models/                               verified bundles: the running one, the committed one, the one before it
staging/                              downloads, unfinished or not verified yet
metadata/                             the update framework's cache
state.json
"""

import hashlib
import shutil
from pathlib import Path

from edge.bundle.format import MAX_BUNDLE_BYTES
from edge.errors import UpdateError
from edge.update.files import TEMPORARY, disk_error, move_in, point, write_atomic

RESERVE_BYTES = 64 * 2**20  # journal and logs come first: an update never takes the last room on the disk


class ModelStore:
    """The folder of an updater.

    Args:
        folder: made when missing.

    Raises:
        UpdateError: it cannot be written ("disk", "disk-full").
    """

    def __init__(self, folder: Path, *, reserve_bytes: int = RESERVE_BYTES) -> None:
        self.folder = folder
        self.models = folder / "models"
        self.staging = folder / "staging"
        self.metadata = folder / "metadata"
        self.state = folder / "state.json"
        self.current = folder / "current"
        self._reserve_bytes = reserve_bytes
        try:
            for each in (self.models, self.staging, self.metadata):
                each.mkdir(parents=True, exist_ok=True)
            for each in (folder, self.models, self.staging):
                for left in each.glob(f"{TEMPORARY}*"):
                    left.unlink()
        except OSError as exc:
            raise disk_error(folder, exc) from exc

    def path(self, sha256: str) -> Path:
        """Where a verified model lies."""
        return self.models / f"{sha256}.onbelt"

    def staged(self, sha256: str) -> Path:
        """Where a model lies until it is verified."""
        return self.staging / f"{sha256}.onbelt"

    def running(self) -> str:
        """File hash of the model `current` points to, empty when it points nowhere."""
        try:
            name = self.current.readlink()
        except OSError:
            return ""
        sha256 = name.name.removesuffix(".onbelt")
        return sha256 if self.path(sha256).is_file() else ""

    def read_staged(self, sha256: str) -> bytes | None:
        """Content of a staged model, None when it is not there or not (yet) what it should be."""
        return _read(self.staged(sha256), sha256)

    def holds(self, sha256: str) -> bool:
        """A verified model is there, and its bytes are still the ones that were verified."""
        return _read(self.path(sha256), sha256) is not None

    def keep(self, sha256: str) -> None:
        """Give a staged model that was verified its place. Raises UpdateError."""
        move_in(self.staged(sha256), self.path(sha256))

    def install(self, content: bytes) -> str:
        """Put a verified model in its place directly; returns its hash. Raises UpdateError."""
        sha256 = hashlib.sha256(content).hexdigest()
        write_atomic(self.path(sha256), content)
        return sha256

    def switch(self, sha256: str) -> None:
        """Let `current` point to a verified model, in one step. Raises UpdateError."""
        point(self.current, f"models/{sha256}.onbelt")

    def check_room(self, size: int) -> None:
        """Make sure that a download of so many bytes leaves the reserve.

        Raises:
            UpdateError: it would not ("disk-full").
        """
        # The download exists twice for a moment: as a partial file and as the staged one.
        free, need = shutil.disk_usage(self.folder).free, 2 * size + self._reserve_bytes
        if free < need:
            raise UpdateError(
                f"{self.folder}: expected {need} bytes of room (twice the model and {self._reserve_bytes} in reserve), "
                f"{free} are free; free space, the update is tried again",
                reason="disk-full",
            )

    def prune(self, keep: set[str]) -> None:
        """Remove models and downloads nobody needs any more; what `current` points to always stays."""
        keep = keep | {self.running()}
        for folder in (self.models, self.staging):
            for path in folder.glob("*.onbelt"):
                if path.name.removesuffix(".onbelt") not in keep:
                    path.unlink(missing_ok=True)
        for path in sorted(self.staging.glob("*.part"), key=lambda one: one.stat().st_mtime)[:-4]:
            path.unlink(missing_ok=True)


def _read(path: Path, sha256: str) -> bytes | None:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BUNDLE_BYTES + 1)
    except OSError:
        return None
    return content if hashlib.sha256(content).hexdigest() == sha256 else None
