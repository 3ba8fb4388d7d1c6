"""Reducers: pure functions ``(old, update) -> new`` that apply increments to a field.

A field declares one in its annotation, ``log: Annotated[list[str], append] = []``. ``writes=`` on
such a field and ``store.reduce(key, update)`` then apply increments, also from several parallel
branches. The functions here are common ones; any function of two arguments can be a reducer, such
as ``max``, ``operator.or_`` or a function of yours.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    Protocol,
    Self,
    TypeAlias,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
)

from typing_extensions import TypeAliasType

from pocoflow.errors import DefinitionError, MissingKeyError
from pocoflow.messages import package_of, short
from pocoflow.values.callables import misfit, unrun
from pocoflow.values.failures import add_note

_OF_PYDANTIC = ("__get_pydantic_core_schema__", "__get_pydantic_json_schema__")
_PLAIN = (bool, int, float, complex, str, bytes, list, dict)
_MARKS = ("pydantic", "pydantic_core", "annotated_types", "typing_extensions")

T = TypeVar("T")
K = TypeVar("K")

Reducer: TypeAlias = Callable[[Any, Any], Any]
"""``(old, update) -> new``; it must not change its arguments."""


class _Addable(Protocol):
    def __add__(self, other: Self, /) -> Self: ...


AddT = TypeVar("AddT", bound=_Addable)


def append(old: list[T], update: T) -> list[T]:
    """The list with another item at its end."""
    return [*old, update]


def extend(old: list[T], update: Iterable[T]) -> list[T]:
    """The list with more items at its end.

    Raises:
        TypeError: The items are a text, whose characters are never meant.
    """
    if isinstance(update, (str, bytes)):
        given = type(update).__name__
        raise TypeError(f"extend takes several items, not a {given}: put it into a list")
    return [*old, *update]


def add(old: AddT, update: AddT) -> AddT:
    """The sum: of numbers, or of other values that support ``+``."""
    return old + update


def merge(old: dict[K, T], update: Mapping[K, T]) -> dict[K, T]:
    """The dict with more keys; the update takes precedence."""
    return {**old, **update}


def latest(old: T, update: T) -> T:
    """The update: if several branches write the field, the last one wins."""
    return update


def item(field: list[T]) -> T:
    """One item of a list field, for a type checker: ``@node(writes=item(A.log))``.

    A field with the reducer :func:`append` holds a list and takes one item at a time. At run time
    this returns the reference itself.
    """
    return cast(T, field)


def reducers_of(
    fields: Iterable[tuple[str, object, Iterable[object]]],
) -> dict[str, Reducer]:
    """The reducers of fields, by field.

    Args:
        fields: The name, the type and further metadata of each field.

    Raises:
        DefinitionError: There are several for one field, one that does not take two arguments, or
            one for a part of a field, which would never be called.
    """
    reducers: dict[str, Reducer] = {}
    for name, hint, metadata in fields:
        kind = bare(hint)
        sources = (metadata, metadata_of(hint), _of_optional(kind))
        declared = [reducer for marks in sources for reducer in _reducers(name, marks)]
        if len(declared) > 1:
            names = ", ".join(map(reducer_name, declared))
            raise DefinitionError(f"field {name!r} declares several reducers ({names}): keep one")
        for part in _parts(kind):
            for reducer in _reducers(name, metadata_of(part)):
                raise DefinitionError(
                    f"field {name!r} declares the reducer {reducer_name(reducer)} for a part of "
                    "its value, where nothing calls it: declare it for the field, as in "
                    f"{name}: Annotated[list[str], extend]"
                )
        for reducer in declared:
            _refuse_kind(name, get_origin(kind) or kind, reducer)
            reducers[name] = reducer
    return reducers


def _refuse_kind(name: str, kind: object, reducer: Reducer) -> None:
    """Refuse a reducer of ours for a type that it never returns."""
    for known, result in ((append, list), (extend, list), (merge, dict)):
        if reducer is known and kind in _PLAIN and kind is not result:
            raise DefinitionError(
                f"field {name!r} is of type {getattr(kind, '__name__', kind)}, and its reducer "
                f"{known.__name__} makes a {result.__name__}: give it another reducer, or the type "
                f"{result.__name__}"
            )


def reducer_name(reducer: object) -> str:
    """The name of a reducer in messages."""
    name = getattr(reducer, "__name__", None)
    return name if isinstance(name, str) else short(reducer)


def _reducers(field: str, metadata: Iterable[object]) -> Iterator[Reducer]:
    """The metadata meant as reducers: callables that are neither Pydantic's nor mere marks."""
    for mark in metadata:
        kind = mark if isinstance(mark, type) else type(mark)
        if any(hasattr(kind, name) for name in _OF_PYDANTIC) or package_of(kind) in _MARKS:
            continue
        if isinstance(mark, type):
            if callable(vars(mark).get("__call__")) and misfit(mark.__call__, *range(3)) is None:
                raise DefinitionError(
                    f"field {field!r} declares the class {mark.__name__} as its reducer: declare "
                    f"an object of it, {mark.__name__}(...)"
                )
        elif callable(mark):
            if misfit(mark, *range(2)) is not None:
                raise DefinitionError(
                    f"field {field!r} declares {reducer_name(mark)} beside its type, which is no "
                    f"reducer: one is called with two arguments, (old, update), and this takes "
                    f"{inspect.signature(mark)}"
                )
            flaw = unrun(mark)
            if flaw is not None:
                raise DefinitionError(
                    f"field {field!r} declares the reducer {reducer_name(mark)}, {flaw}: a reducer "
                    "is called, and returns the new value"
                )
            yield mark


