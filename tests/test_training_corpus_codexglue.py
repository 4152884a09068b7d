"""CodeXGLUE's tokens turned back into code, on examples worked by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from greencode_lsp.errors import CorpusError
from training.data import archives
from training.data.codexglue import java_source, members, python_stream, with_literals
from training.data.corpus import texts_of
from training.data.sources import Entry, Source, packages_of


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


def test_py150_is_its_token_stream_line_by_line_without_marks_and_empty_lines() -> None:
    tokens = "<s> <EOL> def f ( x ) : <EOL> <EOL> return x + <NUM_LIT:1> <EOL> </s>"
    assert python_stream(tokens.split(" ")) == "def f ( x ) :\nreturn x + 1\n"


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


def test_repositories_of_py150_are_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets, "load_dataset", lambda *names, split: rows())
    assert list(members("python")) == [
        ("owner--repo/0000000.py", b"a = 1\n"),
        ("owner--repo/0000001.py", b"print a\n"),
    ]


def test_without_a_network_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets, "load_dataset", lambda *names, split: 1 / 0)
    with pytest.raises(CorpusError, match="connect to a network, or take the source out of the manifest"):
        list(members("java"))
