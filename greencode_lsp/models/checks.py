"""Weights are believed where every tensor is what the config states, within bounds; asked before anything is built.

The table is by the names and config keys of Hugging Face, so one check serves every file format and every backend.
Letters: D hidden size, H query heads, G key/value heads, C head size, I inner size, V vocabulary, W embedding width.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from greencode_lsp.errors import ModelDamagedError, UnsupportedModelError
from greencode_lsp.models.manifest import FAMILIES
from greencode_lsp.models.weights import BLOCK_SIZE, QuantizedBlocks, WeightSource

MAX_LAYERS = 512
MAX_HIDDEN = 1 << 16
MAX_INNER = 1 << 19
MAX_HEADS = 512
MAX_HEAD_SIZE = 1024
MAX_VOCABULARY = 1 << 20
"""Gemma's is 262,144."""
MAX_POSITIONS = 1 << 25
"""Stated; a few million is the most that is published. How many are cached is the engine's own bound."""
CACHED_POSITIONS = 4096
MAX_CACHE_BYTES = 16 << 30
"""Of keys and values in float32 over `CACHED_POSITIONS`; the widest published model of 70 B weights takes 11 GB."""
MAX_WIDENING = 64
"""Times the hidden size that a layer's inner size, or its heads together, may be; what is published stays below 8."""
_Array = TypeVar("_Array", bound=NDArray[Any])


@dataclass(frozen=True, slots=True)
class Table:
    """The tensors that a config describes."""

    required: dict[str, tuple[int, ...]]
    """Name -> shape."""
    optional: dict[str, tuple[int, ...]]
    together: tuple[tuple[str, ...], ...] = ()
    """Of the optional ones, those that come all or not at all."""


def check(source: WeightSource) -> None:
    """Compare a checkpoint's config with its bounds, and every tensor that is used with the config; headers alone.

    Raises UnsupportedModelError for a family that is not known and for numbers out of bounds, ModelDamagedError where a
    tensor is missing or has another shape.
    """
    table = expected(source.config)
    names = set(source.names())
    missing = sorted(table.required.keys() - names)
    if missing:
        raise damaged(f"lacks the tensor {missing[0]}" + (f" and {len(missing) - 1} more" if missing[1:] else ""))
    for group in table.together:
        there = names.intersection(group)
        if there and len(there) < len(group):
            raise damaged(f"has {min(there)} without {min(set(group) - there)}")
    for name, shape in (table.required | table.optional).items():
        actual = tuple(source.shape(name)) if name in names else shape
        if actual != shape:
            raise damaged(f"has {name} in the shape {list(actual)}, and its config states {list(shape)}")


def expected(config: Mapping[str, Any]) -> Table:
    """Return the tensors that a config describes. Raises UnsupportedModelError or ModelDamagedError."""
    family = config.get("model_type")
    if family in ("llama", "qwen2"):
        return _llama(config)
    if family == "opt":
        return _opt(config)
    raise UnsupportedModelError(
        f"The model family {str(family)[:40]!r} is not supported; {', '.join(FAMILIES)} are. Set greencode.model."
    )


def whole(config: Mapping[str, Any], key: str, most: int, default: int | None = None) -> int:
    """Return a positive whole number of a config, `default` where it is absent or null.

    Raises ModelDamagedError where it is none, UnsupportedModelError where it is more than `most`.
    """
    value = config.get(key)
    value = default if value is None else value
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise damaged(f"states {key} as {str(value)[:40]!r}, which is no positive whole number")
    if value > most:
        raise UnsupportedModelError(
            f"The model's config states {key} as {str(value)[:40]}, and at most {most} is supported; set "
            "greencode.model to another model."
        )
    return value


def _finite(config: Mapping[str, Any], *keys: str) -> None:
    """Raise where a number that is there is none above zero: a NaN here makes every logit one."""
    for key in keys:
        value = config.get(key)
        if value is None:
            continue
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < math.inf:
            raise damaged(f"states {key} as {str(value)[:40]!r}, which is no positive number")


