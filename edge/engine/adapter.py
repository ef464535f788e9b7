"""What every adapter shares: the checks at both ends of an inference, copies out, and an end that can be called twice.

An adapter's module offers `build(model, graph, threads) -> Engine` and imports its vendor's library at the top.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from edge.engine.base import SCORE_NAMES, Engine, LayerTime, Scores
from edge.engine.onnx_file import Graph
from edge.errors import EngineError

Float32 = NDArray[np.float32]


class Adapter(ABC, Engine):
    """An engine over preallocated arrays: subclasses fill `_frame`, run, and read the three outputs.

    Not thread-safe, and the vendor's objects belong to the thread that made them: make, use and close it in one thread.
    """

    def __init__(self, name: str, graph: Graph) -> None:
        self._name = name
        self._size = graph.size
        self._closed = False
        self._frame = np.zeros((1, graph.size, graph.size, 3), np.uint8)
        self._outputs = {
            "scores": np.zeros(len(SCORE_NAMES), np.float32),
            "map_st": np.zeros((graph.cells, graph.cells), np.float32),
            "map_ae": np.zeros((graph.cells, graph.cells), np.float32),
        }

    @property
    def name(self) -> str:
        """Which engine this is and how it runs."""
        return self._name

    @property
    def size(self) -> int:
        """Side of the square input in pixels."""
        return self._size

    @abstractmethod
    def _run(self) -> None:
        """Compute from `_frame` into `_outputs`; may raise whatever the vendor raises."""

    @abstractmethod
    def _profile(self, runs: int) -> tuple[LayerTime, ...]:
        """Time the layers over `_frame`; may raise whatever the vendor raises."""

    @abstractmethod
    def _free(self) -> None:
        """Drop the vendor's objects."""

    def infer(self, frame: NDArray[np.uint8]) -> Scores:
        """Score one frame.

        Args:
            frame: (size, size, 3) uint8 RGB.

        Raises:
            EngineError: closed, another shape or type, the vendor's library failed, or a score or map is not finite.
        """
        if self._closed:
            raise EngineError(f"{self._name}: closed; open the engine again")
        if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8 or frame.shape != (self._size, self._size, 3):
            got = f"{frame.shape} {frame.dtype}" if isinstance(frame, np.ndarray) else type(frame).__name__
            raise EngineError(
                f"{self._name}: expected a frame of ({self._size}, {self._size}, 3) uint8, got {got}; use edge.preprocess.fit"
            )
        np.copyto(self._frame[0], frame)
        try:
            self._run()
        except Exception as exc:  # whatever a vendor throws, callers see our error
            raise EngineError(f"{self._name}: inference failed ({_first_line(exc)})") from exc
        raw, st, ae, global_ = map(float, self._outputs["scores"])
        map_st, map_ae = self._outputs["map_st"].copy(), self._outputs["map_ae"].copy()
        # One sum finds any NaN or infinity in a map without an array of flags: it propagates, and 56x56 scores cannot overflow.
        if not np.isfinite((raw, st, ae, global_, float(map_st.sum()), float(map_ae.sum()))).all():
            raise EngineError(
                f"{self._name}: expected finite scores, got raw {raw}, st {st}, ae {ae}, global {global_}; the model or the "
                "engine is damaged: run onbelt check"
            )
        return Scores(raw, st, ae, global_, map_st, map_ae)

    def profile(self, frame: NDArray[np.uint8], runs: int) -> tuple[LayerTime, ...]:
        """Time every layer by itself, in the order they run: see `Engine`.

        Args:
            frame: (size, size, 3) uint8 RGB.
            runs: how many are averaged.

        Raises:
            EngineError: as `infer`, less than one run, or the vendor's library failed.
        """
        if runs < 1:
            raise EngineError(f"{self._name}: expected at least 1 run to profile, got {runs}")
        self.infer(frame)  # checks the frame and leaves it in place
        try:
            return self._profile(runs)
        except EngineError:
            raise
        except Exception as exc:  # whatever a vendor throws, callers see our error
            raise EngineError(f"{self._name}: profiling failed ({_first_line(exc)})") from exc

    def close(self) -> None:
        """Free the vendor's objects; may be called twice."""
        if not self._closed:
            self._closed = True
            self._free()

    def __enter__(self) -> "Adapter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def expect_same(what: str, got: Mapping[str, tuple[str, tuple[int, ...]]], graph: Graph) -> None:
    """Compare the inputs and outputs an engine found in the model with the contract, before the first inference.

    Args:
        what: the engine, for the message.
        got: (type name, shape) by name of input or output, type "uint8" or "float32".
        graph: what was read from the file.

    Raises:
        EngineError: the engine sees another graph than `onnx_file` did.
    """
    maps = ("float32", (graph.cells, graph.cells))
    expected = {
        "frame": ("uint8", (1, graph.size, graph.size, 3)),
        "scores": ("float32", (len(SCORE_NAMES),)),
        "map_st": maps,
        "map_ae": maps,
    }
    if dict(got) != expected:
        raise EngineError(
            f"{what}: expected the graph's inputs and outputs {expected}, the engine sees {dict(got)}; export again"
        )


def build_failed(what: str, exc: Exception) -> EngineError:
    """The error for a library that refuses a model."""
    return EngineError(f"{what}: cannot build the model ({_first_line(exc)}); update the library or export for an older opset")


def _first_line(exc: Exception) -> str:
    text = str(exc).strip().splitlines() or [""]
    return f"{type(exc).__name__}: {text[0][:300]}"
