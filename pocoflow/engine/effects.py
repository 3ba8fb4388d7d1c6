"""What the step loop asks its driver to do: wait, sleep, call something that may block."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Hashable, Iterator, Sequence
from concurrent.futures import Future
from contextvars import Context
from types import CoroutineType
from typing import Any, NamedTuple, Protocol, TypeAlias

from typing_extensions import TypeVar

from pocoflow.nodes.context import Cancellation

NOT_STARTED: object = object()
"""What a coroutine awaits before it has started."""


class Await(NamedTuple):
    """Wait for a coroutine, at most ``timeout`` seconds, and send its result.

    ``first`` is what the coroutine awaits already, if it has started. A coroutine with a timeout
    may have its own ``context``.
    """

    awaitable: Coroutine[Any, Any, object]
    timeout: float | None = None
    first: object = NOT_STARTED
    context: Context | None = None


class Sleep(NamedTuple):
    """Wait for a number of seconds, or until the run is cancelled."""

    seconds: float


class Call(NamedTuple):
    """Call a function that may block, and send its result.

    A call that is abandoned after ``timeout`` seconds continues in its own ``context``.
    """

    function: Callable[..., object]
    arguments: tuple[object, ...]
    timeout: float | None = None
    context: Context | None = None


class Away(NamedTuple):
    """Submit work to an executor, and send what ``finish`` makes of its result.

    ``begin`` returns a future, and ``finish`` is called with its result; both may block.
    ``give_up`` is called if nobody waits any longer. A waiting thread stops at ``cancellation``,
    which is that of the run and not that of a batch: when one item fails, those already running are
    still finished.
    """

    begin: Callable[[], Future[Any]]
    finish: Callable[[Any], object]
    give_up: Callable[[], None]
    cancellation: Cancellation


class Visit(NamedTuple):
    """Call the phases of a node, which may be abandoned while ``exec`` is running."""

    phases: Callable[[], None]
    give_up: Callable[[], bool]


class Storage(Protocol):
    """Where runs are stored."""

    @property
    def home(self) -> Hashable:
        """Equal for all storages that write to the same location."""

    def together(self, commits: Sequence[Callable[[], object]], /) -> None:
        """Call functions that do not raise, and commit what they write in one transaction."""


class Commit(NamedTuple):
    """Call a function that writes to storage, after the commits that were started before it.

    It runs to completion even if the run is cancelled meanwhile. ``shared`` allows it to be one
    commit with those of other runs; it may then be called more than once. ``is_last`` marks the end
    of a cancelled run, for which nobody waits long: ``None`` is sent if it takes longer.
    """

    storage: Storage
    function: Callable[..., object]
    arguments: tuple[object, ...] = ()
    shared: bool = True
    is_last: bool = False


class Finish(NamedTuple):
    """Call a function, or await what it returns, to completion even if the run is cancelled.

    This happens in the task and the context of the line, where what it closes was opened.
    """

    function: Callable[[], Any]
    awaits: bool


class OnLoop(NamedTuple):
    """Drive part of a line on the event loop on which it awaits, without returning in between."""

    steps: Steps


class Gather(NamedTuple):
    """Drive jobs concurrently, at most ``limit`` at once, and return when all have ended.

    Jobs are taken from the iterator as capacity permits. ``on_loop`` drives them as tasks on the
    event loop, otherwise each runs in a thread. Once a job raises, no more are taken, ``stop`` asks
    the running ones to stop, and the exception is thrown.
    """

    jobs: Iterator[Job]
    limit: int
    on_loop: bool
    stop: Callable[[], None]


class Inside(NamedTuple):
    """Carry out steps in place of those that yield this, which continue afterwards.

    Equivalent to ``yield from``, but to any depth.
    """

    steps: Steps


Driven: TypeAlias = Await | Away | Sleep | Call | Commit | Finish | Gather | OnLoop | Visit
"""What a driver carries out."""

Effect: TypeAlias = Driven | Inside
ResultT = TypeVar("ResultT", default=Any)

Effects: TypeAlias = Generator[Effect, Any, ResultT]
"""Yields effects, is sent the result of each, and returns a result."""

Steps: TypeAlias = Effects[None]
Job: TypeAlias = Steps


def awaiting(coroutine: Coroutine[Any, Any, object], on_loop: bool) -> Effects:
    """The result of a coroutine, and of any coroutine that it returns.

    On an event loop, the driver sees only a coroutine that suspends.
    """
    result: object = coroutine
    while type(result) is CoroutineType:
        if not on_loop:
            result = yield Await(result)
            continue
        try:
            first = result.send(None)
        except StopIteration as stop:
            result = stop.value
        else:
            result = yield Await(result, first=first)
    return result
