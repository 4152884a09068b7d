"""CodeXGLUE's token streams (py150, javaCorpus) as text to learn from.

The data sets are lists of tokens between `<s>` and `</s>`, with `<EOL>` at the ends of lines and, in the place of
literals, `<STR_LIT>`, `<NUM_LIT>` or `<CHAR_LIT>`, the text behind a colon where it is common (quotes stay outside,
blanks and commas in it are `U+0020` and `U+002C`). Blanks, comments and Python's INDENT and DEDENT are gone.

py150 stays the stream that models of the data set are trained and judged on: its own lines, tokens joined by blanks,
no indentation, which cannot be had back. javaCorpus has no line ends: a line ends with `;`, `{` and `}`, blanks come
back by the usual style and indentation by the braces.

The splits are the hub's own; py150 has no validation split, so some of its training repositories are kept for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from greencode_lsp.errors import CorpusError
from training.data.archives import SUFFIXES
from training.data.packages import Split

DATASET = "google/code_x_glue_cc_code_completion_token"
SPLITS: dict[str, tuple[Split, ...]] = {"python": ("train",), "java": ("train", "validation")}
"""Of the hub's, those that are used; its test splits are for tests."""
INDENT = "    "
_LITERAL = re.compile(r"<(STR|NUM|CHAR)_LIT(?::(.*?))?>(?=[\"']*\Z)", re.DOTALL)
_STAND_INS = {"STR": "", "NUM": "0", "CHAR": "x"}
_WORD_END = re.compile(r"[\w\"')\]}]\Z")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_TIGHT_BEFORE = _words(") ] , : ; .")
_TIGHT_AFTER = _words("( [ . @ ~ !")
_KEYWORDS = _words("assert case catch do else for if return switch synchronized throw try while")
_AFTER_BRACE = _words("; , ) . else catch finally while")


def with_literals(token: str) -> str:
    """Return the token with its placeholder filled: the text behind the colon, or else a stand-in of that kind."""

    def fill(match: re.Match[str]) -> str:
        text = _STAND_INS[match[1]] if match[2] is None else match[2]
        return text.replace("U+0020", " ").replace("U+002C", ",")

    return _LITERAL.sub(fill, token)


def lines_of(tokens: Iterable[str]) -> list[list[str]]:
    """Return the tokens line by line, literals filled in, without marks and empty lines."""
    lines: list[list[str]] = [[]]
    for token in tokens:
        if token == "<EOL>":
            lines.append([])
        elif token not in ("<s>", "</s>", ""):
            lines[-1].append(with_literals(token))
    return [line for line in lines if line]


def _java_lines(tokens: Sequence[str]) -> list[list[str]]:
    """Return the tokens line by line; without line ends in the stream, statements and blocks end them.

    What stands in brackets goes on, as in a `for`; so does what follows a closing brace and belongs to it.
    """
    lines = lines_of(tokens)
    if len(lines) != 1:
        return lines
    broken: list[list[str]] = [[]]
    depth = 0
    for token, following in zip(lines[0], [*lines[0][1:], ""], strict=True):
        broken[-1].append(token)
        depth += (token in ("(", "[")) - (token in (")", "]"))
        goes_on = token == "}" and following in _AFTER_BRACE
        if (token in (";", "{", "}") and depth <= 0 and not goes_on) or _ends_annotation(broken[-1], following):
            broken.append([])
    return [line for line in broken if line]


def _ends_annotation(line: Sequence[str], following: str) -> bool:
    """Say whether a line holds an annotation without arguments, as `@ Override`."""
    return len(line) == 2 and line[0] == "@" and line[1] != "interface" and following not in ("(", ".")


def _is_tight(left: str, right: str) -> bool:
    """Say whether no blank stands between two tokens of Java."""
    if right in ("(", "["):
        return left not in _KEYWORDS and bool(_WORD_END.search(left))
    if right in _TIGHT_BEFORE:
        return left not in _KEYWORDS or right != "."
    if left in _TIGHT_AFTER or (left in ("++", "--") and right not in ("=", "+", "-")):
        return True
    generic = (left[:1].isupper() and right == "<") or (left == "<" and right[:1].isupper())
    return generic or (right in (">", "++", "--") and bool(_WORD_END.search(left)))


def join(tokens: Sequence[str]) -> str:
    """Return one line of Java with blanks where the usual style has them."""
    text, left = "", ""
    for token in tokens:
        text += token if not left or _is_tight(left, token) else " " + token
        left = token
    return text


def python_stream(tokens: Iterable[str]) -> str:
    """Return py150's tokens joined by blanks, line by line, without indentation."""
    return "".join(" ".join(line) + "\n" for line in lines_of(tokens))


def java_source(tokens: Iterable[str]) -> str:
    """Return Java source for javaCorpus' tokens."""
    text, depth = "", 0
    for line in _java_lines(list(tokens)):
        closed_first = len(line) - len("".join(line).lstrip("}")) if line[0] == "}" else 0
        leading = 1 if closed_first or line[0] == "}" else 0
        text += INDENT * max(depth - leading, 0) + join(line) + "\n"
        depth = max(depth + line.count("{") - line.count("}"), 0)
    return text


def members(language: str, split: Split = "train") -> Iterator[tuple[str, bytes]]:
    """Yield `package/file` and content of one of the hub's splits, from there or its cache.

    py150 names the repository of each file; javaCorpus does not, and is one package a split. Raises CorpusError without
    a network.
    """
    try:
        import datasets

        rows = datasets.load_dataset(DATASET, language, split=split)
    except Exception as error:  # the hub's errors have no common class
        raise CorpusError(
            f"CodeXGLUE's {language} data cannot be loaded ({type(error).__name__}: {str(error).splitlines()[0]}); "
            "connect to a network, or take the source out of the manifest."
        ) from error
    whole = "javacorpus" if split == "train" else f"javacorpus-{split}"
    for number, row in enumerate(rows):
        source = python_stream(row["code"]) if language == "python" else java_source(row["code"])
        # py150: (data/)owner/repository/...
        package = "--".join(row["path"].removeprefix("data/").split("/")[:2]) if row.get("path") else whole
        yield f"{package}/{number:07}{SUFFIXES[language]}", source.encode()
