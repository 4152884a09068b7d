"""Weights are believed only where every tensor is what the config states, within bounds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from greencode_lsp.errors import GreenCodeError, ModelDamagedError, UnsupportedModelError
from greencode_lsp.models.checks import CheckedWeights, check
from greencode_lsp.models.exit_checks import check_agent
from greencode_lsp.models.weights import QuantizedBlocks
from tests.tiny_models import CONFIGS, LLAMA, MemorySource, tensors_of

each_family = pytest.mark.parametrize("family", CONFIGS)
AGENT = {"w1": (8, 16 + 1 + 2), "b1": (8,), "w2": (4, 8), "b2": (4,), "w3": (4,), "b3": (1,)}


def source_of(family: str = "llama", **changes: Any) -> MemorySource:
    config = CONFIGS[family]
    return MemorySource(config | changes, tensors_of(config))


@each_family
@pytest.mark.parametrize("biases", [False, True])
def test_a_checkpoint_that_is_as_it_states_passes(family: str, biases: bool) -> None:
    check(MemorySource(CONFIGS[family], tensors_of(CONFIGS[family], biases=biases)))


@each_family
def test_every_tensor_is_missed_by_its_name(family: str) -> None:
    for name in tensors_of(CONFIGS[family]):
        source = source_of(family)
        del source.tensors[name]
        with pytest.raises(ModelDamagedError, match=f"lacks the tensor {name}"):
            check(source)


@each_family
@pytest.mark.parametrize("biases", [False, True])
def test_every_tensor_of_another_shape_is_named(family: str, biases: bool) -> None:
    whole = tensors_of(CONFIGS[family], biases=biases)
    for name, tensor in whole.items():
        for other in (tensor[:-1], tensor[..., :-1], tensor[None], np.zeros((), np.float32)):
            with pytest.raises(ModelDamagedError, match=f"has {name} in the shape"):
                check(MemorySource(CONFIGS[family], whole | {name: other}))


def test_a_bias_of_queries_alone_is_refused() -> None:
    source = source_of()
    source.tensors["model.layers.1.self_attn.q_proj.bias"] = np.zeros(32, np.float32)
    with pytest.raises(ModelDamagedError, match=r"q_proj\.bias without"):
        check(source)


@pytest.mark.parametrize(
    "key",
    [
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
        "intermediate_size",
        "vocab_size",
        "max_position_embeddings",
    ],
)
@pytest.mark.parametrize("value", [10**9, 10**30, 0, -1, 2.0, True, "16", [], {}, float("nan")])
def test_a_dimension_that_is_none_or_out_of_bounds_names_its_key(key: str, value: Any) -> None:
    with pytest.raises((ModelDamagedError, UnsupportedModelError), match=key) as error:
        check(source_of(**{key: value}))
    assert len(str(error.value)) < 300


@pytest.mark.parametrize("key", ["rms_norm_eps", "rope_theta"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0, -1.0, "x", [1]])
def test_a_number_that_is_not_finite_names_its_key(key: str, value: Any) -> None:
    with pytest.raises(ModelDamagedError, match=key):
        check(source_of(**{key: value}))


@pytest.mark.parametrize(
    "changes",
    [
        {"rope_scaling": {"rope_type": "llama3", "factor": float("nan")}},
        {"rope_parameters": 5},
        {"num_key_value_heads": 3},
        {"head_dim": 3},
        {"model_type": None},
        {"model_type": ["llama"]},
        {"model_type": {}},
        {"hidden_size": 1, "head_dim": 1024, "num_attention_heads": 512, "num_key_value_heads": 512},
    ],
)
def test_a_config_of_odd_parts_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(GreenCodeError):
        check(source_of(**changes))


def test_keys_and_values_of_more_memory_than_any_model_takes_are_refused() -> None:
    config = LLAMA | {"num_hidden_layers": 512, "hidden_size": 65536, "num_attention_heads": 512, "head_dim": 128}
    with pytest.raises(UnsupportedModelError, match="GiB"):
        check(MemorySource(config | {"num_key_value_heads": 512, "max_position_embeddings": 131072}, {}))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_nan_and_infinity_are_refused_by_the_tensors_name(value: float) -> None:
    source = source_of()
    source.tensors["model.layers.1.mlp.up_proj.weight"][3, 5] = value
    with pytest.raises(ModelDamagedError, match=r"NaN or infinity in model\.layers\.1\.mlp\.up_proj\.weight"):
        CheckedWeights(source).float32("model.layers.1.mlp.up_proj.weight")


def test_large_numbers_are_no_infinity() -> None:
    source = source_of()
    source.tensors["model.norm.weight"][:] = np.finfo(np.float32).max
    assert CheckedWeights(source).float32("model.norm.weight")[0] == np.finfo(np.float32).max


@pytest.mark.parametrize("scale", [float("nan"), float("inf")])
def test_blocks_are_checked_as_floats_are(scale: float) -> None:
    class Blocky(MemorySource):
        def blocks(self, name: str, bits: int = 8) -> QuantizedBlocks:
            return QuantizedBlocks(
                np.zeros((4, 1, 32), np.uint8), np.full((4, 1), scale, np.float32), np.zeros((4, 1), np.uint8)
            )

    source = Blocky(LLAMA, tensors_of(LLAMA))
    source.tensors["extra"] = np.zeros((4, 32), np.float32)
    with pytest.raises(ModelDamagedError, match="NaN or infinity in extra"):
        CheckedWeights(source).blocks("extra")
    source.tensors["extra"] = np.zeros((4, 64), np.float32)
    with pytest.raises(ModelDamagedError, match="another shape"):
        CheckedWeights(source).blocks("extra")


def test_an_agent_made_for_the_model_passes() -> None:
    check_agent(AGENT, hidden_size=16, exits=2)


@pytest.mark.parametrize("name", AGENT)
@pytest.mark.parametrize("shape", [(), (3,), (10**6, 19), (8, 19, 1), (0,)])
def test_an_agent_of_other_shapes_is_refused(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelDamagedError, match="agent"):
        check_agent(AGENT | {name: shape}, hidden_size=16, exits=2)


@pytest.mark.parametrize(("hidden_size", "exits"), [(15, 2), (16, 3), (1 << 30, 2)])
def test_an_agent_of_another_model_is_refused(hidden_size: int, exits: int) -> None:
    with pytest.raises(ModelDamagedError, match="agent"):
        check_agent(AGENT, hidden_size, exits)
