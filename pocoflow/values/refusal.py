"""Why a value cannot be stored, and where in the value the offending part is."""

from __future__ import annotations

import io
import types
from collections.abc import Awaitable, Callable, Iterator
from enum import Enum, auto
from functools import partial

from pocoflow.errors import NotStorableError
from pocoflow.messages import package_of

_SHOWN_STEPS = 12
_SHOWN_KEY = 60
_RESOURCE = "give it to the run as a resource"
_ADVICE = (
    "it is not a kind of value that can be rebuilt; make it a dataclass or a Pydantic model, "
    f"or {_RESOURCE}"
)


class Step(Enum):
    """The kinds of steps from a container to a part of it."""

    ITEM = auto()
    KEY = auto()
    ATTRIBUTE = auto()
    MEMBER = auto()


class Refusal(Exception):
    """Raised at the offending part; each enclosing container adds the step that leads to it."""

    def __init__(self, value: object, reason: str) -> None:
        super().__init__(reason)
        self.value = value
        self.reason = reason
        self.trail: list[tuple[object, Step, object]] = []

    def came_from(self, container: object, step: Step, key: object = None) -> None:
        """Add the step from a container to the part that was refused."""
        self.trail.append((container, step, key))

    def came_through(self, container: object, part: object, step: Step | None) -> None:
        """Replace the content of a container, a plain list or dict, with the container itself."""
        if self.value is part and type(part) in (list, dict):
            self.value = container
        elif self.trail and self.trail[-1][0] is part:
            _, plain_step, key = self.trail[-1]
            self.trail[-1] = container, step or plain_step, key

    def error(self) -> NotStorableError:
        """The error for the caller of the codec."""
        steps = self.trail[::-1]
        shown = "".join(_show(step, key) for _, step, key in steps[:_SHOWN_STEPS])
        path = shown + ("..." if len(steps) > _SHOWN_STEPS else "")
        return NotStorableError(path, type_name(type(self.value)), self.reason)


class TooDeep(Refusal):
    """The value is nested too deeply, or contains itself."""

    def __init__(self, value: object, limit: int) -> None:
        super().__init__(value, f"it is nested more than {limit} levels deep")

    def error(self) -> NotStorableError:
        """The error; for a cycle, its path leads to the point where the cycle closes."""
        seen: set[int] = set()
        for depth, (container, _, _) in enumerate(self.trail[::-1]):
            if id(container) in seen:
                cycle = Refusal(container, "it contains itself")
                cycle.trail = self.trail[len(self.trail) - depth :]
                return cycle.error()
            seen.add(id(container))
        return super().error()


def _show(step: Step, key: object) -> str:
    if step is Step.ATTRIBUTE:
        return f".{key}"
    if step is Step.KEY:
        return ".keys()"
    if step is Step.MEMBER:
        return "{...}"
    plain = key is None or type(key) in (str, int, float, bool, bytes)
    text = repr(key) if plain else f"<{type(key).__qualname__}>"
    return f"[{text if len(text) <= _SHOWN_KEY else text[: _SHOWN_KEY - 3] + '...'}]"


def type_name(kind: type) -> str:
    """The name of a class with its module, unless it is a builtin."""
    module = kind.__module__
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"


_FUNCTIONS = (
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    types.MethodWrapperType,
    types.WrapperDescriptorType,
    types.MethodDescriptorType,
    partial,
)


_LOCKS = ("lock", "RLock", "Lock", "Event", "Condition", "Semaphore", "BoundedSemaphore", "Barrier")


def _is_of_arrays(method: str, value: object) -> bool:
    """Whether a value is from an array library, and has a method that returns plain values."""
    return package_of(type(value)) in ("numpy", "pandas", "torch") and hasattr(value, method)


_REASONS: tuple[tuple[Callable[[object], bool], str], ...] = (
    (
        lambda value: isinstance(value, type | types.GenericAlias),
        "a class is code, not data; store its name",
    ),
    (lambda value: isinstance(value, _FUNCTIONS), f"a function is code, not data; {_RESOURCE}"),
    (lambda value: isinstance(value, types.ModuleType), "a module is code, not data"),
    (
        lambda value: hasattr(type(value), "get_secret_value"),
        f"a secret must not be written in clear; {_RESOURCE}",
    ),
    (
        lambda value: isinstance(value, BaseException),
        "an exception carries code and frames; store its type and text",
    ),
    *(
        (
            partial(_is_of_arrays, method),
            f"what NumPy, pandas and PyTorch make is no plain value; store value.{method}()",
        )
        for method in ("tolist", "to_dict", "isoformat", "item")
    ),
    (lambda value: isinstance(value, Enum), "it is not one of the members of its enum"),
    (lambda value: isinstance(value, io.IOBase), f"an open file is a live object; {_RESOURCE}"),
    (
        lambda value: isinstance(value, Awaitable),
        "nobody has awaited it; store what 'await' gives, which an 'async def' may do",
    ),
    (
        lambda value: isinstance(value, Iterator),
        "it can be gone through only once; store what it yields, as a list",
    ),
    (
        lambda value: type(value).__name__ in _LOCKS,
        f"what threads share is a live object; {_RESOURCE}",
    ),
    (
        lambda value: hasattr(type(value), "as_dict") and hasattr(type(value), "snapshot"),
        "a store holds the values of a run; store what it holds, as_dict()",
    ),
    (lambda value: isinstance(value, memoryview), "it is a view of a buffer; store bytes(value)"),
    (
        lambda value: isinstance(value, types.MappingProxyType),
        "it is a view of a mapping of any type; store dict(value)",
    ),
)


def reason_for(value: object, standard: Callable[[type], bool]) -> str:
    """The reason why a value cannot be stored.

    Args:
        value: A value of a kind that the codec does not support.
        standard: Whether a class is a builtin or standard one that can be stored.
    """
    for applies, reason in _REASONS:
        if applies(value):
            return reason
    for base in type(value).__mro__[1:]:
        if standard(base):
            name = base.__name__
            return (
                f"a subclass of {name} would come back as a plain {name}; store it as one, or "
                "make it a dataclass or a Pydantic model that holds one"
            )
    return _ADVICE
