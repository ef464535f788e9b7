"""What a site may set about TensorRT: /etc/onbelt/tensorrt.toml, the same for the daemon and the command line.

It is one file for the machine, not a part of station.toml: the settings go into the name under which a built engine is kept,
so a build ahead of time by `onbelt engine` is found by the daemon only if both read the same.
"""

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from edge.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SETTINGS = Path("/etc/onbelt/tensorrt.toml")
# The service owns the second one (StateDirectory=); an administrator may prefer the first.
MACHINE_FOLDERS = (Path("/var/cache/onbelt"), Path("/var/lib/onbelt"))
_MAX_FILE_BYTES = 16 * 1024


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file's keys.

    Attributes:
        workspace_mib: most GPU memory a kernel may ask for while it is tried, MiB. An Orin Nano has 8 GiB for CPU and GPU.
        optimization_level: 0 (quick build) to 5 (tries every kernel); 3 is TensorRT's own default.
        timing_iterations: runs averaged for each kernel tried: more is slower to build and less of a lottery.
        tf32: let float products be rounded to 10 bits. Off: an INT8 model's head needs four digits, and little is in float.
        memory: "mapped" lets the GPU read frames in the CPU's memory, "copied" copies them; "auto" maps on a Jetson.
        library: CUDA through "pycuda", "cuda-python", or "auto" for the first installed.
        cache: folder of built engines; empty for engines/ in the first of /var/cache/onbelt, /var/lib/onbelt and the home's
            .cache/onbelt that has one already, or else may be written.
    """

    workspace_mib: Annotated[int, msgspec.Meta(ge=16, le=65536)] = 1024
    optimization_level: Annotated[int, msgspec.Meta(ge=0, le=5)] = 3
    timing_iterations: Annotated[int, msgspec.Meta(ge=1, le=64)] = 4
    tf32: bool = False
    memory: Literal["auto", "mapped", "copied"] = "auto"
    library: Literal["auto", "pycuda", "cuda-python"] = "auto"
    cache: str = ""

    def cache_folder(self) -> Path:
        """Where built engines are kept."""
        if self.cache:
            return Path(self.cache)
        homes = [*MACHINE_FOLDERS, Path.home() / ".cache" / "onbelt"]
        made = [home for home in homes if (home / "engines").is_dir()]
        writable = [home for home in homes if os.access(home, os.W_OK)]
        return (*made, *writable, homes[-1])[0] / "engines"


def load_settings(path: Path | None = None) -> Settings:
    """Read the file; without one, the defaults.

    Raises:
        ConfigError: it cannot be read, is no TOML, or has an unknown key or an impossible value.
    """
    path = path or SETTINGS
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return Settings()
    except OSError as exc:
        raise ConfigError(f"{path}: cannot be read ({exc.strerror}); make it readable, or remove it for the defaults") from exc
    if len(content) > _MAX_FILE_BYTES:
        raise ConfigError(f"{path}: expected at most {_MAX_FILE_BYTES} bytes, got {len(content)}")
    try:
        return msgspec.convert(tomllib.loads(content.decode()), Settings)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as exc:
        raise ConfigError(f"{path}: {exc}; docs/jetson.md lists every key") from exc
