"""The benchmark's parts: what is typed, what is compared, what its last line says. Nothing here is timed."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from greencode_lsp.engine.load import load_engine
from greencode_lsp.records import FixedControl
from tests import reference
from training.bench import bench_engine, bench_exits, bench_peers, bench_server
from training.checkpoint.gguf_export import export_gguf
from training.evaluation.llamacpp_peer import LlamaCpp

QWEN = (
    *("step_vs_llamacpp_q4", "step8_vs_llamacpp_q4", "prompt_vs_llamacpp_q4"),
    "step_shortlist_vs_llamacpp_q4",
)
FIRST = "def first(a, b):\n    return [a, b('x')]\n" * 40
SECOND = "SECOND = 1\n" * 200
KEYS = (
    *("full_vs_hf", "full_vs_llamacpp_q8", "step8_vs_llamacpp_q8", "prompt_vs_llamacpp_q8"),
    *("prompt_vs_hf", "default_vs_full"),
    *("layer_equivalents_ratio", "never_exit_vs_no_exits", "verified_vs_full", "verified_vs_full_copied"),
    *("second_keystroke_vs_first", "prompt_reused", "exit_check_us"),
    *("rss_mb", "initialize_s", "first_completion_s", "threads", "cpu", "isa", "qwen", "install_mb", "times_ms"),
)


def test_what_stands_before_the_cursor_is_what_was_typed() -> None:
    for document, at in bench_exits.typing_trace([FIRST, SECOND]):
        assert document[:at] in (FIRST[:at], SECOND[:at])


def test_an_opened_bracket_is_closed_behind_the_cursor_until_it_is_typed() -> None:
    states = [(d, at) for d, at in bench_exits.typing_trace([FIRST, SECOND]) if d.startswith("def")]
    behind = {document[at - 1 : at + 1] for document, at in states}
    assert {"()", "[]", "''"} & behind
    assert all(document[at:].split("\n")[0] in ("", ")", "]", "')", "')]", "'", ")]") for document, at in states)


def test_the_trace_visits_the_other_document() -> None:
    assert any(document.startswith("SECOND") for document, _ in bench_exits.typing_trace([FIRST, SECOND]))


def test_a_missing_peer_has_no_ratio() -> None:
    assert (
        bench_engine.share(1.0, bench_engine.of_peer({"greencode int8": {"step": [1.0]}}, "llama.cpp", "step")) is None
    )


def test_the_better_of_a_peers_variants_counts() -> None:
    times = {"Hugging Face float32": {"step": [3.0, 4.0, 5.0]}, "Hugging Face bfloat16": {"step": [2.0, 2.0, 9.0]}}
    assert bench_engine.of_peer(times, "Hugging Face", "step") == 2.0


def test_measuring_leaves_the_prompt_alone_in_the_cache(tmp_path: Path) -> None:
    engine = load_engine(reference.save(reference.llama(), tmp_path), "cpu", "float32")
    ids = [3, 1, 4] * 20
    measured = bench_peers.Ours(engine).measure(ids)
    assert set(measured) == {bench_peers.PREFILL, bench_peers.ONE, bench_peers.MANY, bench_peers.WHOLE}
    assert engine.state.ids[: len(ids)] == ids


def test_a_public_model_without_a_pack_is_timed_with_a_shortlist_of_as_many_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_peers, "SHORTLIST_ROWS", 50)
    reference.llama().save_pretrained(tmp_path / "public")
    engine = bench_peers.load_with_shortlist(tmp_path / "public", "cpu", tmp_path)
    times_s = bench_peers.Ours(engine).measure([3, 1, 4] * 20)
    assert engine.model.shortlist is not None and len(engine.model.shortlist) == 50
    assert times_s[bench_peers.SHORT] > 0
    assert engine.work.head_positions == 0


def test_the_last_line_has_the_promised_keys(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(bench_server, "start", lambda model: bench_server.Start(0.1, 0.2, 10**6))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(bench_engine, "install_mb", lambda: None)
    monkeypatch.setattr(bench_peers, "CONTEXT", 16)
    monkeypatch.setattr(bench_engine, "CONTEXT", 16)
    monkeypatch.setattr(bench_exits, "TYPED_CHARACTERS", 10)
    for name in ("QUICK_ROUNDS", "QUICK_PROMPTS", "QUICK_STARTS", "LAZY_PROMPTS", "THREAD_ROUNDS"):
        monkeypatch.setattr(bench_engine, name, 1)
    bench_engine.main(bench_engine.BenchOptions(random_weights="nano", quick=True), as_json=True)
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert tuple(figures) == KEYS
    assert figures["full_vs_llamacpp_q8"] is None
    assert figures["qwen"] == dict.fromkeys(QWEN)
    assert 0 < figures["prompt_reused"] <= 1
    assert figures["times_ms"]["random_weights"]["greencode int8"]["step"] > 0


@pytest.mark.skipif(
    not (importlib.util.find_spec("llama_cpp") and importlib.util.find_spec("gguf")), reason="no extra `bench` here"
)
@pytest.mark.parametrize("quantised", [False, True])
def test_llama_cpp_reads_the_very_model(tmp_path: Path, quantised: bool) -> None:
    """Same ids, same greedy tokens; in Q8_0 most of them, for the rounding differs."""
    shape = {"hidden_size": 64, "intermediate_size": 96, "max_position_embeddings": 2048}
    folder = reference.save(reference.llama(**shape), tmp_path / "model")
    peer = LlamaCpp(export_gguf(folder, tmp_path / "model.gguf", quantised=quantised))
    engine = load_engine(folder, "cpu", "float32")
    agreed = 0
    for seed in range(8):
        prompt = [(7 * i + seed) % reference.VOCAB for i in range(12)]
        ours = [step.token_id for step in engine.generate(prompt, FixedControl(), max_new_tokens=8)]
        agreed += sum(a == b for a, b in zip(ours, peer.generate(prompt, 8), strict=True))
    assert agreed == 64 or (quantised and agreed > 32)
