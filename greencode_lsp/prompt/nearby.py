"""Files on the disk near a document: what it imports, its test or what it tests, and its folder's others.

Names alone are looked at, and resolved where that is cheap: below the workspace's folders, by a few tries each. What is
found may be ignored, secret or a link: whoever reads it asks the rules first (prompt/ignore.py).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from greencode_lsp.limits import OTHER_ENTRIES, OTHER_FILE_BYTES, OTHER_FILES

FAMILIES = (
    (".py", ".pyi", ".pyx"),
    (".js", ".jsx", ".ts", ".tsx", ".mjs", ".cjs", ".mts", ".cts", ".vue", ".svelte"),
    (".c", ".h", ".cc", ".cpp", ".cxx", ".hpp", ".hh", ".hxx"),
    (".java", ".kt", ".scala", ".groovy"),
    (".css", ".scss", ".less"),
    (".html", ".htm", ".jinja", ".j2"),
    (".yaml", ".yml"),
    (".sh", ".bash", ".zsh"),
)
"""Extensions whose files may stand in each other's prompts; any other extension is a family by itself."""
TESTS = ("tests", "test", "__tests__", "spec")
AFFIXES = re.compile(r"(?i)\A(?:tests?[_-])?(?P<stem>.+?)(?:[._-](?:tests?|spec)|(?<=[a-z0-9])(?:Tests?|Spec|IT))?\Z")
"""Around the stem of what is tested."""
PYTHON = re.compile(r"^[ \t]*(?:from[ \t]+(\.*[\w.]*)[ \t]+import[ \t]+\(?([\w \t,]*)|import[ \t]+([\w. \t,]+))", re.M)
SCRIPT = re.compile(r"""(?:\bfrom|\bimport|\brequire\()[ \t]*["'](\.{1,2}/[^"'\n]+)["']""")
JAVA = re.compile(r"^[ \t]*import[ \t]+(?:static[ \t]+)?([\w.]+)", re.M)
JAVA_PACKAGE = re.compile(r"^[ \t]*package[ \t]+([\w.]+)", re.M)
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]+"([^"\n]+)"', re.M)
MODULE = re.compile(r"^[ \t]*(?:pub[ \t]+)?mod[ \t]+(\w+)[ \t]*;", re.M)
HEAD_CHARACTERS = 20_000
"""Imports stand at the beginning."""


def family(extension: str) -> tuple[str, ...]:
    """Return the extensions of files that may stand in each other's prompts."""
    small = extension.lower()
    return next((one for one in FAMILIES if small in one), (small,))


def root_of(path: str, roots: Sequence[str]) -> Path | None:
    """Return the innermost folder of the workspace that a file really lies in, links resolved; None for outside."""
    real = Path(os.path.realpath(path))
    inside = [Path(os.path.realpath(root)) for root in roots if root]
    return max((root for root in inside if real.is_relative_to(root)), key=lambda root: len(root.parts), default=None)


def near(path: str, text: str, roots: Sequence[str], extension: str = "") -> list[Path]:
    """Return existing files near a document, the nearest first; at most so many, none twice, not the document itself.

    `extension` is what the text would be in a file of its own, where the document's is another. Blocks on the disk.
    """
    root = root_of(path, roots)
    if root is None:
        return []
    file = Path(os.path.realpath(path))
    nearest: dict[Path, None] = {}
    for candidate in _candidates(file, text[:HEAD_CHARACTERS], root, extension or file.suffix):
        try:
            real = Path(os.path.realpath(candidate))
        except (OSError, ValueError):  # a name that no file can have
            continue
        if real != file and real not in nearest and real.is_relative_to(root) and _is_small_file(real):
            nearest[real] = None
            if len(nearest) == OTHER_FILES:
                break
    return list(nearest)


def _candidates(file: Path, head: str, root: Path, extension: str) -> Iterator[Path]:
    extensions = family(extension)
    imports = _IMPORTS.get(extensions[0])
    if imports is not None:
        yield from imports(file, head, root)
    siblings = list(_siblings(file.parent, extensions))
    stem = _stem(file.stem)
    yield from (sibling for sibling in siblings if _stem(sibling.stem) == stem)
    yield from _tests(file, stem, root, extensions)
    yield from sorted(siblings, key=_modified_ns, reverse=True)


