"""What kind of token an exit was taken at: classes by the token's own characters, and exits counted per class.

A class is read from the token's text and the character before it, without a lexer; so words inside comments and
strings count as identifiers or keywords like any others.
"""

from __future__ import annotations

import keyword
from collections import Counter
from collections.abc import Iterable

CLASSES = (
    "whitespace",
    "punctuation",
    "keyword",
    "identifier start",
    "identifier rest",
    "literal",
    "end",
)
"""`end` is a special token, such as the one that ends a completion."""

_JAVA_KEYWORDS = (
    "abstract assert boolean break byte case catch char class continue default do double else enum extends final "
    "finally float for if implements import instanceof int interface long native new package private protected public "
    "record return short static strictfp super switch synchronized this throw throws transient try var void volatile "
    "while yield"
)  # The Java Language Specification, section 3.9, less goto and const, which no program has
KEYWORDS = {
    "python": frozenset(keyword.kwlist) - {"True", "False", "None"},
    "java": frozenset(_JAVA_KEYWORDS.split()),
}
CONSTANTS = frozenset({"True", "False", "None", "true", "false", "null"})


def token_class(text: str, language: str, before: str = "") -> str:
    """Return which of CLASSES a token is, by the first character that is not a blank.

    `text` is the token decoded with its leading blanks; `before` the text before it, of which the last character tells
    a word from the rest of one. An unknown language has no keywords.
    """
    word = text.strip()
    if not word:
        return "whitespace"
    if word.startswith("<|") and word.endswith("|>"):
        return "end"
    if word[0].isalnum() or word[0] == "_":
        if not text[0].isspace() and before[-1:].replace("_", "a").isalnum():
            return "identifier rest"
        if word[0].isdigit() or word in CONSTANTS:
            return "literal"
        return "keyword" if word in KEYWORDS.get(language, ()) else "identifier start"
    return "literal" if word[0] in "\"'" else "punctuation"


def exit_histogram(classes: Iterable[str], exit_layers: Iterable[int]) -> dict[str, dict[int, int]]:
    """Return how many tokens of each class exited at each layer: classes in their order, layers ascending."""
    pairs = Counter(zip(classes, exit_layers, strict=True))
    return {
        name: {layer: pairs[name, layer] for layer in sorted({at for kind, at in pairs if kind == name})}
        for name in CLASSES
        if any(kind == name for kind, _ in pairs)
    }
