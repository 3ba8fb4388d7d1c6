"""The effects of a function on a store, on every path through its source.

Unknown code is assumed to do anything: a store that is passed to code that cannot be read, or used
with an unknown key, may have been changed in any way.
"""

from __future__ import annotations

import dis
import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from types import FunctionType, NoneType
from typing import Any, NamedTuple

from pocoflow.check.control import Keys, Lacks, State, Step
from pocoflow.check.node_effects import Effects, Exit, Lacking, Location, Locations, Value, Write
from pocoflow.check.scope import Owner, Scope, Sort
from pocoflow.check.source import with_room
from pocoflow.check.statements import Statements
from pocoflow.values.remembering import remembered

_ANYTHING = Value(kind=Any)
_AT_ENTRY: dict[str, Any] = {"unread": -1, "avoided": -1, "is_clear": True, "is_unasked": True}
_Constants = tuple[tuple[str, type, object], ...]
_Sites = list[tuple[Step, State, bool]]


class Around(NamedTuple):
    """Operations on the store before some functions and after them, with locations.

    Attributes:
        needs: The keys that are read.
        looks: The keys that are read if they are present.
        writes: The keys that are written at the end; then no function returns the action.
    """

    needs: tuple[tuple[str, Location], ...] = ()
    looks: tuple[tuple[str, Location], ...] = ()
    writes: tuple[tuple[str, Location], ...] = ()


def read_source(
    *functions: Callable[..., object],
    stores: Sequence[str] | None = None,
    kind: type | None = None,
    own: Mapping[str, object] | None = None,
    attributes: frozenset[str] = frozenset(),
    around: Around = Around(),  # noqa: B008 - it is immutable
) -> Effects:
    """The effects on the store of functions that are called in sequence.

    Args:
        functions: Functions, or methods of a class.
        stores: The parameters that are the store; by default the one after ``self``.
        kind: The class of the node, if they are methods.
        own: The attributes of the node itself that may override those of its class.
        attributes: The attributes that the model of the store defines besides its fields.
        around: Additional operations.
    """
    known = tuple(f if isinstance(f, FunctionType) else None for f in functions)
    reading = _Reading(known, None if stores is None else tuple(stores), attributes, around)
    own = own or {}
    constants = tuple((name, type(value), value) for name, value in own.items())
    found = _shared(reading, kind, constants) if all(map(is_constant, own.values())) else None
    # If a constant of a module has changed, the source is analysed again.
    return found if found and found.is_current else _read(reading, Owner(kind, own))


def is_constant(value: object) -> bool:
    """Whether equal values of this type are interchangeable."""
    return type(value) in (str, int, float, bool, NoneType)


class _Reading(NamedTuple):
    """The input of an analysis: ``functions``, ``None`` for those without a source, and facts."""

    functions: tuple[FunctionType | None, ...]
    stores: tuple[str, ...] | None
    attributes: frozenset[str]
    around: Around


@remembered
def _shared(reading: _Reading, kind: type | None, own: _Constants) -> Effects:
    return _read(reading, Owner(kind, {name: value for name, _, value in own}))


def _read(reading: _Reading, owner: Owner) -> Effects:
    try:
        return with_room(lambda: _Facts(reading, owner).effects())
    except RecursionError:  # as without a source
        unknown = reading._replace(functions=(None,) * len(reading.functions))
        return _Facts(unknown, owner).effects()


def _scope(function: FunctionType, stores: tuple[str, ...] | None, owner: Owner) -> Scope | None:
    """The scope of a function; ``None`` if the store is not among its parameters."""
    code = function.__code__
    count = code.co_argcount + code.co_kwonlyargcount
    names = code.co_varnames[:count]
    given: dict[str, Sort | Value | None] = dict.fromkeys(names)
    rest = code.co_varnames[count : count + bool(code.co_flags & inspect.CO_VARARGS)]
    if stores is None:
        if code.co_argcount == 0 or len(names) + len(rest) < 2:
            return None
        first, *others = names
        given[first] = Sort.SELF
        stores = tuple(others[:1])
        given.update(dict.fromkeys(() if stores else rest, Sort.STORES))
    given.update(dict.fromkeys(stores, Sort.STORE))
    return Scope.of(function, given, owner)


def may_write(callback: Callable[..., object]) -> bool:
    """Whether a hook, whose last parameter is the store, may write to it."""
    function = getattr(callback, "__func__", callback)
    if not isinstance(function, FunctionType) or function.__code__.co_flags & inspect.CO_VARARGS:
        return True
    code = function.__code__
    store = code.co_varnames[code.co_argcount - 1]
    used = [op for op in dis.get_instructions(code) if op.argval == store]
    if not (used or store in code.co_cellvars):
        return False  # also for a lambda, whose source is not analysed
    effects = read_source(function, stores=(store,))
    return bool(effects.writes) or effects.writes_more