def _siblings(folder: Path, extensions: Sequence[str]) -> Iterator[Path]:
    try:
        with os.scandir(folder) as entries:
            for entry in islice(entries, OTHER_ENTRIES):
                if os.path.splitext(entry.name)[1].lower() in extensions:  # noqa: PTH122 - of a name
                    yield Path(entry.path)
    except OSError:
        return


def _stem(name: str) -> str:
    match = AFFIXES.match(name)
    return (match["stem"] if match else name).casefold()


def _tests(file: Path, stem: str, root: Path, extensions: Sequence[str]) -> Iterator[Path]:
    """Yield files of the same stem in the folders of tests beside and above, and, of a test, in what they stand by."""
    folders = [folder for folder in (file.parent, *file.parents) if folder.is_relative_to(root)]
    places = [folder / name for folder in folders[:3] for name in TESTS]
    if file.parent.name in TESTS:
        places += [file.parent.parent, file.parent.parent / "src"]
    if folders and folders[-1] not in folders[:3]:
        places += [folders[-1] / name for name in TESTS]
    mirrored = str(file.parent).replace("/src/test/", "/src/main/") if "/src/test/" in str(file) else ""
    places += [Path(mirrored or str(file.parent).replace("/src/main/", "/src/test/"))]
    for place in places:
        yield from (sibling for sibling in _siblings(place, extensions) if _stem(sibling.stem) == stem)


def _python(file: Path, head: str, root: Path) -> Iterator[Path]:
    above = [folder for folder in file.parents if folder.is_relative_to(root)]
    for module, names, modules in PYTHON.findall(head):
        for dotted in [module] if module else [one.split()[0] for one in modules.split(",") if one.split()]:
            dots = len(dotted) - len(dotted.lstrip("."))
            if dots > len(above):
                continue
            starts = [above[dots - 1]] if dots else [*above, root / "src"]
            parts = [part for part in dotted.split(".") if part]
            for start in starts:
                place = start.joinpath(*parts)
                if parts:
                    yield place.with_name(place.name + ".py")
                    yield place / "__init__.py"
                yield from (place / f"{name.split()[0]}.py" for name in names.split(",") if name.split())


def _script(file: Path, head: str, root: Path) -> Iterator[Path]:
    for relative in SCRIPT.findall(head):
        place = file.parent / relative
        yield place
        yield from (place.with_name(place.name + extension) for extension in (".ts", ".tsx", ".js", ".jsx", ".d.ts"))
        yield from (place / f"index{extension}" for extension in (".ts", ".tsx", ".js"))


def _java(file: Path, head: str, root: Path) -> Iterator[Path]:
    package = JAVA_PACKAGE.search(head)
    depth = len(package[1].split(".")) if package else 0
    sources = file.parents[depth] if depth < len(file.parents) else file.parent
    others = [Path(str(sources).replace("/src/test/", "/src/main/"))] if "/src/test/" in f"{sources}/" else []
    for dotted in JAVA.findall(head):
        for start in (sources, *others):
            yield start.joinpath(*dotted.split(".")).with_suffix(file.suffix)


def _include(file: Path, head: str, root: Path) -> Iterator[Path]:
    for relative in INCLUDE.findall(head):
        yield from (start / relative for start in (file.parent, root, root / "include", root / "src"))


def _rust(file: Path, head: str, root: Path) -> Iterator[Path]:
    for name in MODULE.findall(head):
        for start in (file.parent, file.parent / file.stem):
            yield start / f"{name}.rs"
            yield start / name / "mod.rs"


_IMPORTS: dict[str, Callable[[Path, str, Path], Iterator[Path]]] = {
    ".py": _python,
    ".js": _script,
    ".java": _java,
    ".c": _include,
    ".rs": _rust,
}
"""By the first extension of a family; a file of Go has its package in its folder."""


def _is_small_file(path: Path) -> bool:
    try:
        return path.is_file() and path.stat().st_size <= OTHER_FILE_BYTES
    except (OSError, ValueError):
        return False


def _modified_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
