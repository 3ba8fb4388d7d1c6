"""Parallel branches: each a line of its own on a view of the store, merged when all have ended."""

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
from pocoflow.engine.outcomes import unwrapped
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
        Exception: The error of the first branch that failed, unless failures are collected.
    """
    node = cast(SplitNode, vertex.node)
    group = _Branches(run, vertex, node, loop)
    yield from group.begin(given)
    try:
        yield from run.gather(group.jobs(), group.limit, group.on_loop, group.stop)
    finally:
        run.step = run.finished = run.context.step = group.numbers.next_step
    if group.is_waiting:
        raise Paused
    if package_of(node.post) != "pocoflow":
        for end in group.ends:  # post may read a branch's store after it has written its own
            if end.store is not None:
                end.store.complete()
    return group.ends


class _Branches:
    """One parallel node in one step."""

    def __init__(self, run: Line, vertex: Vertex, node: SplitNode, loop: Loop) -> None:
        self.run, self.vertex, self.node, self.loop = run, vertex, node, loop
        self.count = run.count()
        self.unfinished = run.unfinished or NOTHING
        self.stop = Cancellation()
        if run.parent is None or run.numbers is None:
            run.numbers = Numbers(run.step)  # steps since earlier branches did not take any
        self.numbers = run.numbers
        # Tasks on the event loop of the run, or threads that block nobody.
        self.on_loop = run.on_loop or vertex.exec_async
        self.limit = len(node.branches) if node.limit is None else node.limit
        # Sequential branches are carried out by the driver of the run itself.
        self.tasks = self.on_loop and self.limit > 1
        store = run.store
        known = run.ledger.known or run.known or Watch()
        self.values = store.watch() if isinstance(store, BranchStore) else known.now(store)
        self.starts: list[tuple[int, Start]] = []
        self.ends: list[Any] = []
        self.is_waiting = False

    def begin(self, given: object) -> Steps:
        """Number the branches, and record the item of each, if they have items."""
        run, ledger = self.run, self.run.ledger
        known = {number: item.mark for number, item in self.unfinished.items.items()}
        numbers, marks = ItemNumbers(known, self.unfinished.branches), {}
        templates = self.unfinished.templates
        started = {template: number for number, template in templates.items()}
        free = (number for number in count() if number not in templates)
        for number, start in enumerate(self.node.starts(given, run.store)):
            if start.item is not NO_ITEM and ledger.keeps:
                digest = numbers.digest_of(start.item, self.unfinished.classes)
                number, mark = numbers.give(number, digest)
                if number not in known:
                    marks[number] = mark
            elif start.item is NO_ITEM:
                # Its index may have changed since, but its idempotency keys contain its number.
                number = started[start.template] if start.template in started else next(free)
            self.starts.append((number, start.numbered(number)))
        if marks:
            yield from run.commit(not run.on_loop, ledger.begin_items, self.count, marks)
        report_gone(run, self.vertex, numbers)

    def jobs(self) -> Iterator[Job]:
        """A job for each branch that had not ended before a crash, created on demand."""
        for index, (number, start) in enumerate(self.starts):
            saved = self.unfinished.branches.get(number)
            self.ends.append(None)
            if saved is not None and saved.names is None:
                store, _ = self._store(start, saved)
                self.ends[index] = BranchEnd(start.name, store, saved.action)
            else:
                yield self._job(index, start, number, saved)

    def _store(self, start: Start, saved: Unfinished | None) -> tuple[BranchStore, Watch]:
        """The store of a branch, and the values that it started with."""
        if start.base is None:
            values = self.values
            private = (start.private, start.hidden, True, start.origin)
            store = BranchStore(self.run.store, values, *private)
        else:
            values = Watch.of(start.base)
            store = BranchStore(start.base, values.copy(), {}, merged=False)
            for key in [key for key in start.base if key not in start.handed]:
                # A default, which may differ after a resume, is recorded as a value that was set.
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
                failure = unwrapped(exc)
                node = _report(inner, failure, within)
                stopped = inner.context.is_stopped_by(failure) or inner.cannot_write(failure)
                if stopped or not self.node.collects:
                    self.run.note_notified(failure)
                    raise
                self.ends[index] = BranchEnd(start.name, None, failure=Failure.of(node, failure))
            finally:
                inner.context.line = None

    def _run(self, start: Start, number: int, saved: Unfinished | None) -> Line:
        run, name = self.run, self.vertex.name
        own_name = name if start.number is None else Numbered(name, start.number)
        prefix = (*run.context.path, own_name)
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


def _report(inner: Line, exc: Exception, within: str) -> str:
    """Report which node of a branch failed; returns its label."""
    context, node = inner.context, (inner.vertex or inner.start).name
    name = label(node, context.path)
    if not context.is_stopped_by(exc):
        add_note(exc, f"pocoflow: in {context.phase} of {name!r}, in {within}")
        facts = (context.phase, context.attempt, inner.elapsed(), exc, context.path, False)
        inner.notify("node_error", node, inner.step, *facts, inner.was_notified(exc))
    return name
