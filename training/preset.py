"""Presets: one TOML file per recipe, read into frozen dataclasses. Unknown keys are errors."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from greencode_lsp.errors import CorpusError

FOLDER = Path(__file__).parent / "presets"


@dataclass(frozen=True, slots=True)
class CorpusOptions:
    """Where the text comes from and how much of it is taken."""

    sources: list[str]
    """`stdlib`, `installed`, or folders (globs) of unpacked distributions."""
    max_package_bytes: int
    """Of each training package, so that no package dominates."""
    max_validation_bytes: int
    """Of each validation package."""
    vocab_size: int


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """The Llama shape to train from scratch."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    max_position_embeddings: int
    exits: list[int]
    """Layer counts after which a token may be emitted; the last is the depth."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A stretch of training at one row length."""

    context: int
    """Positions per row."""
    rows: int
    """Rows per optimiser step."""
    tokens: int

    @property
    def steps(self) -> int:
        """Optimiser steps of this stage."""
        return self.tokens // (self.rows * self.context)


@dataclass(frozen=True, slots=True)
class LiteOptions:
    """LITE training from scratch."""

    stages: list[Stage]
    learning_rate: float
    warmup_steps: int
    decay_share: float
    """Share of all steps at the end over which the learning rate falls linearly to zero."""
    weight_decay: float
    exit_weight: float
    """Weight of the sampled exit's loss; the last layer keeps weight 1."""
    exit_position_stride: int
    """The exit's loss is taken at every n-th position only, to save the head's cost."""
    eval_every_steps: int
    compile: bool
    """torch.compile each layer (needs a C++ compiler)."""
    seed: int

    @property
    def steps(self) -> int:
        """Optimiser steps of all stages."""
        return sum(stage.steps for stage in self.stages)


@dataclass(frozen=True, slots=True)
class RolloutOptions:
    """How much experience is stored for the agent."""

    prompts: int
    new_tokens: int
    fresh_share: float
    """Share of the prompts rolled out once more along the agent's own choices."""


@dataclass(frozen=True, slots=True)
class AgentOptions:
    """PPO."""

    steps: int
    seed: int


@dataclass(frozen=True, slots=True)
class CalibrateOptions:
    """How much is generated per threshold."""

    prompts: int
    new_tokens: int


@dataclass(frozen=True, slots=True)
class Preset:
    """A whole recipe."""

    name: str
    corpus: CorpusOptions
    model: ModelOptions
    lite: LiteOptions
    rollout: RolloutOptions
    agent: AgentOptions
    calibrate: CalibrateOptions


def load_preset(name: str) -> Preset:
    """Read `presets/<name>.toml`. Raises CorpusError naming the presets that exist, or the key that is wrong."""
    path = FOLDER / f"{name}.toml"
    if not path.exists():
        known = ", ".join(sorted(p.stem for p in FOLDER.glob("*.toml")))
        raise CorpusError(f"There is no preset {name!r}; the presets are {known}.")
    data: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf8"))
    try:
        data["lite"]["stages"] = [Stage(**stage) for stage in data["lite"]["stages"]]
        return Preset(
            name=data["name"],
            corpus=CorpusOptions(**data["corpus"]),
            model=ModelOptions(**data["model"]),
            lite=LiteOptions(**data["lite"]),
            rollout=RolloutOptions(**data["rollout"]),
            agent=AgentOptions(**data["agent"]),
            calibrate=CalibrateOptions(**data["calibrate"]),
        )
    except (TypeError, KeyError) as error:
        raise CorpusError(f"{path} is not a preset: {error}.") from error
