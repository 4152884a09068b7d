"""`greencode-serve`: run a team's engine, give users tokens, and say what a number of users needs."""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from greencode_lsp import __version__
from greencode_lsp.errors import GreenCodeError, TeamError
from greencode_lsp.files import harmless
from greencode_lsp.models.store import AUTO, data_home
from greencode_lsp.settings import Settings
from greencode_lsp.team.users import DEFAULT_PER_MINUTE, add_user

LOOPBACK = ("127.0.0.1", "localhost", "::1")
LOOPBACK_ALONE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Off, on any system, lets all of Ray's ports be the loopback's; read as Ray is imported."""
MISSING = "Ray is not installed; run `pip install 'greencode-lsp[serve]'`."


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all arguments."""
    parser = argparse.ArgumentParser(prog="greencode-serve", description="One engine for a team, on Ray Serve.")
    parser.add_argument("--version", action="version", version=f"greencode-serve {__version__}")
    parser.add_argument("--users", metavar="FILE", type=Path, default=data_home() / "team-users.json")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    _add_run(parser)
    user = commands.add_parser("user", help="add a user, or give one a new token, which is printed once")
    user.add_argument("name")
    user.add_argument("--per-minute", type=int, default=DEFAULT_PER_MINUTE, metavar="N", help="requests (%(default)s)")
    load = commands.add_parser("load-test", help="let simulated typists ask a running engine")
    load.add_argument("--url", default="http://127.0.0.1:8750")
    load.add_argument("--typists", type=int, default=200)
    load.add_argument("--seconds", type=float, default=30.0)
    simulation = commands.add_parser("simulate", help="say what a number of users needs, from measured service times")
    simulation.add_argument("--users-count", type=int, default=10_000, metavar="N")
    simulation.add_argument("--service-times", type=Path, metavar="FILE", help="as load-test writes them")
    simulation.add_argument("--p95-ms", type=float, default=500.0, help="to be kept (%(default)s)")
    load.add_argument("--write", type=Path, metavar="FILE", help="where to write the service times")
    return parser


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default=AUTO, help="as greencode.model (default: %(default)s)")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--host", default="127.0.0.1", help="another than the loopback needs TLS and users")
    parser.add_argument("--port", type=int, default=8750)
    parser.add_argument("--tls-cert", type=Path, metavar="FILE")
    parser.add_argument("--tls-key", type=Path, metavar="FILE")
    parser.add_argument("--replicas", type=int, default=1, metavar="N", help="copies of the model (%(default)s)")
    parser.add_argument("--max-replicas", type=int, default=0, metavar="N", help="more when requests wait")
    parser.add_argument("--cpus", type=float, default=1.0, metavar="N", help="of each copy (%(default)s)")
    parser.add_argument("--gpus", type=float, default=0.0, metavar="N", help="of each copy, also a part of one")
    parser.add_argument("--address", metavar="ADDRESS", help="of a Ray cluster to join, or auto (default: a new one)")
    parser.add_argument("--no-users", action="store_true", help="let anybody on this machine ask; loopback only")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, 1 for what the user can fix, 2 for a wrong usage."""
    arguments = build_parser().parse_args(argv)
    try:
        if arguments.command == "user":
            _write(add_user(arguments.users, arguments.name, arguments.per_minute))
            return 0
        if arguments.command == "load-test":
            from greencode_lsp.team.load import run as load_test

            return load_test(arguments.url, arguments.typists, arguments.seconds, arguments.write, _write)
        if arguments.command == "simulate":
            from greencode_lsp.team.simulation import run as simulate

            return simulate(arguments.users_count, arguments.service_times, arguments.p95_ms, _write)
        return serve(arguments)
    except GreenCodeError as error:
        print(f"greencode-serve: {harmless(str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def serve(arguments: argparse.Namespace) -> int:
    """Run the engine until it is told to end."""
    check(arguments)
    if importlib.util.find_spec("ray") is None:
        raise TeamError(MISSING)
    if arguments.address is None:
        os.environ[LOOPBACK_ALONE] = "0"
    from greencode_lsp.team import deployment

    settings = replace(Settings(), model=arguments.model, device=arguments.device)
    plan = deployment.DeploymentPlan(
        settings=settings,
        replicas=arguments.replicas,
        max_replicas=arguments.max_replicas,
        cpus=arguments.cpus,
        gpus=arguments.gpus,
        users=None if arguments.no_users else arguments.users.resolve(),
        host=arguments.host,
        port=arguments.port,
        certificate=arguments.tls_cert,
        key=arguments.tls_key,
        address=arguments.address,
    )
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    deployment.start(plan)
    try:
        deployment.deploy(plan)
        scheme = "https" if plan.certificate else "http"
        _write(f"The team's engine serves {arguments.model} at {scheme}://{plan.host}:{plan.port}.")
        _write(f"Metrics for Prometheus: {', '.join(deployment.metrics_addresses())}")
        ended.wait()
    finally:
        deployment.stop(plan)
    return 0


def check(arguments: argparse.Namespace) -> None:
    """Raise TeamError for what would be unsafe or cannot be."""
    is_local = arguments.host in LOOPBACK
    if (arguments.tls_cert is None) != (arguments.tls_key is None):
        raise TeamError("TLS needs both: --tls-cert and --tls-key.")
    for path in (arguments.tls_cert, arguments.tls_key):
        if path is not None and not path.is_file():
            raise TeamError(f"There is no file {path}.")
    if not is_local and arguments.tls_cert is None:
        raise TeamError("Beyond this machine text crosses the network: give --tls-cert and --tls-key.")
    if not is_local and arguments.no_users:
        raise TeamError("Beyond this machine users need tokens: leave out --no-users.")
    if not arguments.no_users and not arguments.users.is_file():
        raise TeamError(
            f"There are no users in {arguments.users}; add one: `greencode-serve user NAME`, or give --no-users to let "
            "anybody on this machine ask."
        )
    if not 1 <= arguments.replicas <= 1000 or not 1 <= arguments.port <= 65535:
        raise TeamError("--replicas must be from 1 to 1000, --port from 1 to 65535.")


def _write(text: str) -> None:
    print(harmless(text), flush=True)


if __name__ == "__main__":
    sys.exit(main())
