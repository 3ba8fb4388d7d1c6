"""Finding what has changed in a store: by value, not by assignment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from pocoflow.store.store import Store
from pocoflow.values.changes.difference import Change
from pocoflow.values.changes.frozen import Frozen, difference, freeze_parts, is_same

_LONG = 400
"""If a value has more parts, only its changes are checked and remembered again."""

_NOTHING = object()


class Changed(NamedTuple):
    """A key whose value differs from the remembered one.

    Attributes:
        key: The key.
        value: Its value now.
        before: The remembered parts or text, if either is remembered.
        is_long: Whether it has so many parts that only its changes are checked.
        found: The changes in a long value, and its new remembered form; ``None`` if it was replaced
            as a whole.
    """

    key: str
    value: object
    before: Frozen | str | None
    is_long: bool = False
    found: tuple[list[Change], Frozen] | None = None


class Watch:
    """Remembers the values of a store, and finds those that have changed.

    Attributes:
        in_parts: The keys whose values are remembered by their parts.
    """

    __slots__ = ("_known", "in_parts")

    def __init__(self) -> None:
        self._known: dict[str, Any] = {}
        self.in_parts: set[str] = set()

    @classmethod
    def of(cls, values: Mapping[str, object]) -> Watch:
        """A watch that remembers these values."""
        watch = cls()
        for key, value in values.items():
            watch.remember(key, value)
        return watch

    def copy(self) -> Watch:
        """A watch that remembers the same values."""
        other = Watch()
        other._known, other.in_parts = dict(self._known), set(self.in_parts)
        return other

    def now(self, store: Store) -> Watch:
        """A watch that remembers the current values, and shares unchanged parts with this one."""
        other = self.copy()
        for key in self.gone(store):
            other.forget(key)
        for change in self.changed(store):
            other.remember(change.key, change.value, change.found and change.found[1])
        return other

    def changed(self, store: Store) -> Iterator[Changed]:
        """Every key whose value differs."""
        return self.changed_among(store.own_items())

    def changed_among(self, items: Iterable[tuple[str, object]]) -> Iterator[Changed]:
        """Like :meth:`changed`, for these keys and values."""
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
        """Whether a value differs from the remembered one."""
        return any(self.changed_among([(key, value)]))

    def gone(self, store: Iterable[str]) -> list[str]:
        """The remembered keys that the store no longer has."""
        missing = self._known.keys() - store
        return [key for key in self._known if key in missing] if missing else []

    def remember(self, key: str, value: object, frozen: Frozen | None = None) -> None:
        """Remember a value; ``frozen`` is its remembered form if it exists already."""
        frozen = frozen or freeze_parts(value)
        if frozen is None:
            self._known[key] = value
            self.in_parts.discard(key)
        else:
            self._known[key] = frozen
            self.in_parts.add(key)

    def forget(self, key: str) -> None:
        """Remember that a key is absent."""
        self._known.pop(key, None)
        self.in_parts.discard(key)

    @property
    def weight(self) -> int:
        """The number of parts of the remembered values, on all levels: the cost of comparing them.

        Values that are compared in one operation count as zero.
        """
        return sum(self._known[key].weight for key in self.in_parts)

    def __contains__(self, key: object) -> bool:
        return key in self._known
