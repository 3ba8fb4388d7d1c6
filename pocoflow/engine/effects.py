"""What the step loop asks its driver to do: wait, sleep, call something that may block."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

__all__ = ["Await", "Call", "Effect", "Gather", "Job", "Sleep", "Steps"]


@dataclass(frozen=True, slots=True)
class Await:
    """Wait for an awaitable, at most ``timeout`` seconds, and send its result."""

    awaitable: Awaitable[Any]
    timeout: float | None = None


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait for some seconds, or until the run is cancelled."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Call:
    """Call a function that may block, at most ``timeout`` seconds, and send its result.

    ``must_finish`` marks a commit: it is waited for even if the run is cancelled meanwhile. With
    ``wait=False`` it is only begun, and nothing is sent.
    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    timeout: float | None = None
    must_finish: bool = False
    wait: bool = True


@dataclass(frozen=True, slots=True)
class Gather:
    """Drive jobs at the same time, ``limit`` of them at once, and return when all have ended.

    Jobs are taken from the iterator as there is room for them. ``on_loop`` drives them as tasks on
    the event loop, else each in a thread. After the first job that raises no more are taken, the
    others are asked to stop through ``stop``, and its exception is thrown.
    """

    jobs: Iterator[Job]
    limit: int
    on_loop: bool
    stop: Callable[[], None]


Effect: TypeAlias = Await | Sleep | Call | Gather
Steps: TypeAlias = Generator[Effect, Any, None]
Job: TypeAlias = Generator[Effect, Any, None]
