"""Which validation files are the agent's and which the calibration's."""

from __future__ import annotations

from training.data.cursors import HALVES, half_of


def rows(language: str, *packages: str) -> list[dict[str, str]]:
    return [{"language": language, "package": p, "path": f"{n}.x", "text": ""} for p in packages for n in range(4)]


def test_no_package_is_in_both_halves() -> None:
    files = rows("python", *"abcdefg") + rows("java", *"hij")
    agent, calibration = half_of(files, "agent"), half_of(files, "calibration")
    assert not {row["package"] for row in agent} & {row["package"] for row in calibration}
    assert len(agent) + len(calibration) == len(files)


def test_both_halves_hold_every_language() -> None:
    files = rows("python", "a", "b") + rows("java", "c", "d")
    for half in HALVES:
        assert {row["language"] for row in half_of(files, half)} == {"python", "java"}


def test_a_single_package_is_halved_by_file() -> None:
    files = rows("python", "a")
    agent, calibration = half_of(files, "agent"), half_of(files, "calibration")
    assert (len(agent), len(calibration)) == (2, 2)
    assert not {row["path"] for row in agent} & {row["path"] for row in calibration}
