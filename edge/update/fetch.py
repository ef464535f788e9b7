"""How bytes reach the box: HTTPS, a mounted stick (file:), MQTT; bounded in size and in time; a cut download of a model goes on.

Nothing read here is trusted. The caller states how many bytes may come; one more ends the download, and so does a sender that
trickles (the slow retrieval attack). Redirects are not followed: a static server has no need of them.
"""

import contextlib
import hashlib
import io
import logging
import os
import stat
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from urllib.parse import unquote, urlsplit

import urllib3
from tuf.api.exceptions import (
    DownloadError,
    DownloadHTTPError,
    DownloadLengthMismatchError,
    LengthOrHashMismatchError,
    SlowRetrievalError,
)
from tuf.ngclient import FetcherInterface

from edge.update.carrier import SCHEME, Carrier

logger = logging.getLogger(__name__)

CHUNK_BYTES = 64 * 1024
SOCKET_TIMEOUT_S = 10.0
Chunks = Generator[bytes, None, None]
METADATA_SECONDS = 120.0  # 5 MB of metadata at 45 kB/s
TARGET_SECONDS = 6 * 3600.0  # 64 MB at 3 kB/s: a poor radio link; then the next poll goes on where this one ended


class Fetcher(FetcherInterface):
    """Fetches metadata into memory and targets through a partial file that survives a cut.

    Args:
        partial: folder for unfinished targets; None keeps them in memory only.
        ca: CA file for HTTPS, empty for the system's.
        carrier: brings what has an address mqtt:BASE/..., None where nothing has.
        metadata_s, target_s: longest time one file may take, seconds.
    """

    def __init__(
        self,
        partial: Path | None = None,
        *,
        ca: str = "",
        metadata_s: float = METADATA_SECONDS,
        target_s: float = TARGET_SECONDS,
        carrier: Carrier | None = None,
    ) -> None:
        self._carrier = carrier
        self._partial = partial
        self._metadata_s = metadata_s
        self._target_s = target_s
        self._pool = urllib3.PoolManager(
            ca_certs=ca or None,
            cert_reqs="CERT_REQUIRED",
            timeout=urllib3.Timeout(SOCKET_TIMEOUT_S),
            retries=urllib3.Retry(total=2, redirect=0, backoff_factor=0.2),
        )

    def _fetch(self, url: str) -> Iterator[bytes]:
        return self._open(url, 0)[1]

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """Fetch metadata, at most `max_length` bytes. Raises DownloadError."""
        content = io.BytesIO()
        self._pour(url, content, 0, max_length, self._metadata_s)
        return content.getvalue()

    @contextmanager
    def download_file(self, url: str, max_length: int) -> Iterator[IO[bytes]]:
        """Fetch a target, at most `max_length` bytes, going on where an earlier attempt was cut.

        What was fetched is removed when the caller finds that it is not what it should be: the next attempt begins anew.
        Raises DownloadError.
        """
        if self._partial is None:
            yield io.BytesIO(self.download_bytes(url, max_length))
            return
        path = self._partial / (hashlib.sha256(url.encode()).hexdigest()[:32] + ".part")
        with path.open("a+b") as file:
            have = file.seek(0, os.SEEK_END)
            if have > max_length:
                file.truncate(0)
                have = 0
            if have < max_length:
                self._pour(url, file, have, max_length, self._target_s)
            file.flush()
            file.seek(0)
            try:
                yield file
            except LengthOrHashMismatchError:
                path.unlink(missing_ok=True)
                raise
        path.unlink(missing_ok=True)

    # --- inside -----------------------------------------------------------------------------------------------------------

    def _pour(self, url: str, into: IO[bytes], have: int, max_length: int, seconds: float) -> None:
        end = time.monotonic() + seconds
        try:
            begin, chunks = self._open(url, have)
            with contextlib.closing(chunks):
                if begin != have:  # the server does not know ranges and sends the whole
                    into.seek(0)
                    into.truncate(0)
                    have = 0
                for chunk in chunks:
                    have += len(chunk)
                    if have > max_length:
                        raise DownloadLengthMismatchError(f"{url}: expected at most {max_length} bytes, more came")
                    into.write(chunk)
                    if time.monotonic() > end:
                        raise SlowRetrievalError(f"{url}: {have} of {max_length} bytes in {seconds:g} s; tried again later")
        except (urllib3.exceptions.TimeoutError, TimeoutError) as exc:
            raise SlowRetrievalError(f"{url}: no bytes for {SOCKET_TIMEOUT_S:g} s") from exc
        except urllib3.exceptions.MaxRetryError as exc:
            if isinstance(exc.reason, urllib3.exceptions.TimeoutError):
                raise SlowRetrievalError(f"{url}: no answer in {SOCKET_TIMEOUT_S:g} s") from exc
            raise DownloadError(f"{url}: {exc.reason}") from exc
        except urllib3.exceptions.HTTPError as exc:
            raise DownloadError(f"{url}: {exc}") from exc

    def _open(self, url: str, at: int) -> tuple[int, Chunks]:
        """Where the bytes begin that will come, and the bytes."""
        parts = urlsplit(url)
        if parts.scheme == "file":
            return at, _read_file(Path(unquote(parts.path)), at)
        if parts.scheme == SCHEME and self._carrier is not None:
            return self._carrier.open(unquote(parts.path).removeprefix(f"{self._carrier.base}/"), at)
        headers = {"User-Agent": "onbelt-updater", "Accept-Encoding": "identity"}
        if at:
            headers["Range"] = f"bytes={at}-"
        response = self._pool.request("GET", url, headers=headers, preload_content=False, redirect=False)
        if response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {at}-"):
            return at, _stream(response)
        if response.status == 416 and at:  # what we have is more than there is: begin anew
            response.close()
            return self._open(url, 0)
        if response.status != 200:
            response.close()
            raise DownloadHTTPError(f"{url}: HTTP status {response.status}", response.status)
        return 0, _stream(response)


def _stream(response: urllib3.BaseHTTPResponse) -> Chunks:
    try:
        # One recv per chunk: a trickle is seen by the caller's clock instead of being gathered for hours in here.
        while chunk := response.read1(CHUNK_BYTES):
            yield chunk
        if response.length_remaining:
            raise DownloadError(f"the connection ended {response.length_remaining} bytes early; it goes on with the next attempt")
    finally:
        response.close()


def _read_file(path: Path, at: int) -> Chunks:
    # Opened here, not when the first chunk is asked for: a missing file must answer like a 404.
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError as exc:
        raise DownloadHTTPError(f"{path}: no such file", 404) from exc
    except OSError as exc:
        raise DownloadError(f"{path}: cannot be read ({exc.strerror})") from exc
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise DownloadError(f"{path}: expected a file, got a folder, a device or a pipe")

    def chunks() -> Chunks:
        with os.fdopen(handle, "rb") as file:
            file.seek(at)
            while chunk := file.read(CHUNK_BYTES):
                yield chunk

    return chunks()
