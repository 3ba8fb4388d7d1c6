"""The numbers of items, by which what is recorded of an item is found again after a resume."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterator, Mapping
from itertools import chain, count

from pocoflow.engine.digests import digest_of
from pocoflow.engine.line import Line
from pocoflow.graph.graph import Vertex, label
from pocoflow.graph.step_records import Identity
from pocoflow.values import Classes

_AGAIN = "."


class ItemNumbers:
    """Numbers items: each by its index, or by the number that it had before a crash.

    ``prep`` runs again when a run is resumed, and may return other items, or the same ones in
    another order. An item that is found again gets its old number, and with that its result, its
    question or its branch; a new one gets a number for which nothing is recorded. An item that
    cannot be stored is assumed to be the one that had its index.
    """

    def __init__(self, known: Mapping[int, str], recorded: Container[int]) -> None:
        """Start from what is known.

        Args:
            known: The marks of items, by number.
            recorded: The numbers for which something is recorded; among equal items they come
                first.
        """
        self._known, self._recorded = known, recorded
        self._left: dict[str, dict[int, None]] = defaultdict(dict)
        for number in sorted(known, key=lambda number: (number not in recorded, number)):
            self._left[known[number].partition(_AGAIN)[0]][number] = None
        self._given: set[int] = set()
        self._next = max(known, default=-1) + 1
        self._taken = set(known.values())
        self._marks: dict[str, Iterator[str]] = {}

    def digest_of(self, item: object, classes: Classes | None) -> str:
        """The digest of an item, as it is, or as it was stored before its class was changed.

        Args:
            item: The item.
            classes: The classes as they were read from the log, if any.
        """
        digest = digest_of(item)
        if digest and self._known and classes is not None and digest not in self._left:
            stored = digest_of(item, classes)
            return stored if stored in self._left else digest
        return digest

    def give(self, index: int, digest: str) -> Identity:
        """The identity of the item at an index; to be called in the order of the indexes."""
        number = self._number(index, digest) if self._known else index
        mark = self._known.get(number)
        return Identity(number, self._mark(digest) if mark is None else mark)

    def _mark(self, digest: str) -> str:
        """A mark that no other item has, the same in each process that gets the same items."""
        if not digest:
            return ""
        if digest not in self._marks:
            repeats = (f"{digest}{_AGAIN}{number}" for number in count(1))
            self._marks[digest] = chain((digest,), repeats)
        return next(mark for mark in self._marks[digest] if mark not in self._taken)

    def _number(self, index: int, digest: str) -> int:
        numbers = self._left[digest]
        if digest:
            number = next(iter(numbers), self._new(index))
            if index in numbers and (index in self._recorded or number not in self._recorded):
                number = index
        else:
            number = index if index in numbers else self._new(index)
        numbers.pop(number, None)
        self._given.add(number)
        return number

    def _new(self, index: int) -> int:
        if index not in self._known and index not in self._given:
            return index
        while self._next in self._given:
            self._next += 1
        return self._next

    @property
    def gone(self) -> list[int]:
        """The recorded numbers whose items are gone, once the last item has its number."""
        left = chain.from_iterable(self._left.values())
        return sorted(number for number in left if number in self._recorded)


def report_gone(run: Line, vertex: Vertex, numbers: ItemNumbers) -> None:
    """Report which items have records that are no longer used."""
    if gone := numbers.gone:
        shown = ", ".join(map(str, gone[:10])) + (", ..." if len(gone) > 10 else "")
        run.remark(
            f"run {run.context.run_id!r}: node {label(vertex.name, run.context.path)!r} had "
            f"finished, asked about or started {len(gone)} items that are no longer among its "
            f"items, so that this is not used (their numbers: {shown})"
        )
