"""What a call gave, on its way from one thread or event loop to another."""

from __future__ import annotations

from collections.abc import Callable
from types import CoroutineType
from typing import TypeVar, cast

from pocoflow.errors import PocoflowError
from pocoflow.messages import is_users


class Carried(BaseException):
    """Carries an exception of the user's where it would be taken for something else.

    A GeneratorExit goes into a generator so, which would take it for its end, and what ends the
    process out of a task, as asyncio would raise that out of the loop.
    """

    def __init__(self, error: BaseException) -> None:
        super().__init__(error)
        self.error = error


def closes(error: BaseException) -> bool:
    """Whether it closes a generator of the engine, and no code of the user has raised it."""
    trace = error.__traceback__
    if type(error) is not GeneratorExit or trace is None:
        return False
    while trace.tb_next is not None:
        trace = trace.tb_next
    home: str = trace.tb_frame.f_globals.get("__name__", "")
    return home.startswith("pocoflow.engine.")


T = TypeVar("T")
ErrorT = TypeVar("ErrorT", bound=BaseException)


def own(error: ErrorT) -> ErrorT:
    """The exception as user code raised it.

    Python makes a RuntimeError of a StopIteration that leaves a generator, such as the step loop,
    or a coroutine, and gives it the StopIteration as its cause.
    """
    found: BaseException = error
    if isinstance(found, Carried):
        found = found.error
    cause = found.__cause__ if type(found) is RuntimeError else None
    if isinstance(cause, StopIteration) and cause.__traceback__ is not None:
        home = cause.__traceback__.tb_frame.f_globals.get("__name__", "")
        is_ours = home == "pocoflow.engine" or home.startswith("pocoflow.engine.")
        if found.args == ("coroutine raised StopIteration",) or is_ours:
            found = cause
    return cast(ErrorT, found)


def without_ours(error: ErrorT) -> ErrorT:
    """The exception; an error of this library that has no frame of the user's code, without frames.

    What it says is for the user, and the traceback on record has them all.
    """
    at = error.__traceback__ if isinstance(error, PocoflowError) else None
    while at is not None:
        if is_users(at.tb_frame):
            return error
        at = at.tb_next
    return error.with_traceback(None) if isinstance(error, PocoflowError) else error


class Raised:
    """An exception on its way to whoever raises it; a future would copy a TimeoutError."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


def tried(function: Callable[..., T], *arguments: object) -> T | Raised:
    """The result of a call, or what it raised."""
    try:
        return function(*arguments)
    except BaseException as exc:  # noqa: BLE001 - raised by whoever opens the outcome
        return Raised(exc)


def close_unwanted(outcome: object) -> None:
    """Close a coroutine that nobody will await; else Python complains of that at some time."""
    if isinstance(outcome, CoroutineType):
        outcome.close()


def opened(outcome: T | Raised) -> T:
    """Return what was returned, or raise what was raised."""
    if isinstance(outcome, Raised):
        error = outcome.error
        raise Carried(error) if isinstance(error, GeneratorExit) else error
    return outcome
