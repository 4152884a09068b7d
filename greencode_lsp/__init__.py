"""Code completion that is worth its energy: a language server over a local early-exit decoder."""

__version__ = "0.1.0"
