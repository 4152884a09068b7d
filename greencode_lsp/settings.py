"""The user's settings, described once: key, default, range and meaning stand with each field.

The README's table and the VS Code manifest say the same, and a test compares them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import Field, dataclass, field, fields, replace
from typing import Any, Literal

from greencode_lsp import setting_kinds as kinds
from greencode_lsp.setting_kinds import FLAG, PREFERENCES, Kind

SECTION = "greencode"
"""The section of the client's configuration that is ours."""
CLIENT_KEYS = ("server", "trace")
"""Keys of the section that the editors' plugins keep for themselves."""
OLD_KEYS = {"numeric": "precision"}
"""A setting's former key -> its key now. A value under the former one holds while the present one is at its default."""

DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("auto", "int8", "mixed", "int4", "bfloat16", "float32")
EXIT_POLICIES = ("auto", "agent", "confidence", "fixed", "never")
Multiline = Literal["auto", "always", "never"]
Trigger = Literal["automatic", "manual"]
Context = Literal["file", "open", "project"]


def _read_languages(value: object) -> dict[str, dict[str, Any]] | None:
    """Return language -> changed fields; None where any of it cannot be taken."""
    if not isinstance(value, Mapping):
        return None
    taken: dict[str, dict[str, Any]] = {}
    for language, section in value.items():
        if not isinstance(section, Mapping):
            return None
        changes = {}
        for key, inner in section.items():
            setting = SETTINGS.get(str(key))
            if setting is None or not setting.scoped:
                return None
            read = setting.default if inner is None else setting.kind.read(inner)
            if read is None and inner is not None:
                return None
            changes[setting.name] = read
        taken[str(language)] = changes
    return taken


def _read_address(value: object) -> str | None:
    return value.strip() if isinstance(value, str) else None


def _setting(key: str, default: Any, kind: Kind, meaning: str, *, scoped: bool = False) -> Any:  # noqa: ANN401 - as `field`
    """Declare a field; a scoped one may differ between workspace folders and languages."""
    return field(default=default, metadata={"key": key, "kind": kind, "meaning": meaning, "scoped": scoped})


@dataclass(frozen=True, slots=True)
class EnergySettings:
    """What is kept and shown of energy: `greencode.energy`."""

    report: bool = _setting(
        "report",
        True,
        FLAG,
        "keep the ledger of counts and joules (never text) that `greencode-lsp energy` sums up",
    )
    carbon_intensity: float | None = _setting(
        "carbonIntensity",
        None,
        kinds.number_or_null(0, 2000),
        "grams of CO2 equivalent per kWh of your electricity; without it no CO2 is shown",
    )


