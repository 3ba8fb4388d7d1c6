"""The changes of a value since it was remembered, as changes of its stored tree.

Paths refer to the tree of plain JSON values that the codec writes, not to the value: so no class is
needed to apply changes, and whatever the codec splits can be changed in part.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias

from pocoflow.values.changes.columns import lay_out
from pocoflow.values.changes.groups import Dicts, Equal, Items, Models, Split
from pocoflow.values.changes.parts import (
    Chunks,
    Opened,
    Part,
    bulk,
    closed_if_small,
    old_items,
    opened,
    part_matches,
    reopened,
)
from pocoflow.values.encoding import TAG, is_utf8
from pocoflow.values.kinds import Parts, Splitter
from pocoflow.values.objects import family_of
from pocoflow.values.remembering import remembered

Operation: TypeAlias = Literal["set", "append", "splice", "delete"]

_Path: TypeAlias = tuple[str | int, ...]

_MAX_DEPTH = 100
_LONG = 100
"""The length from which on a text may be appended to; a shorter one is set."""

_FEW = 3
"""More changes than these are written separately only if they are less than half of the whole."""

_OVERHEAD = 30
"""The approximate overhead in characters of a written change."""

_SAMPLE = 2
"""The number of elements from which the number of changes is estimated."""

_TRIES = 100
"""The maximum number of shifts that are tried to recognise a list as a sliding window."""


class Change(NamedTuple):
    """One change.

    Attributes:
        path: The path in the stored tree: keys of objects and indexes of elements.
        operation: ``set`` a part; ``append`` to a list or a text; ``splice`` a list: the value
            is the start, the number of removed elements and the inserted ones; ``delete`` a part of
            an object, if it exists.
        value: The new value, elements or text.
        grows: Whether it only adds, and replaces nothing.
        now: The remembered form of the new value, elements or text.
    """

    path: _Path
    operation: Operation
    value: Any
    grows: bool = False
    now: Part | None = None

    def is_still(self) -> bool:
        """Whether the new value is as it was remembered, unchanged by another thread."""
        if self.now is None:
            return True
        new = self.value[2] if self.operation == "splice" else self.value
        is_list = self.operation != "set" and type(new) is list
        return Chunks.of(self.now).matches(new if is_list else [new])


class Difference:
    """Compares a value with a remembered one; ``changes`` has the changes in order."""

    def __init__(self) -> None:
        self.changes: list[Change] = []

    def part(self, part: Part, value: object, path: _Path = ()) -> Part:
        """Find the changes in a part; returns its new remembered form, or the old one if unchanged.

        Opened parts are not compared as a whole first: each innermost part would be compared once
        for each container around it.

        Raises:
            Exception: The value cannot be split, as its own code fails.
        """
        start = len(self.changes)
        new = self._inside(part, value, path) if len(path) < _MAX_DEPTH else None
        count = len(self.changes) - start
        if new is not None and not count:
            return part
        if new is None or (count > _FEW and self._are_most(self._bulk(start), new)):
            del self.changes[start:]
            if new is None:
                if part_matches(part, value):
                    return part
                new = lay_out([value])
            self.changes.append(Change(path, "set", value, now=new))
        return closed_if_small(new)

    def _bulk(self, start: int) -> int:
        """The approximate number of characters of the changes from an index on."""
        new = [change.now for change in self.changes[start:]]
        return _OVERHEAD * len(new) + bulk(*(part for part in new if part is not None))

    def _are_most(self, size: int, *parts: Part) -> bool:
        """Whether changes of this size are at least half of some parts."""
        return bulk(*parts, most=2 * size + 1) <= 2 * size

    def _inside(self, part: Part, value: Any, path: _Path) -> Part | None:
        kind = type(value)
        if kind is str:
            return self._text(part, value, path)
        before = opened(part)
        if before is None or before.kind is not kind:
            return None
        if kind is list or kind is tuple:
            inside = path if kind is list else (*path, "value")
            chunks = self._sequence(before.below[0], [*value], inside)
            return None if chunks is None else reopened(kind, value, chunks)
        if isinstance(before.group, Dicts):
            return self._mapping(before, value, path)
        if isinstance(before.group, Split):
            return self._object(before, value, path)
        return None

    def _text(self, part: Part, value: str, path: _Path) -> Part | None:
        group = None if isinstance(part, Opened) else part.groups[0].group
        if not isinstance(group, Equal) or type(group.items[0]) is not str:
            return None
        old = group.items[0]
        is_longer = _LONG <= len(old) < len(value) and value.startswith(old)
        if not is_longer or not is_utf8(value):
            return None
        tail = value[len(old) :]
        self.changes.append(Change(path, "append", tail, True, lay_out([tail])))
        return lay_out([value])

    # -- lists ----------------------------------------------------------------------------------

    def _sequence(self, chunks: Chunks, items: Items, path: _Path) -> Chunks | None:
        old, new = chunks.size, len(items)
        if old == new:
            indexes = chunks.differing(items, 0, new)
            if not indexes:
                return chunks
            first, last = indexes[0], new - indexes[-1] - 1
        else:
            first = chunks.first(items, min(old, new))
            if first == old:
                added = lay_out(items[old:])
                self.changes.append(Change(path, "append", items[old:], True, added))
                return chunks.grown(added)
            last = chunks.last(items, min(old, new) - first)
            indexes = chunks.differing(items, first, old - last) if old < new else []
        removed, inserted = old - first - last, new - first - last
        moved = self._moved(chunks, items, first, removed, inserted)
        if moved:
            self.changes.append(Change(path, "splice", (first, moved, [])))
            chunks = chunks.cut(0, first).joined(chunks.cut(first + moved, old))
            old, first, removed = old - moved, first + removed - moved, 0
            inserted = new - last - first
        elif inserted >= removed:
            changed = self._elements(chunks, items, indexes, lambda at: (*path, at))
            if changed is None or inserted == removed:
                return None if changed is None else changed.packed()
            chunks, first, inserted, removed = changed, first + removed, inserted - removed, 0
        elements = items[first : first + inserted]
        added = lay_out(elements)
        grows = not moved and not removed
        if not removed and first == old:
            self.changes.append(Change(path, "append", elements, grows, added))
        elif elements or removed:
            self.changes.append(Change(path, "splice", (first, removed, elements), grows, added))
        ends = chunks.cut(0, first), chunks.cut(old - last, old)
        return ends[0].joined(Chunks.of(added), ends[1]).packed()

    def _moved(self, chunks: Chunks, items: Items, first: int, removed: int, inserted: int) -> int:
        """The number of elements that were dropped, if those after them follow unchanged."""
        fewest, stop = max(1, removed - inserted), first + removed
        last = chunks.cut(stop - 1, stop)
        for dropped in range(fewest, min(removed, fewest + _TRIES)):
            end = stop - dropped
            if last.matches(items[end - 1 : end]) and (
                chunks.cut(first + dropped, stop).matches(items[first:end])
            ):
                return dropped
        return 0

    def _elements(
        self, chunks: Chunks, items: Items, indexes: list[int], path_of: Callable[[int], _Path]
    ) -> Chunks | None:
        """Find the changes in the elements at some indexes, which have not moved.

        They stay separate from the others: what changed once may change again, as a last message
        does with each token, and is then found at once.
        """
        parts, done, start = list[Part](), 0, len(self.changes)
        for count, index in enumerate(indexes):
            if count == _SAMPLE and len(indexes) > _FEW:
                expected = self._bulk(start) * len(indexes) // count
                if self._are_most(expected, *chunks.parts):
                    return None
            (before,) = chunks.cut(index, index + 1).parts
            part = self.part(before, items[index], path_of(index))
            if part is not before:
                parts += [*chunks.cut(done, index).parts, part]
                done = index + 1
        return Chunks((*parts, *chunks.cut(done, chunks.size).parts))

    # -- dicts ----------------------------------------------------------------------------------

    def _mapping(self, before: Opened, value: dict[Any, object], path: _Path) -> Part | None:
        keys, values = before.below
        new, items = list(value), list(value.values())
        if keys.matches(new):
            if TAG in value or not _are_texts(new):
                changed = self._values(values, items, lambda at: (*path, "value", 2 * at + 1))
            else:
                changed = self._values(values, items, lambda at: (*path, new[at]))
            return None if changed is None else reopened(dict, value, keys, changed)
        old = old_items(keys)
        if old is None or not _are_texts(old) or not _are_texts(new) or TAG in {*old, *new}:
            return None
        return self._keys(before, value, old, path)

    def _keys(
        self, before: Opened, value: dict[str, object], old: list[str], path: _Path
    ) -> Part | None:
        """Find the changes in a dict with removed or new keys."""
        keys, values = before.below
        new, items = list(value), list(value.values())
        common = 0
        common_keys, common_values = keys, values
        removed = []
        for key in old:
            if common < len(new) and new[common] == key:
                common += 1
            else:
                removed.append(key)
        if removed:
            common_keys, common_values = _without(keys, values, old, set(removed))
        for key in removed:
            self.changes.append(Change((*path, key), "delete", None))
        changed = self._values(common_values, items[:common], lambda at: (*path, new[at]))
        if changed is None:
            return None
        for key, item in zip(new[common:], items[common:], strict=True):
            self.changes.append(Change((*path, key), "set", item, not removed, lay_out([item])))
        below = common_keys.grown(lay_out(new[common:])), changed.grown(lay_out(items[common:]))
        return reopened(dict, value, *below)

    def _values(
        self, chunks: Chunks, items: Items, path_of: Callable[[int], _Path]
    ) -> Chunks | None:
        indexes = chunks.differing(items, 0, len(items))
        changed = self._elements(chunks, items, indexes, path_of)
        return None if changed is None else changed.packed()

    # -- objects --------------------------------------------------------------------------------

    def _object(self, before: Opened, value: object, path: _Path) -> Part | None:
        """Find the changes in a container of the standard library or an object of a class."""
        kind, group = before.kind, before.group
        inner = [chunks.parts[0] for chunks in before.below]
        state = [column[0] for column in group.parts([value])]
        split = _splitter(kind)
        if split is None or split[0] == "subclass":
            if type(state[0]) is not dict:
                return None
            changed = self._whole_of(inner[0], state[0], path)
        elif split[0] == "dataclass":
            split[1](value)
            changed = self._whole_of(inner[0], state[0], (*path, "value"))
        elif split[0] == "model" and isinstance(group, Models):
            return self._model(before, inner, state, split[1](value), path)
        else:
            return None
        return None if changed is None else Opened(kind, group, (Chunks.of(changed),))

    def _whole_of(self, part: Part, state: object, path: _Path) -> Part | None:
        """Find the changes in a dict that must not be set as a whole."""
        before = opened(part)
        if type(state) is not dict or before is None or not isinstance(before.group, Dicts):
            return None
        return self._mapping(before, state, path)

    def _model(
        self, before: Opened, inner: list[Part], state: Items, parts: Parts, path: _Path
    ) -> Part | None:
        fields = self._whole_of(inner[0], state[0], (*path, "value"))
        if fields is None:
            return None
        new = [fields, *inner[1:]]
        if not part_matches(new[1], state[1]):
            names = parts.get("set")
            self.changes.append(Change((*path, "set"), "delete" if names is None else "set", names))
            new[1] = lay_out([state[1]])
        for index, name in ((2, "extra"), (3, "private")):
            if not part_matches(new[index], state[index]):
                new[index] = self.part(new[index], state[index], (*path, name))
        return Opened(before.kind, before.group, tuple(map(Chunks.of, new)))


def _are_texts(keys: Items) -> bool:
    """Whether a dict with these keys is stored as an object."""
    return set(map(type, keys)) <= {str} and is_utf8("".join(keys))


def _without(
    keys: Chunks, values: Chunks, old: list[str], removed: set[str]
) -> tuple[Chunks, Chunks]:
    """The chunks of keys and values without some keys."""
    new = Chunks.of(), Chunks.of()
    start = 0
    for index, key in enumerate([*old, None]):
        if key is None or key in removed:
            if start < index:
                new = new[0].joined(keys.cut(start, index)), new[1].joined(values.cut(start, index))
            start = index + 1
    return new


@remembered
def _splitter(kind: type) -> tuple[str, Splitter] | None:
    """The family of a class, and its splitter, which refuses an instance that cannot be stored."""
    family = family_of(kind)
    return None if family is None else (family.tag, family.prepare(kind))
