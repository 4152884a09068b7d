"""The decoder: segments that advance, exit policies, verified mode. Knows token ids only."""
