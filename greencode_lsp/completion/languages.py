r"""What the scanner and the filters know of each language: data alone.

A lexer library was weighed: pygments gives tokens of whole files but no state at a cursor, takes 20 to 50 ms for what
is looked at here after every token, and gives up on a line at the first unclosed string; the grammars of tree-sitter
would be 17 more wheels. What is asked is little: which brackets and strings are open at a place.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

FORMATTED = r"(?:(?<=\b[fFtT])|(?<=\b[fFtT][rR])|(?<=\b[rR][fFtT]))"
"""What stands before a Python string with code inside."""


@dataclass(frozen=True, slots=True)
class Quote:
    """A kind of string."""

    opens: str
    """A pattern."""
    closes: str
    """Its end; with `\\1` it is expanded from the opening's groups."""
    spans_lines: bool = False
    escape: str = "\\"
    """The character that takes the next one's meaning; empty for none."""
    interpolation: str = ""
    """What begins code inside of it: `{`, `${`, `#{`, `$(`."""
    nests: bool = True
    """Whether that code may hold strings of the same kind."""


@dataclass(frozen=True, slots=True, eq=False)
class Language:
    """How a language is written."""

    line_comments: tuple[str, ...] = ("//",)
    """Patterns."""
    block_comments: tuple[tuple[str, str], ...] = (("/*", "*/"),)
    quotes: tuple[Quote, ...] = ()
    skipped: str = ""
    """A pattern of what looks like a quote, a comment or a bracket and is none.

    Like all patterns here it begins with neither a word character nor a blank: those are passed over at speed.
    """
    heredoc: str = ""
    """A pattern whose group `tag` ends the text that begins on the next line."""
    has_generics: bool = False
    """Whether `<` right after a word is a bracket."""
    has_regex: bool = False
    """Whether `/` may begin a regular expression."""
    is_markup: bool = False
    """Whether tags nest."""
    is_prose: bool = False
    """Whether brackets may stand alone."""
    brackets: str = "()[]{}"
    opener: str = r"\{"
    """A pattern of how a line ends that opens a block."""
    statement: str = ""
    """Where it is given: how the statement begins that such a line ends."""
    ends: tuple[str, ...] = ()
    """Words that close a block on a line of their own."""
    ends_in_semicolon: bool = True
    """Whether a line of code may end so."""
    unit: str = "    "
    """Of indentation, where the file shows none."""


def _single(interpolation: str = "", *, nests: bool = True, escape: str = "\\") -> tuple[Quote, ...]:
    return (Quote('"', '"', escape=escape, interpolation=interpolation, nests=nests), Quote("'", "'", escape=escape))


