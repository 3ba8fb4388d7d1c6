"""The control-flow graph of a function, and what holds at each of its nodes on every path there.

A node does one thing to the store, or nothing. An edge leads to what may come next; one that an
exception takes starts with what held before the node that raises. What is known of the keys is
solved forward to a fixpoint, with sets of keys as bits of an integer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any, Literal, NamedTuple, TypeAlias

from pocoflow.check.node_effects import Place

__all__ = ["EVERY", "Chart", "Does", "Lacks", "State", "Step"]

Does: TypeAlias = Literal[
    "nothing",  # joins edges
    "read",  # fails if the key is not there
    "look",  # asks for a key, without failing
    "write",
    "default",  # writes the key if it is not there
    "take",  # reads and removes the key
    "remove",  # the key is not there afterwards
    "clear",
    "unknown",  # anything may be done with the store from now on
    "present",  # the way on which the key was found to be there
    "absent",
    "vague",  # the way on which it was not found, or is ``None``
    "ask",  # of what the schema, or a setting of the node, is
    "doubt",  # perhaps no execution comes past this, for a reason that is not seen here
    "change",  # changes a value in place
    "raise",
    "exit",
]

Lacks: TypeAlias = Literal["return", "end"] | None
"""A bare ``return``, or the end of the function."""

EVERY = 1
"""The bit of all the keys that a function does not name."""


class State(NamedTuple):
    """What is known of the keys at one place, whatever path led there.

    Of each key: whether on some path it is as it was at the beginning (``entry``), was found to be
    there (``seen``), had to be there (``read``), was written, is not there (``gone``), or is not
    there unless it is ``None`` (``vague``).

    Attributes:
        entry, seen, read, written, gone, vague: As said.
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
        place: Where in the source.
        value: What is written, or the action of a way out.
        is_guarded: Whether an error of the store is caught around it.
        lacks: Of a way out: what it is, if it has no value.
        after: What may come next.
    """

    does: Does
    key: str | None = None
    place: Place = Place()  # noqa: RUF009 - it is immutable
    value: Any = None
    is_guarded: bool = False
    lacks: Lacks = None
    after: list[int] = field(default_factory=list)


class Chart:
    """A control-flow graph.

    Attributes:
        steps: Its nodes; the first is the beginning.
    """

    def __init__(self) -> None:
        self.steps = [Step("nothing")]
        self._bits: dict[str, int] = {}
        self._states: list[State | None] | None = None

    def add(self, step: Step, before: Iterable[int]) -> int:
        """Add a node behind others."""
        number = len(self.steps)
        self.steps.append(step)
        for one in before:
            self.link(one, number)
        if step.key is not None:
            self._bits.setdefault(step.key, 2 << len(self._bits))
        return number

    def link(self, before: int, after: int) -> None:
        """Add an edge."""
        if after not in self.steps[before].after:
            self.steps[before].after.append(after)

    def keys(self, bits: int) -> frozenset[str]:
        """The keys of bits."""
        return frozenset(key for key, bit in self._bits.items() if bits & bit)

    @property
    def all(self) -> int:
        """The bits of every key."""
        return (2 << len(self._bits)) - 1

    def before(self, number: int) -> State | None:
        """What holds where a node begins; ``None`` if no execution comes there."""
        if self._states is None:
            self._states = self._solve()
        return self._states[number]

    def _solve(self) -> list[State | None]:
        states: list[State | None] = [None] * len(self.steps)
        states[0] = State(self.all)
        queue, waiting = [0], {0}
        while queue:  # in the order of the source, as far as there is one
            number = heappop(queue)
            waiting.discard(number)
            state = states[number]
            left = None if state is None else self.past(number, state)
            if left is None:
                continue
            for one in self.steps[number].after:
                known = states[one]
                new = left if known is None else known.joined(left)
                if new != known:
                    states[one] = new
                    if one not in waiting:
                        waiting.add(one)
                        heappush(queue, one)
        return states

    def past(self, number: int, state: State) -> State | None:
        """What holds behind a node; ``None`` if no execution gets past it."""
        step = self.steps[number]
        bit = 0 if step.key is None else self._bits[step.key]
        after: State | None = state
        match step.does:
            case "read" | "take":
                after = _read(state, bit)
                if after is not None and step.does == "take":
                    after = after.without(bit)._replace(gone=after.gone | bit)
            case "write":
                after = state.without(bit)._replace(written=state.written | bit)
            case "default":
                after = _default(state, bit)
            case "remove":
                after = state.without(bit)._replace(gone=state.gone | bit)
            case "clear":
                after = state.without(self.all)._replace(gone=self.all)
            case "present" | "absent" | "vague":
                after = _found(state, bit, step.does)
            case "unknown":
                after = state._replace(unknown=True)
            case "doubt":
                after = state._replace(is_clear=False)
            case "ask":
                after = state._replace(is_asked=True)
            case "exit":
                after = None
            case _:
                pass
        return None if after is None else after._replace(passed=after.passed | 1 << number)


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
        return state._replace(entry=state.entry & ~bit, vague=state.vague | entry)
    if not (state.open | state.gone) & bit:
        return None
    return state.without(bit)._replace(gone=state.gone | bit)
