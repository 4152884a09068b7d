"""The graphs of a checkpoint are built once, and built again where they are not what was built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from greencode_lsp.engine.engine import Engine
from greencode_lsp.engine.load import load_engine
from greencode_lsp.engine.onnx import build, cache, graph
from greencode_lsp.engine.onnx.model import open_session
from greencode_lsp.errors import CacheError, EngineError
from greencode_lsp.records import FixedControl
from tests import reference

PROMPT = [3, 1, 4, 1, 5]


@pytest.fixture(autouse=True)
def cache_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GREENCODE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / cache.CACHE_NAME


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return reference.save(reference.llama(), tmp_path / "model")


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Where graphs were built."""
    made, real = [], build.build

    def counting(*args: Any) -> None:
        made.append(args[-1])
        real(*args)

    monkeypatch.setattr(build, "build", counting)
    return made


def tokens(engine: Engine) -> list[int]:
    return [step.token_id for step in engine.generate(PROMPT, FixedControl(), max_new_tokens=8)]


def entry(cache_home: Path) -> Path:
    (found,) = [path for path in cache_home.iterdir() if path.is_dir()]
    return found


def test_a_second_start_builds_nothing(folder: Path, builds: list[Path]) -> None:
    first, second = (tokens(load_engine(folder, "cpu", "int8")) for _ in range(2))
    assert first == second
    assert len(builds) == 1


def test_another_precision_is_another_entry(folder: Path, builds: list[Path]) -> None:
    for precision in ("int8", "int4"):
        load_engine(folder, "cpu", precision)
    assert len(builds) == 2


def test_other_weights_of_the_same_name_are_another_entry(folder: Path, builds: list[Path]) -> None:
    load_engine(folder, "cpu", "int8")
    reference.save(reference.llama(rms_norm_eps=1e-3), folder)
    load_engine(folder, "cpu", "int8")
    assert len(builds) == 2


@pytest.mark.parametrize("name", ["head.onnx", "segment-1.onnx.data", "embedding.npy"])
@pytest.mark.parametrize("size", [0, 100])
def test_a_file_cut_short_is_built_again(
    folder: Path, builds: list[Path], cache_home: Path, name: str, size: int
) -> None:
    expected = tokens(load_engine(folder, "cpu", "int8"))
    with (entry(cache_home) / name).open("r+b") as file:
        file.truncate(size)
    assert tokens(load_engine(folder, "cpu", "int8")) == expected
    assert len(builds) == 2


def test_weights_changed_in_place_are_built_again(folder: Path, builds: list[Path], cache_home: Path) -> None:
    expected = tokens(load_engine(folder, "cpu", "int8"))
    path = entry(cache_home) / "head.onnx.data"
    path.write_bytes(bytes(path.stat().st_size))
    assert tokens(load_engine(folder, "cpu", "int8")) == expected
    assert len(builds) == 2


def test_a_cache_that_cannot_be_written_names_the_variable(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GREENCODE_CACHE", str(tmp_path / "file" / "below"))
    with pytest.raises(CacheError, match="GREENCODE_CACHE"):
        load_engine(folder, "cpu", "int8")


def test_an_operator_that_the_library_refuses_is_one_sentence(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "CONTRIB", "com.example")
    with pytest.raises(EngineError, match="update onnxruntime"):
        load_engine(folder, "cpu", "int8")


def test_a_file_that_is_no_graph_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "head.onnx").write_bytes(b"no graph")
    with pytest.raises(EngineError, match=r"greencode\.model"):
        open_session(tmp_path / "head.onnx", 1)


def test_an_embedding_row_is_looked_up_not_read_whole(folder: Path) -> None:
    model = load_engine(folder, "cpu", "int8").model
    table = vars(model)["_tables"]["embedding"]
    assert isinstance(table, np.memmap)
