"""TensorRT on NVIDIA GPUs, for the Jetson Orin above all: built on the box from signed ONNX, cached, run as one CUDA graph.

    quantization  refuses models TensorRT would compute otherwise than the exporter meant, before any parser sees them
    driver        libcuda by ctypes: is there a GPU at all (TensorRT crashes where there is none), and CUDA graphs
    cuda          memory, copies, stream and events, by pycuda or by cuda-python
    vendor        the tensorrt module itself: its version, its log, its progress
    builder       ONNX -> plan
    cache         plans on disk under a key of everything that matters, hash checked before anything interprets them
    runtime       plan -> engine of `edge.engine.base`
    settings      /etc/onbelt/tensorrt.toml
    opening       all of it in order

Nothing here imports a vendor's module before it is known that there is a GPU to use it on.
"""
