"""What changed in a value since it was remembered, as changes of the tree in which it is stored.

Paths lead through the tree of plain JSON values that the codec writes, not through the value: so no
class is needed to apply changes, and whatever the codec takes apart can be changed in part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

from pocoflow.values.changes.columns import lay_out
from pocoflow.values.changes.groups import Dicts, Equal, Items, Models, Split
from pocoflow.values.changes.parts import (
    Chunks,
    Opened,
    Part,
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

_FEW = 8
"""More parts than these are set one by one only if they are not the most of a container."""

_AT_ONCE = 16
"""So many parts are gone into one by one; of more it is first found out which differ."""

_TRIES = 1000
"""How many elements may have been dropped where a list is taken for a window that moved on."""


class Change(NamedTuple):
    """One place that changed.

    Attributes:
        path: Where in the stored tree: keys of objects and numbers of elements.
        operation: ``set`` a part; ``append`` to a list or a text; ``splice`` a list: the value
            is the start, how many elements go and those that come; ``delete`` a part of an object,
            if it is there.
        value: The new value, elements or text.
        grows: Whether it is more of it, and in the place of nothing.
    """

    path: _Path
    operation: Operation
    value: Any
    grows: bool = False


class Difference:
    """Compares a value with a remembered one; ``found`` has the changes in their order."""

    def __init__(self) -> None:
        self.found: list[Change] = []

    def part(self, part: Part, value: object, path: _Path = ()) -> Part:
        """Find what changed in a part; how it is remembered from now on: as before if nothing did.

        Containers are gone into at once: to compare each of them first would take as many
        comparisons of what stands at the bottom as there are containers around it.

        Raises:
            Exception: The value cannot be taken apart, as its own code fails.
        """
        known = len(self.found)
        made = self._inside(part, value, path) if len(path) < _MAX_DEPTH else None
        if made is not None:
            return made if len(self.found) > known else part
        del self.found[known:]
        if part_matches(part, value):
            return part
        self.found.append(Change(path, "set", value))
        return lay_out([value])

    def _inside(self, part: Part, value: Any, path: _Path) -> Part | None:
        kind = type(value)
        if kind is str:
            return self._text(part, value, path)
        before = opened(part)
        if before is None or before.kind is not kind:
            return None
        if kind is list or kind is tuple:
            inside = path if kind is list else (*path, "value")
            of_places = self._places if kind is tuple or len(value) == 1 else self._sequence
            chunks = of_places(before.below[0], [*value], inside)
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
        if value == old:
            return part
        if len(old) < _LONG or not value.startswith(old) or not is_utf8(value):
            return None
        self.found.append(Change(path, "append", value[len(old) :], True))
        return lay_out([value])

    # -- lists ----------------------------------------------------------------------------------

    def _places(self, chunks: Chunks, items: Items, path: _Path) -> Chunks | None:
        """Find what changed in as many elements as before, each of which has its own place."""
        if chunks.size != len(items):
            return self._sequence(chunks, items, path)
        return self._values(chunks, items, lambda at: (*path, at))

    def _sequence(self, chunks: Chunks, items: Items, path: _Path) -> Chunks | None:
        old, new = chunks.size, len(items)
        first = chunks.first(items, min(old, new))
        if first == old:
            return self._appended(chunks, items, old, path)
        last = chunks.last(items, min(old, new) - first)
        gone, come = old - first - last, new - first - last
        moved = self._moved(chunks, items, first, gone, come)
        if moved:
            self._splice(path, first, moved, [], old)
            kept = gone - moved
            new_ones = items[first + kept : first + come]
            self._splice(path, first + kept, 0, new_ones, first + kept + last, grows=False)
            return (
                chunks.cut(0, first)
                .joined(
                    chunks.cut(first + moved, first + gone),
                    Chunks.of(lay_out(new_ones)),
                    chunks.cut(old - last, old),
                )
                .packed(items)
            )
        if come < gone:
            self._splice(path, first, gone, items[first : first + come], old)
            middle = Chunks.of(lay_out(items[first : first + come]))
        else:
            made = self._elements(chunks, items, first, first + gone, lambda at: (*path, at))
            if made is None:
                return None
            new_ones = items[first + gone : first + come]
            self._splice(path, first + gone, 0, new_ones, first + gone + last)
            middle = made.joined(Chunks.of(lay_out(new_ones)))
        ends = chunks.cut(0, first), chunks.cut(old - last, old)
        return ends[0].joined(middle, ends[1]).packed(items)

    def _appended(self, chunks: Chunks, items: Items, old: int, path: _Path) -> Chunks:
        if old == len(items):
            return chunks
        self.found.append(Change(path, "append", items[old:], True))
        return chunks.grown(items, old)

    def _splice(
        self,
        path: _Path,
        start: int,
        count: int,
        come: Items,
        length: int,
        grows: bool = True,
    ) -> None:
        """Elements come in the place of ``count`` ones of a list so long."""
        if come and not count and start == length:
            self.found.append(Change(path, "append", come, grows))
        elif come or count:
            grows = grows and not count
            self.found.append(Change(path, "splice", (start, count, come), grows))

    def _moved(self, chunks: Chunks, items: Items, first: int, gone: int, come: int) -> int:
        """How many elements were dropped, if those behind them are still there in a row."""
        for dropped in range(max(1, gone - come), min(gone, _TRIES)):
            at = first + dropped
            if chunks.cut(at, at + 1).matches(items[first : first + 1]) and chunks.cut(
                at, first + gone
            ).matches(items[first : first + gone - dropped]):
                return dropped
        return 0

    def _elements(
        self,
        chunks: Chunks,
        items: Items,
        start: int,
        stop: int,
        path_of: Callable[[int], _Path],
    ) -> Chunks | None:
        """Find what changed in elements of which there are as many as before."""
        made, done, changed = Chunks.of(), start, 0
        places: Sequence[int] = range(start, stop)
        if len(places) > _AT_ONCE:
            places = chunks.differing(items, start, stop)
        for place in places:
            (before,) = chunks.cut(place, place + 1).parts
            part = self.part(before, items[place], path_of(place))
            if part is not before:
                made = made.joined(chunks.cut(done, place), Chunks.of(part))
                done, changed = place + 1, changed + 1
                if changed > _FEW and changed > chunks.size // 2:
                    return None
        return made.joined(chunks.cut(done, stop))

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
        if len(gone) > _FEW and len(gone) > len(old) // 2:
            return None
        if gone:
            stay_keys, stay_values = _without(keys, values, old, set(gone))
        self.found += [Change((*path, key), "delete", None) for key in gone]
        found = self._values(stay_values, items[:kept], lambda at: (*path, new[at]))
        if found is None:
            return None
        self.found += [Change((*path, key), "set", value[key], not gone) for key in new[kept:]]
        return reopened(
            dict,
            value,
            stay_keys.grown(new, kept),
            found.grown(items, kept),
        )

    def _values(
        self, chunks: Chunks, items: Items, path_of: Callable[[int], _Path]
    ) -> Chunks | None:
        made = self._elements(chunks, items, 0, len(items), path_of)
        return None if made is None else made.packed(items)

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
        for place, name in ((2, "extra"), (3, "private")):
            if not part_matches(made[place], state[place]):
                made[place] = self.part(made[place], state[place], (*path, name))
        return Opened(before.kind, before.group, tuple(map(Chunks.of, made)))


def _are_texts(keys: Items) -> bool:
    """Whether a dict of such keys is stored as an object."""
    return set(map(type, keys)) <= {str} and is_utf8("".join(keys))


def _without(keys: Chunks, values: Chunks, old: list[str], gone: set[str]) -> tuple[Chunks, Chunks]:
    """The chunks of keys and values but for some keys."""
    made = Chunks.of(), Chunks.of()
    start = 0
    for place, key in enumerate([*old, None]):
        if key is None or key in gone:
            if start < place:
                made = (
                    made[0].joined(keys.cut(start, place)),
                    made[1].joined(values.cut(start, place)),
                )
            start = place + 1
    return made


@remembered
def _splitter(kind: type) -> tuple[str, Splitter] | None:
    """The family of a class, and what refuses an instance that could not be stored."""
    family = family_of(kind)
    return None if family is None else (family.tag, family.prepare(kind))
