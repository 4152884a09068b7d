"""The CPU's decoder layers in C: fused, int8, one call per segment. Compiled on first use; optional."""
