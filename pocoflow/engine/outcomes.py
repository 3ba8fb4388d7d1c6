"""What a call gave, on its way from one thread or event loop to another."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import Context
from types import coroutine
from typing import Any

__all__ = ["Raised", "awaited", "carried", "opened", "tried", "within"]


def carried(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function whose exception goes into a future, which refuses to hold StopIteration.

    A generator, such as the step loop of a synchronous run, turns it into the same RuntimeError.
    """
    try:
        return function(*arguments)
    except StopIteration as exc:
        raise RuntimeError("generator raised StopIteration") from exc


class Raised:
    """An exception on its way through a future of asyncio, which would copy a TimeoutError."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


def tried(function: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a call, or what it raised."""
    try:
        return carried(function, *arguments)
    except BaseException as exc:  # noqa: BLE001 - raised by whoever opens the outcome
        return Raised(exc)


async def awaited(awaitable: Awaitable[Any]) -> Any:
    """The result of an await, or what it raised."""
    try:
        return await awaitable
    except Exception as exc:  # noqa: BLE001 - raised by whoever opens the outcome
        return Raised(exc)


def opened(outcome: Any) -> Any:
    """Return what was returned, or raise what was raised."""
    if isinstance(outcome, Raised):
        raise outcome.error
    return outcome


@coroutine
def within(context: Context, awaited: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """Await a coroutine as part of the calling task, with the variables of another context."""
    step, given = awaited.send, None
    while True:
        try:
            waits_for = context.run(step, given)
        except StopIteration as done:
            return done.value
        try:
            given = yield waits_for
            step = awaited.send
        except GeneratorExit:
            context.run(awaited.close)
            raise
        except BaseException as exc:  # noqa: BLE001 - the coroutine decides about it
            step, given = awaited.throw, exc
