"""What a node does to the store: what it reads, what it writes, and on which way out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias


class Location(NamedTuple):
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


NOWHERE = Location()


def location_at(written: tuple[str, int] | None) -> Location:
    """The place of what is written there."""
    return NOWHERE if written is None else Location(*written)


class Value(NamedTuple):
    """What is known of a value.

    Attributes:
        constant: The value itself, if ``kind`` is ``None``.
        kind: Its type, if that is all.
        parameter: The parameter of the function that is read, whose value it is.
    """

    constant: Any = None
    kind: object = None
    parameter: str | None = None


ABSENT: object = object()


class Fact(NamedTuple):
    """What the reading of a function depends on, and a program may set anew.

    Attributes:
        names: What a module or a class has.
        name: A name in it.
        value: What was found there; ``ABSENT`` if there was nothing.
    """

    names: Mapping[str, object]
    name: str
    value: object

    def holds(self) -> bool:
        """Whether the same is found there now."""
        return self.names.get(self.name, ABSENT) is self.value


Locations: TypeAlias = Mapping[str, Location]
"""Keys of the store, each with the place where it is used first."""


def _none() -> Locations:
    return MappingProxyType({})


class Exit(NamedTuple):
    """One way out of a function.

    Attributes:
        action: The action that is returned there; ``None`` if it is not written as a constant.
        may: The keys that may have been written by then.
        must: Those that have been written by then, whatever way led there.
        unknown: Whether something else may have been written, too.
        seen: The keys that it has found to be there.
        gone: The keys that are not there any more, whatever way led there.
        kept: If the store was emptied, whatever way led there, the keys that may be there all the
            same; else ``None``.
        looked: The keys that were looked for on some way there, without a test that tells here what
            was found: a later choice may depend on it.
        choices: If it is not written as a constant, the actions one of which is returned there;
            none if they are not known.
    """

    action: str | None = None
    may: frozenset[str] = frozenset()
    must: frozenset[str] = frozenset()
    unknown: bool = False
    seen: frozenset[str] = frozenset()
    gone: frozenset[str] = frozenset()
    kept: frozenset[str] | None = None
    looked: frozenset[str] = frozenset()
    choices: frozenset[str] = frozenset()


class Write(NamedTuple):
    """A value that is written to a key, where the source tells what it is.

    Attributes:
        key: The key.
        location: Where.
        value: What is known of it.
        is_certain: Whether every execution that comes to an end has written it.
        is_default: Whether it is written only where the key has no value.
    """

    key: str
    location: Location
    value: Value
    is_certain: bool
    is_default: bool = False


class Lacking(NamedTuple):
    """Where a function ends without an action.

    Attributes:
        line: The line of the ``return``, or of the last statement.
        is_bare: Whether it is a ``return``; else the function comes to its end.
        always: Whether it never returns one.
    """

    line: int
    is_bare: bool
    always: bool


@dataclass(frozen=True, slots=True)
class Effects:
    """What a function, or a node, does to the store.

    Attributes:
        needs: Keys that every execution reads as they were at its beginning.
        reads: Every key that it reads, perhaps.
        writes: Every key that it writes, perhaps.
        exits: The ways out; empty if it never returns.
        reads_more: Whether it may read other keys.
        writes_more: Whether it may write other keys.
        named: Keys that every execution uses, and that have to be fields.
        doubtful: Those that only some executions use.
        looks: Keys that it asks for, and does without.
        values: What is assigned where, reducer or not, and what it is as far as the source tells.
        changes: Keys whose values are changed in place.
        unknown_attributes: Attributes that are used of the store, and that it does not have.
        makes: Keys that it writes without need of them, where others are written and needed by
            different nodes inside of it; by default what it writes and does not need.
        lost: Keys that every execution reads after it has removed them.
        lacking: Where it ends without an action.
        misgiven: Where it returns what is no action.
        used: The attributes of the node that the reading depends on.
        facts: What else it depends on.
    """

    needs: Locations = field(default_factory=_none)
    reads: frozenset[str] = frozenset()
    writes: Locations = field(default_factory=_none)
    exits: tuple[Exit, ...] = (Exit(),)
    reads_more: bool = False
    writes_more: bool = False
    named: Locations = field(default_factory=_none)
    doubtful: Locations = field(default_factory=_none)
    looks: Locations = field(default_factory=_none)
    values: tuple[Write, ...] = ()
    changes: Locations = field(default_factory=_none)
    unknown_attributes: Locations = field(default_factory=_none)
    makes: frozenset[str] | None = None
    lost: Locations = field(default_factory=_none)
    lacking: Lacking | None = None
    misgiven: Lacking | None = None
    used: frozenset[str] = frozenset()
    facts: tuple[Fact, ...] = ()
    _by_action: dict[str | None, Exit] = field(default_factory=dict, compare=False, repr=False)

    @property
    def is_current(self) -> bool:
        """Whether it would be read like this now."""
        return not self.facts or all(fact.holds() for fact in self.facts)

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
            known = self._by_action[action] = join(those or self.exits)
        return known

    def on_error(self, is_whole: bool, written: str | None) -> Exit:
        """What has been written when an error is caught.

        Args:
            is_whole: Whether the node writes all or nothing, at its end.
            written: The key that the edge writes what is left of the error to.
        """
        own = frozenset() if written is None else frozenset((written,))
        known = join(self.exits)
        if is_whole:
            return Exit(may=own, must=own, looked=known.looked)
        may = own.union(self.writes)
        return Exit(None, may, own, self.writes_more, known.seen, looked=known.looked)


ANYTHING = Exit(unknown=True)
NOTHING = Effects()
UNKNOWN = Effects(exits=(ANYTHING,), reads_more=True, writes_more=True)


def join(exits: Iterable[Exit]) -> Exit:
    """Several ways out as one, whatever their actions are; of none, nothing is known."""
    every = list(exits)
    if not every:
        return ANYTHING
    if len(every) == 1:
        return every[0]
    return Exit(
        None,
        frozenset().union(*(one.may for one in every)),
        frozenset.intersection(*(one.must for one in every)),
        any(one.unknown for one in every),
        frozenset().union(*(one.seen for one in every)),
        *_gone(every),
        frozenset().union(*(one.looked for one in every)),
    )


def _gone(exits: Iterable[Exit]) -> tuple[frozenset[str], frozenset[str] | None]:
    """What is not there any more, and what of an emptied store is, whichever way out is taken."""
    some = [one for one in exits if one.kept is None]
    kept = frozenset().union(*(one.kept for one in exits if one.kept is not None))
    if not some:
        return frozenset(), kept
    return frozenset.intersection(*(one.gone for one in some)) - kept, None
