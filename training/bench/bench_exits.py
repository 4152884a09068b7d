"""What exits, drafts and reuse are worth in time: the engine against itself, on real text."""

from __future__ import annotations

import dataclasses
import random
import statistics
import textwrap
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from greencode_lsp.engine.engine import Engine
from greencode_lsp.engine.load import load_model, open_source
from greencode_lsp.engine.policy import AgentPolicy, PolicyRule
from greencode_lsp.engine.timing import UNREACHED, network
from greencode_lsp.preference import decode_config
from greencode_lsp.prompt.context import build_prompt
from greencode_lsp.prompt.heal import heal
from greencode_lsp.prompt.tokenizer import CodeTokenizer
from greencode_lsp.records import DecodeConfig, FixedControl
from greencode_lsp.settings import Settings
from training.bench.bench_peers import NEW_TOKENS, decode_s

PROMPT_TOKENS = 512
LONG_PROMPT_TOKENS = 1000
TYPED_CHARACTERS = 240
CHECKS = 2000
CLOSED_BY_EDITORS = {"(": ")", "[": "]", "{": "}", '"': '"', "'": "'"}


def prompts(engine: Engine, tokenizer: CodeTokenizer, count: int) -> list[list[int]]:
    """Return prompts inside functions of the standard library, which the bundled model never trained on."""
    text = Path(textwrap.__file__).read_text(encoding="utf8")
    places = [i for i, character in enumerate(text) if character == "(" and i > len(text) // 3]
    chosen = places[:: max(1, len(places) // count)][:count]
    return [build_prompt(text, at + 1, tokenizer, tokenizer.fim(engine.manifest.fim), PROMPT_TOKENS) for at in chosen]


def copied_prompts(engine: Engine, tokenizer: CodeTokenizer, count: int) -> list[list[int]]:
    """Return the same prompts, each ending in a copy of its own middle: what follows is a copy too."""
    copies = []
    for ids in prompts(engine, tokenizer, count):
        text = ids[: PROMPT_TOKENS // 2]
        copies.append([*text, *text[: len(text) // 2]])
    return copies


def modes(engine: Engine, checkpoint: Path) -> dict[str, tuple[Engine, DecodeConfig]]:
    """Return what is compared: preferences, an agent that never exits, and the model as one graph without exits."""
    whole = dataclasses.replace(engine.manifest, exits=engine.exits[-1:])
    source, threads = open_source(checkpoint), engine.model.threads
    model = load_model(source, whole.exits, engine.precision, engine.device, threads=threads)
    single = Engine(model, whole, engine.policies, engine.device, engine.precision, engine.drafter.table)
    single.sequences.chunk_positions = engine.sequences.chunk_positions

    def at(preference: float) -> DecodeConfig:
        return decode_config(Settings(preference=preference), engine.manifest, "python")

    return {
        "full depth": (engine, DecodeConfig()),
        "full depth, batch-invariant": (engine, DecodeConfig(batch_invariant=True)),
        "no exits": (single, DecodeConfig()),
        "never exits": (engine, DecodeConfig(network(engine), UNREACHED)),
        "energy": (engine, at(0.0)),
        "balanced": (engine, at(0.5)),
        "accuracy": (engine, at(1.0)),
    }


def compare(engine: Engine, checkpoint: Path, chosen: Sequence[Sequence[int]], rounds: int) -> dict[str, Any]:
    """Return seconds per mode, of all prompts together by round, and the balanced ratio in layer-equivalents."""
    contenders = modes(engine, checkpoint)
    times_s: dict[str, list[float]] = {name: [] for name in contenders}
    work, names, rng = (0.0, 0.0), list(contenders), random.Random(0)
    for _ in range(rounds + 1):  # the first warms up
        sums = dict.fromkeys(contenders, 0.0)
        work = (0.0, 0.0)
        for ids in chosen:
            rng.shuffle(names)  # who came before decides how warm the caches are
            for name in names:
                subject, config = contenders[name]
                list(subject.generate(ids, FixedControl(), max_new_tokens=1))  # the prompt is warm for every mode alike
                sums[name] += decode_s(subject, ids, config)
                if name == "balanced":
                    done = subject.work
                    work = (work[0] + done.layer_equivalents, work[1] + done.full_depth_layer_equivalents)
        for name, total_s in sums.items():
            times_s[name].append(total_s)
    tokens = len(chosen) * NEW_TOKENS
    return {"times_s": {n: t[1:] for n, t in times_s.items()}, "tokens": tokens, "ratio": work[0] / work[1]}


def lazy_depth(engine: Engine, checkpoint: Path, tokenizer: CodeTokenizer, count: int) -> dict[str, float]:
    """Return, by mode, the share of completions of cold prompts after which the prompt never went through all layers.

    Only there prefill is spared; where one token goes deep, the same work is done a little later. Running the prompt
    eagerly would bring the first token no sooner and spare nothing, so the engine is always lazy.
    """
    shares = {}
    for name, (subject, config) in modes(engine, checkpoint).items():
        chosen, lazy = prompts(engine, tokenizer, count), 0
        for ids in chosen:
            subject.sequences.forget()
            list(subject.generate(ids, FixedControl(config), max_new_tokens=NEW_TOKENS))
            lazy += subject.state.filled[-1] < len(ids) - 1
        shares[name] = lazy / len(chosen)
    return shares


def ratio(times_s: dict[str, list[float]], ours: str, theirs: str) -> tuple[float, float, float]:
    """Return median and quartiles of the ratio by round."""
    ratios = [a / b for a, b in zip(times_s[ours], times_s[theirs], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
    return middle, low, high


def exit_check_us(engine: Engine) -> float | None:
    """Return the median microseconds of one decision as it is served: final norm, observation, network."""
    policy = engine.policies.get(network(engine))
    if not isinstance(policy, AgentPolicy):
        return None
    rule = PolicyRule(policy, UNREACHED, engine.exits, 1, 3)
    times_s = []
    for _ in range(CHECKS):
        engine.state.crop(0)
        engine.state.feed([0, 0])
        engine.state.advance(0, lambda: False)  # as a decision is found: behind its layers
        start_s = time.perf_counter()
        rule(engine.state, 0)
        times_s.append(time.perf_counter() - start_s)
    return 1e6 * statistics.median(times_s)


def typing_trace(texts: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Yield (document, cursor) by keystroke: a function typed in, with a look into another document between.

    What is typed is a stretch of the file itself; the rest of the file stands after the cursor throughout, behind the
    brackets and quotes that an editor closes by itself.
    """
    first, second = texts
    begin, closing = len(first) // 2, ""
    for typed in range(TYPED_CHARACTERS):
        at = begin + typed
        character = first[at - 1]
        if closing.startswith(character):
            closing = closing[1:]
        elif character == "\n":
            closing = ""
        else:
            closing = CLOSED_BY_EDITORS.get(character, "") + closing
        yield first[:at] + closing + "\n" + first[begin + TYPED_CHARACTERS :], at
        if typed % 60 == 59:  # over to the other file for a word
            middle = len(second) // 2
            for letter in range(8):
                yield second[: middle + letter] + second[middle + 8 :], middle + letter


def prompt_reused(engine: Engine, tokenizer: CodeTokenizer, max_prompt_tokens: int) -> dict[str, float]:
    """Return the share of prompt tokens found in the cache over a typing trace, and seconds per keystroke.

    Prompts and healing are the service's; the first prompt of each document, which nothing can hold, is left out.
    """
    texts = [Path(module).read_text(encoding="utf8") for module in (textwrap.__file__, statistics.__file__)]
    reused = total = 0
    times_s, seen = [], set[bool]()
    for document, at in typing_trace(texts):
        start_s = time.perf_counter()
        healed = heal(
            build_prompt(document, at, tokenizer, tokenizer.fim(engine.manifest.fim), max_prompt_tokens), tokenizer
        )
        config = decode_config(Settings(), engine.manifest, "python")
        list(engine.generate(healed.prompt_ids, FixedControl(config), max_new_tokens=4, constraint=healed.constraint))
        kind = document[:40] == texts[0][:40]
        if kind in seen:
            reused, total = reused + engine.work.reused_tokens, total + engine.work.prompt_tokens
            times_s.append(time.perf_counter() - start_s)
        seen.add(kind)
    return {"reused": reused / total, "keystroke_s": statistics.median(times_s), "keystrokes": len(times_s)}


def second_keystroke(engine: Engine, tokenizer: CodeTokenizer, rounds: int) -> list[float]:
    """Return, by round, the time to the first token of a keystroke over that of the keystroke before it, cold."""
    text = Path(statistics.__file__).read_text(encoding="utf8")
    ratios = []
    budget = min(LONG_PROMPT_TOKENS, engine.max_positions - NEW_TOKENS - 1)
    for _ in range(rounds):
        at = len(text) // 2
        times_s = []
        engine.sequences.forget()
        for typed in (0, 1):
            start_s = time.perf_counter()
            ids = build_prompt(
                text[: at + typed] + text[at + 1 :], at + typed, tokenizer, tokenizer.fim(engine.manifest.fim), budget
            )
            healed = heal(ids, tokenizer)
            list(engine.generate(healed.prompt_ids, FixedControl(), max_new_tokens=1, constraint=healed.constraint))
            times_s.append(time.perf_counter() - start_s)
        ratios.append(times_s[1] / times_s[0])
    return ratios
