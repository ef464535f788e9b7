"""From a trained run to a signed bundle: fused graph, ONNX, Q/DQ, certificate, packing."""

__all__: list[str] = []
