"""Presets: one TOML file per recipe, read into frozen dataclasses. Unknown keys are errors."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from greencode_lsp.errors import CorpusError
from training.exits.rewards import COST_WEIGHT, Reward, RewardName

FOLDER = Path(__file__).parent / "presets"


@dataclass(frozen=True, slots=True)
class CorpusOptions:
    """Where the text comes from and how much of it is taken."""

    sources: list[str]
    """`stdlib`, `installed`, folders (globs) of unpacked distributions, or manifests in `presets/sources`."""
    max_package_bytes: int
    """Of each training package, so that no package dominates."""
    max_validation_bytes: int
    """Of each validation package."""
    vocab_size: int
    """Of the tokenizer that is fitted, or that a larger one of [lite] start is trimmed to."""


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """The shape to train from scratch, or that of the checkpoint to start from."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    max_position_embeddings: int
    exits: list[int]
    """Layer counts after which a token may be emitted; the last is the depth."""
    family: str = "llama"
    """`llama` or `opt`; OPT has as many key-value heads as heads."""


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
    """LITE training, from scratch or from a checkpoint."""

    stages: list[Stage]
    learning_rate: float
    warmup_steps: int
    weight_decay: float
    eval_every_steps: int
    seed: int
    schedule: str = "protect"
    """The loss: `protect`, `protect-all`, `protect-mapped`, `paper`, `uniform` or `plain` (lm/schedules.py)."""
    exit_weight: float = 0.4
    """`protect`: weight of all early exits' losses together; the last layer keeps weight 1."""
    exit_position_stride: int = 4
    """`protect`: an exit's loss is taken at every n-th position only, to save the head's cost."""
    start: str = ""
    """The checkpoint to go on from: `bundled`, a folder, a GGUF file or a hub name; from scratch where empty."""
    learning_rate_schedule: str = "wsd"
    """`wsd` (warm up, stay, fall linearly to zero) or `constant`."""
    decay_share: float = 0.25
    """`wsd`: share of all steps at the end over which the learning rate falls."""
    adam_beta2: float = 0.95
    accumulation: int = 1
    """Each optimiser step's rows are run in so many parts."""
    bf16: bool = False
    """Matrix products in bfloat16 (autocast); weights and optimiser stay float32."""
    gradient_checkpointing: bool = False
    compile: bool = False
    """torch.compile each layer and the head's loss (needs a C++ compiler)."""

    @property
    def steps(self) -> int:
        """Optimiser steps of all stages."""
        return sum(stage.steps for stage in self.stages)


@dataclass(frozen=True, slots=True)
class HeadOptions:
    """Heads of the exits' own, fitted once the model is trained (exits/heads.py)."""

    tokens: int = 0
    """Positions whose states they are fitted to; 0: every exit speaks through the LM head alone, as the paper's do."""
    kind: Literal["affine", "low-rank", "mlp"] = "affine"
    direction: Literal["least squares", "forward", "reverse"] = "forward"
    epochs: int = 8
    learning_rate: float = 1e-3
    exits: tuple[int, ...] = ()
    """Early exits that are served, of those that were trained; all where empty. Each costs a question a token."""

    def __post_init__(self) -> None:
        if self.kind not in ("affine", "low-rank", "mlp"):
            raise ValueError(f"[heads] kind is affine, low-rank or mlp, not {self.kind!r}")
        if self.direction not in ("least squares", "forward", "reverse"):
            raise ValueError(f"[heads] direction is least squares, forward or reverse, not {self.direction!r}")


@dataclass(frozen=True, slots=True)
class DraftOptions:
    """The table of what usually follows a few tokens, which drafts are taken from (exits/draft_counts.py)."""

    tokens: int = 0
    """Counted in the packages that are trained on; 0: drafts are copied from the text alone."""
    least_times: int = 64
    """A context that stood more seldom tells too little of others."""
    most_contexts: int = 1 << 16
    """Kept, of 9 bytes each."""


@dataclass(frozen=True, slots=True)
class RolloutOptions:
    """How much experience is stored for the agent."""

    prompts: int
    new_tokens: int
    fresh_share: float
    """Share of the prompts rolled out once more along the agent's own choices."""
    reference_prompts: int = 0
    """Prompts more, of which the reference text alone is stored without any generation."""


