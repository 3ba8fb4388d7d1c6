"""Exceptions to values and back: to raise what another process raised, as the same class."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from pydantic_core import ValidationError

from pocoflow.errors import NotStorableError, UnknownClassError
from pocoflow.messages import short
from pocoflow.values.classes import Classes, name_of
from pocoflow.values.decoding import loads
from pocoflow.values.encoding import dumps, keep
from pocoflow.values.failures import describe_error, escaped

_DEEPEST = 8
"""The maximum length of a chain of causes."""


@dataclass(frozen=True, slots=True)
class Thrown:
    """An exception as a value that can be stored.

    Attributes:
        kind: Its class, ``module:qualname``.
        type_name: A readable form of its class.
        message: Its text.
        trace: Its traceback, as text.
        args: The arguments from which its class creates an equal one: each the text of a value, or
            another exception, or a list or dict of these.
        state: Its attributes, likewise, including its notes.
        cause: The exception it was raised from.
        context: The exception that was being handled when it was raised.
        is_suppressed: Whether the context is not shown.
        lost: The parts of it that could not be stored.
    """

    kind: str
    type_name: str
    message: str
    trace: str
    args: tuple[object, ...] = ()
    state: Mapping[str, object] = field(default_factory=dict)
    cause: Thrown | None = None
    context: Thrown | None = None
    is_suppressed: bool = False
    lost: tuple[str, ...] = ()

    @classmethod
    def of(cls, error: BaseException, depth: int = _DEEPEST) -> Thrown:
        """An exception as a value, without the parts that cannot be stored."""
        lost: list[str] = []

        def part(name: str, value: object) -> Any:
            if isinstance(value, BaseException):
                return cls.of(value, depth - 1) if depth > 0 else dumps(escaped(str(value)))
            if _has_error(value):
                if isinstance(value, dict):
                    return {key: part(name, item) for key, item in value.items()}
                return [part(name, item) for item in cast("list[object]", value)]
            try:
                text, marks = keep(value, name)
            except NotStorableError:
                lost.append(name)
                return dumps(escaped(short(value)))
            lost.extend(reason.partition(": ")[0] for _, reason in marks)
            return text

        args = tuple(part(f"argument {n}", arg) for n, arg in enumerate(_arguments(error), 1))
        state = {name: part(name, item) for name, item in getattr(error, "__dict__", {}).items()}
        cause, context = error.__cause__, error.__context__
        return cls(
            name_of(type(error)),
            *describe_error(error),
            args=args,
            state={name: text for name, text in state.items() if name not in lost},
            cause=cls.of(cause, depth - 1) if depth > 0 and cause is not None else None,
            context=cls.of(context, depth - 1) if depth > 0 and context is not None else None,
            is_suppressed=error.__suppress_context__,
            lost=tuple(lost),
        )

    def raised(self, otherwise: Callable[[Thrown], BaseException]) -> BaseException:
        """The exception, created without running the code of its class.

        Args:
            otherwise: Creates a substitute if its class is not found, or cannot be created.
        """
        try:
            error = self._rebuilt(otherwise)
        except Exception:  # noqa: BLE001 - for any failure, a substitute says what was raised
            error = otherwise(self)
        below = {"__cause__": self.cause, "__context__": self.context}
        for name, thrown in below.items():
            if thrown is not None:
                # Not setattr, which a frozen dataclass refuses.
                BaseException.__setattr__(error, name, thrown.raised(otherwise))
        BaseException.__setattr__(error, "__suppress_context__", self.is_suppressed)
        return error

    def _rebuilt(self, otherwise: Callable[[Thrown], BaseException]) -> BaseException:
        kind = Classes().find(self.kind)
        if not issubclass(kind, BaseException):
            raise UnknownClassError(f"{self.kind} is no exception", class_name=self.kind)

        def read(part: Any) -> Any:
            if isinstance(part, Thrown):
                return part.raised(otherwise)
            if isinstance(part, dict):
                return {key: read(item) for key, item in part.items()}
            return [read(item) for item in part] if isinstance(part, list) else loads(part)

        args = tuple(map(read, self.args))
        if issubclass(kind, ValidationError):
            return cast(BaseException, ValidationError.from_exception_data(*args))
        base: Any = kind
        while base.__module__ != "builtins":
            base = base.__base__  # the builtin base, which allocates it
        error: BaseException = base.__new__(kind, *args)
        base.__init__(error, *args)
        vars(error).update({name: read(part) for name, part in self.state.items()})
        return error


def _has_error(value: object) -> bool:
    if not isinstance(value, dict | list | tuple):
        return False
    parts = value.values() if isinstance(value, dict) else value
    return any(isinstance(part, BaseException) or _has_error(part) for part in parts)


def _arguments(error: BaseException) -> tuple[object, ...]:
    """The arguments from which its class creates an equal one."""
    if isinstance(error, ValidationError):
        wanted = ("type", "loc", "input", "ctx")
        return error.title, [
            {name: part for name, part in details.items() if name in wanted}
            for details in error.errors(include_url=False)
        ]
    if isinstance(error, OSError) and error.filename is not None and len(error.args) == 2:
        ends = () if error.filename2 is None else (None, error.filename2)
        return (*error.args, error.filename, *ends)
    return error.args
