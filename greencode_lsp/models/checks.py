"""Weights are believed where every tensor is what the config states, within bounds; asked before anything is built.

The table is by the names and config keys of Hugging Face, so one check serves every file format and every backend.
Letters: D hidden size, H query heads, G key/value heads, C head size, I inner size, V vocabulary, W embedding width.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
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
MAX_AGENT_WIDTH = 4096
MAX_AGENT_BYTES = 1 << 28
AGENT_TENSORS = ("w1", "b1", "w2", "b2", "w3", "b3")
MAX_EXITS_BYTES = 1 << 28
"""Of `exits.safetensors`: exit heads and shortlist."""
MAX_EXIT_WIDTH = 1 << 13
"""Inner size of an exit head, or its rank."""
SHORTLIST = "shortlist"
EXIT_HEADS = ("none", "affine", "low-rank", "mlp")
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
        raise _damaged(f"lacks the tensor {missing[0]}" + (f" and {len(missing) - 1} more" if missing[1:] else ""))
    for group in table.together:
        there = names.intersection(group)
        if there and len(there) < len(group):
            raise _damaged(f"has {min(there)} without {min(set(group) - there)}")
    for name, shape in (table.required | table.optional).items():
        actual = tuple(source.shape(name)) if name in names else shape
        if actual != shape:
            raise _damaged(f"has {name} in the shape {list(actual)}, and its config states {list(shape)}")


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
        raise _damaged(f"states {key} as {str(value)[:40]!r}, which is no positive whole number")
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
            raise _damaged(f"states {key} as {str(value)[:40]!r}, which is no positive number")


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
        raise _damaged(f"states {heads} heads, which {groups} key and value heads do not divide")
    if is_opt and hidden % heads:
        raise _damaged(f"states a hidden_size of {hidden}, which {heads} heads do not divide")
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
        raise _damaged(f"states a head_dim of {size.head}, which is odd")
    _finite(config, "rms_norm_eps", "rope_theta")
    for key in ("rope_parameters", "rope_scaling"):
        rope = config.get(key)
        if isinstance(rope, Mapping):
            _finite(rope, "rope_theta", "factor", "low_freq_factor", "high_freq_factor")
            _finite(rope, "original_max_position_embeddings")
        elif rope is not None:
            raise _damaged(f"states {key} as no object")
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

    def blocks(self, name: str) -> QuantizedBlocks | None:
        """See `WeightSource`. Raises as `float32` does."""
        blocks = self._source.blocks(name)
        if blocks is not None:
            rows, count = blocks.scale.shape
            if blocks.shape != self.shape(name) or blocks.zero.shape != (rows, count):
                raise _damaged(f"yields {name} in another shape than its header states")
            if blocks.values.shape != (rows, count, BLOCK_SIZE):
                raise _damaged(f"yields {name} in blocks of another size")
            self._believe(name, blocks.scale, (rows, count))
        return blocks

    def _believe(self, name: str, values: _Array, shape: tuple[int, ...]) -> _Array:
        if values.shape != tuple(shape):
            raise _damaged(f"yields {name} in another shape than its header states")
        # a sum is not finite where a term is not, and takes no memory; one that overflows is looked at again
        if not math.isfinite(float(values.sum(dtype=np.float64))) and not bool(np.isfinite(values).all()):
            raise _damaged(f"holds NaN or infinity in {name}")
        return values


def check_agent(shapes: Mapping[str, tuple[int, ...]], hidden_size: int | None, exits: int) -> None:
    """Compare the shapes of `agent.safetensors` with the model's hidden size and its exits, the last included.

    Without a hidden size, that of the agent is taken. Raises ModelDamagedError.
    """
    first, second = shapes.get("w1", ()), shapes.get("w2", ())
    seen = (exits - 1) + 2 + hidden_size if hidden_size is not None else first[-1] if first else 0
    widths = (first[0] if len(first) == 2 else 0, second[0] if len(second) == 2 else 0)
    if not all(0 < width <= MAX_AGENT_WIDTH for width in widths):
        raise _damaged(f"has an agent of layers {list(first)} and {list(second)}, which is none")
    wanted = {
        "w1": (widths[0], seen),
        "b1": (widths[0],),
        "w2": (widths[1], widths[0]),
        "b2": (widths[1],),
        "w3": (widths[1],),
        "b3": (1,),
    }
    for name, shape in wanted.items():
        if tuple(shapes.get(name, ())) != shape:
            raise _damaged(f"has an agent with {name} in the shape {list(shapes.get(name, ()))}, not {list(shape)}")


def check_exit_heads(
    kinds: Sequence[str], shapes: Mapping[str, tuple[int, ...]], hidden_size: int, vocabulary: int
) -> None:
    """Compare the shapes of `exits.safetensors` with the kinds of head that a manifest states, by early exit.

    Raises UnsupportedModelError for a kind that is not known, ModelDamagedError for another shape, for a tensor that is
    missing and for one that has no place.
    """
    wanted: dict[str, tuple[int, ...]] = {}
    for index, kind in enumerate(kinds):
        if kind not in EXIT_HEADS:
            raise UnsupportedModelError(
                f"The exit head {kind[:40]!r} is not supported; {', '.join(EXIT_HEADS)} are. Update greencode-lsp."
            )
        at = f"exit.{index}."
        wanted |= {at + name: shape for name, shape in _exit_head(kind, at, shapes, hidden_size).items()}
    if SHORTLIST in shapes:
        shape = tuple(shapes[SHORTLIST])
        if len(shape) != 1 or not 0 < shape[0] <= vocabulary:
            raise _damaged(f"has a shortlist in the shape {list(shape)} for a vocabulary of {vocabulary}")
        wanted[SHORTLIST] = shape
    if wanted.keys() != shapes.keys():
        odd = min(wanted.keys() ^ shapes.keys())
        raise _damaged(f"{'lacks' if odd in wanted else 'has no place for'} the tensor {odd} of its exits")
    for name, shape in wanted.items():
        if tuple(shapes[name]) != shape:
            raise _damaged(f"has {name} in the shape {list(shapes[name])}, not {list(shape)}")


def _exit_head(
    kind: str, at: str, shapes: Mapping[str, tuple[int, ...]], hidden_size: int
) -> dict[str, tuple[int, ...]]:
    """Return the tensors of one head by their names below `at`; the inner size is the stored one, within bounds."""
    if kind == "none":
        return {}
    square = {"map.weight": (hidden_size, hidden_size), "map.bias": (hidden_size,)}
    if kind == "affine":
        return square
    first = tuple(shapes.get(at + "down.weight", ()))
    width = first[0] if len(first) == 2 else 0
    if not 0 < width <= MAX_EXIT_WIDTH:
        raise _damaged(f"has {at}down.weight in the shape {list(first)}, which is that of no exit head")
    inner = {"down.weight": (width, hidden_size), "up.weight": (hidden_size, width)}
    if kind == "low-rank":
        return inner | {"up.bias": (hidden_size,)}
    return square | inner | {"down.bias": (width,)}


def check_shortlist(ids: NDArray[np.int64], vocabulary: int) -> None:
    """Raise ModelDamagedError unless the ids ascend, each once, within the vocabulary."""
    if ids[0] < 0 or ids[-1] >= vocabulary or not bool((np.diff(ids) > 0).all()):
        raise _damaged(f"has a shortlist that is no ascending list of ids below {vocabulary}")


def check_numbers(name: str, values: NDArray[np.float32]) -> None:
    """Raise ModelDamagedError for NaN or infinity."""
    if not bool(np.isfinite(values).all()):
        raise _damaged(f"holds NaN or infinity in {name}")


def _damaged(what: str) -> ModelDamagedError:
    return ModelDamagedError(f"The model {what}; fetch or export it again.")
