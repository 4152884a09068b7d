"""Files from outside are opened safely; files of ours are whole and private; caches are verified and built once."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import stat
from pathlib import Path

import pytest

from greencode_lsp import cache_folder, files
from greencode_lsp.cache_folder import CacheFolder
from greencode_lsp.errors import CacheError, ModelDamagedError
from greencode_lsp.files import UnsafeFileError

pytestmark = pytest.mark.skipif(os.name != "posix", reason="links, devices and modes as POSIX has them")
LIMIT = 1000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "whole").write_bytes(b"content")
    (tmp_path / "outside").write_bytes(b"secret")
    return tmp_path / "folder"


@pytest.fixture
def cache(tmp_path: Path) -> CacheFolder:
    return CacheFolder("graphs", keep=2, home=tmp_path / "cache")


@pytest.fixture
def no_umask() -> object:
    before = os.umask(0)
    yield
    os.umask(before)


def fill(folder: Path) -> None:
    (folder / "graph.onnx").write_bytes(b"graph")
    (folder / "weights.bin").write_bytes(b"w" * 5000)


def refuse(folder: Path) -> None:
    raise AssertionError("built again")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_a_regular_file_is_read(folder: Path) -> None:
    assert files.read_regular(folder, "whole", max_bytes=LIMIT) == b"content"


def test_a_link_inside_the_folder_is_read(folder: Path) -> None:
    (folder / "link").symlink_to("whole")
    assert files.read_regular(folder, "link", max_bytes=LIMIT) == b"content"


def test_a_link_that_leads_out_is_refused(folder: Path) -> None:
    (folder / "link").symlink_to("../outside")
    with pytest.raises(UnsafeFileError, match="leads out"):
        files.read_regular(folder, "link", max_bytes=LIMIT)


def test_a_link_below_a_wider_root_is_read_as_in_the_hubs_cache(folder: Path) -> None:
    (folder / "link").symlink_to("../outside")
    assert files.read_regular(folder, "link", max_bytes=LIMIT, root=folder.parent) == b"secret"


def test_a_folder_that_is_itself_a_link_is_the_users_choice(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    assert files.read_regular(tmp_path / "link", "whole", max_bytes=LIMIT) == b"content"


def test_a_fifo_is_refused_without_waiting(folder: Path) -> None:
    os.mkfifo(folder / "fifo")
    with pytest.raises(UnsafeFileError, match="no regular file"):
        files.open_regular(folder, "fifo", max_bytes=LIMIT)


def test_a_device_is_refused(folder: Path) -> None:
    (folder / "zero").symlink_to("/dev/zero")
    with pytest.raises(UnsafeFileError):
        files.open_regular(folder, "zero", max_bytes=LIMIT, root=Path("/"))


def test_a_folder_is_no_file(folder: Path) -> None:
    (folder / "inner").mkdir()
    with pytest.raises(UnsafeFileError, match="no regular file"):
        files.open_regular(folder, "inner", max_bytes=LIMIT)


def test_a_file_of_more_bytes_than_are_read_is_refused(folder: Path) -> None:
    with pytest.raises(UnsafeFileError, match="7 bytes"):
        files.read_regular(folder, "whole", max_bytes=6)


@pytest.mark.parametrize(
    "name", ["../outside", "/etc/passwd", "..", ".", "", "a/b", "a\\b", "c:x", "a\0b", "a\nb", "n" * 256, 5, None]
)
def test_a_name_that_is_no_plain_name_is_refused(folder: Path, name: object) -> None:
    assert not files.is_plain_name(name)
    with pytest.raises(UnsafeFileError, match="no plain file name"):
        files.open_regular(folder, name, max_bytes=LIMIT)  # type: ignore[arg-type]  # as JSON may have it


@pytest.mark.parametrize("name", ["model-00001-of-00002.safetensors", "tokenizer.json", ".hidden", "größe x.gguf"])
def test_ordinary_names_are_plain(name: str) -> None:
    assert files.is_plain_name(name)


def test_a_file_is_written_whole_and_for_its_owner_alone(folder: Path, no_umask: object) -> None:
    files.atomic_write(folder / "new", b"data")
    assert (folder / "new").read_bytes() == b"data"
    assert mode(folder / "new") == 0o600
    assert {path.name for path in folder.iterdir()} == {"new", "whole"}


def test_writing_replaces_a_link_and_leaves_what_it_leads_to(folder: Path) -> None:
    (folder / "link").symlink_to("../outside")
    files.atomic_write(folder / "link", b"data")
    assert (folder.parent / "outside").read_bytes() == b"secret"
    assert not (folder / "link").is_symlink()


def test_appending_goes_on_after_what_is_there(folder: Path) -> None:
    with files.open_to_append(folder / "whole") as file:
        file.write(b"!")
    assert (folder / "whole").read_bytes() == b"content!"


@pytest.mark.parametrize(
    "make", [lambda p: p.symlink_to("../outside"), lambda p: p.hardlink_to(p.parent.parent / "outside"), os.mkfifo]
)
def test_nothing_is_appended_to_a_link_or_a_fifo(folder: Path, make: object) -> None:
    make(folder / "part")  # type: ignore[operator]  # one of the three above
    with pytest.raises(UnsafeFileError):
        files.open_to_append(folder / "part")
    assert (folder.parent / "outside").read_bytes() == b"secret"


def test_a_private_folder_and_those_above_it_are_the_owners_alone(tmp_path: Path, no_umask: object) -> None:
    files.make_private(tmp_path / "a" / "b")
    assert (mode(tmp_path / "a"), mode(tmp_path / "a" / "b")) == (0o700, 0o700)


def test_a_wide_folder_is_narrowed(folder: Path) -> None:
    folder.chmod(0o777)
    assert mode(files.make_private(folder)) == 0o700


def test_a_link_is_no_private_folder(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(UnsafeFileError, match="no folder of its own"):
        files.make_private(tmp_path / "link")


def test_an_entry_is_built_once_and_found_again(cache: CacheFolder) -> None:
    assert cache.read("key") is None
    built = cache.build("key", fill)
    assert cache.build("key", refuse) == cache.read("key") == cache.read("key", verify=True) == built
    assert (built / "graph.onnx").read_bytes() == b"graph"


def test_an_entry_is_private_whatever_the_umask(cache: CacheFolder, no_umask: object) -> None:
    entry = cache.build("key", fill)
    folders = (entry, entry.parent, entry.parent.parent)
    assert [mode(path) for path in folders] == [0o700] * 3
    assert {mode(path) for path in entry.iterdir()} == {0o600}


def truncate(entry: Path) -> None:
    os.truncate(entry / "weights.bin", 100)


def change(entry: Path) -> None:
    (entry / "graph.onnx").write_bytes(b"other")
    os.utime(entry / "graph.onnx", (1, 1))


def plant(entry: Path) -> None:
    (entry / "planted.so").write_bytes(b"")


def swap(entry: Path) -> None:
    (entry / "graph.onnx").unlink()
    (entry / "graph.onnx").symlink_to("/etc/passwd")


def unrecord(entry: Path) -> None:
    (entry / cache_folder.RECORD_NAME).write_text("{")


def nest(entry: Path) -> None:
    (entry / cache_folder.RECORD_NAME).write_text("[" * 100_000)


def widen(entry: Path) -> None:
    (entry / "graph.onnx").chmod(0o666)


def lose(entry: Path) -> None:
    (entry / "graph.onnx").unlink()


@pytest.mark.parametrize("damage", [truncate, change, plant, swap, unrecord, nest, widen, lose])
def test_an_entry_that_is_not_as_it_was_built_is_built_again(cache: CacheFolder, damage: object) -> None:
    entry = cache.build("key", fill)
    damage(entry)  # type: ignore[operator]  # one of those above
    assert cache.read("key") is None
    assert (cache.build("key", fill) / "graph.onnx").read_bytes() == b"graph"
    assert {path.name for path in entry.iterdir()} == {"graph.onnx", "weights.bin", cache_folder.RECORD_NAME}


def test_a_damage_that_keeps_size_and_time_is_found_by_a_full_look(cache: CacheFolder) -> None:
    path = cache.build("key", fill) / "graph.onnx"
    status = path.stat()
    path.write_bytes(b"GRAPH")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert cache.read("key", verify=True) is None


def test_an_entry_that_was_only_copied_is_still_good(cache: CacheFolder) -> None:
    entry = cache.build("key", fill)
    os.utime(entry / "graph.onnx", (1, 1))
    assert cache.read("key") == entry


def test_what_lay_in_a_folder_that_others_could_write_to_is_not_believed(cache: CacheFolder) -> None:
    cache.build("key", fill)
    cache.folder.chmod(0o777)
    assert cache.read("key") is None
    (cache.folder / "planted").mkdir()
    assert cache.build("key", fill).is_dir()
    assert mode(cache.folder) == 0o700
    assert not (cache.folder / "planted").exists()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give a file away")
def test_a_cache_folder_of_another_user_is_refused(cache: CacheFolder) -> None:
    cache.build("key", fill)
    os.chown(cache.folder, 12345, 12345)
    assert cache.read("key") is None
    with pytest.raises(CacheError, match="GREENCODE_CACHE"):
        cache.build("key", fill)


def test_a_link_in_the_caches_place_is_refused(cache: CacheFolder, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    cache.folder.parent.mkdir()
    cache.folder.symlink_to(tmp_path / "theirs")
    with pytest.raises(CacheError):
        cache.build("key", fill)
    assert not list((tmp_path / "theirs").iterdir())


def test_a_failed_build_leaves_nothing(cache: CacheFolder) -> None:
    def fail(folder: Path) -> None:
        fill(folder)
        raise ModelDamagedError("no")

    with pytest.raises(ModelDamagedError):
        cache.build("key", fail)
    assert [path.name for path in cache.folder.iterdir() if not path.name.endswith(".lock")] == []


def test_a_full_disk_is_one_sentence(cache: CacheFolder) -> None:
    def fail(folder: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(CacheError, match=r"free some space, or set GREENCODE_CACHE"):
        cache.build("key", fail)


def test_an_error_of_what_is_read_is_no_error_of_the_cache(cache: CacheFolder) -> None:
    def fail(folder: Path) -> None:
        raise FileNotFoundError("model")

    with pytest.raises(FileNotFoundError):
        cache.build("key", fail)


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match="make it yours and writable"):
        CacheFolder("graphs", home=tmp_path / "file").build("key", fill)


def test_what_a_killed_build_left_is_deleted(cache: CacheFolder) -> None:
    cache.build("other", fill)
    stale = cache.folder / ".part-key-abc"
    stale.mkdir()
    fill(stale)
    cache.build("key", fill)
    assert not stale.exists()


def test_entries_used_longest_ago_are_deleted(cache: CacheFolder) -> None:
    for key, used_s in (("first", 300), ("second", 200)):
        os.utime(cache.build(key, fill), (used_s, used_s))
    assert cache.read("first")
    cache.build("third", fill)
    assert [cache.read(key) is not None for key in ("first", "second", "third")] == [True, False, True]


def test_removing_an_entry_forgets_it(cache: CacheFolder) -> None:
    cache.build("key", fill)
    cache.remove("key")
    cache.remove("key")
    assert cache.read("key") is None


@pytest.mark.parametrize("key", ["../x", "", ".x", "a/b", "k" * 129])
def test_a_key_is_a_plain_name(cache: CacheFolder, key: str) -> None:
    with pytest.raises(ValueError, match="cannot be the key"):
        cache.read(key)


def test_the_environment_names_the_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GREENCODE_CACHE", str(tmp_path / "elsewhere"))
    assert CacheFolder("graphs").folder == tmp_path / "elsewhere" / "graphs"


def _build_and_count(home: Path, begin: object) -> None:
    def make(folder: Path) -> None:
        with files.open_to_append(home / "builds") as file:
            file.write(b"x")
        fill(folder)

    begin.wait()  # type: ignore[attr-defined]  # a barrier
    CacheFolder("graphs", home=home).build("key", make)


def test_of_processes_that_want_the_same_entry_one_builds_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    begin = context.Barrier(3)
    processes = [context.Process(target=_build_and_count, args=(tmp_path, begin)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert (tmp_path / "builds").read_bytes() == b"x"


def test_the_record_names_size_time_and_hash(cache: CacheFolder) -> None:
    record = json.loads((cache.build("key", fill) / cache_folder.RECORD_NAME).read_text())
    assert set(record["files"]["weights.bin"]) == {"size", "mtime_ns", "sha256"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\ttext\r\nnext", "plain\ttext\r\nnext"),
        ("\x1b[2J\x1b]0;title\x07", "\\x1b[2J\\x1b]0;title\\x07"),
        ("over\rwritten", "over\\x0dwritten"),
        ("\x9b31m\x7f\0", "\\x9b31m\\x7f\\x00"),
        ("left\u202eright", "left\\x202eright"),
        ("größe 漢", "größe 漢"),
    ],
)
def test_what_a_terminal_obeys_is_shown_and_not_obeyed(text: str, shown: str) -> None:
    assert files.harmless(text) == shown
