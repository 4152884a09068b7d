"""`greencode-serve` without Ray: what it refuses, what it asks of Ray, users' tokens, how many copies are needed."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest

from greencode_lsp.errors import TeamError
from greencode_lsp.settings import Settings
from greencode_lsp.team.__main__ import build_parser, check, main
from greencode_lsp.team.simulation import Load, copies_needed
from greencode_lsp.team.users import Accounts, add_user


@pytest.fixture
def users(tmp_path: Path) -> Path:
    return tmp_path / "users.json"


def arguments(*given: str) -> Any:
    return build_parser().parse_args(list(given))


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["--host", "0.0.0.0", "--no-users"], "--tls-cert and --tls-key"),
        (["--tls-cert", "/etc/hostname"], "needs both"),
        (["--tls-cert", "/nowhere", "--tls-key", "/nowhere"], "no file"),
        (["--users", "/nowhere"], "greencode-serve user"),
        (["--no-users", "--replicas", "0"], "--replicas"),
    ],
)
def test_what_would_be_unsafe_is_refused(given: list[str], sentence: str) -> None:
    with pytest.raises(TeamError, match=sentence):
        check(arguments(*given))


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[MagicMock]:
    """Let `team.deployment` be imported with a Ray that only notes what it is asked."""
    for name in ("RAY_USAGE_STATS_ENABLED", "RAY_AUTH_MODE"):
        monkeypatch.setenv(name, "")  # undone after the test, whatever sets it meanwhile
        del os.environ[name]
    others = ("ray.exceptions", "ray.serve", "ray.serve.config", "ray.serve.exceptions", "ray.serve.metrics")
    for name in ("ray", *others, "starlette", "starlette.requests", "starlette.responses"):
        monkeypatch.setitem(sys.modules, name, MagicMock())
    fake = sys.modules["ray"]
    assert isinstance(fake, MagicMock)
    monkeypatch.delitem(sys.modules, "greencode_lsp.team.deployment", raising=False)
    yield fake
    sys.modules.pop("greencode_lsp.team.deployment", None)
    with suppress(AttributeError):
        del sys.modules["greencode_lsp.team"].deployment  # the next import would find it there


def deployed(address: str | None) -> Any:
    deployment = importlib.import_module("greencode_lsp.team.deployment")
    plan = deployment.DeploymentPlan(Settings(), address=address)
    deployment.start(plan)
    return lambda: deployment.stop(plan)


def test_an_engine_of_ones_own_joins_no_cluster_and_asks_for_a_token(ray: MagicMock) -> None:
    deployed(None)
    asked = ray.init.call_args.kwargs
    assert (asked["address"], asked["include_dashboard"]) == ("local", False)
    assert os.environ["RAY_AUTH_MODE"] == "token"


def test_an_engine_of_ones_own_ends_whole(ray: MagicMock) -> None:
    deployed(None)()
    assert ray.serve.shutdown.called
    assert ray.shutdown.called


def test_a_cluster_that_was_joined_is_left_as_it_is(ray: MagicMock) -> None:
    deployed("10.0.0.1:6379")()
    assert ray.init.call_args.kwargs["address"] == "10.0.0.1:6379"
    assert not ray.serve.shutdown.called
    assert ray.shutdown.called


def test_a_users_token_is_printed_once(users: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--users", str(users), "user", "anna"]) == 0
    token = capsys.readouterr().out.strip()
    assert Accounts(users).user_of(f"Bearer {token}") is not None


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, "../x"])
def test_a_name_that_is_none_is_refused(name: str, users: Path) -> None:
    with pytest.raises(TeamError):
        add_user(users, name)


def test_more_users_need_more_copies() -> None:
    times = [20.0, 40.0, 60.0]
    few, many = (copies_needed(Load(users), times, 200.0) for users in (100, 1000))
    assert 1 <= few < many
    assert many >= Load(1000).requests_per_s * 40 / 1000


def test_a_model_slower_than_what_is_wanted_is_said() -> None:
    with pytest.raises(TeamError, match="no number of copies"):
        copies_needed(Load(10), [900.0], 500.0)
