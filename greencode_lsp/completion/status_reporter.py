"""The status that the user sees: made of what the worker's thread knows and of what the event loop's knows."""

from __future__ import annotations

from collections.abc import Callable

from greencode_lsp.completion.model_host import ModelHost
from greencode_lsp.completion.notifier import Notifier
from greencode_lsp.completion.recorder import CompletionRecorder
from greencode_lsp.completion.scoped_settings import ScopedSettings
from greencode_lsp.completion.status import State, Status
from greencode_lsp.models.manifest import Manifest
from greencode_lsp.power import Power
from greencode_lsp.preference import choices
from greencode_lsp.records import Completion
from greencode_lsp.settings import Settings


def _policy(settings: Settings, manifest: Manifest) -> str:
    return manifest.policies if settings.exit_policy == "auto" else settings.exit_policy


class StatusReporter:
    """Calls `report` with each new status, on the event loop's thread, which alone writes the attributes."""

    def __init__(
        self,
        report: Callable[[Status], None],
        notifier: Notifier,
        settings: ScopedSettings,
        power: Power,
    ) -> None:
        self._report, self._notifier, self._settings, self._power = report, notifier, settings, power
        self.is_paused = False
        self.reason: str | None = None
        """Why nothing is suggested, or what stands in for what."""

    def give_reason(self, reason: str | None) -> None:
        """Let the next status have a reason; to be called on the worker's thread."""

        def take() -> None:
            self.reason = reason

        self._notifier.on_loop(take)

    def publish(self, host: ModelHost, recorder: CompletionRecorder, last: Completion | None) -> None:
        """Report what the worker's thread knows now; to be called on it."""
        loaded, state, failure, today = host.loaded, host.state, host.failure, recorder.today()
        manifest = loaded.facts.manifest if loaded else None
        device = loaded.facts.device if loaded else ""
        answered_by = loaded.answered_by if loaded else None

        def report() -> None:
            power = self._power.state()
            settings = self._settings.resolve("", "", power)
            language = next(iter(manifest.calibration or manifest.languages), "") if manifest else ""
            shown: State = "paused" if self.is_paused else state
            self._report(
                Status(
                    state=shown,
                    model=manifest.name if manifest else settings.model,
                    preference=settings.preference,
                    reason=self.reason or (failure if state == "failed" else None),
                    device=device,
                    answered_by=answered_by,
                    power=power,
                    last=last,
                    today=today,
                    exit_policy=_policy(settings, manifest) if manifest else "",
                    choices=choices(settings, manifest, language) if manifest else (),
                )
            )

        self._notifier.on_loop(report)
