"""The two families as transformers builds them, opened up so that a loss can be taken after any layer.

What is read here equals the engine's: `exit_states` is what its exits emit from and what the agent sees.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM, OPTConfig, OPTForCausalLM

from greencode_lsp.errors import CorpusError
from training.checkpoint.bpe import SPECIAL_TOKENS
from training.preset import ModelOptions

_RESIDUAL = ("o_proj.weight", "down_proj.weight", "out_proj.weight", "fc2.weight")


def build_model(options: ModelOptions, vocab_size: int) -> Any:
    """Return a freshly initialised model of the preset's shape, tied head, float32. Raises CorpusError."""
    document = list(SPECIAL_TOKENS).index("document")
    shared: dict[str, Any] = {
        "vocab_size": vocab_size,
        "hidden_size": options.hidden_size,
        "num_hidden_layers": options.num_hidden_layers,
        "num_attention_heads": options.num_attention_heads,
        "max_position_embeddings": options.max_position_embeddings,
        "tie_word_embeddings": True,
        "bos_token_id": document,
        "eos_token_id": document,
        "pad_token_id": None,
    }
    if options.family == "llama":
        config = LlamaConfig(
            intermediate_size=options.intermediate_size,
            num_key_value_heads=options.num_key_value_heads,
            head_dim=options.hidden_size // options.num_attention_heads,
            **shared,
        )
        model = LlamaForCausalLM(config)
    elif options.family == "opt":
        width = {"ffn_dim": options.intermediate_size, "word_embed_proj_dim": options.hidden_size}
        model = OPTForCausalLM(OPTConfig(**width, **shared))
    else:
        raise CorpusError(f"There is no model family {options.family!r}; [model] family is llama or opt.")
    with torch.no_grad():  # residual branches scaled by depth (GPT-2)
        for name, weight in model.named_parameters():
            if name.endswith(_RESIDUAL):
                weight.mul_(1 / math.sqrt(2 * options.num_hidden_layers))
    return model


def body(model: Any) -> Any:
    """Return the module that holds embeddings, layers and the final norm."""
    return model.model.decoder if model.config.model_type == "opt" else model.model


def exit_states(model: Any, ids: Tensor, exits: Collection[int], *, is_norm_still: bool = False) -> list[Tensor]:
    """Return the normalised hidden state after each exit, by depth, [B, T, D] each: what head and agent read.

    With `is_norm_still` no early exit moves the weight of the norm.
    """
    decoder, is_opt = body(model), model.config.model_type == "opt"
    positions = torch.arange(ids.shape[1], device=ids.device)[None]  # [1, T]
    hidden = decoder.embed_tokens(ids)  # [B, T, D], in OPT [B, T, word_embed_proj_dim]
    rotary = {}
    if is_opt:
        table = decoder.embed_positions
        hidden = decoder.project_in(hidden) if decoder.project_in is not None else hidden
        hidden = hidden + F.embedding(positions + table.offset, table.weight)  # [B, T, D]
    else:
        rotary = {"position_ids": positions, "position_embeddings": decoder.rotary_emb(hidden, positions)}
    norm = decoder.final_layer_norm if is_opt else decoder.norm
    last, still = len(decoder.layers), {name: p.detach() for name, p in norm.named_parameters()} if norm else {}
    states = []
    for number, layer in enumerate(decoder.layers, 1):
        hidden = layer(hidden, attention_mask=None, **rotary)
        if number in exits:
            if norm is not None and is_norm_still and number < last:
                states.append(functional_call(norm, still, (hidden,)))
            else:
                states.append(norm(hidden) if norm is not None else hidden)
    return states


def to_head(model: Any, states: Tensor) -> Tensor:
    """Return what is multiplied with `model.lm_head.weight`: the states, through OPT's `project_out` if it has one."""
    project = getattr(body(model), "project_out", None)
    projected: Tensor = project(states) if project is not None else states
    return projected
