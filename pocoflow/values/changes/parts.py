"""A remembered value, opened along the way to what changed in it.

A part that never changed is one item of a column. Where something changed the containers around it
are opened: each keeps its own parts in :class:`Chunks`, of which only those that changed are laid
out again. So a change costs what changed and one comparison of the rest. Small ones are closed at
once: else a value that was changed at many places would be compared piece by piece.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial, reduce
from itertools import chain
from typing import NamedTuple, TypeAlias

from pocoflow.values.changes.columns import cut, lay_out, matches, together, weight
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
"""Of so many chunks some are put together again."""

_SMALL = 400
"""A value of fewer parts is closed again at once."""

_LOOKS = 16
"""Of many items so many are looked at first, to see whether all differ."""

_SPACING = 0.618
"""What is looked at is everywhere, and not at equal distances."""

_SHORT = 1000
"""So many items of a column are put together with those behind them at once."""

_BESIDE, _TAGGED = 4, 40
"""About so many characters are written of a part beside its text, and more of a tagged one."""


class Opened(NamedTuple):
    """One value whose parts are kept apart."""

    kind: type
    group: Group
    below: tuple[Chunks, ...]

    def matches(self, value: object) -> bool:
        """Whether a value is the same."""
        if type(value) is not self.kind or not self.group.same([value]):
            return False
        parts = self.group.parts([value])
        return all(one.matches(own) for one, own in zip(self.below, parts, strict=True))


Part: TypeAlias = Column | Opened


def part_matches(part: Part, value: object) -> bool:
    """Whether a value is the same as a remembered one."""
    return part.matches(value) if isinstance(part, Opened) else matches(part, [value])


def bulk(*parts: Part, most: int = sys.maxsize) -> int:
    """About how many characters are written of some parts, counted until that is ``most``."""
    found, waiting = 0, [*parts]
    while waiting and found < most:
        part = waiting.pop()
        if isinstance(part, Opened):
            waiting += chain.from_iterable(one.parts for one in part.below)
            continue
        found += _BESIDE * len(part.kinds)
        for _, _, group, below in part.groups:
            waiting += below
            if isinstance(group, Signed):
                found += _TAGGED * len(group.items)
            elif isinstance(group, Equal) and found < most:
                found += sum(len(one) for one in group.items if isinstance(one, str | bytes))
    return found


def part_weight(part: Part) -> int:
    """How many parts it has, on all levels."""
    if isinstance(part, Opened):
        return 1 + sum(one.weight for one in part.below)
    return weight(part)


def _size(part: Part) -> int:
    return 1 if isinstance(part, Opened) else len(part.kinds)


def opened(part: Part) -> Opened | None:
    """A remembered value with its parts kept apart, or ``None`` if it has none."""
    if isinstance(part, Opened):
        return part
    _, _, group, below = part.groups[0]
    if not isinstance(group, Sequences | Split):
        return None
    return Opened(part.kinds[0], group, tuple(Chunks.of(one) for one in below))


def reopened(kind: type, value: object, *below: Chunks) -> Opened:
    """The same container with other parts."""
    group = group_of(kind)([value])
    if sum(one.size for one in below) < _SMALL:
        group.first_parts([value])  # it will be closed, and joined with those that have seen theirs
    return Opened(kind, group, below)


def closed(part: Part) -> Column:
    """A remembered value in columns alone."""
    if not isinstance(part, Opened):
        return part
    column = Column()
    column.kinds = [part.kind]
    below = [reduce(together, map(closed, one.parts or (lay_out([]),))) for one in part.below]
    column.groups.append(OfKind(part.kind, None, part.group, below))
    return column


def in_pieces(part: Part) -> bool:
    """Whether it takes more than one look to compare what is in it."""
    return isinstance(part, Opened) and any(len(one.parts) > 1 for one in part.below)


def closed_if_small(part: Part) -> Part:
    """The same, closed if it is so small that this is no more than to look at it once."""
    if not isinstance(part, Opened) or sum(one.size for one in part.below) >= _SMALL:
        return part
    return closed(part) if part_weight(part) < _SMALL else part


class Chunks(NamedTuple):
    """Items in a row, in chunks: columns of many, or one opened item."""

    parts: tuple[Part, ...]

    @classmethod
    def of(cls, *parts: Part) -> Chunks:
        """Those of some parts."""
        return cls(tuple(filter(_size, parts)))

    @property
    def size(self) -> int:
        """How many items there are."""
        return sum(map(_size, self.parts))

    @property
    def weight(self) -> int:
        """How many parts there are, on all levels."""
        return sum(map(part_weight, self.parts))

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
        """Those of a few items in a row."""
        found, at = [], 0
        for part in self.parts:
            size = _size(part)
            first, last = max(start - at, 0), min(stop - at, size)
            at += size
            if first >= last:
                continue
            if isinstance(part, Opened) or last - first == size:
                found.append(part)
            else:
                found.append(cut(part, first, last))
        return Chunks.of(*found)

    def joined(self, *others: Chunks) -> Chunks:
        """These and others behind them; columns that come to stand beside each other are one."""
        parts = list(self.parts)
        for part in chain.from_iterable(other.parts for other in others):
            before = parts[-1] if parts else None
            if isinstance(part, Column) and isinstance(before, Column):
                parts[-1] = together(before, part)
            else:
                parts.append(part)
        return Chunks.of(*parts)

    def grown(self, new: Column) -> Chunks:
        """These with a column behind them. It is joined with a short one alone, which is copied."""
        if not new.kinds:
            return self
        parts = self.parts
        last = parts[-1] if parts else None
        if isinstance(last, Column):
            before = parts[-2] if len(parts) > 1 else None
            if _size(last) < _SHORT:
                new, parts = together(last, new), parts[:-1]
            elif isinstance(before, Column):
                parts = *parts[:-2], together(before, last)
        return Chunks((*parts, new)).packed()

    def packed(self) -> Chunks:
        """The same in few chunks: what is opened and light is closed."""
        if len(self.parts) <= _MANY:
            return self
        limit = self.weight // 8
        light = (closed(one) if part_weight(one) <= limit else one for one in self.parts)
        return Chunks.of().joined(Chunks.of(*light))

    def first(self, items: Items, most: int) -> int:
        """How many items are the same at the beginning, at most so many."""
        at = 0
        for part in self.parts:
            stop = min(at + _size(part), most)
            same = _agreed(partial(_same_after, part, items, at), stop - at)
            at += same
            if at < stop or stop == most:
                break
        return at

    def last(self, items: Items, most: int) -> int:
        """How many are the same at the end."""
        found = 0
        for part in reversed(self.parts):
            stop = min(found + _size(part), most)
            end = len(items) - found
            same = _agreed(partial(_same_before, part, items, end), stop - found)
            found += same
            if found < stop or stop == most:
                break
        return found

    def differing(self, items: Items, low: int, high: int) -> list[int]:
        """Which of as many items between two places are not the same, and some that may be.

        What is opened is not compared, nor are all of many items of which nearly all differ.
        """
        found: list[int] = []
        at = 0
        for part in self.parts:
            size = _size(part)
            first, last = max(low - at, 0), min(high - at, size)
            if first < last:
                found += (
                    [at] if isinstance(part, Opened) else _differing(part, items, at, first, last)
                )
            at += size
        return found


def _differing(
    column: Column, items: Items, at: int, low: int, high: int, some: bool = False
) -> list[int]:
    """Which items differ from those of a column that begins at a place; it may be known some do."""
    if not some and _same(column, low, high, items, at + low):
        return []
    if high - low == 1:
        return [at + low]
    if high - low > _LOOKS * _LOOKS:
        looks = (low + int(_SPACING * look % 1 * (high - low)) for look in range(_LOOKS))
        if not any(_same(column, one, one + 1, items, at + one) for one in looks):
            return [*range(at + low, at + high)]
    half = (low + high) // 2
    found = _differing(column, items, at, low, half)
    return found + _differing(column, items, at, half, high, not found)


def _same_after(part: Part, items: Items, at: int, low: int, high: int) -> bool:
    return _same(part, low, high, items, at + low)


def _same_before(part: Part, items: Items, end: int, low: int, high: int) -> bool:
    size = _size(part)
    return _same(part, size - high, size - low, items, end - high)


def _same(part: Part, start: int, stop: int, items: Items, at: int) -> bool:
    """Whether what a part has between two places is the same as items from a place on."""
    if isinstance(part, Opened):
        return start == stop or part.matches(items[at])
    column = part if stop - start == len(part.kinds) else cut(part, start, stop)
    return matches(column, items[at : at + stop - start])


def _agreed(same: Callable[[int, int], bool], most: int) -> int:
    """How many agree, counted from one end; ``same(low, high)`` tells it of those in between."""
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
    """The remembered items themselves, if they are of immutable kinds."""
    found: Items = []
    for part in chunks.parts:
        if isinstance(part, Opened) or len(part.groups) != 1:
            return None
        group = part.groups[0].group
        if not isinstance(group, Equal):
            return None
        found += group.items
    return found
