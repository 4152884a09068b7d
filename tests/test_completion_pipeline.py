"""One completion from text to text, with a model that has memorised the truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest

from greencode_lsp.completion.pipeline import LiveControl, complete
from greencode_lsp.completion.progress import whole_characters
from greencode_lsp.completion.request import Request
from greencode_lsp.errors import PositionError
from greencode_lsp.records import Completion
from greencode_lsp.settings import Settings
from tests.fakes import LAYERS, MANIFEST, SAMPLE, FakeEngine, at_cursor, backend, meter, tokenizer


def control(settings: Callable[[], Settings] = Settings, cancelled: Callable[[], bool] = lambda: False) -> LiveControl:
    return LiveControl(settings, cancelled, MANIFEST, "python")


def run(marked: str, engine: FakeEngine, settings: Settings | None = None, *, invoked: bool = False) -> Completion:
    text, offset = at_cursor(marked)
    chosen = settings or Settings()
    return complete(backend(engine), Request(text, offset, "python", invoked=invoked), control(lambda: chosen), meter())


EMOJI = "smile = '😀😀'\nname = smile\n"
CASES = {
    "inside a word": (
        SAMPLE,
        'def append_items(items, value):\n    """Return a list."""\n    for it|\n',
        "em in items:",
    ),
    "after a word": (SAMPLE, "    for item|\n", " in items:"),
    "after an opener": (SAMPLE, "    for item in items:|\n", "\n        result.append(item)"),
    "on a blank line": (SAMPLE, "    for item in items:\n|\n", "        result.append(item)"),
    "in the indentation": (SAMPLE, "    for item in items:\n        |\n", "result.append(item)"),
    "the closing bracket is there": (SAMPLE, "        result.append(|)\n", "item"),
    "nothing memorised": (SAMPLE, "something else|", ""),
    "empty document": (SAMPLE, "|", ""),
    "after an emoji": (EMOJI, "smile = '😀|", "😀'"),
    "windows line ends": (SAMPLE, "    for item in items:\r\n        result.|\r\n", "append(item)"),
}


@pytest.mark.parametrize(("truth", "marked", "expected"), CASES.values(), ids=CASES.keys())
def test_the_completion_is_the_truth_to_the_end_of_its_shape(truth: str, marked: str, expected: str) -> None:
    assert run(marked, FakeEngine((truth,)), Settings(max_new_tokens=60)).text == expected


@pytest.mark.parametrize("offset", range(4, SAMPLE.index("\n")))
def test_healing_strips_exactly_the_bytes_it_dropped_at_every_cursor_of_a_line(offset: int) -> None:
    line = SAMPLE[: SAMPLE.index("\n")]
    engine = FakeEngine()
    assert line[:offset] + run(line[:offset] + "|", engine, invoked=True).text == line


def test_the_prompt_is_healed_and_the_tokens_for_it_are_extra() -> None:
    engine = FakeEngine()
    completion = run("    for it|", engine, Settings(max_new_tokens=3))
    assert len(completion.steps) == 4
    assert tokenizer().decode(engine.prompts[0]).endswith("    for ")


def test_generation_ends_with_the_line() -> None:
    engine = FakeEngine()
    completion = run("    for item in it|", engine)
    assert completion.text == "ems:"
    assert tokenizer().decode([completion.steps[-1].token_id]) == "\n"


def test_generation_ends_with_a_loop_of_the_model() -> None:
    completion = run("x = |", FakeEngine(("x = " + "ab_" * 100,)), Settings(max_new_tokens=200))
    assert completion.text == "ab_"
    assert len(completion.steps) < 20


def test_a_block_that_the_budget_cuts_shows_whole_lines() -> None:
    completion = run("class Reader:\n|\n", FakeEngine(), Settings(max_new_tokens=14))
    assert completion.text == "    def __init__(self, name):"


def test_the_record_tells_layers_energy_and_time() -> None:
    completion = run("    for it|", FakeEngine())
    assert completion.exit_layers == tuple(2 if n % 2 == 0 else LAYERS for n in range(len(completion.steps)))
    assert (completion.layers, completion.model, completion.device) == (LAYERS, "fake-1", "cpu")
    assert (completion.energy.energy_j, completion.energy.energy_tier) == (10.0, "modelled")
    assert completion.elapsed_ms > 0


def test_a_changed_preference_rules_the_next_token() -> None:
    engine = FakeEngine()
    chosen = [Settings(0.5)]
    request = Request("    for it", 10, "python")
    engine.before_token = lambda control, prefix: chosen.append(Settings(0.0)) if len(engine.configs) == 2 else None
    complete(backend(engine), request, control(lambda: chosen[-1]), meter())
    assert [config.threshold for config in engine.configs[:4]] == [1.0, 1.0, -1.0, -1.0]
    less, more = engine.configs[0].stop_threshold, engine.configs[3].stop_threshold
    assert less > more


def test_a_cancelled_completion_has_no_text_but_its_cost() -> None:
    engine = FakeEngine()
    request = Request("    for it", 10, "python")
    completion = complete(backend(engine), request, control(cancelled=lambda: len(engine.configs) == 2), meter())
    assert (completion.text, len(completion.steps), completion.energy.energy_j) == ("", 2, 10.0)
    assert completion.work.emitted_tokens == 2


def test_an_offset_outside_the_document_is_reported() -> None:
    with pytest.raises(PositionError, match="outside the document"):
        complete(backend(), Request("x", 2, "python"), control(), meter())


def test_the_prompt_leaves_room_in_the_models_positions() -> None:
    engine = FakeEngine(max_positions=64)
    run(SAMPLE * 9 + "|", engine, Settings(max_new_tokens=40))
    assert len(engine.prompts[0]) + 32 <= 64


def test_a_model_without_a_document_token_does_not_start_from_nothing() -> None:
    engine = FakeEngine()
    plain = backend(engine, replace(MANIFEST, fim={}))
    completion = complete(plain, Request("", 0, "python"), control(), meter())
    assert (completion.text, completion.steps, engine.prompts) == ("", (), [])


def test_a_character_that_is_not_whole_yet_is_left_out() -> None:
    assert [whole_characters("é😀".encode()[:n]) for n in range(7)] == ["", "", "é", "é", "é", "é", "é😀"]


DOUBTS = {  # text with the cursor, how sure each token is, what is shown
    "sure": ("    for item|\n", (), " in items:"),
    "doubtful from the start": ("    for item|\n", (0.05,), ""),
    "doubtful later": ("    for item|\n", (1.0, 1.0, 0.05), " in"),
    "doubtful by and by": ("    for item|\n", (0.5, 0.5, 0.3), " in"),
    "of a block whole lines": ("    for item in items:|\n", (1.0, 0.05), ""),
}


@pytest.mark.parametrize(("marked", "confidences", "expected"), DOUBTS.values(), ids=DOUBTS.keys())
def test_a_doubtful_line_ends_before_its_doubt(marked: str, confidences: tuple[float, ...], expected: str) -> None:
    engine = FakeEngine(confidences=confidences)
    assert run(marked, engine).text == expected


def test_what_the_user_asked_for_is_shown_however_doubtful() -> None:
    engine = FakeEngine(confidences=(0.01, 0.01))
    assert run("    for item|\n", engine, invoked=True).text == " in items:"


def test_a_new_line_begins_without_the_doubts_of_the_one_before() -> None:
    text = "x = 1\n    y = 2\n"
    newline = len(tokenizer().encode("\n    x = 1\n"))
    confidences = (0.4, *[1.0] * (newline - 2), 1.0, 0.4)
    engine = FakeEngine((f"def f():\n    {text}",), confidences=confidences)
    assert run("def f():|\n", engine).text == "\n    x = 1\n    y = 2"


def test_the_less_is_to_be_spent_the_fewer_tokens_are_generated_unless_asked_for() -> None:
    counts = [
        len(run("x = |", FakeEngine(("x = " + "ab_cd" * 9,)), Settings(0.0, max_new_tokens=8), invoked=invoked).steps)
        for invoked in (False, True)
    ]
    assert counts == [4 + 1, 8 + 1]  # one to heal the prompt


def test_the_text_so_far_is_reported_after_each_token() -> None:
    said: list[str] = []
    request = Request("    for item", 12, "python")
    complete(backend(FakeEngine()), request, control(), meter(), said.append)
    assert said[-1].startswith(" in items:")
    assert all(later.startswith(earlier) for earlier, later in pairwise(said))


@pytest.mark.parametrize(
    ("marked", "expected"),
    [
        ("for item in items:|\n", "\n\tresult.append(item)"),
        ("if x:\n  for item in items:|\n", "\n    result.append(item)"),
    ],
    ids=["nothing", "two spaces"],
)
def test_the_editors_indentation_is_used_where_the_file_shows_none(marked: str, expected: str) -> None:
    text, offset = at_cursor(marked)
    request = Request(text, offset, "python", invoked=True, tab_size=4, insert_spaces=False)
    assert complete(backend(FakeEngine()), request, control(), meter()).text == expected
