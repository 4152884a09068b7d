"""The decoder on ONNX Runtime: a graph per segment, built once from a checkpoint; the CPU's default."""

import os

# Read when the library is loaded. Some of its releases (1.32 for one) keep a device's id and events, and send them.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
