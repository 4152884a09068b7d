"""Which brackets, strings, comments and tags are open at a place in a text that is being typed.

Whatever is wrong in the text is passed over: a string of one line ends with it, a bracket that closes nothing is
counted and kept, one that is never closed yields to the bracket around it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

from greencode_lsp.completion.languages import Language, Quote, language_of
from greencode_lsp.completion.open_frames import Frame, Role, State
from greencode_lsp.completion.scan_patterns import CLOSER, code_pattern, embedded, pattern_inside

VOID = frozenset(["area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"])
EMBEDDED = {"script": "javascript", "style": "css"}
BEFORE_REGEX = re.compile(
    r"(?:^|[(,=:\[!&|?{};+\-*%~^<>\n]|\b(?:return|typeof|case|in|of|delete|void|throw|new|else|do|yield|await))[ \t]*\Z"
)
REGEX_LITERAL = re.compile(r"/(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\[\n])+/[a-z]*")
LONGEST_LOOK = 20_000
"""Characters before a cursor that are scanned for what is open there: 10 ms."""
LOOKED_BACK = 40
"""Characters before a slash by which to decide whether a regular expression may begin there."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something opened or closed."""

    position: int
    what: Literal["open", "close", "extra", "unclosed"]
    """`extra` closes nothing; `unclosed` is a string that its line's end has ended."""
    depth: int
    """How many frames were open outside of it."""
    text: str
    is_strict: bool
    """Whether it is an error, where it is one: not for comparisons and in prose."""

    def moved(self, by: int) -> Event:
        """Return the same at another position."""
        return replace(self, position=self.position + by)


