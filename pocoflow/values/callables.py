"""What a call of something gives, as far as that is seen without the call."""

from __future__ import annotations

import dis
import inspect
from collections.abc import Callable
from functools import cache, lru_cache, partial, partialmethod
from inspect import unwrap
from types import CodeType, FunctionType, MethodType
from typing import Any, Final, TypeVar

from pocoflow.errors import HookError
from pocoflow.messages import short
from pocoflow.values.remembering import remembered

FunctionT = TypeVar("FunctionT", bound=Callable[..., object])


class _Unset:
    def __repr__(self) -> str:
        return "..."


UNSET: Final[Any] = _Unset()
"""The default of an argument that ``None`` means something to, or that is not known."""


@cache
def lists_keywords(*known: type) -> Callable[[FunctionT], FunctionT]:
    """Let ``help`` and ``inspect.signature`` of a function list what its ``**`` takes.

    Args:
        known: Typed dicts of its keywords.
    """
    hints = {name: hint for one in known for name, hint in inspect.get_annotations(one).items()}
    keywords = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=UNSET,
            annotation=getattr(hint, "__forward_arg__", hint),
        )
        for name, hint in hints.items()
    ]

    def lists(function: FunctionT) -> FunctionT:
        signature = inspect.signature(function)
        own = [one for one in signature.parameters.values() if one.kind is not one.VAR_KEYWORD]
        listed: Any = function
        listed.__signature__ = signature.replace(parameters=[*own, *keywords])
        return function

    return lists


def _called(function: object) -> Any:
    """The function behind partials, bound methods and objects that can be called."""
    while True:
        if isinstance(function, (partial, partialmethod)):
            function = function.func
        elif inspect.ismethod(function):
            function = function.__func__
        elif not isinstance(function, type) and not inspect.isroutine(function):
            inner = inspect.getattr_static(type(function), "__call__", None)
            if not inspect.isfunction(inner):
                return function
            function = inner
        else:
            return function


def is_async(function: object) -> bool:
    """Whether a call of it gives something that somebody has to await, as far as that is seen."""
    inner = _called(function)
    return inspect.iscoroutinefunction(inner) or inspect.isasyncgenfunction(inner)


def unrun(function: object) -> str | None:
    """What a function is of which a call alone does nothing; ``None`` of any other."""
    inner = _called(function)
    if inspect.iscoroutinefunction(inner):
        return "a coroutine function"
    is_one = inspect.isgeneratorfunction(inner) or inspect.isasyncgenfunction(inner)
    return "a generator function" if is_one else None


def check_callback(wanted: str, callback: object, *given: str) -> None:
    """Refuse a callback that cannot take what it is given, or of which a call alone does nothing.

    Args:
        wanted: Who calls it, and how, for the message.
        callback: The callback.
        given: What it is given.

    Raises:
        HookError: Names it, and what is wrong.
    """
    if not callable(callback):
        raise HookError(f"{wanted}; {short(callback)} is not callable")
    kind = unrun(callback)
    if kind is not None:
        raise HookError(
            f"{wanted} without awaiting it or going through it; {short(callback)} is {kind}"
        )
    wrong = misfit(callback, *given)
    if wrong is not None:
        raise HookError(f"{wanted}; {wrong}")


def misfit(function: Callable[..., object], *given: object) -> str | None:
    """Why a function cannot be called with such arguments; ``None`` if it can, or nobody knows."""
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):
        return None  # builtins such as print do not tell their signature
    try:
        signature.bind(*given)
    except TypeError as exc:
        return f"{short(function)} takes {signature}: {exc}"
    return None


def check_called(gave: object) -> None:
    """Refuse what a callback returned if it is for somebody to await.

    Raises:
        HookError: It is a coroutine; names its function.
    """
    if inspect.iscoroutine(gave):
        gave.close()
        raise HookError(
            f"a callback returned a coroutine, {gave.__qualname__}(), which nobody awaits: let it "
            "do its work by itself, or start a task for it"
        )


def is_generator(function: object, *, asynchronous: bool | None = None) -> bool:
    """Whether a call of it, or of what it wraps, gives a generator in the place of a result."""
    function = function.__func__ if type(function) is MethodType else function
    return (_of_function if type(function) is FunctionType else _gives_one)(function, asynchronous)


def _gives_one(function: object, asynchronous: bool | None) -> bool:
    inner = _called(unwrap(_called(function)))
    plain_one, async_one = inspect.isgeneratorfunction(inner), inspect.isasyncgenfunction(inner)
    if asynchronous is not None:
        return async_one if asynchronous else plain_one
    return plain_one or async_one


# Asked for every phase of every node, of which there may be thousands of a class.
_of_function = remembered(_gives_one)


def forgets_to_return(function: object) -> bool:
    """Whether a function does something, and each call of it that ends gives ``None``."""
    if not inspect.isfunction(function) or hasattr(function, "__wrapped__"):
        return False
    if is_generator(function):
        return False
    return _always_gives_none(function.__code__)


# Many functions are made of one code, such as those of a factory.
@lru_cache(maxsize=4096)
def _always_gives_none(code: CodeType) -> bool:
    steps = [one for one in dis.get_instructions(code) if one.opname not in _NO_STEPS]
    if not any(one.opname not in _OF_STUBS for one in steps):
        return False  # a stub, whose body is yet to be written
    ends = [index for index, one in enumerate(steps) if one.opname.startswith("RETURN_")]
    return bool(ends) and all(_gives_none(steps, index) for index in ends)


_NO_STEPS = {"RESUME", "NOP", "CACHE", "COPY_FREE_VARS", "MAKE_CELL"}
_OF_STUBS = {"LOAD_CONST", "RETURN_VALUE", "RETURN_CONST", "RETURN_GENERATOR", "POP_TOP"}


def _gives_none(steps: list[dis.Instruction], index: int) -> bool:
    end = steps[index]
    if end.opname == "RETURN_CONST":
        return end.argval is None
    if end.opname == "RETURN_GENERATOR":
        return True  # where a coroutine begins
    before = steps[index - 1]
    is_only_way = index > 0 and not end.is_jump_target
    return is_only_way and before.opname == "LOAD_CONST" and before.argval is None


def python_code(function: object) -> CodeType | None:
    """The code of a function; ``None`` of what is none, such as a mock that has an attribute."""
    code = getattr(function, "__code__", None)
    return code if type(code) is CodeType else None


@lru_cache(maxsize=4096)
def names_in(code: CodeType) -> frozenset[str]:
    """The global names and attributes in code, and in the functions inside of it."""
    inside = (names_in(one) for one in code.co_consts if isinstance(one, CodeType))
    return frozenset(code.co_names).union(*inside)
