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
from pocoflow.engine.outcomes import unwrapped
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
    """What ``exec`` is called with: its index among the items, its identity, and its value."""

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
        # The other arguments of a function do not identify an item.
        self.parameter = _parameter(node)
        self.concurrency, self.collects = node.concurrency, node.on_error == "collect"
        unfinished = run.unfinished or NOTHING
        self.finished, self.started = unfinished.results, unfinished.items
        self.classes = unfinished.classes
        marks = {number: item.mark for number, item in self.started.items() if number != ALONE}
        self.numbers = ItemNumbers(marks, marks)
        self.digests: Iterator[str] = iter(())
        self.results: list[object] = []
        self.stop = Cancellation()
        executors = run.plan.executors
        is_away = executors is not None and executors.of(vertex) is not None
        # A thread waiting for an executor costs less than a task, unless there are too many.
        self.on_loop = vertex.exec_async if not is_away else run.on_loop or node.concurrency > 64
        # Concurrent items have threads of their own, where they may block.
        self.inline = not self.on_loop and (not run.on_loop or self.concurrency > 1)
        self.keeps = run.ledger.keeps
        self.journals = self.keeps and node.journal

    def jobs(self, items: Iterable[object]) -> Iterator[Job]:
        """A job for each item that was not finished before a crash, created on demand."""
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

    def identify(self) -> None:
        """Remember what the items are, before the first ``exec`` changes what they share."""
        self.run.ledger.take_input(self.prepared)
        if isinstance(self.prepared, (list, tuple)):
            self.digests = iter([self.digest(item) for item in self.prepared])

    def digest(self, value: Any) -> str:
        """The digest that identifies an item."""
        item = value if self.parameter is None else value[self.parameter]
        return self.numbers.digest_of(item, self.classes)

    def _wait(self, item: _Item) -> Job:
        """The job of an item whose question was asked earlier, and not answered."""
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
        if item.identity.number in self.started:
            context.attempt += self.started[item.identity.number].attempts
        with Entered(context):
            context.check_cancelled()
            result: object = None
            error: Exception | None = None
            try:
                result = yield from attempt(run, vertex, item.value, self.inline)
            except Exception as exc:  # noqa: BLE001 - retry_on and exec_fallback decide
                error = unwrapped(exc)
            if error is not None:
                result = yield from self._failed(context, item.value, error)
            if is_waiting(result):
                yield from self._ask(item, result)
                return
            self.results[item.index] = result
            yield from self._record(item, result)
            facts = (item.identity.number, context.attempt, context.path)
            run.notify("item_end", vertex.name, run.step, *facts)

    def _record(self, item: _Item, result: object) -> Steps:
        """Record an item that is finished and did not fail, before the next one starts."""
        if self.journals and not (self.collects and isinstance(result, Exception)):
            facts = (self.run.step, self.vertex.name, result, item.identity, self.vertex.node)
            yield from self.run.commit(self.inline, self.run.ledger.journal_item, *facts)

    def _failed(self, context: RunContext, item: object, error: Exception) -> Effects:
        run = self.run
        try:
            return (yield from try_again(run, self.vertex, item, error, self.inline))
        except Exception as exc:
            failure = unwrapped(exc)
            add_note(failure, f"pocoflow: item {context.item}, attempt {context.attempt}")
            if context.is_stopped_by(exc) or isinstance(exc, BudgetError):
                raise
            if not self.collects or context.phase == "commit":
                run.context.attempt = context.attempt
                raise
            return failure


def _parameter(node: Node) -> str | None:
    """The parameter that takes an item, if the node is a function."""
    return node.signature.parameters[0].name if isinstance(node, FunctionNode) else None


def map_items(run: Line, vertex: Vertex, items: object) -> Effects[list[object]]:
    """The results of ``exec`` for all items, in their order.

    Raises:
        ActionError: ``prep`` returned something that cannot be iterated.
        Paused: Some items wait for answers, and all others are finished.
        Exception: The final error of an item, unless the node collects errors.
    """
    if not isinstance(items, Iterable) or isinstance(items, (str, bytes)):
        run.context.phase = "prep"  # whose mistake it is
        raise ActionError(
            f"prep of batch node {vertex.name!r} returned {short(items)}: it must return the items "
            "as a list or another iterable"
        )
    batch = _Batch(run, vertex, items)
    if batch.keeps:
        yield from run.compute(batch.identify)
    try:
        yield from run.gather(batch.jobs(items), batch.concurrency, batch.on_loop, batch.stop)
    except BaseException:
        if not run.on_loop:
            run.ledger.write_items()  # of a thread whose commit was interrupted by a Ctrl-C
        raise
    report_gone(run, vertex, batch.numbers)
    if batch.is_waiting:
        raise Paused
    return batch.results
