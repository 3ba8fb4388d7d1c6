"""The parts of a value, level by level, in columns.

A column has all parts that stand on one level, in the order in which they are reached, and keeps
for each type among them what :mod:`~pocoflow.values.changes.groups` says has to be remembered.
Nothing here is recursive, so that no value is too deep.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, compress, repeat
from operator import is_

from pocoflow.values.changes.groups import (
    SIMPLE,
    Column,
    Equal,
    Identical,
    Items,
    OfKind,
    group_of,
)
from pocoflow.values.changes.repeated import Repeated, joined, shortened

_MAX_LEVELS = 2000

# What is so deep, or has so many parts on a level that are the same ones again and again, may
# contain itself.
_DEEP = 12
_MANY = 10_000


def lay_out(items: Items) -> Column:
    """A column of parts, and below it the columns of their parts.

    Parts that cannot be laid out, as they contain themselves or their own code fails, make one that
    matches these very objects.
    """
    try:
        return _laid_out(items)
    except Exception:  # noqa: BLE001 - the same for whatever is wrong with it
        column = Column()
        column.kinds = list(map(type, items))
        column.groups.append(OfKind(object, None, Identical(items), []))
        return column


def _laid_out(items: Items) -> Column:
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
        column.kinds = shortened(list(map(type, items)))
        for mask, kind in _parted(column.kinds):
            chosen = items if mask is None else list(compress(items, mask))
            if kind is None:
                column.groups.append(OfKind(None, mask, Equal(shortened(chosen)), []))
                continue
            group = group_of(kind)(chosen)
            below = [(Column(), parts, level + 1) for parts in group.first_parts(chosen)]
            column.groups.append(OfKind(kind, mask, group, [child for child, _, _ in below]))
            waiting += below
    return root


def _parted(kinds: Sequence[type]) -> Iterator[tuple[bytes | None, type | None]]:
    """Each type among several, ``None`` for all simple ones, and which parts are of it."""
    few = dict.fromkeys(kinds.few if type(kinds) is Repeated else kinds)
    if len(few) == 1:
        (kind,) = few
        yield None, None if kind in SIMPLE else kind
        return
    found = dict.fromkeys(None if kind in SIMPLE else kind for kind in few)
    for kind in found:
        mask = None
        if len(found) > 1:
            of_it = (
                map(SIMPLE.__contains__, kinds) if kind is None else map(is_, kinds, repeat(kind))
            )
            mask = bytes(of_it)
        yield mask, kind


def matches(column: Column, items: Items) -> bool:
    """Whether parts are the same as those that a column remembers, with all parts of theirs."""
    waiting = [(column, items)]
    while waiting:
        column, items = waiting.pop()
        if not column.fits(items):
            return False
        for _, mask, group, below in column.groups:
            chosen = items if mask is None else list(compress(items, mask))
            rest = group.compared(chosen, below)
            if rest is None:
                return False
            waiting += rest
    return True


def cut(column: Column, start: int, stop: int) -> Column:
    """The column of a few parts in a row."""
    made = Column()
    made.kinds = column.kinds[start:stop]
    for kind, mask, group, below in column.groups:
        first, last = start, stop
        if mask is not None:
            first = mask.count(1, 0, start)
            last = first + mask.count(1, start, stop)
            if first == last:
                continue
            mask = mask[start:stop] if last - first < stop - start else None
        part, ranges = group.cut(first, last)
        columns = [cut(one, *own) for one, own in zip(below, ranges, strict=True)]
        made.groups.append(OfKind(kind, mask, part, columns))
    return made


def together(one: Column, other: Column) -> Column:
    """The column of the parts of one, and behind them of those of another one."""
    made = Column()
    made.kinds = joined(one.kinds, other.kinds)
    if len(one.groups) == len(other.groups) == 1 and one.groups[0].kind is other.groups[0].kind:
        made.groups.append(_joined(one.groups[0], other.groups[0], None))
        return made
    mine, others = ({own.kind: own for own in column.groups} for column in (one, other))
    for kind, own in {**mine, **others}.items():
        first, second = mine.get(kind), others.get(kind)
        both = _mask(first, len(one.kinds)) + _mask(second, len(other.kinds))
        mask = both if 0 in both else None
        if first is None or second is None:
            made.groups.append(OfKind(kind, mask, own.group, own.below))
        else:
            made.groups.append(_joined(first, second, mask))
    return made


def _joined(one: OfKind, other: OfKind, mask: bytes | None) -> OfKind:
    below = list(map(together, one.below, other.below))
    return OfKind(one.kind, mask, one.group.joined(other.group), below)


def _mask(found: OfKind | None, size: int) -> bytes:
    if found is None:
        return bytes(size)
    return b"\1" * size if found.mask is None else found.mask


def weight(column: Column) -> int:
    """How many parts a column has, on all levels."""
    found, waiting = 0, [column]
    while waiting:
        column = waiting.pop()
        found += len(column.kinds)
        for own in column.groups:
            waiting += own.below
    return found


def _may_be_cyclic(level: int, items: Items) -> bool:
    if level >= _DEEP or level == 0 or len(items) <= _MANY:
        return level >= _DEEP
    inner = [one for one in items if type(one) not in SIMPLE]
    return len(inner) > _MANY and len(set(map(id, inner))) < len(inner) // 2


def _refuse_cycle(items: Items) -> None:
    """Raise if a part contains itself, which would be laid out for ever."""
    above: set[int] = set()
    done: set[int] = set()
    alive: Items = []  # So that no other part gets the identity of one that is gone.
    path: list[tuple[int, Iterator[object]]] = [(0, iter(items))]
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
