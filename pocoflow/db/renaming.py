"""The names on record of nodes that have other names now."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import TypeAlias

from pocoflow.address import dump_names
from pocoflow.db.log import names_at, placed
from pocoflow.db.rows import read_names
from pocoflow.db.sql import QUERIES, row_ids

__all__ = ["Renamed", "rename_places"]

Renamed: TypeAlias = Callable[[tuple[str, ...]], tuple[str, ...]]
"""From the names of the flows and branches around a node, and its own, to those that they have."""


def rename_places(raw: sqlite3.Connection, run_no: int, renamed: Renamed) -> None:
    """Put every position of a run, and every open question, under the names of now.

    Two nodes may have changed their names: with old names among the new ones, nobody could tell
    later which of the two a name means.
    """
    for number, node, path in raw.execute(QUERIES["next_places"], row_ids(run_no)).fetchall():
        names = names_at(node, path)
        now = renamed(names) if names else names
        if now != names:
            raw.execute(QUERIES["rename_next"], (*placed(now), number))
    for number, path in raw.execute(QUERIES["places_of_questions"], (run_no,)).fetchall():
        now = renamed(read_names(path, "the path of a position"))
        raw.execute(QUERIES["rename_question"], (dump_names(now), number))
