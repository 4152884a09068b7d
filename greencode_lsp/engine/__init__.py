"""The decoder: segments that advance, exit policies, self-speculative decoding. Knows token ids only."""
