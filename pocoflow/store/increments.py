"""Deriving the increments of a field with a reducer from its old and its new value."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import reduce

from pocoflow.store.reducing import Reducer
from pocoflow.values.changes.frozen import freeze, is_same


def increments_between(reducer: Reducer, old: object, value: object) -> list[object] | None:
    """Increments by which the reducer turns ``old`` into ``value``, if some are found.

    They are tried with the reducer, so any function of the user works as well as ours.
    """
    return next(
        (updates for updates in _differences(old, value) if _makes(reducer, old, updates, value)),
        None,
    )


def _makes(reducer: Reducer, old: object, updates: Iterable[object], value: object) -> bool:
    try:
        result = reduce(reducer, updates, old)
    except Exception:  # noqa: BLE001 - a reducer of other types may raise anything
        return False
    return is_same(freeze(result), value)


def _differences(old: object, value: object) -> Iterator[list[object]]:
    if isinstance(old, list) and isinstance(value, list):
        if is_same(freeze([*old]), value[: len(old)]):
            tail = value[len(old) :]
            yield [tail]
            yield tail
    elif isinstance(old, dict) and isinstance(value, dict):
        yield [
            {
                key: new
                for key, new in value.items()
                if key not in old or not is_same(freeze(old[key]), new)
            }
        ]
    elif isinstance(old, (int, float)) and isinstance(value, (int, float)):
        yield [value - old]
    yield [value]
