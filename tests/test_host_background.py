"""What nobody waits for in the shared engine: audits, and prompts read in advance, give way to who waits."""

from __future__ import annotations

import threading
from dataclasses import replace

from greencode_lsp.records import Control
from tests.fakes import SAMPLE, FakeEngine
from tests.host_engine import SLOW, hang_when_slow, ignore, live, local_model, request, running, shared
from tests.test_host_shared import SLOW_REQUEST, wait_until


def test_an_audit_gives_way_to_who_waits() -> None:
    ready = threading.Event()

    class Patient(FakeEngine):
        def full_depth_argmax(self, prompt_ids: object, emitted_ids: object, control: Control) -> list[int]:
            ready.set()
            wait_until(control.cancelled)
            return super().full_depth_argmax([], [], control)

    with running(load=lambda settings, notify: local_model(Patient())) as engine:
        first, second = shared(engine.meeting), shared(engine.meeting)
        made = first.complete(request(), live(), ignore)
        audits: list[object] = []
        thread = threading.Thread(target=lambda: audits.append(first.audit(made, lambda: False).agreed))
        thread.start()
        assert ready.wait(10)
        assert second.complete(request(), live(), ignore).text
        thread.join(10)
    assert audits == [None]


def test_what_is_read_in_advance_gives_way_to_who_waits() -> None:
    fake = FakeEngine((SAMPLE, SLOW), hang_when_slow)
    with running(load=lambda settings, notify: local_model(fake)) as engine:
        first, second = shared(engine.meeting), shared(engine.meeting)
        reading = replace(SLOW_REQUEST, unasked=True)
        thread = threading.Thread(target=lambda: first.complete(reading, live(), ignore))
        thread.start()
        assert fake.running.wait(10)
        assert second.complete(request(), live(), ignore).text
        thread.join(10)
        assert not thread.is_alive()


def test_an_audit_finds_what_it_would_in_an_own_process() -> None:
    with running() as engine:
        own, model = local_model(), shared(engine.meeting)
        made = own.complete(request(), live(), ignore)
        assert replace(model.audit(made, lambda: False), elapsed_ms=0) == replace(
            own.audit(made, lambda: False), elapsed_ms=0, energy=model.audit(made, lambda: False).energy
        )
