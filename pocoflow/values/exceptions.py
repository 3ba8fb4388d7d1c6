"""Exceptions to values and back: what another process raised is raised here as the same class."""

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
"""So many causes of causes are kept."""


@dataclass(frozen=True, slots=True)
class Thrown:
    """An exception as a value that can be stored.

    Attributes:
        kind: Its class, ``module:qualname``.
        type_name: The same for people.
        message: Its text.
        trace: Its traceback, as text.
        args: What its class makes an equal one of: the text of a value, or another exception, or a
            list or dict of these.
        state: Its attributes, likewise; its notes are among them.
        cause: What it was raised from.
        context: What was being handled when it was raised.
        is_suppressed: Whether that is not shown.
        lost: What of it could not be stored.
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
        """An exception as a value, without what cannot be stored of it."""
        lost: list[str] = []

        def part(name: str, value: object) -> Any:
            if isinstance(value, BaseException):
                return cls.of(value, depth - 1) if depth > 0 else dumps(escaped(str(value)))
            if _has_error(value):
                if isinstance(value, dict):
                    return {key: part(name, one) for key, one in value.items()}
                return [part(name, one) for one in cast("list[object]", value)]
            try:
                text, marks = keep(value, name)
            except NotStorableError:
                lost.append(name)
                return dumps(escaped(short(value)))
            lost.extend(said.partition(": ")[0] for _, said in marks)
            return text

        args = tuple(part(f"argument {n}", one) for n, one in enumerate(_arguments(error), 1))
        state = {name: part(name, one) for name, one in getattr(error, "__dict__", {}).items()}
        cause, context = error.__cause__, error.__context__
        type_name, message, trace = describe_error(error)
        return cls(
            name_of(type(error)),
            type_name or "",
            message or "",
            trace or "",
            args=args,
            state={name: one for name, one in state.items() if name not in lost},
            cause=cls.of(cause, depth - 1) if depth > 0 and cause is not None else None,
            context=cls.of(context, depth - 1) if depth > 0 and context is not None else None,
            is_suppressed=error.__suppress_context__,
            lost=tuple(lost),
        )

    def raised(self, otherwise: Callable[[Thrown], BaseException]) -> BaseException:
        """The exception, made without the code of its class.

        Args:
            otherwise: Makes what stands for one whose class is not found here, or cannot be made.
        """
        try:
            error = self._made(otherwise)
        except Exception:  # noqa: BLE001 - whatever it is, the other one says what was raised
            error = otherwise(self)
        below = {"__cause__": self.cause, "__context__": self.context}
        for name, thrown in below.items():
            if thrown is not None:
                # Not setattr: that of a frozen dataclass refuses.
                BaseException.__setattr__(error, name, thrown.raised(otherwise))
        BaseException.__setattr__(error, "__suppress_context__", self.is_suppressed)
        return error

    def _made(self, otherwise: Callable[[Thrown], BaseException]) -> BaseException:
        kind = Classes().find(self.kind)
        if not issubclass(kind, BaseException):
            raise UnknownClassError(f"{self.kind} is no exception", class_name=self.kind)

        def read(part: Any) -> Any:
            if isinstance(part, Thrown):
                return part.raised(otherwise)
            if isinstance(part, dict):
                return {key: read(one) for key, one in part.items()}
            return [read(one) for one in part] if isinstance(part, list) else loads(part)

        args = tuple(map(read, self.args))
        if issubclass(kind, ValidationError):
            return cast(BaseException, ValidationError.from_exception_data(*args))
        base: Any = kind
        while base.__module__ != "builtins":
            base = base.__base__  # the one whose memory it has
        error: BaseException = base.__new__(kind, *args)
        base.__init__(error, *args)
        vars(error).update({name: read(part) for name, part in self.state.items()})
        return error


def _has_error(value: object) -> bool:
    if not isinstance(value, dict | list | tuple):
        return False
    parts = value.values() if isinstance(value, dict) else value
    return any(isinstance(one, BaseException) or _has_error(one) for one in parts)


def _arguments(error: BaseException) -> tuple[object, ...]:
    """What its class makes an equal one of."""
    if isinstance(error, ValidationError):
        wanted = ("type", "loc", "input", "ctx")
        return error.title, [
            {name: part for name, part in one.items() if name in wanted}
            for one in error.errors(include_url=False)
        ]
    if isinstance(error, OSError) and error.filename is not None and len(error.args) == 2:
        ends = () if error.filename2 is None else (None, error.filename2)
        return (*error.args, error.filename, *ends)
    return error.args
