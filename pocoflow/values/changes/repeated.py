"""Sequences of a few objects that are repeated, stored as these and their number of repetitions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, repeat
from typing import TypeVar, overload

T = TypeVar("T")

MANY = 50
"""From this number of parts on, it pays to look for repetitions, or to use the collector."""


class Repeated(Sequence[T]):
    """A few objects, repeated, such as the keys of many dicts with the same keys."""

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
        return all(other[n :: len(few)].count(item) == times for n, item in enumerate(few))

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
    """Equal parts, in compact form if they are many and a few of them are repeated."""
    if len(items) <= MANY:
        return items
    try:
        period = items.index(items[0], 1, MANY)
    except Exception:  # noqa: BLE001 - it is not repeated, or its own code fails
        return items
    times, rest = divmod(len(items), period)
    few = items[:period]
    return items if rest or few * times != items else Repeated(few, times)


def total(numbers: Sequence[int], stop: int) -> int:
    """The sum of the first ``stop`` numbers."""
    if type(numbers) is not Repeated:
        return sum(numbers[:stop])
    times, rest = divmod(stop, len(numbers.few))
    return times * sum(numbers.few) + sum(numbers.few[:rest])


def joined(first: Sequence[T], second: Sequence[T]) -> Sequence[T]:
    """Two sequences concatenated, in compact form as after :func:`shortened` if possible."""
    if type(first) is Repeated:
        times, rest = divmod(len(second), len(first.few))
        if not rest and second == first.few * times:
            return Repeated(first.few, first.times + times)
    whole = [*first, *second]
    return whole if len(first) > MANY else shortened(whole)
