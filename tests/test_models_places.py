"""Models of other programs on this disk: found within bounds, used in place, or a sentence that says why not."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from greencode_lsp import cli
from greencode_lsp.errors import ModelNotFoundError
from greencode_lsp.models import places
from greencode_lsp.models.catalogue import CATALOGUE
from greencode_lsp.models.places import Places, is_gguf
from greencode_lsp.models.store import resolve

DIGEST = "a" * 64


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty home folder of the user."""
    for name in ("OLLAMA_MODELS", "LLAMA_CACHE", "HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    return tmp_path


def gguf(path: Path, data: bytes = b"GGUF....") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def ollama(home: Path, name: str = "library/coder/0.5b", manifest: dict[str, object] | None = None) -> Path:
    """Write the manifest of an Ollama model."""
    path = home / ".ollama/models/manifests/registry.ollama.ai" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    layers = [
        {"mediaType": "application/vnd.ollama.image.license", "digest": "sha256:" + "b" * 64},
        {"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:" + DIGEST},
    ]
    path.write_text(json.dumps(manifest or {"layers": layers}))
    return path


def blob(home: Path, digest: str = DIGEST) -> Path:
    return gguf(home / ".ollama/models/blobs" / f"sha256-{digest}")


def found() -> dict[str, str]:
    return {one.setting: one.where for one in Places.here().look()}


def test_an_ollama_model_is_used_in_place_by_its_name(user: Path) -> None:
    ollama(user)
    file = blob(user)
    assert resolve("ollama:coder:0.5b") == file
    assert found() == {"ollama:coder:0.5b": "Ollama"}


def test_a_name_without_a_tag_is_the_latest_and_one_with_an_owner_is_his(user: Path) -> None:
    ollama(user, "library/coder/latest")
    ollama(user, "someone/coder/1b")
    file = blob(user)
    assert resolve("ollama:coder") == resolve("ollama:someone/coder:1b") == file


def test_ollamas_own_variable_names_its_folder(user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ollama(user)
    blob(user)
    (user / ".ollama/models").rename(user / "elsewhere")
    monkeypatch.setenv("OLLAMA_MODELS", str(user / "elsewhere"))
    assert resolve("ollama:coder:0.5b").is_file()


def test_an_ollama_model_that_is_not_here_is_reported_with_those_that_are(user: Path) -> None:
    ollama(user)
    blob(user)
    with pytest.raises(ModelNotFoundError, match=r"no model 'other' on this disk; there is ollama:coder:0\.5b"):
        resolve("ollama:other")


def test_a_manifest_that_points_nowhere_is_a_sentence_and_no_offer(user: Path) -> None:
    ollama(user)
    with pytest.raises(ModelNotFoundError, match=r"points to .*, which is no GGUF file here; fetch it again"):
        resolve("ollama:coder:0.5b")
    assert found() == {}


@pytest.mark.parametrize(
    "damage",
    [
        {"layers": []},
        {"layers": "x"},
        {"layers": [{"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:../../etc/passwd"}]},
    ],
)
def test_a_manifest_of_another_form_is_a_sentence(user: Path, damage: dict[str, object]) -> None:
    ollama(user, manifest=damage)
    with pytest.raises(ModelNotFoundError, match=r"Ollama's manifest of 'coder:0\.5b'"):
        resolve("ollama:coder:0.5b")


@pytest.mark.parametrize("name", ["", "../../x", "a/../b", ":", "a:"])
def test_a_name_that_leads_elsewhere_is_no_name(user: Path, name: str) -> None:
    with pytest.raises(ModelNotFoundError):
        resolve("ollama:" + name)


def test_files_of_llama_cpp_lm_studio_and_the_hubs_cache_are_found(user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMA_CACHE", str(user / "llama"))
    files = {
        gguf(user / "llama/org_repo_a.gguf"): "llama.cpp",
        gguf(user / ".lmstudio/models/org/repo/b.gguf"): "LM Studio",
        gguf(user / ".cache/huggingface/hub/models--org--repo/snapshots/1/c.gguf"): "the hub's cache",
    }
    assert found() == {str(path): where for path, where in files.items()}


def test_pieces_projectors_and_files_of_another_kind_are_not_offered(user: Path) -> None:
    root = user / ".lmstudio/models"
    gguf(root / "mmproj-a.gguf")
    gguf(root / "a-00001-of-00003.gguf")
    gguf(root / "b.gguf", b"no model")
    gguf(root / "c.bin")
    assert found() == {}


def test_a_folder_loop_ends_and_a_file_that_two_links_lead_to_is_offered_once(user: Path) -> None:
    root = user / ".lmstudio/models"
    file = gguf(root / "org/a.gguf")
    (root / "org/loop").symlink_to(root, target_is_directory=True)
    (root / "z.gguf").symlink_to(file)
    assert len(found()) == 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes in folders are POSIX")
def test_a_pipe_or_a_device_is_never_opened(user: Path) -> None:
    root = user / ".lmstudio/models"
    root.mkdir(parents=True)
    os.mkfifo(root / "pipe.gguf")
    (root / "zero.gguf").symlink_to("/dev/zero")
    assert found() == {}
    assert not is_gguf(root / "pipe.gguf")
    for name in ("pipe.gguf", "zero.gguf"):
        with pytest.raises(ModelNotFoundError, match="is no GGUF file"):
            resolve(str(root / name))


def test_the_search_ends_by_time_and_by_number(user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        gguf(user / f".lmstudio/models/{number}.gguf")
    ticks = iter(range(0, 1000, 2))
    assert len(list(Places.here().look(lambda: float(next(ticks))))) < 5
    monkeypatch.setattr(places, "MAX_ENTRIES", 3)
    assert len(found()) == 3


def test_a_file_of_the_catalogue_in_another_programs_folder_is_used_by_its_name(
    user: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = CATALOGUE[0]
    file = blob(user, model.sha256)
    monkeypatch.setattr(places, "_size", lambda path: model.size_bytes if path == file else None)
    assert resolve(model.name) == file


def test_a_gguf_file_is_named_by_its_path(user: Path) -> None:
    file = gguf(user / "Models" / "m.gguf")
    assert resolve(str(file)) == resolve("~/Models/m.gguf") == file


def test_a_relative_path_is_never_a_gguf_file(user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gguf(user / "m.gguf")
    monkeypatch.chdir(user)
    with pytest.raises(ModelNotFoundError):
        resolve("m.gguf")


def test_what_is_found_is_printed_as_a_table_and_as_json(user: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models", "find"]) == 0 and "No models" in capsys.readouterr().out
    ollama(user)
    blob(user)
    assert cli.main(["models", "find"]) == 0 and "ollama:coder:0.5b" in capsys.readouterr().out
    assert cli.main(["models", "find", "--json"]) == 0
    [row] = json.loads(capsys.readouterr().out)["models"]
    assert row["setting"] == "ollama:coder:0.5b"
