"""A model that has memorised texts, with the shape of the real engine; for every test that is not about the engine."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from greencode_lsp.completion.backend import Backend
from greencode_lsp.energy.estimate import ModelledMeter
from greencode_lsp.engine.stop import STOP_POLICIES, Picked, StopTracker
from greencode_lsp.errors import CancelledError
from greencode_lsp.models.manifest import CalibrationRow, Manifest
from greencode_lsp.prompt.tokenizer import CodeTokenizer
from greencode_lsp.records import Constraint, Control, DecodeConfig, Step, Work

FIM = {
    "suffix": "<|fim_suffix|>",
    "prefix": "<|fim_prefix|>",
    "end": "<|fim_end|>",
    "document": "<|endoftext|>",
}
LAYERS = 4
ROWS = (
    CalibrationRow(
        3.0,
        agreement=0.995,
        agreement_lower_95=0.99,
        mean_exit_layer=3.6,
        layer_equivalents_ratio=0.95,
        early_share=0.2,
    ),
    CalibrationRow(
        1.0,
        agreement=0.985,
        agreement_lower_95=0.98,
        mean_exit_layer=3.0,
        layer_equivalents_ratio=0.80,
        early_share=0.5,
    ),
    CalibrationRow(
        -1.0,
        agreement=0.91,
        agreement_lower_95=0.90,
        mean_exit_layer=2.0,
        layer_equivalents_ratio=0.60,
        early_share=0.8,
    ),
    CalibrationRow(
        -3.0,
        agreement=0.70,
        agreement_lower_95=0.68,
        mean_exit_layer=1.2,
        layer_equivalents_ratio=0.40,
        early_share=0.9,
    ),
)
MANIFEST = Manifest(
    name="fake-1",
    family="llama",
    exits=(2, LAYERS),
    fim=FIM,
    exit_policy="agent",
    calibration={"python": {"agent": ROWS}},
)
SAMPLE = '''def append_items(items, value):
    """Return a list."""
    for item in items:
        result.append(item)
    return result


class Reader:
    def __init__(self, name):
        self.name = name
'''


@cache
def tokenizer() -> CodeTokenizer:
    """Return a byte-level tokenizer with a few merges, newline a token of its own."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split("\n", "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=340,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[AddedToken(token, special=True) for token in FIM.values()],
        show_progress=False,
    )
    bpe.train_from_iterator([SAMPLE] * 5, trainer)
    return CodeTokenizer(bpe)


@dataclass
class FakeEngine:
    """Goes on with whichever of its texts the prompt comes from; checks that healing lets it."""

    texts: Sequence[str] = (SAMPLE,)
    before_token: Callable[[Control, str], None] = lambda control, prefix: None
    """Called before each token, e.g. to wait until the control is cancelled."""
    layers: int = LAYERS
    device: str = "cpu"
    precision: str = "int8"
    max_positions: int = 512
    work: Work = field(default_factory=Work)
    prompts: list[tuple[int, ...]] = field(default_factory=list)
    configs: list[DecodeConfig] = field(default_factory=list)
    audited: list[tuple[int, ...]] = field(default_factory=list)
    confidences: Sequence[float] = ()
    """Of the first tokens; the others are certain."""
    running: threading.Event = field(default_factory=threading.Event)

    def generate(
        self,
        prompt_ids: Sequence[int],
        control: Control,
        *,
        max_new_tokens: int,
        stop_ids: frozenset[int] = frozenset(),
        likely_last_ids: frozenset[int] = frozenset(),
        constraint: Constraint | None = None,
    ) -> Iterator[Step]:
        self.prompts.append(tuple(prompt_ids))
        self.running.set()
        prefix = self._prefix(prompt_ids)
        emitted: list[int] = []
        stop = StopTracker(STOP_POLICIES, likely_last_ids)
        for token_id in tokenizer().encode(self._rest(prefix))[:max_new_tokens]:
            self.before_token(control, prefix)
            if control.cancelled():
                raise CancelledError("The generation was cancelled.")
            self.configs.append(control.config())
            allowed = constraint(emitted) if constraint else None
            assert allowed is None or token_id in allowed, (token_id, prefix)
            emitted.append(token_id)
            self.work = Work(prompt_tokens=len(prompt_ids), emitted_tokens=len(emitted))
            confidence = dict(enumerate(self.confidences, 1)).get(len(emitted), 1.0)
            picked = Picked(token_id, 0, confidence, lambda: np.zeros(1, np.float32))
            is_stop = stop.ends_before(control.config(), picked)
            yield Step(token_id, 2 if len(emitted) % 2 else LAYERS, confidence, is_stop)
            if is_stop:
                return

    def full_depth_argmax(self, prompt_ids: Sequence[int], emitted_ids: Sequence[int], control: Control) -> list[int]:
        """The full model agrees with all but the last token."""
        if control.cancelled():
            raise CancelledError("The audit was cancelled.")
        self.audited.append(tuple(prompt_ids))
        return [*emitted_ids[:-1], -1]

    def _prefix(self, prompt_ids: Sequence[int]) -> str:
        """Return the text after the prompt's last special token."""
        ids = list(prompt_ids)
        specials = [index for index, token_id in enumerate(ids) if token_id in tokenizer().special_ids]
        return tokenizer().decode(ids[specials[-1] + 1 :] if specials else ids)

    def _rest(self, prefix: str) -> str:
        for known in (prefix, prefix.rpartition("\n")[2]):  # all of it, or the cursor's line
            for text in self.texts:
                if known and known in text:
                    return text[text.index(known) + len(known) :]
        return ""


def backend(engine: FakeEngine | None = None, manifest: Manifest = MANIFEST) -> Backend:
    """Return a backend around a fake engine."""
    return Backend(engine or FakeEngine(), tokenizer(), manifest)


class Never(random.Random):
    """Draws no completion to be audited."""

    def random(self) -> float:
        return 0.999


def meter() -> ModelledMeter:
    """Return a meter whose clock ticks a second at each look: every completion takes 10 J."""
    ticks = iter(range(1_000_000))
    return ModelledMeter("cpu", 10.0, 0.25, lambda: float(next(ticks)))


def at_cursor(marked: str) -> tuple[str, int]:
    """Return the text without its `|`, and where that stood."""
    offset = marked.index("|")
    return marked[:offset] + marked[offset + 1 :], offset