@dataclass(frozen=True, slots=True)
class _Sizes:
    layers: int
    hidden: int
    inner: int
    heads: int
    groups: int
    head: int
    vocabulary: int
    positions: int


def _sizes(config: Mapping[str, Any], inner_key: str) -> _Sizes:
    heads = whole(config, "num_attention_heads", MAX_HEADS)
    hidden = whole(config, "hidden_size", MAX_HIDDEN)
    is_opt = inner_key == "ffn_dim"
    head = hidden // heads if is_opt else whole(config, "head_dim", MAX_HEAD_SIZE, hidden // heads or None)
    groups = heads if is_opt else whole(config, "num_key_value_heads", MAX_HEADS, heads)
    sizes = _Sizes(
        layers=whole(config, "num_hidden_layers", MAX_LAYERS),
        hidden=hidden,
        inner=whole(config, inner_key, MAX_INNER),
        heads=heads,
        groups=groups,
        head=head,
        vocabulary=whole(config, "vocab_size", MAX_VOCABULARY),
        positions=whole(config, "max_position_embeddings", MAX_POSITIONS),
    )
    if heads % groups:
        raise damaged(f"states {heads} heads, which {groups} key and value heads do not divide")
    if is_opt and hidden % heads:
        raise damaged(f"states a hidden_size of {hidden}, which {heads} heads do not divide")
    if max(sizes.inner, heads * head) > MAX_WIDENING * hidden:
        raise UnsupportedModelError(
            f"The model's layers are more than {MAX_WIDENING} times as wide as its hidden_size; set greencode.model to "
            "another model."
        )
    cached = 8 * sizes.layers * groups * head * min(sizes.positions, CACHED_POSITIONS)
    if cached > MAX_CACHE_BYTES:
        raise UnsupportedModelError(
            f"The model's keys and values would take {cached / 2**30:.0f} GiB; set greencode.model to a smaller model."
        )
    return sizes


def _llama(config: Mapping[str, Any]) -> Table:
    size = _sizes(config, "intermediate_size")
    if size.head % 2:
        raise damaged(f"states a head_dim of {size.head}, which is odd")
    _finite(config, "rms_norm_eps", "rope_theta")
    for key in ("rope_parameters", "rope_scaling"):
        rope = config.get(key)
        if isinstance(rope, Mapping):
            _finite(rope, "rope_theta", "factor", "low_freq_factor", "high_freq_factor")
            _finite(rope, "original_max_position_embeddings")
        elif rope is not None:
            raise damaged(f"states {key} as no object")
    queries, keys = size.heads * size.head, size.groups * size.head
    required = {"model.embed_tokens.weight": (size.vocabulary, size.hidden), "model.norm.weight": (size.hidden,)}
    optional: dict[str, tuple[int, ...]] = {}
    if not config.get("tie_word_embeddings"):
        required["lm_head.weight"] = (size.vocabulary, size.hidden)
    matrices = {
        "self_attn.q_proj": (queries, size.hidden),
        "self_attn.k_proj": (keys, size.hidden),
        "self_attn.v_proj": (keys, size.hidden),
        "self_attn.o_proj": (size.hidden, queries),
        "mlp.gate_proj": (size.inner, size.hidden),
        "mlp.up_proj": (size.inner, size.hidden),
        "mlp.down_proj": (size.hidden, size.inner),
    }
    together: list[tuple[str, ...]] = []
    for at in (f"model.layers.{index}." for index in range(size.layers)):
        for name in ("input_layernorm", "post_attention_layernorm"):
            required[f"{at}{name}.weight"] = (size.hidden,)
        for name, shape in matrices.items():
            required[f"{at}{name}.weight"] = shape
            optional[f"{at}{name}.bias"] = shape[:1]
        together.append(tuple(f"{at}self_attn.{name}_proj.bias" for name in "qkv"))
        together.append(tuple(f"{at}mlp.{name}_proj.bias" for name in ("gate", "up")))
    return Table(required, optional, tuple(together))


