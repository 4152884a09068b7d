"""Chunks of other files: cut, chosen by what they share with the text around the cursor, and written for the model.

The rules are llama.vim's, and Copilot's for the order: chunks of a few dozen lines; the best are those that share most
identifiers with the cursor's surroundings (Jaccard index of the sets); one that is nearly another one, or much like
what is at the cursor anyway, is left out. A chunk that was chosen before keeps its place, so that the ids of a prompt
change only from the first chunk on that is another.

A library was looked for: rankers (rank-bm25) want a corpus that is indexed once, and the index of two sets is one line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from greencode_lsp.limits import OTHER_CHUNKS, OTHER_LINE_CHARACTERS
from greencode_lsp.prompt.fim import Fim
from greencode_lsp.prompt.tokenizer import CodeTokenizer

CHUNK_LINES = 24
"""At most; llama.vim has 64 and a budget of 16 chunks, which would cost more joules than a suggestion is worth."""
SHORTEST_CHUNK_LINES = 12
"""A chunk ends early where a new outermost block begins, but not sooner."""
LINES_ABOVE, LINES_BELOW = 40, 16
"""Of the cursor: its surroundings."""
LEAST_OVERLAP = 0.05
"""Of identifiers: with less in common a chunk has nothing to say."""
SAME = 0.9
"""Share of equal lines from which a chunk is another one again."""
LIKE_THE_CURSORS = 0.5
"""Share of equal lines from which a chunk says what stands at the cursor anyway."""
BUDGETS = ((0.0, 128), (0.5, 384), (1.0, 1024))
"""(preference, tokens of other files); linear in between."""
COMMENTS = {
    **dict.fromkeys(("python", "ruby", "perl", "r", "shellscript", "sh", "bash", "zsh", "yaml", "toml"), "#"),
    **dict.fromkeys(("dockerfile", "makefile", "julia", "elixir", "coffeescript", "powershell"), "#"),
    **dict.fromkeys(("lua", "sql", "haskell", "ada"), "--"),
    **dict.fromkeys(("latex", "erlang", "matlab"), "%"),
    **dict.fromkeys(("clojure", "lisp", "scheme", "ini"), ";"),
}
"""By the editor's language id; any other language has `//`, which is read as a comment whatever the language."""
CHARACTERS_PER_TOKEN = 3
"""Of code, at the least: what is chosen by characters then fits the budget of tokens, or nearly so."""
IDENTIFIER = re.compile(r"[^\W\d]\w{2,}")
BLOCK = re.compile(r"[^\s)\]}#/*]")
"""How a line of an outermost block begins."""


@dataclass(frozen=True, slots=True)
class OtherFile:
    """Another file, by its path below the workspace's folder, with `/` between folders."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some consecutive lines of another file."""

    name: str
    text: str
    """Without a line end at either end."""


def token_budget(preference: float) -> int:
    """Return how many tokens of other files a preference in 0..1 is worth."""
    for (low, fewer), (high, more) in pairwise(BUDGETS):
        if preference <= high:
            return round(fewer + (more - fewer) * (preference - low) / (high - low))
    return BUDGETS[-1][1]


@lru_cache(maxsize=2048)
def identifiers(text: str) -> frozenset[str]:
    """Return the names and words of a text, those of one or two characters left out; remembered, in memory alone."""
    return frozenset(IDENTIFIER.findall(text))


def overlap(left: frozenset[str], right: frozenset[str]) -> float:
    """Return the Jaccard index of two sets."""
    return len(left & right) / len(left | right) if left and right else 0.0


def surroundings(text: str, offset: int) -> str:
    """Return the lines around a cursor."""
    start = end = offset
    for _ in range(LINES_ABOVE):
        start = text.rfind("\n", 0, start)
        if start < 0:
            break
    for _ in range(LINES_BELOW):
        end = text.find("\n", end) + 1
        if not end:
            end = len(text)
            break
    return text[start + 1 : end]


def chunks_of(source: OtherFile) -> list[Chunk]:
    """Return a file in chunks of whole lines; those with a line of data (or minified code) are left out."""
    lines = source.text.replace("\r\n", "\n").split("\n")
    pieces = ("\n".join(lines[start:end]).strip("\n") for start, end in _cuts(lines))
    return [Chunk(source.name, piece) for piece in pieces if piece.strip() and not _is_data(piece)]


