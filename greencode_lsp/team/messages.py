"""What crosses between an editor's server and a team's engine: JSON over HTTP, checked as it is read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePath
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from greencode_lsp.completion.request import Request
from greencode_lsp.host.client import spending_of, within_reach
from greencode_lsp.host.messages import BadMessageError, Completed, Spending
from greencode_lsp.models.manifest import Manifest
from greencode_lsp.settings import Settings

COMPLETE_PATH, MODEL_PATH, USAGE_PATH = "/v1/complete", "/v1/model", "/v1/usage"


class Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where to complete, and by which settings; the team's model decides what these mean for it."""

    request: Request
    spending: Spending
    exit_policy: Annotated[str, Meta(max_length=32)]
    min_agreement: Annotated[float, Meta(ge=0, le=1)] | None

    @classmethod
    def of(cls, request: Request, settings: Settings) -> Asked:
        """Return what a team's engine is asked: no more text than is looked at, a file's name without its folder."""
        near = within_reach(request, settings.max_prompt_tokens)
        named = replace(near, path=PurePath(near.path).name)
        return cls(named, spending_of(settings), settings.exit_policy, settings.min_agreement)

    def settings(self) -> Settings:
        """Return the settings that a completion goes by."""
        spending = self.spending
        return Settings(
            preference=spending.preference,
            max_new_tokens=spending.max_new_tokens,
            max_prompt_tokens=spending.max_prompt_tokens,
            multiline=spending.multiline,
            exit_policy=self.exit_policy,
            min_agreement=self.min_agreement,
        )


class TeamFacts(msgspec.Struct, frozen=True):
    """What is known of the team's model."""

    manifest: Manifest
    device: str
    precision: str
    layers: int


class Problem(msgspec.Struct, frozen=True):
    """Why a request was not answered: one sentence, without anything of its text."""

    sentence: str


class AccountUsage(msgspec.Struct, frozen=True):
    """What a user's completions took since the engine was started."""

    user: str
    completions: int
    tokens: int
    energy_j: float


Decoded = TypeVar("Decoded")

read_asked = msgspec.json.Decoder(Asked)
read_completed = msgspec.json.Decoder(Completed)
read_facts = msgspec.json.Decoder(TeamFacts)
read_problem = msgspec.json.Decoder(Problem)


def read(data: bytes, decoder: msgspec.json.Decoder[Decoded]) -> Decoded:
    """Return the message; raises BadMessageError for anything else."""
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, ValueError, RecursionError, OverflowError) as error:
        raise BadMessageError(type(error).__name__) from None