PYTHON = Language(
    line_comments=("#",),
    block_comments=(),
    quotes=(
        *(Quote(FORMATTED + q, q, spans_lines=True, interpolation="{", nests=False) for q in ('"""', "'''")),
        *(Quote(q, q, spans_lines=True) for q in ('"""', "'''")),
        *(Quote(FORMATTED + q, q, interpolation="{", nests=False) for q in ('"', "'")),
        *(Quote(q, q) for q in ('"', "'")),
    ),
    opener=":",
    statement=r"(?:(?:async\s+)?(?:def|for|with)|if|elif|while|except\*?|class|match|case)\b\s*\S.*:|"
    r"(?:else|try|finally|except)\s*:",
    ends_in_semicolon=False,
)
C = Language(
    quotes=_single(),
    skipped=r"(?<=[0-9a-fA-F])'(?=[0-9a-fA-F])|(?<=#include )<[^>\n]*>",
    opener=r"\{|\b(?:case\b[^?]*|default|public|private|protected)\s*:",
)
CPP = replace(
    C, quotes=(Quote(r'(?<=R)"([^(\s]{0,16})\(', r')\1"', spans_lines=True, escape=""), *C.quotes), has_generics=True
)
JAVA = Language(
    quotes=(Quote('"""', '"""', spans_lines=True), *_single()),
    has_generics=True,
    opener=r"\{|^\s*(?:case\b[^?]*|default)\s*(?::|->)",
)
CSHARP = replace(
    JAVA,
    quotes=(
        Quote(r'\$?@\$?"', '"', spans_lines=True, escape="", interpolation=""),
        Quote('"""', '"""', spans_lines=True, escape=""),
        Quote(r'\$"', '"', interpolation="{"),
        *_single(),
    ),
)
JAVASCRIPT = Language(
    quotes=(*_single(), Quote("`", "`", spans_lines=True, interpolation="${")),
    has_regex=True,
    opener=r"\{|^\s*(?:case\b[^?]*|default)\s*:",
    unit="  ",
)
TYPESCRIPT = replace(JAVASCRIPT, has_generics=True)
GO = Language(
    quotes=(*_single(), Quote("`", "`", spans_lines=True, escape="")),
    opener=r"\{|^\s*(?:case\b.*|default)\s*:",
    ends_in_semicolon=False,
    unit="\t",
)
RUST = Language(
    quotes=(
        Quote(r'(?:(?<=\br)|(?<=\bbr))(#*)"', r'"\1', spans_lines=True, escape=""),
        Quote('"', '"', spans_lines=True),
    ),
    skipped=r"'(?:\\[^\n]{1,9}?|[^\\'\n])'|'(?=\w)",
    has_generics=True,
)
PHP = Language(
    line_comments=("//", r"#(?!\[)"),
    quotes=(Quote('"', '"', interpolation="{$"), Quote("'", "'")),
    heredoc=r"<<<[ \t]*[\"']?(?P<tag>\w+)[\"']?",
    skipped=r"\?->",
    opener=r"\{|^\s*(?:case\b.*|default)\s*:",
)
RUBY = Language(
    line_comments=("#",),
    block_comments=(),
    quotes=(*_single("#{"), Quote("`", "`", interpolation="#{")),
    skipped=r"\?['\"#](?=\W)|(?<=\$)['\"`]",
    heredoc=r"<<[~-]?[\"'`]?(?P<tag>[A-Z_]\w*)[\"'`]?",
    has_regex=True,
    opener=r"\{(?:\s*\|[^|]*\|)?|\bdo(?:\s*\|[^|]*\|)?|^\s*(?:def|class|module|if|elsif|unless|while|until|case|when|for|rescue)\b.*"
    r"|^\s*(?:begin|else|ensure|rescue)",
    ends=("end",),
    ends_in_semicolon=False,
    unit="  ",
)
SHELL = Language(
    line_comments=(r"(?:^|(?<=[\s;(]))#",),
    block_comments=(),
    quotes=(
        Quote('"', '"', spans_lines=True, interpolation="$("),
        Quote("'", "'", spans_lines=True, escape=""),
        Quote("`", "`"),
    ),
    skipped=r"\\.|<<<|\$[#?]|\$\{[^}\n]*\}",
    heredoc=r"<<-?\s*[\"']?(?P<tag>\w+)[\"']?",
    opener=r"\{|\b(?:then|do|else)|\bcase\b.*\bin|^[^()]*\)",
    ends=("fi", "done", "esac"),
)
SQL = Language(
    line_comments=("--",), quotes=(*_single(escape=""), Quote("`", "`")), opener=r"\b(?:BEGIN|begin|THEN|then)"
)
CSS = Language(line_comments=(), quotes=_single(), unit="  ")
YAML = Language(
    line_comments=(r"(?:^|(?<=\s))#",),
    block_comments=(),
    quotes=(Quote(r'(?:^|(?<=[\s,:\[{(-]))"', '"'), Quote(r"(?:^|(?<=[\s,:\[{(-]))'", "'", escape="")),
    opener=r"^\s*(?:-\s+)*[^\s#\[{\"'][^#\"'\[{]*:|:\s*[|>][+-]?",
    ends_in_semicolon=False,
    unit="  ",
)
MARKUP = Language(
    line_comments=(),
    block_comments=(("<!--", "-->"),),
    is_markup=True,
    is_prose=True,
    brackets="",
    opener=r"<[A-Za-z][^<>]*(?<![/-])>",
    unit="  ",
)
PROSE = Language(
    line_comments=(),
    block_comments=(("<!--", "-->"),),
    is_prose=True,
    opener=r"(?!)",
    ends_in_semicolon=True,
    unit="  ",
)
LUA = Language(
    line_comments=(r"--(?!\[=*\[)",),
    block_comments=(("--[[", "]]"),),
    quotes=(Quote(r"\[(=*)\[", r"]\1]", spans_lines=True, escape=""), *_single()),
    opener=r"\b(?:then|do|else|repeat)|\bfunction\b[^()]*\([^()]*\)",
    ends=("end",),
)
JSON = Language(line_comments=("//",), quotes=(Quote('"', '"'),), opener=r"[{\[]", unit="  ")
KOTLIN = replace(JAVA, quotes=(Quote('"""', '"""', spans_lines=True, escape=""), *_single("${")))
SWIFT = replace(KOTLIN, quotes=(Quote('"""', '"""', spans_lines=True), Quote('"', '"', interpolation="\\(")))
HASKELL = Language(
    line_comments=("--",), block_comments=(("{-", "-}"),), quotes=(Quote('"', '"'),), skipped=r"'(?:\\.[^']*|[^\\'])'"
)
R = Language(line_comments=("#",), block_comments=(), quotes=_single(), ends_in_semicolon=False, unit="  ")
SCALA = replace(
    KOTLIN, skipped=r"'(?=\w+\b(?!'))", quotes=(Quote('"""', '"""', spans_lines=True, escape=""), *_single("${"))
)

