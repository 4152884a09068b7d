"""The decoder: segments that advance, exit policies, verified mode, int8 kernels. Knows token ids only."""
