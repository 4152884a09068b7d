"""I3: in float32, at full depth and after every exit, the engine computes what transformers computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from greencode_lsp.engine.engine import Engine
from greencode_lsp.engine.load import load_engine
from greencode_lsp.engine.policy import ExitState
from greencode_lsp.records import NEVER, DecodeConfig, FixedControl
from tests import reference

PROMPT = [5, 17, 101, 3, 42, 42, 7, 190, 11]

MODELS = {
    "llama, one group per head": lambda: reference.llama(num_key_value_heads=4),
    "llama, groups of 2": lambda: reference.llama(num_key_value_heads=2),
    "llama, groups of 4": lambda: reference.llama(num_key_value_heads=1),
    "llama, llama3 rope": lambda: reference.llama(rope_parameters=dict(reference.LLAMA3_ROPE)),
    "llama, tied head": lambda: reference.llama(tie_word_embeddings=True),
    "llama, untied head": lambda: reference.llama(tie_word_embeddings=False),
    "llama, qkv and output bias": lambda: reference.llama(attention_bias=True),
    "llama, mlp bias": lambda: reference.llama(mlp_bias=True),
    "llama, wide heads": lambda: reference.llama(head_dim=32),
    "qwen2, tied head": lambda: reference.qwen2(tie_word_embeddings=True),
    "qwen2, untied head": lambda: reference.qwen2(tie_word_embeddings=False),
    "opt, norm before": lambda: reference.opt(do_layer_norm_before=True),
    "opt, norm after": lambda: reference.opt(do_layer_norm_before=False),
    "opt, projected embeddings": lambda: reference.opt(word_embed_proj_dim=32),
    "opt, projected, norm after": lambda: reference.opt(word_embed_proj_dim=32, do_layer_norm_before=False),
}


@pytest.fixture(scope="module", params=["onnx", "torch"])
def backend(request: Any) -> Any:
    return request.param


@pytest.fixture(scope="module", params=MODELS, ids=list(MODELS))
def pair(request: Any, backend: Any, tmp_path_factory: Any) -> tuple[Any, Engine]:
    model = MODELS[request.param]()
    folder = reference.save(model, tmp_path_factory.mktemp("model"))
    return model, load_engine(folder, "cpu", "float32", backend)


def greedy(engine: Engine, prompt: list[int], count: int, config: DecodeConfig | None = None) -> list[int]:
    control = FixedControl(config or DecodeConfig())
    return [step.token_id for step in engine.generate(prompt, control, max_new_tokens=count)]


def test_64_tokens_at_full_depth_equal_generate(pair: tuple[Any, Engine]) -> None:
    model, engine = pair
    assert greedy(engine, PROMPT, 64) == reference.reference_generate(model, PROMPT, 64)


class Recorder:
    """A policy that never exits and keeps what it was shown."""

    def __init__(self) -> None:
        self.logits: list[tuple[int, Any]] = []

    def exit_logit(self, state: ExitState) -> float:
        self.logits.append((state.exits[state.exit_index], state.logits()))
        return -np.inf


def test_each_exits_logits_equal_the_normed_hidden_state_through_the_head(pair: tuple[Any, Engine]) -> None:
    model, engine = pair
    recorder = Recorder()
    engine.policies["record"] = recorder
    tokens = greedy(engine, PROMPT, 4, DecodeConfig(policy="record", threshold=NEVER))
    expected = reference.reference_exit_logits(model, PROMPT + tokens)
    for asked, (layer, logits) in enumerate(recorder.logits):
        row = len(PROMPT) - 1 + asked // 2  # two early exits per token
        np.testing.assert_allclose(logits, expected[layer - 1][row].numpy(), atol=1e-4)


@pytest.mark.parametrize("layer", reference.EXITS)
def test_a_fixed_exit_emits_that_exits_argmax(pair: tuple[Any, Engine], layer: int) -> None:
    model, engine = pair
    ids = list(PROMPT)
    for token in greedy(engine, PROMPT, 12, DecodeConfig(policy="fixed", threshold=layer - 0.5)):
        assert token == int(reference.reference_exit_logits(model, ids)[layer - 1][-1].argmax())
        ids.append(token)


@pytest.mark.parametrize("rope", [None, reference.LLAMA3_ROPE], ids=["default rope", "llama3 rope"])
def test_both_published_config_layouts_read_alike(tmp_path: Path, rope: dict[str, Any] | None) -> None:
    model = reference.llama(rope_parameters=dict(rope)) if rope else reference.llama()
    model.save_pretrained(tmp_path)
    newer = greedy(load_engine(tmp_path, "cpu", "float32"), PROMPT, 32)
    reference.older_config_layout(tmp_path)
    assert (
        greedy(load_engine(tmp_path, "cpu", "float32"), PROMPT, 32)
        == newer
        == reference.reference_generate(model, PROMPT, 32)
    )


def test_a_folder_without_a_manifest_has_its_last_layer_as_only_exit(tmp_path: Path) -> None:
    reference.llama().save_pretrained(tmp_path)
    assert load_engine(tmp_path, "cpu", "float32").exits == (4,)


def test_sharded_weights_load_like_one_file(tmp_path: Path) -> None:
    model = reference.llama()
    model.save_pretrained(tmp_path, max_shard_size="40KB")
    assert len(list(tmp_path.glob("model*.safetensors"))) > 1
    assert greedy(load_engine(tmp_path, "cpu", "float32"), PROMPT, 8) == reference.reference_generate(model, PROMPT, 8)


def test_loading_and_decoding_leave_torch_defaults_alone(pair: tuple[Any, Engine]) -> None:
    _, engine = pair
    greedy(engine, PROMPT, 2)
    assert torch.get_default_dtype() == torch.float32
    assert torch.is_grad_enabled()