@dataclass(slots=True)
class Scan:
    """What a scan has found."""

    state: State
    lowest: int
    """The fewest frames, of those open at the beginning, that stayed open throughout."""
    events: list[Event] = field(default_factory=list)
    closed: list[Frame] = field(default_factory=list)

    @property
    def errors(self) -> int:
        """How much of it is wrong."""
        return sum(event.what in ("extra", "unclosed") for event in self.events)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Return what would close the frames that are open, those left out that may stay open."""
        return tuple(frame.closes for frame in self.state if frame.role != "weak")


def in_code(state: State) -> bool:
    """Return whether the innermost frame holds code."""
    return not state or state[-1].role in ("bracket", "weak", "element")


def columns(line: str, tab_size: int = 4) -> int:
    """Return how far a line is indented."""
    return len((line[: len(line) - len(line.lstrip(" \t"))]).expandtabs(tab_size))


def scan(text: str, language: Language, state: State = (), start: int = 0, *, is_thorough: bool = False) -> Scan:
    """Go over `text` from `start` on, where `state` is open; a state may be continued at the start of a line.

    Only a thorough scan has events for simple strings and comments.
    """
    return _Scanner(text, language, state, start, is_thorough).run()


def state_at(before: str, language_id: str) -> State:
    """Return what is open at the end of a text; of a long one the last lines are looked at."""
    start = max(0, len(before) - LONGEST_LOOK)
    start = before.find("\n", start) + 1 if start else 0
    return scan(before[start:].replace("\r\n", "\n"), language_of(language_id)).state


class _Scanner:
    def __init__(self, text: str, language: Language, state: State, start: int, is_thorough: bool) -> None:
        self._text, self._language, self._at = text, language, start
        self._stack = list(state)
        self._initial = len(state)
        self._scan = Scan(state, len(state))
        self._heredocs: list[str] = []
        self._plain = code_pattern(language, "inside" if is_thorough else "plain")
        self._strings = any(frame.role in ("string", "element") for frame in state)

    def run(self) -> Scan:
        text, end = self._text, len(self._text)
        while self._at < end:
            top = self._stack[-1] if self._stack else None
            is_plain = top is None or (top.role in ("bracket", "weak") and not self._strings)
            match = (self._plain if is_plain else pattern_inside(self._language, top)).search(text, self._at)
            if match is None:
                break
            self._at = match.end()
            self._handlers[str(match.lastgroup).rstrip("0123456789")](self, match)
        self._scan.state = tuple(self._stack)
        return self._scan

    def _event(
        self, position: int, what: Literal["open", "close", "extra", "unclosed"], text: str, **facts: bool
    ) -> None:
        strict = facts.get("strict", not self._language.is_prose)
        self._scan.events.append(Event(position, what, len(self._stack), text, strict))

    def _push(self, match: re.Match[str], closes: str, role: Role, **more: object) -> None:
        line_start = self._text.rfind("\n", 0, match.start()) + 1
        indent = columns(self._text[line_start : match.start() + 1])
        self._event(match.start(), "open", match.group())
        self._stack.append(Frame(closes, role, indent, **more))  # type: ignore[arg-type]  # fields of the frame
        self._strings = self._strings or role in ("string", "element")

    def _drop_to(self, depth: int) -> None:
        del self._stack[depth:]
        self._scan.lowest = min(self._scan.lowest, depth)
        self._strings = any(frame.role in ("string", "element") for frame in self._stack)

    def _pop_to(self, depth: int, match: re.Match[str]) -> None:
        self._scan.closed.append(self._stack[depth])
        for frame in self._stack[depth + 1 :]:
            if frame.role == "bracket":
                self._event(match.start(), "unclosed", frame.closes, strict=True)
        self._drop_to(depth)
        self._event(match.start(), "close", match.group())

    # In code

    def _on_skip(self, match: re.Match[str]) -> None:
        """Pass over what only looks like something."""

    def _on_quote(self, match: re.Match[str]) -> None:
        quote = self._quotes()[int(str(match.lastgroup).removeprefix("quote"))]
        opening = re.compile(quote.opens).match(self._text, match.start())
        closes = opening.expand(quote.closes) if opening is not None and "\\" in quote.closes else quote.closes
        outer = next((i for i in range(len(self._stack) - 1, -1, -1) if self._stack[i].role == "string"), None)
        if outer is not None:
            around = self._stack[outer].quote
            if around is not None and not around.nests and self._stack[outer].closes == closes:
                self._pop_to(outer, match)  # the string that this code stands in ends
                return
        self._push(match, closes, "string", quote=quote)

    def _quotes(self) -> tuple[Quote, ...]:
        return embedded(self._language, self._stack[-1] if self._stack else None).quotes

    def _on_comment(self, match: re.Match[str]) -> None:
        self._push(match, "\n", "comment")

    def _on_block(self, match: re.Match[str]) -> None:
        closes = dict(embedded(self._language, self._stack[-1] if self._stack else None).block_comments)
        self._push(match, closes[match.group()], "comment")

    def _on_open(self, match: re.Match[str]) -> None:
        self._push(match, CLOSER[match.group()], "weak" if self._language.is_prose else "bracket")

    def _on_generic(self, match: re.Match[str]) -> None:
        self._push(match, ">", "weak")

    def _on_close(self, match: re.Match[str]) -> None:
        bracket = match.group()
        inside = 0  # no bracket closes one outside of the string or element that it stands in
        for index, frame in enumerate(self._stack):
            if frame.role in ("string", "element"):
                inside = index + 1
        same = [index for index in range(inside, len(self._stack)) if self._stack[index].closes == bracket]
        if not same:
            is_loose = bracket == ")" and self._language.heredoc != "" and "esac" in self._language.ends
            self._event(match.start(), "extra", bracket, strict=not self._language.is_prose and not is_loose)
            return
        self._pop_to(self._opened_at(match, same), match)

    def _opened_at(self, match: re.Match[str], same: list[int]) -> int:
        """Return which opener is closed: the innermost, if the closer leads its line of those indented like it."""
        line_start = self._text.rfind("\n", 0, match.start()) + 1
        left = self._text[line_start : match.start()]
        if line_start == 0 or left.strip():
            return same[-1]
        return next((i for i in reversed(same) if self._stack[i].indent == columns(left)), same[-1])

    def _on_greater(self, match: re.Match[str]) -> None:
        if self._stack and self._stack[-1].closes == ">" and self._stack[-1].role == "weak":
            self._pop_to(len(self._stack) - 1, match)
        else:
            self._event(match.start(), "extra", ">", strict=False)

    def _on_drop(self, match: re.Match[str]) -> None:
        """Know by what follows that `<` was a comparison."""
        while self._stack and self._stack[-1].closes == ">" and self._stack[-1].role == "weak":
            self._drop_to(len(self._stack) - 1)

    def _on_slash(self, match: re.Match[str]) -> None:
        if BEFORE_REGEX.search(self._text[max(0, match.start() - LOOKED_BACK) : match.start()]):
            literal = REGEX_LITERAL.match(self._text, match.start())
            self._at = literal.end() if literal else self._at

    def _on_heredoc(self, match: re.Match[str]) -> None:
        self._heredocs.append(match.group("tag"))

    def _on_newline(self, match: re.Match[str]) -> None:
        self._on_drop(match)
        string = next((i for i, f in enumerate(self._stack) if f.quote is not None and not f.quote.spans_lines), None)
        if string is not None:  # code inside of a string of one line
            self._drop_to(string)
            self._event(match.start(), "unclosed", "\n", strict=True)
        for tag in reversed(self._heredocs):
            self._push(match, tag, "string", tag=re.compile(rf"^[ \t]*{re.escape(tag)}\b", re.MULTILINE))
        self._heredocs.clear()

    # In strings and comments

    def _on_end(self, match: re.Match[str]) -> None:
        self._pop_to(len(self._stack) - 1, match)

    def _on_escape(self, match: re.Match[str]) -> None:
        """Pass over it."""

    def _on_code(self, match: re.Match[str]) -> None:
        self._push(match, CLOSER[match.group().strip("$#\\ ")[:1]], "bracket")

    def _on_cut(self, match: re.Match[str]) -> None:
        """End a string of one line, or a comment, with the line."""
        frame = self._stack[-1]
        self._drop_to(len(self._stack) - 1)
        if frame.role == "string":
            self._event(match.start(), "unclosed", "\n", strict=True)
        self._on_newline(match)

    # In markup

    def _on_endtag(self, match: re.Match[str]) -> None:
        name = match.group()[2:-1].strip().lower()
        same = [i for i, f in enumerate(self._stack) if f.role == "element" and f.closes == f"</{name}>"]
        if same:
            self._pop_to(self._opened_at(match, same), match)
        else:
            self._event(match.start(), "extra", match.group(), strict=True)

    def _on_tag(self, match: re.Match[str]) -> None:
        self._push(match, match.group()[1:].lower(), "tag")

    def _on_tagend(self, match: re.Match[str]) -> None:
        name = self._stack[-1].closes
        self._pop_to(len(self._stack) - 1, match)
        if match.group() == ">" and name not in VOID:
            self._push(match, f"</{name}>", "element", language=EMBEDDED.get(name, ""))

    def _on_tagquote(self, match: re.Match[str]) -> None:
        self._push(
            match, match.group(), "string", quote=Quote(match.group(), match.group(), spans_lines=True, escape="")
        )

    _handlers: ClassVar[dict[str, Callable[[_Scanner, re.Match[str]], None]]] = {
        name.removeprefix("_on_"): handler for name, handler in dict(locals()).items() if name.startswith("_on_")
    }
