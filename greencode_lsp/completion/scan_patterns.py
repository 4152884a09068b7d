"""What a scan looks for, as regular expressions: by language, and by what is open."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal

from greencode_lsp.completion.languages import LANGUAGES, Language, Quote
from greencode_lsp.completion.open_frames import Frame

CLOSER = {"(": ")", "[": "]", "{": "}", "<": ">"}
OPENER = {closer: opener for opener, closer in CLOSER.items()}


def embedded(language: Language, top: Frame | None) -> Language:
    """Return the language of the code inside of a frame."""
    return LANGUAGES[top.language] if top is not None and top.language else language


@lru_cache(maxsize=512)
def pattern_inside(language: Language, top: Frame | None) -> re.Pattern[str]:
    """Return what is looked for inside of a frame."""
    if top is None or top.role in ("bracket", "weak", "element"):
        return code_pattern(embedded(language, top), "embedded" if top is not None and top.language else "inside")
    if top.role == "comment":
        return _COMMENT if top.closes == "\n" else re.compile(f"(?P<end>{re.escape(top.closes)})")
    if top.role == "tag":
        return _TAG
    if top.tag is not None:
        return re.compile(f"(?P<end>{top.tag.pattern})", re.MULTILINE)
    quote = top.quote or Quote(top.closes, top.closes)
    pieces = [f"(?P<escape>{re.escape(quote.escape)}[^\\n]|{{{{)" if quote.interpolation == "{" else ""]
    if not pieces[0] and quote.escape:
        pieces[0] = f"(?P<escape>{re.escape(quote.escape)}[^\\n])"
    pieces.append(f"(?P<end>{re.escape(top.closes)})")
    if quote.interpolation:
        pieces.append(f"(?P<code>{re.escape(quote.interpolation)})")
    if not quote.spans_lines:
        pieces.append(r"(?P<cut>\n)")
    return re.compile("|".join(piece for piece in pieces if piece))


_COMMENT = re.compile(r"(?P<cut>\n)")
_TAG = re.compile(r"(?P<tagquote>[\"'])|(?P<tagend>/?>)")


@lru_cache(maxsize=128)
def code_pattern(language: Language, where: Literal["plain", "inside", "embedded"]) -> re.Pattern[str]:
    """Return what is looked for in code; where no string is around it, comments and strings are passed over whole."""
    if language.is_markup:
        comments = "|".join(re.escape(opens) for opens, _ in language.block_comments)
        return re.compile(
            rf"(?P<block>{comments})|(?P<endtag></[\w:.-]+\s*>)|(?P<skip><[!?][^>]*>)|(?P<tag><[A-Za-z][\w:.-]*)"
        )
    pieces = [r"(?P<endtag></(?:script|style)\s*>)"] if where == "embedded" else []
    if language.skipped:
        pieces.append(f"(?P<skip>{language.skipped})")
    if language.heredoc:
        pieces.append(f"(?P<heredoc>{language.heredoc})")
    if where == "plain" and language.line_comments:
        pieces.append(f"(?P<skip8>(?:{'|'.join(language.line_comments)})[^\\n]*(?=\\n))")
    plain = {quote.opens for quote in language.quotes} & {'"', "'"} if where == "plain" else set()
    simple = "|".join(rf"(?<![\w$@]){q}(?!{q}{q})[^{q}\\\n$#{{]*{q}" for q in sorted(plain))
    if simple:
        pieces.append(f"(?P<skip7>{simple})")
    pieces += [f"(?P<quote{index}>{_uncaptured(quote.opens)})" for index, quote in enumerate(language.quotes)]
    if language.block_comments:
        pieces.append(f"(?P<block>{'|'.join(re.escape(opens) for opens, _ in language.block_comments)})")
    if language.line_comments:
        pieces.append(f"(?P<comment>{'|'.join(language.line_comments)})")
    if language.has_regex:
        pieces.append(r"(?P<slash>/)")
    if language.has_generics:
        pieces.append(r"(?P<skip9>[-=]>|[<>]=|<<)|(?P<generic>(?<=[\w:])<(?=[\w\s?&'>\[({:]|\Z)(?!\s))")
        pieces.append(r"(?P<greater>>)|(?P<drop>&&|\|\||;)")
    if language.brackets:
        opening = "".join(re.escape(b) for b in language.brackets if b in CLOSER)
        closing = "".join(re.escape(b) for b in language.brackets if b in OPENER)
        pieces.append(f"(?P<open>[{opening}])|(?P<close>[{closing}])")
    if where != "plain" or language.heredoc or language.has_generics:
        pieces.append(r"(?P<newline>\n)")
    return re.compile(rf"(?=[^\w \t])(?:{'|'.join(pieces)})", re.MULTILINE)


def _uncaptured(pattern: str) -> str:
    """Return a pattern whose groups do not count."""
    return re.sub(r"(?<!\\)\((?!\?)", "(?:", pattern)
