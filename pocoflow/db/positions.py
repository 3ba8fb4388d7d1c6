"""Where a stored run goes on: the node that comes next, and what is kept of its step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain

from pocoflow.counting import Begun
from pocoflow.db.clock import utc_now
from pocoflow.db.connection import Connection
from pocoflow.db.journal import INITIAL
from pocoflow.db.questions import Asked, Pause, questions_of
from pocoflow.db.rows import is_changes, read_json, read_names
from pocoflow.db.sql import QUERIES
from pocoflow.db.steps import StoredBranch
from pocoflow.db.values import key_of
from pocoflow.db.workflow import WorkflowDB
from pocoflow.edges import DEFAULT_ACTION
from pocoflow.errors import CheckpointNotFoundError

__all__ = ["INITIAL", "Position", "asked_in", "read_position"]


@dataclass(frozen=True, slots=True)
class Position:
    """Where a stored run goes on.

    Attributes:
        step: The last committed step; -1 if none is.
        node: The node that comes next; ``None`` if the run is at its end.
        fork: The step after which that came next: an earlier one if branches of the node that comes
            next have finished steps since.
        path: Names of the flow nodes around it.
        journal: Results of ``exec`` of the next step that are finished, encoded, by item (-1 for
            a node that is not a batch).
        branches: Its branches that have begun, if it is a parallel node, by scope.
        asked: The questions of its step, by item (-1 likewise).
        pause: What it had done before the first row of its step.
        items: What is known of the items of its step, by number (-1 likewise).
        read_at: When it was read; deadlines are held against this one time.
    """

    step: int
    fork: int
    node: str | None
    path: tuple[str, ...]
    journal: Mapping[int, str]
    branches: Mapping[str, StoredBranch]
    asked: Mapping[int, Asked] = field(default_factory=dict)
    pause: Pause | None = None
    items: Mapping[int, Begun] = field(default_factory=dict)
    read_at: str = ""


def read_position(
    database: WorkflowDB, run_id: str, run_no: int, step: int | None = None
) -> Position:
    """Where the run goes on after a step; after its last one by default.

    Raises:
        CheckpointNotFoundError: The run has no checkpoint of that step.
        ResumeError: It was written by a version that did not record where a run goes on.
    """
    connection = database.connection
    last = connection.row(QUERIES["last_step"], (run_no,))
    if step is None:
        step = last[0] if last is not None and last[0] is not None else INITIAL
    if connection.row(QUERIES["has_step"], (run_no, step)) is None:
        raise CheckpointNotFoundError(
            f"run {run_id!r} in database {database.path} has no checkpoint of step {step}"
        )
    here = connection.row(QUERIES["position_at"], {"run_no": run_no, "step": step})
    if here is None:
        return Position(step, step, None, (), {}, {})
    journal: dict[tuple[str, int], dict[int, str]] = {}
    for scope, local, item, text in connection.rows(QUERIES["journal_of_run"], (run_no,)):
        journal.setdefault((scope, local), {})[item] = text
    items: dict[tuple[str, int], dict[int, Begun]] = {}
    which = {"run_no": run_no}
    for scope, at, item, mark, attempts in connection.rows(QUERIES["items_of_run"], which):
        items.setdefault((scope, at), {})[item] = Begun(mark, attempts)
    asked, pauses = _questions(connection, run_no)
    begun = {*journal, *asked, *items}
    branches = _branches(connection, run_no, here["step"], step, journal, begun)
    local = ("", here["step"] + 1)
    return Position(
        step,
        here["step"],
        here["node"],
        read_names(here["path"], "the path of a position"),
        journal.get(local, {}),
        {
            scope: replace(
                one,
                asked=asked.get((scope, one.count), {}),
                pause=pauses.get((scope, one.count)),
                items=items.get((scope, one.count), {}),
            )
            for scope, one in branches.items()
        },
        asked.get(local, {}),
        pauses.get(local),
        items.get(local, {}),
        utc_now(),
    )


def _questions(
    connection: Connection, run_no: int
) -> tuple[dict[tuple[str, int], dict[int, Asked]], dict[tuple[str, int], Pause]]:
    """The questions whose steps are not finished, and what was done before them."""
    asked: dict[tuple[str, int], dict[int, Asked]] = {}
    for one in questions_of(connection, run_no):
        if not one.is_closed:
            item = -1 if one.item is None else one.item
            asked.setdefault((one.scope, one.step), {})[item] = one
    rows = connection.rows(QUERIES["pauses_of_run"], (run_no,))
    pauses: dict[tuple[str, int], Pause] = {}
    for row in rows:
        changes = read_json(row["changes"], is_changes, "what a node changed before it asked")
        pauses[row["scope"], row["step"]] = Pause(row["prepared"], list(map(tuple, changes)))
    return asked, pauses


def _branches(
    connection: Connection,
    run_no: int,
    fork: int,
    step: int,
    journal: Mapping[tuple[str, int], Mapping[int, str]],
    begun: Iterable[tuple[str, int]],
) -> dict[str, StoredBranch]:
    """The branches of the node after step ``fork`` as they stood after step ``step``."""
    within = f"{fork + 1}."
    asked = {"run_no": run_no, "fork": within, "step": step}
    rows: dict[str, list[tuple[str, int, str | None]]] = {}
    keys: dict[str, dict[str, int]] = {}
    for scope, key, key_no, op, text in connection.rows(QUERIES["values_of_branches"], asked):
        rows.setdefault(scope, []).append((key, op, text))
        keys.setdefault(scope, {})[key_of(key)] = key_no
    found: dict[str, StoredBranch] = {}
    for scope, local, path, node, action in connection.rows(
        QUERIES["positions_of_branches"], (run_no, fork, step)
    ):
        found[scope] = StoredBranch(
            local,
            node or None,
            read_names(path, "the path of a position"),
            DEFAULT_ACTION if action is None else str(key_of(action)),
            journal.get((scope, local), {}),
            keys.get(scope, {}),
            rows.get(scope, ()),
        )
    for scope, local in begun:
        if local == 0 and scope.startswith(within) and scope not in found:
            found[scope] = StoredBranch(0, "", (), journal=journal.get((scope, 0), {}))
    for scope in tuple(found):
        while scope := scope.rpartition("/")[0]:
            # Its first node is parallel, too, and has not ended.
            found.setdefault(scope, StoredBranch(0, "", ()))
    return found


def asked_in(position: Position) -> list[Asked]:
    """Every question that a run waits for, those of its branches included."""
    branches = (branch.asked.values() for branch in position.branches.values())
    return [*position.asked.values(), *chain.from_iterable(branches)]
