"""``Worker``: takes the due runs of flows from one database, and runs them in threads.

There is no message queue: due runs are found by a query, and claimed by lock and fence, as by a
resume. So any number of workers may use one database, and be killed at any instant.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from math import inf
from queue import Empty, SimpleQueue
from typing import NamedTuple

from pocoflow.db.due import DueRun, Limits, due_runs, store_schedules
from pocoflow.db.rows import Status
from pocoflow.db.workflow import WorkflowDB
from pocoflow.errors import (
    DatabaseBusyError,
    DatabaseError,
    DatabaseLostError,
    DefinitionError,
    Gap,
    PocoflowError,
    RunNotFoundError,
)
from pocoflow.flow.flow import Flow
from pocoflow.logging import OwnLogger
from pocoflow.messages import command_line, escape, short
from pocoflow.nodes.resources import Resources, not_resources

__all__ = ["Limits", "Worker"]

_log = OwnLogger("worker")

_POLL_EVERY = 0.1
"""Seconds between two queries while nothing is due."""

_EXTRA = 20
"""How many more runs are queried than threads are free: other workers may take some of them."""

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 300.0
"""Seconds until the next attempt to resume a run that could not be resumed: at first, or if the
database fails, and at most."""


class _Refused(NamedTuple):
    """A run that could not be resumed.

    Attributes:
        since: When it became due.
        pause: Seconds until the next attempt.
        until: The time of that attempt, by the monotonic clock.
    """

    since: str
    pause: float
    until: float


class Worker:
    """Runs the due runs of flows: queued, interrupted, answered, or past a deadline.

    Args:
        flows: The flows, with different names, that store their runs in one database.
        concurrency: Number of concurrent runs, each in a thread.
        limits: Limits on the active runs of all workers of the database together.
        resources: As in ``Flow.run``, for the runs of all flows.
        deliver: Has a run carried on elsewhere, and waits until that is over; called with the flow
            and the id of the run instead of ``flow.carry_on``, and returns the status like it.
            Then ``resources`` is not used.

    Raises:
        DefinitionError: An argument is invalid, or a flow has no database, or another one than the
            others.
    """

    def __init__(
        self,
        *flows: Flow,
        concurrency: int = 8,
        limits: Limits | None = None,
        resources: Resources | None = None,
        deliver: Callable[[Flow, str], object] | None = None,
    ) -> None:
        if not flows:
            raise DefinitionError("Worker() takes the flows whose runs it carries on with")
        if type(concurrency) is not int or concurrency < 1:
            raise DefinitionError(f"Worker(concurrency={concurrency!r}): a whole number, 1 or more")
        for flow in flows:
            if not isinstance(flow, Flow):
                raise DefinitionError(
                    f"Worker({short(flow)}): takes flows themselves, as in Worker(flow)"
                )
        if limits is not None and not isinstance(limits, Limits):
            raise DefinitionError(
                f"Worker(limits={short(limits)}): a Limits, as in limits=Limits(in_all=20)"
            )
        if resources is not None and not isinstance(resources, Mapping):
            raise not_resources(resources)
        self.database = flows[0].database
        self.concurrency = concurrency
        self.limits = limits or Limits()
        self._resources = resources
        self._deliver = self._carry_on_here if deliver is None else deliver
        self._flows: dict[str, Flow] = {}
        for flow in flows:
            self._add(flow)
        # Its put() is reentrant, for signal handlers; that of other queues is not.
        self._wake_ups: SimpleQueue[None] = SimpleQueue()
        self._active: dict[int, str] = {}
        self._refused: dict[int, _Refused] = {}
        self._fault = ""
        self._suspect = 0
        self._failed: dict[tuple[str, str], float] = {}
        self._is_stopping = self._logged = False

    def _add(self, flow: Flow) -> None:
        home, other = self.database.connection.home, flow.database.connection.home
        if home != other:
            raise DefinitionError(
                f"flow {flow.flow_name!r} keeps its runs in {flow.database.path}, and the flows "
                f"before it in {self.database.path}; a worker is of one database"
            )
        for name in (flow.flow_name, *flow.formerly):
            if name in self._flows:
                raise DefinitionError(f"two flows of this worker bear the name {name!r}")
            self._flows[name] = flow.using(db_path=self.database)

    # -- from outside -----------------------------------------------------------------------------

    def stop(self) -> None:
        """Stop taking runs for good; :meth:`run` returns when the active ones have ended.

        Any thread or signal handler may call it.
        """
        self._is_stopping = True
        self._wake_ups.put(None)

    @property
    def flow_names(self) -> Sequence[str]:
        """The names of the flows, in their order, without their previous names."""
        return [name for name, _ in self._named()]

    @property
    def active(self) -> Sequence[str]:
        """The ids of the runs that are active here."""
        return list(self._active.copy().values())  # other threads remove theirs

    @property
    def refused(self) -> Sequence[str]:
        """The ids of the due runs that could not be resumed here; the log says why."""
        names, most = list(self._flows), 1 << 31
        due = due_runs(self.database, names, self.limits, most) if self._refused else ()
        return [run.run_id for run in due if run.run_no in self._refused]

    def run(self, *, until_idle: bool = False, grace: float | None = None) -> bool:
        """Run what is due, until :meth:`stop` is called.

        Args:
            until_idle: Return as soon as nothing is due and no run is active.
            grace: Seconds that active runs may take after a stop; unlimited by default.

        Returns:
            Whether every run that was taken has ended. The others continue in their threads; if the
            process ends, they read as interrupted, and another worker takes them.

        Raises:
            DatabaseError: The database cannot be read.
        """
        self._store_schedules()
        while not self._is_stopping:
            was_active = bool(self.active)
            is_idle = not self._take_due() and not was_active
            if until_idle and is_idle:
                break
            self._wait(_POLL_EVERY)
        end = inf if grace is None else time.monotonic() + grace
        while self.active:
            seconds = min(_POLL_EVERY, end - time.monotonic())
            if seconds <= 0:
                return False
            self._wait(seconds)
        return True

    def _wait(self, seconds: float) -> None:
        try:
            self._wake_ups.get(timeout=seconds)
            while True:
                self._wake_ups.get_nowait()
        except Empty:
            return

    # -- what is due ------------------------------------------------------------------------------

    def _take_due(self) -> int:
        """Start due runs, as far as threads are free; how many were due."""
        try:
            self._submit_occurrences()
            free = self.concurrency - len(self.active)
            due = list(self._due(free + _EXTRA)) if free > 0 else []
        except (DatabaseBusyError, DatabaseLostError) as exc:
            _log.log(logging.DEBUG if self._logged else logging.WARNING, "%s; looking again", exc)
            self._logged = True
            return 1
        self._logged = False
        for flow, run in due:
            if len(self.active) >= self.concurrency:
                break
            if 2 * run.interruptions >= self.limits.interruptions:  # it may be the cause of crashes
                # One at a time, so that a crash interrupts no other run of this kind.
                if self._suspect in self._active:
                    continue
                self._suspect = run.run_no
            self._active[run.run_no] = run.run_id
            # A daemon, so that a run that exceeds the grace period does not block the exit.
            name = f"pocoflow-worker-{run.run_id}"
            threading.Thread(target=self._work, args=(flow, run), name=name, daemon=True).start()
        return len(due)

    def _due(self, most: int) -> Iterator[tuple[Flow, DueRun]]:
        names, now = list(self._flows), time.monotonic()
        for run in due_runs(self.database, names, self.limits, most + len(self._refused)):
            refused = self._refused.get(run.run_no)
            is_early = refused is not None and refused.since == run.since and refused.until > now
            if run.run_no not in self._active and not is_early:
                yield self._flows[run.flow_name], run

    def _work(self, flow: Flow, run: DueRun) -> None:
        try:
            self._carry_on(flow, run)
        finally:
            del self._active[run.run_no]
            self._wake_ups.put(None)

    def _carry_on_here(self, flow: Flow, run_id: str) -> Status:
        with suppress(SystemExit):  # of a node: it ends the run, but must not end the worker
            return flow.carry_on(run_id, resources=self._resources, limits=self.limits)
        return flow.database.handle(run_id).status

    def _carry_on(self, flow: Flow, run: DueRun) -> None:
        try:
            status = self._deliver(flow, run.run_id)
        except RunNotFoundError as exc:
            _log.debug("%s", exc)
        except BaseException as exc:  # noqa: BLE001 - the other runs continue
            previous = self._refused.get(run.run_no)
            level, pause = logging.WARNING, _FIRST_PAUSE
            fault = str(exc) if isinstance(exc, DatabaseError) else ""  # which affects all runs
            if previous is not None and previous.since == run.since:
                level = logging.DEBUG
                if not fault:
                    pause = min(previous.pause * 2, _LONGEST_PAUSE)
            elif fault and fault == self._fault:
                level = logging.DEBUG
            self._fault = fault or self._fault
            remedies = ""
            if isinstance(exc, PocoflowError):
                remedies = ways_out(exc, flow.database, run.run_id)
            text = "run %r cannot go on, and is tried again: %s: %s%s"
            _log.log(level, text, run.run_id, type(exc).__name__, exc, remedies)
            self._refused[run.run_no] = _Refused(run.since, pause, time.monotonic() + pause)
        else:
            self._refused.pop(run.run_no, None)
            self._fault = ""
            if status == "failed" and (message := failure(flow.database, run.run_id)):
                _log.warning("%s", message)

    # -- schedules --------------------------------------------------------------------------------

    def _store_schedules(self) -> None:
        now = self.database.connection.now()
        named = self._named()
        first = [it.first(name, now) for name, flow in named for it in flow.schedules.values()]
        store_schedules(self.database, self._flows, first)

    def _named(self) -> Iterator[tuple[str, Flow]]:
        return ((name, flow) for name, flow in self._flows.items() if name == flow.flow_name)

    def _submit_occurrences(self) -> None:
        for name, flow in self._named():
            if flow.schedules:
                now = time.monotonic()
                to_skip = {
                    each for (of, each), until in self._failed.items() if of == name and until > now
                }
                flow.submit_due(partial(self._refuse_schedule, name), to_skip)

    def _refuse_schedule(self, flow_name: str, name: str, exc: Exception) -> None:
        now, level, pause = time.monotonic(), logging.WARNING, _LONGEST_PAUSE
        fix = f"; mend what flow.schedule({name!r}, ...) gives its runs, or what the flow asks for"
        if isinstance(exc, DatabaseError):
            if now < self._failed.get((flow_name, name), -inf) + _LONGEST_PAUSE:
                level = logging.DEBUG
            pause, fix = _FIRST_PAUSE, ""
        self._failed[flow_name, name] = now + pause
        text = "schedule %r of flow %r has no run for %d seconds, and is tried again then: %s: %s%s"
        _log.log(level, text, name, flow_name, pause, type(exc).__name__, exc, fix)


def failure(database: WorkflowDB, run_id: str) -> str:
    """The failure of a run in one line, where no exception reports it; empty if it did not fail."""
    run = database.get_run(run_id)
    if run is None or run["status"] != "failed" or run["error_type"] == "Interrupted":
        return ""
    kind = (run["error_type"] or "").rpartition(".")[2]
    error = ": ".join(filter(None, (kind, (run["error_msg"] or "").partition("\n")[0])))
    text = escape(f"run {run_id!r} of flow {run['flow_name']!r} failed: {error}")
    return f"{text} ({command_line('runs', 'show', run_id, '--db', database.path)})"


def ways_out(exc: PocoflowError, database: WorkflowDB, run_id: str) -> str:
    """Lines to add to the text of an error: the commands that resume its run, if any."""
    lines = ""
    for remedy in exc.remedies:
        if remedy.command[:1] == ("resume",):
            words = remedy.words({Gap.RUN: run_id})
            lines += f"\n{escape(remedy.what)}: {command_line(*words, '--db', database.path)}"
    return lines
