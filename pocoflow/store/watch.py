"""Finding what changed in a store since somebody looked: by value, not by assignment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from pocoflow.store.store import Store
from pocoflow.values.changes.difference import Change
from pocoflow.values.changes.frozen import Frozen, difference, freeze_parts, is_same

_LONG = 400
"""Of a value with more parts, only what changed in it is checked and remembered again."""

_NOTHING = object()


class Changed(NamedTuple):
    """A key whose value is not the remembered one.

    Attributes:
        key: The key.
        value: Its value now.
        before: The remembered parts or text, if either is remembered.
        is_long: Whether it has so many parts that only what changed in it is checked.
        found: What changed in a long value, and how it is remembered from now on; ``None`` if it is
            another one altogether.
    """

    key: str
    value: object
    before: Frozen | str | None
    is_long: bool = False
    found: tuple[list[Change], Frozen] | None = None


class Watch:
    """Remembers the values of a store and finds those that differ from what it remembers.

    Attributes:
        in_parts: The keys whose values are remembered by their parts.
    """

    __slots__ = ("_known", "in_parts")

    def __init__(self) -> None:
        self._known: dict[str, Any] = {}
        self.in_parts: set[str] = set()

    @classmethod
    def of(cls, values: Mapping[str, object]) -> Watch:
        """One that remembers these values."""
        made = cls()
        for key, value in values.items():
            made.remember(key, value)
        return made

    def copy(self) -> Watch:
        """One that remembers the same."""
        other = Watch()
        other._known, other.in_parts = dict(self._known), set(self.in_parts)
        return other

    def now(self, store: Store) -> Watch:
        """One that remembers the values as they are now, and shares with this what is the same."""
        other = self.copy()
        for key in self.gone(store):
            other.forget(key)
        for one in self.changed(store):
            other.remember(one.key, one.value, one.found and one.found[1])
        return other

    def changed(self, store: Store) -> Iterator[Changed]:
        """Every key whose value differs."""
        return self.changed_among(store.own_items())

    def changed_among(self, items: Iterable[tuple[str, object]]) -> Iterator[Changed]:
        """As :meth:`changed`, of some keys and their values."""
        known = self._known
        for key, value in items:
            before = known.get(key, _NOTHING)
            if type(before) is not Frozen:
                if type(before) is not type(value) or before != value:
                    yield Changed(key, value, before if type(before) is str else None)
            elif before.weight <= _LONG:
                if not is_same(before, value):
                    yield Changed(key, value, before)
            else:
                found = difference(before, value)
                if found[0] if found else not is_same(before, value):
                    yield Changed(key, value, before, True, found)

    def differs(self, key: str, value: object) -> bool:
        """Whether a value is not the remembered one."""
        return any(self.changed_among([(key, value)]))

    def gone(self, store: Iterable[str]) -> list[str]:
        """The remembered keys that the store no longer has."""
        missing = self._known.keys() - store
        return [key for key in self._known if key in missing] if missing else []

    def remember(self, key: str, value: object, frozen: Frozen | None = None) -> None:
        """Take a value as known; ``frozen`` is its remembered form if it has been made already."""
        frozen = frozen or freeze_parts(value)
        if frozen is None:
            self._known[key] = value
            self.in_parts.discard(key)
        else:
            self._known[key] = frozen
            self.in_parts.add(key)

    def forget(self, key: str) -> None:
        """Take a key as absent."""
        self._known.pop(key, None)
        self.in_parts.discard(key)

    @property
    def weight(self) -> int:
        """How many parts the remembered values have, on all levels: what it takes to compare them.

        Those that are compared at once count nothing.
        """
        return sum(self._known[key].weight for key in self.in_parts)

    def __contains__(self, key: object) -> bool:
        return key in self._known
