"""The team's engine on Ray Serve: the only file that knows Ray."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# read as Ray is imported
os.environ.setdefault("RAY_AUTH_MODE", "token")  # nobody else on the machine may use its ports
os.environ.setdefault("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", "60")  # a busy machine takes more than Ray's five

import ray
from ray import serve
from ray.exceptions import RayActorError, RayError
from ray.serve.config import AutoscalingConfig, HTTPOptions
from ray.serve.exceptions import BackPressureError
from ray.serve.metrics import Counter, Histogram
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from greencode_lsp.completion.model import CompletingModel
from greencode_lsp.errors import TeamError
from greencode_lsp.settings import Settings
from greencode_lsp.team.gate import BusyError, Copies, Gate, LostReplicaError, bounded
from greencode_lsp.team.replica import Replica
from greencode_lsp.team.users import Accounts

APPLICATION = "greencode"
ONGOING = 4
"""Requests at one copy of the model, one of which runs: more would wait longer than an editor does."""
QUEUED = 4
"""Requests that wait for a copy; more are refused at once, or all would be answered when nobody waits any more."""
UPSCALE_DELAY_S = 5.0
BOUNDS_MS = [5, 10, 20, 50, 100, 200, 300, 400, 500, 750, 1000, 2000]


@dataclass(frozen=True, slots=True)
class DeploymentPlan:
    """How the engine is deployed."""

    settings: Settings
    """Of which model, device and precision count."""
    replicas: int = 1
    max_replicas: int = 1
    """More than `replicas`: between the two, by how many requests wait."""
    cpus: float = 1.0
    gpus: float = 0.0
    """Of each copy of the model."""
    users: Path | None = None
    host: str = "127.0.0.1"
    port: int = 8750
    certificate: Path | None = None
    key: Path | None = None
    address: str | None = None
    """Of the Ray cluster to join; None: one of its own, on this machine alone."""

    @property
    def is_alone(self) -> bool:
        """Whether the cluster is the engine's own."""
        return self.address is None


class PrometheusMeters:
    """Counts for Prometheus, by user and outcome; no text."""

    def __init__(self) -> None:
        by = ("user", "outcome")
        self._requests = Counter("greencode_requests_total", description="Requests.", tag_keys=by)
        self._tokens = Counter("greencode_tokens_total", description="Tokens made.", tag_keys=("user",))
        self._energy = Counter("greencode_energy_joules_total", description="Energy attributed.", tag_keys=("user",))
        self._elapsed = Histogram(
            "greencode_elapsed_ms", description="To the answer.", boundaries=BOUNDS_MS, tag_keys=by
        )

    def count(self, user: str, outcome: str, elapsed_ms: float, tokens: int, energy_j: float) -> None:
        """See `Meters`."""
        self._requests.inc(tags={"user": user, "outcome": outcome})
        self._elapsed.observe(elapsed_ms, tags={"user": user, "outcome": outcome})
        if tokens:
            self._tokens.inc(tokens, tags={"user": user})
        if energy_j > 0:
            self._energy.inc(energy_j, tags={"user": user})


class ModelCopy(Replica):
    """A replica's process."""

    def __init__(self, load: Callable[[], CompletingModel], is_alone: bool) -> None:
        if is_alone:
            _listen_here_alone()
        super().__init__(load())


class Door:
    """The gate's process."""

    def __init__(self, copies: Any, users: Path | None, is_alone: bool) -> None:  # noqa: ANN401 - Ray's handle
        if is_alone:
            _listen_here_alone()

        async def complete(body: bytes) -> bytes:
            try:
                made: bytes = await copies.complete.remote(body)
            except BackPressureError:
                raise BusyError from None
            except (RayActorError, RayError) as error:
                raise LostReplicaError(type(error).__name__) from None
            return made

        async def facts() -> bytes:
            try:
                made: bytes = await copies.facts.remote()
            except RayError as error:
                raise LostReplicaError(type(error).__name__) from None
            return made

        self._gate = Gate(Copies(complete, facts), Accounts(users), PrometheusMeters())

    async def __call__(self, request: HttpRequest) -> Response:
        """Answer one HTTP request."""
        authorization = request.headers.get("authorization", "")
        reply = await self._gate.answer(
            request.method, request.url.path, authorization, lambda: bounded(request.stream())
        )
        return Response(reply.body, reply.status, dict(reply.headers), "application/json")


