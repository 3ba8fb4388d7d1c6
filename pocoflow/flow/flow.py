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
    BY_ITSELF,
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
from pocoflow.nodes.base import FOUND_OUT, AnyNode, Composite, Node, NodeLike, mark_nested
from pocoflow.nodes.call_checks import by_keyword, refuse_near, two_arguments
from pocoflow.nodes.edges import End, Outlet, wiring_changed, wiring_version
from pocoflow.nodes.importing import refuse_while_importing
from pocoflow.nodes.middleware import AttemptMiddleware, VisitMiddleware
from pocoflow.nodes.phase_checks import OF_STEPS, NotOfFlows, refuse_phases
from pocoflow.nodes.resources import Resource, Resources, check_resources
from pocoflow.nodes.settings import GivesExecutor, Where
from pocoflow.nodes.spending import Amount, Amounts, Budget
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
    from pocoflow.flow.execution import Begun, Execution, Started
    from pocoflow.flow.handle import RunHandle
    from pocoflow.flow.records import Records
    from pocoflow.flow.scheduling import Due, Schedule
    from pocoflow.flow.subjects import Beginning
    from pocoflow.graph.event_types import Event, Followed
    from pocoflow.graph.graph import Graph, Vertex
    from pocoflow.nodes.question import Asked, Reply

    _Base = NodeLike
else:
    _Base = Node

__all__ = ["Flow"]


StoreLike: TypeAlias = "Store[StateT] | StateT | dict[str, Any] | None"

Opened: TypeAlias = tuple[Resources, tuple[Resource, ...]]
"""The resources of a run in this process, and those of them that it has to open."""


@cache
def _execution() -> type[Execution]:
    """The door to the engine, which who only describes flows does not need."""
    from pocoflow.flow.execution import Execution

    return Execution


_ABOUT_RESUMES = by_keyword(more="; what is given beside the id is named: changes={...}")


class _FlowType(ABCMeta):
    """The type of flows, which do not list what they have not."""

    def __dir__(cls) -> list[str]:
        return [name for name in super().__dir__() if hasattr(cls, name)]


