"""The output of commands: text that is safe for a terminal, tables, times."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC

from pocoflow.messages import escape
from pocoflow.views.runs import parse_time

printable = escape
"""Escapes the characters that a terminal would interpret."""

_GAP = "  "
_LEAST = 20
"""The minimum width of the last column, however narrow the terminal is."""


class CommandError(Exception):
    """A command cannot be executed; ``main`` prints the message and exits.

    Args:
        message: What is wrong and what to do.
        code: The exit code.
        prog: The beginning of the line; the command's name by default.
    """

    def __init__(self, message: str, *, code: int = 2, prog: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.prog = prog


def one_line(text: str, limit: int) -> str:
    """The text as one safe line of at most ``limit`` characters."""
    line = printable(text[: limit + 1])
    return line if len(line) <= limit else line[: limit - 3] + "..."


def node_path(text: str, limit: int = 40) -> str:
    """A node, after the names around it, as one safe line; a long one is cut at its beginning."""
    line = printable(text[-limit - 1 :])
    return line if len(line) <= limit else f"...{line[3 - limit :]}"


def width() -> int | None:
    """The width of the terminal in characters; ``None`` if the output is not a terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def cut_last(rows: Iterable[Sequence[str]], limit: int | None) -> list[list[str]]:
    """The rows with their last column cut so that a line has at most ``limit`` characters."""
    cells = [list(row) for row in rows]
    if limit is None or not cells:
        return cells
    others = [max(len(row[i]) for row in cells) for i in range(len(cells[0]) - 1)]
    room = max(_LEAST, limit - sum(others) - len(_GAP) * len(others))
    return [[*row[:-1], one_line(row[-1], room)] for row in cells]


def table(rows: Iterable[Sequence[str]], right: Sequence[int] = ()) -> list[str]:
    """Lines with the columns of ``rows`` aligned; those in ``right`` to the right."""
    cells = [list(row) for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))] if cells else []
    return [
        _GAP.join(
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]


def moment(text: object) -> str:
    """A time of the database to the second, in UTC; empty if there is none."""
    time = parse_time(text)
    return "" if time is None else time.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def duration(seconds: float | None) -> str:
    """A time span for people: ``113 ms``, ``1.52 s``, ``3 min 4 s``, ``2 h 5 min``."""
    if seconds is None:
        return ""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.995:
        return f"{seconds:.2f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