def _cuts(lines: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yield where chunks begin and end: before an outermost block that follows a blank line, where there is one."""
    start = 0
    while start < len(lines):
        end = min(start + CHUNK_LINES, len(lines))
        if end < len(lines):
            for at in range(end, start + SHORTEST_CHUNK_LINES, -1):
                if BLOCK.match(lines[at]) and not lines[at - 1].strip():
                    end = at
                    break
        yield start, end
        start = end


def _is_data(text: str) -> bool:
    return any(len(line) > OTHER_LINE_CHARACTERS for line in text.split("\n"))


def likeness(left: str, right: str) -> float:
    """Return the share of lines that two texts have in common: 1.0 for the same lines in any order."""
    ours, theirs = ({line.strip() for line in text.split("\n") if line.strip()} for text in (left, right))
    return 2 * len(ours & theirs) / (len(ours) + len(theirs)) if ours and theirs else 0.0


def choose(chunks: Sequence[Chunk], around: str, characters: int, before: Sequence[Chunk] = ()) -> tuple[Chunk, ...]:
    """Return the chunks that share most with the text around the cursor, within a number of characters.

    Equals are taken in the order given. Those chosen `before` stand first, in their old order; then the new ones, the
    best last, next to the file that is completed.
    """
    wanted = identifiers(around)
    scored = [(overlap(identifiers(chunk.text), wanted), chunk) for chunk in chunks]
    chosen: list[Chunk] = []
    for score, chunk in sorted(scored, key=lambda one: -one[0]):
        if score < LEAST_OVERLAP or len(chosen) == OTHER_CHUNKS:
            break
        size = len(chunk.name) + len(chunk.text) + 2
        if size > characters or likeness(chunk.text, around) > LIKE_THE_CURSORS:
            continue
        if any(likeness(chunk.text, other.text) > SAME for other in chosen):
            continue
        chosen.append(chunk)
        characters -= size
    kept = [chunk for chunk in before if chunk in chosen]
    return (*kept, *(chunk for chunk in reversed(chosen) if chunk not in kept))


@dataclass(frozen=True, slots=True)
class Written:
    """Other files as ids of a prompt."""

    front: tuple[int, ...] = ()
    """Before the file that is completed, where the model knows of repositories."""
    above: tuple[int, ...] = ()
    """As comments above its text, where the model does not."""

    def __len__(self) -> int:
        return len(self.front) + len(self.above)


NONE = Written()


def write(
    chunks: Sequence[Chunk], tokenizer: CodeTokenizer, fim: Fim, budget: int, repository: str = "", comment: str = "#"
) -> Written:
    """Return the chunks that fit `budget` tokens, in the model's own format for repositories, or else as comments."""
    is_apart = "file" in fim.ids
    heading: list[int] = []
    if is_apart and repository and "repository" in fim.ids:
        heading = [fim.ids["repository"], *tokenizer.encode(repository + "\n")]

    def written(chunk: Chunk) -> list[int]:
        if is_apart:
            return [fim.ids["file"], *tokenizer.encode(f"{chunk.name}\n{chunk.text}\n")]
        return tokenizer.encode(as_comment(chunk, comment))

    ids = _fitting(chunks, written, budget - len(heading))
    if not ids:
        return NONE
    return Written(front=(*heading, *ids)) if is_apart else Written(above=tuple(ids))


def comment_mark(language: str) -> str:
    """Return what a comment of one line begins with."""
    return COMMENTS.get(language, "//")


def as_comment(chunk: Chunk, comment: str) -> str:
    """Return a chunk as comments of a line each."""
    lines = [f"Path: {chunk.name}", *chunk.text.split("\n")]
    return "".join(f"{comment} {line}".rstrip() + "\n" for line in lines)


def _fitting(chunks: Sequence[Chunk], written: Callable[[Chunk], list[int]], budget: int) -> list[int]:
    """Return the ids of the chunks that fit: the last ones are the best, and are not given up for earlier ones."""
    fitting: list[list[int]] = []
    for chunk in reversed(chunks):
        ids = written(chunk)
        if len(ids) <= budget:
            fitting.append(ids)
            budget -= len(ids)
    return [token_id for ids in reversed(fitting) for token_id in ids]
