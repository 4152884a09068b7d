"""Tokens per second against the peer of the same weights: the same prompts, the same process, in turns.

The peer is transformers for a folder, llama.cpp for a GGUF file.
"""

from __future__ import annotations

import importlib.util
import random
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from greencode_lsp.engine.engine import Engine
from greencode_lsp.engine.load import is_gguf
from greencode_lsp.preference import decode_config
from greencode_lsp.records import DecodeConfig, FixedControl
from greencode_lsp.settings import Settings
from training.evaluation.llamacpp_peer import LlamaCpp
from training.evaluation.transformers_peer import TransformersPeer

PROMPTS = 4
ROUNDS = 3
"""The first warms up and is left out."""
NEW_TOKENS = 32


def _peer(checkpoint: Path, threads: int) -> dict[str, Callable[[Sequence[int]], object]]:
    """Return what computes a prompt's greedy tokens, by name; none where llama.cpp is not installed."""
    if not is_gguf(checkpoint):
        transformers = TransformersPeer.of_checkpoint(checkpoint)
        return {"hugging_face": lambda prompt: transformers.generate(prompt, NEW_TOKENS)}
    if not importlib.util.find_spec("llama_cpp"):
        return {}
    llama = LlamaCpp(checkpoint)
    llama.set_threads(threads)
    return {"llama_cpp": lambda prompt: llama.generate(prompt, NEW_TOKENS)}


def compare(engine: Engine, folder: Path, prompts: Sequence[Sequence[int]], seed: int) -> dict[str, Any]:
    """Return median tokens/s at full depth, with exits at the default preference, and of the peer.

    Greedy, Hugging Face in float32 and the engine as served, `NEW_TOKENS` without a stop, the prompt's time included:
    the engine forgets what it has cached before each prompt.
    """
    room = engine.max_positions - NEW_TOKENS
    usable = [list(prompt)[-room:] for prompt in prompts]
    chosen = random.Random(seed).sample(usable, min(PROMPTS, len(usable)))

    def ours(config: DecodeConfig) -> Callable[[Sequence[int]], object]:
        def run(prompt: Sequence[int]) -> None:
            engine.sequences.forget()
            for _ in engine.generate(prompt, FixedControl(config), max_new_tokens=NEW_TOKENS):
                pass

        return run

    contenders: dict[str, Callable[[Sequence[int]], object]] = {
        **_peer(folder, engine.model.threads),
        "full_depth": ours(DecodeConfig("never")),
        "with_exits": ours(decode_config(Settings(), engine.manifest, "python")),
    }
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(ROUNDS):
        for name, run in contenders.items():
            start_s = time.perf_counter()
            for prompt in chosen:
                run(prompt)
            rates[name].append(len(chosen) * NEW_TOKENS / (time.perf_counter() - start_s))
    medians = {name: statistics.median(values[1:]) for name, values in rates.items()}
    shape = {"prompts": len(chosen), "prompt_tokens": statistics.mean(map(len, chosen)), "new_tokens": NEW_TOKENS}
    return {"tokens_per_s": medians, "rounds": ROUNDS - 1, **shape}
