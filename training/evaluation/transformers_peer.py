"""Hugging Face `generate`, greedy, as a peer: the same weights, the same prompts, a stated number of tokens."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from training.checkpoint.export import dequantise


class TransformersPeer:
    """A folder with float weights, as transformers runs it."""

    def __init__(self, folder: Path, dtype: torch.dtype = torch.float32, device: str = "cpu") -> None:
        from transformers import AutoModelForCausalLM  # an extra's, and seconds

        self._model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval().to(device)

    @classmethod
    def of_checkpoint(cls, checkpoint: Path, device: str = "cpu") -> TransformersPeer:
        """Load a checkpoint folder of this project, dequantised to float32."""
        with tempfile.TemporaryDirectory() as temporary:
            return cls(dequantise(checkpoint, Path(temporary)), device=device)

    @torch.inference_mode()
    def generate(self, prompt: Sequence[int], count: int, *, use_cache: bool = True) -> list[int]:
        """Return `count` greedy ids after the prompt; an end-of-text token does not end it."""
        ids = torch.tensor([list(prompt)], device=self._model.device)
        limits = {"min_new_tokens": count, "max_new_tokens": count, "do_sample": False, "pad_token_id": 0}
        out = self._model.generate(ids, attention_mask=torch.ones_like(ids), use_cache=use_cache, **limits)
        return [int(token) for token in out[0, len(prompt) :]]
