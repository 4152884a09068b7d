"""Where checkpoints live and what they say about themselves. No torch."""
