"""The data remembered of parts of one type, and how such parts are split."""

from __future__ import annotations

import enum
import gc
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import is_dataclass
from functools import cached_property, partial
from itertools import accumulate, chain
from operator import attrgetter, countOf, is_
from types import EllipsisType, MemberDescriptorType, NoneType
from typing import Any, NamedTuple, Self, TypeAlias

from pocoflow.values.changes.repeated import MANY, Repeated, joined, shortened, total
from pocoflow.values.kinds import kind_of
from pocoflow.values.objects import content_of, has_plain_dict, is_subclass, state_of
from pocoflow.values.remembering import remembered

SIMPLE: frozenset[type] = frozenset({str, int, bool, NoneType, EllipsisType, bytes})
"""Immutable types whose equality is sufficient, once the types are the same.

Not float: 0.0 and -0.0 are equal, and NaN is not equal to itself.
"""

Items: TypeAlias = list[Any]
"""A sequence of parts, of any types."""


class OfKind(NamedTuple):
    """The parts of a column that are of one type.

    Attributes:
        kind: The type; ``None`` for all simple ones.
        mask: Flags for the parts of that type; ``None`` if all are.
        group: The data remembered of them.
        below: The columns of their own parts.
    """

    kind: type | None
    mask: bytes | None
    group: Group
    below: list[Column]


class Column:
    """Parts of any types: their types in order, and the data remembered of them.

    Attributes:
        kinds: The types.
        groups: The parts of each type.
    """

    __slots__ = ("groups", "kinds")

    def __init__(self) -> None:
        self.kinds: Sequence[type] = ()
        self.groups: list[OfKind] = []

    def fits(self, items: Items) -> bool:
        """Whether parts have these types."""
        return list(map(type, items)) == self.kinds

    def all_of(self, kind: type) -> Sequence[object] | None:
        """The parts, if there are many and all are of one simple type."""
        kinds = self.kinds
        if type(kinds) is not Repeated or kinds.few != [kind] or not self.groups:
            return None
        group = self.groups[0].group
        return group.items if type(group) is Equal else None


Pairs: TypeAlias = Iterable[tuple[Column, Items]]


class Group:
    """The data remembered of parts of one type, in order; in this class, nothing."""

    __slots__ = ()

    columns = 0

    def same(self, items: Items) -> bool:
        """Whether as many parts of that type are the same, except for their own parts."""
        return True

    def parts(self, items: Items) -> Sequence[Items]:
        """The parts of all of them, one list for each column below."""
        return ()

    def first_parts(self, items: Items) -> Sequence[Items]:
        """The parts of the remembered items, called once for them."""
        return self.parts(items)

    def compared(self, items: Items, below: list[Column]) -> Pairs | None:
        """The pairs that remain to be compared, or ``None`` if they are not the same."""
        if not self.same(items):
            return None
        return zip(below, self.parts(items), strict=True) if below else ()

    def cut(self, start: int, stop: int) -> tuple[Group, Sequence[tuple[int, int]]]:
        """The data of a range of them, and the ranges of their parts in the columns below."""
        return self, ((start, stop),) * self.columns

    def joined(self, other: Self) -> Self:
        """The data of them followed by others of the same type."""
        return self


class _Itemwise(Group):
    """Parts that are remembered themselves."""

    __slots__ = ("items",)

    def __init__(self, items: Any) -> None:
        self.items = items

    def of(self, items: Any) -> Self:
        """The data of other parts of the same type."""
        return type(self)(items)

    def cut(self, start: int, stop: int) -> tuple[Group, Sequence[tuple[int, int]]]:
        return self.of(self.items[start:stop]), ()

    def joined(self, other: Self) -> Self:
        return self.of(self.items + other.items)


class Equal(_Itemwise):
    """Immutable parts whose equality is sufficient, as they have the same types."""

    __slots__ = ()

    def same(self, items: Items) -> bool:  # noqa: D102
        return bool(items == self.items)

    def joined(self, other: Self) -> Self:  # noqa: D102
        return self.of(joined(self.items, other.items))


class Floats(_Itemwise):
    """Floats by their bits: ``-0.0`` is not ``0.0``, and NaN is NaN."""

    __slots__ = ()

    def __init__(self, items: Iterable[float]) -> None:
        super().__init__(array("d", items))

    def same(self, items: Items) -> bool:  # noqa: D102
        return bool(array("d", items).tobytes() == self.items.tobytes())


class Signed(_Itemwise):
    """Immutable parts that are the same object or have the same signature.

    With ``id`` as the signature they are compared by identity, as those are that the codec does not
    store: their own ``==`` is not called, as it may raise, be slow, or not return a truth value.
    """

    __slots__ = ("signature",)

    def __init__(self, signature: Callable[[Any], object], items: Items) -> None:
        super().__init__(items)
        self.signature = signature

    def of(self, items: Items) -> Self:  # noqa: D102
        return type(self)(self.signature, items)

    def same(self, items: Items) -> bool:  # noqa: D102
        if all(map(is_, items, self.items)):
            return True
        return list(map(self.signature, items)) == list(map(self.signature, self.items))


