"""Copies of values that share no mutable part with them, as far as they can be copied."""

from __future__ import annotations

import copyreg
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from copy import deepcopy
from inspect import iscoroutinefunction
from types import MethodType, NoneType
from typing import Any, TypeVar, cast

from pydantic import BaseModel

from pocoflow.values.kinds import kind_of
from pocoflow.values.objects import family_of
from pocoflow.values.remembering import remembered

IMMUTABLE = frozenset({str, int, float, bool, bytes, complex, NoneType})
"""Types whose values cannot change in place, and need no copy."""

ModelT = TypeVar("ModelT", bound=BaseModel)

_COPIED_BY = ("__deepcopy__", "__reduce__", "__reduce_ex__", "__getstate__", "__setstate__")
_ENDED_BY = ("close", "aclose", "__enter__", "__aenter__")
_IN_PYTHON = 1 << 9  # the flag of classes defined by a class statement

_FLAT = frozenset({list, dict})
_SEQUENCES = frozenset({list, tuple, set, frozenset})
_OPEN = object()


def copied(value: Any) -> object:
    """A copy of a value that shares only live objects with it: a client, a queue, a lock.

    Their containers are copied. An object is live if it cannot be copied, is a method, or is not of
    a dataclass or model, can be closed or entered, or has asynchronous methods, and does not define
    how it is copied.
    """
    kind = type(value)
    if kind in IMMUTABLE:
        return value
    # Flat values, and lists of them, such as messages: deepcopy takes thirty times as long.
    if kind in _FLAT and _is_flat(value):
        return value.copy()
    if kind is list and all(type(part) in _FLAT and _is_flat(part) for part in value):
        shared = len({id(part) for part in value}) < len(value)
        return deepcopy(value) if shared else [part.copy() for part in value]
    live = _live_in(value)
    with suppress(Exception):
        return deepcopy(value, dict(live))
    with suppress(Exception):  # something cannot be copied: find and share it
        return deepcopy(value, _live_in(value, live))
    return value


def copied_model(model: ModelT) -> ModelT:
    """A copy of a model by its own method or, if that fails, one that shares live objects."""
    try:
        return model.model_copy(deep=True)
    except Exception:  # noqa: BLE001 - a lock has no copy, nor has its container
        return cast("ModelT", copied(model))


def _live_in(value: object, known: dict[int, object] | None = None) -> dict[int, object]:
    """The live objects in a value, by id; given the ``known`` ones, also what cannot be copied."""
    live: dict[int, object] = {}
    seen: set[int] = set()
    queue: list[Any] = [value]
    for part in queue:  # grows during the iteration
        kind: Any = type(part)
        if kind in IMMUTABLE or id(part) in seen:
            continue
        seen.add(id(part))
        if kind is dict:
            queue += part.values()
            queue += () if known is None else part
        elif kind in _SEQUENCES:
            queue += part
        elif _is_live(kind) or (known is not None and _has_no_copy(part, kind, known)):
            live[id(part)] = part
        else:
            try:
                queue += _parts(part, kind)
            except Exception:  # noqa: BLE001 - of a container of the user's
                if known is not None:
                    live[id(part)] = part
    return live


def _has_no_copy(value: object, kind: type, live: dict[int, object]) -> bool:
    if _is_by_parts(kind):
        return False
    try:
        deepcopy(value, dict(live))
    except Exception:  # noqa: BLE001 - whatever it raises
        return True
    return False


def _parts(value: Any, kind: type) -> Iterator[object]:
    if isinstance(value, dict):
        yield from dict.values(value)
    elif isinstance(value, (list, tuple, set, frozenset, deque)):
        yield from value
    if kind.__flags__ & _IN_PYTHON and not isinstance(value, type):
        state = object.__getstate__(value)  # its attributes, and those in slots
        for attributes in state if type(state) is tuple else (state,):
            yield from (attributes or {}).values()


@remembered
def _is_live(kind: type) -> bool:
    if issubclass(kind, MethodType):
        return True
    if _is_value(kind) or not _is_by_parts(kind):
        return False
    methods = [method for cls in kind.__mro__ for method in vars(cls).values()]
    return any(hasattr(kind, name) for name in _ENDED_BY) or any(map(iscoroutinefunction, methods))


@remembered
def _is_by_parts(kind: type) -> bool:
    """Whether an object can be copied if its parts can."""
    if _is_value(kind):
        return getattr(kind, "__deepcopy__", None) in (None, BaseModel.__deepcopy__)
    is_plain = all(base.__flags__ & _IN_PYTHON for base in kind.__mro__[:-1])
    has_own = any(getattr(kind, n, None) is not getattr(object, n, None) for n in _COPIED_BY)
    return is_plain and not has_own and kind not in copyreg.dispatch_table


def _is_value(kind: type) -> bool:
    return kind_of(kind) is not None or family_of(kind) is not None


def _is_flat(value: list[object] | dict[object, object]) -> bool:
    parts = value.values() if type(value) is dict else value
    return IMMUTABLE.issuperset(map(type, parts))


def stored_copy(value: Any) -> Any:
    """A copy as if stored and read back; what cannot be stored, such as a client, is shared.

    A value that contains itself is shared as a whole.
    """
    kind = type(value)
    if kind in IMMUTABLE:
        return value
    if kind in _FLAT and _is_flat(value):
        return value.copy()
    try:
        return _stored_copy(value, {}, [])
    except RecursionError:
        return value


def _stored_copy(value: Any, copies: dict[int, object], alive: list[object]) -> object:
    kind = type(value)
    if kind in IMMUTABLE:
        return value
    if id(value) in copies:
        if copies[id(value)] is _OPEN:
            raise RecursionError("it contains itself")
        return copies[id(value)]
    copies[id(value)] = _OPEN
    alive.append(value)  # so that no id is used again
    copy: object
    if kind is list:
        copy = [_stored_copy(part, copies, alive) for part in value]
    elif kind is dict:
        copy = {key: _stored_copy(part, copies, alive) for key, part in value.items()}
    else:
        copy = _rebuilt(value, kind, copies, alive)
    copies[id(value)] = copy
    return copy


def _rebuilt(value: object, kind: type, copies: dict[int, object], alive: list[object]) -> object:
    """A standard value, or an object of a user's class, rebuilt from copies of its parts."""
    try:
        standard = kind_of(kind)
        family = family_of(kind) if standard is None else None
        if standard is not None and not standard.is_container:
            return value
        if standard is not None:
            split, join = standard.split, standard.join
        elif family is not None:
            split, join = family.prepare(kind), family.join
        else:
            return value
        parts = split(value).items()
        return join(kind, **{name: _stored_copy(part, copies, alive) for name, part in parts})
    except RecursionError:
        raise
    except Exception:  # noqa: BLE001 - it cannot be stored: a live object, which is shared
        return value
