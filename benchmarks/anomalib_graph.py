"""The other side of `make bench`: anomalib's own EfficientAD with the weights of a detector of ours, exported as anomalib does.

The class comes from the file of the installed package. Of what that file imports the graph needs nothing but a tuple's name, so
two stand-ins replace anomalib's data package and torchvision: with them its 94 dependencies (3 GB) need not be installed. The
steps are those of `anomalib export`: torch.onnx.export with dynamo and opset 14, openvino.convert_model, and nncf.quantize
for INT8. Left out is what anomalib adds around the network (resizing before, thresholds behind), in its favour.
"""

import importlib.metadata
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
import openvino
import torch
from numpy.typing import NDArray
from torch import nn

from edge.errors import EngineError
from training.networks.detector import Detector

_FILE = Path("models") / "image" / "efficient_ad" / "torch_model.py"


class _Batch(NamedTuple):
    """Stand-in for anomalib.data.InferenceBatch."""

    pred_score: torch.Tensor | None = None
    pred_label: torch.Tensor | None = None
    anomaly_map: torch.Tensor | None = None
    pred_mask: torch.Tensor | None = None


@contextmanager
def _stand_ins() -> Iterator[None]:
    """Put modules in place of the imports of anomalib's file, and take them away again."""
    package, data, vision = ModuleType("anomalib"), ModuleType("anomalib.data"), ModuleType("torchvision")
    package.__path__ = []
    data.InferenceBatch = _Batch  # type: ignore[attr-defined]
    vision.transforms = None  # type: ignore[attr-defined]
    modules = {"anomalib": package, "anomalib.data": data, "torchvision": vision}
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def anomalib_version() -> str:
    """Version of the installed anomalib; EngineError without one."""
    try:
        return importlib.metadata.version("anomalib")
    except importlib.metadata.PackageNotFoundError as exc:
        raise EngineError("anomalib is not installed; make bench installs it, or: pip install --no-deps anomalib nncf") from exc


def model_of(detector: Detector) -> nn.Module:
    """Anomalib's small EfficientAD with the weights, statistics and quantiles of a detector of 256 px.

    Raises:
        EngineError: anomalib is not installed, or its class has changed.
    """
    anomalib_version()
    found = importlib.util.find_spec("anomalib")
    if found is None or found.origin is None:
        raise EngineError("expected the anomalib package with its files, found none")
    spec = importlib.util.spec_from_file_location("anomalib_efficient_ad", Path(found.origin).parent / _FILE)
    if spec is None or spec.loader is None:
        raise EngineError(f"expected anomalib's {_FILE}, found none; the comparison knows anomalib 2.x")
    module = importlib.util.module_from_spec(spec)
    with _stand_ins():
        spec.loader.exec_module(module)
    model: Any = module.EfficientAdModel(teacher_out_channels=384).eval().requires_grad_(requires_grad=False)
    for mine, theirs in ((detector.teacher, model.teacher), (detector.student, model.student)):
        _copy_convs(mine.layers, [theirs.conv1, theirs.conv2, theirs.conv3, theirs.conv4])
    encoder, decoder = model.ae.encoder, model.ae.decoder
    _copy_convs(detector.autoencoder.encoder, [getattr(encoder, f"enconv{i}") for i in range(1, 7)])
    behind = [*detector.autoencoder.decoder, detector.autoencoder.last_hidden, detector.autoencoder.output]
    _copy_convs(behind, [getattr(decoder, f"deconv{i}") for i in range(1, 9)])
    model.mean_std["mean"].copy_(detector.teacher_mean[None, :, None, None])
    model.mean_std["std"].copy_(detector.teacher_std[None, :, None, None])
    for name, quantiles in (("st", detector.q_st), ("ae", detector.q_ae)):
        model.quantiles[f"qa_{name}"].copy_(quantiles[0])
        model.quantiles[f"qb_{name}"].copy_(quantiles[1])
    exported: nn.Module = _Exported(model)
    return exported.eval()