@dataclass(frozen=True, slots=True)
class Settings:
    """One consistent set of settings; a changed setting makes a new value, so that a reader never sees half of one."""

    preference: float = _setting(
        "preference",
        PREFERENCES["balanced"],
        kinds.preference_value(),
        "accuracy against energy: `accuracy` (or 1) is lossless, `energy` (or 0) the most sparing; "
        "acts on the next token",
        scoped=True,
    )
    min_agreement: float | None = _setting(
        "minAgreement",
        None,
        kinds.number_or_null(0.5, 1),
        "the share of the full model's tokens to keep, instead of what `preference` asks for",
        scoped=True,
    )
    exit_policy: str = _setting(
        "exitPolicy",
        "auto",
        kinds.one_of(*EXIT_POLICIES),
        "who decides where a token exits; `auto` is the checkpoint's winner at equal energy, `never` is all layers for "
        "one token after another",
        scoped=True,
    )
    on_battery: float | str = _setting(
        "onBattery",
        "same",
        kinds.preference_value("same", "pause"),
        "the preference while on battery power; `same` changes nothing, `pause` suggests nothing unless asked",
        scoped=True,
    )
    max_new_tokens: int = _setting(
        "maxNewTokens", 32, kinds.whole_number(1, 512), "upper bound on the tokens of one completion", scoped=True
    )
    max_prompt_tokens: int = _setting(
        "maxPromptTokens",
        448,
        kinds.whole_number(16, 32768),
        "upper bound on the tokens of context before and after the cursor; the bundled model learned on 512",
        scoped=True,
    )
    context: Context = _setting(
        "context",
        "file",
        kinds.one_of("file", "open", "project"),
        "what a suggestion is made from besides the file: nothing, other `open` files, or the `project`'s near it too; "
        "128 to 1,024 more tokens of prompt, by `preference`, which the model reads again when you go elsewhere",
        scoped=True,
    )
    debounce_ms: int | str = _setting(
        "debounceMs",
        "auto",
        kinds.whole_number(0, 2000, "auto"),
        "wait this long after the last change; `auto` follows your typing, and is shorter the more accuracy you prefer",
        scoped=True,
    )
    multiline: Multiline = _setting(
        "multiline",
        "auto",
        kinds.one_of("auto", "always", "never"),
        "suggest blocks: `auto` on blank lines and where the line opens a block",
        scoped=True,
    )
    trigger: Trigger = _setting(
        "trigger",
        "automatic",
        kinds.one_of("automatic", "manual"),
        "when to suggest: `automatic` while you type, `manual` only when asked for, with no work in between",
        scoped=True,
    )
    in_comments: bool = _setting(
        "inComments", True, FLAG, "suggest in comments by itself, not only when asked", scoped=True
    )
    in_strings: bool = _setting(
        "inStrings", True, FLAG, "suggest in strings and docstrings by itself, not only when asked", scoped=True
    )
    languages: tuple[str, ...] | str = _setting(
        "languages",
        "auto",
        kinds.name_list("auto"),
        "language ids to complete; `auto` is those the model was made for",
        scoped=True,
    )
    exclude: tuple[str, ...] = _setting(
        "exclude",
        (),
        kinds.name_list(),
        "files never completed, as patterns of .gitignore; secrets and ignored files never are",
        scoped=True,
    )
    per_language: Mapping[str, Mapping[str, Any]] = field(
        default_factory=dict,
        metadata={
            "key": "perLanguage",
            "kind": Kind(
                _read_languages,
                "an object from language ids to objects of settings that a language may have",
                {"type": "object", "additionalProperties": {"type": "object"}},
            ),
            "meaning": 'other values for a language, as in `{"java": {"preference": "energy"}}`; all above may',
            "scoped": False,
        },
    )
    model: str = _setting(
        "model",
        "auto",
        Kind(
            kinds.read_text,
            '"auto", "bundled", a name of `greencode-lsp models catalogue`, "ollama:NAME", a pulled model or a path',
            {"type": "string"},
        ),
        "`auto` is the best installed model that answers within `latencyTarget`, else the bundled one; or `bundled`, a "
        "name of `greencode-lsp models catalogue`, `ollama:NAME`, a pulled model's name, the path of a GGUF file or a "
        "checkpoint folder (Llama, Qwen2 or OPT; without exits it runs at full depth)",
    )
    latency_target_ms: int = _setting(
        "latencyTarget",
        800,
        kinds.whole_number(50, 60000),
        "milliseconds that a typical suggestion (12 tokens, warm prompt) may take, for `auto` to choose a model by",
    )
    device: str = _setting("device", "auto", kinds.one_of(*DEVICES), "where the model computes")
    precision: str = _setting(
        "precision",
        "auto",
        kinds.one_of(*PRECISIONS),
        "how the model computes; `auto` is `int8` on the CPU, `mixed` (4 and 8 bits) for large models, `bfloat16` on "
        "CUDA",
    )
    unload_after: int | str = _setting(
        "unloadAfter",
        10,
        kinds.whole_number(1, 1440, "never"),
        "minutes without a request after which the model goes from memory; the next request loads it again",
    )
    shared_engine: bool = _setting(
        "sharedEngine",
        True,
        kinds.FLAG,
        "let all your editors share one engine, and so one model in memory, instead of one each",
    )
    remote: str = _setting(
        "remote",
        "",
        kinds.Kind(_read_address, "an address such as https://HOST:8750, or empty", {"type": "string"}),
        "the address of your team's engine (`greencode-serve`); your own completes where it does not answer",
    )
    energy: EnergySettings = field(default_factory=EnergySettings, metadata={"section": EnergySettings})

    @property
    def unload_after_s(self) -> float | None:
        """Seconds without a request after which the model goes from memory; None: never."""
        return None if isinstance(self.unload_after, str) else 60.0 * self.unload_after

    def for_language(self, language: str) -> Settings:
        """Return the settings with the language's own values laid over them."""
        changes = self.per_language.get(language)
        return replace(self, **changes) if changes else self


