"""Pulling a model: what is fetched, what is refused and when, and that half a model is never one."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from greencode_lsp.engine import families
from greencode_lsp.errors import HubError, ModelDamagedError, ModelNotFoundError, UnsupportedModelError
from greencode_lsp.models.hub import HubFile, Repository, pull
from greencode_lsp.models.manifest import FAMILIES, Manifest, write_manifest
from greencode_lsp.models.pulled import check, partial_names, pulled_names, read_record, remove
from greencode_lsp.models.store import is_hub_name, partial_folder, pulled_folder, resolve
from tests.fake_hub import COMMIT, CONFIG, MemoryHub, plain

NAME = "someone/small"


def with_manifest(folder: Path, files: dict[str, bytes]) -> dict[str, bytes]:
    """Return the files with a `greencode.json` that lists those that are loaded."""
    folder.mkdir()
    for name in files:
        if name.endswith((".json", ".safetensors")):
            (folder / name).write_bytes(files[name])
    write_manifest(folder, Manifest(name="small", family="llama", exits=(1, 2)))
    return {**files, "greencode.json": (folder / "greencode.json").read_bytes()}


def test_a_pulled_model_is_taken_by_its_name() -> None:
    folder = pull(NAME, None, MemoryHub(plain()))
    assert resolve(NAME) == folder == pulled_folder(NAME)
    assert pulled_names() == [NAME]
    assert partial_names() == []


def test_only_json_and_safetensors_are_fetched() -> None:
    folder = pull(NAME, None, MemoryHub(plain()))
    assert {path.name for path in folder.iterdir()} == {
        "config.json",
        "tokenizer.json",
        "model.safetensors",
        "pulled.json",
    }


def test_the_hash_of_every_file_is_recorded_and_checked() -> None:
    folder = pull(NAME, None, MemoryHub(plain()))
    record = read_record(folder)
    assert record is not None
    assert (record.name, record.commit) == (NAME, COMMIT)
    assert set(record.files) == {"config.json", "tokenizer.json", "model.safetensors"}
    check(folder, record)
    (folder / "model.safetensors").write_bytes(b"x")
    with pytest.raises(ModelDamagedError, match=r"model\.safetensors is damaged"):
        check(folder, record)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelNotFoundError, match=r"lacks model\.safetensors"):
        check(folder, record)


def test_manifest_and_agent_come_with_a_model_that_has_them(tmp_path: Path) -> None:
    files = with_manifest(tmp_path / "made", plain(agent__safetensors=b"agent"))
    folder = pull(NAME, None, MemoryHub(files))
    assert (folder / "agent.safetensors").read_bytes() == b"agent"
    assert (folder / "greencode.json").is_file()


def test_a_model_that_is_not_what_its_own_manifest_says_is_not_kept(tmp_path: Path) -> None:
    files = with_manifest(tmp_path / "made", plain())
    with pytest.raises(ModelDamagedError, match="SHA-256"):
        pull(NAME, None, MemoryHub(files | {"tokenizer.json": b"{ }"}))
    assert (pulled_names(), partial_names()) == ([], [])


def test_shards_are_fetched_all_and_another_precision_is_not() -> None:
    shards = {f"model-0000{n}-of-00002.safetensors": b"x" for n in (1, 2)}
    files = plain(model__safetensors=None) | shards | {"model.fp16.safetensors": b"y", "consolidated.safetensors": b"z"}
    folder = pull(NAME, None, MemoryHub(files))
    assert {path.name for path in folder.glob("*.safetensors")} == set(shards)


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        (
            plain(config__json=json.dumps({"model_type": "mamba"}).encode()),
            "'mamba', which is not supported; llama, qwen2, opt are",
        ),
        (
            plain(config__json=json.dumps(CONFIG | {"auto_map": {"AutoModel": "modeling.M"}}).encode()),
            "auto_map.*never done.*python -m training import",
        ),
        (
            plain(config__json=json.dumps(CONFIG | {"quantization_config": {"quant_method": "gptq"}}).encode()),
            "is quantised in a way that is not supported",
        ),
        (
            plain(model__safetensors=None, pytorch_model__bin=b"pickle"),
            "only as pickle, which is never loaded.*python -m training import",
        ),
        (plain(model__safetensors=None), "not as model.safetensors"),
        (plain(tokenizer__json=None), "no tokenizer.json.*python -m training import"),
        (plain(config__json=None), "has no config.json"),
        (plain(greencode__json=b'{"files": {"../run.py": ""}}'), "lists ../run.py"),
    ],
    ids=["family", "remote code", "quantised", "pickle", "no weights", "no tokenizer", "no config", "listed code"],
)
def test_what_will_not_do_is_refused_before_its_weights_are_fetched(files: dict[str, bytes], sentence: str) -> None:
    hub = MemoryHub(files)
    with pytest.raises(UnsupportedModelError, match=sentence) as refused:
        pull(NAME, None, hub)
    assert "\n" not in str(refused.value)
    assert set(hub.names) <= {"config.json", "greencode.json"}
    assert (pulled_names(), partial_names()) == ([], [])


@pytest.mark.parametrize("config", [b"no json", b"[]"])
def test_a_config_that_cannot_be_read_is_refused(config: bytes) -> None:
    with pytest.raises(ModelDamagedError, match=r"config\.json"):
        pull(NAME, None, MemoryHub(plain(config__json=config)))


def test_an_interrupted_pull_is_no_model_and_goes_on_where_it_ended() -> None:
    hub = MemoryHub(plain(), cut_at={"model.safetensors": 5000})
    with pytest.raises(HubError):
        pull(NAME, None, hub)
    assert (pulled_names(), partial_names()) == ([], [NAME])
    with pytest.raises(ModelNotFoundError, match=f"not whole yet; run `greencode-lsp models pull {NAME}` again"):
        resolve(NAME)
    hub.fetched.clear()
    folder = pull(NAME, None, hub)
    assert hub.fetched == [("model.safetensors", 5000)]
    assert (folder / "model.safetensors").read_bytes() == plain()["model.safetensors"]


def test_a_model_is_pulled_by_one_at_a_time() -> None:
    refused: list[HubError] = []

    class Busy(MemoryHub):
        def fetch(self, repository: Repository, file: HubFile, part: Path) -> None:
            if not refused:
                with pytest.raises(HubError, match="Another process is pulling someone/small; wait") as caught:
                    pull(NAME, None, MemoryHub(plain(), commit="f" * 40))
                refused.append(caught.value)
            super().fetch(repository, file, part)

    assert (pull(NAME, None, Busy(plain())) / "model.safetensors").is_file()
    assert refused


def test_a_newer_commit_begins_anew() -> None:
    hub = MemoryHub(plain(), cut_at={"model.safetensors": 5000})
    with pytest.raises(HubError):
        pull(NAME, None, hub)
    newer = MemoryHub(plain(tokenizer__json=b"[]"), commit="f" * 40)
    assert (pull(NAME, None, newer) / "tokenizer.json").read_bytes() == b"[]"
    assert all(start == 0 for _, start in newer.fetched)


def test_a_model_that_is_here_is_not_fetched_again_and_a_newer_one_takes_its_place() -> None:
    notices: list[str] = []
    pull(NAME, None, MemoryHub(plain()))
    same = MemoryHub(plain())
    pull(NAME, None, same, notices.append)
    assert (same.fetched, notices) == ([], [f"{NAME} is here already, as the hub has it."])
    newer = MemoryHub(plain(tokenizer__json=b"[]"), commit="f" * 40)
    assert (pull(NAME, None, newer) / "tokenizer.json").read_bytes() == b"[]"


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json"])
def test_a_file_that_is_not_as_the_hub_lists_it_is_not_kept(file: str) -> None:
    hub = MemoryHub(plain(), damaged=frozenset({file}))
    with pytest.raises(HubError, match="did not come as the hub lists it"):
        pull(NAME, None, hub)
    assert not list(partial_folder(NAME).glob(file + "*"))


def test_a_disk_without_room_is_reported_before_the_weights_are_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = MemoryHub(plain())
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10))
    with pytest.raises(HubError, match=r"MB more and .* free the rest"):
        pull(NAME, None, hub)
    assert "model.safetensors" not in hub.names


def test_a_disk_that_fills_up_is_one_sentence() -> None:
    hub = MemoryHub(plain(), error=OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(HubError, match=r"cannot be written to .* \(No space left on device\)"):
        pull(NAME, None, hub)


@pytest.mark.parametrize("name", ["", "a/b/c", "../x", "a/..", "/etc", "a--b", ".hidden", "bundled", "a b", "x" * 300])
def test_what_is_no_hub_name_reaches_neither_hub_nor_disk(name: str) -> None:
    hub = MemoryHub(plain())
    assert not is_hub_name(name)
    with pytest.raises(HubError, match="is no name of a hub model"):
        pull(name, None, hub)
    assert hub.fetched == []


def test_removing_deletes_a_pulled_model_and_only_that() -> None:
    pull(NAME, None, MemoryHub(plain()))
    pull("other/model", None, MemoryHub(plain()))
    assert remove(NAME) > 10_000
    assert pulled_names() == ["other/model"]
    with pytest.raises(HubError, match=r"No model 'someone/small' was pulled; there is other/model"):
        remove(NAME)


@pytest.mark.parametrize("name", ["bundled", "../outside", "other--model"])
def test_nothing_but_a_pulled_model_can_be_removed(name: str, home: Path) -> None:
    (home / "outside").mkdir()
    with pytest.raises(HubError):
        remove(name)
    assert (home / "outside").is_dir()


def test_what_is_half_pulled_can_be_removed() -> None:
    with pytest.raises(HubError):
        pull(NAME, None, MemoryHub(plain(), cut_at={"model.safetensors": 5000}))
    assert remove(NAME) >= 5000
    assert partial_names() == []


def linked(disk: Path) -> Path:
    """Return the place of a pulled model that the user has moved to another disk and linked."""
    folder = pull(NAME, None, MemoryHub(plain()))
    shutil.move(folder, disk)
    folder.symlink_to(disk, target_is_directory=True)
    return folder


def test_removing_a_linked_model_leaves_what_it_leads_to_whole(tmp_path: Path) -> None:
    disk = tmp_path / "big disk"
    folder = linked(disk)
    before = sorted(disk.iterdir())
    assert remove(NAME) == 0
    assert not folder.is_symlink() and pulled_names() == []
    assert sorted(disk.iterdir()) == before and read_record(disk) is not None


def test_a_newer_commit_takes_the_place_of_a_link_and_not_of_what_it_leads_to(tmp_path: Path) -> None:
    disk = tmp_path / "big disk"
    folder = linked(disk)
    pull(NAME, None, MemoryHub(plain(tokenizer__json=b"[]"), commit="f" * 40))
    assert not folder.is_symlink() and (folder / "tokenizer.json").read_bytes() == b"[]"
    record = read_record(disk)
    assert record is not None and record.commit == COMMIT


def test_a_record_that_cannot_be_read_names_the_fix() -> None:
    folder = pull(NAME, None, MemoryHub(plain()))
    (folder / "pulled.json").write_text("{")
    with pytest.raises(ModelDamagedError, match="remove the model and pull it again"):
        read_record(folder)


def test_the_families_that_are_pulled_are_those_that_the_engine_runs() -> None:
    assert set(FAMILIES) == set(families.FAMILIES)
