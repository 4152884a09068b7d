"""Model families, one file each, by the `model_type` of a checkpoint's config."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from greencode_lsp.engine.architecture import Architecture
from greencode_lsp.engine.families import llama, opt, qwen2
from greencode_lsp.errors import ModelDamagedError, UnsupportedModelError

FAMILIES: dict[str, Callable[[Mapping[str, Any]], Architecture]] = {
    "llama": llama.describe,
    "qwen2": qwen2.describe,
    "opt": opt.describe,
}


def describe(config: Mapping[str, Any]) -> Architecture:
    """Return the architecture that a config describes, whose numbers `models.checks` has looked at.

    Raises UnsupportedModelError or ModelDamagedError.
    """
    kind = str(config.get("model_type"))
    if kind not in FAMILIES:
        *most, last = FAMILIES
        raise UnsupportedModelError(
            f"The model family {kind!r} is not supported; {', '.join(most)} and {last} are. Set greencode.model."
        )
    try:
        return FAMILIES[kind](config)
    except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        raise ModelDamagedError(
            f"The model's config does not describe a {kind} model ({error}); fetch or export it again."
        ) from error