def _copy_convs(mine: Any, theirs: list[nn.Conv2d]) -> None:
    convs = [module for module in mine if isinstance(module, nn.Conv2d)]
    for source, target in zip(convs, theirs, strict=True):
        if source.weight.shape != target.weight.shape:
            raise EngineError(f"expected anomalib's layer to be {tuple(source.weight.shape)}, got {tuple(target.weight.shape)}")
        target.weight.copy_(source.weight)
        if source.bias is not None and target.bias is not None:
            target.bias.copy_(source.bias)


class _Exported(nn.Module):
    """What anomalib's export leaves of a batch: the score and the map."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(1, 3, 256, 256) float32 in [0, 1] -> score (1, 1) and map (1, 1, 256, 256)."""
        found = self.model(x)
        return found.pred_score, found.anomaly_map


def to_onnx(model: nn.Module, path: Path, size: int) -> None:
    """Export as anomalib 2.7 does, with a fixed shape, which is in its favour."""
    torch.onnx.export(
        model, (torch.zeros(1, 3, size, size),), str(path), opset_version=14, dynamo=True, input_names=["input"], verbose=False
    )


def to_openvino(onnx: Path, frames: NDArray[np.uint8] | None) -> "openvino.Model":
    """Convert, and quantize by NNCF's defaults where frames are given, as anomalib's INT8_PTQ does.

    Args:
        onnx: the file.
        frames: (N, size, size, 3) uint8 to measure activations on.
    """
    model = openvino.convert_model(onnx)
    if frames is None:
        return model
    import nncf

    return nncf.quantize(model, nncf.Dataset([as_input(frame) for frame in frames]))


def as_input(frame: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(size, size, 3) uint8 -> (1, 3, size, size) float32 in [0, 1]."""
    return np.ascontiguousarray(frame.transpose(2, 0, 1)[None].astype(np.float32) / 255.0)


class _Prepared:
    """What is timed: `infer` of frames whose inputs have been made beforehand, in the other side's favour."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._inputs: dict[int, tuple[NDArray[np.uint8], NDArray[np.float32]]] = {}

    def _input(self, frame: NDArray[np.uint8]) -> NDArray[np.float32]:
        found = self._inputs.get(id(frame))
        if found is None:
            found = self._inputs[id(frame)] = (frame, as_input(frame))  # the frame, too: no other may get its id
        return found[1]


class Compiled(_Prepared):
    """A model of OpenVINO on the CPU.

    Args:
        model: what to compile.
        name: of the row.
        threads: to use.
        precision: of what is not quantized, "f32"; None leaves it to OpenVINO, which takes bfloat16 where the processor has it.
    """

    def __init__(self, model: "openvino.Model", name: str, threads: int, precision: str | None = None) -> None:
        super().__init__(name)
        options = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": threads}
        options |= {} if precision is None else {"INFERENCE_PRECISION_HINT": precision}
        compiled = openvino.Core().compile_model(model, "CPU", options)
        self.precision = str(compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name())
        self._request = compiled.create_infer_request()

    def infer(self, frame: NDArray[np.uint8]) -> float:
        """The score of one frame."""
        self._request.infer([self._input(frame)], share_inputs=True, share_outputs=True)
        return float(self._request.get_output_tensor(0).data.ravel()[0])


class InOnnxRuntime(_Prepared):
    """An ONNX file under ONNX Runtime on the CPU, with its defaults but for the threads."""

    def __init__(self, onnx: Path, name: str, threads: int) -> None:
        super().__init__(name)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(str(onnx), options, providers=["CPUExecutionProvider"])
        (self._port,) = (port.name for port in self._session.get_inputs())

    def infer(self, frame: NDArray[np.uint8]) -> float:
        """The score of one frame."""
        score, *_ = self._session.run(None, {self._port: self._input(frame)})
        return float(score.ravel()[0])
