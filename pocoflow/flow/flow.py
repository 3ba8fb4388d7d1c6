"""``Flow``: a start node, and the ways to run what can be reached from it."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncGenerator, Callable, Collection, Generator, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from pydantic import BaseModel
from typing_extensions import TypeVar

from pocoflow.address import Address, check_name
from pocoflow.engine.commits import Unopened, commit
from pocoflow.engine.drivers import drive, drive_async
from pocoflow.engine.effects import Commit, Ledger, Steps
from pocoflow.engine.endings import exhaust, fail
from pocoflow.engine.hooks import Hooked
from pocoflow.engine.loop import steps
from pocoflow.engine.run import Run
from pocoflow.errors import DefinitionError
from pocoflow.flow.handle import RunHandle
from pocoflow.flow.proving import names_of
from pocoflow.flow.starting import (
    Resuming,
    check_database,
    names_before,
    new_run_id,
    open_store,
    refuse_while_importing,
    snapshots,
)
from pocoflow.flow.stored_runs import Started, StoredRuns
from pocoflow.flow.stream import stream, stream_async
from pocoflow.graph.graph import Graph, graphs_in
from pocoflow.graph.wiring import FlowEdges, Source
from pocoflow.logging import get_logger
from pocoflow.messages import closest, short
from pocoflow.nodes.base import Node, note_part
from pocoflow.nodes.context import Cancellation, RunContext
from pocoflow.nodes.edges import Edge, End, users_line
from pocoflow.nodes.middleware import AttemptMiddleware, VisitMiddleware
from pocoflow.nodes.porting import not_a_node, refuse_phases, two_arguments
from pocoflow.nodes.resources import check_resources
from pocoflow.nodes.settings import is_time
from pocoflow.store.fields import References
from pocoflow.store.schema import classes_of, make_schema
from pocoflow.store.store import Store

if TYPE_CHECKING:
    from pocoflow.db import WorkflowDB
    from pocoflow.engine.event_types import Event

__all__ = ["Flow"]

StateT = TypeVar("StateT", bound=BaseModel, default=Any)

StoreLike: TypeAlias = "Store[StateT] | StateT | dict[str, Any] | None"

_log = get_logger("flow")


class Flow(Hooked[StateT], StoredRuns[StateT], Node[Any, Any, Any]):
    """A directed graph of nodes: everything that can be reached from ``start``.

    A flow holds no state of a run: it may run many times, also at once in threads and tasks.

    A flow is a node as well: wired into another flow, it works on the store of that run, its
    nodes are steps of that run, and the action that ends it is its action there.

    Args:
        start: Where a run begins.
        flow_name: Label in the database, the log and the monitor; the start node's name by default.
        db_path: SQLite file that keeps every run, its events and checkpoints; or a
            :class:`WorkflowDB` opened with settings of its own. ``None`` keeps nothing.
        checkpoint_dir: Folder for a JSON snapshot after each step, ``step_<NNN>_<Node>.json``.
        max_steps: Steps that one run may take: a guard against loops without a way out.
        schema: A Pydantic model (or a dict of types) that the store of every run is checked with.
        inputs: The fields that a run has to be given, ``(A.document,)``; by default those that are
            read and that no node writes, or whoever writes them needs them first. Each run checks
            that they are there.
        outputs: The fields that are set wherever a run ends, ``(A.summary,)``: a way to an end that
            leaves one out is an error. By default those that the schema requires, and a warning.
        ignore: Codes of findings that validation does not tell of this flow, ``("PF302",)``, or
            their beginning, ``("PF3",)``. ``# pocoflow: ignore[PF302]`` does it for a line.
        strict: Raise when a node returns an action that has no edge, instead of ending the run.
        deadline: Seconds that one run may take, from its start or its resume; then it is stopped as
            by a cancellation, and fails. That of a nested flow does not count.
        run_id: Id of the next runs, for a caller who has ids of his own; made anew for each run
            by default.
        formerly: Names that the flow had before: stored runs that bear one of them are its own.
        aliases: Classes of stored values that have other names now, or that no module has, by those
            that are on record: ``{"old_module:Name": Name}``.

    Raises:
        DefinitionError: An argument makes no sense.
    """

    def __init__(
        self,
        start: Node[Any, Any, Any],
        *,
        flow_name: str | None = None,
        db_path: str | os.PathLike[str] | WorkflowDB | None = None,
        checkpoint_dir: str | os.PathLike[str] | None = None,
        max_steps: int = 10_000,
        schema: type[StateT] | Mapping[str, Any] | None = None,
        inputs: References | None = None,
        outputs: References | None = None,
        ignore: Collection[str] = (),
        strict: bool = False,
        deadline: float | None = None,
        run_id: str | None = None,
        formerly: Iterable[str] = (),
        aliases: Mapping[str, type] | None = None,
    ) -> None:
        given: object = start
        if not isinstance(given, Node):
            raise DefinitionError(f"Flow(start=...) takes a node, not {not_a_node(given)}")
        if type(max_steps) is not int or max_steps < 1:
            raise DefinitionError(f"Flow(max_steps={max_steps!r}): a whole number of at least 1")
        if deadline is not None and not is_time(deadline):
            raise DefinitionError(f"Flow(deadline={deadline!r}): a number of seconds above 0")
        if db_path is not None:
            check_database(db_path)
        make_schema(schema)
        refuse_phases(type(self), Node)
        note_part(start)
        self._made_at = users_line()
        self.start = start
        super().__init__(name=start.name if flow_name is None else flow_name)
        self.max_steps = max_steps
        self.schema = schema
        self.inputs = names_of("inputs", inputs)
        self.outputs = names_of("outputs", outputs)
        self.ignore = _rules(ignore)
        self.strict = strict
        self.deadline = deadline
        if run_id is not None:
            check_name("Flow(run_id=...)", run_id)
        self.run_id = run_id
        self.formerly = names_before(formerly)
        self.aliases = dict(aliases or {})
        self.checkpoint_dir = None if checkpoint_dir is None else Path(checkpoint_dir)
        self._db_path = db_path
        self._database: WorkflowDB | None = None
        self._opened: list[WorkflowDB] = []
        self._own_edges = FlowEdges()
        self._described: tuple[Graph, str] | None = None

    @property
    def flow_name(self) -> str:
        """Label in the database, the log and the monitor; the flow's name as a node, too."""
        return self.name

    # -- wiring -------------------------------------------------------------------------------

    @two_arguments
    def then(self, source: str | Source, target: Node[Any, Any, Any] | End, /) -> Self:
        """Write an edge: ``flow.then(a, b)``, ``flow.then(a.when("bad"), b)``.

        The edge belongs to this flow, so a node serves in many of them; where the node has one of
        its own for the same action (``a.then("bad", c)``), the flow's counts. With a string first,
        as in ``flow.then("ok", b)``, it is :meth:`Node.then`: this flow is a node of another one.

        Args:
            source: A node, for its default action, or ``node.when(action)``.
            target: The node that comes next, or ``END``.

        Returns:
            This flow, so that its edges chain.

        Raises:
            DefinitionError: An argument is something else; the message has the place.
        """
        frame = sys._getframe(2)  # behind two_arguments
        add = self._add_edge if isinstance(source, str) else self._own_edges.add
        add(source, target, frame.f_code.co_filename, frame.f_lineno)
        return self

    def use(
        self,
        *,
        visit: VisitMiddleware | None = None,
        attempt: AttemptMiddleware | None = None,
    ) -> Self:
        """Wrap every visit of a node, or every attempt of ``exec``, in every run of this flow.

        A middleware is a generator function: ``yield`` goes on and gives what comes of it, what it
        returns counts in its place, and ``yield coroutine`` awaits one in every kind of run. What
        is used first is outermost. In a nested flow, that of the flows around it is around its own.

        Args:
            visit: Called with a :class:`~pocoflow.middleware.Visit`, once for each; it goes on at
                most once, and returns the action.
            attempt: Called with an :class:`~pocoflow.middleware.Attempt`, in a batch for each item;
                it returns the result.

        Returns:
            This flow.

        Raises:
            DefinitionError: It is no generator function of one argument.
        """
        self._own_edges.use(visit, attempt)
        return self

    is_flow = True

    # -- running ------------------------------------------------------------------------------

    def run(
        self,
        store: StoreLike[StateT] = None,
        *,
        resume_from: Node[Any, Any, Any] | None = None,
        resources: Mapping[Any, object] | None = None,
    ) -> Store[StateT]:
        """Run to the end in this thread.

        Args:
            store: A ``Store``; or a dict, which then sees every write; or an instance of the
                schema's model, which is left as it is.
            resume_from: Begin at this node instead of the start.
            resources: Live objects, never stored: ``{client: Client()}``, where ``client`` is what
                ``resource(Client, "name")`` returned.

        Returns:
            The store of the run.

        Raises:
            FlowValidationError: The flow has mistakes; no node has run.
            MissingInputError: The store lacks an input of the flow; no node has run.
            ResourceError: A function node asks for a resource that is missing or of another type.
            InvalidValueError: The store does not fit the schema.
            RunExistsError: ``run_id`` is used already.
            MaxStepsError: The run needed more than ``max_steps`` steps.
            DeadlineError: It took longer than ``deadline`` seconds.
            Exception: Whatever a node raised, as it was raised.
        """
        return self._go(self._new(store, resume_from, resources))

    async def run_async(
        self,
        store: StoreLike[StateT] = None,
        *,
        resume_from: Node[Any, Any, Any] | None = None,
        resources: Mapping[Any, object] | None = None,
    ) -> Store[StateT]:
        """Run to the end on the caller's event loop; like :meth:`run` in everything else.

        Asynchronous phases run as part of the calling task, synchronous ones in threads, and
        commits in a thread of their own, so that the loop stays free. Cancelling the task cancels
        the run.
        """
        return await self._go_async(lambda: self._new(store, resume_from, resources), shared=True)

    def run_background(
        self,
        store: StoreLike[StateT] = None,
        *,
        resume_from: Node[Any, Any, Any] | None = None,
        resources: Mapping[Any, object] | None = None,
    ) -> RunHandle[StateT]:
        """Start a run in a daemon thread and return at once; like :meth:`run` in everything else.

        The run is in the database, as ``running``, when this returns. If the interpreter exits
        before the run has ended, the run ends with it and reads as interrupted.
        """
        return self._go_background(self._new(store, resume_from, resources))

    def stream(
        self,
        store: StoreLike[StateT] = None,
        *,
        resume_from: Node[Any, Any, Any] | None = None,
        resources: Mapping[Any, object] | None = None,
    ) -> Generator[Event, None, None]:
        """Start a run in a thread and give its events as they happen; else like :meth:`run`.

        What nodes emit by ``context().emit(value)`` comes as ``Emitted``. Events wait for a slow
        reader without a bound and without slowing the run down. Leaving the loop early cancels the
        run. An exception that ends the run is raised after its last event.
        """
        started = self._new(store, resume_from, resources)
        return stream(started.run, steps(started.run, started.place), self._database)

    def stream_async(
        self,
        store: StoreLike[StateT] = None,
        *,
        resume_from: Node[Any, Any, Any] | None = None,
        resources: Mapping[Any, object] | None = None,
    ) -> AsyncGenerator[Event, None]:
        """Like :meth:`stream`, on the caller's event loop."""

        async def begin() -> tuple[Run, Steps]:
            started = await self._begin_async(
                lambda: self._new(store, resume_from, resources), shared=True
            )
            return started.run, steps(started.run, started.place)

        return stream_async(begin)

    @property
    def graph(self) -> Graph:
        """The graph as it is wired now."""
        return graphs_in(self)[0]

    @property
    def _strays(self) -> tuple[Edge[Any], ...]:
        return () if self._is_part else tuple(self._edges.values())

    def __repr__(self) -> str:
        return f"<Flow {self.flow_name!r} from {self.start.name!r}>"

    # -- the beginning of a run ---------------------------------------------------------------

    def _go(self, started: Started) -> Store[StateT]:
        drive(started.run.context, steps(started.run, started.place))
        return started.run.store

    async def _go_async(self, start: Callable[[], Started], *, shared: bool) -> Store[StateT]:
        started = await self._begin_async(start, shared=shared)
        await drive_async(started.run.context, steps(started.run, started.place))
        return started.run.store

    async def _begin_async(self, start: Callable[[], Started], *, shared: bool) -> Started:
        refuse_while_importing(self.flow_name)  # before another thread takes over
        if self._db_path is None:
            started = start()  # nothing in it may block
        else:
            begun: list[Started] = []
            ledger = self._ledger()
            try:
                await commit(Commit(ledger, lambda: begun.append(start()), shared=shared))
            except BaseException as exc:
                # Cancelled while the run was being written: it is on record, so it needs an end.
                await commit(Commit(ledger, partial(_end, begun, exc), is_last=True))
                raise
            started = begun[-1]
        started.run.inline, started.run.on_loop = False, True
        return started

    def _go_background(self, started: Started) -> RunHandle[StateT]:
        return RunHandle(started.run, steps(started.run, started.place), self._database)

    def _new(
        self,
        given: StoreLike[StateT],
        resume_from: Node[Any, Any, Any] | None,
        resources: Mapping[Any, object] | None,
    ) -> Started:
        refuse_while_importing(self.flow_name)
        graph = self.graph
        objects = check_resources(resources, graph.resources)
        place = graph.start if resume_from is None else graph.place(resume_from)
        store = open_store(given, self.schema, self.flow_name)
        self._prove(place, (), store)
        run_id, token = new_run_id(self.flow_name)
        run = self._run(graph, self.run_id or run_id, token, store, objects)
        database = self._open_database(graph)
        if database is None:
            hears = run.snapshot is not None or bool(self._registered())
            run.only_awaits = graph.only_awaits and not hears
        else:
            from pocoflow.db.recorder import RunRecorder

            classes = classes_of(store.schema, aliases=self.aliases)
            recorder = run.recorder = RunRecorder(database, run.context.run_id, classes)
            leaf, path = place.first()
            first, described = Address(path, leaf.name), self._fingerprint(graph)
            recorder.begin(run.store, self.flow_name, token, first, described)
        return Started(run, place)

    def _stored(
        self,
        run_id: str,
        resuming: Resuming,
        resources: Mapping[Any, object] | None,
    ) -> Started:
        from pocoflow.flow.resume import StoredRun

        refuse_while_importing(self.flow_name)
        graph = self.graph
        objects = check_resources(resources, graph.resources)
        database = self._required_database()
        self._refuse_other(database, run_id, resuming)
        stored = StoredRun(database, run_id, graph, self.schema, resuming)
        found = stored.reopen(self.flow_name, self._prove)
        run = self._run(graph, run_id, stored.token, stored.store, objects)
        run.recorder, run.unfinished = stored.recorder, found
        run.step = run.finished = found.steps
        run.frames.extend(found.places[:-1])
        return Started(run, found.places[-1])

    def _run(
        self,
        graph: Graph,
        run_id: str,
        token: str,
        store: Store[Any],
        resources: Mapping[Any, object],
    ) -> Run:
        cancellation = Cancellation(self.deadline)
        run = Run(
            context=RunContext(run_id, self.flow_name, token, cancellation, resources),
            store=store,
            max_steps=self.max_steps,
            strict=self.strict,
            inline=True,
            listeners=self.listeners(),
            middleware=graph.middleware,
            wraps=graph.wraps,
        )
        if self.checkpoint_dir is not None:
            run.snapshot = snapshots(store, self.checkpoint_dir)
        return run

    def _fingerprint(self, graph: Graph) -> str:
        if self._described is None or self._described[0] is not graph:
            from pocoflow.graph.fingerprint import describe

            self._described = (graph, describe(graph, self.schema))
        return self._described[1]

    def _ledger(self) -> Ledger:
        """Where runs are kept, also before it is open."""
        given = self._db_path if self._database is None else self._database
        if given is None or isinstance(given, str | os.PathLike):
            return Unopened(os.path.realpath(given or ""))
        return given.connection

    def _stored_in(self) -> WorkflowDB | None:
        return self._open_database(self.graph)

    def _open_database(self, graph: Graph) -> WorkflowDB | None:
        if self._db_path is not None and self._database is None:
            from pocoflow.db import WorkflowDB

            path = self._db_path
            opened = path if isinstance(path, WorkflowDB) else WorkflowDB(path)
            # Threads that begin their first runs at once all use what the first of them opened.
            self._opened.append(opened)
            self._database = self._opened[0]
            if opened is not self._database:
                opened.close()
                return self._database
            for name in graph.namesakes():
                _log.warning(
                    "flow %r has several nodes of the name %r: give them a name= of their own, or "
                    "a run cannot be told where to go on after the code has changed",
                    self.flow_name,
                    name,
                )
        return self._database


def _end(begun: Iterable[Started], exc: BaseException) -> None:
    for one in begun:
        exhaust(fail(one.run, exc))


def _rules(given: Collection[str]) -> tuple[str, ...]:
    if not given:
        return ()
    from pocoflow.check.rules import RULES

    codes: tuple[Any, ...] = (given,) if isinstance(given, str) else tuple(given)
    for one in codes:
        code = one if isinstance(one, str) else ""
        if not code or not any(known.startswith(code.upper()) for known in RULES):
            raise DefinitionError(
                f"Flow(ignore=...) takes codes of rules, such as 'PF301' or 'PF3', "
                f"not {short(one)}{closest(one, RULES)}"
            )
    return tuple(one.upper() for one in codes)
