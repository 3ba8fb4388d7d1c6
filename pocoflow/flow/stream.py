"""The events of a run as an iterator, for ``Flow.stream`` and ``Flow.stream_async``."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import aclosing
from queue import SimpleQueue
from typing import TYPE_CHECKING, cast

from pocoflow.cleanup import leave
from pocoflow.engine.drivers import drive_async
from pocoflow.engine.line import Line, Listener
from pocoflow.engine.loop import steps
from pocoflow.flow.handle import RunHandle

if TYPE_CHECKING:
    from pocoflow.db.stored_handle import StoredRunHandle
    from pocoflow.db.workflow import WorkflowDB
    from pocoflow.graph.event_types import Event


def stream(run: Line, database: WorkflowDB | None) -> Generator[Event, None, None]:
    """Start the run in a thread and yield its events as they happen.

    The queue between the two is unbounded, so a slow reader does not slow the run down. Leaving
    the iterator before its end cancels the run.

    Raises:
        BaseException: Whatever ended the run, after its last event.
    """
    events = _read(run, database)
    next(events)  # started here, so that an interrupt before the first event closes it
    return cast("Generator[Event, None, None]", events)


def _read(run: Line, database: WorkflowDB | None) -> Generator[Event | None, None, None]:
    """Start the run, yield ``None``, and then the events."""
    events: SimpleQueue[Event | None] = SimpleQueue()
    run.listeners = _with(run.listeners, lambda event, store: events.put(event))
    handle: RunHandle | None = None
    try:
        handle = RunHandle(run, database, is_read=True)
        handle.add_done_callback(lambda: events.put(None))
        yield None
        while (event := events.get()) is not None:
            yield event
    except GeneratorExit:
        # A finalizer may raise it, and must not wait.
        run.context.cancellation.request()
        if handle is not None and handle.is_done:
            leave(handle.cancel)
        raise
    except BaseException:
        run.context.cancellation.request()  # also if a Ctrl-C came before the handle
        if handle is not None:
            handle.cancel()
        raise
    handle.wait()


def joined(handle: StoredRunHandle) -> Generator[Event, None, None]:
    """Yield the committed events of a run that was started elsewhere, from the first on.

    Raises:
        RunError: The run did not complete; after its last event.
    """
    for entry in handle.follow(until="pause"):
        yield entry.event
    handle.wait()


async def stream_async(
    begin: Callable[[], Awaitable[Line | StoredRunHandle]],
) -> AsyncGenerator[Event, None]:
    """Run on the caller's event loop, as a separate task, and yield the events as they happen.

    Raises:
        BaseException: Whatever ended the run, after its last event.
    """
    import asyncio

    run = await begin()
    if not isinstance(run, Line):
        async with aclosing(run.follow_async(until="pause")) as followed:
            async for entry in followed:
                yield entry.event
        await run
        return
    loop = asyncio.get_running_loop()
    events: asyncio.Queue[Event | None] = asyncio.Queue()

    def put(event: Event | None) -> None:
        # Nodes emit from threads, too; a single entry preserves the order.
        loop.call_soon_threadsafe(events.put_nowait, event)

    run.listeners = _with(run.listeners, lambda event, store: put(event))

    async def work() -> None:
        await drive_async(run.context, steps(run))

    task = asyncio.ensure_future(work())
    task.add_done_callback(lambda _: put(None))
    try:
        while (event := await events.get()) is not None:
            yield event
    finally:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # marks it as retrieved: no reader is left, and it is on record
    task.result()


def _with(
    listeners: Mapping[str, Sequence[Listener]], listener: Listener
) -> dict[str, Sequence[Listener]]:
    from pocoflow.graph.event_types import KINDS

    return {kind: (*listeners.get(kind, ()), listener) for kind in KINDS}
