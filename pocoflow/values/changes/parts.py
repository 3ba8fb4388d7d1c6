"""A remembered value, opened along the path to its changes.

A part that never changed is one item of a column. The containers around a change are opened: each
has its own parts in :class:`Chunks`, of which only the changed ones are laid out again. So a change
costs its own size and one comparison of the rest. Small containers are closed at once: otherwise a
value with many changes would be compared piece by piece.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import reduce
from itertools import chain
from typing import NamedTuple, TypeAlias

from pocoflow.values.changes.columns import concatenate, cut, lay_out, matches
from pocoflow.values.changes.groups import (
    Column,
    Equal,
    Group,
    Items,
    OfKind,
    Sequences,
    Signed,
    Split,
    group_of,
)

_MANY = 8
"""The number of chunks from which on some are merged again."""

_SMALL = 400
"""A value with fewer parts is closed again at once."""

_SAMPLES = 16
"""The number of items, of many, that are sampled first, to see whether all differ."""

_SPACING = 0.618
"""Spreads the samples over all items, at unequal distances."""

_SHORT = 1000
"""A column with fewer items is merged with the next one at once."""

_OVERHEAD, _TAGGED = 4, 40
"""The approximate overhead in characters of a written part, and of a tagged one."""


class Opened(NamedTuple):
    """A value whose parts are stored separately."""

    kind: type
    group: Group
    below: tuple[Chunks, ...]

    def matches(self, value: object) -> bool:
        """Whether a value is the same."""
        if type(value) is not self.kind or not self.group.same([value]):
            return False
        parts = self.group.parts([value])
        return all(chunks.matches(own) for chunks, own in zip(self.below, parts, strict=True))


Part: TypeAlias = Column | Opened


def part_matches(part: Part, value: object) -> bool:
    """Whether a value is the same as a remembered one."""
    return part.matches(value) if isinstance(part, Opened) else matches(part, [value])


def _columns(*parts: Part) -> Iterator[Column]:
    """The columns of parts, on all levels."""
    pending = [*parts]
    while pending:
        part = pending.pop()
        if isinstance(part, Opened):
            pending += chain.from_iterable(chunks.parts for chunks in part.below)
        else:
            yield part
            pending += chain.from_iterable(of_kind.below for of_kind in part.groups)


def bulk(*parts: Part, most: int = sys.maxsize) -> int:
    """The approximate number of characters of written parts, counted up to ``most``."""
    size = 0
    for column in _columns(*parts):
        size += _OVERHEAD * len(column.kinds)
        for _, _, group, _ in column.groups:
            if isinstance(group, Signed):
                size += _TAGGED * len(group.items)
            elif isinstance(group, Equal) and size < most:
                size += sum(len(item) for item in group.items if isinstance(item, str | bytes))
        if size >= most:
            break
    return size


def weight(*parts: Part, most: int = sys.maxsize) -> int:
    """The number of their parts, on all levels, counted up to ``most``."""
    count, pending = 0, [*parts]
    while pending and count < most:
        part = pending.pop()
        if isinstance(part, Opened):
            pending += chain.from_iterable(chunks.parts for chunks in part.below)
        else:
            count += len(part.kinds)
            for of_kind in part.groups:
                pending += of_kind.below
    return count


def _size(part: Part) -> int:
    return 1 if isinstance(part, Opened) else len(part.kinds)


def opened(part: Part) -> Opened | None:
    """A remembered value with its parts stored separately, or ``None`` if it has none."""
    if isinstance(part, Opened):
        return part
    _, _, group, below = part.groups[0]
    if not isinstance(group, Sequences | Split):
        return None
    return Opened(part.kinds[0], group, tuple(map(Chunks.of, below)))


def reopened(kind: type, value: object, *below: Chunks) -> Opened:
    """The same container with other parts."""
    group = group_of(kind)([value])
    if sum(chunks.size for chunks in below) < _SMALL:
        group.first_parts([value])  # needed when it is closed, and joined with others
    return Opened(kind, group, below)


def closed(part: Part) -> Column:
    """A remembered value in columns alone."""
    if not isinstance(part, Opened):
        return part
    column = Column()
    column.kinds = [part.kind]
    below = [reduce(concatenate, map(closed, c.parts or (lay_out([]),))) for c in part.below]
    column.groups.append(OfKind(part.kind, None, part.group, below))
    return column


def closed_if_small(part: Part) -> Part:
    """The same, closed if it is so small that this costs no more than one comparison."""
    if not isinstance(part, Opened) or sum(chunks.size for chunks in part.below) >= _SMALL:
        return part
    return closed(part) if weight(part, most=_SMALL) < _SMALL else part


class Chunks(NamedTuple):
    """A sequence of items, in chunks: columns of many, or one opened item."""

    parts: tuple[Part, ...]

    @classmethod
    def of(cls, *parts: Part) -> Chunks:
        """The chunks of these parts."""
        return cls(tuple(filter(_size, parts)))

    @property
    def size(self) -> int:
        """The number of items."""
        return sum(map(_size, self.parts))

    def matches(self, items: Items) -> bool:
        """Whether items are the same."""
        if len(items) != self.size:
            return False
        at = 0
        for part in self.parts:
            size = _size(part)
            if isinstance(part, Opened):
                same = part.matches(items[at])
            else:
                same = matches(part, items[at : at + size] if size < len(items) else items)
            if not same:
                return False
            at += size
        return True

    def cut(self, start: int, stop: int) -> Chunks:
        """The chunks of a range of the items."""
        parts, at = [], 0
        for part in self.parts:
            size = _size(part)
            first, last = max(start - at, 0), min(stop - at, size)
            at += size
            if first >= last:
                continue
            if isinstance(part, Opened) or last - first == size:
                parts.append(part)
            else:
                parts.append(cut(part, first, last))
        return Chunks.of(*parts)

    def joined(self, *others: Chunks) -> Chunks:
        """These followed by others; adjacent columns are merged."""
        parts = list(self.parts)
        for part in chain.from_iterable(other.parts for other in others):
            before = parts[-1] if parts else None
            if isinstance(part, Column) and isinstance(before, Column):
                parts[-1] = concatenate(before, part)
            else:
                parts.append(part)
        return Chunks.of(*parts)

    def grown(self, new: Column) -> Chunks:
        """These followed by a column, which is merged only with a short one, as that is copied."""
        if not new.kinds:
            return self
        parts = self.parts
        last = parts[-1] if parts else None
        if isinstance(last, Column):
            before = parts[-2] if len(parts) > 1 else None
            if _size(last) < _SHORT:
                new, parts = concatenate(last, new), parts[:-1]
            elif isinstance(before, Column):
                parts = *parts[:-2], concatenate(before, last)
        return Chunks((*parts, new)).packed()

    def packed(self) -> Chunks:
        """The same in few chunks: light opened parts are closed."""
        if len(self.parts) <= _MANY:
            return self
        limit = weight(*self.parts) // 8
        light = (
            closed(part) if weight(part, most=limit + 1) <= limit else part for part in self.parts
        )
        return Chunks.of().joined(Chunks.of(*light))

    def first(self, items: Items, most: int) -> int:
        """The number of equal items at the start, up to ``most``."""
        return _agreed(lambda low, high: self.cut(low, high).matches(items[low:high]), most)

    def last(self, items: Items, most: int) -> int:
        """The number of equal items at the end, up to ``most``."""
        old, new = self.size, len(items)

        def same(low: int, high: int) -> bool:
            return self.cut(old - high, old - low).matches(items[new - high : new - low])

        return _agreed(same, most)

    def differing(self, items: Items, low: int, high: int) -> list[int]:
        """The indexes, in a range, of items that differ; may include some that do not.

        Opened items are not compared, nor are all of many items of which nearly all differ.
        """
        indexes: list[int] = []
        at = 0
        for part in self.parts:
            size = _size(part)
            first, last = max(low - at, 0), min(high - at, size)
            if first < last:
                indexes += (
                    [at] if isinstance(part, Opened) else _differing(part, items, at, first, last)
                )
            at += size
        return indexes


def _differing(
    column: Column, items: Items, at: int, low: int, high: int, surely: bool = False
) -> list[int]:
    """The indexes of items that differ from those of a column at ``at``; some ``surely`` do."""
    if not surely and _same(column, low, high, items, at + low):
        return []
    if high - low == 1:
        return [at + low]
    if high - low > _SAMPLES * _SAMPLES:
        samples = (low + int(_SPACING * n % 1 * (high - low)) for n in range(_SAMPLES))
        if not any(_same(column, n, n + 1, items, at + n) for n in samples):
            return [*range(at + low, at + high)]
    half = (low + high) // 2
    indexes = _differing(column, items, at, low, half)
    return indexes + _differing(column, items, at, half, high, not indexes)


def _same(column: Column, start: int, stop: int, items: Items, at: int) -> bool:
    """Whether a range of a column is the same as items from ``at`` on."""
    part = column if stop - start == len(column.kinds) else cut(column, start, stop)
    return matches(part, items[at : at + stop - start])


def _agreed(same: Callable[[int, int], bool], most: int) -> int:
    """The number of equal items from one end; ``same(low, high)`` compares a range."""
    if same(0, most):
        return most
    low, high = 0, most
    while high - low > 1:
        half = (low + high) // 2
        if same(low, half):
            low = half
        else:
            high = half
    return low


def old_items(chunks: Chunks) -> Items | None:
    """The remembered items themselves, if they are immutable."""
    items: Items = []
    for part in chunks.parts:
        if isinstance(part, Opened) or len(part.groups) != 1:
            return None
        group = part.groups[0].group
        if not isinstance(group, Equal):
            return None
        items += group.items
    return items