class Split(Group):
    """Parts that a function splits; one that it refuses, as the codec does, by identity."""

    __slots__ = ("split",)

    columns = 1

    def __init__(self, split: Callable[[Any], object], items: Items) -> None:
        self.split = split

    def parts(self, items: Items) -> Sequence[Items]:  # noqa: D102
        try:
            return (list(map(self.split, items)),)
        except Exception:  # noqa: BLE001 - also its own code may fail
            return (list(map(self._part, items)),)

    def _part(self, item: object) -> object:
        try:
            return self.split(item)
        except Exception:  # noqa: BLE001 - the same
            return _Refused(item)


class _Refused:
    """A part that was not split; it is referenced, so that its id is not used again."""

    __slots__ = ("item",)

    def __init__(self, item: object) -> None:
        self.item = item


class Models(Split):
    """Models: their fields, the names of fields that were set, extra and private attributes."""

    __slots__ = ()

    columns = 4

    def parts(self, items: Items) -> Sequence[Items]:  # noqa: D102
        if len(items) > MANY and type(self.split) is attrgetter:
            # The collector returns the same four, and the class, without a call for each model.
            referents = gc.get_referents(*items)
            if len(referents) == 5 * len(items):
                extra, names, private, fields, kind = (referents[index::5] for index in range(5))
                first = items[0]
                expected = *self.split(first), type(first)
                if all(map(is_, expected, (fields[0], names[0], extra[0], private[0], kind[0]))):
                    return fields, names, extra, private
        (states,) = super().parts(items)
        rows = [state if type(state) is tuple else (state, None, None, None) for state in states]
        return list(map(list, zip(*rows, strict=True))) or [[], [], [], []]

    def compared(self, items: Items, below: list[Column]) -> Pairs:  # noqa: D102
        # Extra and private attributes are a dict or ``None``, which equals nothing else.
        pairs = zip(below, self.parts(items), strict=True)
        return [(column, parts) for column, parts in pairs if parts != column.all_of(NoneType)]


class Sequences(Group):
    """Lists, or tuples: their lengths, and the elements of all of them."""

    __slots__ = ("lengths",)

    columns = 1

    def __init__(self, items: Items) -> None:
        self.lengths = shortened(list(map(len, items)))

    def same(self, items: Items) -> bool:  # noqa: D102
        return list(map(len, items)) == self.lengths

    def parts(self, items: Items) -> Sequence[Items]:  # noqa: D102
        return (list(items[0] if len(items) == 1 else chain.from_iterable(items)),)

    def of_lengths(self, lengths: Sequence[int]) -> Self:
        """The same data, with other lengths."""
        copy = object.__new__(type(self))
        copy.lengths = lengths
        return copy

    def cut(self, start: int, stop: int) -> tuple[Group, Sequence[tuple[int, int]]]:  # noqa: D102
        first, last = total(self.lengths, start), total(self.lengths, stop)
        return self.of_lengths(self.lengths[start:stop]), ((first, last),) * self.columns

    def joined(self, other: Self) -> Self:  # noqa: D102
        return self.of_lengths(joined(self.lengths, other.lengths))


class Dicts(Sequences):
    """Dicts: their lengths, and the keys and the values of all of them."""

    __slots__ = ("can_ask_gc",)

    columns = 2

    def __init__(self, items: Items) -> None:
        super().__init__(items)
        self.can_ask_gc = False

    def first_parts(self, items: Items) -> Sequence[Items]:  # noqa: D102
        keys, values = self.parts(items)
        # For the dict of an instance the collector returns the values in the order in which its
        # class learned of the attributes, which need not be that of the dict.
        referents = gc.get_referents(*items)
        self.can_ask_gc = len(referents) == len(values) and _in_one_order(referents, values)
        return keys, values

    def of_lengths(self, lengths: Sequence[int]) -> Self:  # noqa: D102
        copy = super().of_lengths(lengths)
        copy.can_ask_gc = self.can_ask_gc
        return copy

    def joined(self, other: Self) -> Self:  # noqa: D102
        result = super().joined(other)
        result.can_ask_gc = self.can_ask_gc and other.can_ask_gc
        return result

    def parts(self, items: Items) -> Sequence[Items]:  # noqa: D102
        values = chain.from_iterable(map(dict.values, items))
        return list(chain.from_iterable(items)), list(values)

    def compared(self, items: Items, below: list[Column]) -> Pairs | None:  # noqa: D102
        keys, values = below
        texts = keys.all_of(str)
        if texts is None:
            return super().compared(items, below)
        # If the keys are repeated once per item, the lengths are the same.
        is_regular = type(texts) is Repeated and texts.times == len(items)
        if list(chain.from_iterable(items)) != texts or not (is_regular or self.same(items)):
            return None
        # The collector returns the values, and the keys only if one of them is not a text. It may
        # not return the values of a dict that belongs to an instance.
        if self.can_ask_gc and len(referents := gc.get_referents(*items)) == len(texts):
            return ((values, referents),)
        return super().compared(items, below)


