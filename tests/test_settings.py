"""Settings: flat or nested, one sentence and the default for what is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from greencode_lsp.settings import Settings, parse

TAKEN = {
    "nothing": (None, Settings()),
    "empty": ({}, Settings()),
    "flat": ({"preference": 0.25}, Settings(preference=0.25)),
    "nested": ({"greencode": {"preference": 0.25}}, Settings(preference=0.25)),
    "dotted": ({"greencode.maxNewTokens": 8}, Settings(max_new_tokens=8)),
    "nested wins over flat": ({"preference": 1, "greencode": {"preference": 0}}, Settings(preference=0.0)),
    "a name for a preference": ({"preference": "accuracy"}, Settings(preference=1.0)),
    "balanced": ({"preference": "balanced"}, Settings(preference=0.5)),
    "energy": ({"preference": "energy"}, Settings(preference=0.0)),
    "every setting": (
        {
            "preference": 1,
            "maxNewTokens": 9,
            "maxPromptTokens": 99,
            "model": "/m",
            "device": "cpu",
            "numeric": "float32",
            "exitPolicy": "confidence",
        },
        Settings(1.0, 9, 99, "/m", "cpu", "float32", "confidence"),
    ),
    "null is unset": ({"greencode": {"preference": None}}, Settings()),
    "null section": ({"greencode": None}, Settings()),
    "other tools' sections": ({"python": {"path": "x"}, "editor.fontSize": 12}, Settings()),
    "anything beside our section": ({"greencode": {"model": "/m"}, "trace": "off"}, Settings(model="/m")),
}


@pytest.mark.parametrize(("raw", "expected"), TAKEN.values(), ids=TAKEN.keys())
def test_good_settings_are_taken_without_a_word(raw: Any, expected: Settings) -> None:
    assert parse(raw, Settings()) == (expected, [])


BAD = {
    "a bool is no number": ({"preference": True}, "greencode.preference"),
    "out of range": ({"preference": 1.5}, "greencode.preference"),
    "not a number": ({"preference": float("nan")}, "greencode.preference"),
    "unknown name": ({"preference": "fast"}, "greencode.preference"),
    "a fraction of a token": ({"maxNewTokens": 2.5}, "greencode.maxNewTokens"),
    "no tokens": ({"greencode": {"maxNewTokens": 0}}, "greencode.maxNewTokens"),
    "tokens as text": ({"maxPromptTokens": "many"}, "greencode.maxPromptTokens"),
    "model is no text": ({"model": 3}, "greencode.model"),
    "unknown device": ({"device": "tpu"}, "greencode.device"),
    "unknown policy": ({"exitPolicy": ["agent"]}, "greencode.exitPolicy"),
    "unknown key": ({"greencode": {"temperature": 1}}, "greencode.temperature"),
    "unknown flat key": ({"prefrence": 1}, "greencode.prefrence"),
    "section is no object": ({"greencode": 3}, "greencode"),
    "not an object": ([1], "greencode.preference"),
}


@pytest.mark.parametrize(("raw", "names"), BAD.values(), ids=BAD.keys())
def test_a_bad_setting_gives_one_sentence_that_names_it_and_the_default(raw: Any, names: str) -> None:
    settings, sentences = parse(raw, Settings())
    assert settings == Settings()
    assert len(sentences) == 1
    assert names in sentences[0]
    assert sentences[0].endswith(".")


def test_a_bad_value_does_not_spoil_the_others() -> None:
    settings, sentences = parse({"preference": "fast", "maxNewTokens": 8}, Settings(preference=0.0))
    assert (settings, len(sentences)) == (Settings(max_new_tokens=8), 1)


def test_absent_settings_keep_what_was_set_before() -> None:
    before = Settings(preference=0.1, model="/m")
    assert parse({"greencode": {"maxNewTokens": 5}}, before)[0] == Settings(0.1, 5, model="/m")
