"""Small random checkpoints made by transformers, and transformers as the reference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, OPTConfig, OPTForCausalLM, Qwen2Config, Qwen2ForCausalLM

from greencode_lsp.models.manifest import Manifest, write_manifest

VOCAB = 199
EXITS = (1, 2, 4)
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}


def llama(**changes: Any) -> Any:
    """A Llama of 4 layers with random weights, float32."""
    torch.manual_seed(1)
    shape = {"hidden_size": 64, "intermediate_size": 80, "num_attention_heads": 4, "num_key_value_heads": 2}
    options = {"vocab_size": VOCAB, "num_hidden_layers": 4, "max_position_embeddings": 256, **shape, **changes}
    return _randomise(LlamaForCausalLM(LlamaConfig(**options)))


def qwen2(**changes: Any) -> Any:
    """A Qwen2 of 4 layers with random weights, float32."""
    torch.manual_seed(3)
    shape = {"hidden_size": 64, "intermediate_size": 80, "num_attention_heads": 4, "num_key_value_heads": 2}
    options = {"vocab_size": VOCAB, "num_hidden_layers": 4, "max_position_embeddings": 256, **shape, **changes}
    return _randomise(Qwen2ForCausalLM(Qwen2Config(**options)))


def opt(**changes: Any) -> Any:
    """An OPT of 4 layers with random weights, float32."""
    torch.manual_seed(2)
    shape = {"hidden_size": 64, "ffn_dim": 80, "num_attention_heads": 4, "word_embed_proj_dim": 64}
    options = {"vocab_size": VOCAB, "num_hidden_layers": 4, "max_position_embeddings": 256, **shape, **changes}
    return _randomise(OPTForCausalLM(OPTConfig(**options)))


def _randomise(model: Any) -> Any:
    """Give every tensor, norms and biases too, values that matter; keep the scale where layers still differ."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * (0.4 if parameter.ndim > 1 else 0.2))
            if parameter.ndim == 1:
                parameter.add_(1.0)
    model.generation_config.eos_token_id = None  # as any other id: `generate` would never emit it
    return model.eval()


def save(model: Any, folder: Path, exits: tuple[int, ...] = EXITS) -> Path:
    """Save as a folder with exits; returns it."""
    model.save_pretrained(folder)
    write_manifest(folder, Manifest(name="random", family=model.config.model_type, exits=exits))
    return folder


def older_config_layout(folder: Path) -> None:
    """Rewrite `config.json` the way transformers 4 published it: rope_theta, rope_scaling, torch_dtype."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    config["rope_scaling"] = None if rope["rope_type"] == "default" else rope
    config["torch_dtype"] = config.pop("dtype", "float32")
    path.write_text(json.dumps(config))


@torch.no_grad()
def reference_generate(model: Any, prompt: list[int], count: int) -> list[int]:
    """Greedy transformers `generate`, exactly `count` tokens."""
    ids = torch.tensor([prompt])
    out = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, min_new_tokens=count, do_sample=False
    )
    return [int(i) for i in out[0, len(prompt) :]]


@torch.no_grad()
def reference_exit_logits(model: Any, ids: list[int]) -> list[torch.Tensor]:
    """Logits [T, V] after every layer count 1 .. L (design, I3)."""
    out = model(torch.tensor([ids]), output_hidden_states=True)
    body = model.model.decoder if model.config.model_type == "opt" else model.model
    norm = (body.final_layer_norm or torch.nn.Identity()) if model.config.model_type == "opt" else body.norm
    project = getattr(body, "project_out", None) or torch.nn.Identity()
    early = [model.lm_head(project(norm(h[0]))) for h in out.hidden_states[1:-1]]
    return [*early, out.logits[0]]
