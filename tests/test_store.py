"""Where models and data lie."""

from __future__ import annotations

from pathlib import Path

import pytest

from greencode_lsp.errors import ModelNotFoundError
from greencode_lsp.models.store import bundled_folder, data_home, ledger_path, move_out_of_workspace, resolve


def test_the_home_variable_names_the_data_folder(home: Path) -> None:
    assert data_home() == home
    assert ledger_path().parent == home


def test_without_the_variable_the_data_folder_is_the_platforms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GREENCODE_HOME")
    assert data_home().is_absolute()
    assert data_home().name == "greencode-lsp"


def test_asking_for_the_data_folder_does_not_make_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GREENCODE_HOME", str(home / "later"))
    assert not data_home().exists()


def test_bundled_is_the_model_in_the_package() -> None:
    assert resolve("bundled") == bundled_folder()
    assert (bundled_folder() / "greencode.json").is_file()


def test_a_checkpoint_folder_is_named_by_its_path(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert resolve(str(tmp_path)) == tmp_path


def test_a_tilde_stands_for_the_users_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setenv("HOME", str(tmp_path.parent))
    monkeypatch.setenv("USERPROFILE", str(tmp_path.parent))
    assert resolve(f"~/{tmp_path.name}") == tmp_path


@pytest.mark.parametrize("model", ["", "/no/such/folder", "mini", "~nobody-at-all/model", "a\0b", "x" * 5000])
def test_what_is_no_checkpoint_folder_names_the_setting_to_fix(model: str) -> None:
    with pytest.raises(ModelNotFoundError, match=r"greencode\.model") as error:
        resolve(model)
    assert "\n" not in str(error.value)


def test_a_folder_without_a_config_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"config\.json"):
        resolve(str(tmp_path))


def plant(folder: Path, name: str) -> Path:
    (folder / name).mkdir(parents=True)
    (folder / name / "config.json").write_text("{}")
    return folder / name


@pytest.mark.parametrize("model", ["acme/coder", "coder", "bundled", ".hidden", "acme//coder", "acme/../acme/coder"])
def test_a_name_never_leads_into_the_current_folder(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for planted in ("acme/coder", "coder", "bundled", ".hidden"):
        plant(tmp_path, planted)
    monkeypatch.chdir(tmp_path)
    if model == "bundled":
        assert resolve(model) == bundled_folder()
        return
    with pytest.raises(ModelNotFoundError, match=r"No model .* was pulled"):
        resolve(model)


def test_a_path_from_here_is_written_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(tmp_path, "coder")
    monkeypatch.chdir(tmp_path)
    assert resolve("./coder") == Path("coder")


def test_a_relative_home_variable_lies_in_the_users_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("GREENCODE_HOME", "data")
    assert data_home() == tmp_path / "data"


def test_the_server_leaves_the_workspace_for_a_folder_of_its_own(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    move_out_of_workspace()
    assert Path.cwd() == home / "run"


def test_a_server_without_a_data_folder_leaves_the_workspace_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GREENCODE_HOME", str(tmp_path / "file" / "below"))
    monkeypatch.chdir(tmp_path)
    move_out_of_workspace()
    assert Path.cwd() == Path(Path.cwd().anchor)
