"""``Flow``: a start node, and the ways to run what can be reached from it."""

from __future__ import annotations

import os
import sys
from abc import ABCMeta
from collections.abc import (
    AsyncGenerator,
    Callable,
    Collection,
    Container,
    Generator,
    Iterable,
    Mapping,
)
from contextvars import ContextVar
from copy import copy, deepcopy
from functools import cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, Literal, Self, TypeAlias, overload

from typing_extensions import Unpack

from pocoflow.address import check_id, check_name
from pocoflow.errors import (
    DefinitionError,
    NoDatabaseError,
    ResourceError,
    RunNotFoundError,
)
from pocoflow.flow import arguments, hooks
from pocoflow.flow.database import FlowDatabase
from pocoflow.flow.naming import (
    UNNAMED_RUN,
    RunKeywords,
    RunName,
    SubmitKeywords,
    given_labels,
    refuse_unknown,
)
from pocoflow.flow.proving import Proofs
from pocoflow.flow.resuming import (
    CarryKeywords,
    ChangeKeywords,
    ForkKeywords,
    KnownKeywords,
    Resumable,
    ResumeKeywords,
    Resuming,
)
from pocoflow.flow.starting import Given, new_run_id, snapshots
from pocoflow.graph.order import Forbid, OrderRule, Require, visited
from pocoflow.graph.wiring import FlowEdges, Source
from pocoflow.messages import short, users_line
from pocoflow.nodes.base import CACHED, AnyNode, Composite, Node, NodeLike, mark_nested
from pocoflow.nodes.call_checks import by_keyword, first_and_keywords, refuse_near, two_arguments
from pocoflow.nodes.edges import End, Outlet, wiring_changed, wiring_version
from pocoflow.nodes.importing import refuse_while_importing
from pocoflow.nodes.middleware import AttemptMiddleware, VisitMiddleware
from pocoflow.nodes.phase_checks import OF_STEPS, NotOfFlows, refuse_phases
from pocoflow.nodes.resources import Resource, Resources, check_resources
from pocoflow.nodes.settings import GivesExecutor, Where
from pocoflow.nodes.spending import Amount, Amounts, Budget, limited_by
from pocoflow.store.fields import References
from pocoflow.store.store import StateT, Store
from pocoflow.values.callables import UNSET, lists_keywords

if TYPE_CHECKING:
    from pocoflow.check.bounds import Bound, Endless
    from pocoflow.check.findings import Finding
    from pocoflow.check.proof import Proof
    from pocoflow.check.subject import Subject
    from pocoflow.db.due import Limits
    from pocoflow.db.following import Until
    from pocoflow.db.rows import Status
    from pocoflow.db.run_threads import Named
    from pocoflow.db.workflow import WorkflowDB
    from pocoflow.engine.line import Line, Listener, Plan
    from pocoflow.flow.execution import Execution, Started, StartedOrJoined
    from pocoflow.flow.handle import RunHandle
    from pocoflow.flow.records import Records
    from pocoflow.flow.resume.stored_run import StoredRun
    from pocoflow.flow.scheduling import Due, Schedule
    from pocoflow.graph.event_types import Event, Followed
    from pocoflow.graph.graph import Graph, Vertex
    from pocoflow.nodes.question import Asked, Reply

    _Base = NodeLike
else:
    _Base = Node

__all__ = ["Flow"]


StoreLike: TypeAlias = "Store[StateT] | StateT | dict[str, Any] | None"

RunObjects: TypeAlias = tuple[Resources, tuple[Resource, ...]]
"""The resources of a run in this process, and those that it must open itself."""


@cache
def _execution() -> type[Execution]:
    """Import the engine, which programs that only describe flows do not need."""
    from pocoflow.flow.execution import Execution

    return Execution


_ABOUT_RESUMES = by_keyword(more="; what is given beside the id is named: changes={...}")


class _FlowType(ABCMeta):
    """The type of flows; ``dir`` leaves out the attributes of nodes that flows lack."""

    def __dir__(cls) -> list[str]:
        return [name for name in super().__dir__() if hasattr(cls, name)]


