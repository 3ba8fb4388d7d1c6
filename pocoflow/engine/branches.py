"""Parallel branches: each a run of its own on a view of the store, merged when all have ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any, TypeAlias, cast

from pocoflow.address import Numbered
from pocoflow.engine.around import middleware_of
from pocoflow.engine.asking import Paused
from pocoflow.engine.effects import Effects, Inside, Job, Steps
from pocoflow.engine.gathering import Entered
from pocoflow.engine.items import ItemNumbers, report_gone
from pocoflow.engine.line import Line
from pocoflow.engine.outcomes import own
from pocoflow.graph.graph import Vertex, label
from pocoflow.graph.routing import Taken
from pocoflow.graph.step_records import Numbers
from pocoflow.graph.unfinished import NOTHING, Unfinished
from pocoflow.messages import package_of
from pocoflow.nodes.context import Cancellation
from pocoflow.nodes.parallel import NO_ITEM, BranchEnd, SplitNode, Start
from pocoflow.store.branch_view import BranchStore
from pocoflow.store.watch import Watch
from pocoflow.values.failures import Failure, add_note

Loop: TypeAlias = Callable[[Line], Steps]


def run_branches(run: Line, vertex: Vertex, given: object, loop: Loop) -> Effects[list[BranchEnd]]:
    """Run the branches of a parallel node to their ends; returns these, in order.

    Raises:
        Paused: Some branches wait for answers, and all others have ended.
        Exception: Whatever the first branch that failed raised, unless failures are collected.
    """
    node = cast(SplitNode, vertex.node)
    fork = _Fork(run, vertex, node, loop)
    yield from fork.begin(given)
    try:
        yield from run.gather(fork.jobs(), fork.limit, fork.on_loop, fork.stop)
    finally:
        run.step = run.finished = run.context.step = fork.numbers.next_step
    if fork.is_waiting:
        raise Paused
    if package_of(node.post) != "pocoflow":
        for end in fork.ends:  # which it is given, and may look at after it has written itself
            if end.store is not None:
                end.store.complete()
    return fork.ends


class _Fork:
    """One parallel node in one step."""

    def __init__(self, run: Line, vertex: Vertex, node: SplitNode, loop: Loop) -> None:
        self.run, self.vertex, self.node, self.loop = run, vertex, node, loop
        self.count = run.count()
        self.unfinished = run.unfinished or NOTHING
        self.stop = Cancellation()
        if run.parent is None or run.numbers is None:
            run.numbers = Numbers(run.step)  # the steps since an earlier fork have not taken any
        self.numbers = run.numbers
        # Tasks on the event loop that there is anyway, or threads that wait for nobody.
        self.on_loop = run.on_loop or vertex.exec_async
        self.limit = len(node.branches) if node.limit is None else node.limit
        # One after the other they are carried out by the driver of the run itself.
        self.tasks = self.on_loop and self.limit > 1
        store = run.store
        known = run.ledger.known or run.known or Watch()
        self.values = store.watch() if isinstance(store, BranchStore) else known.now(store)
        self.starts: list[tuple[int, Start]] = []
        self.ends: list[Any] = []
        self.is_waiting = False

    def begin(self, given: object) -> Steps:
        """Number the branches; put on record which item each of them is for, if they have items."""
        run, ledger = self.run, self.run.ledger
        known = {number: one.mark for number, one in self.unfinished.items.items()}
        numbers, marks = ItemNumbers(known, self.unfinished.branches), {}
        begun = {which: number for number, which in self.unfinished.templates.items()}
        free = (one for one in count() if one not in self.unfinished.templates)
        for number, start in enumerate(self.node.starts(given, run.store)):
            if start.item is not NO_ITEM and ledger.keeps:
                digest = numbers.digest_of(start.item, self.unfinished.classes)
                number, mark = numbers.give(number, digest)
                if number not in known:
                    marks[number] = mark
            elif start.item is NO_ITEM:
                # Others may stand before it by now; its number is in its idempotency keys.
                number = begun[start.template] if start.template in begun else next(free)
            self.starts.append((number, start.numbered(number)))
        if marks:
            yield from run.commit(not run.on_loop, ledger.begin_items, self.count, marks)
        report_gone(run, self.vertex, numbers)

    def jobs(self) -> Iterator[Job]:
        """A job for each branch that had not ended before a crash, made as it is asked for."""
        for index, (number, start) in enumerate(self.starts):
            saved = self.unfinished.branches.get(number)
            self.ends.append(None)
            if saved is not None and saved.names is None:
                store, _ = self._store(start, saved)
                self.ends[index] = BranchEnd(start.name, store, saved.action)
            else:
                yield self._job(index, start, number, saved)

    def _store(self, start: Start, saved: Unfinished | None) -> tuple[BranchStore, Watch]:
        """The store of a branch, and what it began with, remembered."""
        if start.base is None:
            values = self.values
            private = (start.private, start.hidden, True, start.origin)
            store = BranchStore(self.run.store, values, *private)
        else:
            values = Watch.of(start.base)
            store = BranchStore(start.base, values.copy(), {}, merged=False)
            for key in [one for one in start.base if one not in start.handed]:
                # A default, which may be another one after a resume, is on record as what is set.
                values.forget(key)
                store.get(key)
        if saved is not None:
            store.take_back(*saved.own)
        return store, values.copy()

    def _job(self, index: int, start: Start, number: int, saved: Unfinished | None) -> Job:
        inner = self._run(start, number, saved)
        within = "a parallel branch" if start.base is None else "a subflow"
        with Entered(inner.context):
            try:
                inner.context.check_cancelled()
                inner.context.line = inner
                yield Inside(self.loop(inner))
                store = cast(BranchStore, inner.store)
                self.ends[index] = BranchEnd(start.name, store, inner.action)
            except Paused:
                self.is_waiting = True
            except Exception as exc:
                mine = own(exc)
                failed = _tell(inner, mine, within)
                stopped = inner.context.is_stopped_by(mine) or inner.cannot_write(mine)
                if stopped or not self.node.collects:
                    self.run.note_notified(mine)
                    raise
                self.ends[index] = BranchEnd(start.name, None, failure=Failure.of(failed, mine))
            finally:
                inner.context.line = None

    def _run(self, start: Start, number: int, saved: Unfinished | None) -> Line:
        run, name = self.run, self.vertex.name
        own = name if start.number is None else Numbered(name, start.number)
        prefix = (*run.context.path, own)
        context = run.context.for_branch((self.count, number), prefix, self.stop)
        context.count = 0 if saved is None else saved.count
        store, values = self._store(start, saved)
        graph = self.vertex.branches[start.template]
        vertices = (graph.start,) if saved is None else saved.vertices
        inner = Line(
            context=context,
            store=store,
            start=vertices[-1],
            frames=tuple(vertices[:-1]),
            plan=run.plan,
            strict=run.strict or graph.is_strict,
            on_loop=run.on_loop or self.tasks,
            listeners=run.listeners,
            ledger=run.ledger.branch(context, store, values, self.numbers, saved),
            step=self.numbers.next_step,
            numbers=self.numbers,
            unfinished=saved,
            parent=run,
            prefix=prefix,
            budget=run.budget,
        )
        if run.budget is not None:
            line = 0 if saved is None else saved.line
            inner.past = run.past.union(run.account.past.get(line, ()))
        if graph.is_limited:
            inner.taken = Taken(len(prefix), () if saved is None else saved.taken)
        if run.plan.graph.wraps:
            inner.middleware = graph.middleware.within(middleware_of(run))
        if context.emitter is not None:
            context.emitter = inner.emit
        if saved is not None and saved.pending is not None:
            store.take_back(*saved.pending)
        return inner


def _tell(inner: Line, exc: Exception, within: str) -> str:
    """Say which node of a branch failed, and what that is; its label."""
    context, node = inner.context, (inner.vertex or inner.start).name
    name = label(node, context.path)
    if not context.is_stopped_by(exc):
        add_note(exc, f"pocoflow: in {context.phase} of {name!r}, in {within}")
        facts = (context.phase, context.attempt, inner.elapsed(), exc, context.path, False)
        inner.notify("node_error", node, inner.step, *facts, inner.was_notified(exc))
    return name