class Flow(Composite, _Base[str], Generic[StateT], metaclass=_FlowType):
    """A directed graph of nodes: everything that can be reached from ``start``.

    A flow holds no state of a run: it may run many times, also at once in threads and tasks.

    A flow is a node as well: wired into another flow, it works on the store of that run, its
    nodes are steps of that run, and the action that ends it is its action there.

    Args:
        start: Where a run begins.
        flow_name: Label in the database, the log and the monitor; the start node's name by default.
        db_path: SQLite file that keeps every run, its events and checkpoints; or the URL of a
            PostgreSQL server, ``postgresql://user@host/database``; or a :class:`WorkflowDB`
            opened with settings of its own. ``None`` keeps nothing.
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
            A nested flow that is strict is so in every flow.
        deadline: Seconds that one run may take, from its start or its resume; then it is stopped as
            by a cancellation, and fails. That of a nested flow does not count.
        budget: What one run may spend, its resumes included, by the names that its nodes say to
            ``context().spend(usd=0.004)``: ``{"usd": 2.0}``. Looked at before each node, attempt
            and journaled call. That of a nested flow does not count.
        node_budgets: What single nodes may spend in a run, ``{write: {"usd": 0.5}}``; also nodes
            inside of nested flows and of branches, but not these as a whole.
        thread_budget: What the runs of a run thread may spend together, ``{"usd": 20.0}``.
        label_budgets: Likewise the runs that have the same value of a label,
            ``{"customer": {"usd": 50.0}}``, also while they are at work at the same time.
        run_id: Id of the next run, for one run at a time: what is set here is the same for all that
            start. ``run(..., run_id=)`` gives a run an id of its own.
        formerly: Names that the flow had before: stored runs that bear one of them are its own.
        aliases: Classes of stored values that have other names now, or that no module has, by those
            that are on record: ``{"old_module:Name": Name}``.
        executor: What calls ``exec`` of the nodes, if it is not the process of the run: an executor
            of ``concurrent.futures``, or a function that gives one. ``executor`` of a node comes
            first. That of a nested flow does not count.
        carry: Context variables whose values travel with ``exec``, and back.
        record_emitted: Record what nodes emit, so that whoever follows a run from elsewhere gets
            it, with at most one commit more each 50 ms. What cannot be stored is refused by
            ``emit``. Needs a database.

    Raises:
        DefinitionError: An argument makes no sense.
    """

    @by_keyword(more="; a flow is made with its first node: Flow(start=node)")
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
        own = self.__dict__
        for name, value in settings.items():
            own[name] = arguments.checked(name, value)
        self.strict = own.pop("strict")
        mark_nested(start)
        self._name = start.name if flow_name is None else flow_name
        self._database = FlowDatabase(self.db_path)
        self._hooks = hooks.Hooks()
        self._proofs = Proofs()
        self._settings = object()  # another one whenever a setting is set

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
        """What a copy has: the same nodes, and a wiring and hooks of its own."""
        own, slots = Composite.__getstate__(self)
        hooks_ = hooks.Hooks(self._hooks)
        return {**own, "wiring": copy(self.wiring), "_hooks": hooks_, "_proofs": Proofs()}, slots

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        """The same with copies of the nodes; both keep their runs in the same place."""
        other = memo[id(self)] = copy(self)
        own = other.__dict__
        for name in own.keys() - arguments.COMMON:
            own[name] = deepcopy(own[name], memo)
        return other

    @property
    def strict(self) -> bool:
        """Whether an action of a node in it that has no edge is an error; nested flows included."""
        return self.wiring.is_strict

    @strict.setter
    def strict(self, value: bool) -> None:
        self.wiring.is_strict = value
        wiring_changed(self.wiring.is_drawn)

    if not TYPE_CHECKING:
        # At run time a flow is a Node; what only single steps have is not there.
        for name in OF_STEPS:
            vars()[name] = NotOfFlows(name)
        del name

        def __setattr__(self, name, value):
            own = self.__dict__
            # While it is being made, of what is looked at there.
            if "_settings" not in own or name in FOUND_OUT:
                object.__setattr__(self, name, value)
                return
            if type(self) is Flow and not hasattr(self, name):
                refuse_near(f"flow {self.name!r}", name, own)
            if name in arguments.SETTINGS:
                value = arguments.checked(name, value)
            object.__setattr__(self, name, value)
            if name == "db_path":
                own["_database"] = FlowDatabase(value)
            own["_settings"] = object()

    @property
    def flow_name(self) -> str:
        """Label in the database, the log and the monitor; the flow's name as a node, too."""
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
        """Write an edge: ``flow.then(a, b)``, ``flow.then(a.when("bad"), b)``.

        The edge belongs to this flow, so a node serves in many of them; where the node has one of
        its own for the same action (``a.then("bad", c)``), the flow's counts; to another target it
        is a mistake that the proof finds (PF106). With a string first, as in
        ``flow.then("ok", b)``, it is :meth:`Node.then`: this flow is a node of another one.

        Args:
            source: A node, for its default action, or ``node.when(action)``, or
                ``node.catch(errors)``.
            target: The node that comes next, or ``END``.
            at_most: How often the edge is taken, counted from the beginning of the run or, in a
                nested flow or a parallel branch, of that; a resume goes on counting.
            then: Where the edge leads from then on, a node or ``END``; needed with ``at_most``.

        Returns:
            This flow, so that its edges chain.

        Raises:
            DefinitionError: An argument is something else; the message has the place.
        """
        frame = sys._getframe(2)  # behind two_arguments
        add = self._add_edge if isinstance(source, str) else self.wiring.add
        add(source, target, (frame.f_code.co_filename, frame.f_lineno), (at_most, then))
        return self

    def require(self, node: NodeLike | Outlet, /) -> Require[Self]:
        """Begin a rule: ``flow.require(approve).before(publish)``, or ``.after(pay)``.

        Validation proves it on every path of the flow: nested flows, branches in any order, and
        edges for errors included. A path that breaks it is an error, which stops each run before
        its first node. Where the path ends with an error that no edge catches, a cancellation,
        the deadline or ``max_steps``, nothing is required any more.

        Args:
            node: What has to be visited: a node or a flow, or ``node.when(action)`` for a visit
                that ends with the action. A visit that an error ends does not count.

        Raises:
            DefinitionError: It is neither.
        """
        what = visited("flow.require", node)
        half = OrderRule("require", what, what, where=users_line())
        return Require(self, what, self.wiring.begin_rule(half))

    def forbid(self, node: NodeLike, /) -> Forbid[Self]:
        """Begin a rule: ``flow.forbid(send).after(refuse)``; proved as those of :meth:`require`.

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
        """Tell a callback of an event, after the commit that made it true.

        The events and what the callback gets::

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

        An ``Exception`` that a callback raises is logged and changes nothing. A run tells the
        hooks of its own flow, also of what is inside of nested flows; it tells not those of them.

        Returns:
            This flow.

        Raises:
            HookError: There is no such event, or the callback cannot take what it passes.
        """
        self._hooks.add(event, callback)
        self.has_hooks = True
        return self

    def subscribe(self, listener: Listener, /) -> Self:
        """Tell a callable of every event: ``listener(event, store)``, the event as its dataclass.

        Returns:
            This flow.

        Raises:
            HookError: It cannot be called with these, or it is ``async``: nobody awaits it.
        """
        self._hooks.subscribe(listener)
        self.has_hooks = True
        return self

    # -- running ------------------------------------------------------------------------------

    @lists_keywords(RunKeywords)
    def run(self, store: StoreLike[StateT] = None, **how: Unpack[RunKeywords]) -> Store[StateT]:
        """Run to the end in this thread.

        Args:
            store: A ``Store``; or a dict, which then sees every write; or an instance of the
                schema's model, which is left as it is.
            **how: ``resume_from``: the node to begin at, instead of the start. ``resources``: live
                objects, never stored, ``{client: Client()}``, where ``client`` is what
                ``resource(Client, "name")`` returned. How the run is addressed; all but ``run_id``
                need a database: ``run_id``: its id; one is made by default. ``if_exists``: what to
                do if there is a run of that id: ``"refuse"`` (the default), or ``"join"`` it if it
                is of this flow and has the same inputs. ``thread``: its run thread. It begins with
                the store with which the last completed run of the thread ended, with ``store``, a
                dict or a model, on top: of a model the fields that were set, of a field with a
                reducer an increment. ``labels``: texts by name that the run is found by.
                ``if_busy``: what to do while another run of the thread is queued, running, paused
                or interrupted: ``"refuse"`` (the default), or ``"wait"`` until it has ended.

        Returns:
            The store of the run.

        Raises:
            FlowValidationError: The flow has mistakes; no node has run.
            MissingInputError: The store lacks an input of the flow; no node has run.
            ResourceError: A function node asks for a resource that is missing or of another type.
            InvalidValueError: The store does not fit the schema.
            RunExistsError: ``run_id`` is used already; where runs are joined, by a run of another
                flow or with other inputs.
            RunFailedError: The run that was joined has failed.
            ThreadBusyError: Another run of the thread is open.
            MaxStepsError: The run needed more than ``max_steps`` steps.
            DeadlineError: It took longer than ``deadline`` seconds.
            Exception: Whatever a node raised, as it was raised.
        """
        return self._new(store, how).run()

    @lists_keywords(RunKeywords)
    async def run_async(
        self, store: StoreLike[StateT] = None, **how: Unpack[RunKeywords]
    ) -> Store[StateT]:
        """Run to the end on the caller's event loop; like :meth:`run` in everything else.

        Asynchronous phases run as part of the calling task, synchronous ones in threads, and
        commits in a thread of their own, so that the loop stays free. Cancelling the task cancels
        the run.
        """
        return await self._new(store, how).run_async()

    @lists_keywords(RunKeywords)
    def run_background(
        self, store: StoreLike[StateT] = None, **how: Unpack[RunKeywords]
    ) -> RunHandle[StateT]:
        """Start a run in a daemon thread and return at once; like :meth:`run` in everything else.

        The run is in the database, as ``running``, when this returns. If the interpreter exits
        before the run has ended, the run ends with it and reads as interrupted.
        """
        return self._new(store, how).background()

    @lists_keywords(RunKeywords)
    def stream(
        self, store: StoreLike[StateT] = None, **how: Unpack[RunKeywords]
    ) -> Generator[Event, None, None]:
        """Start a run in a thread and give its events as they happen; else like :meth:`run`.

        What nodes emit by ``context().emit(value)`` comes as ``Emitted``. Events wait for a slow
        reader without a bound and without slowing the run down. Leaving the loop early cancels the
        run. An exception that ends the run is raised after its last event.
        """
        return self._new(store, how).stream()

    @lists_keywords(RunKeywords)
    def stream_async(
        self, store: StoreLike[StateT] = None, **how: Unpack[RunKeywords]
    ) -> AsyncGenerator[Event, None]:
        """Like :meth:`stream`, on the caller's event loop."""
        return self._new(store, how).stream_async()

    @property
    def graph(self) -> Graph:
        """The graph as it is wired now."""
        from pocoflow.graph.graph import graphs_in

        return graphs_in(self)[0]

    @property
    def database(self) -> WorkflowDB:
        """The database that the flow keeps its runs in; opened when it is first asked for.

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
        """This flow on another database, or executor: a flow of its own, with the same wiring.

        It has the hooks of this one, too.

        What is wired or registered later concerns one of them only; edges of the nodes are common.

        Args:
            db_path: As for a new flow; by default where this one keeps its runs.
            formerly: More names that the flow had before.
            aliases: More classes of stored values that have other names now.
            executor: As for a new flow; by default that of this one.

        Raises:
            DefinitionError: An argument makes no sense.
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
        """Look for everything that is provably wrong with the flow; no node is run.

        Every run does it, too, once for a wiring, and is stopped by errors before its first node.
        The codes are explained in ``docs/reference/rules.md``.

        Returns:
            All findings, errors first; empty if there is nothing to say.
        """
        return list(self.proof().findings)

    def proof(self) -> Proof:
        """All that validation knows of the flow: the findings, and what was silenced."""
        graph = self.graph
        return self._proofs.find(self._subject((graph, graph.start, ()), self.schema))

    def bound(self) -> Bound | Endless:
        """What one run comes to at most, as the limits of edges, batches and retries have it.

        Returns:
            A ``Bound``, with ``steps``, with ``calls`` of ``exec``, all attempts counted, and with
            what comes for ``each`` item of nodes that work on items. Where a loop has no limit, an
            ``Endless``, whose ``steps`` and ``calls`` are ``None``, and which has the ``loop``.
        """
        from pocoflow.check.bounds import bound_of

        return bound_of(self.graph)

    def __repr__(self) -> str:
        return f"<Flow {self.flow_name!r} from {self.start.name!r}>"

    def __dir__(self) -> list[str]:
        return sorted({*dir(type(self)), *vars(self)})

    # -- runs that a worker begins ------------------------------------------------------------

    @lists_keywords(SubmitKeywords)
    def submit(self, inputs: StoreLike[StateT] = None, **how: Unpack[SubmitKeywords]) -> str:
        """Record a run that a worker begins; it is ``queued`` until one does.

        Args:
            inputs: What the run begins with, as in :meth:`run`; it is stored, and not changed.
            **how: ``at``: from when on a worker may take it, with a time zone; from now on by
                default. ``delay``: in how many seconds, instead. ``run_id``, ``labels``: as in
                :meth:`run`. ``if_exists``: as in :meth:`run`; where it is to be joined, nothing is
                recorded. ``thread``: as in :meth:`run`; the store that it begins with is that of
                now, as no other run of the thread can begin before this one has ended.
                ``most_open``: by the key of a label of the run, refuse it while so many runs of the
                database that have its value of it are queued, running, paused or interrupted.

        Returns:
            The id of the run: ``flow.database.handle(run_id).wait()`` waits for it.

        Raises:
            NotStorableError: A value of the inputs cannot be stored.
            DefinitionError: The flow has no ``db_path``, or an argument makes no sense.
            RunExistsError: ``run_id`` is used already.
            ThreadBusyError: A run of the thread is open.
            TooManyRunsError: As many runs are open as ``most_open`` says.
            Exception: As :meth:`run`, before the first node.
        """
        from pocoflow.flow.scheduling import Due

        name, now = RunName.of_submitted(how), self.database.connection.now()
        return self._submit(inputs, name, Due.of(how.get("at"), how.get("delay"), now))

    @lists_keywords(SubmitKeywords)
    async def submit_async(
        self, inputs: StoreLike[StateT] = None, **how: Unpack[SubmitKeywords]
    ) -> str:
        """Like :meth:`submit`, on the caller's event loop, which stays free meanwhile."""
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
        """Have workers begin a run at certain times: ``flow.schedule("nightly", "0 2 * * *")``.

        A schedule is of the code. A worker that starts stores what its flows have, by flow and
        name; what a flow has no more stops. Each occurrence is one run, whatever the number of
        workers, with the id ``flow.name.20261129T020000Z``, which has its time in UTC.

        Args:
            name: Its name, of letters, digits, ``-`` and ``_``.
            expression: A cron expression, of five fields, or of six with that of seconds first.
            inputs: What its runs begin with.
            tz: The time zone that the expression is meant in.
            catch_up: Of the occurrences that were missed because no worker was there, the last one
                becomes a run all the same, and those before it that are not older than so many
                seconds.
            labels: Those of its runs.

        Returns:
            This flow.

        Raises:
            DefinitionError: An argument makes no sense, the inputs do not fit the schema or cannot
                be stored, or the flow has a schedule of that name.
        """
        from pocoflow.flow.scheduling import Schedule

        if name in self.schedules:
            raise DefinitionError(f"flow {self.flow_name!r} has a schedule {name!r} already")
        given = given_labels(labels, f"schedule {short(name)}: ")
        made = Schedule(name, expression, inputs, tz, catch_up, given)
        made.check_inputs(self.schema, self.flow_name)
        self.schedules = MappingProxyType({**self.schedules, name: made})
        return self

    def submit_due(
        self,
        refused: Callable[[str, Exception], object] | None = None,
        besides: Container[str] = (),
    ) -> list[str]:
        """Submit what is due of the schedules that a worker has stored; workers do so.

        Args:
            refused: Called with the name of a schedule of which no run can be submitted, and what
                :meth:`submit` raised, and the other ones go on; by default it is raised.
            besides: The names of schedules that are left alone.

        Returns:
            The ids of the runs.

        Raises:
            DatabaseError: The database cannot be read or written to.
            DefinitionError: The flow has no ``db_path``.
            Exception: As :meth:`submit`.
        """
        from pocoflow.flow.scheduling import submit_due

        schedules = {name: one for name, one in self.schedules.items() if name not in besides}
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
        """Go on with a stored run: the same run, at the node that comes next, to its end.

        A finished ``exec`` is not called again: its result is taken from the database. ``prep`` of
        the pending node runs on the store of the last checkpoint. If the code has changed since,
        the difference is logged; where it concerns the pending node or a field, it is refused.

        Args:
            run_id: A run that failed, was cancelled or interrupted, or a fork.
            how: ``changes``, values to set first, such as those that could not be saved;
                ``rename``, new names of nodes, ``{"Summarise": "Summarize"}``; ``types``, classes
                of stored values that neither the schema nor a loaded module has; ``aliases``,
                classes that have other names now, by those that are on record,
                ``{"old_module:Name": Name}``; ``flow_was``, the name that the flow had when the run
                was started, if that was another one (``Flow(formerly=...)`` says so once for all);
                ``resources``, as in :meth:`run`: they are not stored, so they are given again.

        Returns:
            The store of the run.

        Raises:
            RunNotFoundError: There is no such run.
            OtherFlowError: It is of another flow.
            ResumeError: It is completed, or alive here or in another process, or its pending node
                or a field is gone.
            DefinitionError: The flow has no ``db_path``.
            Exception: As :meth:`run`.
        """
        return self._again(run_id, how).run()

    @lists_keywords(ResumeKeywords)
    async def resume_async(self, run_id: str, **how: Unpack[ResumeKeywords]) -> Store[StateT]:
        """Like :meth:`resume`, on the caller's event loop."""
        return await self._again(run_id, how).run_async()

    @_ABOUT_RESUMES
    @lists_keywords(ResumeKeywords)
    def resume_background(self, run_id: str, **how: Unpack[ResumeKeywords]) -> RunHandle[StateT]:
        """Like :meth:`resume`, in a daemon thread."""
        return self._again(run_id, how).background()

    @_ABOUT_RESUMES
    @lists_keywords(ResumeKeywords)
    def resume_stream(
        self, run_id: str, **how: Unpack[ResumeKeywords]
    ) -> Generator[Event, None, None]:
        """Like :meth:`resume`, as an iterator of events like :meth:`stream`."""
        return self._again(run_id, how).stream()

    @lists_keywords(ResumeKeywords)
    def resume_stream_async(
        self, run_id: str, **how: Unpack[ResumeKeywords]
    ) -> AsyncGenerator[Event, None]:
        """Like :meth:`resume_stream`, on the caller's event loop."""
        return self._again(run_id, how).stream_async()

    @_ABOUT_RESUMES
    @lists_keywords(ChangeKeywords)
    def can_resume(self, run_id: str, **how: Unpack[ChangeKeywords]) -> Resumable:
        """Find out whether a stored run could go on, and what would change; write nothing.

        Reads what :meth:`resume` would read. The result is true if it could go on:
        ``if flow.can_resume(run_id): ...``. A run that is at work, here or in another process, is
        refused; the node at which it stands, and what has changed, are told all the same.

        Raises:
            RunNotFoundError: There is no such run.
            DefinitionError: The flow has no ``db_path``.
        """
        from pocoflow.flow.resume.stored_run import StoredRun, can_resume

        refuse_unknown("resumed", how, ChangeKeywords.__annotations__)
        resuming = self._resuming(how, how.get("changes"), how.get("rename"))
        graph = self.graph
        stored = StoredRun(self._database_of(run_id), run_id, graph, self.schema, resuming)
        return can_resume(stored, partial(self._prove, graph))

    def check_owner(self, run_id: str, *, flow_was: str | None = None) -> None:
        """Refuse a stored run that is of another flow, by the name on its record.

        Whatever acts on a stored run asks this first. Cheap: no value of the run is read.

        Raises:
            RunNotFoundError: There is no such run.
            OtherFlowError: It is of another flow.
            DefinitionError: The flow has no ``db_path``.
        """
        resuming = self._resuming({"flow_was": flow_was})
        resuming.refuse_other(self._database_of(run_id), run_id)

    def follow(
        self, run_id: str, after: int = -1, until: Until = "end"
    ) -> Generator[Followed, None, None]:
        """The committed events of a stored run, as :meth:`WorkflowDB.follow` gives them.

        The run may be at work in any process, and need not have been started by this one.

        Args:
            run_id: The run.
            after: The number of the last event that is known already.
            until: ``"pause"`` ends it when the run waits for answers, too.

        Raises:
            RunNotFoundError: There is no such run.
            OtherFlowError: It is of another flow.
            DefinitionError: The flow has no ``db_path``.
        """
        self.check_owner(run_id)
        return self.database.follow(run_id, after, until)

    def follow_async(
        self, run_id: str, after: int = -1, until: Until = "end"
    ) -> AsyncGenerator[Followed, None]:
        """Like :meth:`follow`, on the caller's event loop, which stays free."""
        self.check_owner(run_id)
        return self.database.follow_async(run_id, after, until)

    @lists_keywords(CarryKeywords)
    def recover(self, **how: Unpack[CarryKeywords]) -> dict[str, Exception | None]:
        """Resume every run of this flow that can go on, one after another.

        These are the runs whose process ended before they did, and the paused ones that have an
        answer, or whose question has passed its deadline. Runs that bear a name that the flow had
        before (``formerly``, ``flow_was``) are its own.

        Args:
            **how: ``types``, ``aliases``, ``flow_was`` and ``resources`` as in :meth:`resume`.

        Returns:
            For each such run, ``None`` if it is completed now, or the exception that ended it,
            ``RunPaused`` if it waits (again). One that fails does not keep the others from going
            on; one that another process has taken, or somebody has ended, meanwhile is left out.
        """
        from pocoflow.flow.recovering import recover

        resuming = self._recovering("recovered", how)
        resume = partial(self._old, resuming=resuming, resources=how.get("resources"))
        return recover(resuming, self.database, resume)

    @lists_keywords(CarryKeywords)
    async def recover_async(self, **how: Unpack[CarryKeywords]) -> dict[str, Exception | None]:
        """Like :meth:`recover`, on the caller's event loop."""
        from pocoflow.flow.recovering import recover_async

        resuming = self._recovering("recovered", how)
        resume = partial(self._old, resuming=resuming, resources=how.get("resources"))
        return await recover_async(resuming, lambda: self.database, resume)

    @lists_keywords(CarryKeywords)
    def carry_on(
        self, run_id: str, *, limits: Limits | None = None, **how: Unpack[CarryKeywords]
    ) -> Status:
        """Resume a run if it can go on and nobody runs it; say how it stands after that.

        For whoever delivers the ids of runs, in whatever order, late or several times. A run can go
        on if it is queued and due, or a fork, was interrupted, or is paused and was answered or
        has passed the deadline of a question. Any other one is left as it is.

        Args:
            run_id: The run.
            limits: Leave it alone while as many runs are at work as may be.
            **how: ``types``, ``aliases``, ``flow_was`` and ``resources`` as in :meth:`resume`.

        Returns:
            The status: how the run ended, or that it is paused again, and whatever it is if nothing
            was done. An exception that ends the run is on record, and not raised.

        Raises:
            RunNotFoundError: There is no such run.
            OtherFlowError: It is of another flow.
            ResumeError: The code has changed where it stands.
            DatabaseError: Its end could not be put on record; it reads as interrupted.
            DefinitionError: The flow has no ``db_path``.
        """
        from pocoflow.flow.recovering import carry_on

        return carry_on(self._carried(run_id, limits, how), self.database, run_id)

    @lists_keywords(CarryKeywords)
    async def carry_on_async(
        self, run_id: str, *, limits: Limits | None = None, **how: Unpack[CarryKeywords]
    ) -> Status:
        """Like :meth:`carry_on`, on the caller's event loop, on which its nodes await."""
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
        """Make a new run from a checkpoint of another one, which is left as it is.

        Args:
            run_id: The parent; the new run records it.
            step: The checkpoint, from 0; -1 is the store before the first node; by default the
                last one.
            changes: Values to set in the new run's store.
            **how: ``new_id``, the id of the new run, made if it is not given; ``labels``, as in
                :meth:`run`; ``types``, ``aliases`` and ``flow_was``, as in :meth:`resume`.

        Returns:
            The id of the new run, which is ``queued``: :meth:`resume` runs it.

        Raises:
            RunExistsError: ``new_id`` is used already.
            RunNotFoundError: There is no such run.
            OtherFlowError: It is of another flow.
            CheckpointNotFoundError: It has no checkpoint of that step.
            ResumeError: No node comes after that step.
            DefinitionError: ``step`` is no number.
        """
        from pocoflow.flow.resume.stored_run import fork_run

        known = ("run_id", "step", "changes", *ForkKeywords.__annotations__)
        refuse_unknown("forked", how, known)
        resuming = self._resuming(how, changes)
        return fork_run(self._database_of(run_id), run_id, step, self.schema, how, resuming)

    def answer(
        self,
        run_id: str,
        reply: Reply,
        *,
        question: int | None = None,
        flow_was: str | None = None,
    ) -> list[Asked]:
        """Answer a question of a paused run; :meth:`resume` then goes on with it.

        The run need not have been started by this process. The first answer to a question counts.

        Args:
            run_id: The run.
            reply: ``node.reply(answer)``, where a type checker sees whether the answer fits.
            question: The number of the question; needed if the node has several open ones.
            flow_was: As in :meth:`resume`.

        Returns:
            The questions of the run that are still open; without an answer to them, a resume goes
            on as far as it can and pauses again.

        Raises:
            RunNotFoundError: There is no such run.
            OtherFlowError: It is of another flow.
            AnswerError: The answer does not fit, which leaves the question open; or the node has no
                such open question, or its deadline has passed.
            AnsweredError: It was answered already.
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
        """Like :meth:`answer`, with a JSON value, such as a web handler gets.

        Args:
            run_id: The run.
            answer: A JSON value, such as ``json.loads`` gives; it is checked by the type of the
                answer.
            question: The number of the question; needed if several are open.
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

    def _recovering(self, done: str, how: CarryKeywords) -> Resuming:
        refuse_unknown(done, how, CarryKeywords.__annotations__)
        return self._resuming(how)._replace(recovering=True)

    def _carried(self, run_id: str, limits: Limits | None, how: CarryKeywords) -> Execution[StateT]:
        resuming = self._recovering("carried on", how).by_worker(limits)
        return self._old(run_id, resuming, how.get("resources"))

    # -- the beginning of a run ---------------------------------------------------------------

    def _new(self, given: StoreLike[StateT], how: RunKeywords) -> Execution[StateT]:
        refuse_while_importing(self)
        name = RunName.of_run(how, self.schema) if how else BY_ITSELF
        if self.db_path is None and (how or self.record_emitted):
            name.refuse_without_database(self.flow_name, self.record_emitted)
        if self.run_id is not None and name.run_id is None:
            name = name._replace(run_id=self.run_id)
        begin = partial(self._begin, Given(given, self.schema, self.flow_name), name, how)
        new: Execution[StateT] = _execution()(begin, self._database.storage)
        new.waits = name.if_busy == "wait"
        return new

    def _again(self, run_id: str, how: ResumeKeywords) -> Execution[StateT]:
        refuse_unknown("resumed", how, ResumeKeywords.__annotations__)
        resuming = self._resuming(how, how.get("changes"), how.get("rename"))
        return self._old(run_id, resuming, how.get("resources"))

    def _old(
        self, run_id: str, resuming: Resuming, resources: Resources | None
    ) -> Execution[StateT]:
        refuse_while_importing(self)
        begin = partial(self._reopen, run_id, resuming, resources)
        return _execution()(begin, self._database.storage, shared=False)

    def _begin(self, given: Given, name: RunName, how: RunKeywords) -> Started:
        plan, resume_from = self._plan, how.get("resume_from")
        resources = self._resources(plan, how.get("resources"))
        vertex = plan.graph.start if resume_from is None else plan.graph.vertex(resume_from)
        begin = partial(self._begin_with, plan, vertex, resources, name.run_id)
        if self.db_path is None or name is BY_ITSELF:
            return begin(given.store)
        return self._records.begin(name, given, begin)

    def _begin_with(
        self,
        plan: Plan,
        vertex: Vertex,
        resources: Opened,
        run_id: str | None,
        store: Store,
        named: Named | None = None,
    ) -> Begun:
        graph = plan.graph
        self._prove(graph, vertex, (), store, is_new=True)
        made, token = new_run_id(plan.flow_name)
        line = self._line(plan, vertex, (run_id or made, token), store, resources)
        hears = line.snapshot is not None or bool(self._hooks.registered)
        line.only_awaits = graph.only_awaits and not hears
        database = self._database.open()
        if database is not None:
            described, remarks = self._fingerprint(graph), self._proofs.remarks
            self._records.record(line, named, described, remarks, self.record_emitted)
        self._share_budgets(line)
        return line, database

    def _line(
        self, plan: Plan, vertex: Vertex, run: tuple[str, str], store: Store, resources: Opened
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

    def _reopen(self, run_id: str, resuming: Resuming, resources: Resources | None) -> Begun:
        from pocoflow.flow.resume.stored_run import StoredRun

        plan = self._plan
        graph = plan.graph
        database = self._database_of(run_id)
        resuming.refuse_other(database, run_id)
        stored = StoredRun(database, run_id, graph, self.schema, resuming)
        try:
            opened = self._resources(plan, resources)
        except ResourceError:
            stored.recorder.refuse_completed()
            raise
        found = stored.reopen(self.flow_name, partial(self._prove, graph))
        run = run_id, stored.token
        line = self._line(plan, found.vertices[-1], run, stored.store, opened)
        stored.take_up(line, found, self.record_emitted)
        self._share_budgets(line)
        return line, database

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
        # One graph may be inside of several flows, so a place in it is not all that counts.
        where: object = frames or vertex
        if vertex is not graph.start:
            where = (where, is_new)
        key = (where, schema, self._settings)
        if not self._proofs.admits(key, store):
            make = partial(self._subject, (graph, vertex, frames), schema, is_new=is_new)
            self._proofs.stop(key, store, make)

    def _subject(self, where: Beginning, schema: object, *, is_new: bool = True) -> Subject:
        """The flow as the rules of validation see it, for runs that begin at a place."""
        from pocoflow.flow.subjects import subject_of

        return subject_of(self, where, schema, self._hooks.callbacks, is_new=is_new)

    @property
    def _plan(self) -> Plan:
        """What its runs have in common, as it is now."""
        plan, budgets = self._known_plan, (self.node_budgets, self.label_budgets)
        if (
            plan is None
            or plan.settings is not self._settings
            or plan.wiring != wiring_version()
            or plan.budgets != budgets  # they may be changed in place
        ):
            plan = self._known_plan = self._make_plan()
        return plan

    def _make_plan(self) -> Plan:
        from pocoflow.engine.line import Plan

        settings, wiring, graph = self._settings, wiring_version(), self.graph
        self._proofs.look_again()  # of what was set
        budget = executors = None
        budgets = dict(self.node_budgets), dict(self.label_budgets)
        if self.budget is not None or self.thread_budget is not None or any(budgets):
            graph.look_at_each()
            budget = () if self.budget is None else (Budget("the run", self.budget),)
        if self.executor is not None or graph.has_executors:
            from pocoflow.engine.executors import Executors
            from pocoflow.engine.remote import serve

            files = () if self.made_at is None else (self.made_at[0],)
            executors = Executors(self.executor, self.carry, files, serve)
        of_nodes = {id(one): limits for one, limits in budgets[0].items()}
        facts = (self.max_steps, self.deadline, budget, of_nodes, executors)
        return Plan(settings, wiring, budgets, graph, self.name, *facts)

    def _resources(self, plan: Plan, given: Resources | None) -> Opened:
        graph, executors = plan.graph, plan.executors
        # A node may be given another executor between two runs.
        wanted = graph.resources if executors is None else executors.resources(graph)
        objects, opens = check_resources(given, wanted)
        if executors is not None:
            executors.refuse_given(graph, objects)
        return objects, opens

    def _fingerprint(self, graph: Graph) -> str:
        known, schema = self._described, self.schema
        if known is None or known[0] is not graph or known[1] is not schema:
            from pocoflow.graph.fingerprint import describe

            known = self._described = (graph, schema, describe(graph, schema))
        return known[2]

    def _database_of(self, run_id: str) -> WorkflowDB:
        """The database of a stored run, which is not made to look into it.

        Raises:
            RunNotFoundError: There is no such file.
        """
        check_id(run_id)
        if self._database.is_missing():
            raise RunNotFoundError(f"there is no database {self.db_path}, and so no run {run_id!r}")
        return self.database