LANGUAGES: dict[str, Language] = {
    "python": PYTHON,
    "java": JAVA,
    "javascript": JAVASCRIPT,
    "javascriptreact": JAVASCRIPT,
    "typescript": TYPESCRIPT,
    "typescriptreact": TYPESCRIPT,
    "go": GO,
    "rust": RUST,
    "c": C,
    "cpp": CPP,
    "csharp": CSHARP,
    "php": PHP,
    "ruby": RUBY,
    "shellscript": SHELL,
    "sh": SHELL,
    "bash": SHELL,
    "zsh": SHELL,
    "sql": SQL,
    "html": MARKUP,
    "xml": MARKUP,
    "vue": MARKUP,
    "svelte": MARKUP,
    "css": CSS,
    "scss": replace(CSS, line_comments=("//",)),
    "less": replace(CSS, line_comments=("//",)),
    "yaml": YAML,
    "dockercompose": YAML,
    "markdown": PROSE,
    "plaintext": PROSE,
    "latex": replace(PROSE, line_comments=("%",), block_comments=()),
    "lua": LUA,
    "json": JSON,
    "jsonc": JSON,
    "kotlin": KOTLIN,
    "swift": SWIFT,
    "scala": SCALA,
    "dart": replace(JAVA, quotes=(Quote('"""', '"""', spans_lines=True), *_single("${"))),
    "haskell": HASKELL,
    "r": R,
    "julia": replace(
        R, quotes=(Quote('"""', '"""', spans_lines=True), Quote('"', '"', interpolation="$(")), ends=("end",)
    ),
    "perl": replace(RUBY, opener=r"\{", ends=(), ends_in_semicolon=True, unit="    "),
    "toml": replace(YAML, quotes=_single(), opener=r"(?!)"),
    "dockerfile": replace(SHELL, opener=r"(?!)"),
    "makefile": replace(SHELL, opener=r"^[^\s#=][^#=]*:[^=]*", unit="\t", skipped=r"\\.|\$\$"),
}
"""By the editor's language id."""

UNKNOWN = replace(C, line_comments=("//", "#"), opener=r"\{|:", skipped=r"(?<=\w)'(?=\w)")
"""Any other: comments of either kind, and an apostrophe inside a word is none."""


def language_of(name: str) -> Language:
    """Return what is known of a language by the editor's id."""
    return LANGUAGES.get(name, UNKNOWN)
