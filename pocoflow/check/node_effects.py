"""The effects of a node on the store: what it reads and writes, for each exit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias


class Location(NamedTuple):
    """The location of an operation on the store.

    Attributes:
        file: The source; ``None`` if there is none.
        line: The line in it.
        node: The node of a branch that does it, with its enclosing nodes; ``None`` if it is the
        node itself.
    """

    file: str | None = None
    line: int = 0
    node: str | None = None

    @property
    def where(self) -> tuple[str | None, int]:
        """File and line, as in findings."""
        return self.file, self.line


NOWHERE = Location()


def location_at(written: tuple[str, int] | None) -> Location:
    """The location for a file and a line."""
    return NOWHERE if written is None else Location(*written)


class Value(NamedTuple):
    """What is known about a value.

    Attributes:
        constant: The value itself, if ``kind`` is ``None``.
        kind: Its type, if only that is known.
        parameter: The parameter of the analysed function that has this value.
    """

    constant: Any = None
    kind: object = None
    parameter: str | None = None


ABSENT: object = object()


class Fact(NamedTuple):
    """An assumption of the analysis of a function that a program may change.

    Attributes:
        names: The namespace of a module or a class.
        name: A name in it.
        value: The value at the time of the analysis; ``ABSENT`` if there was none.
    """

    names: Mapping[str, object]
    name: str
    value: object

    def holds(self) -> bool:
        """Whether the value is still the same."""
        return self.names.get(self.name, ABSENT) is self.value


Locations: TypeAlias = Mapping[str, Location]
"""Keys of the store, each with the location of its first use."""


def _none() -> Locations:
    return MappingProxyType({})


class Exit(NamedTuple):
    """An exit of a function.

    Attributes:
        choices: The possible actions; empty if they are unknown.
        may: The keys that may have been written.
        must: The keys that have been written on every path to it.
        unknown: Whether other keys may have been written, too.
        seen: The keys that were found.
        gone: The keys that are absent on every path to it.
        kept: If every path to it has emptied the store, the keys that may still be present; else
            ``None``.
        looked: The keys that some path has tested for with an unknown result: a later choice may
            depend on it.
    """

    choices: frozenset[str] = frozenset()
    may: frozenset[str] = frozenset()
    must: frozenset[str] = frozenset()
    unknown: bool = False
    seen: frozenset[str] = frozenset()
    gone: frozenset[str] = frozenset()
    kept: frozenset[str] | None = None
    looked: frozenset[str] = frozenset()


class Write(NamedTuple):
    """A write of a value that the source shows.

    Attributes:
        key: The key.
        location: The location.
        value: What is known about the value.
        is_certain: Whether every execution that ends has written it.
        is_default: Whether it is written only if the key has no value.
    """

    key: str
    location: Location
    value: Value
    is_certain: bool
    is_default: bool = False


class Lacking(NamedTuple):
    """An end of a function without an action.

    Attributes:
        line: The line of the ``return``, or of the last statement.
        is_bare: Whether it is a ``return``; otherwise it is the end of the function.
        always: Whether it never returns an action.
    """

    line: int
    is_bare: bool
    always: bool


@dataclass(frozen=True, slots=True)
class Effects:
    """The effects of a function, or a node, on the store.

    Attributes:
        needs: Keys that every execution reads as they were at the entry.
        reads: Every key that it may read.
        writes: Every key that it may write.
        exits: The exits; empty if it never returns.
        reads_more: Whether it may read other keys.
        writes_more: Whether it may write other keys.
        named: Keys that every execution uses, and that have to be fields.
        doubtful: Keys that only some executions use.
        looks: Keys that it tests for, and does not require.
        values: The assignments, with or without a reducer, and their values if they are known.
        changes: Keys whose values are changed in place.
        unknown_attributes: Attributes of the store that are used and that it does not have.
        makes: Keys that it writes without needing them, if inner nodes write and need different
            keys; by default the keys that it writes and does not need.
        lost: Keys that every execution reads after it has removed them.
        lacking: An end without an action.
        misgiven: A return of a value that is not an action.
        used: The attributes of the node that the analysis depends on.
        facts: The other assumptions of the analysis.
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
        """Whether the analysis is still valid."""
        return not self.facts or all(fact.holds() for fact in self.facts)

    @property
    def first(self) -> frozenset[str]:
        """The keys to which it can give their first value."""
        keys = self.writes.keys() - self.needs.keys()
        return frozenset(keys) if self.makes is None else self.makes

    def on(self, action: str | None) -> Exit:
        """The exit for an action; ``None`` is any other action."""
        known = self._by_action.get(action)
        if known is None:
            ends = [end for end in self.exits if len(end.choices) != 1 or action in end.choices]
            known = self._by_action[action] = join(ends or self.exits)
        return known

    def on_error(self, is_whole: bool, written: str | None) -> Exit:
        """The exit for an error that is caught.

        Args:
            is_whole: Whether the node writes all or nothing, at its end.
            written: The key to which the edge writes the record of the error.
        """
        failure = frozenset() if written is None else frozenset((written,))
        known = join(self.exits)
        if is_whole:
            return Exit(may=failure, must=failure, looked=known.looked)
        may = failure.union(self.writes)
        return Exit(frozenset(), may, failure, self.writes_more, known.seen, looked=known.looked)


ANYTHING = Exit(unknown=True)
NOTHING = Effects()
UNKNOWN = Effects(exits=(ANYTHING,), reads_more=True, writes_more=True)


def join(exits: Iterable[Exit]) -> Exit:
    """Several exits as one, whatever their actions; for none, nothing is known."""
    ends = list(exits)
    if not ends:
        return ANYTHING
    if len(ends) == 1:
        return ends[0]
    return Exit(
        frozenset(),
        frozenset().union(*(end.may for end in ends)),
        frozenset.intersection(*(end.must for end in ends)),
        any(end.unknown for end in ends),
        frozenset().union(*(end.seen for end in ends)),
        *_gone(ends),
        frozenset().union(*(end.looked for end in ends)),
    )


def _gone(exits: Iterable[Exit]) -> tuple[frozenset[str], frozenset[str] | None]:
    """The keys that are absent at every exit, and those that an emptied store may have."""
    others = [end for end in exits if end.kept is None]
    kept = frozenset().union(*(end.kept for end in exits if end.kept is not None))
    if not others:
        return frozenset(), kept
    return frozenset.intersection(*(end.gone for end in others)) - kept, None
