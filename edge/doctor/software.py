"""What is installed: this version, libraries, engines, camera libraries, keys.

Libraries are looked up, not imported: a broken GPU library must not take the doctor with it.
"""

import importlib.util
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from edge import __version__
from edge.bundle.signing import default_trust
from edge.doctor.finding import Finding
from edge.installation import verify_installation

_NEEDED = ("numpy", "msgspec", "paho-mqtt", "pillow", "cryptography", "tuf")
_ENGINES = ("openvino", "onnxruntime")


def software() -> Iterator[Finding]:
    """This version, and the libraries nothing works without."""
    found = ", ".join(f"{name} {_version(name) or 'MISSING'}" for name in _NEEDED)
    missing = [name for name in _NEEDED if not _version(name)]
    remedy = f"pip install {' '.join(missing)}" if missing else ""
    yield Finding(
        "onbelt", "ok", f"{__version__} on Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    )
    yield Finding("libraries", "fail" if missing else "ok", found, remedy)


def installation() -> Iterator[Finding]:
    """Whether what is installed is what was shipped."""
    report = verify_installation()
    if report.faults:
        yield Finding(
            "installation", "fail", "; ".join(report.faults[:3]), "reinstall onbelt in a virtual environment of its own"
        )
    else:
        text = {
            "wheel": "every installed file is the one that was shipped",
            "editable": "a checkout",
            "none": "a folder, not installed",
        }
        yield Finding("installation", "ok", text[report.kind])


def engines() -> Iterator[Finding]:
    """What can run a model here."""
    have = [f"{name} {_version(name)}" for name in _ENGINES if _version(name)]
    if not have:
        yield Finding("engines", "fail", "none", "pip install openvino (the fastest on a CPU) or onnxruntime")
    elif not _version("openvino"):
        yield Finding(
            "engines", "warn", ", ".join(have), "pip install openvino: on a CPU its INT8 kernels are several times faster"
        )
    else:
        yield Finding("engines", "ok", ", ".join(have))
    if _version("tensorrt"):
        yield Finding("tensorrt", "ok", f"tensorrt {_version('tensorrt')}, pycuda {_version('pycuda') or 'missing'}")


def cameras() -> Iterator[Finding]:
    """Devices and libraries of cameras."""
    nodes = sorted(str(node) for node in Path("/dev").glob("video*"))
    libraries = [name for name in ("picamera2", "gi") if importlib.util.find_spec(name)]
    text = f"devices: {', '.join(nodes) or 'none'}; libraries: {', '.join(libraries) or 'none'}"
    yield Finding("cameras", "ok", f"{text}; the simulated belt and picture folders need neither")


def default_keys() -> Iterator[Finding]:
    """Keys of whoever may sign models, where no configuration names folders."""
    trust = default_trust()
    if trust.keys:
        yield Finding("trusted keys", "ok", f"{len(trust.keys)} in {', '.join(trust.sources)}")
    else:
        yield Finding("trusted keys", "fail", "none", "put the .pub file of whoever signs models into /etc/onbelt/trusted")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
