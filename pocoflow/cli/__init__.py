"""The command line: arguments in, library calls, output.

Each command is a module, named in :data:`COMMANDS` and imported only when it is called, so that
``pocoflow --help`` costs little more than ``import pocoflow``. The module has one function,
``register(parser)``, which adds the arguments of the command and sets the function to call with
``parser.set_defaults(execute=...)``; that function takes the parsed arguments and returns the exit
code, and its docstring is the help of the command. The library never imports this package.

Exit codes: 0 done; 1 something was found or failed; 2 the arguments are invalid, or what they name
does not exist; 3 a run waits for an answer; 130 interrupted with Ctrl-C.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from pocoflow._version import __version__
from pocoflow.cli.output import CommandError, printable
from pocoflow.errors import CheckpointNotFoundError, PocoflowError, RunNotFoundError
from pocoflow.messages import closest

COMMANDS = {
    "demo": "run a flow with a language model on a text",
    "check": "look for mistakes in flows, without running a node",
    "rule": "explain a rule of the check",
    "graph": "draw a flow",
    "runs": "list the runs in a database, or show one",
    "questions": "list the open questions of runs",
    "answer": "answer the questions of a run",
    "monitor": "watch the runs in a database in the browser",
    "resume": "resume a run",
    "fork": "create a new run from a step of another one",
    "recover": "resume every run of a flow that can be resumed",
    "carry-on": "resume one run, if it is due",
    "worker": "execute the runs that are due",
    "dispatch": "send the runs that are due to a cluster",
    "prune": "remove old runs",
    "copy": "copy runs to another database, file or server",
    "migrate-db": "migrate a database of version 0.2.1",
}
"""The line of each command in ``pocoflow --help``; its module has its name."""


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, and whose help is the docstring of its command."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **settings})

    def parse_known_args(self, args: Any = None, namespace: object = None) -> tuple[Any, list[str]]:
        """Refuse unknown arguments here, where the command and its options are known."""
        parsed, unknown = super().parse_known_args(args, namespace)
        if unknown:
            option = unknown[0].partition("=")[0]
            # Long options only, without --help, which is always suggested.
            known = (name.lstrip("-") for name in self._option_string_actions)
            words = [name for name in known if len(name) > 1 and name != "help"]
            suggestion = closest(option.lstrip("-"), words) if option.startswith("-") else ""
            suggestion = suggestion.replace("mean '", "mean '--") or self._meant(unknown[0], parsed)
            self.error(f"unrecognized arguments: {' '.join(unknown)}{suggestion}")
        return parsed, unknown

    def format_help(self) -> str:
        """The help, with the description of the command."""
        if (execute := self.get_default("execute")) is not None:
            self.description = execute.__doc__
        return super().format_help()

    def _meant(self, word: str, parsed: object) -> str:
        """A suggestion for a superfluous argument that looks like a database or a flow."""
        options = self._option_string_actions
        if "--db" in options and (word.endswith(".db") or Path(word).is_file()):
            return f"; did you mean '--db {word}'?"
        run_id = getattr(parsed, "run_id", None) or ""
        if "--flow" not in options or options["--flow"].metavar != "TARGET":
            return ""
        if ":" in word:
            return f"; did you mean '--flow {word}'?"
        if ":" in run_id:
            return f"; did you mean '{word} --flow {run_id}'?"
        return "; an answer is given by --value JSON" if "--value" in options else ""

    def error(self, message: str) -> NoReturn:
        raise CommandError(f"{message} (see {self.prog} --help)", prog=self.prog)


def make_parser(called: str | None = None) -> argparse.ArgumentParser:
    """The parser of the whole command line, with the arguments of the command ``called``.

    The modules of all other commands stay unloaded; their parsers are empty.
    """
    parser = _Parser(
        prog="pocoflow",
        description="Run the demo; inspect the runs in a database, answer their questions, resume "
        "them, remove them.",
        epilog="'pocoflow COMMAND --help' explains a command.",
    )
    version = f"pocoflow {__version__}"
    parser.add_argument("-V", "--version", action="version", version=version)
    commands = parser.add_subparsers(metavar="COMMAND", title="commands", dest="command")
    for name, summary in COMMANDS.items():
        part = commands.add_parser(name, help=summary)
        if name == called:
            importlib.import_module(f"pocoflow.cli.{name.replace('-', '_')}").register(part)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run a command line and return its exit code.

    Args:
        argv: The arguments after the program's name; those of this process by default.
    """
    arguments = sys.argv[1:] if argv is None else argv
    for stream in (sys.stdout, sys.stderr):
        # Characters that an old terminal cannot show are escaped instead of raising an error.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _run(arguments)
        sys.stdout.flush()
        return code
    except SystemExit as exc:  # from argparse, after --help and --version
        return exc.code if isinstance(exc.code, int) else 2
    except KeyboardInterrupt:
        return _report("pocoflow", "interrupted", 130)
    except BrokenPipeError:
        # The reader of our output has closed it, as in `pocoflow runs list | head -1`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except CommandError as exc:
        return _report(exc.prog or _prog(arguments), str(exc), exc.code)
    except PocoflowError as exc:
        return _report(_prog(arguments), str(exc), _code(exc))


def _run(arguments: Sequence[str]) -> int:
    called = next((word for word in arguments if not word.startswith("-")), None)
    if called is not None and called not in COMMANDS:
        raise CommandError(
            f"there is no command {called!r}{closest(called, COMMANDS)} "
            f"(commands: {', '.join(COMMANDS)})",
            prog="pocoflow",
        )
    parser = make_parser(called)
    parsed = parser.parse_args(arguments, argparse.Namespace(words=arguments))
    if called is None:
        parser.print_help(sys.stderr)
        return 2
    try:
        return int(parsed.execute(parsed))
    except PocoflowError as exc:
        if not (hasattr(parsed, "owner") and hasattr(parsed, "run_id")):
            raise
        from pocoflow.cli.failures import refused

        raise refused(exc, parsed, _code(exc)) from exc


def _code(exc: PocoflowError) -> int:
    """The exit code of a command that an error ends."""
    is_unknown = isinstance(exc, (RunNotFoundError, CheckpointNotFoundError))
    return 2 if is_unknown else getattr(exc, "code", 1)


def _prog(arguments: Sequence[str]) -> str:
    called = next((word for word in arguments if word in COMMANDS), None)
    return f"pocoflow {called}" if called else "pocoflow"


def _report(prog: str, message: str, code: int) -> int:
    lines = [printable(line) for line in message.split("\n")]
    print(f"{prog}: {lines[0]}", *lines[1:], sep="\n", file=sys.stderr)
    return code
