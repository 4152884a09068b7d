"""`auto` at loading: the best model that loads and, profiled here, is in time; the bundled one in the end."""

from __future__ import annotations

from pathlib import Path

import pytest

from greencode_lsp.completion import backend as backend_module
from greencode_lsp.completion.backend import Backend, load_backend
from greencode_lsp.errors import ModelDamagedError
from greencode_lsp.settings import Settings
from tests.fakes import backend

GOOD, FAIR, BUNDLED = Path("/models/good.gguf"), Path("/models/fair.gguf"), Path("/models/bundled")


def loading(
    monkeypatch: pytest.MonkeyPatch, *, slow: frozenset[Path] = frozenset(), broken: frozenset[Path] = frozenset()
) -> list[Path]:
    """Return what is loaded: three models, of which a slow one is known as such once it was loaded."""
    loaded: list[Path] = []

    def checkpoints(settings: Settings) -> list[Path]:
        return [path for path in (GOOD, FAIR, BUNDLED) if not (path in slow and path in loaded)]

    def load(checkpoint: Path, settings: Settings) -> Backend:
        loaded.append(checkpoint)
        if checkpoint in broken:
            raise ModelDamagedError(f"{checkpoint} is damaged.")
        return backend()

    monkeypatch.setattr(backend_module, "checkpoints", checkpoints)
    monkeypatch.setattr(backend_module, "_load", load)
    return loaded


def test_the_best_is_loaded_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = loading(monkeypatch)
    assert (load_backend(Settings()).note, loaded) == ("", [GOOD])


def test_one_that_its_first_profile_shows_too_slow_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = loading(monkeypatch, slow=frozenset({GOOD}))
    assert (load_backend(Settings()).note, loaded) == ("", [GOOD, FAIR])


def test_one_that_cannot_be_loaded_gives_way_and_that_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = loading(monkeypatch, broken=frozenset({GOOD}), slow=frozenset({FAIR}))
    note = load_backend(Settings()).note
    assert (note, loaded) == (
        f"good cannot be used, so that another model serves. {GOOD} is damaged.",
        [GOOD, FAIR, BUNDLED],
    )


def test_where_none_can_be_loaded_the_last_ones_error_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    loading(monkeypatch, broken=frozenset({GOOD, FAIR, BUNDLED}))
    with pytest.raises(ModelDamagedError, match="bundled"):
        load_backend(Settings())
