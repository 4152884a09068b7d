"""What has its name is whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.whole_files import whole_folder, write_json


def test_a_folder_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    for content in ("old", "new"):
        with whole_folder(tmp_path / "made") as part:
            (part / content).write_text(content)
            assert not (tmp_path / "made" / content).exists()
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["new"]


def test_an_exception_keeps_the_folder_before_and_no_part(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "made") as part:
        (part / "old").touch()
    with pytest.raises(KeyboardInterrupt), whole_folder(tmp_path / "made") as part:
        (part / "new").touch()
        raise KeyboardInterrupt
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == ["made", "made/old"]


def test_what_a_killed_process_left_is_not_in_the_next_folder(tmp_path: Path) -> None:
    (tmp_path / "made.part").mkdir()
    (tmp_path / "made.part" / "half").touch()
    with whole_folder(tmp_path / "made"):
        pass
    assert list((tmp_path / "made").iterdir()) == []


def test_other_users_may_read_a_file(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": 1})
    assert (tmp_path / "a.json").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "a.json").read_text() == '{\n "a": 1\n}'
