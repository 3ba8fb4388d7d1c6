"""The names on record of nodes that have other names now."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import TypeAlias

from pocoflow.address import dump_names
from pocoflow.db.rows import read_names
from pocoflow.db.sql import QUERIES

__all__ = ["Renamed", "rename_places"]

Renamed: TypeAlias = Callable[[tuple[str, ...]], tuple[str, ...]]
"""From the names of the flows and branches around a node, and its own, to those that they have."""


def rename_places(raw: sqlite3.Connection, run_no: int, renamed: Renamed) -> None:
    """Put every position of a run, and every open question, under the names of now.

    Two nodes may have changed their names: with old names among the new ones, nobody could tell
    later which of the two a name means.
    """
    for step, scope, path, node in raw.execute(QUERIES["positions_of_run"], (run_no,)).fetchall():
        around = read_names(path, "the path of a position")
        names = (*around, *([node] if node else []))
        now = renamed(names)
        if now != names:
            around, last = (now[:-1], now[-1]) if node else (now, "")
            row = (dump_names(around), last, run_no, step, scope)
            raw.execute(QUERIES["rename_position"], row)
    for number, path in raw.execute(QUERIES["places_of_questions"], (run_no,)).fetchall():
        now = renamed(read_names(path, "the path of a position"))
        raw.execute(QUERIES["rename_question"], (dump_names(now), number))
