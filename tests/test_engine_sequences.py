"""Several documents' caches: which one serves a prompt, and which one goes."""

from __future__ import annotations

from pathlib import Path

import pytest

from greencode_lsp.engine.load import load_engine
from greencode_lsp.engine.sequences import Sequences
from greencode_lsp.engine.state import DecoderState
from greencode_lsp.records import FixedControl
from tests import reference

A, B, C = ([k + i % 7 for i in range(40)] for k in (10, 50, 90))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return reference.save(reference.llama(), tmp_path_factory.mktemp("model"))


def of_limit(folder: Path, limit: int) -> Sequences:
    model = load_engine(folder, "cpu", "float32").model

    def opened() -> DecoderState:
        return DecoderState(model.open(), len(reference.EXITS))

    return Sequences(opened, max_bytes=limit * opened().runner.bytes_at(len(A) + 2))


def reused(sequences: Sequences, ids: list[int]) -> int:
    return sequences.choose(ids).reuse(ids)


def test_coming_back_to_a_document_finds_its_cache(folder: Path) -> None:
    sequences = of_limit(folder, 2)
    assert [reused(sequences, ids) for ids in (A, B, [*A, 1], [*B, 2])] == [0, 0, 40, 40]


def test_the_document_unused_for_longest_makes_room(folder: Path) -> None:
    sequences = of_limit(folder, 2)
    assert [reused(sequences, ids) for ids in (A, B, C, [*B, 1], [*A, 1])] == [0, 0, 0, 40, 0]


def test_a_place_only_passed_through_goes_before_one_typed_at(folder: Path) -> None:
    sequences = of_limit(folder, 2)
    assert [reused(sequences, ids) for ids in (A, [*A, 1], B, C, [*A, 1, 2])] == [0, 40, 0, 0, 41]


def test_an_edit_stays_in_its_documents_cache(folder: Path) -> None:
    sequences = of_limit(folder, 3)
    for ids in (A, [*A[:30], 3, 3], [*A[:20], 4]):
        reused(sequences, ids)
    assert len(sequences) == 1


def test_a_document_that_grows_takes_the_room_of_the_oldest(folder: Path) -> None:
    sequences = of_limit(folder, 3)
    assert [reused(sequences, ids) for ids in (A, B, C, [*C, *B])] == [0, 0, 0, 40]
    assert len(sequences) == 2
    assert reused(sequences, [*B, 1]) == 40


def test_one_sequence_is_kept_however_little_memory_is_allowed(folder: Path) -> None:
    sequences = of_limit(folder, 0)
    assert [reused(sequences, ids) for ids in (A, B, [*B, 1])] == [0, 0, 40]
    assert len(sequences) == 1


def test_two_documents_in_turns_are_each_completed_as_if_alone(folder: Path) -> None:
    engine = load_engine(folder, "cpu", "float32")

    def complete(ids: list[int]) -> list[int]:
        return [step.token_id for step in engine.generate(ids, FixedControl(), max_new_tokens=8)]

    alone = [
        [s.token_id for s in load_engine(folder, "cpu", "float32").generate(ids, FixedControl(), max_new_tokens=8)]
        for ids in (A, B)
    ]
    assert [complete(A), complete(B), complete(A), complete(B)] == [*alone, *alone]
    assert engine.work.reused_tokens == len(B) - 1


def test_an_audit_runs_the_rows_it_asks_for_and_leaves_other_documents_their_caches(folder: Path) -> None:
    engine = load_engine(folder, "cpu", "float32")
    short = A[:20]

    def complete(ids: list[int]) -> list[int]:
        return [step.token_id for step in engine.generate(ids, FixedControl(), max_new_tokens=8)]

    emitted = complete(short)
    complete(B)
    assert engine.full_depth_argmax(short, emitted, FixedControl()) == emitted
    assert engine.work.reused_tokens == len(short) - 1
    complete(B)
    assert engine.work.reused_tokens == len(B) - 1