class Flow(Composite, _Base[str], Generic[StateT], metaclass=_FlowType):
    """A directed graph of nodes: everything that can be reached from ``start``.

    A flow holds no state of a run: it may run many times, also concurrently in threads and tasks.

    A flow is also a node: wired into another flow, it works on the store of that run, its
    nodes are steps of that run, and the action that ends it is the action it returns there.

    Args:
        start: The node that a run begins with.
        flow_name: Label in the database, the log and the monitor; the start node's name by default.
        db_path: SQLite file that stores every run, its events and checkpoints; or the URL of a
            PostgreSQL server, ``postgresql://user@host/database``; or a :class:`WorkflowDB`
            opened with its own settings. With ``None``, nothing is stored.
        checkpoint_dir: Folder for a JSON snapshot after each step, ``step_<NNN>_<Node>.json``.
        max_steps: Maximum number of steps in one run: a guard against infinite loops.
        schema: A Pydantic model (or a dict of types) that the store of every run is checked with.
        inputs: The fields that every run must be given, ``(A.document,)``; by default those that
            are read and that no node writes, or only nodes that need them first. Each run checks
            that they are set.
        outputs: The fields that are set wherever a run ends, ``(A.summary,)``: a path to an end on
            which one stays unset is an error. By default those that the schema requires; then it
            is a warning.
        ignore: Codes of findings that validation does not report for this flow, ``("PF302",)``, or
            their prefixes, ``("PF3",)``. ``# pocoflow: ignore[PF302]`` does so for a line.
        strict: Raise when a node returns an action that has no edge, instead of ending the run.
            A strict nested flow is strict in every flow.
        deadline: Seconds that one run may take, from its start or its resume; then it is stopped as
            by a cancellation, and fails. The deadline of a nested flow is ignored.
        budget: What one run may spend, its resumes included, by the names that its nodes pass to
            ``context().spend(usd=0.004)``: ``{"usd": 2.0}``. Checked before each node, attempt
            and journaled call. The budget of a nested flow is ignored.
        node_budgets: What single nodes may spend in a run, ``{write: {"usd": 0.5}}``; these may be
            inside nested flows and branches, but not nested flows or branches as a whole.
        thread_budget: What the runs of a run thread may spend together, ``{"usd": 20.0}``.
        label_budgets: What the runs with the same value of a label may spend together,
            ``{"customer": {"usd": 50.0}}``, also while they run at the same time.
        run_id: Id of the next run, for one run at a time, as every run that starts gets it.
            ``run(..., run_id=)`` gives a single run its id.
        formerly: Previous names of the flow: stored runs with one of these names belong to it.
        aliases: Classes of stored values that were renamed or moved, or that are in no module, by
            their stored names: ``{"old_module:Name": Name}``.
        executor: What calls ``exec`` of the nodes outside the process of the run: an executor
            of ``concurrent.futures``, or a function that returns one. ``executor`` of a node takes
            precedence. The executor of a nested flow is ignored.
        carry: Context variables whose values travel with ``exec``, and back.
        record_emitted: Record what nodes emit, so that those who follow a run from another process
            receive it, at the cost of at most one more commit every 50 ms. ``emit`` refuses what
            cannot be stored. Needs a database.

    Raises:
        DefinitionError: An argument is invalid.
    """

    @first_and_keywords
    def __init__(
        self,
        start: NodeLike,
        *,
        flow_name: str | None = None,
        db_path: str | os.PathLike[str] | WorkflowDB | None = None,
        checkpoint_dir: str | os.PathLike[str] | None = None,
        max_steps: int = 10_000,
        schema: type[StateT] | Mapping[str, object] | None = None,
        inputs: References | None = None,
        outputs: References | None = None,
        ignore: Collection[str] = (),
        strict: bool = False,
        deadline: float | None = None,
        budget: Mapping[str, Amount] | None = None,
        node_budgets: Mapping[NodeLike, Mapping[str, Amount]] | None = None,
        thread_budget: Mapping[str, Amount] | None = None,
        label_budgets: Mapping[str, Mapping[str, Amount]] | None = None,
        run_id: str | None = None,
        formerly: Iterable[str] = (),
        aliases: Mapping[str, type] | None = None,
        executor: GivesExecutor | None = None,
        carry: Iterable[ContextVar[Any]] = (),
        record_emitted: bool = False,
    ) -> None:
        settings = dict(locals())
        del settings["self"], settings["flow_name"]
        refuse_phases(type(self))
        self.made_at = users_line()
        self.wiring = FlowEdges()
        if flow_name is not None:
            check_name("Flow(flow_name=...)", flow_name)
        settings["inputs"] = arguments.names_of("inputs", inputs)
        settings["outputs"] = arguments.names_of("outputs", outputs)
        attributes = self.__dict__
        for name, value in settings.items():
            attributes[name] = arguments.checked(name, value)
        self.strict = attributes.pop("strict")
        mark_nested(start)
        self._name = start.name if flow_name is None else flow_name
        self._database = FlowDatabase(self.db_path)
        self._hooks = hooks.Hooks()
        self._proofs = Proofs()
        self._settings = object()  # replaced whenever a setting is set

    is_flow = True

    start: NodeLike
    schema: type[StateT] | Mapping[str, object] | None
    db_path: str | os.PathLike[str] | WorkflowDB | None
    checkpoint_dir: Path | None
    max_steps: int
    inputs: tuple[str, ...] | None
    outputs: tuple[str, ...] | None
    ignore: tuple[str, ...]
    deadline: float | None
    budget: Amounts | None
    node_budgets: Mapping[AnyNode, Amounts]
    thread_budget: Amounts | None
    label_budgets: Mapping[str, Amounts]
    run_id: str | None
    formerly: tuple[str, ...]
    aliases: dict[str, type]
    executor: Where
    carry: tuple[ContextVar[Any], ...]
    record_emitted: bool
    schedules: Mapping[str, Schedule] = MappingProxyType({})

    _known_plan: Plan | None = None
    _described: tuple[Graph, object, str] | None = None

    def __getstate__(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The state of a copy: the same nodes, but its own wiring and hooks."""
        state, slots = Composite.__getstate__(self)
        state |= {"wiring": copy(self.wiring), "_hooks": hooks.Hooks(self._hooks)}
        return {**state, "_proofs": Proofs()}, slots

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        """A copy with copies of the nodes; both store their runs in the same database."""
        other = memo[id(self)] = copy(self)
        attributes = other.__dict__
        for name in attributes.keys() - arguments.COMMON:
            attributes[name] = deepcopy(attributes[name], memo)
        return other

    @property
    def strict(self) -> bool:
        """Whether an action without an edge is an error; also in nested flows."""
        return self.wiring.is_strict

    @strict.setter
    def strict(self, value: bool) -> None:
        self.wiring.is_strict = value
        wiring_changed(self.wiring.in_graph)

    if not TYPE_CHECKING:
        # At run time a flow is a Node, without the attributes that only single steps have.
        for name in OF_STEPS:
            vars()[name] = NotOfFlows(name)
        del name

        def __setattr__(self, name, value):
            attributes = self.__dict__
            # During construction, or what was derived from the flow.
            if "_settings" not in attributes or name in CACHED:
                object.__setattr__(self, name, value)
                return
            if type(self) is Flow and not hasattr(self, name):
                refuse_near(f"flow {self.name!r}", name, attributes)
            if name in arguments.SETTINGS:
                value = arguments.checked(name, value)
            object.__setattr__(self, name, value)
            if name == "db_path":
                attributes["_database"] = FlowDatabase(value)
            attributes["_settings"] = object()

    @property
    def flow_name(self) -> str:
        """Label in the database, the log and the monitor; also the flow's name as a node."""
        return self.name

    @flow_name.setter
    def flow_name(self, value: str) -> None:
        self.name = value

    # -- wiring -------------------------------------------------------------------------------

    @two_arguments
    def then(
        self,
        source: str | Source,
        target: NodeLike | End | None,
        /,
        *,
        at_most: int | None = None,
        then: NodeLike | End | None = UNSET,
    ) -> Self:
        """Add an edge: ``flow.then(a, b)``, ``flow.then(a.when("bad"), b)``.

        The edge belongs to this flow, so a node can be used in many flows. It takes precedence
        over an edge of the node itself for the same action (``a.then("bad", c)``); if the two have
        different targets, validation reports it (PF106). With a string first, as in
        ``flow.then("ok", b)``, it is :meth:`Node.then`: this flow is a node of another flow.

        Args:
            source: A node, for its default action, or ``node.when(action)``, or
                ``node.catch(errors)``.
            target: The next node, or ``END``.
            at_most: How often the edge is taken, counted from the beginning of the run or, in a
                nested flow or a parallel branch, from its beginning; a resume continues the count.
            then: Where the edge leads after that, a node or ``END``; required with ``at_most``.

        Returns:
            This flow, so that calls can be chained.

        Raises:
            DefinitionError: An argument is invalid; the message names the line.
        """
        frame = sys._getframe(2)  # behind two_arguments
        add = self._add_edge if isinstance(source, str) else self.wiring.add
        add(source, target, (frame.f_code.co_filename, frame.f_lineno), (at_most, then))
        return self

    def require(self, node: NodeLike | Outlet, /) -> Require[Self]:
        """Begin a rule: ``flow.require(approve).before(publish)``, or ``.after(pay)``.

        Validation proves it on every path of the flow: through nested flows, through branches in
        any order, and along edges for errors. A path that breaks it is an error, which stops each
        run before its first node. Nothing is required of a path that ends with an error that no
        edge catches, a cancellation, the deadline or ``max_steps``.

        Args:
            node: What must be visited: a node or a flow, or ``node.when(action)`` for a visit
                that ends with the action. A visit that ends with an error does not count.

        Raises:
            DefinitionError: It is neither.
        """
        what = visited("flow.require", node)
        half = OrderRule("require", what, what, where=users_line())
        return Require(self, what, self.wiring.begin_rule(half))

    def forbid(self, node: NodeLike, /) -> Forbid[Self]:
        """Begin a rule: ``flow.forbid(send).after(refuse)``; proved like :meth:`require`.

        Args:
            node: What must not be visited: a node or a flow.

        Raises:
            DefinitionError: It is neither.
        """
        what = visited("flow.forbid", node, with_action=False)
        half = OrderRule("forbid", what, what, where=users_line())
        return Forbid(self, what, self.wiring.begin_rule(half))

    @by_keyword(more="; name it: use(visit=...), or use(attempt=...)")
    def use(
        self,
        *,
        visit: VisitMiddleware | None = None,
        attempt: AttemptMiddleware | None = None,
    ) -> Self:
        """Wrap every visit of a node, or every attempt of ``exec``, in every run of this flow.

        A middleware is a generator function: ``yield`` runs what it wraps and returns the result,
        its return value replaces that result, and ``yield coroutine`` awaits a coroutine in every
        kind of run. The first one added is outermost. In a nested flow, the middleware of the flows
        around it wraps its own.

        Args:
            visit: Called with a :class:`~pocoflow.middleware.Visit` for every visit; it yields to
                the visit at most once, and returns the action.
            attempt: Called with an :class:`~pocoflow.middleware.Attempt`, in a batch for each item;
                it returns the result.

        Returns:
            This flow.

        Raises:
            DefinitionError: It is not a generator function of one argument.
        """
        self.wiring.use(visit, attempt)
        return self

    # -- hooks --------------------------------------------------------------------------------

    @overload
    def on(self, event: Literal["flow_start"], callback: hooks.OnFlow[StateT], /) -> Self: ...
    @overload
    def on(self, event: Literal["node_start"], callback: hooks.OnNode[StateT], /) -> Self: ...
    @overload
    def on(self, event: Literal["node_end"], callback: hooks.OnNodeEnd[StateT], /) -> Self: ...
    @overload
    def on(self, event: Literal["node_error"], callback: hooks.OnNodeError[StateT], /) -> Self: ...
    @overload
    def on(self, event: Literal["node_retry"], callback: hooks.OnRetry[StateT], /) -> Self: ...
    @overload
    def on(self, event: Literal["node_ask"], callback: hooks.OnQuestion[StateT], /) -> Self: ...
    @overload
    def on(self, event: Literal["flow_error"], callback: hooks.OnFlowError[StateT], /) -> Self: ...
    @overload
    def on(self, event: hooks.FlowEnding, callback: hooks.OnFlowEnd[StateT], /) -> Self: ...
    def on(self, event: str, callback: Callable[..., object], /) -> Self:
        """Call a callback for an event, after the commit that records it.

        The events and the arguments of the callback::

            flow_start      (store)
            node_start      (name, store)
            node_retry      (name, attempt, exc, store)
            node_end        (name, action, elapsed_seconds, store)
            node_error      (name, exc, store)
            flow_end        (steps, store)       the run completed
            flow_error      (exc, store)         the run failed
            flow_cancelled  (steps, store)       the run was cancelled
            node_ask        (name, question, store)
            flow_pause      (steps, store)       the run waits for answers

        An ``Exception`` that a callback raises is logged and has no effect on the run. A run calls
        the hooks of its own flow, also for events inside nested flows, but not the hooks of these.

        Returns:
            This flow.

        Raises:
            HookError: There is no such event, or the callback cannot take its arguments.
        """
        self._hooks.add(event, callback)
        self.has_hooks = True
        return self

    def subscribe(self, listener: Listener, /) -> Self:
        """Call a listener for every event: ``listener(event, store)``, the event as a dataclass.

        Returns:
            This flow.

        Raises:
            HookError: It does not take these arguments, or it is ``async``: nothing would await it.
        """
        self._hooks.subscribe(listener)
        self.has_hooks = True
        return self

    # -- running ------------------------------------------------------------------------------

    @lists_keywords(RunKeywords)
    def run(self, store: StoreLike[StateT] = None, **how: Unpack[RunKeywords]) -> Store[StateT]:
        """Run to the end in this thread.

        Args:
            store: A ``Store``; or a dict, which is updated by every write; or an instance of the
                schema's model, which stays unchanged.
            **how: ``resume_from``: the node to begin with, instead of the start. ``resources``:
                live objects, never stored, ``{client: Client()}``, where ``client`` is what
                ``resource(Client, "name")`` returned. The others identify the run; all but
                ``run_id`` need a database: ``run_id``: its id; generated by default. ``if_exists``:
                what to do if a run of that id exists: ``"refuse"`` (the default), or ``"join"`` it
                if it is a run of this flow with the same inputs. ``thread``: its run thread. The
                run begins with the store with which the last completed run of the thread ended,
                updated with ``store``, a dict or a model: with the fields of the model that were
                set, and by increments where a field has a reducer. ``labels``: texts by name, to
                find the run by. ``if_busy``: what to do while another run of the thread is queued,
                running, paused or interrupted: ``"refuse"`` (the default), or ``"wait"`` until it
                has ended.

        Returns:
            The store of the run.

        Raises:
            FlowValidationError: The flow has mistakes; no node has run.
            MissingInputError: The store lacks an input of the flow; no node has run.
            ResourceError: A function node asks for a resource that is missing or of another type.
            InvalidValueError: The store does not fit the schema.
            RunExistsError: A run of that ``run_id`` exists; where runs are joined, one of another
                flow or with other inputs.
            RunFailedError: The joined run has failed.
            ThreadBusyError: Another run of the thread is open.
            MaxStepsError: The run needed more than ``max_steps`` steps.
            DeadlineError: It took longer than ``deadline`` seconds.
            Exception: Whatever a node raised, as it was raised.
        """
        return self._new_run(store, how).run()

    @lists_keywords(RunKeywords)
    async def run_async(
        self, store: StoreLike[StateT] = None, **how: Unpack[RunKeywords]
    ) -> Store[StateT]:
        """Run to the end on the caller's event loop; otherwise like :meth:`run`.

        Asynchronous phases run as part of the calling task, synchronous phases in threads, and
        commits in a separate thread, so that the loop is never blocked. Cancelling the task cancels
        the run.
        """
        return await self._new_run(store, how).run_async()

    @lists_keywords(RunKeywords)
    def run_background(
        self, store: StoreLike[StateT] = None, **how: Unpack[RunKeywords]
    ) -> RunHandle[StateT]:
        """Start a run in a daemon thread and return at once; otherwise like :meth:`run`.

        When this returns, the run is in the database as ``running``. If the interpreter exits
        before the run has ended, the run ends with it and reads as interrupted.
        """
        return self._new_run(store, how).background()

    @lists_keywords(RunKeywords)
    def stream(
        self, store: StoreLike[StateT] = None, **how: Unpack[RunKeywords]
    ) -> Generator[Event, None, None]:
        """Start a run in a thread and yield its events as they happen; otherwise like :meth:`run`.

        What nodes emit by ``context().emit(value)`` is yielded as ``Emitted``. Events are queued
        for a slow reader, without a bound and without slowing the run down. Leaving the loop early
        cancels the run. An exception that ends the run is raised after its last event.
        """
        return self._new_run(store, how).stream()

    @lists_keywords(RunKeywords)
    def stream_async(
        self, store: StoreLike[StateT] = None, **how: Unpack[RunKeywords]
    ) -> AsyncGenerator[Event, None]:
        """Like :meth:`stream`, on the caller's event loop."""
        return self._new_run(store, how).stream_async()

    @property
    def graph(self) -> Graph:
        """The graph as it is currently wired."""
        from pocoflow.graph.graph import graphs_in

        return graphs_in(self)[0]

    @property
    def database(self) -> WorkflowDB:
        """The database that stores the runs of the flow; opened on first use.

        Raises:
            NoDatabaseError: The flow has no ``db_path``.
        """
        database = self._database.open()
        if database is None:
            raise NoDatabaseError(
                f"flow {self.flow_name!r} keeps no runs: give it a db_path to submit, resume or "
                "fork them, to have them share a budget, or to have a worker run them"
            )
        return database

    @by_keyword(more="; name it: using(db_path=...)", db="; did you mean 'db_path'?")
    def using(
        self,
        *,
        db_path: str | os.PathLike[str] | WorkflowDB | None = None,
        formerly: Iterable[str] = (),
        aliases: Mapping[str, type] | None = None,
        executor: GivesExecutor | None = None,
    ) -> Self:
        """A copy of this flow, with the same wiring and hooks, on another database or executor.

        Edges and hooks that are added later concern one of the two only; edges that belong to nodes
        are shared.

        Args:
            db_path: As for a new flow; by default the database of this one.
            formerly: Further previous names of the flow.
            aliases: Further classes of stored values that were renamed or moved.
            executor: As for a new flow; by default the executor of this one.

        Raises:
            DefinitionError: An argument is invalid.
        """
        other = copy(self)
        if executor is not None:
            other.executor = executor
        other.formerly = (*self.formerly, *arguments.names_before(formerly))
        other.aliases = {**self.aliases, **arguments.aliases_of(aliases)}
        if db_path is not None:
            other.db_path = db_path
        return other

    def validate(self) -> list[Finding]:
        """Find everything that is provably wrong with the flow; no node is run.

        Every run does so, too, once for each wiring, and errors stop it before its first node.
        The codes are explained in ``docs/reference/rules.md``.

        Returns:
            All findings, errors first; empty if there are none.
        """
        return list(self.proof().findings)

    def proof(self) -> Proof:
        """The whole result of validation: the findings, and those that were silenced."""
        graph = self.graph
        return self._proofs.find(self._subject(graph, graph.start, (), self.schema))

    def bound(self) -> Bound | Endless:
        """The upper bound of one run that the limits of edges, batches and retries set.

        Returns:
            A ``Bound``, with ``steps``, with ``calls`` of ``exec``, all attempts included, and with
            what is added for ``each`` item of nodes that work on items. If a loop has no limit, an
            ``Endless``, whose ``steps`` and ``calls`` are ``None``, and which has the ``loop``.
        """
        from pocoflow.check.bounds import bound_of

        return bound_of(self.graph)

    def __repr__(self) -> str:
        return f"<Flow {self.flow_name!r} from {self.start.name!r}>"

    def __dir__(self) -> list[str]:
        return sorted({*dir(type(self)), *vars(self)})

    # -- runs that a worker starts ------------------------------------------------------------

    @lists_keywords(SubmitKeywords)
    def submit(self, inputs: StoreLike[StateT] = None, **how: Unpack[SubmitKeywords]) -> str:
        """Record a run for a worker to start; it is ``queued`` until then.

        Args:
            inputs: What the run begins with, as in :meth:`run`; it is stored, and not changed.
            **how: ``at``: the earliest time at which a worker may take it, with a time zone; by
                default now. ``delay``: in how many seconds, instead. ``run_id``, ``labels``: as in
                :meth:`run`. ``if_exists``: as in :meth:`run`; if the run is joined, nothing is
                recorded. ``thread``: as in :meth:`run`; the run begins with the current store of
                the thread, as no other run of it can start before this one has ended.
                ``most_open``: limits by the keys of the run's labels: refuse the run while that
                many runs in the database with the same value of the label are queued, running,
                paused or interrupted.

        Returns:
            The id of the run: ``flow.database.handle(run_id).wait()`` waits for it.

        Raises:
            NotStorableError: A value of the inputs cannot be stored.
            DefinitionError: The flow has no ``db_path``, or an argument is invalid.
            RunExistsError: A run of that ``run_id`` exists.
            ThreadBusyError: A run of the thread is open.
            TooManyRunsError: As many runs are open as ``most_open`` allows.
            Exception: As :meth:`run`, before the first node.
        """
        from pocoflow.flow.scheduling import Due

        name, now = RunName.of_submitted(how), self.database.connection.now()
        return self._submit(inputs, name, Due.of(how.get("at"), how.get("delay"), now))

    @lists_keywords(SubmitKeywords)
    async def submit_async(
        self, inputs: StoreLike[StateT] = None, **how: Unpack[SubmitKeywords]
    ) -> str:
        """Like :meth:`submit`, on the caller's event loop, without blocking it."""
        import asyncio

        return await asyncio.to_thread(self.submit, inputs, **how)

    def schedule(
        self,
        name: str,
        expression: str,
        inputs: StoreLike[StateT] = None,
        *,
        tz: str = "UTC",
        catch_up: float = 60.0,
        labels: Mapping[str, str] | None = None,
    ) -> Self:
        """Have workers start runs at certain times: ``flow.schedule("nightly", "0 2 * * *")``.

        Schedules belong to the code. On its start, a worker stores those of its flows, by flow and
        name; a schedule that its flow no longer has stops. Each occurrence is one run, whatever the
        number of workers, with the id ``flow.name.20261129T020000Z``, which has its time in UTC.

        Args:
            name: Its name, of letters, digits, ``-`` and ``_``.
            expression: A cron expression of five fields, or of six with the seconds first.
            inputs: What its runs begin with.
            tz: The time zone of the expression.
            catch_up: Of the occurrences that were missed because no worker was running, the last
                one becomes a run in any case, and the earlier ones if they are at most this many
                seconds old.
            labels: The labels of its runs.

        Returns:
            This flow.

        Raises:
            DefinitionError: An argument is invalid, the inputs do not fit the schema or cannot be
                stored, or the flow has a schedule of that name.
        """
        from pocoflow.flow.scheduling import Schedule

        if name in self.schedules:
            raise DefinitionError(f"flow {self.flow_name!r} has a schedule {name!r} already")
        checked_labels = given_labels(labels, f"schedule {short(name)}: ")
        schedule = Schedule(name, expression, inputs, tz, catch_up, checked_labels)
        schedule.check_inputs(self.schema, self.flow_name)
        self.schedules = MappingProxyType({**self.schedules, name: schedule})
        return self

    def submit_due(
        self,
        refused: Callable[[str, Exception], object] | None = None,
        besides: Container[str] = (),
    ) -> list[str]:
        """Submit a run for each due occurrence of the stored schedules; workers do so.

        Args:
            refused: Called with the name of a schedule whose run cannot be submitted, and the
                exception of :meth:`submit`, before the next schedule; by default it is raised.
            besides: The names of schedules to skip.

        Returns:
            The ids of the runs.

        Raises:
            DatabaseError: The database cannot be read or written to.
            DefinitionError: The flow has no ``db_path``.
            Exception: As :meth:`submit`.
        """
        from pocoflow.flow.scheduling import submit_due

        schedules = {k: schedule for k, schedule in self.schedules.items() if k not in besides}
        return submit_due(self.database, self.flow_name, schedules, self._submit, refused)

    def _submit(self, inputs: StoreLike[StateT], name: RunName, due: Due) -> str:
        refuse_while_importing(self)
        graph = self.graph

        def prove(store: Store) -> str:
            self._prove(graph, graph.start, (), store, is_new=True)
            return self._fingerprint(graph)

        return self._records.submit(name, inputs, due, graph.start, prove)

    # -- stored runs --------------------------------------------------------------------------

    @_ABOUT_RESUMES
    @lists_keywords(ResumeKeywords)
    def resume(self, run_id: str, **how: Unpack[ResumeKeywords]) -> Store[StateT]:
        """Continue a stored run from its pending node to its end, as the same run.

        A finished ``exec`` is not called again: its result is read from the database. ``prep`` of
        the pending node runs on the store of the last checkpoint. If the code has changed since,
        the changes are logged; those that affect the pending node or a field are refused.

        Args:
            run_id: A run that failed, was cancelled or interrupted, or a fork.
            how: ``changes``, values to set first, such as those that could not be saved;
                ``rename``, new names of nodes, ``{"Summarise": "Summarize"}``; ``types``, classes
                of stored values that neither the schema nor a loaded module has; ``aliases``,
                classes that were renamed or moved, by their stored names,
                ``{"old_module:Name": Name}``; ``flow_was``, the name of the flow when the run was
                started, if it was another one (``Flow(formerly=...)`` declares it for all runs);
                ``resources``, as in :meth:`run`: they are not stored, so give them again.

        Returns:
            The store of the run.

        Raises:
            RunNotFoundError: There is no such run.
            OtherFlowError: It is a run of another flow.
            ResumeError: It is completed, or alive here or in another process, or its pending node
                or a field no longer exists.
            DefinitionError: The flow has no ``db_path``.
            Exception: As :meth:`run`.
        """
        return self._resumed(run_id, how).run()

    @lists_keywords(ResumeKeywords)
    async def resume_async(self, run_id: str, **how: Unpack[ResumeKeywords]) -> Store[StateT]:
        """Like :meth:`resume`, on the caller's event loop."""
        return await self._resumed(run_id, how).run_async()

    @_ABOUT_RESUMES
    @lists_keywords(ResumeKeywords)
    def resume_background(self, run_id: str, **how: Unpack[ResumeKeywords]) -> RunHandle[StateT]:
        """Like :meth:`resume`, in a daemon thread."""
        return self._resumed(run_id, how).background()

    @_ABOUT_RESUMES
    @lists_keywords(ResumeKeywords)
    def resume_stream(
        self, run_id: str, **how: Unpack[ResumeKeywords]
    ) -> Generator[Event, None, None]:
        """Like :meth:`resume`, as an iterator of events like :meth:`stream`."""
        return self._resumed(run_id, how).stream()

    @lists_keywords(ResumeKeywords)
    def resume_stream_async(
        self, run_id: str, **how: Unpack[ResumeKeywords]
    ) -> AsyncGenerator[Event, None]:
        """Like :meth:`resume_stream`, on the caller's event loop."""
        return self._resumed(run_id, how).stream_async()

    @_ABOUT_RESUMES
    @lists_keywords(ChangeKeywords)
    def can_resume(self, run_id: str, **how: Unpack[ChangeKeywords]) -> Resumable:
        """Check whether a stored run could be resumed, and what has changed; write nothing.

        Reads what :meth:`resume` would read. The result is true if the run could be resumed:
        ``if flow.can_resume(run_id): ...``. A run that is alive, here or in another process, is
        refused; its pending node and what has changed are reported all the same.

        Raises:
            RunNotFoundError: There is no such run.
            DefinitionError: The flow has no ``db_path``.
        """
        refuse_unknown("resumed", how, ChangeKeywords.__annotations__)
        resuming = self._resuming(how, how.get("changes"), how.get("rename"))
        stored = self._stored_run(run_id, self.graph, resuming)
        return stored.rehearse(partial(self._prove, stored.graph))

    def check_owner(self, run_id: str, *, flow_was: str | None = None) -> None:
        """Refuse a stored run of another flow, by the flow name on its record.

        Every operation on a stored run calls this first. Cheap: no value of the run is read.

        Raises:
            RunNotFoundError: There is no such run.
            OtherFlowError: It is a run of another flow.
            DefinitionError: The flow has no ``db_path``.
        """
        resuming = self._resuming({"flow_was": flow_was})
        resuming.refuse_other(self._database_of(run_id), run_id)

    def follow(
        self, run_id: str, after: int = -1, until: Until = "end"
    ) -> Generator[Followed, None, None]:
        """The committed events of a stored run, as :meth:`WorkflowDB.follow` yields them.

        The run may be executing in any process, whichever has started it.

        Args:
            run_id: The run.
            after: The number of the last event that is already known.
            until: ``"pause"`` stops also when the run waits for answers.

        Raises:
            RunNotFoundError: There is no such run.
            OtherFlowError: It is a run of another flow.
            DefinitionError: The flow has no ``db_path``.
        """
        self.check_owner(run_id)
        return self.database.follow(run_id, after, until)

    def follow_async(
        self, run_id: str, after: int = -1, until: Until = "end"
    ) -> AsyncGenerator[Followed, None]:
        """Like :meth:`follow`, on the caller's event loop, without blocking it."""
        self.check_owner(run_id)
        return self.database.follow_async(run_id, after, until)

    @lists_keywords(CarryKeywords)
    def recover(self, **how: Unpack[CarryKeywords]) -> dict[str, Exception | None]:
        """Resume every interrupted or answered run of this flow, one after another.

        These are the runs whose process ended before they did, and the paused runs that have an
        answer or whose question has passed its deadline. Runs with a previous name of the flow
        (``formerly``, ``flow_was``) belong to it.

        Args:
            **how: ``types``, ``aliases``, ``flow_was`` and ``resources`` as in :meth:`resume`.

        Returns:
            For each such run, ``None`` if it is completed now, or the exception that ended it,
            ``RunPaused`` if it waits (again). A run that fails does not stop the others; a run that
            another process has resumed or ended in the meantime is left out.
        """
        from pocoflow.flow.recovering import recover

        resuming = self._recovering("recovered", how)
        resume = partial(self._stored, resuming=resuming, resources=how.get("resources"))
        return recover(resuming, self.database, resume)

    @lists_keywords(CarryKeywords)
    async def recover_async(self, **how: Unpack[CarryKeywords]) -> dict[str, Exception | None]:
        """Like :meth:`recover`, on the caller's event loop."""
        from pocoflow.flow.recovering import recover_async

        resuming = self._recovering("recovered", how)
        resume = partial(self._stored, resuming=resuming, resources=how.get("resources"))
        return await recover_async(resuming, lambda: self.database, resume)

    @lists_keywords(CarryKeywords)
    def carry_on(
        self, run_id: str, *, limits: Limits | None = None, **how: Unpack[CarryKeywords]
    ) -> Status:
        """Resume a run if it is due and no process runs it; return its status after that.

        For queues that deliver the ids of runs in any order, late or several times. A run is due
        if it is queued and its time has come, if it is a fork, if it was interrupted, or if it is
        paused and was answered or has passed the deadline of a question. Others stay unchanged.

        Args:
            run_id: The run.
            limits: Do not resume it while as many runs are active as these allow.
            **how: ``types``, ``aliases``, ``flow_was`` and ``resources`` as in :meth:`resume`.

        Returns:
            How the run ended, or that it is paused again; its present status if nothing was
            done. An exception that ends the run is recorded, and not raised.

        Raises:
            RunNotFoundError: There is no such run.
            OtherFlowError: It is a run of another flow.
            ResumeError: The code of its pending node has changed.
            DatabaseError: Its end could not be recorded; it reads as interrupted.
            DefinitionError: The flow has no ``db_path``.
        """
        from pocoflow.flow.recovering import carry_on

        return carry_on(self._carried(run_id, limits, how), self.database, run_id)

    @lists_keywords(CarryKeywords)
    async def carry_on_async(
        self, run_id: str, *, limits: Limits | None = None, **how: Unpack[CarryKeywords]
    ) -> Status:
        """Like :meth:`carry_on`, on the caller's event loop, where its nodes are awaited."""
        from pocoflow.flow.recovering import carry_on_async

        execution = self._carried(run_id, limits, how)
        return await carry_on_async(execution, lambda: self.database, run_id)

    @by_keyword(run_id="; the id of the new run is new_id=")
    @lists_keywords(ForkKeywords)
    def fork(
        self,
        run_id: str,
        step: int | None = None,
        changes: Mapping[str, object] | None = None,
        **how: Unpack[ForkKeywords],
    ) -> str:
        """Create a new run from a checkpoint of another run, which stays unchanged.

        Args:
            run_id: The parent; the new run records it.
            step: The checkpoint, from 0; -1 is the store before the first node; by default the
                last checkpoint.
            changes: Values to set in the new run's store.
            **how: ``new_id``, the id of the new run, generated by default; ``labels``, as in
                :meth:`run`; ``types``, ``aliases`` and ``flow_was``, as in :meth:`resume`.

        Returns:
            The id of the new run, which is ``queued``: :meth:`resume` runs it.

        Raises:
            RunExistsError: A run of that ``new_id`` exists.
            RunNotFoundError: There is no such run.
            OtherFlowError: It is a run of another flow.
            CheckpointNotFoundError: It has no checkpoint of that step.
            ResumeError: No node comes after that step.
            DefinitionError: ``step`` is not a number.
        """
        known = ("run_id", "step", "changes", *ForkKeywords.__annotations__)
        refuse_unknown("forked", how, known)
        return self._stored_run(run_id, self.graph, self._resuming(how, changes)).fork(step, how)

    def answer(
        self,
        run_id: str,
        reply: Reply,
        *,
        question: int | None = None,
        flow_was: str | None = None,
    ) -> list[Asked]:
        """Answer a question of a paused run, which :meth:`resume` then continues.

        Any process may have started the run. The first answer to a question counts.

        Args:
            run_id: The run.
            reply: ``node.reply(answer)``, so that a type checker checks the answer.
            question: The number of the question; required if the node has several open questions.
            flow_was: As in :meth:`resume`.

        Returns:
            The questions of the run that are still open; until they are answered, a resume runs
            as far as it can and pauses again.

        Raises:
            RunNotFoundError: There is no such run.
            OtherFlowError: It is a run of another flow.
            AnswerError: The answer does not fit, which leaves the question open; or the node has no
                such open question, or its deadline has passed.
            AnsweredError: It is already answered.
            DefinitionError: The flow has no ``db_path``.
        """
        from pocoflow.flow.answering import answer

        self.check_owner(run_id, flow_was=flow_was)
        return answer(self.database, self.graph, run_id, reply, question)

    def answer_json(
        self,
        run_id: str,
        answer: object,
        *,
        question: int | None = None,
        by: str | None = None,
        flow_was: str | None = None,
    ) -> list[Asked]:
        """Like :meth:`answer`, with a JSON value, as a web handler receives it.

        Args:
            run_id: The run.
            answer: A JSON value, as ``json.loads`` returns it; checked against the type of the
                answer.
            question: The number of the question; required if several are open.
            by: Who answers.
            flow_was: As in :meth:`resume`.
        """
        from pocoflow.flow.answering import answer_json

        self.check_owner(run_id, flow_was=flow_was)
        return answer_json(self.database, self.graph, run_id, answer, question, by)

    def _resuming(
        self,
        how: KnownKeywords,
        changes: Mapping[str, object] | None = None,
        rename: Mapping[str, str] | None = None,
    ) -> Resuming:
        names = (self.flow_name, *self.formerly)
        return Resuming.of(how, names, self.aliases, changes, rename)

    def _recovering(self, verb: str, how: CarryKeywords) -> Resuming:
        refuse_unknown(verb, how, CarryKeywords.__annotations__)
        return self._resuming(how)._replace(recovering=True)

    def _carried(self, run_id: str, limits: Limits | None, how: CarryKeywords) -> Execution[StateT]:
        resuming = self._recovering("carried on", how).by_worker(limits)
        return self._stored(run_id, resuming, how.get("resources"))

    # -- the beginning of a run ---------------------------------------------------------------

    def _new_run(self, given: StoreLike[StateT], how: RunKeywords) -> Execution[StateT]:
        refuse_while_importing(self)
        name = RunName.of_run(how, self.schema) if how else UNNAMED_RUN
        if self.db_path is None and (how or self.record_emitted):
            name.refuse_without_database(self.flow_name, self.record_emitted)
        if self.run_id is not None and name.run_id is None:
            name = name._replace(run_id=self.run_id)
        begin = partial(self._begin, Given(given, self.schema, self.flow_name), name, how)
        execution: Execution[StateT] = _execution()(begin, self._database.storage)
        execution.waits = name.if_busy == "wait"
        return execution

    def _resumed(self, run_id: str, how: ResumeKeywords) -> Execution[StateT]:
        refuse_unknown("resumed", how, ResumeKeywords.__annotations__)
        resuming = self._resuming(how, how.get("changes"), how.get("rename"))
        return self._stored(run_id, resuming, how.get("resources"))

    def _stored(
        self, run_id: str, resuming: Resuming, resources: Resources | None
    ) -> Execution[StateT]:
        refuse_while_importing(self)
        begin = partial(self._reopen, run_id, resuming, resources)
        return _execution()(begin, self._database.storage, shared=False)

    def _begin(self, given: Given, name: RunName, how: RunKeywords) -> StartedOrJoined:
        plan, resume_from = self._plan, how.get("resume_from")
        graph = plan.graph
        resources = self._resources(plan, how.get("resources"))
        vertex = graph.start if resume_from is None else graph.vertex(resume_from)

        def begin(store: Store, named: Named | None = None) -> Started:
            self._prove(graph, vertex, (), store, is_new=True)
            new_id, token = new_run_id(plan.flow_name)
            line = self._line(plan, vertex, (name.run_id or new_id, token), store, resources)
            has_listeners = line.snapshot is not None or bool(self._hooks.registered)
            line.only_awaits = graph.only_awaits and not has_listeners
            database = self._database.open()
            if database is not None:
                fingerprint, remarks = self._fingerprint(graph), self._proofs.remarks
                self._records.record(line, named, fingerprint, remarks, self.record_emitted)
            self._share_budgets(line)
            return line, database

        if self.db_path is None or name is UNNAMED_RUN:
            return begin(given.store)
        return self._records.begin(name, given, begin)

    def _line(
        self, plan: Plan, vertex: Vertex, run: tuple[str, str], store: Store, resources: RunObjects
    ) -> Line:
        objects, opens = resources
        line = plan.line(vertex, run, store, self._hooks.listeners(), objects)
        line.opens = opens
        if self.checkpoint_dir is not None:
            line.snapshot = snapshots(store, self.checkpoint_dir)
        return line

    @property
    def _records(self) -> Records:
        from pocoflow.flow.records import Records

        names = (self.flow_name, *self.formerly)
        return Records(self.database, names, self.schema, self.aliases)

    def _share_budgets(self, line: Line) -> None:
        if self.thread_budget is not None or self.label_budgets:
            self._records.share_budgets(line, self.thread_budget, self.label_budgets)

    def _stored_run(self, run_id: str, graph: Graph, resuming: Resuming) -> StoredRun:
        from pocoflow.flow.resume.stored_run import StoredRun

        return StoredRun(self._database_of(run_id), run_id, graph, self.schema, resuming)

    def _reopen(self, run_id: str, resuming: Resuming, resources: Resources | None) -> Started:
        plan = self._plan
        stored = self._stored_run(run_id, plan.graph, resuming)
        resuming.refuse_other(self.database, run_id)
        try:
            opened_resources = self._resources(plan, resources)
        except ResourceError:
            stored.recorder.refuse_completed()
            raise
        unfinished = stored.reopen(partial(self._prove, plan.graph))
        run = run_id, stored.token
        line = self._line(plan, unfinished.vertices[-1], run, stored.store, opened_resources)
        stored.continue_in(line, unfinished, self.record_emitted)
        self._share_budgets(line)
        return line, self.database

    def _prove(
        self,
        graph: Graph,
        vertex: Vertex,
        frames: tuple[Vertex, ...],
        store: Store,
        *,
        is_new: bool = False,
    ) -> None:
        schema = store.schema
        if not isinstance(schema, type):
            schema = self.schema
        # One graph may be inside several flows, so a vertex of it is not enough.
        where: object = frames or vertex
        if vertex is not graph.start:
            where = (where, is_new)
        make_subject = partial(self._subject, graph, vertex, frames, schema, is_new=is_new)
        self._proofs.check((where, schema, self._settings), store, make_subject)

    def _subject(
        self,
        graph: Graph,
        vertex: Vertex,
        frames: tuple[Vertex, ...],
        schema: object,
        *,
        is_new: bool = True,
    ) -> Subject:
        """The flow as the rules of validation see it, for runs that begin at a vertex.

        Args:
            graph: The graph.
            vertex: Where a run begins.
            frames: The nested flows around it.
            schema: The schema of the store of the run.
            is_new: Whether the run begins there, and has not arrived there before.
        """
        from pocoflow.check.store_use import may_write
        from pocoflow.check.subject import ScheduledRuns, Subject

        stored, schedules = self.db_path is not None, self.schedules.values()
        shared = (self.thread_budget, *self.label_budgets.values())
        return Subject(
            self.flow_name,
            graph,
            schema,
            self.inputs,
            stored,
            vertex,
            frames,
            () if self.is_part else tuple(self.edges.values()),
            self.made_at,
            None if self.outputs is None else dict.fromkeys(self.outputs, self.made_at),
            ignore=self.ignore,
            ends_in_time=self.deadline is not None,
            # Hooks are passed the store, and checkpoints contain it.
            is_watched=stored or self.checkpoint_dir is not None or self.has_hooks,
            has_writers=any(map(may_write, self._hooks.callbacks)),
            budgets=limited_by(self.budget, *self.node_budgets.values(), *shared),
            lost_budgets=tuple(node.name for node in self.node_budgets if graph.find(node) is None),
            is_part=self.is_part,
            is_new=is_new,
            executor=self.executor,
            schedules=tuple(ScheduledRuns(each.name, each.keys, each.where) for each in schedules),
        )

    @property
    def _plan(self) -> Plan:
        """What all its runs share, for the present wiring and settings."""
        plan = self._known_plan
        # Budgets may be changed in place.
        made_of = (self._settings, wiring_version(), self.node_budgets, self.label_budgets)
        if plan is None or plan.made_of != made_of:
            plan = self._known_plan = self._make_plan()
        return plan

    def _make_plan(self) -> Plan:
        from pocoflow.engine.line import Plan

        budgets = dict(self.node_budgets), dict(self.label_budgets)
        made_of, graph = (self._settings, wiring_version(), *budgets), self.graph
        self._proofs.forget_last()  # a setting has changed
        budget = executors = None
        if self.budget is not None or self.thread_budget is not None or any(budgets):
            budget = () if self.budget is None else (Budget("the run", self.budget),)
        if self.executor is not None or graph.has_executors:
            from pocoflow.engine.executors import Executors
            from pocoflow.engine.remote import serve

            files = () if self.made_at is None else (self.made_at[0],)
            executors = Executors(self.executor, self.carry, files, serve)
        of_nodes = {id(node): limits for node, limits in budgets[0].items()}
        facts = (self.max_steps, self.deadline, budget, of_nodes, executors)
        return Plan(made_of, graph, self.name, *facts)

    def _resources(self, plan: Plan, given: Resources | None) -> RunObjects:
        graph, executors = plan.graph, plan.executors
        # A node may be set to another executor between two runs.
        wanted = graph.resources if executors is None else executors.resources(graph)
        objects, opens = check_resources(given, wanted)
        if executors is not None:
            executors.refuse_given(graph, objects)
        return objects, opens

    def _fingerprint(self, graph: Graph) -> str:
        described, schema = self._described, self.schema
        if described is None or described[0] is not graph or described[1] is not schema:
            from pocoflow.graph.fingerprint import describe

            described = self._described = (graph, schema, describe(graph, schema))
        return described[2]

    def _database_of(self, run_id: str) -> WorkflowDB:
        """The database of a stored run; a read does not create it.

        Raises:
            RunNotFoundError: There is no such file.
        """
        check_id(run_id)
        if self._database.is_missing():
            raise RunNotFoundError(f"there is no database {self.db_path}, and so no run {run_id!r}")
        return self.database
