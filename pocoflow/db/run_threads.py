"""Run threads: sequences of runs of a flow, each starting with the last store of the previous."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from pocoflow.db.connection import Connection
from pocoflow.db.port import Record, Transaction
from pocoflow.db.sql import QUERIES
from pocoflow.errors import (
    Remedy,
    ResumeError,
    RunError,
    RunExistsError,
    ThreadBusyError,
    TooManyRunsError,
)
from pocoflow.messages import counted


@dataclass(frozen=True, slots=True)
class LastRun:
    """The last completed run of a run thread.

    Attributes:
        run_no: Its number; 0 if there is none.
        run_id: Its id.
        step: Its last step.
    """

    run_no: int = 0
    run_id: str = ""
    step: int = -1


@dataclass(frozen=True, slots=True)
class Named:
    """The labels, inputs and run thread of a new run.

    Attributes:
        labels: Its labels.
        inputs: A digest of its inputs; empty if they could not be stored, ``None`` if no run can
            join it.
        thread: Its run thread.
        flows: The current and former names of its flow, whose runs form the thread.
        last: The run with whose last store it starts.
        most_open: The maximum number of open runs with its value of a label, by the key of that.
    """

    labels: Mapping[str, str] = field(default_factory=dict)
    inputs: str | None = None
    thread: str | None = None
    flows: Sequence[str] = ()
    last: LastRun = field(default_factory=LastRun)
    most_open: Mapping[str, int] = field(default_factory=dict)

    def enter(self, raw: Transaction, connection: Connection, run_no: int) -> None:
        """Record it for a run, in the transaction that has just inserted the run.

        Raises:
            ThreadBusyError: Another run of the thread is open.
            ThreadMovedError: ``last`` is no longer its last completed run.
            TooManyRunsError: The maximum number of runs is open.
        """
        if self.labels:
            rows = [(run_no, *label) for label in self.labels.items()]
            raw.executemany(QUERIES["insert_label"], rows)
        for key, most in self.most_open.items():
            (count,) = raw.execute(QUERIES["open_labelled"], (key, self.labels[key])).fetchone()
            if count > most:
                raise TooManyRunsError(
                    f"{counted(most, 'run')} with the label "
                    f"{key}={self.labels[key]!r} {'is' if most == 1 else 'are'} open, as many as "
                    "may be (most_open=); wait until some have ended, or cancel them"
                )
        if self.thread is None:
            return
        _refuse_open(self, _row(connection, "open_in_thread", self, besides=run_no))
        row = _row(connection, "last_completed", self)
        if (0 if row is None else row["run_no"]) != self.last.run_no:
            raise ThreadMovedError(f"a run of run thread {self.thread!r} has just completed")


UNNAMED = Named()


def is_started(connection: Connection, run_id: str, named: Named) -> bool:
    """Whether a run with an id exists, of the given flow and with the given inputs.

    Raises:
        RunExistsError: It exists with another flow, or other inputs.
    """
    row = connection.row(QUERIES["inputs_of_run"], (run_id,))
    if row is None:
        return False
    why = ""
    if row["flow_name"] not in named.flows:
        why = f"it is of flow {row['flow_name']!r}"
    elif not named.inputs or row["inputs"] == "":
        why = "what it is started with cannot be stored, so nobody knows whether it is the same"
    elif row["inputs"] is None:
        why = "what it was started with is not on record, as its id was not given by its caller"
    elif row["inputs"] != named.inputs:
        why = (
            "it was started with other inputs (a dict that a run was given sees its writes: start "
            "it again with a new dict, or run(dict(inputs)))"
        )
    if why:
        raise RunExistsError(
            f"run {run_id!r} of database {connection.label} cannot be joined: {why}; give this run "
            "an id of its own"
        )
    return True


class ThreadMovedError(RunError):
    """A run of a thread has completed after the store of the next run was created."""


def last_run(connection: Connection, named: Named, check: Callable[[str], object]) -> LastRun:
    """The last completed run of a run thread.

    Args:
        connection: The connection to its database.
        named: The thread.
        check: Records a run as interrupted if its process has ended.

    Raises:
        ThreadBusyError: A run of the thread is open.
    """
    open_run = _row(connection, "open_in_thread", named, besides=0)
    if open_run is not None and open_run["status"] == "running":
        check(open_run["run_id"])
        open_run = _row(connection, "open_in_thread", named, besides=0)
    _refuse_open(named, open_run)
    row = _row(connection, "last_completed", named)
    if row is None:
        return LastRun()
    return LastRun(row["run_no"], row["run_id"], row["total_steps"] - 1)


def refuse_resume(connection: Connection, run: Record, flows: Sequence[str]) -> None:
    """Refuse to resume a run that has ended, if a later run of its thread has started.

    Args:
        connection: The connection to its database.
        run: The row of the run.
        flows: The current and former names of its flow.

    Raises:
        ResumeError: A later run has started.
        ThreadBusyError: A later run is open.
    """
    interrupted = run["status"] == "failed" and run["error_type"] == "Interrupted"
    if run["thread"] is None or interrupted or run["status"] not in ("failed", "cancelled"):
        return
    named = Named(thread=run["thread"], flows=flows)
    later = _row(connection, "later_in_thread", named, run_no=run["run_no"])
    if later is not None:
        raise ResumeError(
            f"run {run['run_id']!r} is {run['status']}, and run {later[0]!r} of its run thread "
            f"{named.thread!r} has begun after it, without what it would write; start a new run of "
            "the thread, or fork() this one, which is then of no thread"
        )
    _refuse_open(named, _row(connection, "open_in_thread", named, besides=run["run_no"]))


def _row(connection: Connection, query: str, named: Named, **other: int) -> Record | None:
    """The first row of a query about a run thread."""
    of_thread = {"thread": named.thread, "flows": json.dumps(list(named.flows))}
    return connection.row(QUERIES[query], {**of_thread, **other})


def _refuse_open(named: Named, row: Record | None) -> None:
    if row is None:
        return
    run_id, status = row["run_id"], row["status"]
    shown = "interrupted" if status == "failed" else status
    remedies: list[Remedy] = []
    if shown == "paused" and row["unanswered"]:
        answer = f"flow.answer({run_id!r}, <reply>)"
        remedies.append(Remedy("answer it", answer, ("answer", run_id)))
    if shown != "running":
        remedies.append(Remedy.of_resuming("go on with it", run_id))
    cancel = f"flow.database.request_cancel({run_id!r})"
    remedies.append(Remedy("cancel it", cancel, ("runs", "cancel", run_id)))
    raise ThreadBusyError(
        f"run thread {named.thread!r} has an open run, {run_id!r}, which is {shown}; one run of a "
        "thread follows the other: run(..., if_busy='wait') waits for it, submit(...) does not; "
        f"or end it: {' or '.join(remedy.python for remedy in remedies)}",
        run_id=run_id,
        thread=named.thread or "",
        status=shown,
        remedies=remedies,
    )
