"""The control-flow graph of a function, and what holds at each of its nodes on every path there.

A node does one thing to the store, or nothing. An edge leads to what may come next; one that an
exception takes starts with what held before the node that raises. What is known of the keys is
solved forward to a fixpoint, with sets of keys as bits of an integer, as that of a flow is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar

from pocoflow.check.node_effects import Location

SpotT = TypeVar("SpotT", bound=Hashable)
KnownT = TypeVar("KnownT")


def solve(
    start: Mapping[SpotT, KnownT],
    leads: Callable[[SpotT, KnownT], Iterable[tuple[SpotT, KnownT]]],
    join: Callable[[KnownT, KnownT], KnownT],
) -> dict[SpotT, KnownT]:
    """What holds at each place of a graph, to a fixpoint; those that nothing leads to are left out.

    Args:
        start: What holds at some of them.
        leads: Where a place leads to, and what holds there, from what holds at the place.
        join: What holds where two ways meet.
    """
    known = dict(start)
    queue, waiting = deque(known), set(known)
    while queue:
        location = queue.popleft()
        waiting.discard(location)
        for target, given in leads(location, known[location]):
            new = join(known[target], given) if target in known else given
            if target not in known or new != known[target]:
                known[target] = new
                if target not in waiting:
                    waiting.add(target)
                    queue.append(target)
    return known


class Keys:
    """Sets of keys as bits of an integer; -1 is all, those that nobody has named included."""

    def __init__(self) -> None:
        self._bits: dict[str, int] = {}

    def of(self, keys: Iterable[str]) -> int:
        """The bits of keys."""
        bits = 0
        for key in keys:
            bit = self._bits.get(key)
            if bit is None:
                bit = self._bits[key] = 1 << len(self._bits)
            bits |= bit
        return bits

    def names(self, bits: int) -> frozenset[str]:
        """The keys of bits, among those that were named."""
        return frozenset(key for key, bit in self._bits.items() if bits & bit)


Does: TypeAlias = Literal[
    "nothing",  # joins edges
    "read",  # fails if the key is not there
    "look",  # asks for a key, without failing
    "write",
    "increment",  # writes what a reducer makes of an increment
    "default",  # writes the key if it is not there
    "take",  # reads and removes the key
    "remove",  # the key is not there afterwards
    "clear",
    "unknown",  # anything may be done with the store from now on
    "present",  # the way on which the key was found to be there
    "likely",  # the same, unless something was done to it since it was asked for
    "absent",
    "failed",  # the way on which it could not be read
    "vague",  # the way on which it was not found, or is ``None``
    "ask",  # of what the schema, or a setting of the node, is
    "doubt",  # perhaps no execution comes past this, for a reason that is not seen here
    "change",  # changes a value in place
    "unknown_attribute",  # uses an attribute that the store does not have
    "raise",
    "next",  # the end of a function after which another one is called
    "exit",
]

Lacks: TypeAlias = Literal["return", "end", "other"] | None
"""A bare ``return``, the end of the function, or the return of what is certainly no action."""


class State(NamedTuple):
    """What is known of the keys at one place, whatever path led there.

    Of each key: whether on some path it is as it was at the beginning (``entry``), was found to be
    there (``seen``), had to be there (``read``), was written, is not there (``gone``), is not
    there unless it is ``None`` (``vague``), or was looked for and nothing here tells what was found
    (``looked``).

    Attributes:
        entry, seen, read, written, gone, vague, looked: As said.
        required: What every path has read as it was at the beginning.
        passed: The steps that every path has taken, as bits of their numbers.
        unknown: Whether anything else may have been done on some path.
        is_clear: Whether some path leads here without a doubt.
        is_asked: Whether every path has asked what the schema, or a setting of the node, is.
    """

    entry: int
    seen: int = 0
    read: int = 0
    written: int = 0
    gone: int = 0
    vague: int = 0
    required: int = 0
    passed: int = 0
    unknown: bool = False
    is_clear: bool = True
    is_asked: bool = False
    looked: int = 0

    def joined(self, other: State) -> State:
        """What holds where two paths meet."""
        return State(
            self.entry | other.entry,
            self.seen | other.seen,
            self.read | other.read,
            self.written | other.written,
            self.gone | other.gone,
            self.vague | other.vague,
            self.required & other.required,
            self.passed & other.passed,
            self.unknown or other.unknown,
            self.is_clear or other.is_clear,
            self.is_asked and other.is_asked,
            self.looked | other.looked,
        )

    def without(self, bit: int) -> State:
        """The same, with nothing known of a key."""
        return self._replace(
            entry=self.entry & ~bit,
            seen=self.seen & ~bit,
            read=self.read & ~bit,
            written=self.written & ~bit,
            gone=self.gone & ~bit,
            vague=self.vague & ~bit,
            looked=self.looked & ~bit,
        )

    @property
    def open(self) -> int:
        """The keys that are as they were at the beginning on some path, and may be there."""
        return self.entry | self.vague

    @property
    def there(self) -> int:
        """The keys that are there on some path, for all that is known."""
        return self.open | self.seen | self.read | self.written


@dataclass(slots=True)
class Step:
    """One node of the graph.

    Attributes:
        does: What it does.
        key: To which key.
        location: Where in the source.
        value: What is written, or the action of a way out.
        is_guarded: Whether an error of the store is caught around it.
        lacks: Of a way out: what it is, if it has no value, or none that can be an action.
        choices: Of a way out without a value: the actions one of which it has, if they are known.
        after: What may come next.
    """

    does: Does
    key: str | None = None
    location: Location = Location()  # noqa: RUF009 - it is immutable
    value: Any = None
    is_guarded: bool = False
    lacks: Lacks = None
    choices: frozenset[str] = frozenset()
    after: list[int] = field(default_factory=list)


class Chart:
    """A control-flow graph, of one function or of some that are called one after the other.

    Attributes:
        steps: Its nodes; the first is the beginning.
        keys: The keys that are named.
    """

    def __init__(self) -> None:
        self.steps = [Step("nothing")]
        self.keys = Keys()
        self._states: dict[int, State] | None = None

    def add(self, step: Step, before: Iterable[int]) -> int:
        """Add a node behind others."""
        number = len(self.steps)
        self.steps.append(step)
        for one in before:
            self.link(one, number)
        return number

    def link(self, before: int, after: int) -> None:
        """Add an edge."""
        if after not in self.steps[before].after:
            self.steps[before].after.append(after)

    @property
    def states(self) -> dict[int, State]:
        """What holds where a node begins; those that no execution comes to are left out."""
        if self._states is None:
            self._states = solve({0: State(-1)}, self._leads, State.joined)
        return self._states

    def _leads(self, number: int, state: State) -> list[tuple[int, State]]:
        left = self.past(number, state)
        return [] if left is None else [(one, left) for one in self.steps[number].after]

    def past(self, number: int, state: State) -> State | None:
        """What holds behind a node; ``None`` if no execution gets past it."""
        step = self.steps[number]
        bit = 0 if step.key is None else self.keys.of((step.key,))
        after: State | None = state
        match step.does:
            case "read" | "take":
                after = _read(state, bit)
                if after is not None and step.does == "take":
                    after = after.without(bit)._replace(gone=after.gone | bit)
            case "write" | "increment":
                after = state.without(bit)._replace(written=state.written | bit)
            case "default":
                after = _default(state, bit)
            case "remove":
                after = state.without(bit)._replace(gone=state.gone | bit)
            case "clear":
                after = state.without(-1)._replace(gone=-1)
            case "look":
                after = state._replace(looked=state.looked | bit)
            case "likely":
                after = _found(state, bit, "present") or state
            case "present" | "absent" | "vague":
                after = _found(state, bit, step.does)
            case "failed":  # perhaps for a reason that is not seen here
                after = _found(state, bit, "absent") or state
            case "exit":
                after = None
            case _:
                after = state._replace(**_NOTES.get(step.does, {}))
        return None if after is None else after._replace(passed=after.passed | 1 << number)


_NOTES: dict[Does, dict[str, Any]] = {
    "unknown": {"unknown": True},
    "doubt": {"is_clear": False},
    "ask": {"is_asked": True},
    # What it has read and passed, each function is asked by itself.
    "next": {"required": 0, "passed": 0, "is_clear": True, "is_asked": False},
}


def _read(state: State, bit: int) -> State | None:
    """Past a read: the key was there, so paths on which it was not have ended."""
    opened = state.open & bit
    entry, vague = state.entry & ~bit, state.vague & ~bit
    if state.unknown:
        return state._replace(entry=entry, vague=vague, seen=state.seen | bit)
    if not state.there & bit:
        return None
    required = state.required
    if not (state.seen | state.written) & bit:
        required |= bit
    return state._replace(
        entry=entry,
        vague=vague,
        read=state.read | opened,
        gone=state.gone & ~bit,
        required=required,
    )


def _default(state: State, bit: int) -> State:
    opened = state.open & bit
    return state._replace(
        entry=state.entry & ~bit,
        vague=state.vague & ~bit,
        seen=state.seen | opened,
        written=state.written | opened | (state.gone & bit),
        gone=state.gone & ~bit,
    )


def _found(state: State, bit: int, what: Does) -> State | None:
    """On the way on which a key was found to be there, or not to be, or not or ``None``."""
    entry = state.entry & bit
    if what == "present":
        is_known = (entry | state.seen | state.read | state.written) & bit
        if not is_known and not state.unknown:
            return None
        seen = state.seen | (bit if state.unknown else entry)
        kept = state.without(bit)
        return kept._replace(
            seen=seen, read=state.read, written=state.written, gone=state.gone & ~bit
        )
    if state.unknown:
        return state
    if what == "vague":
        vague, looked = state.vague | entry, state.looked & ~bit
        return state._replace(entry=state.entry & ~bit, vague=vague, looked=looked)
    if not (state.open | state.gone) & bit:
        return None
    return state.without(bit)._replace(gone=state.gone | bit)
