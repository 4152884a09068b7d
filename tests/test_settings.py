"""Settings: flat or nested, one sentence and the default for what is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from greencode_lsp.settings import EnergySettings, Settings, parse

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
            "minAgreement": 0.9,
            "exitPolicy": "confidence",
            "onBattery": "energy",
            "maxNewTokens": 9,
            "maxPromptTokens": 99,
            "debounceMs": 0,
            "multiline": "never",
            "trigger": "manual",
            "inComments": False,
            "inStrings": False,
            "languages": ["python"],
            "exclude": ["*.gen.py"],
            "perLanguage": {"java": {"preference": "energy", "multiline": "always"}},
            "model": "/m",
            "device": "cpu",
            "precision": "float32",
            "energy": {"report": False, "carbonIntensity": 400},
        },
        Settings(
            preference=1.0,
            min_agreement=0.9,
            exit_policy="confidence",
            on_battery=0.0,
            max_new_tokens=9,
            max_prompt_tokens=99,
            debounce_ms=0,
            multiline="never",
            trigger="manual",
            in_comments=False,
            in_strings=False,
            languages=("python",),
            exclude=("*.gen.py",),
            per_language={"java": {"preference": 0.0, "multiline": "always"}},
            model="/m",
            device="cpu",
            precision="float32",
            energy=EnergySettings(report=False, carbon_intensity=400.0),
        ),
    ),
    "a former name": ({"greencode": {"numeric": "int4"}}, Settings(precision="int4")),
    "a former name, flat": ({"greencode.numeric": "int4"}, Settings(precision="int4")),
    "a former name beside a default": (
        {"greencode": {"precision": "auto", "numeric": "int4"}},
        Settings(precision="int4"),
    ),
    "a former name's default": ({"greencode": {"precision": "int8", "numeric": "auto"}}, Settings(precision="int8")),
    "null is unset": ({"greencode": {"preference": None}}, Settings()),
    "null section": ({"greencode": None}, Settings()),
    "other tools' sections": ({"python": {"path": "x"}, "editor.fontSize": 12}, Settings()),
    "a dotted key below": ({"greencode.energy.report": False}, Settings(energy=EnergySettings(report=False))),
    "a section below in pieces": ({"greencode": {"energy.report": False}}, Settings(energy=EnergySettings(False))),
    "null for a language is the default": (
        {"perLanguage": {"java": {"minAgreement": None}}},
        Settings(per_language={"java": {"min_agreement": None}}),
    ),
    "paused on battery": ({"onBattery": "pause"}, Settings(on_battery="pause")),
    "what the plugins keep for themselves": (
        {"greencode": {"server": {"path": "x"}, "trace.server": "off"}},
        Settings(),
    ),
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
    "unknown trigger": ({"trigger": "always"}, "greencode.trigger"),
    "a flag as text": ({"inComments": "no"}, "greencode.inComments"),
    "unknown device": ({"device": "tpu"}, "greencode.device"),
    "unknown policy": ({"exitPolicy": ["agent"]}, "greencode.exitPolicy"),
    "agreement out of range": ({"minAgreement": 0.2}, "greencode.minAgreement"),
    "a pause is no preference": ({"preference": "pause"}, "greencode.preference"),
    "languages as text": ({"languages": "python"}, "greencode.languages"),
    "a process's setting for a language": ({"perLanguage": {"java": {"model": "x"}}}, "greencode.perLanguage"),
    "a bad value for a language": ({"perLanguage": {"java": {"preference": 2}}}, "greencode.perLanguage"),
    "a flag as a number": ({"energy": {"report": 1}}, "greencode.energy.report"),
    "a section below as a value": ({"greencode": {"energy": 3}}, "greencode.energy"),
    "unknown key below": ({"greencode": {"energy": {"colour": 3}}}, "greencode.energy.colour"),
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
    settings, _ = parse({"greencode": {"maxNewTokens": 5}}, before)
    assert settings == Settings(preference=0.1, max_new_tokens=5, model="/m")
