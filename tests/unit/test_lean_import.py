"""The box starts without the training side: importing `edge` loads neither torch nor onnx nor a vendor's GPU library."""

import os
import pkgutil
import subprocess
import sys

import pytest

import edge

FORBIDDEN = (
    "torch",
    "onnx",
    "safetensors",
    "scipy",
    "tensorrt",
    "pycuda",
    "picamera2",
    "gi",
    "training",
    "export",
    "calibration",
)
# Adapters import their vendor's module at the top, so they are imported only where that module exists.
VENDOR_ADAPTERS = ("edge.broker", "edge.camera.genicam", "edge.camera.gstreamer", "edge.camera.picamera2")


def modules_of_edge():
    return [m.name for m in pkgutil.walk_packages(edge.__path__, "edge.") if not m.name.startswith(VENDOR_ADAPTERS)]


@pytest.mark.skipif("ONBELT_EMULATED" in os.environ, reason="OpenVINO, which a module of it imports, dies under emulation")
def test_edge_imports_nothing_of_the_training_side():
    names = modules_of_edge()
    assert len(names) > 20
    code = (
        f"import importlib, sys\nfor n in {names!r}: importlib.import_module(n)\n"
        f"print(sorted(m for m in {FORBIDDEN!r} if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_help_needs_no_training_packages():
    """`onbelt --help` lists every verb on a box that has no torch."""
    code = (
        "import sys\n"
        "class Block:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in {'torch', 'onnx', 'safetensors', 'scipy', 'amqtt'}:\n"
        "            raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Block())\n"
        "from edge.cli import main\n"
        "main(['--help'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    for verb in ("demo", "judge", "run", "train", "export", "evaluate", "gate"):
        assert f"\n    {verb} " in done.stdout


def test_train_without_torch_says_what_to_install(tmp_path):
    code = (
        "import sys\n"
        "class Block:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] == 'torch': raise ModuleNotFoundError(name, name='torch')\n"
        "sys.meta_path.insert(0, Block())\n"
        "from edge.cli import main\n"
        f"sys.exit(main(['train', {str(tmp_path)!r}, '--model', 'efficientad-s', '--out', {str(tmp_path / 'run')!r}]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "pip install 'onbelt[train]'" in done.stderr
