"""The control-flow graph of a function, and the state at each of its nodes on every path to it.

A node does one thing to the store, or nothing. An edge leads to a possible successor; an edge for
an exception starts with the state before the node that raises. The states of the keys are solved
forward to a fixpoint, with sets of keys as bits of an integer, as for a flow.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from operator import or_
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar

from pocoflow.check.node_effects import Location

SpotT = TypeVar("SpotT", bound=Hashable)
KnownT = TypeVar("KnownT")


def solve(
    start: Mapping[SpotT, KnownT],
    leads: Callable[[SpotT, KnownT], Iterable[tuple[SpotT, KnownT]]],
    join: Callable[[KnownT, KnownT], KnownT],
) -> dict[SpotT, KnownT]:
    """The state at each reachable node of a graph, solved to a fixpoint.

    Args:
        start: The states at the start nodes.
        leads: The successors of a node with their states, from the state at the node.
        join: The state where two paths meet.
    """
    known = dict(start)
    queue, waiting = deque(known), set(known)
    while queue:
        spot = queue.popleft()
        waiting.discard(spot)
        for target, given in leads(spot, known[spot]):
            new = join(known[target], given) if target in known else given
            if target not in known or new != known[target]:
                known[target] = new
                if target not in waiting:
                    waiting.add(target)
                    queue.append(target)
    return known


class Keys:
    """Sets of keys as bits of an integer; -1 is all keys, including unnamed ones."""

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
    "read",  # fails if the key is absent
    "look",  # tests for a key, without failing
    "write",
    "increment",  # applies an increment with the reducer
    "default",  # writes the key if it is absent
    "take",  # reads and removes the key
    "remove",  # the key is absent afterwards
    "clear",
    "unknown",  # anything may be done to the store from here on
    "present",  # the path on which the key was found
    "likely",  # the same, unless it was changed since the test
    "absent",
    "failed",  # the path on which it could not be read
    "vague",  # the path on which it was not found, or is ``None``
    "ask",  # tests the schema, or a setting of the node
    "doubt",  # perhaps no execution gets past this, for an unknown reason
    "change",  # changes a value in place
    "unknown_attribute",  # uses an unknown attribute of the store
    "raise",
    "exit",
]

Lacks: TypeAlias = Literal["return", "end", "other"] | None
"""A bare ``return``, the end of the function, or the return of a value that is not an action."""


class State(NamedTuple):
    """What is known about the keys at one node, over all paths to it.

    Each field holds what is so on some path, as a truth or as bits, so states are joined by "or".

    For each key: whether it is as it was at the entry (``entry``), was found (``seen``), was
    required (``read``), was written, is absent (``gone``), is absent unless it is ``None``
    (``vague``), or was tested for with an unknown result (``looked``).

    Attributes:
        entry, seen, read, written, gone, vague, looked: As described.
        unread: The keys that a path has not read as they were at the entry.
        avoided: The steps that a path has not passed, as bits of their numbers.
        unknown: Whether a path may have done anything else.
        is_clear: Whether a path leads here without a doubt.
        is_unasked: Whether a path has not tested the schema, or a setting of the node.
    """

    entry: int
    seen: int = 0
    read: int = 0
    written: int = 0
    gone: int = 0
    vague: int = 0
    looked: int = 0
    unread: int = -1
    avoided: int = -1
    unknown: bool = False
    is_clear: bool = True
    is_unasked: bool = True

    def joined(self, other: State) -> State:
        """The state where two paths meet."""
        return State(*map(or_, self, other))

    def without(self, bit: int) -> State:
        """The same, with nothing known about a key."""
        return State._make((*(bits & ~bit for bits in self[:7]), *self[7:]))

    @property
    def open(self) -> int:
        """The keys that are as they were at the entry on some path, and may be present."""
        return self.entry | self.vague

    @property
    def there(self) -> int:
        """The keys that may be present on some path."""
        return self.open | self.seen | self.read | self.written


@dataclass(slots=True)
class Step:
    """One node of the graph.

    Attributes:
        does: Its operation.
        key: The key.
        location: Where in the source.
        value: The value that is written, or the possible actions of an exit.
        is_guarded: Whether an error of the store is caught around it.
        lacks: For an exit without a value that can be an action: its kind.
        after: Its successors.
    """

    does: Does
    key: str | None = None
    location: Location = Location()  # noqa: RUF009 - it is immutable
    value: Any = None
    is_guarded: bool = False
    lacks: Lacks = None
    after: list[int] = field(default_factory=list)


class Chart:
    """A control-flow graph of one function.

    Args:
        keys: The keys that are named.

    Attributes:
        steps: Its nodes; the first is the entry.
    """

    def __init__(self, keys: Keys) -> None:
        self.steps = [Step("nothing")]
        self._keys = keys

    def add(self, step: Step, before: Iterable[int]) -> int:
        """Add a node after others."""
        number = len(self.steps)
        self.steps.append(step)
        for previous in before:
            self.link(previous, number)
        return number

    def link(self, before: int, after: int) -> None:
        """Add an edge."""
        if after not in self.steps[before].after:
            self.steps[before].after.append(after)

    def states(self, start: State) -> dict[int, State]:
        """The states before the reachable nodes, from that at the entry."""
        return solve({0: start}, self._leads, State.joined)

    def _leads(self, number: int, state: State) -> list[tuple[int, State]]:
        past = self.past(number, state)
        return [] if past is None else [(after, past) for after in self.steps[number].after]

    def past(self, number: int, state: State) -> State | None:
        """The state after a node; ``None`` if no execution gets past it."""
        step = self.steps[number]
        bit = 0 if step.key is None else self._keys.of((step.key,))
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
            case "failed":  # perhaps for an unknown reason
                after = _found(state, bit, "absent") or state
            case "exit":
                after = None
            case _:
                after = state._replace(**_NOTES.get(step.does, {}))
        return None if after is None else after._replace(avoided=after.avoided & ~(1 << number))


_NOTES: dict[Does, dict[str, Any]] = {
    "unknown": {"unknown": True},
    "doubt": {"is_clear": False},
    "ask": {"is_unasked": False},
}


def _read(state: State, bit: int) -> State | None:
    """The state after a read: the key was present, so paths on which it was absent have ended."""
    opened = state.open & bit
    entry, vague = state.entry & ~bit, state.vague & ~bit
    if state.unknown:
        return state._replace(entry=entry, vague=vague, seen=state.seen | bit)
    if not state.there & bit:
        return None
    is_first = not (state.seen | state.written) & bit
    return state._replace(
        entry=entry,
        vague=vague,
        read=state.read | opened,
        gone=state.gone & ~bit,
        unread=state.unread & ~bit if is_first else state.unread,
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
    """The state on the path where a key was found, was not found, or not found or ``None``."""
    entry = state.entry & bit
    if what == "present":
        is_known = (entry | state.seen | state.read | state.written) & bit
        if not is_known and not state.unknown:
            return None
        seen = state.seen | (bit if state.unknown else entry)
        return state.without(bit)._replace(
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
