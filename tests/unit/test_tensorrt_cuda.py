"""The driver and both CUDA ports, called for real: against tests/support/libcuda.c, a driver without a GPU.

The libraries (cuda-bindings, pycuda) are the real ones where they are installed. They run in a process of their own: a libcuda
that is none must not stay in the tests' process.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edge.engine.tensorrt.cuda import open_cuda
from edge.engine.tensorrt.driver import Driver, Gpu
from edge.errors import EngineError

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "tests" / "support" / "libcuda.c"
HEADER = Path("/usr/local/cuda/include/cuda.h")
MODULES = {"cuda-python": "cuda.bindings", "pycuda": "pycuda"}


@pytest.fixture(scope="module")
def libcuda(tmp_path_factory):
    """The folder of the stand-in driver."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler (apt-get install gcc): the stand-in driver cannot be made")
    folder = tmp_path_factory.mktemp("libcuda")
    # Without a SONAME: loaded by its path, it is not taken for libcuda by whoever asks for that name later.
    # Where NVIDIA's header is, the compiler checks our prototypes against it.
    header = ["-DWITH_HEADER", f"-I{HEADER.parent}"] if HEADER.exists() else []
    library = folder / "libcuda.so.1"
    command = [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", *header]
    done = subprocess.run([*command, "-o", str(library), str(SOURCE), "-ldl"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return folder


def installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def fill_in(libcuda: Path) -> str:
    """A library with every function pycuda's extension links to and the stand-in lacks: each fails with 801 (not supported)."""
    (package,) = importlib.util.find_spec("pycuda").submodule_search_locations
    (extension,) = Path(package).glob("_driver*.so")

    def symbols(path: Path, which: str) -> set[str]:
        listed = subprocess.run(["nm", "-D", which, str(path)], capture_output=True, text=True, timeout=60, check=True).stdout
        return {line.split()[-1].partition("@")[0] for line in listed.splitlines()}

    wanted = {name for name in symbols(extension, "--undefined-only") if name.startswith("cu")}
    missing = wanted - symbols(libcuda / "libcuda.so.1", "--defined-only")
    source, library = libcuda / "rest.c", libcuda / "librest.so"
    source.write_text("".join(f"int {name}(void) {{ return 801; }}\n" for name in sorted(missing)))
    subprocess.run(["cc", "-shared", "-fPIC", "-w", "-o", str(library), str(source)], timeout=60, check=True)
    return str(library)


def drill(libcuda: Path, library: str):
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))
    env = {**os.environ, "LD_LIBRARY_PATH": str(libcuda), "PYTHONPATH": path}
    if library == "pycuda":
        env["LD_PRELOAD"] = fill_in(libcuda)
    command = [sys.executable, str(ROOT / "tests" / "support" / "gpu_drill.py"), library]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=env)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("library", ["cuda-python", "pycuda"])
def test_every_call_of_a_port_works_with_the_real_library(libcuda, library):
    if not installed(MODULES[library]):
        pytest.skip(f"{library} is not installed: pip install '.[gpu-test]' has cuda-bindings; pycuda needs the CUDA headers")
    found = drill(libcuda, library)
    assert found.pop("library").startswith(library)
    assert found.pop("waiting while recording") in {"EngineError", "LogicError", "RuntimeError", "Error"}
    assert found.pop("other thread") in (["EngineError"], ["LogicError"])
    assert found == {
        "gpu": "Fake Orin, SM 8.7, 8 multiprocessors",
        "integrated": True,
        "zeroed": True,
        "shape": [[1, 4, 4, 3], "uint8"],
        "copied": True,
        "elapsed": True,
        "recorded only": True,
        "replayed": True,
        "replayed again": True,
        "mapped": True,
    }


def test_the_gpu_is_described(libcuda):
    gpu = Driver(str(libcuda / "libcuda.so.1")).gpu()
    assert gpu == Gpu("Fake Orin", (8, 7), 8, 8 * 2**30, integrated=True, maps_host=True, driver=13000)


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("FAKE_CUDA_INIT", "100", r"cuInit failed: CUDA_ERROR_NO_DEVICE \(100\); no GPU"),
        ("FAKE_CUDA_INIT", "803", r"\(803\); driver and CUDA libraries do not belong together"),
        ("FAKE_CUDA_INIT", "777", r"cuInit failed: .* \(777\); run onbelt doctor"),
        ("FAKE_CUDA_COUNT", "0", "the driver knows none; see CUDA_VISIBLE_DEVICES"),
    ],
)
def test_a_driver_without_a_usable_gpu_says_what_to_do(libcuda, monkeypatch, variable, value, message):
    monkeypatch.setenv(variable, value)
    with pytest.raises(EngineError, match=message):
        Driver(str(libcuda / "libcuda.so.1")).gpu()


def test_no_driver_at_all_says_what_to_do():
    with pytest.raises(EngineError, match=r"expected an NVIDIA driver \(libnothing\.so\.1\).*use --engine openvino"):
        Driver("libnothing.so.1")


def test_a_library_that_is_no_driver_is_named():
    with pytest.raises(EngineError, match=r"libm\.so\.6: expected the function cuInit .*update the driver"):
        Driver("libm.so.6")


def test_no_cuda_library_says_what_to_install(monkeypatch):
    def absent(name):
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr("edge.engine.tensorrt.cuda.importlib.import_module", absent)
    with pytest.raises(EngineError, match=r"found neither: pycuda .*; cuda-python .*pip install cuda-bindings"):
        open_cuda()


def test_whatever_a_library_throws_is_our_error(monkeypatch):
    def broken(name):
        raise RuntimeError("cuInit failed: unknown error")

    monkeypatch.setattr("edge.engine.tensorrt.cuda.importlib.import_module", broken)
    with pytest.raises(EngineError, match=r"pycuda: cannot open the GPU \(RuntimeError: cuInit failed"):
        open_cuda("pycuda")