def _in_one_order(parts: Items, same: Items) -> bool:
    """Whether two lists of the same parts are in the same order; equal texts may swap."""
    kind = type(parts[0]) if parts else None
    if kind in SIMPLE and countOf(map(type, parts), kind) == len(parts):
        return parts == same
    return all(map(is_, parts, same))


class _Sets(Sequences):
    """Sets: their members in the order in which they were remembered."""

    __slots__ = ("members",)

    def __init__(self, items: Items) -> None:
        super().__init__(items)
        self.members: Sequence[object] = ()

    def first_parts(self, items: Items) -> Sequence[Items]:
        parts = list(chain.from_iterable(items))
        self.members = shortened(parts)
        return (parts,)

    def parts(self, items: Items) -> Sequence[Items]:
        parts = list(chain.from_iterable(items))
        if parts != self.members:
            ends = list(accumulate(self.lengths, initial=0))
            before = map(self.members.__getitem__, map(slice, ends, ends[1:]))
            parts = list(chain.from_iterable(map(_in_order, before, items)))
        return (parts,)

    def cut(self, start: int, stop: int) -> tuple[Group, Sequence[tuple[int, int]]]:
        result, below = super().cut(start, stop)
        assert isinstance(result, _Sets)
        result.members = self.members[slice(*below[0])]
        return result, below

    def joined(self, other: Self) -> Self:
        result = super().joined(other)
        result.members = joined(self.members, other.members)
        return result


def _in_order(members: Iterable[object], live: Iterable[object]) -> Items:
    current = {member: member for member in live}
    return [current.get(member, _MISSING) for member in members]


_MISSING = object()


_MODEL = "__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__"


def _split_of(kind: type) -> tuple[Callable[[Any], object], bool]:
    """The splitter of a dataclass or a model into attributes, and whether it is a model."""
    attributes = [(name, value) for cls in kind.__mro__ for name, value in vars(cls).items()]
    computed = {name for name, value in attributes if isinstance(value, cached_property)}
    slots = {name for name, value in attributes if isinstance(value, MemberDescriptorType)}
    is_plain = not computed and not hasattr(kind, "__parameters__")
    if slots == {*_MODEL}:
        get = attrgetter("__dict__", *_MODEL)
        return (get if is_plain else partial(_model_state, get, computed)), True
    if is_plain and has_plain_dict(kind):
        return attrgetter("__dict__"), False
    return partial(_attributes, computed), False


def _model_state(get: Callable[[Any], Any], computed: Iterable[str], value: object) -> object:
    fields, *rest = get(value)
    return _without(computed, fields), *rest


def _attributes(computed: Iterable[str], value: object) -> dict[str, object]:
    return _without(computed, state_of(value))


def _without(computed: Iterable[str], state: dict[str, object]) -> dict[str, object]:
    """Attributes, except those that are computed again."""
    # typing sets __orig_class__ on Box[int](1); it is not part of the value.
    excluded = {*computed, "__orig_class__"}
    return {name: part for name, part in state.items() if name not in excluded}


_GetGroup = Callable[[Items], Group]

_GROUPS: dict[type, _GetGroup] = {
    **dict.fromkeys(SIMPLE, Equal),
    **dict.fromkeys((list, tuple), Sequences),
    **dict.fromkeys((set, frozenset), _Sets),
    **dict.fromkeys((complex, range), partial(Signed, repr)),
    dict: Dicts,
    float: Floats,
    bytearray: partial(Split, bytes),
    slice: partial(Split, lambda value: [value.start, value.stop, value.step]),
    _Refused: partial(Signed, lambda refused: id(refused.item)),
}


def group_of(kind: type) -> _GetGroup:
    """How parts of a type are remembered."""
    return _GROUPS.get(kind) or _group_of_class(kind)


@remembered
def _group_of_class(kind: type) -> _GetGroup:
    standard = kind_of(kind)
    if standard is not None:
        if standard.tag == "numpy":
            return partial(Signed, lambda value: (value.dtype.str, value.tobytes()))
        return partial(Split if standard.is_container else Signed, standard.split)
    if issubclass(kind, enum.Enum):
        return partial(Signed, attrgetter("_value_") if issubclass(kind, enum.Flag) else id)
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return partial(Split, lambda value: [_attributes((), value), tuple(value)])
    if is_dataclass(kind) or hasattr(kind, "__pydantic_fields_set__"):
        split, is_model = _split_of(kind)
        return partial(Models if is_model else Split, split)
    return partial(Split, content_of(kind)) if is_subclass(kind) else partial(Signed, id)
