"""llama.cpp as a peer: the same GGUF file, the same prompts, greedy."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

POSITIONS = 1024


class LlamaCpp:
    """llama.cpp through llama-cpp-python's plain bindings: its own cache, greedy by argmax."""

    def __init__(self, file: Path, positions: int = POSITIONS) -> None:
        import llama_cpp  # an extra's

        self._api = llama_cpp
        self._llama = llama_cpp.Llama(str(file), n_ctx=positions, n_batch=positions, n_threads=1, verbose=False)
        self._context = self._llama._ctx.ctx
        self._vocabulary = self._llama.n_vocab()

    def set_threads(self, count: int) -> None:
        """Run on so many from now on."""
        self._api.llama_set_n_threads(self._context, count, count)

    def logits(self, ids: Sequence[int], start: int, *, all_logits: bool = False) -> NDArray[np.float32]:
        """Run ids at positions from `start`; return the logits [V] after the last, which the next call overwrites."""
        batch = self._api.llama_batch_init(len(ids), 0, 1)
        batch.n_tokens = len(ids)
        for i, token in enumerate(ids):
            batch.token[i], batch.pos[i], batch.n_seq_id[i] = token, start + i, 1
            batch.seq_id[i][0] = 0
            batch.logits[i] = all_logits or i == len(ids) - 1
        if self._api.llama_decode(self._context, batch):
            raise RuntimeError("llama_decode failed")
        self._api.llama_batch_free(batch)
        logits = self._api.llama_get_logits_ith(self._context, -1)
        address = ctypes.cast(logits, ctypes.POINTER(ctypes.c_float))
        return np.ctypeslib.as_array(address, (self._vocabulary,))

    def decode(self, ids: Sequence[int], start: int, *, all_logits: bool = False) -> int:
        """Run ids at positions from `start`; return the last one's likeliest next id."""
        return int(self.logits(ids, start, all_logits=all_logits).argmax())

    def crop(self, length: int) -> None:
        """Forget what was run beyond `length` positions."""
        self._api.llama_memory_seq_rm(self._api.llama_get_memory(self._context), 0, length, -1)

    def generate(self, ids: Sequence[int], count: int) -> list[int]:
        """Return greedy tokens."""
        self.crop(0)
        tokens = [self.decode(ids, 0)]
        while len(tokens) < count:
            tokens.append(self.decode(tokens[-1:], len(ids) + len(tokens) - 1))
        return tokens
