"""A team's engine on a Ray cluster of two nodes' processes: answers, counts, and loses no request with a copy of it."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import psutil
import pytest

from greencode_lsp.completion.model import LoadedModel
from greencode_lsp.records import Control
from greencode_lsp.settings import Settings
from greencode_lsp.team import remote
from greencode_lsp.team.load import Measured
from greencode_lsp.team.remote import Address, TeamModel
from greencode_lsp.team.users import add_user
from tests.fakes import SAMPLE, FakeEngine
from tests.host_engine import ignore, live, local_model, request

os.environ["RAY_AUTH_MODE"] = "disabled"  # the cluster is the test's own
ray: Any = pytest.importorskip("ray", reason="a team's engine needs the extra serve (ray is not installed)")
pytest.importorskip("aiohttp", reason="the load test needs the extra serve (aiohttp is not installed)")

TOKEN_S = 0.02


def before_token(control: Control, prefix: str) -> None:
    """Take a while, so that a copy of the model is lost in the middle of something."""
    threading.Event().wait(TOKEN_S)


def load() -> LoadedModel:
    """Load the fake in a replica."""
    return local_model(FakeEngine((SAMPLE,), before_token))


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    from greencode_lsp.team import deployment

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    users = tmp_path_factory.mktemp("team") / "users.json"
    os.environ["GREENCODE_REMOTE_TOKEN"] = add_user(users, "anna", per_minute=1_000_000)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    cluster.add_node(num_cpus=2)
    made = deployment.DeploymentPlan(Settings(), replicas=2, cpus=1.0, users=users, port=port, address=cluster.address)
    deployment.start(made)
    try:
        deployment.deploy(made, load)
        yield made
    finally:
        del os.environ["GREENCODE_REMOTE_TOKEN"]
        deployment.stop(made)
        cluster.shutdown()


@pytest.fixture
def url(plan: Any) -> str:
    return f"http://127.0.0.1:{plan.port}"


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for a machine that does other things too."""
    monkeypatch.setattr(remote, "TEAM_ANSWER_S", 20.0)


def test_an_editor_is_answered_by_the_team(url: str) -> None:
    model = TeamModel(Address.of(url), local_model(), ignore)
    made = model.complete(request(), live(), ignore)
    assert made.text == local_model().complete(request(), live(), ignore).text
    assert model.answered_by == "team"


def test_what_is_counted_is_there_for_prometheus_without_text(url: str) -> None:
    from greencode_lsp.team import deployment

    TeamModel(Address.of(url), local_model(), ignore).complete(request(), live(), ignore)
    pause, end_s, found = threading.Event(), time.monotonic() + 60, ""
    while "greencode_requests_total" not in found and time.monotonic() < end_s:
        pause.wait(0.5)
        pages = [urllib.request.urlopen(address, timeout=5).read() for address in deployment.metrics_addresses()]
        found = b"".join(pages).decode()
    counted = [line for line in found.splitlines() if line.startswith("ray_greencode_requests_total{")]
    assert any('user="anna"' in line and 'outcome="completed"' in line for line in counted)
    assert SAMPLE.splitlines()[0] not in found


def actors() -> list[dict[str, str]]:
    """Return the copies of the model."""
    return [one for one in ray.util.list_named_actors(all_namespaces=True) if "#model#" in one["name"]]


def under_load(url: str, meanwhile: Callable[[], object]) -> Measured:
    """Let typists ask, and do something while they do."""
    from greencode_lsp.team.load import measure

    with ThreadPoolExecutor(1) as executor:
        measuring = executor.submit(lambda: asyncio.run(measure(url, 4, 8.0)))
        threading.Event().wait(2.0)
        meanwhile()
        return measuring.result()


def test_a_copy_killed_under_load_loses_no_request(url: str) -> None:
    first = actors()[0]
    found = under_load(url, lambda: ray.kill(ray.get_actor(first["name"], namespace=first["namespace"])))
    assert found.problems == {}
    assert len(found.waited_ms) > 4


def test_a_plan_rolled_out_under_load_loses_no_request(url: str, plan: Any) -> None:
    from greencode_lsp.team import deployment

    before = {one["name"] for one in actors()}
    found = under_load(url, lambda: deployment.deploy(replace(plan, cpus=0.5), load))
    assert found.problems == {}
    assert before.isdisjoint(one["name"] for one in actors())


def test_a_wrong_token_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GREENCODE_REMOTE_TOKEN", "wrong")
    notices: list[str] = []
    TeamModel(Address.of(url), local_model(), notices.append)
    assert "does not know your token" in notices[0]


def test_an_engine_of_its_own_listens_to_this_machine_alone() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", "greencode_lsp.team", "--model", "bundled", "--no-users", "--port", port]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as served:
        try:
            assert served.stdout
            assert any("serves bundled" in line for line in served.stdout)
            family = [psutil.Process(served.pid), *psutil.Process(served.pid).children(recursive=True)]
            sockets = [one for process in family for one in process.net_connections("tcp")]
            heard = {one.laddr.ip for one in sockets if one.status == psutil.CONN_LISTEN}
        finally:
            served.terminate()
    assert heard
    assert heard <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