@dataclass(frozen=True, slots=True)
class PpoOptions:
    """PPO's own settings; the defaults are this project's, `presets/opt-2.7b.toml` has the paper's."""

    start: Literal["probe", "random"] = "probe"
    """What the actor is before PPO: the supervised probe, or random weights."""
    widths: tuple[int, int] = (64, 32)
    """Of the actor's two tanh layers."""
    learning_rate: float = 3e-5
    """Of the actor."""
    critic_learning_rate: float = 3e-3
    """The critic must follow returns of ten and more, which at the actor's rate takes longer than there is."""
    falls: bool = False
    """Both rates fall linearly to zero."""
    fit_critic: bool = True
    """Before PPO, the critic is fitted to the start's Monte Carlo returns."""
    environments: int = 64
    """Environments side by side."""
    steps_per_update: int = 4096
    """Of all environments together."""
    batch: int = 1024
    epochs: int = 4
    discount: float = 1.0
    """Less would charge for waiting: going on puts off the reward of a right token by one step per exit."""
    gae_lambda: float = 0.9
    sharpness: float = 2.0
    """By how much the actor's logit, less the threshold, is multiplied."""

    def __post_init__(self) -> None:
        if self.start not in ("probe", "random"):
            raise ValueError(f"[agent.ppo] start is probe or random, not {self.start!r}")
        if self.steps_per_update % self.environments:
            raise ValueError("[agent.ppo] steps_per_update must be a multiple of environments")


@dataclass(frozen=True, slots=True)
class AgentOptions:
    """PPO."""

    steps: int
    seed: int
    ppo: PpoOptions = PpoOptions()
    reward: RewardName = "energy"
    """`energy` or `paper` (exits/rewards.py)."""
    cost_weight: float = COST_WEIGHT
    """`energy`: lambda, what a token at full depth costs in units of one right token."""

    def __post_init__(self) -> None:
        _ = self.paid  # raises ValueError: now rather than after the rollouts

    @property
    def paid(self) -> Reward:
        """The reward as the environment wants it."""
        return Reward(self.reward, self.cost_weight)


@dataclass(frozen=True, slots=True)
class ActionOptions:
    """The study of GO, EMIT, VERIFY and STOP (training/evaluation/actions.py)."""

    cursors: int = 1800
    """Recorded in the agent's packages of each language: fitted and chosen on."""
    reported_cursors: int = 900
    """Recorded in the calibration's packages: reported on."""
    rounds: int = 5
    """Of the supervised start."""
    steps: int = 2_000_000
    """PPO's, of each seed."""
    seeds: int = 5
    paper_steps: int = 200_000
    """PPO's for the paper's own agent, which is reported beside; not at all where 0."""


@dataclass(frozen=True, slots=True)
class CalibrateOptions:
    """What the exits are calibrated on."""

    prompts: dict[str, int]
    """Completions by language; a table is made for each, and the first decides what `auto` means."""
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
    heads: HeadOptions = HeadOptions()
    drafts: DraftOptions = DraftOptions()
    actions: ActionOptions = ActionOptions()
    four_bits: list[str] = field(default_factory=list)
    """Modules (`gate_proj`, ...) whose matrices are exported in 4 bits; all others in 8. No run depends on it."""


def _agent(table: dict[str, Any]) -> AgentOptions:
    ppo = dict(table.pop("ppo", {}))
    if "widths" in ppo:
        ppo["widths"] = tuple(ppo["widths"])
    return AgentOptions(**table, ppo=PpoOptions(**ppo))


def _heads(table: dict[str, Any]) -> HeadOptions:
    return HeadOptions(**table | {"exits": tuple(table.get("exits", ()))})


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
            agent=_agent(data["agent"]),
            calibrate=CalibrateOptions(**data["calibrate"]),
            heads=_heads(data.get("heads", {})),
            drafts=DraftOptions(**data.get("drafts", {})),
            actions=ActionOptions(**data.get("actions", {})),
            four_bits=list(data.get("four_bits", [])),
        )
    except (TypeError, KeyError, ValueError) as error:
        raise CorpusError(f"{path} is not a preset: {error}.") from error
