"""What changed in a value since it was remembered, as changes of the tree in which it is stored.

Paths lead through the tree of plain JSON values that the codec writes, not through the value: so no
class is needed to apply changes, and whatever the codec takes apart can be changed in part.
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
    in_pieces,
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
"""A text of so many characters may be appended to; a shorter one is set."""

_FEW = 3
"""More changes than these are written one by one only if that is less than half of it all."""

_AROUND = 30
"""About so many characters are written of a change beside its value."""

_SAMPLE = 2
"""After so many elements it is known about how many changes there will be."""

_TRIES = 100
"""So many elements may have come behind others where a list is taken for a window that moved on."""


class Change(NamedTuple):
    """One place that changed.

    Attributes:
        path: Where in the stored tree: keys of objects and numbers of elements.
        operation: ``set`` a part; ``append`` to a list or a text; ``splice`` a list: the value
            is the start, how many elements go and those that come; ``delete`` a part of an object,
            if it is there.
        value: The new value, elements or text.
        grows: Whether it is more of it, and in the place of nothing.
        now: How what comes is remembered.
    """

    path: _Path
    operation: Operation
    value: Any
    grows: bool = False
    now: Part | None = None

    def is_still(self) -> bool:
        """Whether what comes is as it is remembered, and no other thread has changed it since."""
        if self.now is None:
            return True
        come = self.value[2] if self.operation == "splice" else self.value
        is_list = self.operation != "set" and type(come) is list
        return Chunks.of(self.now).matches(come if is_list else [come])


class Difference:
    """Compares a value with a remembered one; ``found`` has the changes in their order."""

    def __init__(self) -> None:
        self.found: list[Change] = []

    def part(self, part: Part, value: object, path: _Path = ()) -> Part:
        """Find what changed in a part; how it is remembered from now on: as before if nothing did.

        What was opened before is gone into at once: to compare each container first would take as
        many comparisons of what stands at the bottom as there are containers around it.

        Raises:
            Exception: The value cannot be taken apart, as its own code fails.
        """
        known = len(self.found)
        made = self._inside(part, value, path) if len(path) < _MAX_DEPTH else None
        found = len(self.found) - known
        if made is not None and not found:
            return part
        if made is None or (found > _FEW and self._are_most(self._bulk(known), made)):
            del self.found[known:]
            if made is None:
                if part_matches(part, value):
                    return part
                made = lay_out([value])
            self.found.append(Change(path, "set", value, now=made))
        return closed_if_small(made) if path or in_pieces(made) else made

    def _bulk(self, known: int) -> int:
        """About how many characters the changes are that were found since."""
        new = [one.now for one in self.found[known:]]
        return _AROUND * len(new) + bulk(*(one for one in new if one is not None))

    def _are_most(self, size: int, *parts: Part) -> bool:
        """Whether changes of about so many characters are no less than half of some parts."""
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
        self.found.append(Change(path, "append", tail, True, lay_out([tail])))
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
                new_ones = lay_out(items[old:])
                self.found.append(Change(path, "append", items[old:], True, new_ones))
                return chunks.grown(new_ones)
            last = chunks.last(items, min(old, new) - first)
            indexes = chunks.differing(items, first, old - last) if old < new else []
        gone, come = old - first - last, new - first - last
        moved = self._moved(chunks, items, first, gone, come)
        if moved:
            self.found.append(Change(path, "splice", (first, moved, [])))
            chunks = chunks.cut(0, first).joined(chunks.cut(first + moved, old))
            old, first, gone = old - moved, first + gone - moved, 0
            come = new - last - first
        elif come >= gone:
            made = self._elements(chunks, items, indexes, lambda at: (*path, at))
            if made is None or come == gone:
                return None if made is None else made.packed()
            chunks, first, come, gone = made, first + gone, come - gone, 0
        elements = items[first : first + come]
        new_ones = lay_out(elements)
        grows = not moved and not gone
        if not gone and first == old:
            self.found.append(Change(path, "append", elements, grows, new_ones))
        elif elements or gone:
            self.found.append(Change(path, "splice", (first, gone, elements), grows, new_ones))
        ends = chunks.cut(0, first), chunks.cut(old - last, old)
        return ends[0].joined(Chunks.of(new_ones), ends[1]).packed()

    def _moved(self, chunks: Chunks, items: Items, first: int, gone: int, come: int) -> int:
        """How many elements were dropped, if those behind them are still there in a row."""
        fewest, stop = max(1, gone - come), first + gone
        last = chunks.cut(stop - 1, stop)
        for dropped in range(fewest, min(gone, fewest + _TRIES)):
            end = stop - dropped
            if last.matches(items[end - 1 : end]) and (
                chunks.cut(first + dropped, stop).matches(items[first:end])
            ):
                return dropped
        return 0

    def _elements(
        self, chunks: Chunks, items: Items, indexes: list[int], path_of: Callable[[int], _Path]
    ) -> Chunks | None:
        """Find what changed in the elements at some places, which are where they were.

        They stay apart from the others: what changed once may change again, as a last message does
        with each token, and is found at once then.
        """
        made, done, known = list[Part](), 0, len(self.found)
        for count, index in enumerate(indexes):
            if count == _SAMPLE and len(indexes) > _FEW:
                expected = self._bulk(known) * len(indexes) // count
                if self._are_most(expected, *chunks.parts):
                    return None
            (before,) = chunks.cut(index, index + 1).parts
            part = self.part(before, items[index], path_of(index))
            if part is not before:
                made += [*chunks.cut(done, index).parts, part]
                done = index + 1
        return Chunks((*made, *chunks.cut(done, chunks.size).parts))

    # -- dicts ----------------------------------------------------------------------------------

    def _mapping(self, before: Opened, value: dict[Any, object], path: _Path) -> Part | None:
        keys, values = before.below
        new, items = list(value), list(value.values())
        if keys.matches(new):
            if TAG in value or not _are_texts(new):
                found = self._values(values, items, lambda at: (*path, "value", 2 * at + 1))
            else:
                found = self._values(values, items, lambda at: (*path, new[at]))
            return None if found is None else reopened(dict, value, keys, found)
        old = old_items(keys)
        if old is None or not _are_texts(old) or not _are_texts(new) or TAG in {*old, *new}:
            return None
        return self._keys(before, value, old, path)

    def _keys(
        self, before: Opened, value: dict[str, object], old: list[str], path: _Path
    ) -> Part | None:
        """Find what changed in a dict of which keys are gone or new."""
        keys, values = before.below
        new, items = list(value), list(value.values())
        kept = 0
        stay_keys, stay_values = keys, values
        gone = []
        for key in old:
            if kept < len(new) and new[kept] == key:
                kept += 1
            else:
                gone.append(key)
        if gone:
            stay_keys, stay_values = _without(keys, values, old, set(gone))
        for key in gone:
            self.found.append(Change((*path, key), "delete", None))
        found = self._values(stay_values, items[:kept], lambda at: (*path, new[at]))
        if found is None:
            return None
        for key, item in zip(new[kept:], items[kept:], strict=True):
            self.found.append(Change((*path, key), "set", item, not gone, lay_out([item])))
        below = stay_keys.grown(lay_out(new[kept:])), found.grown(lay_out(items[kept:]))
        return reopened(dict, value, *below)

    def _values(
        self, chunks: Chunks, items: Items, path_of: Callable[[int], _Path]
    ) -> Chunks | None:
        indexes = chunks.differing(items, 0, len(items))
        made = self._elements(chunks, items, indexes, path_of)
        return None if made is None else made.packed()

    # -- objects --------------------------------------------------------------------------------

    def _object(self, before: Opened, value: object, path: _Path) -> Part | None:
        """Find what changed in a container of the standard library or an object of a class."""
        kind, group = before.kind, before.group
        inner = [one.parts[0] for one in before.below]
        state = [one[0] for one in group.parts([value])]
        split = _splitter(kind)
        if split is None or split[0] == "subclass":
            if type(state[0]) is not dict:
                return None
            found = self._whole_of(inner[0], state[0], path)
        elif split[0] == "dataclass":
            split[1](value)
            found = self._whole_of(inner[0], state[0], (*path, "value"))
        elif split[0] == "model" and isinstance(group, Models):
            return self._model(before, inner, state, split[1](value), path)
        else:
            return None
        return None if found is None else Opened(kind, group, (Chunks.of(found),))

    def _whole_of(self, part: Part, state: object, path: _Path) -> Part | None:
        """Find what changed in a dict that must not be set as a whole."""
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
        made = [fields, *inner[1:]]
        if not part_matches(made[1], state[1]):
            given = parts.get("set")
            self.found.append(Change((*path, "set"), "delete" if given is None else "set", given))
            made[1] = lay_out([state[1]])
        for index, name in ((2, "extra"), (3, "private")):
            if not part_matches(made[index], state[index]):
                made[index] = self.part(made[index], state[index], (*path, name))
        return Opened(before.kind, before.group, tuple(map(Chunks.of, made)))


def _are_texts(keys: Items) -> bool:
    """Whether a dict of such keys is stored as an object."""
    return set(map(type, keys)) <= {str} and is_utf8("".join(keys))


def _without(keys: Chunks, values: Chunks, old: list[str], gone: set[str]) -> tuple[Chunks, Chunks]:
    """The chunks of keys and values but for some keys."""
    made = Chunks.of(), Chunks.of()
    start = 0
    for index, key in enumerate([*old, None]):
        if key is None or key in gone:
            if start < index:
                made = (
                    made[0].joined(keys.cut(start, index)),
                    made[1].joined(values.cut(start, index)),
                )
            start = index + 1
    return made


@remembered
def _splitter(kind: type) -> tuple[str, Splitter] | None:
    """The family of a class, and what refuses an instance that could not be stored."""
    family = family_of(kind)
    return None if family is None else (family.tag, family.prepare(kind))
