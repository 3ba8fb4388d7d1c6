"""The outcome of a call, on its way from one thread or event loop to another."""

from __future__ import annotations

from collections.abc import Callable
from types import CoroutineType
from typing import TypeVar, cast

from pocoflow.errors import PocoflowError
from pocoflow.messages import is_users


class Carried(BaseException):
    """Carries an exception of the user's where it would be misinterpreted.

    A GeneratorExit travels so into a generator, which would take it as a request to close, and what
    ends the process travels so out of a task, as asyncio would raise that out of the loop.
    """

    def __init__(self, error: BaseException) -> None:
        super().__init__(error)
        self.error = error


def closes(error: BaseException) -> bool:
    """Whether an error closes a generator of the engine, and was not raised by user code."""
    trace = error.__traceback__
    if type(error) is not GeneratorExit or trace is None:
        return False
    while trace.tb_next is not None:
        trace = trace.tb_next
    home: str = trace.tb_frame.f_globals.get("__name__", "")
    return home.startswith("pocoflow.engine.")


T = TypeVar("T")
ErrorT = TypeVar("ErrorT", bound=BaseException)


def unwrapped(error: ErrorT) -> ErrorT:
    """The exception as user code raised it.

    Python makes a RuntimeError of a StopIteration that leaves a generator, such as the step loop,
    or a coroutine, and gives it the StopIteration as its cause.
    """
    original: BaseException = error
    if isinstance(original, Carried):
        original = original.error
    cause = original.__cause__ if type(original) is RuntimeError else None
    if isinstance(cause, StopIteration) and cause.__traceback__ is not None:
        home = cause.__traceback__.tb_frame.f_globals.get("__name__", "")
        is_ours = home == "pocoflow.engine" or home.startswith("pocoflow.engine.")
        if original.args == ("coroutine raised StopIteration",) or is_ours:
            original = cause
    return cast(ErrorT, original)


def without_own_frames(error: ErrorT) -> ErrorT:
    """The exception; without its traceback if it is pocoflow's and no frame in it is the user's.

    Its message is for the user, and the recorded traceback has every frame.
    """
    trace = error.__traceback__ if isinstance(error, PocoflowError) else None
    while trace is not None:
        if is_users(trace.tb_frame):
            return error
        trace = trace.tb_next
    return error.with_traceback(None) if isinstance(error, PocoflowError) else error


class Raised:
    """An exception on its way to where it is raised; a future would copy a TimeoutError."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


def tried(function: Callable[..., T], *arguments: object) -> T | Raised:
    """The result of a call, or what it raised."""
    try:
        return function(*arguments)
    except BaseException as exc:  # noqa: BLE001 - raised when the outcome is opened
        return Raised(exc)


def close_unwanted(outcome: object) -> None:
    """Close a coroutine that nobody will await; otherwise Python warns about it later."""
    if isinstance(outcome, CoroutineType):
        outcome.close()


def opened(outcome: T | Raised) -> T:
    """Return what was returned, or raise what was raised."""
    if isinstance(outcome, Raised):
        error = outcome.error
        raise Carried(error) if isinstance(error, GeneratorExit) else error
    return outcome
