"""A first look at parts: nothing has changed in them where each is the very object that it was.

All containers in the parts, at any depth, are asked at once for what they hold. That is several
times as fast as comparing, and says less: equal parts may be other objects.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from functools import lru_cache, partial
from itertools import chain, compress, repeat
from operator import attrgetter, is_
from typing import Any, NamedTuple

from pocoflow.values.changes.groups import Equal, Floats, Identical, Signed, Split, group_of

_SIZED = frozenset({list, tuple, dict, set, frozenset})

_Look = Callable[[Any], Any]


class Glance(NamedTuple):
    """The objects that some parts consist of.

    Attributes:
        items: The parts.
        containers: All containers and instances in them; those with a length come first.
        lengths: The lengths of these.
        held: What all of them hold, one after the other; but for the keys of dicts.
        dicts: Those of them that are dicts.
        keys: The keys of these, one after the other.
        are_texts: Whether the keys are texts. A dict with another key also holds its keys.
    """

    items: list[Any]
    containers: list[Any]
    lengths: list[int]
    held: list[Any]
    dicts: list[dict[Any, Any]]
    keys: list[Any]
    are_texts: bool

    @classmethod
    def of(cls, items: list[Any]) -> Glance | None:
        """That of parts; ``None`` if one of a kind is among them that has to be compared."""
        sized: list[Any] = []
        objects: list[Any] = []
        level, seen, owned = items, set[int](), set[int]()
        while level:
            found: list[Any] = []
            kinds = list(map(type, level))
            for kind in set(kinds):
                look = _look_of(kind)
                if look is None:
                    return None
                if look is _leaf:
                    continue
                these = list(compress(level, map(is_, kinds, repeat(kind))))
                those = dict(zip(map(id, these), these, strict=True))
                if not seen.isdisjoint(those):
                    those = {number: one for number, one in those.items() if number not in seen}
                seen.update(those)
                chosen = list(those.values())
                if kind is dict:
                    # What the collector says of the dict of an instance may leave out its values.
                    sized += chosen
                    found += chain.from_iterable(map(dict.values, chosen))
                    keys = list(chain.from_iterable(chosen))
                    if not set(map(type, keys)) <= {str}:
                        found += keys
                elif kind in _SIZED:
                    sized += chosen
                    found += gc.get_referents(*chosen)
                else:
                    objects += chosen
                    own = list(chain.from_iterable(map(look, chosen)))
                    owned.update(map(id, own))
                    found += own
            level = found
        dicts = [one for one in sized if type(one) is dict]
        # Python 3.13 tells by the instance alone what its dict holds, so that has to be among them.
        if any(one and id(one) not in owned and not gc.get_referents(one) for one in dicts):
            return None
        containers, lengths = sized + objects, list(map(len, sized))
        held, keys = gc.get_referents(*containers), list(chain.from_iterable(dicts))
        are_texts = set(map(type, keys)) <= {str}
        return cls(list(items), containers, lengths, held, dicts, keys, are_texts)

    def is_same(self, items: list[Any]) -> bool:
        """Whether parts, at any depth, are the very same objects in the same order."""
        sized = self.containers[: len(self.lengths)]
        if not _are(items, self.items) or list(map(len, sized)) != self.lengths:
            return False
        if not _are(gc.get_referents(*self.containers), self.held):
            return False
        keys = list(chain.from_iterable(self.dicts))
        return keys == self.keys if self.are_texts else _are(keys, self.keys)


def _are(these: list[Any], those: list[Any]) -> bool:
    return len(these) == len(those) and all(map(is_, these, those))


def _leaf(part: object) -> object:
    """What has no parts that could change."""
    return part


def _whole(part: object) -> object:
    """What holds all of its parts itself."""
    return part


@lru_cache(maxsize=1024)
def _look_of(kind: type) -> _Look | None:
    """How parts of a type are looked at; ``None`` if they have to be compared."""
    if kind in _SIZED:
        return _whole
    group = group_of(kind)
    made = group.func if isinstance(group, partial) else group
    if made in (Equal, Floats, Signed, Identical):
        return _leaf
    # What gives the attributes of an instance that has no others.
    split = group.args[0] if isinstance(group, partial) and made is Split else None
    if not isinstance(split, attrgetter):
        return None
    return (
        split if hasattr(kind, "__pydantic_fields_set__") else attrgetter("__dict__", "__class__")
    )
