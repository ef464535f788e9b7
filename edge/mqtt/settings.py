"""Where the broker is and how we identify ourselves."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from edge.errors import ConfigError

_MAX_SECRET_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Broker:
    """A broker.

    Attributes:
        host, port: its address.
        protocol: "5", "3.1.1", or "auto": 5, and 3.1.1 where the broker does not know it.
        keepalive_s: silence after which either side gives the other up, seconds.
        user: empty for an anonymous connection. password: never printed.
        tls: True encrypts and checks the broker's certificate; there is no way to switch the check off.
        ca: CA file, or empty for the system's. cert, key: our own certificate for mutual TLS, or empty.
    """

    host: str
    port: int
    protocol: Literal["auto", "5", "3.1.1"] = "auto"
    keepalive_s: int = 5
    user: str = ""
    password: str = field(default="", repr=False)
    tls: bool = False
    ca: str = ""
    cert: str = ""
    key: str = ""

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def read_secret(name: str, path: str, *, credentials: str | None = None) -> bytes:
    """Read a secret from its file, or from systemd's credentials.

    Args:
        name: the credential's name, "mqtt.password"; looked for where the configuration names no file.
        path: file named in the configuration, or empty.
        credentials: folder of systemd's credentials; None takes CREDENTIALS_DIRECTORY.

    Returns:
        The content without the newline at its end, or b"" when there is neither.

    Raises:
        ConfigError: the file cannot be read, is empty, too large, or readable by everybody.
    """
    folder = os.environ.get("CREDENTIALS_DIRECTORY", "") if credentials is None else credentials
    given = bool(path)
    file = Path(path) if given else Path(folder) / name
    if not given and not (folder and file.is_file()):
        return b""
    try:
        mode = file.stat().st_mode
        with file.open("rb") as opened:
            content = opened.read(_MAX_SECRET_BYTES + 1)
    except OSError as exc:
        raise ConfigError(f"{file}: cannot read the secret {name} ({exc.strerror}); make the file, mode 0600") from exc
    if given and mode & 0o007:
        raise ConfigError(f"{file}: the secret {name} can be read by everybody (mode {mode & 0o777:o}); chmod 600 it")
    secret = content.rstrip(b"\r\n")
    if not secret or len(content) > _MAX_SECRET_BYTES:
        raise ConfigError(f"{file}: expected a secret of 1 to {_MAX_SECRET_BYTES} bytes, got {len(secret)}")
    return secret
