"""The language model and its LITE training."""
