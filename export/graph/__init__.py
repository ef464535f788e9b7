"""From fused weights to an ONNX graph."""
