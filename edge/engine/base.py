"""The contract between a graph, the engines that run it and the judge that reads it.

A bundle's `model.onnx` has one input and three outputs, all of fixed shape:

    frame   uint8   (1, S, S, 3)   RGB, as `edge.preprocess.fit` makes it
    scores  float32 (4,)           [raw, st, ae, global], in the order of SCORE_NAMES
    map_st  float32 (n, n)         teacher against student, quantile-normalised; structural defects
    map_ae  float32 (n, n)         auto-encoder against student, quantile-normalised; logical defects

with n = S / 4 - 8 (the unpadded PDN grid: stride 4, border 4 cells). `st` and `ae` are the maxima of the maps, or the
means of a few of their largest cells, `global` the z-scored Mahalanobis distance of the pooled features, `raw` their fusion:
the one number a limit is set on. All of it is computed inside the graph, so every engine gives the same numbers up to its
arithmetic.
"""

from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

INPUT_NAME = "frame"
OUTPUT_NAMES = ("scores", "map_st", "map_ae")
SCORE_NAMES = ("raw", "st", "ae", "global")


@dataclass(frozen=True, slots=True)
class Scores:
    """What one inference gives.

    Attributes:
        raw: fused score the limit is set on; larger is more anomalous.
        st, ae: of map_st and map_ae, see above. global_: z-scored distance of the pooled features.
        map_st: (n, n) float32. map_ae: (n, n) float32. Both are the caller's own copies.
    """

    raw: float
    st: float
    ae: float
    global_: float
    map_st: NDArray[np.float32]
    map_ae: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class LayerTime:
    """One layer of a profile. Layers are what the engine made of the graph: fused, renamed, reordered.

    Attributes:
        name: the engine's name of it.
        mean_ms: its mean time in milliseconds.
        precision: the numbers its kernel takes in, "" where the engine does not tell.
    """

    name: str
    mean_ms: float
    precision: Literal["int8", "float", ""] = ""


class Engine(Protocol):
    """Runs one model, one frame at a time. Not thread-safe: use it from the thread that made it."""

    @property
    def name(self) -> str:
        """Which engine this is and how it runs, for people: "openvino 2026.4.1 int8 2 threads"."""
        ...

    @property
    def size(self) -> int:
        """Side of the square input in pixels."""
        ...

    def infer(self, frame: NDArray[np.uint8]) -> Scores:
        """Score one frame.

        Args:
            frame: (size, size, 3) uint8 RGB.

        Raises:
            EngineError: the frame has another shape or type, the engine failed, or a score is not finite.
        """
        ...

    def profile(self, frame: NDArray[np.uint8], runs: int) -> tuple[LayerTime, ...]:
        """Time every layer by itself, in the order they run. Takes memory for a second copy of the model; `infer` stays as it is.

        Args:
            frame: (size, size, 3) uint8 RGB.
            runs: how many are averaged, at least 1; what the first ones allocate is left out.

        Raises:
            EngineError: as `infer`, or this engine cannot tell.
        """
        ...

    def close(self) -> None:
        """Free the device; `infer` afterwards raises EngineError. May be called twice."""
        ...

    def __enter__(self) -> "Engine": ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...