def _opt(config: Mapping[str, Any]) -> Table:
    size = _sizes(config, "ffn_dim")
    width = whole(config, "word_embed_proj_dim", MAX_HIDDEN, size.hidden)
    at = "model.decoder."
    required: dict[str, tuple[int, ...]] = {
        at + "embed_tokens.weight": (size.vocabulary, width),
        at + "embed_positions.weight": (size.positions + 2, size.hidden),
    }
    optional: dict[str, tuple[int, ...]] = {}
    if width != size.hidden:
        required |= {at + "project_in.weight": (size.hidden, width), at + "project_out.weight": (width, size.hidden)}
    norms = ["self_attn_layer_norm", "final_layer_norm"]
    if config.get("do_layer_norm_before", True) and not config.get("_remove_final_layer_norm", False):
        required |= {f"{at}final_layer_norm.{kind}": (size.hidden,) for kind in ("weight", "bias")}
    matrices = {f"self_attn.{name}_proj": (size.hidden, size.hidden) for name in ("q", "k", "v", "out")}
    matrices |= {"fc1": (size.inner, size.hidden), "fc2": (size.hidden, size.inner)}
    together = []
    for layer in (f"{at}layers.{index}." for index in range(size.layers)):
        required |= {f"{layer}{norm}.{kind}": (size.hidden,) for norm in norms for kind in ("weight", "bias")}
        for name, shape in matrices.items():
            required[f"{layer}{name}.weight"] = shape
            optional[f"{layer}{name}.bias"] = shape[:1]
        together.append(tuple(f"{layer}self_attn.{name}_proj.bias" for name in "qkv"))
    return Table(required, optional, tuple(together))


class CheckedWeights:
    """A `WeightSource` that was checked; its tensors are checked once more as they are read, for shape and numbers."""

    def __init__(self, source: WeightSource) -> None:
        check(source)
        self._source = source
        self.config = source.config

    def digest(self) -> str:
        """See `WeightSource`."""
        return self._source.digest()

    def fingerprint(self) -> str:
        """See `WeightSource`."""
        return self._source.fingerprint()

    def names(self) -> Iterable[str]:
        """See `WeightSource`."""
        return self._source.names()

    def shape(self, name: str) -> tuple[int, ...]:
        """See `WeightSource`."""
        return self._source.shape(name)

    def float32(self, name: str) -> NDArray[np.float32]:
        """See `WeightSource`. Raises ModelDamagedError for NaN, infinity and another shape than the header's, too."""
        return self._believe(name, self._source.float32(name), self.shape(name))

    def blocks(self, name: str, bits: int = 8) -> QuantizedBlocks | None:
        """See `WeightSource`. Raises as `float32` does."""
        blocks = self._source.blocks(name, bits)
        if blocks is not None:
            rows, count = blocks.scale.shape
            if blocks.shape != self.shape(name) or blocks.zero.shape != (rows, count):
                raise damaged(f"yields {name} in another shape than its header states")
            if blocks.values.shape != (rows, count, BLOCK_SIZE):
                raise damaged(f"yields {name} in blocks of another size")
            self._believe(name, blocks.scale, (rows, count))
        return blocks

    def _believe(self, name: str, values: _Array, shape: tuple[int, ...]) -> _Array:
        if values.shape != tuple(shape):
            raise damaged(f"yields {name} in another shape than its header states")
        # a sum is not finite where a term is not, and takes no memory; one that overflows is looked at again
        if not math.isfinite(float(values.sum(dtype=np.float64))) and not bool(np.isfinite(values).all()):
            raise damaged(f"holds NaN or infinity in {name}")
        return values


def damaged(what: str) -> ModelDamagedError:
    """Return the error that says what is wrong with a model."""
    return ModelDamagedError(f"The model {what}; fetch or export it again.")
