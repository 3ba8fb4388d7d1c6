"""What calling something returns, as far as can be told without the call."""

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
"""The default of an argument for which ``None`` has a meaning, or whose default is unknown."""


@cache
def lists_keywords(*dicts: type) -> Callable[[FunctionT], FunctionT]:
    """Have ``help`` and ``inspect.signature`` of a function list the keywords of its ``**``.

    Args:
        dicts: Typed dicts of its keywords.
    """
    hints = {name: hint for dict_ in dicts for name, hint in inspect.get_annotations(dict_).items()}
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
        named = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        listed: Any = function
        listed.__signature__ = signature.replace(parameters=[*named, *keywords])
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
    """Whether a call of it returns something that must be awaited, as far as can be told."""
    inner = _called(function)
    return inspect.iscoroutinefunction(inner) or inspect.isasyncgenfunction(inner)


def unrun(function: object) -> str | None:
    """The kind of a function whose mere call does nothing; ``None`` for any other."""
    inner = _called(function)
    if inspect.iscoroutinefunction(inner):
        return "a coroutine function"
    yields = inspect.isgeneratorfunction(inner) or inspect.isasyncgenfunction(inner)
    return "a generator function" if yields else None


def check_callback(wanted: str, callback: object, *given: str) -> None:
    """Refuse a callback that cannot take its arguments, or whose mere call does nothing.

    Args:
        wanted: What calls it, and how, for the message.
        callback: The callback.
        given: Its arguments.

    Raises:
        HookError: Names it, and the problem.
    """
    wrong = unfit(callback, *given)
    if wrong is not None:
        raise HookError(f"{wanted}; {wrong}")


def unfit(function: object, *given: object) -> str | None:
    """Why a call with these arguments would not return a result; ``None`` if it would."""
    if not callable(function):
        return f"{short(function)} is not callable"
    if (kind := unrun(function)) is not None:
        return f"{short(function)} is {kind}, and nobody would await it or go through it"
    return misfit(function, *given)


def misfit(function: Callable[..., object], *given: object) -> str | None:
    """Why a function cannot be called with these arguments; ``None`` if it can, or is unknown."""
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):
        return None  # some builtins have no signature
    try:
        signature.bind(*given)
    except TypeError as exc:
        return f"{short(function)} takes {signature}: {exc}"
    return None


def check_called(result: object) -> None:
    """Refuse the result of a callback if it must be awaited.

    Raises:
        HookError: It is a coroutine; names its function.
    """
    if inspect.iscoroutine(result):
        result.close()
        raise HookError(
            f"a callback returned a coroutine, {result.__qualname__}(), which nobody awaits: let "
            "it do its work by itself, or start a task for it"
        )


def is_generator(function: object, *, asynchronous: bool | None = None) -> bool:
    """Whether a call of it, or of what it wraps, returns a generator instead of a result."""
    function = function.__func__ if type(function) is MethodType else function
    return (_of_function if type(function) is FunctionType else _yields)(function, asynchronous)


def _yields(function: object, asynchronous: bool | None) -> bool:
    inner = _called(unwrap(_called(function)))
    plain, of_async = inspect.isgeneratorfunction(inner), inspect.isasyncgenfunction(inner)
    if asynchronous is not None:
        return of_async if asynchronous else plain
    return plain or of_async


# Called for every phase of every node; a class may have thousands of nodes.
_of_function = remembered(_yields)


def forgets_to_return(function: object) -> bool:
    """Whether a function does something, and always returns ``None``."""
    if not inspect.isfunction(function) or hasattr(function, "__wrapped__"):
        return False
    if is_generator(function):
        return False
    return _always_returns_none(function.__code__)


# Many functions share one code object, such as those of a factory.
@lru_cache(maxsize=4096)
def _always_returns_none(code: CodeType) -> bool:
    steps = [step for step in dis.get_instructions(code) if step.opname not in _NO_STEPS]
    if all(step.opname in _OF_STUBS for step in steps):
        return False  # a stub without a body
    ends = [index for index, step in enumerate(steps) if step.opname.startswith("RETURN_")]
    return bool(ends) and all(_returns_none(steps, index) for index in ends)


_NO_STEPS = {"RESUME", "NOP", "CACHE", "COPY_FREE_VARS", "MAKE_CELL"}
_OF_STUBS = {"LOAD_CONST", "RETURN_VALUE", "RETURN_CONST", "RETURN_GENERATOR", "POP_TOP"}


def _returns_none(steps: list[dis.Instruction], index: int) -> bool:
    end = steps[index]
    if end.opname == "RETURN_CONST":
        return end.argval is None
    if end.opname == "RETURN_GENERATOR":
        return True  # the start of a coroutine
    before = steps[index - 1]
    is_only_path = index > 0 and not end.is_jump_target
    return is_only_path and before.opname == "LOAD_CONST" and before.argval is None


def python_code(function: object) -> CodeType | None:
    """The code of a function; ``None`` for anything else, such as a mock with that attribute."""
    code = getattr(function, "__code__", None)
    return code if type(code) is CodeType else None


@lru_cache(maxsize=4096)
def names_in(code: CodeType) -> frozenset[str]:
    """The global names and attributes in code, and in the functions nested in it."""
    nested = (names_in(const) for const in code.co_consts if isinstance(const, CodeType))
    return frozenset(code.co_names).union(*nested)
