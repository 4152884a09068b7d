"""Checkpoint folders: tokenizer, export, import, trimming, and what a training starts from."""
