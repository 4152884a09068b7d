"""The catalogue's data, and which of its models suits a machine."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from greencode_lsp import cli
from greencode_lsp.completion import selection
from greencode_lsp.errors import ModelNotFoundError
from greencode_lsp.models.catalogue import CATALOGUE, CatalogueModel, by_hash, named
from greencode_lsp.models.choice import Machine, ModelCandidate, best, better, estimated_ms, fits
from greencode_lsp.models.pulled import PullRecord, write_record
from greencode_lsp.models.store import bundled_folder, is_hub_name, pulled_folder, resolve
from greencode_lsp.settings import Settings

SMALL = Machine(cores=2, memory_bytes=8 << 30)
LARGE = Machine(cores=16, memory_bytes=64 << 30)
each_model = pytest.mark.parametrize("model", CATALOGUE, ids=[model.name for model in CATALOGUE])


def install(model: CatalogueModel) -> Path:
    """Put a file in the place of a pulled model."""
    folder = pulled_folder(model.name)
    folder.mkdir(parents=True)
    (folder / model.file).write_bytes(b"GGUF")
    write_record(folder, PullRecord(model.name, "", {model.file: model.sha256}))
    return folder / model.file


@each_model
def test_every_model_has_a_pinned_hash_a_size_a_licence_and_a_source(model: CatalogueModel) -> None:
    assert re.fullmatch("[0-9a-f]{64}", model.sha256)
    assert model.size_bytes > 1_000_000 and model.licence
    assert model.hub or model.parts
    assert model.hub is None or re.fullmatch("[0-9a-f]{40}", model.hub.revision)


def test_names_hashes_and_parts_are_no_two_models() -> None:
    for keys in ([m.name for m in CATALOGUE], [m.sha256 for m in CATALOGUE], [p for m in CATALOGUE for p in m.parts]):
        assert len(set(keys)) == len(keys)


@each_model
def test_every_name_can_be_a_folder(model: CatalogueModel) -> None:
    assert is_hub_name(model.name) and is_hub_name(model.short)


def test_a_short_name_stands_for_the_better_one_first() -> None:
    assert [model.name for model in named("Qwen2.5-Coder-0.5B")] == [
        "qwen2.5-coder-0.5b-base",
        "qwen2.5-coder-0.5b-instruct",
    ]
    assert named("someone/else") == ()


def test_what_may_not_be_used_commercially_says_so_and_is_never_recommended() -> None:
    research = [model for model in CATALOGUE if not model.is_open]
    assert {model.short for model in research} == {"qwen2.5-coder-3b"}
    assert all("not for commercial use" in model.licence for model in research)
    assert better(0, LARGE, 60_000) not in research


def test_a_model_is_known_by_its_hash() -> None:
    assert by_hash(CATALOGUE[0].sha256) is CATALOGUE[0]
    assert by_hash("0" * 64) is None


def test_the_best_model_in_time_goes_first_and_a_slow_one_is_left_out() -> None:
    candidates = [ModelCandidate("slow", 9, 900.0), ModelCandidate("good", 5, 700.0), ModelCandidate("plain", 1, 5.0)]
    assert [one.name for one in best(candidates, 800)] == ["good", "plain"]
    assert best(candidates, 1) == []


def test_an_estimate_grows_with_the_model_and_falls_with_the_cores() -> None:
    assert estimated_ms(1_500_000_000, SMALL) > estimated_ms(500_000_000, SMALL) > estimated_ms(500_000_000, LARGE)


def test_the_estimate_of_half_a_billion_weights_on_two_cores_is_near_what_was_measured() -> None:
    """37 ms for a token in 4 and 8 bits, thirteen of them."""
    assert estimated_ms(494_000_000, SMALL) == pytest.approx(481, rel=0.1)


def test_a_model_takes_at_most_half_of_the_memory() -> None:
    [model] = [one for one in CATALOGUE if one.name == "qwen2.5-coder-1.5b-base"]
    assert fits(model, SMALL) and not fits(model, Machine(2, 4 << 30))


def test_a_better_model_is_one_size_up_not_another_version_of_the_same() -> None:
    found = better(0, SMALL, 800)
    assert found is not None and found.short == "qwen2.5-coder-0.5b"
    assert better(20, SMALL, 800) is None


def test_auto_is_the_bundled_model_where_no_other_is_here() -> None:
    assert selection.checkpoints(Settings(), lambda path: None, SMALL) == [bundled_folder()]


def test_auto_is_the_best_installed_model_that_is_estimated_in_time() -> None:
    [instruct, slow] = [install(named(name)[0]) for name in ("qwen2.5-coder-0.5b-instruct", "qwen2.5-coder-1.5b-base")]
    assert selection.checkpoints(Settings(), lambda path: None, SMALL) == [instruct, bundled_folder()]
    assert selection.checkpoints(Settings(), lambda path: None, LARGE) == [slow, instruct, bundled_folder()]


def test_a_profile_corrects_the_estimate() -> None:
    file = install(named("qwen2.5-coder-0.5b-instruct")[0])
    assert selection.checkpoints(Settings(), lambda path: 2000.0, LARGE) == [bundled_folder()]
    assert selection.checkpoints(Settings(latency_target_ms=3000), lambda path: 2000.0, LARGE)[0] == file


def test_a_named_model_is_taken_however_slow_it_is() -> None:
    file = install(named("qwen2.5-coder-3b-base")[0])
    assert selection.checkpoints(Settings(model="qwen2.5-coder-3b"), lambda path: 1e6, SMALL) == [file]


def test_a_name_of_the_catalogue_that_is_not_here_says_how_to_get_it() -> None:
    with pytest.raises(ModelNotFoundError, match=r"`greencode-lsp models pull qwen2\.5-coder-0\.5b`"):
        resolve("qwen2.5-coder-0.5b")


def test_advice_names_a_model_and_the_command_and_ends_once_it_is_here() -> None:
    sentence = selection.advice(Settings(), SMALL)
    assert "`greencode-lsp models pull qwen2.5-coder-0.5b`" in sentence and "\n" not in sentence
    install(named("qwen2.5-coder-0.5b-instruct")[0])
    assert selection.advice(Settings(), SMALL) == ""


def test_who_keeps_to_the_bundled_model_is_reported_of_a_better_one_that_is_here() -> None:
    install(named("qwen2.5-coder-0.5b-instruct")[0])
    assert '"greencode.model": "auto"' in selection.advice(Settings(model="bundled"), SMALL)


def test_a_machine_that_can_run_nothing_better_gets_no_advice() -> None:
    assert selection.advice(Settings(), Machine(1, 1 << 28)) == ""


def test_the_catalogue_is_printed_as_a_table_and_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    install(CATALOGUE[0])
    assert cli.main(["models", "catalogue"]) == 0
    text = capsys.readouterr().out
    assert all(model.name in text for model in CATALOGUE) and "not measured" in text
    assert cli.main(["models", "catalogue", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["models"]
    assert [row["sha256"] for row in rows] == [model.sha256 for model in CATALOGUE]
    assert [row["is_here"] for row in rows] == [True] + [False] * (len(CATALOGUE) - 1)


def test_a_pulled_file_is_listed_shown_verified_and_removed(capsys: pytest.CaptureFixture[str]) -> None:
    model = named("qwen2.5-coder-0.5b-instruct")[0]
    file = install(model)
    assert cli.main(["models", "list"]) == 0 and model.name in capsys.readouterr().out
    assert cli.main(["models", "info", model.name]) == 0 and "Apache-2.0" in capsys.readouterr().out
    assert cli.main(["models", "verify", model.name]) == 1 and "damaged" in capsys.readouterr().err
    assert cli.main(["models", "remove", model.name]) == 0 and not file.exists()
