"""Reducers: pure functions ``(old, update) -> new`` that say how a field takes increments.

A field declares one in its annotation, ``log: Annotated[list[str], append] = []``. ``writes=`` on
such a field and ``store.reduce(key, update)`` then give increments, also from several parallel
branches. The functions here are the usual ones; any function of two arguments will do, such as
``max``, ``operator.or_`` or one of your own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import reduce
from types import BuiltinFunctionType, FunctionType
from typing import Annotated, Any, Protocol, Self, TypeAlias, TypeVar, cast, get_args, get_origin

from pocoflow.changes import freeze, is_same
from pocoflow.errors import DefinitionError, MissingKeyError
from pocoflow.failure import add_note

__all__ = [
    "Reducer",
    "add",
    "append",
    "extend",
    "increments_between",
    "item",
    "latest",
    "merge",
    "metadata_of",
    "reduced",
    "reducers_of",
]

T = TypeVar("T")
K = TypeVar("K")

Reducer: TypeAlias = Callable[[Any, Any], Any]
"""``(old, update) -> new``; it must not change what it is given."""


class _Addable(Protocol):
    def __add__(self, other: Self, /) -> Self: ...


AddT = TypeVar("AddT", bound=_Addable)


def append(old: list[T], update: T) -> list[T]:
    """The list with one more item at its end."""
    return [*old, update]


def extend(old: list[T], update: Iterable[T]) -> list[T]:
    """The list with more items at its end."""
    return [*old, *update]


def add(old: AddT, update: AddT) -> AddT:
    """The sum: of numbers, or of anything else that has ``+``."""
    return old + update


def merge(old: dict[K, T], update: Mapping[K, T]) -> dict[K, T]:
    """The dict with more keys; of a key that is in both, the update counts."""
    return {**old, **update}


def latest(old: T, update: T) -> T:
    """The update: of several branches that write the field, the last one counts."""
    return update


def item(field: list[T]) -> T:
    """One item of a list field, for a type checker: ``@node(writes=item(A.log))``.

    A field that is reduced by :func:`append` holds a list and takes one item at a time. At run time
    this is the reference itself.
    """
    return cast(T, field)


def reducers_of(fields: Iterable[tuple[str, Iterable[object]]]) -> dict[str, Reducer]:
    """The reducers among the metadata of fields, by field.

    Raises:
        DefinitionError: There are several for one field.
    """
    reducers: dict[str, Reducer] = {}
    for name, metadata in fields:
        found = [one for one in metadata if isinstance(one, (FunctionType, BuiltinFunctionType))]
        if len(found) > 1:
            names = ", ".join(one.__name__ for one in found)
            raise DefinitionError(f"field {name!r} declares several reducers ({names}): keep one")
        reducers.update((name, one) for one in found)
    return reducers


def reduced(
    owner: str,
    data: Mapping[str, Any],
    values: Mapping[str, Any],
    increments: Iterable[tuple[str, Any]],
    reducers: Mapping[str, Reducer],
) -> dict[str, Any]:
    """What is to be written: values as they are, and what fields become by their increments.

    Raises:
        MissingKeyError: A field that takes an increment has no value yet.
    """
    changes = dict(values)
    for key, update in increments:
        reducer: Any = reducers[key]
        if key not in changes and key not in data:
            raise MissingKeyError(
                f"{owner}: field {key!r} takes increments ({reducer.__name__}) and has no "
                "value yet: give it a default, such as an empty list"
            )
        try:
            changes[key] = reducer(changes[key] if key in changes else data[key], update)
        except Exception as exc:
            add_note(exc, f"pocoflow: in reducer {reducer.__name__} of field {key!r}")
            raise
    return changes


def increments_between(reducer: Reducer, old: Any, value: Any) -> list[Any] | None:
    """Increments by which the reducer makes one value of another, if some are found.

    What the reducer makes of them decides, so a function of one's own is as good as one of these.
    """
    return next(
        (updates for updates in _differences(old, value) if _leads(reducer, old, updates, value)),
        None,
    )


def _leads(reducer: Reducer, old: Any, updates: Iterable[Any], value: Any) -> bool:
    try:
        made = reduce(reducer, updates, old)
    except Exception:  # noqa: BLE001 - a reducer of something else may raise anything
        return False
    return is_same(freeze(made), value)


def _begins(value: list[Any], old: list[Any]) -> bool:
    return is_same(freeze([*old]), value[: len(old)])


def _differences(old: Any, value: Any) -> Iterator[list[Any]]:
    if isinstance(old, list) and isinstance(value, list) and _begins(value, old):
        tail = value[len(old) :]
        yield [tail]
        yield tail
    elif isinstance(old, dict) and isinstance(value, dict):
        yield [
            {
                key: one
                for key, one in value.items()
                if key not in old or not is_same(freeze(old[key]), one)
            }
        ]
    elif isinstance(old, (int, float)) and isinstance(value, (int, float)):
        yield [value - old]
    yield [value]


def metadata_of(annotation: object) -> tuple[object, ...]:
    """What an ``Annotated`` type says beside the type; nothing of any other type."""
    return get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()
