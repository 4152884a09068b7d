"""Safetensors written shard by shard, so that a folder of any size takes the memory of its largest shard."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors.torch import save_file
from torch import Tensor

Layout = Mapping[str, tuple[tuple[int, ...], torch.dtype]]
"""Name -> shape and dtype."""


def save_shards(folder: Path, layout: Layout, read: Callable[[str], Tensor], max_shard_bytes: int) -> None:
    """Write `model.safetensors`, or shards of at most `max_shard_bytes` (or one tensor) with transformers' index.

    `read` is called once per name and must return what the layout says.
    """
    empty = {name: torch.empty(shape, dtype=dtype, device="meta") for name, (shape, dtype) in layout.items()}
    split = split_torch_state_dict_into_shards(
        empty, filename_pattern="model{suffix}.safetensors", max_shard_size=max_shard_bytes
    )
    for file_name, names in split.filename_to_tensors.items():
        tensors = {name: read(name).contiguous() for name in names}
        save_file(tensors, str(folder / file_name), metadata={"format": "pt"})
        del tensors  # before the next shard is read
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1), encoding="utf8")
