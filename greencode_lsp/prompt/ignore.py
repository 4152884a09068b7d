"""Files that are never completed: secrets by name, what the project ignores, what the user excludes (design, I6)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from pathspec import GitIgnoreSpec

from greencode_lsp.prompt.secrets import is_secret

IGNORE_FILES = (".gitignore", ".greencodeignore")
"""Read in every folder from the repository's (else the workspace's) down to the file's; the later and inner decides."""


def denied(path: str, roots: Sequence[str], exclude: Sequence[str]) -> str | None:
    """Return why a file is not completed, as the end of a sentence, or None where it may be.

    `path` is absolute, or anything for a document without a file; `roots` are the workspace's folders.
    """
    if is_secret(path):
        return "its name says that it holds secrets"
    file = Path(path)
    root = max((Path(r) for r in roots if file.is_relative_to(r)), key=lambda r: len(r.parts), default=None)
    relative = file.relative_to(root).as_posix() if root else path.lstrip("/")
    if exclude and _spec(tuple(exclude)).match_file(relative):
        return "greencode.exclude names it"
    if not file.is_absolute():
        return None
    repository = next((folder for folder in file.parents if (folder / ".git").exists()), None)
    verdict: tuple[bool, str] = (False, "")
    for ignore_file in _ignore_files(repository or root or file.parent, file):
        result = _read(ignore_file, ignore_file.stat().st_mtime_ns).check_file(file.relative_to(ignore_file.parent))
        if result.include is not None:
            verdict = result.include, f"{ignore_file.name} names it"
    return verdict[1] if verdict[0] else None


def _ignore_files(root: Path, file: Path) -> Iterator[Path]:
    """Yield the ignore files that have a say, the outermost first."""
    inner = file.relative_to(root).parent
    for folder in (*reversed(inner.parents), inner) if inner.parts else (inner,):
        for name in IGNORE_FILES:
            candidate = root / folder / name
            if candidate.is_file():
                yield candidate


@lru_cache(maxsize=256)
def _read(path: Path, modified_ns: int) -> GitIgnoreSpec:
    try:
        return _spec(tuple(path.read_text(encoding="utf8", errors="replace").splitlines()))
    except OSError:
        return _spec(())


@lru_cache(maxsize=256)
def _spec(lines: tuple[str, ...]) -> GitIgnoreSpec:
    """Return the patterns; a line that is none is left out."""
    good: list[str] = []
    for line in lines:
        try:
            GitIgnoreSpec.from_lines([line])
        except ValueError:
            continue
        good.append(line)
    return GitIgnoreSpec.from_lines(good)
