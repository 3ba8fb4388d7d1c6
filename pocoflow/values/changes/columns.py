"""The parts of a value, level by level, in columns.

A column has all parts on one level, in traversal order, and for each of their types the data that
:mod:`~pocoflow.values.changes.groups` remembers. Nothing here is recursive, so no value is too
deep.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, compress, repeat
from operator import is_

from pocoflow.values.changes.groups import (
    SIMPLE,
    Column,
    Equal,
    Items,
    OfKind,
    Signed,
    group_of,
)
from pocoflow.values.changes.repeated import Repeated, joined, shortened

_MAX_LEVELS = 2000

# A value of this depth, or with this many parts on a level of which many are the same objects, may
# contain itself.
_DEEP = 12
_MANY = 10_000


def lay_out(items: Items) -> Column:
    """A column of parts, and below it the columns of their parts.

    If parts contain themselves, or their own code fails, the column only matches these objects, by
    identity.
    """
    try:
        return _laid_out(items)
    except Exception:  # noqa: BLE001 - whatever fails
        column = Column()
        column.kinds = list(map(type, items))
        column.groups.append(OfKind(object, None, Signed(id, items), []))
        return column


def _laid_out(items: Items) -> Column:
    root = Column()
    top = items
    pending = [(root, items, 0)]
    checked = False
    while pending:
        column, items, level = pending.pop()
        if not checked and _may_be_cyclic(level, items):
            checked = True
            _refuse_cycle(top)
        if level > _MAX_LEVELS:
            raise ValueError("it is too deep")
        column.kinds = shortened(list(map(type, items)))
        for mask, kind in _masks(column.kinds):
            chosen = items if mask is None else list(compress(items, mask))
            if kind is None:
                column.groups.append(OfKind(None, mask, Equal(shortened(chosen)), []))
                continue
            group = group_of(kind)(chosen)
            below = [(Column(), parts, level + 1) for parts in group.first_parts(chosen)]
            column.groups.append(OfKind(kind, mask, group, [child for child, _, _ in below]))
            pending += below
    return root


def _masks(kinds: Sequence[type]) -> Iterator[tuple[bytes | None, type | None]]:
    """The types of parts, ``None`` for all simple ones, each with a mask of its parts."""
    few = dict.fromkeys(kinds.few if type(kinds) is Repeated else kinds)
    if len(few) == 1:
        (kind,) = few
        yield None, None if kind in SIMPLE else kind
        return
    distinct = dict.fromkeys(None if kind in SIMPLE else kind for kind in few)
    for kind in distinct:
        mask = None
        if len(distinct) > 1:
            flags = (
                map(SIMPLE.__contains__, kinds) if kind is None else map(is_, kinds, repeat(kind))
            )
            mask = bytes(flags)
        yield mask, kind


def matches(column: Column, items: Items) -> bool:
    """Whether parts are the same as those that a column remembers, recursively."""
    pending = [(column, items)]
    while pending:
        column, items = pending.pop()
        if not column.fits(items):
            return False
        for _, mask, group, below in column.groups:
            chosen = items if mask is None else list(compress(items, mask))
            rest = group.compared(chosen, below)
            if rest is None:
                return False
            pending += rest
    return True


def cut(column: Column, start: int, stop: int) -> Column:
    """The column of a range of the parts."""
    result = Column()
    result.kinds = column.kinds[start:stop]
    for kind, mask, group, below in column.groups:
        first, last = start, stop
        if mask is not None:
            first = mask.count(1, 0, start)
            last = first + mask.count(1, start, stop)
            if first == last:
                continue
            mask = mask[start:stop] if last - first < stop - start else None
        part, ranges = group.cut(first, last)
        columns = [cut(child, *range_) for child, range_ in zip(below, ranges, strict=True)]
        result.groups.append(OfKind(kind, mask, part, columns))
    return result


def concatenate(one: Column, other: Column) -> Column:
    """The column of the parts of one column, followed by those of another."""
    column = Column()
    column.kinds = joined(one.kinds, other.kinds)
    if len(one.groups) == len(other.groups) == 1 and one.groups[0].kind is other.groups[0].kind:
        column.groups.append(_joined(one.groups[0], other.groups[0], None))
        return column
    firsts, seconds = ({of_kind.kind: of_kind for of_kind in c.groups} for c in (one, other))
    for kind, either in {**firsts, **seconds}.items():
        first, second = firsts.get(kind), seconds.get(kind)
        both = _mask(first, len(one.kinds)) + _mask(second, len(other.kinds))
        mask = both if 0 in both else None
        if first is None or second is None:
            column.groups.append(OfKind(kind, mask, either.group, either.below))
        else:
            column.groups.append(_joined(first, second, mask))
    return column


def _joined(one: OfKind, other: OfKind, mask: bytes | None) -> OfKind:
    below = list(map(concatenate, one.below, other.below))
    return OfKind(one.kind, mask, one.group.joined(other.group), below)


def _mask(of_kind: OfKind | None, size: int) -> bytes:
    if of_kind is None:
        return bytes(size)
    return b"\1" * size if of_kind.mask is None else of_kind.mask


def _may_be_cyclic(level: int, items: Items) -> bool:
    if level >= _DEEP or level == 0 or len(items) <= _MANY:
        return level >= _DEEP
    inner = [item for item in items if type(item) not in SIMPLE]
    return len(inner) > _MANY and len(set(map(id, inner))) < len(inner) // 2


def _refuse_cycle(items: Items) -> None:
    """Raise if a part contains itself, which would never end."""
    above: set[int] = set()
    done: set[int] = set()
    alive: Items = []  # So that no id is used again.
    path: list[tuple[int, Iterator[object]]] = [(0, iter(items))]
    while path:
        id_, rest = path[-1]
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
            above.discard(id_)
            done.add(id_)
