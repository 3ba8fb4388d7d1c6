"""Batches: ``exec`` mapped over the items that ``prep`` gives, one at a time or several at once."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from typing import Any

from pocoflow.context import Cancellation, RunContext, current
from pocoflow.engine.asking import Paused, ask, is_waiting
from pocoflow.engine.attempts import attempt, try_again
from pocoflow.engine.effects import Call, Effect, Gather, Job
from pocoflow.engine.run import Run
from pocoflow.errors import ActionError, QuestionExpiredError
from pocoflow.graph import GraphNode

__all__ = ["map_items"]


class _Batch:
    """One batch node in one step."""

    def __init__(self, run: Run, place: GraphNode, prepared: Any, finished: dict[int, Any]) -> None:
        self.run = run
        self.place = place
        self.prepared = prepared
        self.is_waiting = False
        node: Any = place.node  # a BatchNode, or a function that maps over items
        self.concurrency, self.collects = node.concurrency, node.on_error == "collect"
        self.finished = finished
        self.results: list[Any] = []
        self.stop = Cancellation()
        self.on_loop = place.exec_async
        # Items that run at the same time have threads of their own, where they may block.
        self.inline = not place.exec_async and (run.inline or self.concurrency > 1)
        self.journals = run.recorder is not None and node.journal

    def jobs(self, items: Iterable[Any]) -> Iterator[Job]:
        """A job for each item that was not finished before a crash, made as it is asked for."""
        for index, item in enumerate(items):
            self.results.append(self.finished.get(index))
            if is_waiting(self.results[index]):
                yield self._wait(index)
            elif index not in self.finished:
                yield self._job(index, item)

    def _wait(self, index: int) -> Job:
        """The job of an item whose question was asked before, and not answered."""
        try:
            yield from ask(self.run, self.place, self.prepared, self.results[index], index)
            self.is_waiting = True
        except QuestionExpiredError as exc:
            if not self.collects:
                raise
            self.results[index] = exc

    def _job(self, index: int, item: Any) -> Job:
        run, place = self.run, self.place
        context = run.context.for_item(index, self.stop)
        token = current.set(context)
        try:
            context.check_cancelled()
            result: Any = None
            error: Exception | None = None
            try:
                result = yield from attempt(place, item, self.inline)
            except Exception as exc:  # noqa: BLE001 - retry_on and exec_fallback decide
                error = exc
            if error is not None:
                result = yield from self._failed(context, item, error)
            if is_waiting(result):
                yield from ask(run, place, self.prepared, result, index)
                self.is_waiting = True
                return
            self.results[index] = result
            yield from self._keep(index, result)
            run.tell("item_end", place.name, run.step, index, context.attempt, context.path)
        finally:
            current.reset(token)

    def _keep(self, index: int, result: Any) -> Generator[Effect, Any, None]:
        """Hand a finished item to the journal; those that finish meanwhile share its commit."""
        recorder = self.run.recorder
        if recorder is None or not self.journals:
            return
        if not recorder.keep_item(self.run.step, self.place.name, result, index):
            return
        if self.inline:
            recorder.write_items()
        else:
            yield Call(recorder.write_items, (), must_finish=True, wait=False)

    def _failed(
        self, context: RunContext, item: Any, error: Exception
    ) -> Generator[Effect, Any, Any]:
        try:
            return (yield from try_again(self.run, self.place, context, item, error, self.inline))
        except Exception as exc:
            exc.add_note(f"pocoflow: item {context.item}, attempt {context.attempt}")
            if not self.collects or context.is_stopped_by(exc) or context.phase == "commit":
                raise
            return exc


def map_items(run: Run, place: GraphNode, items: Any) -> Generator[Effect, Any, list[Any]]:
    """The results of ``exec`` for all items, in their order.

    Raises:
        ActionError: ``prep`` gave something that cannot be iterated.
        Paused: Some items wait for answers, and all others are finished.
        Exception: Whatever an item raised at last, unless the node collects.
    """
    if not isinstance(items, Iterable) or isinstance(items, (str, bytes)):
        raise ActionError(
            f"prep of batch node {place.name!r} returned {type(items).__name__}: it gives the "
            "items, as a list or another iterable"
        )
    finished, run.replay = run.replay, {}
    batch = _Batch(run, place, items, finished)
    run.context.cancellation.add_callback(batch.stop.request)
    try:
        jobs = batch.jobs(items)
        if batch.concurrency == 1:
            for job in jobs:
                yield from job
        else:
            yield Gather(jobs, batch.concurrency, batch.on_loop, batch.stop.request)
    except BaseException:
        if run.recorder is not None:
            run.recorder.write_items()
        raise
    finally:
        run.context.cancellation.remove_callback(batch.stop.request)
    if run.recorder is not None:
        yield from run.commit(run.inline, run.recorder.write_items)
    if batch.is_waiting:
        raise Paused
    return batch.results
