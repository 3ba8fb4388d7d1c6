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
from pocoflow.graph.routing import IsSpent, Position, Taken
from pocoflow.graph.step_records import ALONE, Bill, Numbers
from pocoflow.graph.unfinished import Unfinished
from pocoflow.logging import OwnLogger
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
        made_of: What it was made from; it is out of date once that differs.
        graph: The graph of the flow.
        flow_name: The name of the flow.
        max_steps: How many steps a run may take, including those before a resume.
        deadline: Seconds that a run may take, or ``None``.
        budget: What a run may spend; ``None`` if neither it nor a node has a budget.
        node_budgets: What nodes may spend, by their ids.
        executors: Call ``exec`` of its nodes elsewhere; ``None`` if every node runs here.
    """

    made_of: object
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
        """The line of a run that starts or resumes at a node; ``run`` is its id and token."""
        graph = self.graph
        run_id, token = run
        cancellation = Cancellation(self.deadline)
        context = RunContext(run_id, self.flow_name, token, cancellation, resources)
        # Positional: calling a class with keywords takes several times as long.
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
        start: Its first node.
        plan: What it has in common with other runs of its flow.
        strict: Whether an action without an edge is an error.
        on_loop: Whether it is driven by a shared event loop, which neither synchronous code nor a
            commit may block.
        only_awaits: Whether nothing in it but its commits may block: all its phases are
            asynchronous, and no hook is called.
        listeners: Who is notified of events, by kind of event.
        ledger: What its steps are recorded in.
        snapshot: Writes a JSON checkpoint after a step, if the flow is set to.
        step: The number of the current or next step.
        finished: How many steps are finished, including those before a resume.
        unfinished: What is recorded of its first step, until that is finished.
        action: The action that ended it; of a branch, at its end.
        completed: Whether its last step is committed; what a listener raises then is no failure.
        vertex: The current or next node.
        frames: The nested flows around it, outermost first.
        began: When its current step began, by ``perf_counter``; 0 if it is not timed.
        numbers: Numbers its steps, once there are parallel branches.
        parent: The line of which this is a parallel branch.
        prefix: The path that a branch begins with.
        middleware: What wraps visits and attempts: of the flow, or of what surrounds the branch.
        taken: Counts edges that have limits; ``None`` if there are none.
        given: The number of a step, and what ``prep`` returned there, uncopied.
        sums: What the run has spent; stored only in the line of the run, not of a branch.
        budget: What it may spend; ``None`` if neither it nor a node has a budget.
        past: The spent budgets that no longer limit this line, as an edge for them was taken.
        opens: The resources that it has to open.
        notified: The errors of its branches that listeners know, and that it raises in turn.
        remarks: What was logged about the run, and is not logged again.
        calls: The number of a step, and its journaled calls by item; ``None`` before the first.
        known: Its store as it was last checked, if nothing else remembers that.
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
    notified: tuple[BaseException, ...] = ()
    remarks: frozenset[str] = frozenset()
    known: Watch | None = None

    @property
    def is_spent(self) -> IsSpent | None:
        """Tells whether an edge has reached its limit; ``None`` if no edge has one."""
        return None if self.taken is None else self.taken.is_spent

    def elapsed(self) -> float:
        """Seconds since the current step began; 0 if it is not timed."""
        return perf_counter() - self.began if self.began else 0.0

    def calls_of(self, context: RunContext) -> ExecCalls:
        """The journaled calls of the ``exec`` that a context belongs to."""
        item = ALONE if context.item is None else context.item
        calls = self.calls
        if calls is not None and calls[0] == self.step and item in calls[1]:
            return calls[1][item]
        with _guard:
            if self.calls is None or self.calls[0] != self.step:
                self.calls = (self.step, {})
            started = self.calls[1]
            if item not in started:
                assert self.vertex is not None  # its exec asks
                given = self.given
                original = () if given is None or given[0] != self.step else (given[1],)
                facts = (self.ledger, self.vertex, context)
                refusal = None
                if self.budget is not None:
                    refusal = partial(self.refusal, self.vertex, is_call=True)
                started[item] = ExecCalls(*facts, self.unfinished, original, refusal)
            return started[item]

    @property
    def account(self) -> Account:
        """What the run has spent."""
        root = self.root
        with _guard:
            if root.sums is None:
                root.sums = Account()
            return root.sums

    @property
    def has_spent(self) -> bool:
        """Whether anything was spent, or the account was asked for."""
        return self.root.sums is not None

    def spend(self, context: RunContext, amounts: Amounts) -> None:
        """Count what was spent outside of a call, and record it with the next row."""
        item = ALONE if context.item is None else context.item
        bill = Bill(Address(context.path, context.node), item, context.attempt, amounts)
        self.ledger.spend(self.step, bill)

    def refusal(self, vertex: Vertex, *, is_call: bool = False) -> BudgetError | None:
        """Why a node may spend no more; ``None`` if it may.

        Args:
            vertex: The node.
            is_call: Whether this is for one of its journaled calls, which every budget limits.
        """
        if self.budget is None:
            return None
        of_node = self.plan.node_budgets.get(id(vertex.node), NO_AMOUNTS)
        names, past = (*self.context.path, vertex.name), () if is_call else self.past
        return self.account.refusal(self.context.run_id, names, self.budget, of_node, past)

    def after_exec(self, context: RunContext) -> None:
        """Remark which recorded calls ``exec`` did not repeat, now that it has ended.

        Raises:
            BudgetError: A call was refused, however ``exec`` handled that.
        """
        calls = self.calls_of(context)
        if calls.refused is not None:
            raise calls.refused
        unused = calls.unused(context.attempt)
        if unused is not None:
            self.remark(f"run {context.run_id!r}: {unused}")

    def move_to(self, position: Position) -> Vertex | None:
        """Set the nested flows around the next node, and return it."""
        if self.taken is not None:
            self.taken.leave(position.depth)
        self.frames = position.frames
        self.context.path = (*self.prefix, *[frame.name for frame in position.frames])
        return position.vertex

    def cannot_write(self, error: BaseException) -> bool:
        """Whether an error means that recording the run, or a branch of it, has failed."""
        inside = self.vertex is not None and self.vertex.fans_out
        return isinstance(error, DatabaseError) and (inside or self.context.phase == "commit")

    def count(self) -> int:
        """The number of the current step in its line, which is the same after a resume."""
        if self.context.branches:
            return self.context.count
        return self.step if self.unfinished is None else self.unfinished.count

    def cancel(self) -> None:
        """Ask the whole run to stop."""
        self.root.context.cancellation.request()

    @property
    def root(self) -> Line:
        """The line of the run itself: this one, or the one that it is a branch of."""
        line = self
        while line.parent is not None:
            line = line.parent
        return line

    def commit(self, inline: bool, function: Callable[..., object], *arguments: object) -> Effects:
        """Call a function that writes, here or, off an event loop, through the driver."""
        storage = None if inline else self.ledger.storage
        if storage is None:
            return function(*arguments)
        return (yield Commit(storage, function, arguments))

    def compute(self, function: Callable[..., object], *arguments: object) -> Effects:
        """Call a slow function, here or, off an event loop, through the driver."""
        if not self.on_loop:
            return function(*arguments)
        return (yield Call(function, arguments))

    def remark(self, text: str) -> None:
        """Record a remark about the run, and log it, once per run."""
        root = self.root
        with _guard:
            is_known = text in root.remarks
            root.remarks |= {text}
        if not is_known:
            _log.warning("%s", text)
        self.ledger.remark(text)

    def gather(self, jobs: Iterator[Job], limit: int, on_loop: bool, stop: Cancellation) -> Steps:
        """Carry out jobs, at most ``limit`` at once; a cancelled run requests ``stop``."""
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
        """Note that listeners were notified of the error of a node inside."""
        with _guard:
            self.notified = (*self.notified, error)

    def was_notified(self, error: BaseException) -> bool:
        """Whether listeners were notified of an error as that of a node inside."""
        return any(known is error for known in self.notified)

    def emit(self, context: RunContext, value: object) -> None:
        """Record what a node emits, if the flow is set to, and notify listeners."""
        if self.ledger.emits:
            self.ledger.emit(context, value)
        self.notify("emit", context.node, context.step, value, context.item, context.path)

    def notify(self, kind: str, *facts: object) -> None:
        """Build an event if its kind has listeners, and notify them.

        An ``Exception`` of a listener is logged with its traceback and has no other effect.
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
                    "flow %r, run %r: a listener of %r failed; the run continues",
                    self.context.flow_name,
                    self.context.run_id,
                    kind,
                )


@cache
def _kinds() -> Mapping[str, Callable[..., object]]:
    """The classes of events; imported only once there is a listener."""
    from pocoflow.graph.event_types import KINDS

    return KINDS
