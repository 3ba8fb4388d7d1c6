"""What the step loop asks its driver to do: wait, sleep, call something that may block."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Iterator
from typing import Any, TypeAlias

__all__ = ["Await", "Call", "Effect", "Gather", "Job", "Sleep", "Steps"]


class Await:
    """Wait for an awaitable, at most ``timeout`` seconds, and send its result."""

    __slots__ = ("awaitable", "timeout")

    def __init__(self, awaitable: Awaitable[Any], timeout: float | None = None) -> None:
        self.awaitable = awaitable
        self.timeout = timeout


class Sleep:
    """Wait for some seconds, or until the run is cancelled."""

    __slots__ = ("seconds",)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds


class Call:
    """Call a function that may block, at most ``timeout`` seconds, and send its result.

    ``must_finish`` marks a commit: it is waited for even if the run is cancelled meanwhile. With
    ``wait=False`` it is only begun, and nothing is sent.
    """

    __slots__ = ("arguments", "function", "must_finish", "timeout", "wait")

    def __init__(
        self,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        timeout: float | None = None,
        must_finish: bool = False,
        wait: bool = True,
    ) -> None:
        self.function = function
        self.arguments = arguments
        self.timeout = timeout
        self.must_finish = must_finish
        self.wait = wait


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


Effect: TypeAlias = Await | Sleep | Call | Gather
Steps: TypeAlias = Generator[Effect, Any, None]
Job: TypeAlias = Generator[Effect, Any, None]
