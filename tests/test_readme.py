"""README.md says what was measured: its figures stand in blocks that are made from the artefacts, and nowhere else."""

from __future__ import annotations

import argparse
import inspect
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from greencode_lsp import cli
from greencode_lsp.errors import SettingError
from greencode_lsp.models.catalogue import BUNDLED_SCORE
from greencode_lsp.models.manifest import CalibrationRow
from tests.soak import __main__ as soak
from tests.soak import cancels, trace, traffic
from tests.soak.figures import Figure
from training.__main__ import build_parser
from training.evaluation import readme, readme_blocks, readme_speed
from training.evaluation.artefacts import Artefacts

TEXT = readme.README.read_text(encoding="utf8")
CODE = re.compile(r"```.*?```|`[^`\n]*`|\]\([^)]*\)", re.DOTALL)
FIGURE = re.compile(r"(?<![\w.#/-])\d[\d,]*(?:\.\d+)?(?![\w-]|\.\d)")
NAMES = re.compile(  # numbers that are part of a name, or choose something; a measurement is none of these
    r"(?:Python|VS Code|Neovim|Emacs|ONNX Runtime|Debian|Node|lsp-mode) \d[\d.]*(?:(?:,| and| to| or) \d[\d.]*)*"
    r"|arXiv \d+\.\d+|GPL-\d|\d+ (?:or \d+ )?bits|= ?\d(?:\.\d)?\b|utf-\d+"
)
AVX512: dict[str, Any] = {
    "cpu": "Big",
    "isa": ["avx2", "avx512f"],
    "qwen": {"step_vs_llamacpp_q4": 0.5},
    "rss_mb": 140.4,
}
AVX2: dict[str, Any] = {"cpu": "Small", "isa": ["avx2"], "qwen": None, "rss_mb": 150.0}


def at(folder: Path, **files: Any) -> Artefacts:
    """Return artefacts of one model: files by name, `.json` left out and `-` written `_`."""
    (folder / "mini").mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / "mini" / f"{name.replace('_', '-')}.json").write_text(json.dumps(content))
    return Artefacts(folder)


def results(**changed: Any) -> dict[str, Any]:
    row = {
        "exact_match": 0.25,
        "edit_similarity": 0.5,
        "agreement": 1.0,
        "agreement_lower_95": 0.99,
    }
    row |= {"mean_exit_layer": 24.0, "layer_equivalents_ratio": 1.0} | changed
    names = ("full_depth", "accuracy", "balanced", "energy")
    language = {"lines": 100, "lines_missing": 0, "preferences": dict.fromkeys(names, row)}
    language |= {"protocols": {readme_blocks.SERVED: dict.fromkeys(names, row)}}
    return {"model": "some", "layers": 24, "exit_policy": "agent", "languages": {"python": language}}


@pytest.mark.parametrize("page", readme.PAGES, ids=lambda page: page.name)
def test_a_page_says_what_the_artefacts_say(page: Path) -> None:
    text = page.read_text(encoding="utf8")
    assert readme.fill(text, Artefacts()) == text, f"run `{readme.COMMAND}`"


def test_every_block_that_can_be_made_stands_on_a_page() -> None:
    pages = "".join(page.read_text(encoding="utf8") for page in readme.PAGES)
    assert [name for name in readme_blocks.BLOCKS if f"<!-- begin: {name} -->" not in pages] == []


def test_no_figure_stands_outside_a_block() -> None:
    written = NAMES.sub("", CODE.sub(lambda found: "\n" * found[0].count("\n"), readme.outside(TEXT)))
    lines = [f"line {n}: {line}" for n, line in enumerate(written.split("\n"), 1) if FIGURE.search(line)]
    assert lines == [], f"let a block of {readme_blocks.__name__} say it, or leave it out"


@pytest.mark.parametrize(
    ("sentence", "is_one"),
    [
        ("balanced keeps 0.987 of the tokens", True),
        ("it takes 142 MB", True),
        ("1,463 ms on two cores", True),
        ("99.6 % are found", True),
        ("needs Python 3.10 or newer", False),
        ("Neovim 0.10 to 0.12", False),
        ("mini-2, AVX-512, Qwen2.5-Coder-0.5B, Q4_K_M", False),
        ("GREEN-CODE (arXiv 2501.11006)", False),
    ],
)
def test_a_figure_is_told_from_a_name(sentence: str, is_one: bool) -> None:
    assert bool(FIGURE.search(NAMES.sub("", sentence))) is is_one


PAGES = "".join(
    (readme.ROOT / page).read_text(encoding="utf8")
    for page in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "training/README.md", "editors/README.md")
)


def test_every_command_that_is_named_is_one() -> None:
    named = set(re.findall(r"greencode-lsp ([a-z]\w*)", "".join(CODE.findall(PAGES))))
    assert named
    assert named <= subcommands(cli.build_parser())


