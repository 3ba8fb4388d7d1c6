"""Batches: ``exec`` mapped over the items that ``prep`` gives, one at a time or several at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pocoflow.engine.asking import Paused, ask, is_waiting
from pocoflow.engine.attempts import attempt, try_again
from pocoflow.engine.effects import Effects, Job, Steps
from pocoflow.engine.gathering import Entered
from pocoflow.engine.items import ItemNumbers, report_gone
from pocoflow.engine.line import Line
from pocoflow.engine.outcomes import own
from pocoflow.errors import ActionError, BudgetError, QuestionExpiredError
from pocoflow.graph.graph import Vertex
from pocoflow.graph.step_records import ALONE, Identity
from pocoflow.graph.unfinished import NOTHING
from pocoflow.messages import short
from pocoflow.nodes.base import Node
from pocoflow.nodes.context import Cancellation, RunContext
from pocoflow.nodes.function import FunctionNode
from pocoflow.values.failures import add_note


@dataclass(frozen=True, slots=True)
class _Item:
    """What ``exec`` is called with: its place among the items, and which one it is."""

    index: int
    identity: Identity
    value: object


class _Batch:
    """One batch node in one step."""

    def __init__(self, run: Line, vertex: Vertex, prepared: object) -> None:
        self.run = run
        self.vertex = vertex
        self.prepared = prepared
        self.is_waiting = False
        node: Any = vertex.node  # a BatchNode, or a function that maps over items
        # The other arguments of a function are no part of what an item is.
        self.parameter = _parameter(node)
        self.concurrency, self.collects = node.concurrency, node.on_error == "collect"
        unfinished = run.unfinished or NOTHING
        self.finished, self.begun = unfinished.results, unfinished.items
        self.classes = unfinished.classes
        marks = {number: one.mark for number, one in self.begun.items() if number != ALONE}
        self.numbers = ItemNumbers(marks, marks)
        self.digests: Iterator[str] = iter(())
        self.results: list[object] = []
        self.stop = Cancellation()
        executors = run.plan.executors
        is_away = executors is not None and executors.of(vertex) is not None
        # A thread that waits for an executor costs less than a task, if there are not too many.
        self.on_loop = vertex.exec_async if not is_away else run.on_loop or node.concurrency > 64
        # Items that run at the same time have threads of their own, where they may block.
        self.inline = not self.on_loop and (not run.on_loop or self.concurrency > 1)
        self.keeps = run.ledger.keeps
        self.journals = self.keeps and node.journal

    def jobs(self, items: Iterable[object]) -> Iterator[Job]:
        """A job for each item that was not finished before a crash, made as it is asked for."""
        for index, value in enumerate(items):
            # Before exec, which might change the item in place.
            digest = next(self.digests, None)
            if digest is None:
                digest = self.digest(value) if self.keeps else ""
            item = _Item(index, self.numbers.give(index, digest), value)
            self.results.append(self.finished.get(item.identity.number))
            if is_waiting(self.results[index]):
                yield self._wait(item)
            elif item.identity.number not in self.finished:
                yield self._job(item)

    def look_at(self) -> None:
        """Keep what the items are, before ``exec`` of the first one changes what they share."""
        self.run.ledger.take_input(self.prepared)
        if isinstance(self.prepared, (list, tuple)):
            self.digests = iter([self.digest(item) for item in self.prepared])

    def digest(self, value: Any) -> str:
        """What tells an item from others."""
        item = value if self.parameter is None else value[self.parameter]
        return self.numbers.digest_of(item, self.classes)

    def _wait(self, item: _Item) -> Job:
        """The job of an item whose question was asked before, and not answered."""
        try:
            yield from self._ask(item, self.results[item.index])
        except QuestionExpiredError as exc:
            if not self.collects:
                raise
            self.results[item.index] = exc

    def _ask(self, item: _Item, question: Any) -> Steps:
        yield from ask(self.run, self.vertex, self.prepared, question, item.identity)
        self.is_waiting = True

    def _job(self, item: _Item) -> Job:
        run, vertex = self.run, self.vertex
        context = run.context.for_item(*item.identity, self.stop)
        if item.identity.number in self.begun:
            context.attempt += self.begun[item.identity.number].attempts
        with Entered(context):
            context.check_cancelled()
            result: object = None
            error: Exception | None = None
            try:
                result = yield from attempt(run, vertex, item.value, self.inline)
            except Exception as exc:  # noqa: BLE001 - retry_on and exec_fallback decide
                error = own(exc)
            if error is not None:
                result = yield from self._failed(context, item.value, error)
            if is_waiting(result):
                yield from self._ask(item, result)
                return
            self.results[item.index] = result
            yield from self._keep(item, result)
            facts = (item.identity.number, context.attempt, context.path)
            run.notify("item_end", vertex.name, run.step, *facts)

    def _keep(self, item: _Item, result: object) -> Steps:
        """Put a finished item on record, before the next one begins; one that failed is none."""
        if self.journals and not (self.collects and isinstance(result, Exception)):
            facts = (self.run.step, self.vertex.name, result, item.identity, self.vertex.node)
            yield from self.run.commit(self.inline, self.run.ledger.journal_item, *facts)

    def _failed(self, context: RunContext, item: object, error: Exception) -> Effects:
        run = self.run
        try:
            return (yield from try_again(run, self.vertex, item, error, self.inline))
        except Exception as exc:
            mine = own(exc)
            add_note(mine, f"pocoflow: item {context.item}, attempt {context.attempt}")
            if context.is_stopped_by(exc) or isinstance(exc, BudgetError):
                raise
            if not self.collects or context.phase == "commit":
                run.context.attempt = context.attempt
                raise
            return mine


def _parameter(node: Node) -> str | None:
    """The parameter of a function that takes an item, if it is one."""
    return node.signature.parameters[0].name if isinstance(node, FunctionNode) else None


def map_items(run: Line, vertex: Vertex, items: object) -> Effects[list[object]]:
    """The results of ``exec`` for all items, in their order.

    Raises:
        ActionError: ``prep`` gave something that cannot be iterated.
        Paused: Some items wait for answers, and all others are finished.
        Exception: Whatever an item raised at last, unless the node collects.
    """
    if not isinstance(items, Iterable) or isinstance(items, (str, bytes)):
        run.context.phase = "prep"  # whose mistake it is
        raise ActionError(
            f"prep of batch node {vertex.name!r} returned {short(items)}: it gives the items, "
            "as a list or another iterable"
        )
    batch = _Batch(run, vertex, items)
    if batch.keeps:
        yield from run.compute(batch.look_at)
    try:
        yield from run.gather(batch.jobs(items), batch.concurrency, batch.on_loop, batch.stop)
    except BaseException:
        if not run.on_loop:
            run.ledger.write_items()  # that of a thread whose commit a Ctrl-C has interrupted
        raise
    report_gone(run, vertex, batch.numbers)
    if batch.is_waiting:
        raise Paused
    return batch.results