class _Facts:
    """The effects of functions that are called in sequence.

    Each has a control-flow graph of its own, which begins with what is known at the ends of the one
    before it.
    """

    def __init__(self, reading: _Reading, owner: Owner) -> None:
        self._owner, self._attributes, self._keys = owner, reading.attributes, Keys()
        self._state: State | None = State(-1)
        self._reads_more = self._writes_more = self._raises = self._may_not_run = False
        self._required: frozenset[str] = frozenset()
        self._sites: _Sites = []
        self._lost: dict[str, Location] = {}
        self._last: list[tuple[Step, State]] = []
        needs, looks, writes = reading.around
        self._simple(*(Step("read", *use) for use in needs), *(Step("look", *use) for use in looks))
        for function in reading.functions:
            read = Statements(owner, self._attributes, self._keys)
            scope = None if function is None else _scope(function, reading.stores, owner)
            self._may_not_run = scope is not None and scope.is_generator
            read.function(scope)
            self._add(read)
        self._simple(*(Step("increment", *use) for use in writes))

    def _simple(self, *steps: Step) -> None:
        """Add some operations."""
        if steps:
            read = Statements(self._owner, self._attributes, self._keys)
            for step in (*steps, Step("exit", value=frozenset())):
                read.at = [read.chart.add(step, read.at)]
            self._add(read)

    def _add(self, read: Statements) -> None:
        """Collect the results of a function, if it is called."""
        states = {} if self._state is None else read.chart.states(self._state)
        known = [(n, read.chart.steps[n], state) for n, state in sorted(states.items())]
        does = {step.does for _, step, _ in known}
        self._reads_more |= read.reads_all
        self._writes_more |= "unknown" in does
        self._raises = "raise" in does
        self._last = [(step, state) for _, step, state in known if step.does == "exit"]
        ends = [state for _, step, state in known if step.does in ("exit", "raise")]
        met = reduce(State.joined, ends) if ends else State(0)
        self._required |= self._keys.names(~met.unread)
        for n, step, state in known:
            if step.key is not None:
                self._sites.append((step, state, not met.avoided >> n & 1))
                # A read always fails if nothing gets past it.
                fails = not ends and read.chart.past(n, state) is None
                if fails and not step.is_guarded:
                    self._lost.setdefault(step.key, step.location)
        left = [state._replace(**_AT_ENTRY) for _, state in self._last]
        self._state = reduce(State.joined, left) if left else None

    def effects(self) -> Effects:
        """All effects."""
        named, doubtful = self._named()
        needs = self._locations("read", "take")
        return Effects(
            needs={key: location for key, location in needs.items() if key in self._required},
            reads=frozenset(self._locations("read", "look", "take", "default")),
            writes=self._locations("write", "default", "increment"),
            exits=self._exits(),
            reads_more=self._reads_more,
            writes_more=self._writes_more,
            named=named,
            doubtful=doubtful,
            looks=self._locations("look", "default"),
            values=tuple(self._values()),
            changes=self._locations("change"),
            unknown_attributes=self._locations("unknown_attribute"),
            lost=self._lost,
            lacking=self._lacking("return", "end"),
            misgiven=self._lacking("other"),
            used=frozenset(self._owner.used),
            facts=tuple(self._owner.facts),
        )

    def _locations(self, *does: str) -> dict[str, Location]:
        found: dict[str, Location] = {}
        for step, _, _ in self._sites:
            if step.does in does and step.key is not None:
                found.setdefault(step.key, step.location)
        return found

    def _named(self) -> tuple[Locations, Locations]:
        certain: dict[str, Location] = {}
        doubtful: dict[str, Location] = {}
        for step, state, always in self._sites:
            is_use = step.does in ("read", "write", "increment", "take", "default")
            if not is_use or step.key is None or step.is_guarded:
                continue
            if self._is_found(step.key, state):
                continue
            if always:
                certain.setdefault(step.key, step.location)
            elif state.is_unasked:
                doubtful.setdefault(step.key, step.location)
        return certain, doubtful

    def _is_found(self, key: str, state: State) -> bool:
        """Whether a key was found, and nothing else is known about it."""
        others = state.open | state.read | state.written | state.gone
        return bool(self._keys.of((key,)) & state.seen & ~others)

    def _values(self) -> list[Write]:
        return [
            Write(step.key, step.location, step.value or _ANYTHING, always, step.does == "default")
            for step, state, always in self._sites
            if step.key is not None
            and step.does in ("write", "default")
            and not step.is_guarded
            and (always or state.is_unasked)
        ]

    def _exits(self) -> tuple[Exit, ...]:
        found: dict[frozenset[str], State] = {}
        for step, state in self._last:
            known = found.get(step.value)
            found[step.value] = state if known is None else known.joined(state)
        return tuple(self._exit(choices, state) for choices, state in found.items())

    def _exit(self, choices: frozenset[str], state: State) -> Exit:
        names = self._keys.names
        gone = state.gone & ~state.there
        is_empty = gone < 0 and not state.unknown  # unnamed keys are gone, too
        return Exit(
            choices,
            names(state.written),
            names(~(state.open | state.seen | state.read)),
            state.unknown,
            names(state.seen | state.read),
            frozenset() if state.unknown else names(gone),
            names(~gone) if is_empty else None,
            names(state.looked & state.there),
        )

    def _lacking(self, *kinds: Lacks) -> Lacking | None:
        ends = [(step, state) for step, state in self._last if step.lacks in kinds]
        # A return with a value is meant to be reached.
        clear = [step for step, state in ends if state.is_clear or step.lacks == "other"]
        if not clear or self._may_not_run:
            return None
        first = min(clear, key=lambda step: (step.lacks != "return", step.location.line))
        always = not self._raises and all(step.lacks in (*kinds, "other") for step, _ in self._last)
        return Lacking(first.location.line, first.lacks == "return", always)
