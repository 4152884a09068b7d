"""The command line: serve an editor, show the demo, complete one position, keep models, find what is wrong.

Everything heavy is imported by the subcommand that needs it, so that `--version` and an editor's start are immediate.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from greencode_lsp import __version__
from greencode_lsp.errors import GreenCodeError, PositionError
from greencode_lsp.files import harmless
from greencode_lsp.imports import distrust_current_folder
from greencode_lsp.settings import Settings, parse

if TYPE_CHECKING:
    from greencode_lsp.demo.demo import Completer
    from greencode_lsp.demo.positions import CursorPosition
    from greencode_lsp.records import Completion

SCOPES = ("today", "week", "all")
LANGUAGES = {".py": "python", ".pyi": "python", ".java": "java"}
"""File suffix -> the editor's language id; others are named by their suffix."""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all arguments."""
    parser = argparse.ArgumentParser(prog="greencode-lsp", description="Code completion that is worth its energy.")
    parser.add_argument("--version", action="version", version=f"greencode-lsp {__version__}")
    parser.add_argument("--stdio", action="store_true", help="serve an editor over standard input and output")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    demo = commands.add_parser("demo", help="complete at ten positions of sample files, offline")
    complete = commands.add_parser("complete", help="complete at one position of a file")
    complete.add_argument("position", metavar="FILE:LINE:COLUMN", help="line and column from 1, column in code points")
    for command in (demo, complete):
        command.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
        command.add_argument(
            "--preference", metavar="P", help='"accuracy", "balanced" (the default), "energy", or a number from 1 to 0'
        )
        _add_model(command)

    energy = commands.add_parser("energy", help="what completions have cost, and what early exits have saved")
    energy.add_argument("scope", nargs="?", choices=SCOPES, default="today", help="since when (default: today)")
    forms = energy.add_mutually_exclusive_group()
    forms.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    forms.add_argument("--html", metavar="FILE", help="write one self-contained page; - prints it")
    forms.add_argument("--csv", metavar="FILE", help="write the ledger's rows; - prints them")
    energy.add_argument("--carbon-intensity", type=float, metavar="G", help="grams of CO2e per kWh, to show CO2")

    profile = commands.add_parser(
        "profile", aliases=["calibrate"], help="time the model on this machine, for better energy figures"
    )
    _add_model(profile)

    _add_models(commands.add_parser("models", help="list, find, pull, look at, verify or remove models"))
    doctor = commands.add_parser("doctor", help="check every piece that a suggestion needs, and say what to fix")
    doctor.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    _add_model(doctor)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, 1 for what the user can fix, 2 for a wrong usage."""
    distrust_current_folder()
    parser = build_parser()
    arguments = parser.parse_args(argv)
    try:
        if arguments.stdio:
            return serve()
        if arguments.command == "demo":
            return demo(arguments)
        if arguments.command == "complete":
            return complete(arguments)
        if arguments.command == "energy":
            return energy(arguments)
        if arguments.command in ("profile", "calibrate"):
            return profile(arguments)
        if arguments.command == "models":
            return models(arguments)
        if arguments.command == "doctor":
            return doctor(arguments)
    except GreenCodeError as error:
        _notify(str(error))
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # noqa: BLE001 - the boundary: a user gets a sentence, never a traceback
        _notify(f"greencode-lsp failed ({type(error).__name__}: {error}); please report it with the command you ran.")
        return 1
    parser.print_help(sys.stderr)
    return 2


def serve() -> int:
    """Serve one editor over standard input and output until it says exit."""
    from greencode_lsp.completion.parts import ServiceParts
    from greencode_lsp.completion.service import CompletionService
    from greencode_lsp.host.place import place_model
    from greencode_lsp.lsp.server import serve_stdio

    parts = ServiceParts(place=place_model)
    return serve_stdio(lambda notify, report: CompletionService(notify, report, parts))


def demo(arguments: argparse.Namespace) -> int:
    """Complete at the demo's positions."""
    from greencode_lsp.demo.demo import run

    _tolerate_any_character(sys.stdout)
    settings = _settings(arguments)
    run(load_completer(settings), _write, as_json=arguments.json)
    if not arguments.json:
        from greencode_lsp.completion.selection import advice

        recommendation = advice(settings)
        if recommendation:
            _write("\n" + recommendation)
    return 0


