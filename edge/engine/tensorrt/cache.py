r"""Built engines on disk: found by a key of everything that matters, and not looked into before their hash holds.

A plan is native code: whoever can write one can run anything as the daemon, and TensorRT's own checks of it are no protection
(NVIDIA's security notes say so). Hence three conditions, in this order, before a byte is interpreted: the folder and the file
belong to root or to this user and nobody else may write them; the file is exactly as long as its first line says; its SHA-256
is the one in that line. The hash finds damage (a power cut, a failing disk); against tampering the owner's permissions stand.
Whatever is not right counts as not there: the engine is built again from the signed bundle.

    onbelt-engine 1 <key, 64 hex> <sha256 of what follows, 64 hex> <bytes, 12 digits>\n
"""

import contextlib
import hashlib
import json
import logging
import os
import re
import stat
from dataclasses import asdict, dataclass
from pathlib import Path

from edge.errors import EngineError

logger = logging.getLogger(__name__)

MAX_ENGINE_BYTES = 512 * 2**20  # EfficientAD-M in fp32 is some 80 MB
MAX_FILES = 12  # engines and timing caches of a few models and versions; the oldest go first
_HEAD = re.compile(rb"onbelt-engine 1 ([0-9a-f]{64}) ([0-9a-f]{64}) ([0-9]{12})\n")
_HEAD_BYTES = len("onbelt-engine 1 ") + 64 + 1 + 64 + 1 + 12 + 1
_NAME = re.compile(r"[0-9a-f]{64}\.(engine|timing)")
_REMAINS = re.compile(r"\.[0-9a-f]{64}\.(engine|timing)\.\d+\.tmp")
_REMAINS_AFTER_S = 3600.0  # younger ones may be another process's write in progress


class _UnusableError(Exception):
    """A kept file that must not be interpreted; the text says why."""


@dataclass(frozen=True, slots=True)
class EngineKey:
    """Everything an engine depends on.

    Attributes:
        model_sha256: of the ONNX file. tensorrt: its version. gpu: name, SM and multiprocessors.
        driver: CUDA version of the driver. settings: the builder's, as text. power_mode: the Jetson's, "" elsewhere: the builder
            chooses kernels by timing them, and another clock makes others the fastest.
    """

    model_sha256: str
    tensorrt: str
    gpu: str
    driver: int
    settings: str
    power_mode: str

    def digest(self) -> str:
        """64 hex digits."""
        return _digest(asdict(self))

    def timing_digest(self) -> str:
        """The same without what a timing cache does not depend on."""
        return _digest({"tensorrt": self.tensorrt, "gpu": self.gpu, "power_mode": self.power_mode})


def _digest(fields: dict[str, object]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


class EngineCache:
    """A folder of engines.

    Args:
        folder: made when missing. All may read it: a plan is no secret, and root may build for the daemon. Its maker may write.

    Raises:
        EngineError: it cannot be made, or others may write it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            self._fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as exc:
            raise EngineError(
                f"{folder}: expected a folder for built engines ({exc.strerror}); make one this user owns, or set cache in "
                "tensorrt.toml"
            ) from exc
        why = _unsafe(os.fstat(self._fd))
        if why:
            self.close()
            raise EngineError(
                f"{folder}: expected a folder that only root and this user may write, {why}; an engine is native code: "
                "chown and chmod go-w it, or set cache in tensorrt.toml"
            )

    def load_engine(self, key: EngineKey) -> bytes | None:
        """The plan kept under a key, None where there is none that may be used."""
        return self._load(f"{key.digest()}.engine", key.digest())

    def load_timing(self, key: EngineKey) -> bytes:
        """What the builder learned before on this machine; empty where there is nothing."""
        return self._load(f"{key.timing_digest()}.timing", key.timing_digest()) or b""

    def store(self, key: EngineKey, plan: bytes, timing_cache: bytes) -> bool:
        """Keep a plan and the timing cache; returns whether it worked: a full disk costs a build next time, not the engine."""
        if len(plan) > MAX_ENGINE_BYTES:
            logger.warning("%s: an engine of %d bytes is not kept, %d is the most", self.folder, len(plan), MAX_ENGINE_BYTES)
            return False
        try:
            self._write(f"{key.digest()}.engine", key.digest(), plan)
            if timing_cache:
                self._write(f"{key.timing_digest()}.timing", key.timing_digest(), timing_cache)
            self._prune()
        except OSError as exc:
            logger.warning(
                "%s: the built engine cannot be kept (%s); it will be built again next time", self.folder, exc.strerror
            )
            return False
        return True

    def close(self) -> None:
        """Let go of the folder; may be called twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> "EngineCache":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _load(self, name: str, key: str) -> bytes | None:
        try:
            return self._read(name, key)
        except FileNotFoundError:
            return None
        except (OSError, _UnusableError) as exc:
            logger.warning("%s/%s is not used: %s; it is built again", self.folder, name, exc)
            return None

    def _read(self, name: str, key: str) -> bytes:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self._fd)
        with os.fdopen(fd, "rb") as file:
            found = os.fstat(file.fileno())
            why = _unsafe(found) or ("it is no plain file" if not stat.S_ISREG(found.st_mode) else "")
            if why or found.st_size > MAX_ENGINE_BYTES + _HEAD_BYTES:
                raise _UnusableError(why or "it is too large")
            head = _HEAD.fullmatch(file.read(_HEAD_BYTES))
            content = file.read(MAX_ENGINE_BYTES + 1)
        if head is None or head[1].decode() != key:
            raise _UnusableError("its first line is not ours, or it was kept for something else")
        if len(content) != int(head[3]) or hashlib.sha256(content).hexdigest() != head[2].decode():
            raise _UnusableError("it is damaged: length or SHA-256 do not hold")
        return content

    def _write(self, name: str, key: str, content: bytes) -> None:
        """Whole or not at all, also through a power cut."""
        temporary = f".{name}.{os.getpid()}.tmp"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=self._fd)
        fd = os.open(temporary, flags, 0o644, dir_fd=self._fd)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(f"onbelt-engine 1 {key} {hashlib.sha256(content).hexdigest()} {len(content):012d}\n".encode())
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, name, src_dir_fd=self._fd, dst_dir_fd=self._fd)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=self._fd)
            raise
        os.fsync(self._fd)

    def _prune(self) -> None:
        """Keep the newest files, and no remains of writes that were cut off."""
        with os.scandir(self._fd) as entries:
            ages = {entry.name: entry.stat(follow_symlinks=False).st_mtime for entry in entries}
        kept = sorted((name for name in ages if _NAME.fullmatch(name)), key=lambda name: ages[name], reverse=True)
        stale_s = ages[kept[0]] - _REMAINS_AFTER_S  # beside the file that was just written
        remains = [name for name in ages if _REMAINS.fullmatch(name) and ages[name] < stale_s]
        for name in (*kept[MAX_FILES:], *remains):
            os.unlink(name, dir_fd=self._fd)


def _unsafe(found: os.stat_result) -> str:
    """Why somebody else could have written this, "" when nobody could."""
    if found.st_uid not in {0, os.geteuid()}:
        return f"user {found.st_uid} owns it"
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"its mode is {stat.S_IMODE(found.st_mode):04o}"
    return ""
