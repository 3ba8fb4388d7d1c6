"""What a command that failed prints: the error, and the commands that help."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Iterator

from pocoflow.cli.output import CommandError
from pocoflow.errors import PocoflowError
from pocoflow.views.targets import remedies

_OF_RESUME = ("--flow-was", "--alias", "--set", "--rename", "--resources")
"""The options of ``pocoflow resume`` that change what it does."""


def refused(exc: PocoflowError, args: argparse.Namespace, code: int = 1) -> CommandError:
    """The error of a command about a stored run, with a line for each remedy."""
    shared = [option for option in _OF_RESUME if hasattr(args, _attribute(option))]
    return CommandError("\n".join((str(exc), *hints(exc, args, args.run_id, shared))), code=code)


def hints(
    exc: PocoflowError, args: argparse.Namespace, run_id: str, shared: Collection[str] = ()
) -> Iterator[str]:
    """A line for each remedy of an error of a run.

    Args:
        exc: The error.
        args: The arguments of the command.
        run_id: The run.
        shared: The options of ``pocoflow resume`` with which the same command helps.
    """
    given = () if shared else given_options(args)
    return remedies(exc, run_id, args.flow, args.owner.database.path, args.db, shared, given)


def given_options(args: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """The given options of ``pocoflow resume``, with their values as they were written."""
    words = iter(args.words)
    for word in words:
        option, equals, value = word.partition("=")
        if option in _OF_RESUME:
            yield option, value if equals else next(words)


def _attribute(option: str) -> str:
    return option.removeprefix("--").replace("-", "_")
