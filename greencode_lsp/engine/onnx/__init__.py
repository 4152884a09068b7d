"""The decoder on ONNX Runtime: a graph per segment, built once from a checkpoint; the CPU's default."""
