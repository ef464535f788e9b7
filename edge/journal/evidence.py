"""What verdicts were given on: the frame as PNG and the anomaly map, named by the hash of the frame's pixels, in a bounded ring.

A verdict names its frame by hash (`ev.sha256`), so a picture that was exchanged is found out, and `onbelt journal replay` judges
the very pixels again. Two files per part lie flat in one folder:

    <32 hex>.png       the frame, 8-bit RGB, without loss
    <32 hex>.map.png   the anomaly map, 8-bit gray, one pixel per cell: 100 is the limit, 255 is 2.55 limits and above

Evidence is worth less than verdicts: above its size, or when the disk has less than its reserve left, the oldest goes; when
nothing is left to remove, nothing is written. A write that fails loses that picture and nothing else. Files appear whole
(written aside, then renamed); after a power cut a picture may be torn, which its hash shows.
"""

import contextlib
import hashlib
import os
import re
from collections import OrderedDict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.errors import EvidenceError, PictureError
from edge.journal.png import encode_png
from edge.preprocess import Frame8, read_picture

LIMIT_GRAY = 100  # gray level of the limit in a map's file
_NAME = re.compile(r"([0-9a-f]{32})(\.map)?\.png\Z")
_DIGEST = re.compile(r"sha256:([0-9a-f]{32})\Z")


def pixels_hash(pixels: Frame8) -> str:
    """The name of a frame: hash over "HxWx3 " and its pixels row by row, first 128 bits, as `ev.sha256` carries it.

    Args:
        pixels: (H, W, 3) uint8 RGB.
    """
    # The shape is hashed too: the same bytes as 2x8 and 4x4 pixels are two pictures.
    digest = hashlib.sha256("x".join(map(str, pixels.shape)).encode() + b" ")
    digest.update(np.ascontiguousarray(pixels).data)
    return f"sha256:{digest.hexdigest()[:32]}"


def url(digest: str) -> str:
    """Where the page of the box serves a frame, as `ev.url` carries it."""
    return f"/evidence/{_stem(digest)}"


def frame_path(folder: Path, digest: str) -> Path:
    """Where the frame of this hash lies, if it is still kept."""
    return folder / f"{_stem(digest)}.png"


def map_path(folder: Path, digest: str) -> Path:
    """Where its anomaly map lies; a part that was not judged has none."""
    return folder / f"{_stem(digest)}.map.png"


def read_frame(folder: Path, digest: str) -> Frame8:
    """Read a frame and prove that it is the one named.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        EvidenceError: not kept any more (`gone`), unreadable, or other pixels than those judged.
    """
    path = frame_path(folder, digest)
    if not path.exists():
        raise EvidenceError(f"{path}: this frame is not kept any more; evidence is bounded, see [evidence] max_mb", gone=True)
    try:
        pixels = read_picture(path)
    except PictureError as exc:
        raise EvidenceError(str(exc)) from exc
    found = pixels_hash(pixels)
    if found != digest:
        raise EvidenceError(f"{path}: expected pixels with {digest}, got {found}; the file was altered or torn by a power cut")
    return pixels


