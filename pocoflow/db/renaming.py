"""Updating the recorded names of renamed nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from pocoflow.db.log import dump_taken, names_at, read_taken, split_names
from pocoflow.db.port import Transaction
from pocoflow.db.rows import dump_names, read_names
from pocoflow.db.sql import QUERIES, row_ids
from pocoflow.graph.routing import TakenEdge

Renamed: TypeAlias = Callable[[tuple[str, ...]], tuple[str, ...]]
"""Maps the recorded names of the enclosing flows and branches, and of the node, to current ones."""


def rename_taken(
    taken: Sequence[TakenEdge], names: tuple[str, ...], renamed: Renamed
) -> tuple[TakenEdge, ...]:
    """Update the names in the counts of edges with limits.

    Args:
        taken: How often each was taken.
        names: The recorded names of what encloses the next node, and its own.
        renamed: Maps recorded names to current ones.
    """
    return tuple(
        (depth, renamed((*names[:depth], source))[-1], action, count)
        for depth, source, action, count in taken
    )


def rename_nodes(raw: Transaction, run_no: int, renamed: Renamed) -> None:
    """Update the names in every position of a run, and in every open question.

    Two nodes may have exchanged their names: if only some rows were updated, a name would be
    ambiguous later.
    """
    for number, node, path, mark in raw.execute(QUERIES["next_nodes"], row_ids(run_no)).fetchall():
        names, taken = names_at(node, path), read_taken(mark)
        new = renamed(names) if names else names
        new_taken = rename_taken(taken, names, renamed)
        if new != names or new_taken != taken:
            raw.execute(QUERIES["rename_next"], (*split_names(new), dump_taken(new_taken), number))
    for row in raw.execute(QUERIES["lines_of_run"], row_ids(run_no)).fetchall():
        number, _, _, node, path = row
        names = names_at(node, path)
        if (new := renamed(names)) != names:
            raw.execute(QUERIES["rename_started"], (*split_names(new), number))
    for number, path in raw.execute(QUERIES["paths_of_questions"], (run_no,)).fetchall():
        new = renamed(read_names(path, "the path of a position"))
        raw.execute(QUERIES["rename_question"], (dump_names(new), number))