def load_for_team(settings: Settings) -> Callable[[], CompletingModel]:
    """Return what loads the model in a replica: at the normal priority, for nobody types at that machine."""

    def load() -> CompletingModel:
        from greencode_lsp.completion.backend import load_backend
        from greencode_lsp.completion.model import LoadedModel
        from greencode_lsp.energy.detect import detect

        backend = load_backend(settings)
        return LoadedModel(backend, detect(backend.engine.device, lambda sentence: None, backend.checkpoint))

    return load


def _listen_here_alone() -> None:
    """Let this process's port for others of the cluster be the loopback's; Ray opens it on every address.

    It asks for Ray's token, and would else read what it is sent by pickle.
    """
    from ray.serve._private import replica  # there is no public way

    def opened(server: Any, address: str) -> Any:  # noqa: ANN401 - gRPC's
        return add_port(server, f"127.0.0.1:{address.rpartition(':')[2]}")

    add_port, replica.add_port_to_grpc_server = replica.add_port_to_grpc_server, opened


def start(plan: DeploymentPlan) -> None:
    """Begin a Ray cluster on this machine alone, or join the plan's; Ray's makers hear nothing (I5)."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    tls = {} if plan.certificate is None else {"ssl_certfile": str(plan.certificate), "ssl_keyfile": str(plan.key)}
    with _explained():
        ray.init(address=plan.address or "local", include_dashboard=False, log_to_driver=False, configure_logging=False)
        serve.start(http_options=HTTPOptions(host=plan.host, port=plan.port, **tls))


@contextmanager
def _explained() -> Iterator[None]:
    """Turn what Ray raises into a sentence; its own words are a page, and stand in its logs."""
    try:
        yield
    except (RayError, ConnectionError, TimeoutError, RuntimeError) as error:
        raise TeamError(
            f"Ray did not start the engine ({type(error).__name__}); see /tmp/ray/session_latest/logs, and try again: "
            "a machine that is busy with other things may take too long."
        ) from error


def deploy(plan: DeploymentPlan, load: Callable[[], CompletingModel] | None = None) -> None:
    """Deploy the engine, or roll a changed plan out: each copy is replaced when its successor serves."""
    options: dict[str, Any] = {"num_cpus": plan.cpus, "num_gpus": plan.gpus}
    scaling: dict[str, Any] = (
        {"num_replicas": plan.replicas}
        if plan.max_replicas <= plan.replicas
        else {
            "autoscaling_config": AutoscalingConfig(
                min_replicas=plan.replicas,
                max_replicas=plan.max_replicas,
                target_ongoing_requests=1,
                upscale_delay_s=UPSCALE_DELAY_S,
            )
        }
    )
    copies = serve.deployment(
        ModelCopy,
        name="model",
        max_ongoing_requests=ONGOING,
        max_queued_requests=QUEUED,
        ray_actor_options=options,
        **scaling,
    )
    door = serve.deployment(Door, name="door", max_ongoing_requests=1000, ray_actor_options={"num_cpus": 0})
    model = copies.bind(load or load_for_team(plan.settings), plan.is_alone)
    with _explained():
        serve.run(door.bind(model, plan.users, plan.is_alone), name=APPLICATION, route_prefix="/")


def metrics_addresses() -> list[str]:
    """Return where Prometheus finds what is counted, an address for each machine of the cluster."""
    nodes = [node for node in ray.nodes() if node["Alive"]]
    return [f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics" for node in nodes]


def stop(plan: DeploymentPlan) -> None:
    """End the engine and the cluster that `start` began; leave one that it joined, with all that runs there."""
    if plan.is_alone:
        serve.shutdown()  # every application's, not this one's alone
    ray.shutdown()
