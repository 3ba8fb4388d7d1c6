"""What a node does to the store: what it reads, what it writes, and on which way out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

__all__ = [
    "NOTHING",
    "UNKNOWN",
    "Effects",
    "Exit",
    "Place",
    "Places",
    "Write",
    "in_sequence",
    "place_at",
]


class Place(NamedTuple):
    """Where something is done to the store.

    Attributes:
        file: The source; ``None`` if there is none.
        line: The line in it.
        node: The node of a branch that does it, with the nodes around it; ``None`` if it is the
            node that was asked.
    """

    file: str | None = None
    line: int = 0
    node: str | None = None

    @property
    def where(self) -> tuple[str | None, int]:
        """As findings have it."""
        return self.file, self.line


def place_at(written: tuple[str, int] | None) -> Place:
    """The place of what is written there."""
    return Place() if written is None else Place(*written)


Places: TypeAlias = Mapping[str, Place]
"""Keys of the store, each with the place where it is used first."""


def _none() -> Places:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Exit:
    """One way out of a function.

    Attributes:
        action: The action that is returned there; ``None`` if it is not written as a constant.
        may: The keys that may have been written by then.
        must: Those that have been written by then, whatever way led there.
        unknown: Whether something else may have been written, too.
    """

    action: str | None = None
    may: frozenset[str] = frozenset()
    must: frozenset[str] = frozenset()
    unknown: bool = False


@dataclass(frozen=True, slots=True)
class Write:
    """A value that is written to a key, where the source tells its type.

    Attributes:
        key: The key.
        place: Where.
        parameter: The parameter of the function whose value it is, or ``None``.
        constant: The constant that it is, if it is one.
    """

    key: str
    place: Place
    parameter: str | None
    constant: Any = None


@dataclass(frozen=True, slots=True)
class Effects:
    """What a function, or a node, does to the store.

    Attributes:
        needs: Keys that are read whenever it runs, before it writes them itself.
        reads: Every key that it reads, perhaps.
        writes: Every key that it writes, perhaps.
        exits: The ways out; empty if it never returns.
        reads_more: Whether it may read other keys.
        writes_more: Whether it may write other keys.
        named: Keys that are used without a look at whether they are there.
        values: What is written where, as far as the source tells.
        changes: Keys whose values are changed in place.
        makes: Keys that it writes without need of them, where others are written and needed by
            different nodes inside of it; by default what it writes and does not need.
    """

    needs: Places = field(default_factory=_none)
    reads: frozenset[str] = frozenset()
    writes: Places = field(default_factory=_none)
    exits: tuple[Exit, ...] = (Exit(),)
    reads_more: bool = False
    writes_more: bool = False
    named: Places = field(default_factory=_none)
    values: tuple[Write, ...] = ()
    changes: Places = field(default_factory=_none)
    makes: frozenset[str] | None = None
    _by_action: dict[str | None, Exit] = field(default_factory=dict, compare=False, repr=False)

    @property
    def first(self) -> frozenset[str]:
        """The keys to which it can give their first value."""
        own = self.writes.keys() - self.needs.keys()
        return frozenset(own) if self.makes is None else self.makes

    def on(self, action: str | None) -> Exit:
        """What has been written when an action is returned; ``None`` is any other action."""
        known = self._by_action.get(action)
        if known is None:
            those = [one for one in self.exits if one.action in (action, None)]
            known = self._by_action[action] = join(those or self.exits, action)
        return known

    def on_error(self, is_whole: bool, written: str | None) -> Exit:
        """What has been written when an error is caught.

        Args:
            is_whole: Whether the node writes all or nothing, at its end.
            written: The key that the edge writes what is left of the error to.
        """
        own = frozenset() if written is None else frozenset((written,))
        if is_whole:
            return Exit(may=own, must=own)
        unknown = any(one.unknown for one in self.exits)
        return Exit(None, own.union(*(one.may for one in self.exits)), own, unknown)


NOTHING = Effects()
UNKNOWN = Effects(exits=(Exit(unknown=True),), reads_more=True, writes_more=True)


def join(exits: Iterable[Exit], action: str | None = None) -> Exit:
    """Several ways out as one."""
    every = list(exits)
    if len(every) == 1 and every[0].action == action:
        return every[0]
    return Exit(
        action,
        frozenset().union(*(one.may for one in every)),
        frozenset.intersection(*(one.must for one in every)) if every else frozenset(),
        any(one.unknown for one in every),
    )


def in_sequence(first: Effects, second: Effects) -> Effects:
    """What two functions do that are called one after the other, such as ``prep`` and ``post``."""
    if first is NOTHING:
        return second
    before = join(first.exits)
    later = {
        key: place
        for key, place in second.needs.items()
        if not before.unknown and key not in before.may
    }
    return Effects(
        needs={**later, **first.needs},
        reads=first.reads | second.reads,
        writes={**second.writes, **first.writes},
        exits=tuple(
            Exit(
                one.action,
                before.may | one.may,
                before.must | one.must,
                before.unknown or one.unknown,
            )
            for one in second.exits
        ),
        reads_more=first.reads_more or second.reads_more,
        writes_more=first.writes_more or second.writes_more,
        named={**second.named, **first.named},
        values=(*first.values, *second.values),
        changes={**second.changes, **first.changes},
    )