def complete(arguments: argparse.Namespace) -> int:
    """Complete at one position of the user's file."""
    from greencode_lsp.demo.report import describe, to_json

    position = read_position(arguments.position)
    completer = load_completer(_settings(arguments))
    completion = completer.complete(position)
    _tolerate_any_character(sys.stdout)
    if arguments.json:
        _write(to_json([completion], completer.model, completer.device))
    else:
        _write(describe(position, completion))
    return 0


def energy(arguments: argparse.Namespace) -> int:
    """Show what the ledger adds up to."""
    from greencode_lsp.energy.command import Form, ReportOptions, run

    _tolerate_any_character(sys.stdout)
    is_unicode = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    form: Form = "json" if arguments.json else "html" if arguments.html else "csv" if arguments.csv else "text"
    file = arguments.html or arguments.csv
    run(ReportOptions(arguments.scope, form, file, arguments.carbon_intensity, "█" if is_unicode else "#"), _write)
    return 0


def profile(arguments: argparse.Namespace) -> int:
    """Time the model here and keep the result."""
    from greencode_lsp.profile import run

    run(_settings(arguments), _write)
    return 0


def models(arguments: argparse.Namespace) -> int:
    """List, find, pull, show, verify or remove models; the weights are not loaded."""
    from greencode_lsp.models import commands
    from greencode_lsp.models.store import BUNDLED

    if arguments.action == "list":
        commands.show_list(_write)
    elif arguments.action == "catalogue":
        commands.show_catalogue(_write, as_json=arguments.json)
    elif arguments.action == "find":
        commands.show_local(_write, as_json=arguments.json)
    elif arguments.action == "pull":
        from greencode_lsp.models.hugging_face import HuggingFaceHub  # nothing else imports the hub's client

        output = commands.PullOutput(_write, _notify, as_json=arguments.json)
        commands.pull(arguments.name, arguments.revision, HuggingFaceHub(), output)
    elif arguments.action == "remove":
        commands.remove(arguments.name, _write)
    else:
        show = commands.show_info if arguments.action == "info" else commands.verify
        show(arguments.name or arguments.model or BUNDLED, _write)
    return 0


def doctor(arguments: argparse.Namespace) -> int:
    """Check every piece; 0 when suggestions work."""
    from greencode_lsp import doctor

    _tolerate_any_character(sys.stdout)
    checks = doctor.examine(_settings(arguments), doctor.Probes(load_completer))
    _write(doctor.to_json(checks) if arguments.json else doctor.table(checks))
    return 0 if doctor.suggestions_work(checks) else 1


def load_completer(settings: Settings) -> Completer:
    """Load the model once, with its meter; its time is no completion's."""
    from greencode_lsp.completion.backend import load_backend
    from greencode_lsp.completion.pipeline import LiveControl
    from greencode_lsp.completion.pipeline import complete as complete_request
    from greencode_lsp.completion.request import Request
    from greencode_lsp.demo.demo import Completer
    from greencode_lsp.energy.detect import detect

    backend = load_backend(settings)
    if backend.note:
        _notify(backend.note)
    meter = detect(backend.engine.device, _notify, backend.checkpoint)

    def complete_position(position: CursorPosition) -> Completion:
        request = Request(position.text, position.offset, position.language, invoked=True)
        control = LiveControl.of(settings, backend.manifest, request.language)
        return complete_request(backend, request, control, meter)

    return Completer(complete_position, backend.manifest.name, backend.engine.device)


