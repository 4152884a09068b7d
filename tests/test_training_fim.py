"""Training samples and manifests have the format that prompts have."""

from __future__ import annotations

import random

from greencode_lsp.prompt.context import build_prompt
from greencode_lsp.prompt.tokenizer import CodeTokenizer
from tests.fakes import FIM, tokenizer
from tests.test_prompt_fim import published, qwen
from training.checkpoint.bpe import fim_marks
from training.data import samples

CODE = "".join(f"def f{n}(x):\n    return x + {n}\n" for n in range(6))


def drawn(kind: CodeTokenizer) -> list[list[int]]:
    inner = kind._tokenizer
    return [samples.encode_sample(CODE, inner, random.Random(seed)) for seed in range(40)]


def test_a_base_models_samples_are_in_its_own_order_each_part_where_a_prompt_has_it() -> None:
    fim = qwen().fim({})
    found = [ids for ids in drawn(qwen()) if fim.ids["middle"] in ids]
    assert found
    for ids in found:
        assert ids[0] == fim.ids["prefix"]
        assert ids[-1] == fim.ids["end"]
        rest = ids.index(fim.ids["suffix"])
        above = ids[1:rest]
        after, line = ids[rest + 1 : ids.index(fim.ids["middle"])], ids[ids.index(fim.ids["middle"]) + 1 : -1]
        assert CODE.startswith(qwen().decode([*above, *line, *after]))  # what stands after is cut off at some line
        assert not above or qwen().decode(above).endswith("\n")


def test_a_sample_begins_as_the_prompt_at_its_cut_does() -> None:
    ids = next(ids for ids in drawn(qwen()) if qwen().fim({}).ids["middle"] in ids)
    middle = ids.index(qwen().fim({}).ids["middle"])
    above = qwen().decode(ids[1 : ids.index(qwen().fim({}).ids["suffix"])])
    prompt = build_prompt(above + CODE[len(above) :], len(above), qwen(), qwen().fim({}), 4096)
    assert prompt[: len(qwen().encode(above)) + 1] == ids[: len(qwen().encode(above)) + 1]
    assert middle > len(qwen().encode(above))


def test_plain_samples_of_a_model_without_a_first_token_end_with_its_end() -> None:
    fim = qwen().fim({})
    plain = [ids for ids in drawn(qwen()) if fim.ids["middle"] not in ids]
    assert plain
    assert all(ids[-1] == fim.ids["end"] for ids in plain)


def test_a_manifest_states_the_own_marks_a_published_formats_or_the_first_token_alone() -> None:
    assert fim_marks(tokenizer().token_id) == FIM
    assert fim_marks(qwen().token_id) == dict(qwen().fim({}).marks)
    assert fim_marks(published("<|endoftext|>").token_id) == {"document": "<|endoftext|>"}
    assert fim_marks(published().token_id) == {}
