"""Fill-in-the-middle formats as data: whose marks, in which order, and that typing only appends ids in PSM too."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import cache
from itertools import pairwise

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from greencode_lsp.errors import ModelDamagedError
from greencode_lsp.prompt.context import build_prompt
from greencode_lsp.prompt.fim import FORMATS, Fim, document_name
from greencode_lsp.prompt.heal import heal
from greencode_lsp.prompt.tokenizer import CodeTokenizer
from tests.fakes import FIM, SAMPLE, at_cursor, tokenizer
from tests.test_prompt_window import BELOW, LINES, random_text, shared

QWEN_MARKS = ("<|endoftext|>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|repo_name|>", "<|file_sep|>")


@cache
def published(*marks: str, special: bool = False) -> CodeTokenizer:
    """A tokenizer as Qwen's: punctuation and newlines are one token, marks are added and not flagged special."""
    split = Regex(r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(split, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=340, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    bpe.train_from_iterator([SAMPLE] * 5, trainer)
    bpe.add_tokens([AddedToken(mark, special=special, normalized=False) for mark in marks])
    return CodeTokenizer(bpe)


def qwen() -> CodeTokenizer:
    return published(*QWEN_MARKS)


def prompt(marked: str, budget: int = 300, name: str = "") -> str:
    text, offset = at_cursor(marked)
    return qwen().decode(build_prompt(text, offset, qwen(), qwen().fim({}), budget, name))


@pytest.mark.parametrize("name", FORMATS)
def test_a_published_format_is_known_by_its_marks(name: str) -> None:
    known = FORMATS[name]
    found = published(*known.marks.values()).fim({})
    assert (found.order, found.marks, found.title) == (known.order, known.marks, known.title)
    assert set(found.ids) == set(known.marks)


def test_every_mark_ends_a_completion_though_none_is_flagged_special() -> None:
    assert qwen().fim({}).stop_ids == {qwen().token_id(mark) for mark in QWEN_MARKS}


def test_a_mark_in_a_source_file_is_ordinary_text() -> None:
    text = "x = '<|fim_middle|>' # <|endoftext|>"
    assert not qwen().special_ids & set(qwen().encode(text))
    assert qwen().decode(qwen().encode(text)) == text


def test_a_tokenizer_without_marks_is_plain() -> None:
    fim = published().fim({})
    assert (fim.order, fim.stop_ids) == ("plain", frozenset())
    assert published().decode(build_prompt("a = f(1)\nb", 4, published(), fim, 50)) == "a = "


def test_what_a_manifest_states_goes_before_what_the_tokenizer_has() -> None:
    assert tokenizer().fim(FIM).order == "spm"
    assert tokenizer().fim({"document": "<|endoftext|>"}).order == "plain"
    roles = {"prefix": "<|fim_prefix|>", "suffix": "<|fim_suffix|>", "middle": "<|fim_middle|>"}
    assert qwen().fim(roles).order == "psm"
    assert qwen().fim({**roles, "order": "spm"}).order == "spm"
    with pytest.raises(ModelDamagedError, match="order"):
        qwen().fim({**roles, "order": "sideways"})


@pytest.mark.parametrize(
    ("marked", "expected"),
    [
        ("a\n  f(|x)\ny\n", "<|fim_prefix|>a\n<|fim_suffix|>x)\ny\n<|fim_middle|>  f("),
        ("|x\n", "<|fim_prefix|><|fim_suffix|>x\n<|fim_middle|>"),
        ("a\r\nb|c\r\nd", "<|fim_prefix|>a\n<|fim_suffix|>c\nd<|fim_middle|>b"),
        ("a\nx = |\n\n", "a\nx = "),
        ("|", ""),
    ],
    ids=["in a line", "no prefix", "line ends are newlines", "blank suffix", "empty document"],
)
def test_in_psm_order_the_cursors_line_begins_behind_the_middle_mark(marked: str, expected: str) -> None:
    assert prompt(marked) == expected


@pytest.mark.parametrize(
    ("marked", "expected"),
    [
        ("a\nx = |\ny\n", "a\nx = "),
        ("a\nf(x|)\ny\n", "a\nf(x"),
        ("a\n  |\ny\n", "<|fim_prefix|>a\n<|fim_suffix|>\ny\n<|fim_middle|>  "),
        ("a\n|\ny\n", "<|fim_prefix|>a\n<|fim_suffix|>\ny\n<|fim_middle|>"),
        ("a\nf(|x)\ny\n", "<|fim_prefix|>a\n<|fim_suffix|>x)\ny\n<|fim_middle|>f("),
    ],
    ids=["a begun line", "before a closer", "an indented new line", "a new line", "within a line"],
)
def test_an_instruct_model_goes_on_with_a_begun_line_alone(marked: str, expected: str) -> None:
    text, offset = at_cursor(marked)
    fim = replace(qwen().fim({}), goes_on_alone=True)
    assert qwen().decode(build_prompt(text, offset, qwen(), fim, 300)) == expected


def test_the_files_name_stands_where_the_format_has_it() -> None:
    assert prompt("a(|b)\n", name="x.py").startswith("<|file_sep|>x.py\n<|fim_prefix|>")
    assert prompt("a|", name="x.py") == "<|file_sep|>x.py\na"
    assert "<|file_sep|>" not in prompt("a(|b)\n", name="x" * 500)
    marks = FORMATS["starcoder2"].marks
    starcoder = published(*marks.values())
    ids = build_prompt("a(b)\n", 2, starcoder, starcoder.fim({}), 100, "x.py")
    assert starcoder.decode(ids) == "<fim_prefix><file_sep>x.py\n<fim_suffix>b)\n<fim_middle>a("


def test_a_format_without_a_title_is_not_reported_the_files_name() -> None:
    deepseek = published(*FORMATS["deepseek-coder"].marks.values())
    assert "x.py" not in deepseek.decode(build_prompt("a(b)\n", 2, deepseek, deepseek.fim({}), 100, "x.py"))


@pytest.mark.parametrize(
    ("path", "language", "expected"),
    [
        ("/home/me/app.py", "python", "app.py"),
        ("C:\\me\\app.rs", "rust", "app.rs"),
        ("", "typescript", "untitled.ts"),
        ("", "klingon", ""),
    ],
)
def test_a_document_is_called_by_its_file_or_its_language(path: str, language: str, expected: str) -> None:
    assert document_name(path, language) == expected


def test_a_model_that_begins_every_text_with_a_token_gets_it() -> None:
    fim = qwen().fim({}).opened_by(7)
    assert fim.arrange([1], [2], [3])[0] == 7
    assert fim.arrange_plain([1]) == [7, 1]


def test_typing_in_a_long_file_reuses_nine_tenths_of_the_prompt_in_psm_order() -> None:
    above, typed = "".join(LINES), SAMPLE * 2
    fim = qwen().fim({})
    prompts = [
        heal(build_prompt(above + typed[:n] + BELOW, len(above) + n, qwen(), fim, 448, "a.py"), qwen()).prompt_ids
        for n in range(len(typed) + 1)
    ]
    reused = sum(shared(list(one), list(other)) for one, other in pairwise(prompts))
    assert reused / sum(map(len, prompts[1:])) >= 0.9


def test_typing_within_a_line_only_appends_ids_in_psm_order() -> None:
    above, line = "".join(LINES), "    return self.append_items(items, value)"
    fim = qwen().fim({})
    middle = fim.ids["middle"]
    prompts = [build_prompt(above + line[:n] + BELOW, len(above) + n, qwen(), fim, 448) for n in range(len(line) + 1)]
    assert len({tuple(ids[: ids.index(middle) + 1]) for ids in prompts}) == 1


def test_healing_stops_at_the_middle_mark() -> None:
    ids = build_prompt("a\nde(x)\n", 4, qwen(), qwen().fim({}), 100)
    healed = heal(ids, qwen())
    assert healed.prompt_ids == tuple(ids[: ids.index(qwen().fim({}).ids["middle"]) + 1])
    assert healed.dropped == b"de"
    assert heal(healed.prompt_ids, qwen()).prompt_ids == healed.prompt_ids


@pytest.mark.parametrize("seed", range(10))
def test_the_budget_is_never_exceeded_in_psm_order(seed: int) -> None:
    rng = random.Random(seed)
    text = random_text(rng)
    for budget in (1, 4, 5, 17, 64, 200):
        for offset in {0, len(text), rng.randrange(len(text) + 1)}:
            ids = build_prompt(text, offset, qwen(), qwen().fim({}), budget, "file.py")
            assert len(ids) <= max(budget, 4)


def test_a_long_line_has_the_room_that_is_left_above_it() -> None:
    line = "x = [" + "1, " * 60
    assert prompt(f"a\n{line}|2]\n").endswith(line)


def test_arranging_is_one_description_for_every_order() -> None:
    ids = {"prefix": 1, "suffix": 2, "middle": 3, "document": 4}
    assert Fim("psm", ids=ids).arrange([10], [20], [30]) == [4, 1, 10, 2, 20, 3, 30]
    assert Fim("spm", ids=ids).arrange([10], [20], [30]) == [4, 2, 20, 1, 10, 30]
    assert Fim("plain", ids=ids).arrange([10], [20], [30]) == [4, 10, 30]


def test_a_newline_is_not_healed_where_each_line_begins_a_token() -> None:
    assert qwen().begins_lines
    prompts = [qwen().encode(text) for text in ("for item in items:\n", "    return result\n", "x = 1\n\n")]
    others = [len(qwen().continuing(qwen().token_bytes(ids[-1]))) for ids in prompts]
    assert max(others) > 1  # a blank line could have been one token with it
    assert [heal(ids, qwen()).prompt_ids for ids in prompts] == [tuple(ids) for ids in prompts]
