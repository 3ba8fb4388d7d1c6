"""What the step loop asks its driver to do: wait, sleep, call something that may block."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Hashable, Iterator, Sequence
from concurrent.futures import Future
from contextvars import Context
from typing import Any, Protocol, TypeAlias

from pocoflow.engine.outcomes import NOT_BEGUN
from pocoflow.nodes.context import Cancellation


class Await:
    """Wait for a coroutine, at most ``timeout`` seconds, and send its result.

    ``first`` is what it waits for already, if it has begun.
    """

    __slots__ = ("awaitable", "first", "timeout")

    def __init__(
        self,
        awaitable: Coroutine[Any, Any, Any],
        timeout: float | None = None,
        first: object = NOT_BEGUN,
    ) -> None:
        self.awaitable = awaitable
        self.timeout = timeout
        self.first = first


class Sleep:
    """Wait for some seconds, or until the run is cancelled."""

    __slots__ = ("seconds",)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds


class Call:
    """Call a function that may block, and send its result.

    One that is given up after ``timeout`` seconds goes on in a ``context`` of its own.
    """

    __slots__ = ("arguments", "context", "function", "timeout")

    def __init__(
        self,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        timeout: float | None = None,
        context: Context | None = None,
    ) -> None:
        self.function = function
        self.arguments = arguments
        self.timeout = timeout
        self.context = context


class Away:
    """Have an executor call something, and send what ``finish`` makes of it.

    ``begin`` gives a future, and ``finish`` is called with its result; both may block, the latter
    unless ``is_quick`` says otherwise. ``give_up`` is called if nobody waits any more. A thread
    waits until ``cancellation`` is asked for: that of the run, as what others of a batch work on
    when one fails is finished work.
    """

    __slots__ = ("begin", "cancellation", "finish", "give_up", "is_quick")

    def __init__(
        self,
        begin: Callable[[], Future[Any]],
        finish: Callable[[Any], Any],
        is_quick: Callable[[Any], bool],
        give_up: Callable[[], None],
        cancellation: Cancellation,
    ) -> None:
        self.begin = begin
        self.cancellation = cancellation
        self.finish = finish
        self.is_quick = is_quick
        self.give_up = give_up


class Visit:
    """Call the phases of a node, which may be given up while ``exec`` is at work."""

    __slots__ = ("give_up", "phases")

    def __init__(self, phases: Callable[[], None], give_up: Callable[[], bool]) -> None:
        self.phases = phases
        self.give_up = give_up


class Storage(Protocol):
    """Where runs are kept."""

    @property
    def home(self) -> Hashable:
        """The same for all that keep what they are given in one place."""

    def together(self, commits: Sequence[Callable[[], object]], /) -> None:
        """Call functions that do not raise, so that what they write is committed at once."""


class Commit:
    """Call a function that writes to storage, after those that were begun before it.

    It comes to its end even if the run is cancelled meanwhile. ``shared`` lets it be one commit
    with those of other runs; it may be called more than once then. ``is_last`` marks the end of a
    run that was cancelled, for which nobody waits long: ``None`` is sent if it takes its time.
    """

    __slots__ = ("arguments", "function", "is_last", "shared", "storage")

    def __init__(
        self,
        storage: Storage,
        function: Callable[..., Any],
        arguments: tuple[Any, ...] = (),
        shared: bool = True,
        is_last: bool = False,
    ) -> None:
        self.storage = storage
        self.function = function
        self.arguments = arguments
        self.shared = shared
        self.is_last = is_last


class Finish:
    """Call a function, or await what it gives, to its end even if the run is cancelled meanwhile.

    It is done in the task and the context of the line, as what it closes was opened there.
    """

    __slots__ = ("awaits", "function")

    def __init__(self, function: Callable[[], Any], awaits: bool) -> None:
        self.function = function
        self.awaits = awaits


class OnLoop:
    """Drive a part of a line on the event loop on which it awaits, without a way back between."""

    __slots__ = ("steps",)

    def __init__(self, steps: Steps) -> None:
        self.steps = steps


class Gather:
    """Drive jobs at the same time, ``limit`` of them at once, and return when all have ended.

    Jobs are taken from the iterator as there is room for them. ``on_loop`` drives them as tasks on
    the event loop, else each in a thread. After the first job that raises no more are taken, the
    others are asked to stop through ``stop``, and its exception is thrown.
    """

    __slots__ = ("jobs", "limit", "on_loop", "stop")

    def __init__(
        self, jobs: Iterator[Job], limit: int, on_loop: bool, stop: Callable[[], None]
    ) -> None:
        self.jobs = jobs
        self.limit = limit
        self.on_loop = on_loop
        self.stop = stop


class Inside:
    """Carry out steps in the place of those that ask for it, which go on afterwards.

    As ``yield from`` does, but however deep it goes.
    """

    __slots__ = ("steps",)

    def __init__(self, steps: Steps) -> None:
        self.steps = steps


Driven: TypeAlias = Await | Away | Sleep | Call | Commit | Finish | Gather | OnLoop | Visit
"""What a driver carries out."""

Effect: TypeAlias = Driven | Inside
Steps: TypeAlias = Generator[Effect, Any, None]
Job: TypeAlias = Generator[Effect, Any, None]


def awaiting(coroutine: Coroutine[Any, Any, Any], on_loop: bool) -> Generator[Effect, Any, Any]:
    """The result of a coroutine. On an event loop, the driver hears only of one that waits."""
    if not on_loop:
        return (yield Await(coroutine))
    try:
        first = coroutine.send(None)
    except StopIteration as done:
        return done.value
    return (yield Await(coroutine, first=first))
