"""What of a long document a prompt shows, and that the ids of one keystroke begin with those of the one before."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import pairwise

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from greencode_lsp.models.store import bundled_folder
from greencode_lsp.prompt.context import CHARACTERS_PER_TOKEN, SLACK, build_prompt
from greencode_lsp.prompt.lines import encode_lines, lines_stand_alone, split_lines
from greencode_lsp.prompt.tokenizer import CodeTokenizer
from tests.fakes import FIM, SAMPLE, tokenizer

OPENING = "<|endoftext|><|fim_suffix|>"
LINES = [f"value_{n} = {n}\n" for n in range(400)]
BELOW = "\n" + "".join(LINES[:40])


def ids_at(before: str, after: str = BELOW, budget: int = 200) -> list[int]:
    ids = build_prompt(before + after, len(before), tokenizer(), tokenizer().fim(FIM), budget)
    assert len(ids) <= budget
    return ids


def sides(ids: list[int]) -> tuple[str, str]:
    """Return the suffix and the prefix that a prompt shows."""
    suffix, prefix = tokenizer().decode(ids).removeprefix(OPENING).split("<|fim_prefix|>")
    return suffix, prefix


def shared(one: list[int], other: list[int]) -> int:
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def typed(text: str, start: str = "".join(LINES)) -> Iterator[list[int]]:
    """Yield the prompt of each character typed at the end of `start`."""
    return (ids_at(start + text[:count], budget=400) for count in range(len(text) + 1))


def merging_tokenizer() -> CodeTokenizer:
    """Return a tokenizer in whose tokens punctuation and the newline after it are one, as in Llama 3's."""
    split = Regex(r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(split, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    bpe.train_from_iterator([SAMPLE] * 5, trainer)
    return CodeTokenizer(bpe)


def test_a_prompt_that_fits_shows_the_whole_document() -> None:
    assert sides(ids_at(SAMPLE, "\nx = 1\n", 400)) == ("\nx = 1\n", SAMPLE)


def test_a_cut_prefix_begins_with_a_line_and_gives_up_no_more_than_its_slack() -> None:
    text = "".join(LINES) + "x = "
    suffix, prefix = sides(ids_at(text))
    assert text.endswith("\n" + prefix)
    room = 197 - len(tokenizer().encode(suffix))
    longest_line = max(len(tokenizer().encode(line)) for line in LINES)
    assert room * (1 - SLACK) - longest_line <= len(tokenizer().encode(prefix)) <= room


def test_a_cut_suffix_ends_with_a_line_and_fills_its_share() -> None:
    suffix, _ = sides(ids_at("".join(LINES)))
    assert (BELOW + "\n").startswith(suffix + "\n")
    assert 40 <= len(tokenizer().encode(suffix)) <= 49


def test_a_rest_of_line_longer_than_the_suffix_share_keeps_its_beginning() -> None:
    suffix, _ = sides(ids_at("x = [", "1, " * 5000))
    assert suffix.startswith("1, 1, ")
    assert len(tokenizer().encode(suffix)) == 49


def test_a_cut_prefix_prefers_to_begin_with_a_definition() -> None:
    function = "def read(path):\n" + "    total += 1\n" * 8
    _, prefix = sides(ids_at(function * 20 + "x = "))
    assert prefix.startswith("def read")


def test_while_lines_are_typed_the_prompt_rarely_begins_elsewhere() -> None:
    prompts = list(typed("".join(LINES[200:260]).replace("value", "other")))
    restarts = sum(shared(one, other) < 100 for one, other in pairwise(prompts))
    assert restarts <= len(prompts) / 60


def test_a_line_inserted_above_the_window_leaves_the_prompt_as_it_is() -> None:
    text = "".join(LINES) + "x = "
    assert ids_at("import os\n" + text) == ids_at(text)


@pytest.mark.parametrize("closers", [")", "]", ")]}", '")', "'", "):", ");", ") ", ")\r"])
def test_what_an_editor_closes_by_itself_is_left_out(closers: str) -> None:
    assert ids_at("f(", closers + BELOW) == ids_at("f(")


def test_the_rest_of_the_line_is_shown_where_it_is_more_than_closers() -> None:
    assert sides(ids_at("f(", ", x)\ny\n"))[0] == ", x)\ny\n"


def test_a_line_longer_than_the_budget_keeps_its_end() -> None:
    _, prefix = sides(ids_at("x = [" + "1, " * 5000))
    assert prefix.endswith("1, 1, ")


def test_typing_on_in_a_line_longer_than_the_budget_rarely_moves_its_beginning() -> None:
    prompts = list(typed("7, " * 60, "x = [" + "1, " * 5000))
    restarts = sum(shared(one, other) < 100 for one, other in pairwise(prompts))
    assert restarts <= len(prompts) / 20


def random_text(rng: random.Random) -> str:
    pieces = ["x", "é", "😀", " ", "    ", "\t", "\n", "\n\n", "\r\n", "):", "word", "\ud83d", "1" * 90, " " * 700]
    return "".join(rng.choices(pieces, k=rng.randrange(600)))


@pytest.mark.parametrize("seed", range(20))
def test_the_budget_is_never_exceeded(seed: int) -> None:
    rng = random.Random(seed)
    text = random_text(rng)
    for kind in (tokenizer(), merging_tokenizer()):
        for budget in (1, 4, 5, 17, 64, 200):
            for offset in {0, len(text), rng.randrange(len(text) + 1)}:
                assert len(build_prompt(text, offset, kind, kind.fim(FIM), budget)) <= max(budget, 2)


def test_no_more_text_than_could_fill_the_budget_is_looked_at() -> None:
    far = 200 * CHARACTERS_PER_TOKEN
    text = "y = 2\n" * far
    assert ids_at(text + "x = ") == ids_at("z" * 1_000_000 + "\n" + text + "x = ")


@pytest.mark.parametrize("text", [SAMPLE, "", "\n", "\n\n  x", "a\n\tb\n", "x  \n  \n\n", "# é\n    '😀'\n"])
def test_lines_tokenised_apart_are_the_text_tokenised_whole(text: str) -> None:
    for kind in (tokenizer(), merging_tokenizer()):
        assert encode_lines(kind, split_lines(text)) == kind.encode(text)


@pytest.mark.parametrize("seed", range(20))
def test_the_bundled_tokenizer_yields_the_same_ids_from_lines(seed: int) -> None:
    bundled, text = CodeTokenizer.from_folder(bundled_folder()), random_text(random.Random(seed))
    assert encode_lines(bundled, split_lines(text)) == bundled.encode(text)


def test_lines_stand_alone_only_where_no_token_crosses_a_line_end() -> None:
    assert lines_stand_alone(tokenizer())
    assert not lines_stand_alone(merging_tokenizer())


def test_a_next_line_longer_than_the_suffix_share_keeps_its_beginning() -> None:
    suffix, _ = sides(ids_at("x = ", "\n" + "1, " * 5000))
    assert suffix.startswith("\n1, 1, ")


def test_a_line_that_leaves_little_room_above_the_cursor_is_left_out_whole() -> None:
    _, prefix = sides(ids_at("".join(LINES) + "x = [" + "1, " * 5000 + "]\ny = 2\nz = "))
    assert prefix == "y = 2\nz = "