def read_position(argument: str) -> CursorPosition:
    """Return the cursor that FILE:LINE:COLUMN names; raises PositionError with what to fix."""
    from greencode_lsp.demo.positions import CursorPosition
    from greencode_lsp.prompt.ignore import Rules

    file, line_number, column = _split(argument)
    path = Path(file)
    try:
        verdict = Rules().denied(str(path.absolute()), [str(Path.cwd())], ())
        if verdict is not None:
            raise PositionError(f"{file} is not completed: {verdict}.")
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise PositionError(f"{file} is not UTF-8 (byte {error.start + 1}); save it as UTF-8.") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise PositionError(f"{file} cannot be read ({reason}); name a text file.") from error
    lines = text.split("\n")
    if not 1 <= line_number <= len(lines):
        raise PositionError(f"{file} has no line {line_number}; it has lines 1 to {len(lines)}.")
    line = lines[line_number - 1].removesuffix("\r")
    if not 1 <= column <= len(line) + 1:
        raise PositionError(f"Line {line_number} of {file} has no column {column}; it has 1 to {len(line) + 1}.")
    offset = sum(len(before) + 1 for before in lines[: line_number - 1]) + column - 1
    suffix = path.suffix.lower()
    return CursorPosition(file, text, offset, LANGUAGES.get(suffix, suffix.removeprefix(".") or "plaintext"))


def _split(argument: str) -> tuple[str, int, int]:
    parts = argument.rsplit(":", 2)
    try:
        file, line_number, column = parts[0], int(parts[1]), int(parts[2])
    except (IndexError, ValueError):
        raise PositionError(f"{argument!r} is no position; write FILE:LINE:COLUMN, for example app.py:12:5.") from None
    return file, line_number, column


def _add_models(command: argparse.ArgumentParser) -> None:
    actions = command.add_subparsers(dest="action", metavar="ACTION", required=True)
    actions.add_parser("list", help="the bundled model and those pulled")
    catalogue = actions.add_parser("catalogue", help="models offered by name: licence, size, needs, measured quality")
    find = actions.add_parser("find", help="models that Ollama, llama.cpp, LM Studio or the hub's cache keep here")
    pull = actions.add_parser("pull", help="fetch a model, checked; resumes where an earlier pull ended")
    for action in (catalogue, find, pull):
        action.add_argument("--json", action="store_true", help="print JSON and nothing else (pull: an object a line)")
    pull.add_argument("--revision", metavar="REV", help="a branch, tag or commit instead of the newest")
    remove = actions.add_parser("remove", help="delete a pulled model")
    for action in (pull, remove):
        action.add_argument("name", metavar="NAME", help="of the catalogue, or OWNER/NAME of the hub")
    info = actions.add_parser("info", help="what the model says about itself")
    verify = actions.add_parser("verify", help="check every file against its SHA-256")
    for action in (info, verify):
        action.add_argument("name", metavar="NAME", nargs="?", help="a pulled model, or a folder (default: bundled)")
        _add_model(action)


def _add_model(command: argparse.ArgumentParser) -> None:
    command.add_argument("--model", metavar="MODEL", help="what greencode.model takes: a name or a path")


def _settings(arguments: argparse.Namespace) -> Settings:
    """Return the settings that the options give; a bad value is reported, as the server does."""
    preference: str | float | None = getattr(arguments, "preference", None)
    if isinstance(preference, str):
        with suppress(ValueError):  # a name such as "energy", or one that is reported below
            preference = float(preference)
    settings, sentences = parse({"preference": preference, "model": arguments.model}, Settings())
    for sentence in sentences:
        _notify(sentence)
    return settings


def _tolerate_any_character(stream: TextIO) -> None:
    """Let a terminal that cannot show a character show its code instead."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")


def _write(text: str) -> None:
    print(harmless(text), flush=True)


def _notify(sentence: str) -> None:
    print(f"greencode-lsp: {harmless(sentence)}", file=sys.stderr, flush=True)