def test_every_training_step_that_is_named_is_one() -> None:
    named = set(re.findall(r"-m training ([a-z][\w-]*)", "".join(CODE.findall(PAGES))))
    (steps,) = (action.choices for action in build_parser()._actions if action.dest == "step")
    assert named
    assert named <= set(steps or ())


def subcommands(parser: argparse.ArgumentParser) -> set[str]:
    return {name for action in parser._actions if action.dest == "command" for name in action.choices or ()}


MARKDOWN = [path for top in ("*.md", "editors/**/*.md", "training/**/*.md") for path in readme.ROOT.glob(top)]


@pytest.mark.parametrize("page", [path for path in MARKDOWN if "node_modules" not in path.parts], ids=str)
def test_every_link_leads_to_a_file(page: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf8")) if ":" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_a_block_is_replaced_as_a_whole() -> None:
    text = "a\n<!-- begin: x -->\nold\n<!-- end: x -->\nb\n"
    filled = readme.fill(text, Artefacts(), {"x": lambda _: "new"})
    assert filled == "a\n<!-- begin: x -->\n\nnew\n\n<!-- end: x -->\nb\n"


def test_filling_twice_changes_nothing() -> None:
    text = "<!-- begin: x -->\n<!-- end: x -->\n"
    once = readme.fill(text, Artefacts(), {"x": lambda _: "new"})
    assert readme.fill(once, Artefacts(), {"x": lambda _: "new"}) == once


@pytest.mark.parametrize(
    "text",
    [
        "<!-- begin: speed -->\n",
        "<!-- end: speed -->\n",
        "<!-- begin: speed -->\n<!-- end: typing -->\n",
        "<!-- begin: speed -->\n<!-- begin: typing -->\n",
        "<!-- begin: nothing -->\n<!-- end: nothing -->\n",
    ],
)
def test_a_wrong_mark_is_named_and_nothing_is_written(text: str, tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text(text)
    with pytest.raises(SettingError, match=r"README.md: .*(counterpart|no end|no block)"):
        readme.main([path], at(tmp_path))
    assert path.read_text() == text


@pytest.mark.parametrize(
    "name", ["models", "exits", "speed", "typing", "precision", "lossless", "kept", "energy-study"]
)
def test_without_its_artefact_a_block_is_empty(name: str, tmp_path: Path) -> None:
    assert readme_blocks.BLOCKS[name](Artefacts(tmp_path)) == ""


def test_processors_stand_side_by_side(tmp_path: Path) -> None:
    block = readme_speed.speed(at(tmp_path, bench_avx2=AVX2, bench_avx512=AVX512))
    assert block.splitlines()[0] == "|  | `mini`, AVX-512 (Big) | `mini`, AVX2 (Small) |"
    assert "| resident memory | 140 MB | 150 MB |" in block


def test_the_kinds_of_processor_that_are_missing_are_named(tmp_path: Path) -> None:
    assert readme_speed.speed(at(tmp_path, bench_avx512=AVX512)).endswith("Not measured yet: AVX2 and NEON.")


def test_a_row_that_one_processor_lacks_has_a_dash_there(tmp_path: Path) -> None:
    block = readme_speed.speed(at(tmp_path, bench_avx2=AVX2, bench_avx512=AVX512))
    assert "one token | 0.50 of llama.cpp | - |" in block


def test_a_row_that_nobody_measured_is_left_out(tmp_path: Path) -> None:
    assert "exit check" not in readme_speed.speed(at(tmp_path, bench_avx2=AVX2))


def test_models_asked_for_the_same_lines_share_a_table(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "results.json").write_text(json.dumps(results()))
    assert readme_blocks.models(at(tmp_path, results=results())).count("lines right |") == 1


def test_models_asked_for_other_lines_are_not_compared(tmp_path: Path) -> None:
    fewer = results()
    fewer["languages"]["python"]["lines"] = 50
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "results.json").write_text(json.dumps(fewer))
    assert readme_blocks.models(at(tmp_path, results=results())).count("lines right |") == 2


PEER = {"model": "some", "engine": "llama.cpp", "languages": {"python": {"lines": 100, "exact_match": 0.24}}}


def test_a_peer_asked_for_the_same_lines_stands_beside(tmp_path: Path) -> None:
    block = readme_blocks.models(at(tmp_path, results=results(), llamacpp=PEER))
    assert "| the same file in llama.cpp | - | 24.0 % |" in block


def test_a_peer_asked_for_other_lines_is_left_out(tmp_path: Path) -> None:
    fewer = {**PEER, "languages": {"python": {"lines": 50, "exact_match": 0.24}}}
    assert "llama.cpp" not in readme_blocks.models(at(tmp_path, results=results(), llamacpp=fewer))


def test_another_precision_stands_beside_the_one_that_serves(tmp_path: Path) -> None:
    block = readme_blocks.models(at(tmp_path, results=results(), greencode_int8=PEER))
    assert "the same file with `greencode.precision` `int8`" in block


def test_lossless_completions_that_differ_are_counted_by_precision(tmp_path: Path) -> None:
    measured = {"int4": {"prompts": 1000, "tokens": 32000, "mismatches": 7, "largest_gap": 0.0312}}
    block = readme_speed.lossless(at(tmp_path, lossless=measured))
    assert "| `mini` | `int4` | 1,000 of 32 tokens | 7 | 0.031 |" in block


def test_a_model_that_always_runs_all_of_itself_has_no_table_of_exits(tmp_path: Path) -> None:
    assert readme_blocks.exits(at(tmp_path, results=results() | {"exit_policy": "never"})) == ""
    assert readme_blocks.exits(at(tmp_path, results=results() | {"exit_policy": "shortlist"}))


def row(agreement: float, cost: float) -> CalibrationRow:
    return CalibrationRow(0.0, agreement, agreement - 0.01, 10.0, cost, 0.5, completions=100)


def test_a_policys_cost_is_taken_at_the_same_measured_agreement() -> None:
    assert readme_blocks.cost_at([row(0.99, 0.9), row(0.97, 0.8)], 0.98) == pytest.approx(0.85)


def test_a_policy_that_never_agrees_so_often_is_not_compared() -> None:
    assert readme_blocks.cost_at([row(0.97, 0.8), row(0.95, 0.7)], 0.98) is None


def test_the_catalogue_says_of_the_bundled_model_what_was_measured() -> None:
    (measured,) = (found for folder, found in Artefacts().read("results.json") if folder == Artefacts().manifest.name)
    row = measured["languages"]["python"]["full_depth"]
    score = BUNDLED_SCORE
    assert (score.exact, score.edit_similarity) == (round(row["exact_match"], 3), round(row["edit_similarity"], 3))
    assert score.lines == row["completions"]


def test_policies_measured_on_other_completions_are_not_compared() -> None:
    artefacts = Artefacts()
    tables = artefacts.manifest.calibration["python"]
    fewer = {**tables, "confidence": tuple(replace(one, completions=7) for one in tables["confidence"])}
    artefacts.__dict__["manifest"] = replace(artefacts.manifest, calibration={"python": fewer})
    assert "`confidence`" not in readme_blocks.preferences(artefacts)


def test_a_study_that_does_not_say_which_engine_ran_is_not_shown(tmp_path: Path) -> None:
    assert readme_speed.energy_study(at(tmp_path, energy_study={"model": "some"})) == ""


def test_a_study_that_says_which_engine_ran_is_shown_with_its_tier(tmp_path: Path) -> None:
    ((_, study),) = Artefacts().read("energy-study.json")
    block = readme_speed.energy_study(at(tmp_path, energy_study=study | {"engine": "onnxruntime 1.23.2"}))
    assert "joules modelled" in block
    assert [line.split(" | ")[0] for line in block.splitlines()[4:]] == [
        f"| {name}" for name in readme_speed.STUDIED.values()
    ]


def test_a_soak_at_less_than_full_size_is_not_shown(tmp_path: Path) -> None:
    small = {"model": "some", "cpu": "Big", "scale": 0.01, "parts": {"typing": {"keystrokes": 3}}}
    assert readme_speed.typing(at(tmp_path, soak=small)) == ""
    assert "| `some` | Big | 3 |" in readme_speed.typing(at(tmp_path, soak=small | {"scale": 1.0}))


def test_what_the_soak_keeps_is_what_the_readme_reads(tmp_path: Path) -> None:
    measured = {"typing": [Figure("keystrokes", 300), Figure("answer p50, ms", 2.4)]}
    soak.keep(tmp_path / "mini", {"model": "some", "cpu": "Big", **soak.summary(measured, 1.0)}, ["typing (71 s)"])
    assert "| `some` | Big | 300 | 2 ms |" in readme_speed.typing(Artefacts(tmp_path))
    assert "typing (71 s)" in (tmp_path / "mini" / "soak.md").read_text()


@pytest.mark.parametrize("part", [trace, cancels, traffic], ids=lambda part: part.__name__)
def test_the_soaks_figures_are_called_what_the_readme_calls_them(part: Any) -> None:
    named = {
        trace: [*re.findall(r'_figure\("([^"]+)"', inspect.getsource(readme_speed))],
        cancels: ["cancel to idle in decode, p95, ms", "cancel to idle in prefill, p95, ms"],
        traffic: ["requests"],
    }[part]
    source = inspect.getsource(part)
    assert named
    assert [name for name in named if f'Figure("{name}"' not in source] == []


def test_the_growth_that_the_readme_tells_is_one_that_the_traffic_finds() -> None:
    (named,) = re.findall(r'traffic\["(growth[^"]+)"\]', inspect.getsource(readme_speed))
    assert named in [figure.name for figure in traffic._growth("server", [100, 101])]
