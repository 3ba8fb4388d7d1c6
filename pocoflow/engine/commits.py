"""The threads that commit for asynchronous runs: one per database, as long as it is in use.

Commits that are waiting when a thread becomes free share a transaction. No run waits for another
run's database, and no event loop for any.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from pocoflow.cleanup import at_exit, in_child
from pocoflow.engine.effects import Commit, Storage
from pocoflow.engine.outcomes import Raised, opened, tried
from pocoflow.engine.waits import cancelled
from pocoflow.logging import OwnLogger
from pocoflow.nodes.context import RunContext

if TYPE_CHECKING:
    import asyncio

_log = OwnLogger("flow")

_AT_ONCE = 500
"""How many commits share a transaction at most, so that nobody else waits for long."""

_IDLE = 5.0
"""Seconds without a commit after which a thread ends."""

_PATIENCE = 0.5
"""Seconds that a cancelled run waits for its commit."""

_HOLD = 0.2
"""Seconds that a cancelled task may block its loop until the end of its run is written.

The process may exit right after it has cancelled tasks: uvicorn re-raises the signal that stopped
it.
"""


@dataclass(frozen=True)
class Unopened:
    """Storage that the first commit opens; equal if it is opened alike."""

    home: Hashable
    opened: Callable[[], Storage]

    def together(self, commits: Sequence[Callable[[], object]], /) -> None:
        """Call functions that do not raise, and commit what they write in one transaction."""
        try:
            storage = self.opened()
        except Exception:  # noqa: BLE001 - each call tries again, and stores its own error
            for call in commits:
                call()
        else:
            storage.together(commits)


class _Waiting:
    """One commit, and what waits for it."""

    __slots__ = ("done", "effect", "future", "given_up", "is_done", "outcome")

    def __init__(self, effect: Commit, future: asyncio.Future[None] | None) -> None:
        self.effect = effect
        self.future = future
        self.outcome: object = None
        self.is_done = False
        self.done: threading.Event | None = None
        self.given_up = future is None

    def __call__(self) -> None:
        self.outcome = tried(self.effect.function, *self.effect.arguments)

    def wake(self) -> None:
        """Wake the waiting task, on its loop: the commit is done, or the wait was long enough."""
        if self.future is not None and not self.future.done():
            self.future.set_result(None)

    def hurry(self) -> None:
        """Let the task wait only a moment longer; from any thread."""
        if self.future is not None:
            loop = self.future.get_loop()
            loop.call_soon_threadsafe(loop.call_later, _PATIENCE, self.give_up)

    def give_up(self) -> None:
        """Let the task continue without waiting for the commit."""
        if self.future is not None and not self.future.done():
            self.given_up = True
            self.future.set_result(None)

    def notify(self) -> None:
        """Log a failed commit for which nobody waits any longer."""
        if self.given_up and isinstance(self.outcome, Raised):
            error = self.outcome.error
            _log.error("a commit of a run that was cancelled meanwhile failed: %s", error)


async def commit(effect: Commit, context: RunContext | None = None) -> Any:
    """Carry out a commit in the thread of its database, and wait for it.

    If the run, or this task, is cancelled meanwhile, the cancellation is delayed only for a moment:
    the commit completes in its thread, and later writes follow it there.

    Args:
        effect: The commit.
        context: The context of the run whose cancellation ends the wait.

    Raises:
        RunCancelled: The run was cancelled, and the database is busy.
    """
    import asyncio

    loop = asyncio.get_running_loop()
    future = loop.create_future()
    waiting = _Waiting(effect, future)
    cancellation = None if context is None or effect.is_last else context.cancellation
    if effect.is_last:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            waiting.done = threading.Event()
    _submit(waiting)
    if waiting.done is not None:
        waiting.done.wait(_HOLD)
    if effect.is_last:
        loop.call_later(_PATIENCE, waiting.give_up)
    elif cancellation is not None:
        cancellation.add_callback(waiting.hurry)
    try:
        await future
    except asyncio.CancelledError as exc:
        waiting.future = future = loop.create_future()
        until = loop.time() + _PATIENCE
        while not waiting.is_done and (left := until - loop.time()) > 0:
            with suppress(asyncio.CancelledError):  # once more, as anyio does at each await
                await asyncio.wait([future], timeout=left)
        waiting.given_up = True
        error = waiting.outcome.error if isinstance(waiting.outcome, Raised) else None
        raise exc from error
    finally:
        if cancellation is not None:
            cancellation.remove_callback(waiting.hurry)
    if not waiting.given_up:
        return opened(waiting.outcome)
    if effect.is_last or context is None:
        return None
    raise cancelled(context)


def begin_commit(effect: Commit) -> None:
    """Start a commit, to be carried out after earlier ones, without waiting for it."""
    _submit(_Waiting(effect, None))


class _CommitThread:
    """The thread of one database."""

    def __init__(self, home: Hashable) -> None:
        self.home = home
        # Its put() is reentrant, so that a finalizer may call it; that of other queues is not.
        self.queue: SimpleQueue[_Waiting | None] = SimpleQueue()
        self.thread = threading.Thread(target=self._work, name="pocoflow-commit", daemon=True)

    def _work(self) -> None:
        while True:
            try:
                first = self.queue.get(timeout=_IDLE)
            except Empty:
                with _guard:
                    if self.queue.empty():
                        _threads.pop(self.home, None)
                        return
                continue
            if first is None:
                return
            waiting = [first]
            while len(waiting) < _AT_ONCE and not self.queue.empty():
                item = self.queue.get()
                if item is None:
                    self.queue.put(None)
                    break
                waiting.append(item)
                del item  # or what waits for it would stay alive until this thread ends
            _carry_out(waiting)
            del first, waiting


def _carry_out(waiting: Sequence[_Waiting]) -> None:
    """Commit, sharing transactions where possible, and wake the waiting tasks, once per loop."""
    start = 0
    while start < len(waiting):
        effect, end = waiting[start].effect, start + 1
        while end < len(waiting) and effect.shared and _fit(effect, waiting[end].effect):
            end += 1
        try:
            effect.storage.together(waiting[start:end])
        except BaseException as exc:  # noqa: BLE001 - raised in the waiting tasks
            for item in waiting[start:end]:
                item.outcome = Raised(exc)
        start = end
    loops: dict[asyncio.AbstractEventLoop, list[_Waiting]] = {}
    for item in waiting:
        item.is_done = True
        if item.done is not None:
            item.done.set()
        if item.future is not None:
            loops.setdefault(item.future.get_loop(), []).append(item)
        item.notify()
    for loop, items in loops.items():
        try:
            loop.call_soon_threadsafe(_wake, items)
        except RuntimeError as exc:
            _log.debug("nobody waits for %d commits any more: %s", len(items), exc)


def _fit(first: Commit, second: Commit) -> bool:
    return second.shared and first.storage == second.storage


def _wake(items: Sequence[_Waiting]) -> None:
    for item in items:
        item.wake()


_threads: dict[Hashable, _CommitThread] = {}
_guard = threading.RLock()


def _submit(waiting: _Waiting) -> None:
    home = waiting.effect.storage.home
    with _guard:
        known = _threads.get(home)
        if known is not None:
            known.queue.put(waiting)
            return
        created = _CommitThread(home)
        created.queue.put(waiting)
        created.thread.start()
        _threads[home] = created


@at_exit
def _finish() -> None:
    """Complete pending commits before the interpreter exits and databases are closed."""
    with _guard:
        ending = [*_threads.values()]
        _threads.clear()  # a later commit must not wait for a thread that has ended
    for thread in ending:
        thread.queue.put(None)
        thread.thread.join()


@in_child
def _forget() -> None:
    # Threads do not survive a fork.
    global _guard  # noqa: PLW0603
    _guard = threading.RLock()
    _threads.clear()
