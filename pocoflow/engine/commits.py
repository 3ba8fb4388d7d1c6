"""The threads that commit for asynchronous runs: one for each database, as long as it is in use.

What waits when a thread is free is committed together. No run waits for a database that is not its
own, and no event loop for any.
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
"""At most so many commits share a transaction, so that nobody else waits for long."""

_IDLE = 5.0
"""So many seconds without a commit end a thread."""

_PATIENCE = 0.5
"""A run that was cancelled waits so many seconds for its commit."""

_HOLD = 0.2
"""So many seconds a task that was cancelled holds its loop up until the end of its run is written.

Who cancels tasks may leave the process at once: uvicorn raises the signal that stopped it again.
"""


@dataclass(frozen=True)
class Unopened:
    """Storage that the first commit opens; equal if the same opens it."""

    home: Hashable
    opened: Callable[[], Storage]

    def together(self, commits: Sequence[Callable[[], object]], /) -> None:
        """Call functions that do not raise, so that what they write is committed at once."""
        try:
            storage = self.opened()
        except Exception:  # noqa: BLE001 - each of them tries, and keeps what is raised
            for call in commits:
                call()
        else:
            storage.together(commits)


class _Waiting:
    """One commit, and who waits for it."""

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
        """Tell who waits, on its loop, that it is done, or that it has waited long enough."""
        if self.future is not None and not self.future.done():
            self.future.set_result(None)

    def hurry(self) -> None:
        """Let who waits do so for a moment more, from any thread."""
        if self.future is not None:
            loop = self.future.get_loop()
            loop.call_soon_threadsafe(loop.call_later, _PATIENCE, self.give_up)

    def give_up(self) -> None:
        """Let who waits go on without it."""
        if self.future is not None and not self.future.done():
            self.given_up = True
            self.future.set_result(None)

    def notify(self) -> None:
        """Log what nobody waits for any more, if it failed."""
        if self.given_up and isinstance(self.outcome, Raised):
            error = self.outcome.error
            _log.error("a commit of a run that was cancelled meanwhile failed: %s", error)


async def commit(effect: Commit, context: RunContext | None = None) -> Any:
    """Carry out a commit in the thread of its database, and wait for it.

    If the run, or this task, is cancelled meanwhile, that is not held up for longer than a moment:
    the commit comes to its end in the thread, and what is written after it follows it there.

    Args:
        effect: The commit.
        context: That of the run whose cancellation ends the wait.

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
    """Have a commit carried out after those that were begun before, without waiting for it."""
    _submit(_Waiting(effect, None))


class _CommitThread:
    """The thread of one database."""

    def __init__(self, home: Hashable) -> None:
        self.home = home
        # Its put() may be interrupted by a finalizer that puts, too; that of other queues may not.
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
                del item  # whatever waits for it may be garbage before this thread ends
            _carry_out(waiting)
            del first, waiting


def _carry_out(waiting: Sequence[_Waiting]) -> None:
    """Commit, together what can be, and tell who waits: each loop once."""
    begin = 0
    while begin < len(waiting):
        effect, end = waiting[begin].effect, begin + 1
        while end < len(waiting) and effect.shared and _fit(effect, waiting[end].effect):
            end += 1
        try:
            effect.storage.together(waiting[begin:end])
        except BaseException as exc:  # noqa: BLE001 - raised by those who wait
            for one in waiting[begin:end]:
                one.outcome = Raised(exc)
        begin = end
    loops: dict[asyncio.AbstractEventLoop, list[_Waiting]] = {}
    for one in waiting:
        one.is_done = True
        if one.done is not None:
            one.done.set()
        if one.future is not None:
            loops.setdefault(one.future.get_loop(), []).append(one)
        one.notify()
    for loop, those in loops.items():
        try:
            loop.call_soon_threadsafe(_wake, those)
        except RuntimeError as exc:
            _log.debug("nobody waits for %d commits any more: %s", len(those), exc)


def _fit(one: Commit, other: Commit) -> bool:
    return other.shared and one.storage == other.storage


def _wake(those: Sequence[_Waiting]) -> None:
    for one in those:
        one.wake()


_threads: dict[Hashable, _CommitThread] = {}
_guard = threading.RLock()


def _submit(waiting: _Waiting) -> None:
    home = waiting.effect.storage.home
    with _guard:
        found = _threads.get(home)
        if found is not None:
            found.queue.put(waiting)
            return
        made = _CommitThread(home)
        made.queue.put(waiting)
        made.thread.start()
        _threads[home] = made


@at_exit
def _finish() -> None:
    """Let what was begun come to its end before the interpreter does, and databases are closed."""
    with _guard:
        ending = [*_threads.values()]
        _threads.clear()  # what is begun from now on does not wait for a thread that has ended
    for found in ending:
        found.queue.put(None)
        found.thread.join()


@in_child
def _forget() -> None:
    # The threads are not on this side of the fork.
    global _guard  # noqa: PLW0603
    _guard = threading.RLock()
    _threads.clear()
