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
"""What a coroutine waits for that has not begun."""


class Await(NamedTuple):
    """Wait for a coroutine, at most ``timeout`` seconds, and send its result.

    ``first`` is what it waits for already, if it has begun. One that has a timeout may have a
    ``context`` of its own.
    """

    awaitable: Coroutine[Any, Any, object]
    timeout: float | None = None
    first: object = NOT_STARTED
    context: Context | None = None


class Sleep(NamedTuple):
    """Wait for some seconds, or until the run is cancelled."""

    seconds: float


class Call(NamedTuple):
    """Call a function that may block, and send its result.

    One that is given up after ``timeout`` seconds goes on in a ``context`` of its own.
    """

    function: Callable[..., object]
    arguments: tuple[object, ...]
    timeout: float | None = None
    context: Context | None = None


class Away(NamedTuple):
    """Have an executor call something, and send what ``finish`` makes of it.

    ``begin`` gives a future, and ``finish`` is called with its result; both may block, the latter
    unless ``is_quick`` says otherwise. ``give_up`` is called if nobody waits any more. A waiting
    thread stops at ``cancellation``, which is that of the run and not that of a batch: when one
    item fails, those that are at work are still finished.
    """

    begin: Callable[[], Future[Any]]
    finish: Callable[[Any], object]
    is_quick: Callable[[Any], bool]
    give_up: Callable[[], None]
    cancellation: Cancellation


class Visit(NamedTuple):
    """Call the phases of a node, which may be given up while ``exec`` is at work."""

    phases: Callable[[], None]
    give_up: Callable[[], bool]


class Storage(Protocol):
    """Where runs are kept."""

    @property
    def home(self) -> Hashable:
        """The same for all that keep what they are given in one place."""

    def together(self, commits: Sequence[Callable[[], object]], /) -> None:
        """Call functions that do not raise, so that what they write is committed at once."""


class Commit(NamedTuple):
    """Call a function that writes to storage, after those that were begun before it.

    It comes to its end even if the run is cancelled meanwhile. ``shared`` lets it be one commit
    with those of other runs; it may be called more than once then. ``is_last`` marks the end of a
    run that was cancelled, for which nobody waits long: ``None`` is sent if it takes its time.
    """

    storage: Storage
    function: Callable[..., object]
    arguments: tuple[object, ...] = ()
    shared: bool = True
    is_last: bool = False


class Finish(NamedTuple):
    """Call a function, or await what it gives, to its end even if the run is cancelled meanwhile.

    It is done in the task and the context of the line, as what it closes was opened there.
    """

    function: Callable[[], Any]
    awaits: bool


class OnLoop(NamedTuple):
    """Drive a part of a line on the event loop on which it awaits, without a return in between."""

    steps: Steps


class Gather(NamedTuple):
    """Drive jobs at the same time, ``limit`` of them at once, and return when all have ended.

    Jobs are taken from the iterator as there is room for them. ``on_loop`` drives them as tasks on
    the event loop, else each in a thread. After the first job that raises no more are taken, the
    others are asked to stop through ``stop``, and its exception is thrown.
    """

    jobs: Iterator[Job]
    limit: int
    on_loop: bool
    stop: Callable[[], None]


class Inside(NamedTuple):
    """Carry out steps in the place of those that ask for it, which go on afterwards.

    As ``yield from`` does, but however deep it goes.
    """

    steps: Steps


Driven: TypeAlias = Await | Away | Sleep | Call | Commit | Finish | Gather | OnLoop | Visit
"""What a driver carries out."""

Effect: TypeAlias = Driven | Inside
ResultT = TypeVar("ResultT", default=Any)

Effects: TypeAlias = Generator[Effect, Any, ResultT]
"""Yields effects, is sent what came of each, and gives a result."""

Steps: TypeAlias = Effects[None]
Job: TypeAlias = Steps


def awaiting(coroutine: Coroutine[Any, Any, object], on_loop: bool) -> Effects:
    """The result of a coroutine, and of one that this gives.

    On an event loop, the driver hears only of one that waits.
    """
    result: object = coroutine
    while type(result) is CoroutineType:
        if not on_loop:
            result = yield Await(result)
            continue
        try:
            first = result.send(None)
        except StopIteration as done:
            result = done.value
        else:
            result = yield Await(result, first=first)
    return result
