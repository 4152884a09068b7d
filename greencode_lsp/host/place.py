"""Where an editor's model is: in this process, in the engine that all editors share, or at a team's."""

from __future__ import annotations

from collections.abc import Callable

from greencode_lsp.completion.model import CompletingModel
from greencode_lsp.completion.notifier import Notify
from greencode_lsp.completion.resting import RestingModel
from greencode_lsp.errors import TeamError
from greencode_lsp.host.client import Means, SharedModel
from greencode_lsp.host.join import join
from greencode_lsp.host.meeting import Meeting
from greencode_lsp.settings import Settings


def place_model(settings: Settings, notify: Notify, load: Callable[[], CompletingModel]) -> CompletingModel:
    """Return the model that the settings name, where they want it; raises what loading it raises."""
    own = _own(settings, notify, load)
    if not settings.remote:
        return own
    from greencode_lsp.team.remote import Address, TeamModel  # with TLS: only for who has a team

    try:
        return TeamModel(Address.of(settings.remote), own, notify)
    except TeamError as error:
        notify(str(error))
        return own


def _own(settings: Settings, notify: Notify, load: Callable[[], CompletingModel]) -> CompletingModel:
    def here() -> CompletingModel:
        return RestingModel(load, settings.unload_after_s)

    if not settings.shared_engine:
        return here()
    return SharedModel(settings, Means(lambda: join(Meeting.of_user()), here, notify))
