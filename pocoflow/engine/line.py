"""One execution of a flow: everything that belongs to it and to no other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeAlias

from pocoflow.address import Address
from pocoflow.engine.calls import ExecCalls
from pocoflow.engine.effects import Call, Commit, Effects, Gather, Job, Steps
from pocoflow.engine.ledger import Ledger
from pocoflow.engine.memory import NULL
from pocoflow.errors import BudgetError, DatabaseError
from pocoflow.graph.graph import Vertex
from pocoflow.graph.routing import IsSpent, Stand, Taken
from pocoflow.graph.step_records import ALONE, Bill, Numbers
from pocoflow.graph.unfinished import Unfinished
from pocoflow.logging import OwnLogger
from pocoflow.nodes.base import AnyNode
from pocoflow.nodes.context import Cancellation, RunContext
from pocoflow.nodes.edges import DEFAULT_ACTION
from pocoflow.nodes.middleware import NO_MIDDLEWARE, Middleware
from pocoflow.nodes.resources import Resource, Resources
from pocoflow.nodes.spending import NO_AMOUNTS, Account, Amounts, Budget
from pocoflow.store.store import Store
from pocoflow.store.watch import Watch
from pocoflow.values.callables import check_called

if TYPE_CHECKING:
    from pocoflow.engine.executors import Executors
    from pocoflow.graph.graph import Graph

Listener: TypeAlias = Callable[[Any, Store], object]
"""Called as ``listener(event, store)``."""

_log = OwnLogger("flow")

_guard = threading.Lock()


@dataclass(frozen=True, slots=True)
class Plan:
    """What all runs of a flow have in common, until the flow or a wiring changes.

    Attributes:
        settings: Stands for the settings of the flow that it was made of.
        wiring: The version of the wiring, likewise.
        budgets: The budgets of nodes and labels, likewise.
        graph: The graph of the flow.
        flow_name: The name of the flow.
        max_steps: How many steps a run may take, those before a resume included.
        deadline: Seconds that it may take, or ``None``.
        budget: What it may spend; ``None`` if neither it nor a node has a budget.
        node_budgets: What nodes may spend, by their ids.
        executors: What calls ``exec`` of its nodes elsewhere; ``None`` if all is called here.
    """

    settings: object
    wiring: int
    budgets: tuple[Mapping[AnyNode, Amounts], Mapping[str, Amounts]]
    graph: Graph
    flow_name: str
    max_steps: int
    deadline: float | None
    budget: tuple[Budget, ...] | None
    node_budgets: Mapping[int, Amounts]
    executors: Executors | None

    def line(
        self,
        start: Vertex,
        run: tuple[str, str],
        store: Store,
        listeners: Mapping[str, Sequence[Listener]],
        resources: Resources,
    ) -> Line:
        """A new run that begins, or goes on, at a node; ``run`` is its id and its token."""
        graph = self.graph
        run_id, token = run
        cancellation = Cancellation(self.deadline)
        context = RunContext(run_id, self.flow_name, token, cancellation, resources)
        # By place: a class that is called by keywords takes several times as long.
        line = Line(context, store, start, self, graph.is_strict, listeners)
        line.middleware, line.budget = graph.middleware, self.budget
        if graph.is_limited:
            line.taken = Taken()
        return line


@dataclass(slots=True)
class Line:
    """The state of one execution of a flow.

    Attributes:
        context: What ``pocoflow.context()`` returns inside the run.
        store: The shared state.
        start: The node that it begins with.
        plan: What it has in common with other runs of its flow.
        strict: Whether an action without an edge is an error.
        on_loop: Whether an event loop drives it that others share, so that neither synchronous
            code nor a commit may hold it up.
        only_awaits: Whether nothing in it may block but its commits: all its phases are
            asynchronous, and no hook is called.
        listeners: Who is told of events, by kind of event.
        ledger: What is told of its steps.
        snapshot: Writes a JSON checkpoint after a step, if the flow asked for it.
        step: The number of the step that runs or comes next.
        finished: How many steps are finished, those before a resume included.
        unfinished: What is on record of its first step, until that is finished.
        action: The action that ended it; of a branch, at its end.
        completed: Whether its last step is committed; what a listener raises then is no failure.
        vertex: The node that runs or comes next.
        frames: The nested flows around it, outermost first.
        began: When its current step began, by ``perf_counter``; 0 if nobody asks.
        numbers: Gives steps their numbers, once there are parallel branches.
        parent: The line that this is a parallel branch of.
        prefix: The path that a branch begins with.
        middleware: What the flow, or what is around the branch, has around visits and attempts.
        taken: Counts edges that have limits; ``None`` if there are none.
        given: The number of a step, and what ``prep`` gave there, as it gave it.
        sums: What the run has spent; a branch has it in the line of its run.
        budget: What it may spend; ``None`` if neither it nor a node has a budget.
        past: The spent budgets that limit this line no more, as an edge for them was taken.
        opens: The resources that it has to open.
        told: The errors of its branches that listeners know, and that it raises in turn.
        remarks: What was logged of the run, which is not logged again.
        calls: The number of a step, and the journaled calls in it, by item; ``None`` before the
            first.
        known: Its store as it was last checked, if nobody else remembers that.
    """

    context: RunContext
    store: Store
    start: Vertex
    plan: Plan
    strict: bool
    listeners: Mapping[str, Sequence[Listener]]
    ledger: Ledger = NULL
    snapshot: Callable[[int, str], object] | None = None
    step: int = 0
    finished: int = 0
    unfinished: Unfinished | None = None
    action: str = DEFAULT_ACTION
    completed: bool = False
    vertex: Vertex | None = None
    frames: tuple[Vertex, ...] = ()
    began: float = 0.0
    numbers: Numbers | None = None
    parent: Line | None = None
    prefix: tuple[str, ...] = ()
    middleware: Middleware = NO_MIDDLEWARE
    taken: Taken | None = None
    on_loop: bool = False
    only_awaits: bool = False
    given: tuple[int, object] | None = None
    calls: tuple[int, dict[int, ExecCalls]] | None = None
    sums: Account | None = None
    budget: tuple[Budget, ...] | None = None
    past: frozenset[str] = frozenset()
    opens: tuple[Resource, ...] = ()
    told: tuple[BaseException, ...] = ()
    remarks: frozenset[str] = frozenset()
    known: Watch | None = None

    @property
    def is_spent(self) -> IsSpent | None:
        """Says whether an edge was taken as often as it may be; ``None`` if none has a limit."""
        return None if self.taken is None else self.taken.is_spent

    def elapsed(self) -> float:
        """Seconds since the current step began; 0 if nobody asked for times."""
        return perf_counter() - self.began if self.began else 0.0

    def calls_of(self, context: RunContext) -> ExecCalls:
        """The journaled calls of the ``exec`` that a context is of."""
        item = ALONE if context.item is None else context.item
        known = self.calls
        if known is not None and known[0] == self.step and item in known[1]:
            return known[1][item]
        with _guard:
            if self.calls is None or self.calls[0] != self.step:
                self.calls = (self.step, {})
            begun = self.calls[1]
            if item not in begun:
                assert self.vertex is not None  # its exec asks
                given = self.given
                same = () if given is None or given[0] != self.step else (given[1],)
                facts = (self.ledger, self.vertex, context)
                refusal = None
                if self.budget is not None:
                    refusal = partial(self.refusal, self.vertex, is_call=True)
                begun[item] = ExecCalls(*facts, self.unfinished, same, refusal)
            return begun[item]

    @property
    def account(self) -> Account:
        """What the run has spent."""
        root = self._root
        with _guard:
            if root.sums is None:
                root.sums = Account()
            return root.sums

    @property
    def has_spent(self) -> bool:
        """Whether something was spent, or is asked for."""
        return self._root.sums is not None

    def spend(self, context: RunContext, amounts: Amounts) -> None:
        """Count what was spent outside of a call, and put it on record with the next row."""
        item = ALONE if context.item is None else context.item
        bill = Bill(Address(context.path, context.node), item, context.attempt, amounts)
        self.ledger.spend(self.step, bill)

    def refusal(self, vertex: Vertex, *, is_call: bool = False) -> BudgetError | None:
        """Why a node may spend no more; ``None`` if it may.

        Args:
            vertex: The node.
            is_call: Whether it is about a call of it, for which each budget counts.
        """
        if self.budget is None:
            return None
        of_node = self.plan.node_budgets.get(id(vertex.node), NO_AMOUNTS)
        names, past = (*self.context.path, vertex.name), () if is_call else self.past
        return self.account.refusal(self.context.run_id, names, self.budget, of_node, past)

    def after_exec(self, context: RunContext) -> None:
        """Say which calls on record ``exec`` has not asked for, now that it has ended.

        Raises:
            BudgetError: A call was refused, whatever ``exec`` has made of that.
        """
        calls = self.calls_of(context)
        if calls.refused is not None:
            raise calls.refused
        unused = calls.unused(context.attempt)
        if unused is not None:
            self.remark(f"run {context.run_id!r}: {unused}")

    def move_to(self, stand: Stand) -> Vertex | None:
        """Note the nested flows around the node that comes next, and return it."""
        if self.taken is not None:
            self.taken.leave(stand.depth)
        self.frames = stand.frames
        self.context.path = (*self.prefix, *[frame.name for frame in stand.frames])
        return stand.vertex

    def cannot_write(self, error: BaseException) -> bool:
        """Whether an error says that the record of the run, or of a branch of it, has failed."""
        inside = self.vertex is not None and self.vertex.fans_out
        return isinstance(error, DatabaseError) and (inside or self.context.phase == "commit")

    def count(self) -> int:
        """The number of the current step in its line, which is the same after a resume."""
        if self.context.branches:
            return self.context.count
        return self.step if self.unfinished is None else self.unfinished.count

    def cancel(self) -> None:
        """Ask the whole run to stop."""
        self._root.context.cancellation.request()

    @property
    def _root(self) -> Line:
        """The line of the run itself, of which this may be a branch."""
        line = self
        while line.parent is not None:
            line = line.parent
        return line

    def commit(self, inline: bool, function: Callable[..., object], *arguments: object) -> Effects:
        """Call something that writes, here or, off an event loop, through the driver."""
        storage = None if inline else self.ledger.storage
        if storage is None:
            return function(*arguments)
        return (yield Commit(storage, function, arguments))

    def compute(self, function: Callable[..., object], *arguments: object) -> Effects:
        """Call something that takes a moment, here or, off an event loop, through the driver."""
        if not self.on_loop:
            return function(*arguments)
        return (yield Call(function, arguments))

    def remark(self, text: str) -> None:
        """Put on record what people should know of the run, and log it, once for the run."""
        root = self._root
        with _guard:
            is_known = text in root.remarks
            root.remarks |= {text}
        if not is_known:
            _log.warning("%s", text)
        self.ledger.remark(text)

    def gather(self, jobs: Iterator[Job], limit: int, on_loop: bool, stop: Cancellation) -> Steps:
        """Carry out jobs, at most so many at once; ``stop`` is asked for if the run is."""
        self.context.cancellation.add_callback(stop.request)
        try:
            if limit == 1:
                for job in jobs:
                    yield from job
            else:
                yield Gather(jobs, limit, on_loop, stop.request)
        finally:
            self.context.cancellation.remove_callback(stop.request)

    def note_notified(self, error: BaseException) -> None:
        """Note that listeners were told of the error of a node inside."""
        with _guard:
            self.told = (*self.told, error)

    def was_notified(self, error: BaseException) -> bool:
        """Whether listeners were told of an error as that of a node inside."""
        return any(one is error for one in self.told)

    def emit(self, context: RunContext, value: object) -> None:
        """Record what a node emits, if the flow has asked for it, and tell listeners."""
        if self.ledger.emits:
            self.ledger.emit(context, value)
        self.notify("emit", context.node, context.step, value, context.item, context.path)

    def notify(self, kind: str, *facts: object) -> None:
        """Build an event if somebody listens to its kind, and tell them.

        An ``Exception`` of a listener is logged with its traceback and changes nothing.
        """
        listeners = self.listeners.get(kind)
        if not listeners:
            return
        event: object = _kinds()[kind](self.context.run_id, *facts)
        for listener in listeners:
            try:
                check_called(listener(event, self.store))
            except Exception:  # noqa: BLE001 - a reader of events must not break the run
                _log.exception(
                    "flow %r, run %r: a listener of %r failed; the run goes on",
                    self.context.flow_name,
                    self.context.run_id,
                    kind,
                )


@cache
def _kinds() -> Mapping[str, Callable[..., object]]:
    """The classes of events; not imported before somebody listens."""
    from pocoflow.graph.event_types import KINDS

    return KINDS
