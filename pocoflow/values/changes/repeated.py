"""Rows of the same few objects again and again, kept as these and how often they come."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, repeat
from typing import TypeVar, overload

T = TypeVar("T")

MANY = 50
"""Of so many parts it pays to look for what is repeated, or to ask the collector."""


class Repeated(Sequence[T]):
    """A few objects in a row, again and again, as the keys of dicts that are all alike."""

    __slots__ = ("few", "times")

    def __init__(self, few: list[T], times: int) -> None:
        self.few = few
        self.times = times

    def __len__(self) -> int:
        return len(self.few) * self.times

    def __eq__(self, other: object) -> bool:
        if type(other) is not list or len(other) != len(self):
            return False
        few, times = self.few, self.times
        if len(few) == 1:
            return other.count(few[0]) == times
        return all(other[n :: len(few)].count(one) == times for n, one in enumerate(few))

    __hash__ = None  # type: ignore[assignment]

    def __iter__(self) -> Iterator[T]:
        return chain.from_iterable(repeat(self.few, self.times))

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...
    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        period = len(self.few)
        if isinstance(index, int):
            return self.few[range(len(self))[index] % period]
        start, stop, _ = index.indices(len(self))
        if start % period == stop % period == 0:
            return Repeated(self.few, max(stop - start, 0) // period)
        return (self.few * self.times)[index]


def shortened(items: list[T]) -> Sequence[T]:
    """The same parts, by equality; many of them that are a few again and again as these."""
    if len(items) <= MANY:
        return items
    try:
        period = items.index(items[0], 1, MANY)
    except Exception:  # noqa: BLE001 - there is none, or its own code fails
        return items
    times, rest = divmod(len(items), period)
    few = items[:period]
    return items if rest or few * times != items else Repeated(few, times)


def total(numbers: Sequence[int], stop: int) -> int:
    """The sum of the first ones of some numbers."""
    if type(numbers) is not Repeated:
        return sum(numbers[:stop])
    times, rest = divmod(stop, len(numbers.few))
    return times * sum(numbers.few) + sum(numbers.few[:rest])


def joined(some: Sequence[T], others: Sequence[T]) -> Sequence[T]:
    """Some parts and others behind them, which may be repeated, as after :func:`shortened`."""
    if type(some) is Repeated:
        times, rest = divmod(len(others), len(some.few))
        if not rest and others == some.few * times:
            return Repeated(some.few, some.times + times)
    whole = [*some, *others]
    return whole if len(some) > MANY else shortened(whole)
