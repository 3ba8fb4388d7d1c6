"""The parts of a value, level by level, in columns.

A column has all parts that stand on one level, in the order in which they are reached, and keeps
for each type among them what :mod:`~pocoflow.values.changes.groups` says has to be remembered.
Nothing here is recursive, so that no value is too deep.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, compress, repeat
from operator import is_
from typing import Any

from pocoflow.values.changes.glance import Glance
from pocoflow.values.changes.groups import SIMPLE, Group, Identical, group_of

_MAX_LEVELS = 2000

# What is so deep, or has so many parts on a level that are the same ones again and again, may
# contain itself.
_DEEP = 12
_MANY = 10_000

_LONG = 200
"""Columns of more parts than these have a first look at their items before they compare them."""

_COMPARED = 4
"""That is given up when they had to be compared so often, as equal items were other objects."""


class Column:
    """Parts of any types: their types in order, and for each type the parts of it."""

    __slots__ = ("compared", "glance", "groups", "kinds")

    def __init__(self) -> None:
        self.glance: Glance | None = None
        self.compared = 0  # how often it was found to be the same
        self.kinds: list[type] = []
        self.groups: list[tuple[type, Group, list[Column]]] = []


def lay_out(items: list[Any]) -> Column:
    """A column of parts, and below it the columns of their parts.

    Parts that cannot be laid out, as they contain themselves or their own code fails, make one that
    matches these very objects.
    """
    try:
        return _laid_out(items)
    except Exception:  # noqa: BLE001 - the same for whatever is wrong with it
        column = Column()
        column.kinds = list(map(type, items))
        for kind in dict.fromkeys(column.kinds):
            column.groups.append((kind, Identical(_of_kind(kind, column.kinds, items)), []))
        return column


def _laid_out(items: list[Any]) -> Column:
    root = Column()
    top = items
    waiting = [(root, items, 0)]
    looked = False
    while waiting:
        column, items, level = waiting.pop()
        if not looked and _may_be_cyclic(level, items):
            looked = True
            _refuse_cycle(top)
        if level > _MAX_LEVELS:
            raise ValueError("it is too deep")
        column.kinds = kinds = list(map(type, items))
        for kind in dict.fromkeys(kinds):
            chosen = _of_kind(kind, kinds, items)
            group = group_of(kind)(chosen)
            below = [(Column(), parts, level + 1) for parts in group.parts(chosen)]
            column.groups.append((kind, group, [child for child, _, _ in below]))
            waiting += below
    return root


def matches(column: Column, items: list[Any]) -> bool:
    """Whether parts are the same as those that a column remembers, with all parts of theirs."""
    if column.glance is not None and column.glance.is_same(items):
        return True
    if not _matches(column, items):
        return False
    # Not at once: many a column is compared only once, to find where something has changed.
    column.compared += 1
    if 1 < column.compared <= _COMPARED and weight(column) > _LONG:
        glance = Glance.of(items)
        if not _matches(column, items):  # another thread has changed them meanwhile
            return False
        column.glance = glance
    return True


def _matches(column: Column, items: list[Any]) -> bool:
    waiting = [(column, items)]
    while waiting:
        column, items = waiting.pop()
        kinds = list(map(type, items))
        if kinds != column.kinds:
            return False
        single = len(column.groups) == 1
        for kind, group, below in column.groups:
            chosen = items if single else _of_kind(kind, kinds, items)
            if not group.same(chosen):
                return False
            if below:
                waiting += zip(below, group.parts(chosen), strict=True)
    return True


def cut(column: Column, start: int, stop: int) -> Column:
    """The column of a few parts in a row."""
    made = Column()
    made.kinds = column.kinds[start:stop]
    single = len(column.groups) == 1
    for kind, group, below in column.groups:
        first, last = start, stop
        if not single:
            first = _number_of(kind, column.kinds[:start])
            last = first + _number_of(kind, made.kinds)
        if first < last:
            part, ranges = group.cut(first, last)
            columns = [cut(one, *own) for one, own in zip(below, ranges, strict=True)]
            made.groups.append((kind, part, columns))
    return made


def weight(column: Column) -> int:
    """How many parts a column has, on all levels."""
    found, waiting = 0, [column]
    while waiting:
        column = waiting.pop()
        found += len(column.kinds)
        for _, _, below in column.groups:
            waiting += below
    return found


def _number_of(kind: type, kinds: list[type]) -> int:
    return sum(map(is_, kinds, repeat(kind)))


def _of_kind(kind: type, kinds: list[type], items: list[Any]) -> list[Any]:
    return list(compress(items, map(is_, kinds, repeat(kind))))


def _may_be_cyclic(level: int, items: list[Any]) -> bool:
    if level >= _DEEP or level == 0 or len(items) <= _MANY:
        return level >= _DEEP
    inner = [one for one in items if type(one) not in SIMPLE]
    return len(inner) > _MANY and len(set(map(id, inner))) < len(inner) // 2


def _refuse_cycle(items: list[Any]) -> None:
    """Raise if a part contains itself, which would be laid out for ever."""
    above: set[int] = set()
    done: set[int] = set()
    alive: list[Any] = []  # So that no other part gets the identity of one that is gone.
    path: list[tuple[int, Iterator[Any]]] = [(0, iter(items))]
    while path:
        own, rest = path[-1]
        for item in rest:
            if id(item) in above:
                raise ValueError("it contains itself")
            if type(item) in SIMPLE or type(item) is float or id(item) in done:
                continue
            parts = list(chain(*group_of(type(item))([item]).parts([item])))
            if parts:
                alive.append(item)
                above.add(id(item))
                path.append((id(item), iter(parts)))
                break
        else:
            path.pop()
            above.discard(own)
            done.add(own)
