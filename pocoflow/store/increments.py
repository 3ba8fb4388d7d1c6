"""What a branch adds to a field that has a reducer, found from the value that it leaves there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import reduce

from pocoflow.store.reducing import Reducer
from pocoflow.values.changes.frozen import freeze, is_same


def increments_between(reducer: Reducer, old: object, value: object) -> list[object] | None:
    """Increments by which the reducer makes one value of another, if some are found.

    What the reducer makes of them decides, so a function of one's own is as good as one of these.
    """
    return next(
        (updates for updates in _differences(old, value) if _leads(reducer, old, updates, value)),
        None,
    )


def _leads(reducer: Reducer, old: object, updates: Iterable[object], value: object) -> bool:
    try:
        made = reduce(reducer, updates, old)
    except Exception:  # noqa: BLE001 - a reducer of something else may raise anything
        return False
    return is_same(freeze(made), value)


def _differences(old: object, value: object) -> Iterator[list[object]]:
    if isinstance(old, list) and isinstance(value, list):
        if is_same(freeze([*old]), value[: len(old)]):
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
