"""``Worker``: takes the runs of flows that are due, from one database, and runs them in threads.

It is no message queue: what is due is a query, and a run is claimed by its lock and fence, as by a
resume. So any number of workers may be at one database, and be killed at any instant.
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

_LOOK_EVERY = 0.1
"""Seconds between two looks while nothing is due."""

_AHEAD = 20
"""So many more runs are looked for than there are free threads: others may take some of them."""

_FIRST, _LONGEST = 1.0, 300.0
"""Seconds until a run that could not go on is tried again: at first, or if it is the database that
fails, and at most."""


class _Refused(NamedTuple):
    """A run that could not go on.

    Attributes:
        since: From when on it was due.
        pause: Seconds until it is tried again.
        until: When that is, by the monotonic clock.
    """

    since: str
    pause: float
    until: float


class Worker:
    """Carries on with the runs of flows that are due: queued, interrupted, answered, or late.

    Args:
        flows: The flows, of different names, that keep their runs in one database.
        concurrency: Runs at once, each in a thread.
        limits: What all workers of the database together may have at work.
        resources: As in ``Flow.run``, for the runs of all flows.
        deliver: Has somebody else carry on with a run, and waits until that is over; called with
            the flow and the id of the run, in place of ``flow.carry_on``, whose status it gives.
            Then ``resources`` is not used.

    Raises:
        DefinitionError: An argument makes no sense, or a flow has no database, or another one than
            the others have.
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
        for one in flows:
            if not isinstance(one, Flow):
                raise DefinitionError(
                    f"Worker({short(one)}): takes flows themselves, as in Worker(flow)"
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
        # Its put() may interrupt itself in a signal handler; that of other queues may not.
        self._wakes: SimpleQueue[None] = SimpleQueue()
        self._work: SimpleQueue[tuple[Flow, DueRun] | None] = SimpleQueue()
        self._guard = threading.Lock()
        self._active: dict[int, str] = {}
        self._refused: dict[int, _Refused] = {}
        self._suspect = 0
        self._unable: dict[tuple[str, str], float] = {}
        self._threads = 0
        self._is_stopping = self._is_told = False

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
        """Take no more runs, now and ever; :meth:`run` returns when those at work have ended.

        Any thread may call it, and a signal handler.
        """
        self._is_stopping = True
        self._wakes.put(None)

    @property
    def flow_names(self) -> Sequence[str]:
        """The names of the flows, in their order, without those that they had before."""
        return [name for name, _ in self._own()]

    @property
    def active(self) -> Sequence[str]:
        """The ids of the runs that are at work here."""
        with self._guard:
            return list(self._active.values())

    @property
    def refused(self) -> Sequence[str]:
        """The ids of the runs that are due now and could not go on here; why is in the log."""
        names, most = list(self._flows), 1 << 31
        due = due_runs(self.database, names, self.limits, most) if self._refused else ()
        return [run.run_id for run in due if run.run_no in self._refused]

    def run(self, *, until_idle: bool = False, grace: float | None = None) -> bool:
        """Carry on with what is due, until :meth:`stop` is called.

        Args:
            until_idle: Return as soon as nothing is due and nothing at work.
            grace: Seconds that the runs at work may take once it was stopped; for ever by default.

        Returns:
            Whether every run that was taken has ended. Those that have not go on in their threads;
            if the process ends, they read as interrupted, and another worker takes them.

        Raises:
            DatabaseError: The database cannot be read.
        """
        self._store_schedules()
        try:
            while not self._is_stopping:
                was_active = bool(self.active)
                is_idle = not self._look() and not was_active
                if until_idle and is_idle:
                    break
                self._wait(_LOOK_EVERY)
            return self._drain(grace)
        finally:
            for _ in range(self._threads):
                self._work.put(None)
            self._threads = 0

    def _drain(self, grace: float | None) -> bool:
        until = None if grace is None else time.monotonic() + grace
        while self.active:
            left = _LOOK_EVERY if until is None else min(_LOOK_EVERY, until - time.monotonic())
            if left <= 0:
                return False
            self._wait(left)
        return True

    def _wait(self, seconds: float) -> None:
        try:
            self._wakes.get(timeout=seconds)
            while True:
                self._wakes.get_nowait()
        except Empty:
            return

    # -- what is due ------------------------------------------------------------------------------

    def _look(self) -> int:
        """Begin with what is due, as far as there is room; how many runs were due."""
        try:
            self._submit_occurrences()
            free = self.concurrency - len(self.active)
            found = list(self._due(free + _AHEAD)) if free > 0 else []
        except (DatabaseBusyError, DatabaseLostError) as exc:
            _log.log(logging.DEBUG if self._is_told else logging.WARNING, "%s; looking again", exc)
            self._is_told = True
            return 1
        self._is_told = False
        for flow, run in found:
            if len(self.active) >= self.concurrency:
                break
            if 2 * run.interruptions >= self.limits.interruptions:  # it may be what ends processes
                # One at a time, so that what ends this process ends no other of its kind with it.
                if self._suspect in self._active:
                    continue
                self._suspect = run.run_no
            with self._guard:
                self._active[run.run_no] = run.run_id
            if self._threads < min(len(self.active), self.concurrency):
                self._threads += 1
                # Daemons, so that what does not end in time does not hold the exit up.
                name = f"pocoflow-worker-{self._threads}"
                threading.Thread(target=self._serve, name=name, daemon=True).start()
            self._work.put((flow, run))
        return len(found)

    def _due(self, most: int) -> Iterator[tuple[Flow, DueRun]]:
        names, now = list(self._flows), time.monotonic()
        for run in due_runs(self.database, names, self.limits, most + len(self._refused)):
            refused = self._refused.get(run.run_no)
            is_early = refused is not None and refused.since == run.since and refused.until > now
            if run.run_no not in self._active and not is_early:
                yield self._flows[run.flow_name], run

    def _serve(self) -> None:
        while (work := self._work.get()) is not None:
            flow, run = work
            try:
                self._carry_on(flow, run)
            finally:
                with self._guard:
                    self._active.pop(run.run_no, None)
                self._wakes.put(None)

    def _carry_on_here(self, flow: Flow, run_id: str) -> Status:
        with suppress(SystemExit):  # of a node: the run has ended so, and the worker is not to
            return flow.carry_on(run_id, resources=self._resources, limits=self.limits)
        return flow.database.handle(run_id).status

    def _carry_on(self, flow: Flow, run: DueRun) -> None:
        try:
            status = self._deliver(flow, run.run_id)
        except RunNotFoundError as exc:
            _log.debug("%s", exc)
        except BaseException as exc:  # noqa: BLE001 - the others go on
            before = self._refused.get(run.run_no)
            level, pause = logging.WARNING, _FIRST
            if before is not None and before.since == run.since:
                level = logging.DEBUG
                if not isinstance(exc, DatabaseError):  # which is as bad for all runs
                    pause = min(before.pause * 2, _LONGEST)
            ways = ""
            if isinstance(exc, PocoflowError):
                ways = ways_out(exc, flow.database, run.run_id)
            said = "run %r cannot go on, and is tried again: %s: %s%s"
            _log.log(level, said, run.run_id, type(exc).__name__, exc, ways)
            self._refused[run.run_no] = _Refused(run.since, pause, time.monotonic() + pause)
        else:
            self._refused.pop(run.run_no, None)
            if status == "failed" and (told := failure(flow.database, run.run_id)):
                _log.warning("%s", told)

    # -- schedules --------------------------------------------------------------------------------

    def _store_schedules(self) -> None:
        now = self.database.connection.now()
        found = [
            one.first(name, now) for name, flow in self._own() for one in flow.schedules.values()
        ]
        store_schedules(self.database, self._flows, found)

    def _own(self) -> Iterator[tuple[str, Flow]]:
        return ((name, flow) for name, flow in self._flows.items() if name == flow.flow_name)

    def _submit_occurrences(self) -> None:
        for name, flow in self._own():
            if flow.schedules:
                now = time.monotonic()
                besides = {
                    one for (of, one), until in self._unable.items() if of == name and until > now
                }
                flow.submit_due(partial(self._refuse_schedule, name), besides)

    def _refuse_schedule(self, flow_name: str, name: str, exc: Exception) -> None:
        now, level, pause = time.monotonic(), logging.WARNING, _LONGEST
        way = f"; mend what flow.schedule({name!r}, ...) gives its runs, or what the flow asks for"
        if isinstance(exc, DatabaseError):
            if now < self._unable.get((flow_name, name), -inf) + _LONGEST:
                level = logging.DEBUG
            pause, way = _FIRST, ""
        self._unable[flow_name, name] = now + pause
        said = "schedule %r of flow %r has no run for %d seconds, and is tried again then: %s: %s%s"
        _log.log(level, said, name, flow_name, pause, type(exc).__name__, exc, way)


def failure(database: WorkflowDB, run_id: str) -> str:
    """That a run has failed, in one line, for whoever is told by no exception; else empty."""
    run = database.get_run(run_id)
    if run is None or run["status"] != "failed" or run["error_type"] == "Interrupted":
        return ""
    kind = (run["error_type"] or "").rpartition(".")[2]
    error = ": ".join(filter(None, (kind, (run["error_msg"] or "").partition("\n")[0])))
    said = escape(f"run {run_id!r} of flow {run['flow_name']!r} failed: {error}")
    return f"{said} ({command_line('runs', 'show', run_id, '--db', database.path)})"


def ways_out(exc: PocoflowError, database: WorkflowDB, run_id: str) -> str:
    """What to add to the text of an error: the commands that resume its run, if some do."""
    ways = ""
    for one in exc.remedies:
        if one.command[:1] == ("resume",):
            words = one.words({Gap.RUN: run_id})
            ways += f"\n{escape(one.what)}: {command_line(*words, '--db', database.path)}"
    return ways
