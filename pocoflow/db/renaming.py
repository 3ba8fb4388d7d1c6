"""The names on record of nodes that have other names now."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from pocoflow.db.log import dump_taken, names_at, read_taken, split_names
from pocoflow.db.port import Transaction
from pocoflow.db.rows import dump_names, read_names
from pocoflow.db.sql import QUERIES, row_ids
from pocoflow.graph.routing import TakenEdge

Renamed: TypeAlias = Callable[[tuple[str, ...]], tuple[str, ...]]
"""From the names of the flows and branches around a node, and its own, to those that they have."""


def rename_taken(
    taken: Sequence[TakenEdge], names: tuple[str, ...], renamed: Renamed
) -> tuple[TakenEdge, ...]:
    """Put what is on record of edges with limits under the names of now.

    Args:
        taken: How often each was taken.
        names: The names around the node that comes next, and its own.
        renamed: Gives the names that nodes have now.
    """
    return tuple(
        (depth, renamed((*names[:depth], source))[-1], action, count)
        for depth, source, action, count in taken
    )


def rename_nodes(raw: Transaction, run_no: int, renamed: Renamed) -> None:
    """Put every position of a run, and every open question, under the names of now.

    Two nodes may have changed their names: with old names among the new ones, nobody could tell
    later which of the two a name means.
    """
    for number, node, path, mark in raw.execute(QUERIES["next_places"], row_ids(run_no)).fetchall():
        names, taken = names_at(node, path), read_taken(mark)
        now = renamed(names) if names else names
        there = rename_taken(taken, names, renamed)
        if now != names or there != taken:
            raw.execute(QUERIES["rename_next"], (*split_names(now), dump_taken(there), number))
    for row in raw.execute(QUERIES["lines_of_run"], row_ids(run_no)).fetchall():
        number, _, _, node, path = row
        names = names_at(node, path)
        if (now := renamed(names)) != names:
            raw.execute(QUERIES["rename_begun"], (*split_names(now), number))
    for number, path in raw.execute(QUERIES["places_of_questions"], (run_no,)).fetchall():
        now = renamed(read_names(path, "the path of a position"))
        raw.execute(QUERIES["rename_question"], (dump_names(now), number))
