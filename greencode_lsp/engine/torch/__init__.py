"""The decoder on torch: the float32 reference that tests compare with transformers, and CUDA."""
