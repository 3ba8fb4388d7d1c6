"""Copying runs, with everything recorded of them, from one database to another."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pocoflow.db.log import Kind
from pocoflow.db.port import Record, Transaction
from pocoflow.db.recorder import graph_number
from pocoflow.db.rows import as_dict, is_anything, read_json
from pocoflow.db.sql import QUERIES, row_ids
from pocoflow.db.workflow import WorkflowDB
from pocoflow.errors import DatabaseError, DefinitionError


@dataclass(slots=True)
class Copied:
    """The outcome of copying runs: the ids of the runs, by what happened to them.

    Attributes:
        copied: Those that were copied.
        existing: Those whose ids the other database had already.
        at_work: Those that a process was running, or that changed meanwhile.
    """

    copied: list[str] = field(default_factory=list)
    existing: list[str] = field(default_factory=list)
    at_work: list[str] = field(default_factory=list)


def copy_runs(source: WorkflowDB, target: WorkflowDB, run_ids: Iterable[str]) -> Copied:
    """Copy runs with their events, checkpoints, questions and labels; each run atomically.

    A copy resumes exactly where the original would. Numbers that a database assigns, those of runs
    and questions, are assigned by the target.

    Args:
        source: The database to copy from.
        target: The database to copy to.
        run_ids: The runs, in the order in which they were created.

    Raises:
        RunNotFoundError: There is no such run.
        DatabaseError: One of the databases cannot be read or written.
    """
    done = Copied()
    for run_id in run_ids:
        if target.connection.row(QUERIES["whole_run"], (run_id,)) is not None:
            done.existing.append(run_id)
            continue
        run = _Run(source, run_id)
        if run.is_at_work:
            done.at_work.append(run_id)
            continue
        try:
            with target.writing() as raw:
                is_new = run.write(raw)
        except DefinitionError as exc:
            raise DatabaseError(f"run {run_id!r} cannot be copied to {target.path}: {exc}") from exc
        (done.copied if is_new else done.existing).append(run_id)
    return done


_OTHERS = ("labels", "keys", "blobs", "values")


class _Run:
    """Everything recorded of a run."""

    def __init__(self, source: WorkflowDB, run_id: str) -> None:
        number = source.number(run_id)
        self._source, self._ids = source, row_ids(number)
        before = self._state(number)
        read = source.connection.rows
        self._run = read(QUERIES["whole_run"], (run_id,))
        self._graph = source.connection.row(QUERIES["graph_of_run"], (run_id,))
        self._log = read(QUERIES["rows_between"], (self._ids[0] - 1, self._ids[1] - 1))
        run = {"run_no": number, "first": self._ids[0], "end": self._ids[1]}
        self._others = {part: read(QUERIES[f"{part}_to_copy"], run) for part in _OTHERS}
        self._questions = read(QUERIES["questions_of_run"], (number,))
        # A process is running it, or has written to it while it was read.
        after = self._state(number)
        self.is_at_work = before != after or not self._run or bool(before[-1])

    def _state(self, number: int) -> tuple[object, ...]:
        last = self._source.connection.row(QUERIES["last_row"], self._ids)
        run = self._source.connection.row(QUERIES["claim_of_run"], (number,))
        return tuple(last or ()), tuple(run or ()), self._source.locks.is_held(number)

    def _check_order(self, raw: Transaction, number: int) -> None:
        """Refuse a run if its run thread has later or open runs in the target."""
        run = self._run[0]
        if run["thread"] is None:
            return
        is_open = run["status"] in ("queued", "running", "paused")
        is_open |= run["error_type"] == "Interrupted"
        parameters = {"thread": run["thread"], "flow": run["flow_name"], "run_no": number}
        parameters |= {"started_at": run["started_at"], "open": int(is_open)}
        later = raw.execute(QUERIES["later_than_copied"], parameters).fetchone()
        if later is not None:
            raise DatabaseError(
                f"run {run['run_id']!r} of run thread {run['thread']!r} is not copied: run "
                f"{later['run_id']!r} of that thread is there already, and comes after it or is "
                "open as well; copy the runs of a thread together, into a database that has none "
                "of its later ones"
            )

    def write(self, raw: Transaction) -> bool:
        """Write it, in the caller's transaction; ``False`` if the target has its id already."""
        graph = None if self._graph is None else graph_number(raw, self._graph[0])
        cursor = raw.execute(QUERIES["copy_run"], {**as_dict(self._run[0]), "graph_no": graph})
        if cursor.rowcount != 1:
            return False
        number = int(cursor.lastrowid or 0)
        self._check_order(raw, number)
        shift = row_ids(number)[0] - self._ids[0]
        questions: dict[int, int] = {}
        for row in self._questions:
            copied = raw.execute(QUERIES["copy_question"], {**as_dict(row), "run_no": number})
            questions[row["question"]] = int(copied.lastrowid or 0)
        for row in self._log:
            new = {"id": row["id"] + shift, "data": _renumbered(row, questions)}
            raw.execute(QUERIES["copy_row"], {**as_dict(row), **new})
        run = {"run_no": number, "shift": shift}
        for part, rows in self._others.items():
            raw.executemany(QUERIES[f"copy_{part}"], [{**as_dict(row), **run} for row in rows])
        return True


def _renumbered(row: Record, questions: Mapping[int, int]) -> object:
    """The data of a row, with the numbers of questions replaced by their new numbers."""
    if row["data"] is None or row["kind"] not in (Kind.ASKED, Kind.PAUSED):
        return row["data"]
    named = read_json(row["data"], is_anything, f"row {row['id']} of the log")
    if isinstance(named, list):
        return json.dumps([questions.get(number, number) for number in named])
    return str(questions.get(named, named))
