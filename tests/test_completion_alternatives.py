"""Several suggestions where the user asks: distinct, from where the model was least sure, and one by itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from greencode_lsp.completion.alternatives import branched, branches
from greencode_lsp.completion.pipeline import LiveControl, complete
from greencode_lsp.completion.request import Request
from greencode_lsp.prompt.heal import Healed
from greencode_lsp.settings import Settings
from tests.fakes import MANIFEST, backend, meter, tokenizer
from tests.fork_engine import ForkEngine
from tests.service_bench import Bench

TEXTS = ("x = result.first\n", "x = result.second\n", "x = other(value)\n")
"""What the model says, the likelier first; at a place where texts differ it is less sure."""


def request(text: str = "x = ", *, invoked: bool = True) -> Request:
    return Request(text, len(text), "python", invoked=invoked)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    engine = ForkEngine(TEXTS)
    bench = Bench(tmp_path, lambda settings: backend(engine))
    bench.engine = engine  # type: ignore[attr-defined]
    yield bench
    bench.service.close()


async def test_three_distinct_texts_come_where_the_user_asks(bench: Bench) -> None:
    suggested = await bench.service.complete("a", request())
    assert suggested.text == "result.first"
    assert sorted(one.text for one in suggested.alternatives) == ["other(value)", "result.second"]
    assert len({suggested.number, *(one.number for one in suggested.alternatives)}) == 3


async def test_by_itself_one_comes(bench: Bench) -> None:
    suggested = await bench.service.complete("a", request(invoked=False))
    assert (suggested.text, suggested.alternatives) == ("result.first", ())
    assert len(bench.engine.prompts) == 1  # type: ignore[attr-defined]


async def test_asked_again_they_come_from_memory_and_typed_along_those_that_fit(bench: Bench) -> None:
    await bench.service.complete("a", request())
    count = len(bench.engine.prompts)  # type: ignore[attr-defined]
    assert len((await bench.service.complete("a", request())).alternatives) == 2
    typed = await bench.service.complete("a", request("x = result."))
    assert (typed.text, [one.text for one in typed.alternatives]) == ("first", ["second"])
    assert (await bench.service.complete("a", request("x = result.", invoked=False))).alternatives == ()
    assert len(bench.engine.prompts) == count  # type: ignore[attr-defined]


async def test_a_branch_has_the_tokens_before_it_in_its_prompt(bench: Bench) -> None:
    await bench.service.complete("a", request())
    first, *others = bench.engine.prompts  # type: ignore[attr-defined]
    assert others
    assert all(prompt[: len(first)] == first for prompt in others)


async def test_each_has_a_row_of_its_own_and_the_accepted_one_is_settled(bench: Bench) -> None:
    suggested = await bench.show("a", request())
    chosen = suggested.alternatives[1]
    bench.service.accepted(chosen.number)
    await bench.settle()
    outcomes = [row.outcome for row in bench.ledger.rows()]
    assert outcomes.count("accepted") == 1
    assert outcomes.count("shown") == 2
    accepted = next(row for row in bench.ledger.rows() if row.outcome == "accepted")
    assert accepted.accepted_characters == len(chosen.text)


async def test_a_certain_model_has_no_others(tmp_path: Path) -> None:
    engine = ForkEngine(TEXTS[:1])
    bench = Bench(tmp_path, lambda settings: backend(engine))
    assert (await bench.service.complete("a", request())).alternatives == ()
    assert len(engine.prompts) == 1
    bench.service.close()


async def test_at_the_only_place_in_doubt_the_third_choice_is_taken_too(tmp_path: Path) -> None:
    bench = Bench(tmp_path, lambda settings: backend(ForkEngine(("x = left\n", "x = right\n", "x = middle\n"))))
    suggested = await bench.service.complete("a", request())
    assert [suggested.text, *(one.text for one in suggested.alternatives)] == ["left", "right", "middle"]
    bench.service.close()


async def test_branches_that_say_the_same_are_not_shown_and_counted_as_wasted(tmp_path: Path) -> None:
    bench = Bench(tmp_path, lambda settings: backend(ForkEngine(("x = a == b\n", "x = a  ==  b\n"))))
    assert (await bench.service.complete("a", request())).alternatives == ()
    await bench.settle()
    assert sorted(row.outcome for row in bench.ledger.rows()) == ["shown", "superseded"]
    bench.service.close()


def test_a_text_too_long_for_a_request_is_no_branch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("greencode_lsp.records.BRANCH_TEXT_BYTES", 0)
    assert complete(backend(ForkEngine(TEXTS)), request(), LiveControl.of(Settings(), MANIFEST, "python"), meter()).text


def test_healing_holds_in_a_branch_too() -> None:
    text = "x = resu"
    engine = ForkEngine((*TEXTS, "x = resume()\n"))
    control = LiveControl.of(Settings(), MANIFEST, "python")
    first = complete(backend(engine), request(text), control, meter())
    asked = [replace(request(text), branch=branch) for branch in first.branches]
    made = [complete(backend(engine), one, control, meter()) for one in asked]
    assert first.text == "lt.first"
    assert {one.text for one in made} <= {"lt.first", "lt.second", "me()"}
    assert {one.text for one in made} >= {"lt.second"}


def test_the_least_sure_token_is_branched_at_first_and_not_spelt_again_in_pieces() -> None:
    control = LiveControl.of(Settings(), MANIFEST, "python")
    first = complete(backend(ForkEngine(TEXTS)), request(), control, meter())
    unsure = [replace(step, confidence=0.5 + index / 100) for index, step in enumerate(first.steps)]
    unsure[2] = replace(unsure[2], confidence=0.1)
    healed = Healed(first.prompt_ids, first.dropped)
    second, start, *_ = branches(backend(), request(), healed, unsure, first.text)
    assert (len(second.token_ids), second.avoided) == (2, (b"f",))
    assert (start.token_ids, start.avoided) == ((), (b" result",))
    healed = branched(Healed((1,)), start, backend())
    assert healed.constraint is not None
    allowed = healed.constraint([])
    assert allowed is not None
    assert first.steps[0].token_id not in allowed
    assert not tokenizer().special_ids & set(allowed)
    pieces = {i: tokenizer().token_bytes(i) for i in allowed}
    assert not any(b" result".startswith(piece) for piece in pieces.values() if piece.strip())
    blank = next(i for i, piece in pieces.items() if piece == b" ")
    after = {tokenizer().token_bytes(i) for i in healed.constraint([blank]) or ()}
    assert b"o" in after
    assert not after & {b"r", b"re", b"result"}
    assert healed.constraint([tokenizer().encode("o")[0]]) is None
