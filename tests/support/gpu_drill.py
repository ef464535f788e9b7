"""Every call our CUDA ports make, in order, on whatever libcuda.so.1 the loader finds: a real driver, or tests/support/libcuda.c.

python tests/support/gpu_drill.py cuda-python     prints one JSON object
"""

import json
import sys
import threading
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from edge.engine.tensorrt.cuda import Cuda, open_cuda
from edge.engine.tensorrt.driver import CudaGraph, Driver
from edge.errors import EngineError


def main(library: str) -> dict[str, object]:
    driver = Driver()
    found: dict[str, object] = {"gpu": str(driver.gpu()), "integrated": driver.gpu().integrated}
    cuda = open_cuda(library)
    found["library"] = cuda.name
    exercise(driver, cuda, found)  # its arrays are gone when CUDA is closed
    cuda.close()
    cuda.close()
    return found


def exercise(driver: Driver, cuda: Cuda, found: dict[str, object]) -> None:
    source, _ = cuda.host_array((1, 4, 4, 3), np.uint8, mapped=False)
    target, _ = cuda.host_array((1, 4, 4, 3), np.uint8, mapped=False)
    found["zeroed"] = not source.any()
    found["shape"] = [list(source.shape), str(source.dtype)]
    memory = cuda.device_memory(source.nbytes)

    def there_and_back() -> None:
        cuda.to_device(memory, source)
        cuda.to_host(target, memory)

    source[...] = np.arange(source.size).reshape(source.shape)
    cuda.mark(0)
    there_and_back()
    cuda.mark(1)
    cuda.synchronize()
    found["copied"] = bool((source == target).all())
    found["elapsed"] = cuda.elapsed_ms() >= 0

    graph = CudaGraph(driver, cuda.stream, there_and_back)
    source[...] = 7
    found["recorded only"] = bool((target != 7).any())
    graph.launch()
    cuda.synchronize()
    found["replayed"] = bool((target == 7).all())
    source[...] = 9
    graph.launch()
    cuda.synchronize()
    found["replayed again"] = bool((target == 9).all())
    graph.close()
    graph.close()

    try:
        CudaGraph(driver, cuda.stream, cuda.synchronize)
    except Exception as exc:  # noqa: BLE001  pycuda has its own kind
        found["waiting while recording"] = type(exc).__name__
    CudaGraph(driver, cuda.stream, there_and_back).close()

    mapped, address = cuda.host_array((2,), np.float32, mapped=True)
    found["mapped"] = address != 0
    mapped[...] = 1

    elsewhere: list[str] = []

    def other_thread() -> None:
        try:
            cuda.to_device(memory, source)
        except Exception as exc:  # noqa: BLE001
            elsewhere.append(type(exc).__name__)

    thread = threading.Thread(target=other_thread)
    thread.start()
    thread.join()
    found["other thread"] = elsewhere


if __name__ == "__main__":
    try:
        print(json.dumps(main(sys.argv[1])))
    except EngineError as error:
        print(json.dumps({"error": str(error)}))
