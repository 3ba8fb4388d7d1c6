"""What a function that is given a store does to it, on every path through its source.

What is not seen for certain is left open: a store that is passed on to what cannot be read, or used
with a key that is not known, may have been changed in any way.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from types import FunctionType
from typing import Any

from pocoflow.check.control import EVERY, Chart, State, Step
from pocoflow.check.node_effects import UNKNOWN, Effects, Exit, Lacking, Place, Write, join
from pocoflow.check.scope import Given, Owner, Scope, Sort
from pocoflow.check.statements import Statements

__all__ = ["read_source"]

_GENERATOR = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR
_Sites = list[tuple[Step, State, bool]]


def read_source(
    function: Callable[..., Any],
    stores: Sequence[str] | None = None,
    *,
    kind: type | None = None,
    own: Mapping[str, Any] | None = None,
    attributes: frozenset[str] = frozenset(),
) -> Effects:
    """What a function does to the store.

    Args:
        function: A function, or a method of a class.
        stores: The parameters that are the store; by default the one after ``self``.
        kind: The class of the node, if it is a method.
        own: What the node itself has under names that its class may have, too.
        attributes: What the model of the store defines beside its fields.
    """
    if not isinstance(function, FunctionType):
        return UNKNOWN
    names = None if stores is None else tuple(stores)
    if own:
        return _read(function, names, Owner(kind, own), attributes)
    return _shared(function, names, kind, attributes)


@lru_cache(maxsize=4096)
def _shared(
    function: FunctionType,
    stores: tuple[str, ...] | None,
    kind: type | None,
    attributes: frozenset[str],
) -> Effects:
    return _read(function, stores, Owner(kind, {}), attributes)


def _read(
    function: FunctionType,
    stores: tuple[str, ...] | None,
    owner: Owner,
    attributes: frozenset[str],
) -> Effects:
    given = _given(function, stores)
    scope = None if given is None else Scope.of(function, given, owner)
    if scope is None:
        return UNKNOWN
    is_generator = bool(function.__code__.co_flags & _GENERATOR)
    read = Statements(scope, attributes, may_not_run=is_generator)
    found = _Facts(read.chart).effects(read.reads_all, frozenset(owner.used))
    return replace(found, lacking=None) if is_generator else found


def _given(function: FunctionType, stores: tuple[str, ...] | None) -> Given | None:
    """What the parameters stand for; ``None`` if the store is not among them."""
    code = function.__code__
    count = code.co_argcount + code.co_kwonlyargcount
    names = code.co_varnames[:count]
    given: dict[str, Any] = dict.fromkeys(names)
    rest = code.co_varnames[count : count + bool(code.co_flags & inspect.CO_VARARGS)]
    if stores is None:
        if code.co_argcount == 0 or len(names) + len(rest) < 2:
            return None
        first, *others = names
        given[first] = Sort.SELF
        stores = tuple(others[:1])
        given.update(dict.fromkeys(() if stores else rest, Sort.STORES))
    given.update(dict.fromkeys(stores, Sort.STORE))
    return given


class _Facts:
    """What a graph that has been solved says."""

    def __init__(self, chart: Chart) -> None:
        self._chart = chart
        known = [(step, chart.before(n)) for n, step in enumerate(chart.steps)]
        reached = [(n, step, state) for n, (step, state) in enumerate(known) if state is not None]
        self._ends = [(step, state) for _, step, state in reached if step.does == "exit"]
        raised = [state for _, step, state in reached if step.does == "raise"]
        ends = [*(state for _, state in self._ends), *raised]
        self._raises = bool(raised)
        passed = required = -1
        for state in ends:
            passed &= state.passed
            required &= state.required
        self._required = chart.keys(required) if ends else frozenset()
        self._is_stuck = not ends
        self._sites: _Sites = [
            (step, state, bool(ends) and bool(passed >> n & 1))
            for n, step, state in reached
            if step.key is not None
        ]
        self._failing = {
            id(step): True for n, step, state in reached if chart.past(n, state) is None
        }

    def effects(self, reads_all: bool, used: frozenset[str]) -> Effects:
        """All of it."""
        named, doubtful = self._named()
        reads = self._places(("read", "look", "take", "default"))
        return Effects(
            needs={
                key: place
                for key, place in self._places(("read", "take")).items()
                if key in self._required
            },
            reads=frozenset(reads),
            writes=self._places(("write", "default")),
            exits=self._exits(),
            reads_more=reads_all,
            writes_more=self._escapes,
            named=named,
            doubtful=doubtful,
            looks=self._places(("look", "default")),
            values=tuple(self._values()),
            changes=self._places(("change",)),
            lost=self._lost(),
            lacking=self._lacking(),
            used=used,
        )

    @property
    def _escapes(self) -> bool:
        return any(
            step.does == "unknown" and self._chart.before(number) is not None
            for number, step in enumerate(self._chart.steps)
        )

    def _places(self, does: Sequence[str]) -> dict[str, Place]:
        found: dict[str, Place] = {}
        for step, _, _ in self._sites:
            if step.does in does and step.key is not None:
                found.setdefault(step.key, step.place)
        return found

    def _named(self) -> tuple[dict[str, Place], dict[str, Place]]:
        certain: dict[str, Place] = {}
        doubtful: dict[str, Place] = {}
        for step, state, always in self._sites:
            is_use = step.does in ("read", "write", "take", "default")
            if not is_use or step.key is None or step.is_guarded:
                continue
            if self._is_found(step.key, state):
                continue
            if always:
                certain.setdefault(step.key, step.place)
            elif not state.is_asked:
                doubtful.setdefault(step.key, step.place)
        return certain, doubtful

    def _is_found(self, key: str, state: State) -> bool:
        """Whether a key was found to be there, and nothing else is known of it."""
        others = state.open | state.read | state.written | state.gone
        return key in self._chart.keys(state.seen & ~others)

    def _values(self) -> list[Write]:
        return [
            Write(step.key, step.place, step.value, always)
            for step, state, always in self._sites
            if step.key is not None
            and step.does in ("write", "default")
            and step.value is not None
            and not step.is_guarded
            and (always or not state.is_asked)
        ]

    def _lost(self) -> dict[str, Place]:
        """Reads that fail whatever was there, if nothing gets past them."""
        if not self._is_stuck:
            return {}
        return {
            step.key: step.place
            for step, _, _ in self._sites
            if step.key is not None and id(step) in self._failing and not step.is_guarded
        }

    def _exits(self) -> tuple[Exit, ...]:
        by_action: dict[str | None, list[Exit]] = {}
        for step, state in self._ends:
            by_action.setdefault(step.value, []).append(self._exit(step.value, state))
        return tuple(join(every, action) for action, every in by_action.items())

    def _exit(self, action: str | None, state: State) -> Exit:
        keys = self._chart.keys
        gone = state.gone & ~state.there
        return Exit(
            action,
            keys(state.written),
            keys(self._chart.all & ~(state.open | state.seen | state.read)),
            state.unknown,
            keys(state.seen | state.read),
            frozenset() if state.unknown else keys(gone),
            bool(gone & EVERY) and not state.unknown,
        )

    def _lacking(self) -> Lacking | None:
        clear = [step for step, state in self._ends if step.lacks and state.is_clear]
        if not clear:
            return None
        first = min(clear, key=lambda step: (step.lacks != "return", step.place.line))
        always = not self._raises and all(step.lacks for step, _ in self._ends)
        return Lacking(first.place.line, first.lacks == "return", always)
