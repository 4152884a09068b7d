"""The shared engine over its socket: what an editor gets is what its own process would have made."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from greencode_lsp.completion.model import LoadedModel
from greencode_lsp.completion.request import LOOKED_AT, Request
from greencode_lsp.errors import EngineError, GreenCodeError, ModelNotFoundError
from greencode_lsp.host.client import SharedModel, within_reach
from greencode_lsp.host.meeting import Transport
from greencode_lsp.host.turns import Turn
from greencode_lsp.power import Battery
from greencode_lsp.prompt.context import CHARACTERS_PER_TOKEN
from greencode_lsp.records import Control
from greencode_lsp.settings import Settings
from tests.fakes import MANIFEST, SAMPLE, FakeEngine, backend, meter
from tests.host_engine import SLOW, Running, hang_when_slow, ignore, live, local_model, request, running, shared

SLOW_REQUEST = Request("slow = ", 7, "python", invoked=True)


@pytest.fixture(params=["unix", "tcp"])
def transport(request: pytest.FixtureRequest) -> Transport:
    kind: Transport = request.param
    return kind


@pytest.fixture
def engine() -> Iterator[Running]:
    with running() as one:
        yield one


def wait_until(condition: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end_s
        threading.Event().wait(0.005)


def test_a_completion_is_the_one_of_an_own_process(transport: Transport) -> None:
    own = local_model().complete(request(), live(), ignore)
    with running(transport) as engine:
        made = shared(engine.meeting).complete(request(), live(), ignore)
    assert replace(made, elapsed_ms=0) == replace(own, elapsed_ms=0)
    assert made.text


def test_the_facts_of_a_model_cross_without_what_is_for_people_to_read(engine: Running) -> None:
    facts = shared(engine.meeting).facts
    assert facts.manifest == replace(MANIFEST, training={}, files={})
    assert facts.device == "cpu"


def test_the_text_so_far_is_heard_while_the_engine_works(engine: Running) -> None:
    heard: list[str] = []
    made = shared(engine.meeting).complete(request(), live(), heard.append)
    assert heard
    assert all(made.text.lstrip().startswith(text.strip()[:4].strip()) or not text.strip() for text in heard)


def test_two_editors_share_one_model() -> None:
    loads: list[str] = []

    def load(settings: Settings, notify: object) -> LoadedModel:
        loads.append(settings.model)
        return local_model()

    with running(load=load) as engine:
        for model in (shared(engine.meeting), shared(engine.meeting)):
            assert model.complete(request(), live(), ignore).text
    assert loads == ["bundled"]


def test_editors_may_have_chosen_different_models() -> None:
    loads: list[str] = []

    def load(settings: Settings, notify: object) -> LoadedModel:
        loads.append(settings.model)
        return local_model()

    with running(load=load) as engine:
        first, second = shared(engine.meeting, model="a"), shared(engine.meeting, model="b")
        for model in (first, second, first, second):
            assert model.complete(request(), live(), ignore).text
    assert loads == ["a", "b"]


def test_a_changed_preference_rules_the_next_token_of_a_running_completion() -> None:
    fake = FakeEngine((SAMPLE,))
    settings = [Settings(exit_policy="agent", min_agreement=0.99)]

    def change(control: Control, prefix: str) -> None:
        before = control.config()
        settings[0] = Settings(exit_policy="agent", min_agreement=0.9)
        wait_until(lambda: control.config() != before or len(fake.configs) > 0)

    fake.before_token = change
    with running(load=lambda settings, notify: local_model(fake)) as engine:
        control = replace(live(), settings=lambda: settings[0])
        shared(engine.meeting).complete(request(), control, ignore)
    assert fake.configs[0].threshold != live(Settings(exit_policy="agent", min_agreement=0.99)).config().threshold


def test_a_preference_changed_before_a_requests_turn_rules_all_its_tokens() -> None:
    fake, stop = FakeEngine((SAMPLE, SLOW), hang_when_slow), threading.Event()
    careful, bold = Settings(exit_policy="agent", min_agreement=0.99), Settings(exit_policy="agent", min_agreement=0.9)
    chosen = [careful]
    with running(load=lambda settings, notify: local_model(fake)) as engine:
        first, second = shared(engine.meeting), shared(engine.meeting)
        slow = threading.Thread(target=first.complete, args=(SLOW_REQUEST, live(cancelled=stop.is_set), ignore))
        slow.start()
        assert fake.running.wait(10)
        control = replace(live(), settings=lambda: chosen[0])
        waiting = threading.Thread(target=second.complete, args=(request(), control, ignore))
        waiting.start()
        wait_until(lambda: not engine.engine.turns.is_empty)
        chosen[0] = bold
        wait_until(lambda: control._config == live(bold).config())
        threading.Event().wait(0.1)  # for the message to arrive
        stop.set()
        slow.join(10)
        waiting.join(10)
    assert {config.threshold for config in fake.configs} == {live(bold).config().threshold}


def test_a_cancelled_completion_ends_with_what_it_has_spent(engine: Running) -> None:
    cancelled = threading.Event()
    model = shared(engine.meeting)
    threading.Timer(0.05, cancelled.set).start()
    made = model.complete(SLOW_REQUEST, live(cancelled=cancelled.is_set), ignore)
    assert made.text == ""
    assert made.energy.energy_j > 0
    assert model.complete(request(), live(), ignore).text


def test_a_request_cancelled_before_its_turn_has_spent_nothing() -> None:
    fake = FakeEngine((SAMPLE, SLOW), hang_when_slow)
    stop_first, stop_second = threading.Event(), threading.Event()
    with running(load=lambda settings, notify: local_model(fake)) as engine:
        first, second = shared(engine.meeting), shared(engine.meeting)
        thread = threading.Thread(target=first.complete, args=(SLOW_REQUEST, live(cancelled=stop_first.is_set), ignore))
        thread.start()
        assert fake.running.wait(10)
        threading.Timer(0.05, stop_second.set).start()
        made = second.complete(request(), live(cancelled=stop_second.is_set), ignore)
        stop_first.set()
        thread.join(10)
    assert (made.text, made.energy.energy_j, len(fake.prompts)) == ("", 0.0, 1)


def test_an_editor_that_is_gone_lets_the_next_one_in() -> None:
    fake = FakeEngine((SAMPLE, SLOW), hang_when_slow)
    with running(load=lambda settings, notify: local_model(fake)) as engine:
        gone, other = shared(engine.meeting), shared(engine.meeting)
        thread = threading.Thread(target=gone.complete, args=(SLOW_REQUEST, live(), ignore))
        thread.start()
        assert fake.running.wait(10)
        gone.close()
        assert other.complete(request(), live(), ignore).text
        thread.join(10)


def test_an_error_comes_as_it_would_in_an_own_process() -> None:
    def load(settings: Settings, notify: object) -> LoadedModel:
        raise ModelNotFoundError("There is no model here.")

    with running(load=load) as engine:
        with pytest.raises(ModelNotFoundError, match="There is no model here"):
            shared(engine.meeting)
        assert engine.has_ended()  # with nobody left: the connection is closed


def test_an_unforeseen_error_says_nothing_of_the_text() -> None:
    def fail(control: Control, prefix: str) -> None:
        raise KeyError(prefix)

    with running(load=lambda settings, notify: local_model(FakeEngine((SAMPLE,), fail))) as engine:
        model = shared(engine.meeting)
        with pytest.raises(EngineError) as caught:
            model.complete(request(), live(), ignore)
    assert "KeyError" in str(caught.value)
    assert "append_items" not in str(caught.value)


def test_a_sentence_of_the_engine_reaches_the_user() -> None:
    sentences: list[str] = []

    def load(settings: Settings, notify: Callable[[str], None]) -> LoadedModel:
        notify("The counter is lost.")
        return local_model()

    with running(load=load) as engine:
        shared(engine.meeting, notify=sentences.append)
    assert sentences == ["The counter is lost."]


def test_a_model_that_rested_is_loaded_again_for_the_next_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Settings, "unload_after_s", 0.01)
    loads: list[str] = []

    def load(settings: Settings, notify: object) -> LoadedModel:
        loads.append(settings.model)
        return local_model()

    with running(load=load) as engine:
        model = shared(engine.meeting)
        wait_until(lambda: engine.engine.is_resting)
        assert model.complete(request(), live(), ignore).text
    assert len(loads) == 2


def test_a_battery_nearly_empty_lets_the_model_go_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("greencode_lsp.completion.resting.LOW_BATTERY_REST_S", 0.01)
    with running(battery=lambda: Battery(19.0, is_discharging=True)) as engine:
        shared(engine.meeting)
        wait_until(lambda: engine.engine.is_resting)


def test_the_engine_ends_when_nobody_is_left(transport: Transport) -> None:
    with running(transport) as engine:
        first, second = shared(engine.meeting), shared(engine.meeting)
        first.close()
        assert not engine.has_ended(0.5)
        second.close()
        assert engine.has_ended()
        assert not engine.meeting.path.exists()


@pytest.mark.parametrize("error", [GreenCodeError("x"), ValueError("x")])
def test_the_engine_outlives_whatever_a_load_raises(error: Exception) -> None:
    failures = [error]

    def load(settings: Settings, notify: object) -> LoadedModel:
        if failures:
            raise failures.pop()
        return local_model()

    with running(load=load) as engine:
        with pytest.raises(GreenCodeError):
            shared(engine.meeting)
        assert shared(engine.meeting).complete(request(), live(), ignore).text


@pytest.mark.parametrize("name", ["\ud800", 1 << 70])
def test_the_engine_outlives_an_answer_that_cannot_be_sent(name: Any) -> None:
    names = [name]

    def load(settings: Settings, notify: object) -> LoadedModel:
        return LoadedModel(backend(manifest=replace(MANIFEST, name=names[-1])), meter())

    with running(load=load) as engine:
        with pytest.raises(EngineError, match="Error inside the shared engine"):
            shared(engine.meeting, model="unspeakable")
        names.append("plain")
        assert shared(engine.meeting).complete(request(), live(), ignore).text


def test_a_sentence_is_sent_in_characters_that_utf_8_has() -> None:
    def load(settings: Settings, notify: Callable[[str], None]) -> LoadedModel:
        notify("Of \ud800.")
        raise ModelNotFoundError("There is no \ud800.")

    sentences: list[str] = []
    with running(load=load) as engine, pytest.raises(ModelNotFoundError, match=r"There is no \?\."):
        shared(engine.meeting, notify=sentences.append)
    assert sentences == ["Of ?."]


def test_the_engine_outlives_a_turn_that_fails(engine: Running) -> None:
    def fail() -> None:
        raise ValueError

    engine.engine.turns.add(Turn(fail))
    assert shared(engine.meeting).complete(request(), live(), ignore).text


def test_a_model_goes_with_the_last_editor_that_has_chosen_it(engine: Running) -> None:
    first, second, other = (shared(engine.meeting, model=model) for model in "aab")
    first.close()
    assert second.complete(request(), live(), ignore).text
    assert set(engine.engine._models) == {"a", "b"}
    second.close()
    wait_until(lambda: set(engine.engine._models) == {"b"})
    assert other.complete(request(), live(), ignore).text


def test_a_model_stays_for_the_most_patient_editor_that_is_here(
    engine: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = []
    for wait_s in (None, 0.01):
        monkeypatch.setattr(Settings, "unload_after_s", wait_s)
        models.append(shared(engine.meeting))
    threading.Event().wait(0.1)
    assert not engine.engine.is_resting
    models[0].close()
    wait_until(lambda: engine.engine.is_resting)


def test_a_model_that_loading_has_shown_to_be_another_is_loaded_once() -> None:
    loads: list[str] = []

    def load(settings: Settings, notify: object) -> LoadedModel:
        loads.append(settings.model)
        return local_model()

    with running(load=load, identify=lambda settings: "smaller" if loads else "larger") as engine:
        for model in (shared(engine.meeting), shared(engine.meeting)):
            assert model.complete(request(), live(), ignore).text
    assert len(loads) == 1


@pytest.mark.parametrize("side", ["before", "after"])
def test_only_what_a_completion_looks_at_crosses(side: str) -> None:
    reach = max(LOOKED_AT, 448 * CHARACTERS_PER_TOKEN)
    far = "secret\n" * reach
    text = far + "x = " if side == "before" else "x = " + "\n" * reach + far
    offset = len(text) if side == "before" else 4
    near = within_reach(Request(text, offset, "python"), 448)
    assert len(near.text) <= 2 * reach + 4
    assert near.text[: near.offset].endswith("x = ")


def test_a_text_cut_to_its_reach_is_completed_alike() -> None:
    lines = "".join(f"value_{i} = {i} * {i}\n" for i in range(6000))
    cursor = lines.index("value_3000 = ") + 13
    whole = Request(lines, cursor, "python", invoked=True)
    fake = FakeEngine()
    model = local_model(fake)
    model.complete(whole, live(), ignore)
    model.complete(within_reach(whole, Settings().max_prompt_tokens), live(), ignore)
    assert fake.prompts[0] == fake.prompts[1]


def test_characters_that_utf_8_has_not_are_no_obstacle(engine: Running) -> None:
    made = shared(engine.meeting).complete(Request("x = '\ud800'\nif ", 11, "python", "/\udcff.py"), live(), ignore)
    assert isinstance(made.text, str)


def test_a_shared_model_says_that_it_is_shared(engine: Running) -> None:
    model: SharedModel = shared(engine.meeting)
    assert model.answered_by == "shared"
