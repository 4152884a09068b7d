"""CodeXGLUE's tokens turned back into code, on examples worked by hand."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from greencode_lsp.errors import CorpusError
from training.data import archives
from training.data.codexglue import java_source, members, python_source, with_literals
from training.data.corpus import texts_of
from training.data.sources import Entry, Source, packages_of


def python(tokens: str) -> str:
    source = python_source(tokens.split(" "))
    ast.parse(source)  # every example reads as Python
    return source


def java(tokens: str) -> str:
    return java_source(tokens.split(" "))


@pytest.mark.parametrize(
    ("token", "source"),
    [
        ("<NUM_LIT:200>", "200"),
        ("<NUM_LIT>", "0"),
        ("'<STR_LIT:name>'", "'name'"),
        ('u"<STR_LIT>"', 'u""'),
        ('"""<STR_LIT>"""', '""""""'),
        ("'<STR_LIT:aU+002CU+0020b>'", "'a, b'"),
        ("'<STR_LIT:>>'", "'>'"),
        ("'<CHAR_LIT:z>'", "'z'"),
        ("'<CHAR_LIT>'", "'x'"),
        ("name", "name"),
        (">", ">"),
    ],
)
def test_literals_come_back_with_their_text_or_a_stand_in(token: str, source: str) -> None:
    assert with_literals(token) == source


def test_marks_and_empty_lines_leave_nothing() -> None:
    assert python("<s> <EOL> a = <NUM_LIT:1> <EOL> <EOL> b = a <EOL> </s>") == "a = 1\nb = a\n"


@pytest.mark.parametrize(
    ("tokens", "source"),
    [
        ("from . models import A as B", "from .models import A as B"),
        ("x = f ( a , b = <NUM_LIT:2> , * c ) [ <NUM_LIT:0> ] . d", "x = f(a, b=2, * c)[0].d"),
        ("if not ( a == b and c in d ) : pass", "if not (a == b and c in d): pass"),
        ("print ( '<STR_LIT:a>' % b )", "print ('a' % b)"),
        ("d = { '<STR_LIT:k>' : [ <NUM_LIT:1> , <NUM_LIT:2> ] }", "d = {'k': [1, 2]}"),
        ("g = lambda x : x ** <NUM_LIT:2>", "g = lambda x: x ** 2"),
        ("assert ( yield_ )", "assert (yield_)"),
    ],
)
def test_blanks_come_back_by_the_usual_style(tokens: str, source: str) -> None:
    assert python(tokens) == source + "\n"


def test_a_block_opens_after_a_colon_and_ends_after_return() -> None:
    assert python("def f ( x ) : <EOL> if x : <EOL> return x <EOL> return <NUM_LIT:1> <EOL>") == (
        "def f(x):\n    if x:\n        return x\n    return 1\n"
    )


def test_a_clause_goes_back_to_the_statement_it_continues() -> None:
    tokens = "try : <EOL> for a in b : <EOL> c ( a ) <EOL> except E : <EOL> raise <EOL> else : <EOL> d ( ) <EOL>"
    assert python(tokens) == "try:\n    for a in b:\n        c(a)\nexcept E:\n    raise\nelse:\n    d()\n"


def test_methods_stand_in_their_class_and_functions_at_the_left() -> None:
    tokens = (
        "class A ( object ) : <EOL> def f ( self ) : <EOL> self . a = <NUM_LIT:1> <EOL> @ property <EOL> "
        "def g ( self ) : <EOL> return self . a <EOL> def h ( ) : <EOL> pass <EOL> class B : <EOL> pass <EOL>"
    )
    assert python(tokens) == (
        "class A(object):\n    def f(self):\n        self.a = 1\n    @property\n    def g(self):\n"
        "        return self.a\ndef h():\n    pass\nclass B:\n    pass\n"
    )


def test_the_main_guard_stands_at_the_left() -> None:
    tokens = "def f ( ) : <EOL> g ( ) <EOL> if __name__ == '<STR_LIT:__main__>' : <EOL> f ( ) <EOL>"
    assert python(tokens) == "def f():\n    g()\nif __name__ == '__main__':\n    f()\n"


def test_javas_braces_give_the_indentation() -> None:
    tokens = (
        "<s> package a . b ; <EOL> class A < T > { <EOL> @ Override <EOL> int f ( int n ) { <EOL> if ( n < "
        "<NUM_LIT:0> ) { <EOL> i ++ ; <EOL> } else { <EOL> return x [ <NUM_LIT:0> ] ; <EOL> } <EOL> } <EOL> } </s>"
    )
    assert java(tokens) == (
        "package a.b;\nclass A<T> {\n    @Override\n    int f(int n) {\n        if (n < 0) {\n            i++;\n"
        "        } else {\n            return x[0];\n        }\n    }\n}\n"
    )


def test_java_without_line_ends_gets_them_by_its_statements_and_blocks() -> None:
    tokens = (
        "<s> package a . b ; public class A { @ Override int f ( ) { for ( int i = <NUM_LIT:0> ; i < n ; i ++ ) "
        "{ g ( i ) ; } try { h ( ) ; } catch ( E e ) { return <NUM_LIT:1> ; } int [ ] x = { <NUM_LIT:1> } ; } } </s>"
    )
    assert java(tokens).splitlines()[:12] == [
        "package a.b;",
        "public class A {",
        "    @Override",
        "    int f() {",
        "        for (int i = 0; i < n; i++) {",
        "            g(i);",
        "        }",
        "        try {",
        "            h();",
        "        } catch (E e) {",
        "            return 1;",
        "        }",
    ]


def test_the_hubs_own_splits_of_java_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    body = " ".join(f"int f{i} ( ) {{ return <NUM_LIT:{i}> ; }}" for i in range(20))

    def load(name: str, language: str, split: str) -> list[dict[str, object]]:
        return [{"id": 0, "code": f"<s> class {split.title()} {{ {body} }} </s>".split(" ")}]

    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.setattr(archives, "CACHE", tmp_path)
    source = Source("codexglue", language="java", packages=[Entry("javaCorpus", licence="C-UDA-1.0")])
    found = {package.name: package for package in packages_of(source)}
    assert {name: package.split for name, package in found.items()} == {
        "javacorpus": "train",
        "javacorpus-validation": "validation",
    }
    (text,) = texts_of(found["javacorpus-validation"])  # no line is too long to be learnt from
    assert text.startswith("class Validation {\n    int f0() {\n")


def rows() -> Iterator[dict[str, object]]:
    yield {"path": "data/owner/repo/a.py", "code": ["<s>", "a", "=", "<NUM_LIT:1>", "<EOL>", "</s>"]}
    yield {"path": "data/owner/repo/b.py", "code": ["<s>", "print", "a", "<EOL>", "</s>"]}  # Python 2


def test_files_that_do_not_parse_are_left_out_and_repositories_are_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets, "load_dataset", lambda *names, split: rows())
    assert list(members("python")) == [("owner--repo/0000000.py", b"a = 1\n")]


def test_without_a_network_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets, "load_dataset", lambda *names, split: 1 / 0)
    with pytest.raises(CorpusError, match="connect to a network, or take the source out of the manifest"):
        list(members("java"))