def _of_optional(hint: object) -> tuple[object, ...]:
    """The metadata of the one type of an Optional."""
    if get_origin(hint) not in (Union, UnionType):
        return ()
    kinds = [kind for kind in get_args(hint) if kind is not NoneType]
    return metadata_of(kinds[0]) if len(kinds) == 1 else ()


def _parts(hint: object) -> Iterator[object]:
    """The types within a type, at every depth; not that of an Optional, which is the field's."""
    within = list(get_args(hint))
    if get_origin(hint) is Annotated:
        within = within[:1]
    elif get_origin(hint) in (Union, UnionType) and _of_optional(hint):
        within = [bare(kind) for kind in within if kind is not NoneType]
    elif get_origin(hint) is Literal:
        within = []
    for part in within:
        yield part
        yield from _parts(part)


def reduced(
    owner: str,
    data: Mapping[str, object],
    values: Mapping[str, object],
    increments: Iterable[tuple[str, object]],
    reducers: Mapping[str, Reducer],
) -> dict[str, object]:
    """All that is to be written: the values, and the fields after their increments.

    Raises:
        MissingKeyError: A field that takes an increment has no value yet.
    """
    changes = dict(values)
    for key, update in increments:
        reducer = reducers[key]
        if key not in changes and key not in data:
            raise MissingKeyError(
                f"{owner}: field {key!r} takes increments ({reducer_name(reducer)}) and has no "
                "value yet: set it in the store that the flow is run with, or give it a default, "
                "such as an empty list"
            )
        try:
            changes[key] = reducer(changes[key] if key in changes else data[key], update)
        except Exception as exc:
            add_note(exc, f"pocoflow: in reducer {reducer_name(reducer)} of field {key!r}")
            raise
    return changes


def metadata_of(annotation: object) -> tuple[object, ...]:
    """The metadata of an ``Annotated`` type, or of a named alias of one; else none."""
    annotation = _unaliased(annotation)
    if get_origin(annotation) is not Annotated:
        return ()
    kind, *metadata = get_args(annotation)
    return (*metadata_of(kind), *metadata)


def bare(annotation: object) -> object:
    """A type without ``Annotated`` and without type aliases."""
    annotation = _unaliased(annotation)
    while get_origin(annotation) is Annotated:
        annotation = _unaliased(get_args(annotation)[0])
    return annotation


def _unaliased(annotation: Any) -> object:
    while True:
        alias = get_origin(annotation) or annotation
        if type(alias) not in _ALIASES:
            return annotation
        try:
            value, arguments = alias.__value__, get_args(annotation)
            annotation = value[arguments] if arguments else value
        except (NameError, TypeError):
            return annotation  # it names something not defined yet


_ALIASES: tuple[type, ...] = (TypeAliasType, getattr(typing, "TypeAliasType", TypeAliasType))