@dataclass(frozen=True, slots=True)
class SettingDescription:
    """One setting as the client knows it."""

    key: str
    """Below the section, e.g. `energy.report`."""
    section: str
    """The field of `Settings` that holds it, or "" for `Settings` itself."""
    name: str
    default: Any
    kind: Kind
    meaning: str
    scoped: bool

    @property
    def default_json(self) -> str:
        """The default as a user would write it."""
        names = {value: name for name, value in PREFERENCES.items()}
        is_preference = self.kind.read("balanced") == PREFERENCES["balanced"] and isinstance(self.default, float)
        default = names[self.default] if is_preference else self.default
        return json.dumps(list(default) if isinstance(default, tuple) else default)


def _described(cls: type, section: str = "", prefix: str = "") -> Iterator[SettingDescription]:
    described: tuple[Field[Any], ...] = fields(cls)
    for one in described:
        inner = one.metadata.get("section")
        if inner is not None:
            yield from _described(inner, one.name, one.name + ".")
        else:
            default = one.default_factory() if callable(one.default_factory) else one.default
            facts = one.metadata
            key = prefix + facts["key"]
            yield SettingDescription(key, section, one.name, default, facts["kind"], facts["meaning"], facts["scoped"])


SETTINGS: dict[str, SettingDescription] = {setting.key: setting for setting in _described(Settings)}
"""The client's key -> the setting, in the order of the fields."""


def parse(raw: object, base: Settings) -> tuple[Settings, list[str]]:
    """Return `base` with the client's values laid over it, and a sentence for each value that was not taken.

    Keys come flat (`preference`, `greencode.preference`, `energy.report`) or nested under `greencode`; absent and null
    ones keep the value of `base`, bad ones fall back to the default. Other tools' sections are not looked at.
    """
    if raw is None:
        return base, []
    if not isinstance(raw, Mapping):
        return base, [f"The settings must be an object with keys such as {SECTION}.preference; they are ignored."]
    section = raw.get(SECTION)
    if section is not None and not isinstance(section, Mapping):
        return base, [f"The setting {SECTION} must be an object, not {section!r}; it is ignored."]
    sentences: list[str] = []
    changes: dict[str, dict[str, Any]] = {}
    for key, value in _present(_collect(raw, section)).items():
        setting = SETTINGS.get(key)
        if setting is None:
            if key.partition(".")[0] not in CLIENT_KEYS:
                sentences.append(f"There is no setting {SECTION}.{key}; the settings are {', '.join(SETTINGS)}.")
        elif value is not None:
            read = setting.kind.read(value)
            if read is None:
                sentences.append(
                    f"The setting {SECTION}.{key} must be {setting.kind.wanted}, not {value!r}; "
                    f"{setting.default_json} is used instead."
                )
            changes.setdefault(setting.section, {})[setting.name] = setting.default if read is None else read
    own = changes.pop("", {})
    inner = {name: replace(getattr(base, name), **values) for name, values in changes.items()}
    return replace(base, **own, **inner), sentences


def _collect(raw: Mapping[str, Any], section: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return our keys without their prefix: flat ones first, so that nested ones win."""
    values: dict[str, Any] = {}
    for key, value in raw.items():
        name = str(key)
        if name == SECTION:
            continue
        if name.startswith(SECTION + "."):
            values |= _flat(name[len(SECTION) + 1 :], value)
            continue
        is_others = section is not None or "." in name or isinstance(value, Mapping)  # or stands beside our section
        if name.partition(".")[0] in _OURS or not is_others:
            values |= _flat(name, value)
    for key, value in (section or {}).items():
        values |= _flat(str(key), value)
    return values


def _present(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values with former keys under their present ones, which win where they were changed."""
    for former, key in OLD_KEYS.items():
        value = values.pop(former, None)
        if value is not None and values.get(key) in (None, SETTINGS[key].default):
            values[key] = value
    return values


def _flat(key: str, value: object) -> dict[str, Any]:
    """Return a nested section of ours under dotted keys."""
    if key in _SECTIONS and isinstance(value, Mapping):
        return {f"{key}.{inner}": leaf for inner, leaf in value.items()}
    return {key: value}


_SECTIONS = {setting.section for setting in SETTINGS.values() if setting.section}
_OURS = {key.partition(".")[0] for key in (*SETTINGS, *OLD_KEYS)}