class EvidenceStore:
    """The ring of one station. Use it from one thread; readers only open files by name.

    Args:
        folder: made when missing; nothing else may lie in it.
        max_bytes: size of all files above which the oldest go.
        keep_free_bytes: what the disk keeps free: below it the oldest evidence goes too.

    Raises:
        EvidenceError: the folder cannot be made or listed.
    """

    def __init__(self, folder: Path, max_bytes: int, keep_free_bytes: int) -> None:
        self.folder = folder
        self.bytes = 0
        self.shed = 0
        self._max_bytes = max_bytes
        self._keep_free_bytes = keep_free_bytes
        self._held: OrderedDict[str, int] = OrderedDict()  # bytes of both files, oldest first
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._list()
        except OSError as exc:
            raise EvidenceError(f"{folder}: cannot keep evidence there ({exc.strerror}); set evidence.path to a folder") from exc

    def __len__(self) -> int:
        return len(self._held)

    def put(self, digest: str, pixels: Frame8, anomaly_map: NDArray[np.float32] | None) -> bool:
        """Keep one part's evidence.

        Args:
            digest: `pixels_hash(pixels)`.
            pixels: (H, W, 3) uint8 RGB.
            anomaly_map: (n, n) float32 in units of the limit, or None where the part was not judged.

        Returns:
            False when the disk has no room for it even after all older evidence has gone.

        Raises:
            EvidenceError: the disk refuses for another reason than space.
        """
        stem = _stem(digest)
        files = [(frame_path(self.folder, digest), encode_png(pixels))]
        if anomaly_map is not None:
            gray = np.clip(np.nan_to_num(anomaly_map) * LIMIT_GRAY + 0.5, 0.0, 255.0).astype(np.uint8)
            files.append((map_path(self.folder, digest), encode_png(gray)))
        size = sum(len(body) for _, body in files)
        if not self._make_room(size):
            return False
        try:
            for path, body in files:
                self._write(path, body)
        except OSError as exc:
            for path, _ in files:
                path.unlink(missing_ok=True)
            raise EvidenceError(f"{self.folder}: cannot write evidence ({exc.strerror}); free space, check the disk") from exc
        self.bytes += size - self._held.pop(stem, 0)  # the same picture again takes the place of its file
        self._held[stem] = size
        return True

    def release(self, size: int) -> int:
        """Give back at least `size` bytes of the disk, oldest first, for somebody who needs them more.

        Returns:
            Bytes given back; less when nothing is left.
        """
        before = self.bytes
        while self._held and before - self.bytes < size:
            self._drop_oldest()
        return before - self.bytes

    # --- inside -----------------------------------------------------------------------------------------------------------

    def _list(self) -> None:
        found: dict[str, tuple[int, int]] = {}
        with os.scandir(self.folder) as entries:
            for entry in entries:
                match = _NAME.match(entry.name)
                if match is None:
                    if entry.name.endswith(".part") and entry.is_file(follow_symlinks=False):
                        Path(entry.path).unlink()  # cut off in the middle of a write
                    continue
                status = entry.stat(follow_symlinks=False)
                when, size = found.get(match[1], (0, 0))
                found[match[1]] = max(when, status.st_mtime_ns), size + status.st_size
        for stem, (_, size) in sorted(found.items(), key=lambda item: item[1][0]):
            self._held[stem] = size
            self.bytes += size
        while self.bytes > self._max_bytes and self._held:
            self._drop_oldest()

    def _make_room(self, size: int) -> bool:
        if size > self._max_bytes:
            return False
        while self._held and self.bytes + size > self._max_bytes:
            self._drop_oldest()
        # Deleting frees blocks at once on the file systems a box has; should one be slower, we delete more, never write more.
        while (free := self._free()) < self._keep_free_bytes + size:
            if not self._held:
                return False
            self.release(max(size, self._keep_free_bytes + size - free))
        return True

    def _free(self) -> int:
        try:
            disk = os.statvfs(self.folder)
        except OSError as exc:
            raise EvidenceError(f"{self.folder}: cannot be read ({exc.strerror}); check the disk") from exc
        return disk.f_bavail * disk.f_frsize

    def _drop_oldest(self) -> None:
        stem, size = self._held.popitem(last=False)
        for name in (f"{stem}.png", f"{stem}.map.png"):
            with contextlib.suppress(OSError):
                (self.folder / name).unlink()
        self.bytes -= size
        self.shed += 1

    def _write(self, path: Path, body: bytes) -> None:
        part = path.with_suffix(".part")
        try:
            handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
            with open(handle, "wb") as file:  # noqa: PTH123 - a descriptor
                file.write(body)
            part.replace(path)
        except OSError:
            part.unlink(missing_ok=True)
            raise


def _stem(digest: str) -> str:
    match = _DIGEST.match(digest)
    if match is None:
        # Digests come from verdicts too, which come from a file: never make a path of anything else.
        raise EvidenceError(f"expected sha256: and 32 hex digits for a frame's hash, got {digest[:64]!r}")
    return match[1]
