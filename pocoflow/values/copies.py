"""Copies of values that share nothing with them that can change, as far as they can be copied."""

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
"""Types of values that do not change in place: whoever is given one leaves it as it is."""

ModelT = TypeVar("ModelT", bound=BaseModel)

_COPIED_BY = ("__deepcopy__", "__reduce__", "__reduce_ex__", "__getstate__", "__setstate__")
_ENDED_BY = ("close", "aclose", "__enter__", "__aenter__")
_IN_PYTHON = 1 << 9  # the flag of classes that are defined by a class statement

_FLAT = frozenset({list, dict})
_SEQUENCES = frozenset({list, tuple, set, frozenset})
_OPEN = object()


def copied(value: Any) -> object:
    """A copy of a value, which shares with it only what is live: a client, a queue, a lock.

    What holds such a thing is copied around it. Live is what cannot be copied, a method, and an
    object, of no dataclass or model, that can be closed or entered, or has asynchronous methods,
    and does not say how it is copied.
    """
    kind = type(value)
    if kind in IMMUTABLE:
        return value
    # Flat values, and lists of flat ones, such as messages: deepcopy takes thirty times as long.
    if kind in _FLAT and _is_flat(value):
        return value.copy()
    if kind is list and all(type(one) in _FLAT and _is_flat(one) for one in value):
        shared = len({id(one) for one in value}) < len(value)
        return deepcopy(value) if shared else [one.copy() for one in value]
    live = _live_in(value)
    with suppress(Exception):
        return deepcopy(value, dict(live))
    with suppress(Exception):  # it failed on what cannot be copied, which is looked for now
        return deepcopy(value, _live_in(value, live))
    return value


def copied_model(model: ModelT) -> ModelT:
    """A copy of a model, as it says itself; one that shares what is live if that has no copy."""
    try:
        return model.model_copy(deep=True)
    except Exception:  # noqa: BLE001 - a lock has none, nor what holds one
        return cast("ModelT", copied(model))


def _live_in(value: object, known: dict[int, object] | None = None) -> dict[int, object]:
    """The live things in a value, by identity; with those that are known, what has no copy, too."""
    found: dict[int, object] = {}
    met: set[int] = set()
    queue: list[Any] = [value]
    for one in queue:  # grows while it is walked through
        kind: Any = type(one)
        if kind in IMMUTABLE or id(one) in met:
            continue
        met.add(id(one))
        if kind is dict:
            queue += one.values()
            queue += () if known is None else one
        elif kind in _SEQUENCES:
            queue += one
        elif _is_live(kind) or (known is not None and _has_no_copy(one, kind, known)):
            found[id(one)] = one
        else:
            try:
                queue += _parts(one, kind)
            except Exception:  # noqa: BLE001 - of a container of the user's
                if known is not None:
                    found[id(one)] = one
    return found


def _has_no_copy(one: object, kind: type, live: dict[int, object]) -> bool:
    if _is_by_parts(kind):
        return False
    try:
        deepcopy(one, dict(live))
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
        for held in state if type(state) is tuple else (state,):
            yield from (held or {}).values()


@remembered
def _is_live(kind: type) -> bool:
    if issubclass(kind, MethodType):
        return True
    if _is_value(kind) or not _is_by_parts(kind):
        return False
    methods = [one for cls in kind.__mro__ for one in vars(cls).values()]
    return any(hasattr(kind, one) for one in _ENDED_BY) or any(map(iscoroutinefunction, methods))


@remembered
def _is_by_parts(kind: type) -> bool:
    """Whether an object can be copied if its parts can."""
    if _is_value(kind):
        return getattr(kind, "__deepcopy__", None) in (None, BaseModel.__deepcopy__)
    is_plain = all(one.__flags__ & _IN_PYTHON for one in kind.__mro__[:-1])
    says = any(getattr(kind, one, None) is not getattr(object, one, None) for one in _COPIED_BY)
    return is_plain and not says and kind not in copyreg.dispatch_table


def _is_value(kind: type) -> bool:
    return kind_of(kind) is not None or family_of(kind) is not None


def _is_flat(value: list[object] | dict[object, object]) -> bool:
    parts = value.values() if type(value) is dict else value
    return IMMUTABLE.issuperset(map(type, parts))


def stored_copy(value: Any) -> Any:
    """A copy as good as stored and read back; what cannot be stored, such as a client, is shared.

    So it is the same object for whoever compares them, and so is a value that contains itself.
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


def _stored_copy(value: Any, known: dict[int, object], alive: list[object]) -> object:
    kind = type(value)
    if kind in IMMUTABLE:
        return value
    if id(value) in known:
        if known[id(value)] is _OPEN:
            raise RecursionError("it contains itself")
        return known[id(value)]
    known[id(value)] = _OPEN
    alive.append(value)  # so that no other part gets the identity of one that is gone
    made: object
    if kind is list:
        made = [_stored_copy(part, known, alive) for part in value]
    elif kind is dict:
        made = {key: _stored_copy(part, known, alive) for key, part in value.items()}
    else:
        made = _rebuilt(value, kind, known, alive)
    known[id(value)] = made
    return made


def _rebuilt(value: object, kind: type, known: dict[int, object], alive: list[object]) -> object:
    """A standard value, or an object of a class of the program, of copies of its parts."""
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
        return join(kind, **{name: _stored_copy(one, known, alive) for name, one in parts})
    except RecursionError:
        raise
    except Exception:  # noqa: BLE001 - it cannot be stored, so it is a live thing, which is shared
        return value
