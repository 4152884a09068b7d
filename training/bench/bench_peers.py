"""What is timed: this engine, transformers' `generate` and llama.cpp, each over the same ids and the same weights.

A peer that is not installed is None, never a failure. llama.cpp and its converter are the extra `bench`.
"""

from __future__ import annotations

import importlib.util
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from greencode_lsp.engine.engine import Engine
from greencode_lsp.engine.load import load_engine, open_source
from greencode_lsp.models.manifest import Manifest
from greencode_lsp.preference import SHORTLIST
from greencode_lsp.records import DecodeConfig, FixedControl
from training.checkpoint.gguf_export import export_gguf
from training.evaluation.llamacpp_peer import LlamaCpp
from training.evaluation.transformers_peer import TransformersPeer
from training.exits.pack import write_pack

CONTEXT = 512
"""Positions of the prompt before every step."""
NEW_TOKENS = 16
BATCH = 8
SHORTLIST_ROWS = 32_768
ONE, MANY, WHOLE, PREFILL = "step", f"{BATCH}-token step", f"{NEW_TOKENS} tokens", "cold prompt"


SHORT = "step, shortlist"
"""A step whose token the shortlist says, at full depth."""


class Peer(Protocol):
    """One engine that runs a model."""

    def set_threads(self, count: int) -> None:
        """Take so many threads from now on."""
        ...

    def measure(self, ids: Sequence[int]) -> dict[str, float]:
        """Return seconds by figure, after the prompt `ids`; a step is the mean one of a whole completion."""
        ...


class Ours:
    """The engine at full depth, segment by segment as served; the cache is the prompt's."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def set_threads(self, count: int) -> None:
        """Do nothing: a process chooses them once: `bench --threads N`."""

    def _step(self, ids: Sequence[int]) -> None:
        """Run all layers over ids, the head over each, and forget them."""
        state = self._engine.state
        state.feed(ids)
        int(state.full_depth_logits(len(ids), lambda: False)[-1].argmax())
        state.crop(len(state) - len(ids))

    def measure(self, ids: Sequence[int]) -> dict[str, float]:
        """See `Peer`."""
        self._engine.state.crop(0)
        prefill_s = _timed(lambda: self._step_over_prompt(ids))
        many_s = _timed(lambda: self._step(ids[:BATCH]))
        whole_s = decode_s(self._engine, ids, DecodeConfig())
        times_s = {PREFILL: prefill_s, ONE: whole_s / NEW_TOKENS, MANY: many_s, WHOLE: whole_s}
        if self._engine.model.shortlist is not None:
            config = DecodeConfig(SHORTLIST, shortlist=-math.inf)
            times_s[SHORT] = decode_s(self._engine, ids, config) / NEW_TOKENS
        return times_s

    def _step_over_prompt(self, ids: Sequence[int]) -> None:
        self._engine.full_depth_argmax(ids, [0], FixedControl())


def decode_s(engine: Engine, ids: Sequence[int], config: DecodeConfig, count: int = NEW_TOKENS) -> float:
    """Return the seconds that `count` tokens take after the first, which ends the prompt's part."""
    tokens = engine.generate(ids, FixedControl(config), max_new_tokens=count + 1)
    next(tokens)
    return _timed(lambda: list(tokens))


class HuggingFace:
    """transformers' `generate`, greedy; a step is what each further token adds to one call."""

    def __init__(self, folder: Path, dtype: torch.dtype) -> None:
        self._peer = TransformersPeer(folder, dtype)
        self.set_threads = torch.set_num_threads

    def measure(self, ids: Sequence[int]) -> dict[str, float]:
        """See `Peer`."""
        first_s = _timed(lambda: self._peer.generate(ids, 1))
        whole_s = _timed(lambda: self._peer.generate(ids, 1 + NEW_TOKENS)) - first_s
        return {PREFILL: first_s, ONE: whole_s / NEW_TOKENS, WHOLE: whole_s}


class TimedLlamaCpp:
    """llama.cpp, timed by its parts."""

    def __init__(self, file: Path) -> None:
        self._peer = LlamaCpp(file, 2 * CONTEXT)
        self.set_threads = self._peer.set_threads

    def measure(self, ids: Sequence[int]) -> dict[str, float]:
        """See `Peer`."""
        self._peer.crop(0)
        prefill_s = _timed(lambda: self._peer.decode(ids, 0))
        many_s = _timed(lambda: self._peer.decode(ids[:BATCH], len(ids), all_logits=True))
        self._peer.crop(len(ids))

        def whole() -> None:
            token = ids[0]
            for i in range(NEW_TOKENS):
                token = self._peer.decode([token], len(ids) + i)

        whole_s = _timed(whole)
        return {PREFILL: prefill_s, ONE: whole_s / NEW_TOKENS, MANY: many_s, WHOLE: whole_s}


def open_peers(engine: Engine, folder: Path, work: Path) -> dict[str, Peer]:
    """Return the peers that are installed, by name, over one float folder."""
    peers: dict[str, Peer] = {f"greencode {engine.precision}": Ours(engine)}
    if importlib.util.find_spec("transformers"):
        peers["Hugging Face float32"] = HuggingFace(folder, torch.float32)
        peers["Hugging Face bfloat16"] = HuggingFace(folder, torch.bfloat16)
    if importlib.util.find_spec("llama_cpp") and importlib.util.find_spec("gguf"):
        peers["llama.cpp Q8_0"] = TimedLlamaCpp(export_gguf(folder, work / "q8_0.gguf"))
    return peers


def load_with_shortlist(checkpoint: Path, device: str, work: Path) -> Engine:
    """Load a public model with its exit pack, or with one made in `work` whose rows stand in for a shortlist's.

    Which rows they are makes no difference to the time.
    """
    engine = load_engine(checkpoint, device)
    if engine.model.shortlist is not None:
        return engine
    of = engine.model.architecture
    ids = np.unique(np.linspace(0, of.vocabulary - 1, min(SHORTLIST_ROWS, of.vocabulary)).astype(np.int64))
    weights = open_source(checkpoint).digest()
    write_pack(work / "pack", Manifest("bench", of.family, (of.layers,), weights=weights), shortlist=ids)
    return load_engine(checkpoint, device, pack=work / "pack")


def open_gguf_peers(engine: Engine, file: Path) -> dict[str, Peer]:
    """Return ours and llama.cpp, where it is installed, over one GGUF file."""
    peers: dict[str, Peer] = {f"greencode {engine.precision}": Ours(engine)}
    if importlib.util.find_spec("llama_cpp"):
        peers["llama.cpp"] = TimedLlamaCpp(file)
    return peers


def _timed(call: Any) -> float:
    start_s = time.perf_counter()
    call()
    return time.perf_counter() - start_s
