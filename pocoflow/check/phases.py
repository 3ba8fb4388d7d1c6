"""The phases of a class against each other, and against ``Node[Prep, Exec, Post]``."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar, get_args, get_origin

import typing_extensions

from pocoflow.check.assignable import fits
from pocoflow.check.findings import Finding
from pocoflow.check.subject import Subject
from pocoflow.graph.graph import GraphNode
from pocoflow.messages import type_label
from pocoflow.nodes.annotations import answered, awaited, is_unknown, plain, read_hints
from pocoflow.nodes.base import BatchNode
from pocoflow.nodes.definitions import type_arguments
from pocoflow.nodes.signature import definition_place

__all__ = ["check_phases", "hints_of"]

_VARIABLES: tuple[type, ...] = (TypeVar, typing_extensions.TypeVar)
_PASSED = ("prep", "exec", "post")


class _Mismatch(NamedTuple):
    code: str
    message: str
    fix: str
    where: tuple[str, int]


class _Phase:
    """One phase that a class overrides."""

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self.name = name
        self.function = function
        hints = hints_of(function)
        self.returns = hints.get("return", Any)
        if not inspect.iscoroutinefunction(function):
            self.returns = awaited(self.returns)
        if name in ("exec", "exec_async"):
            self.returns, _ = answered(self.returns)
        try:
            names = list(inspect.signature(function).parameters)[1:]
        except (TypeError, ValueError):
            names = []
        self.takes = [(one, hints.get(one, Any)) for one in names]

    def parameter(self, number: int) -> tuple[str, Any]:
        return self.takes[number] if number < len(self.takes) else ("", Any)

    @property
    def where(self) -> tuple[str, int]:
        return definition_place(self.function)


@lru_cache(maxsize=4096)
def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of a function."""
    return read_hints(function)


def check_phases(subject: Subject, name: str, place: GraphNode) -> Iterator[Finding]:
    """PF204 and PF205 for one node."""
    kind: Any = type(place.node)
    for code, message, fix, where in _mismatches(kind):
        yield subject.finding(code, message, fix, node=name, where=where)


@lru_cache(maxsize=1024)
def _mismatches(kind: Any) -> tuple[_Mismatch, ...]:
    phases = {name: phase for name in _NAMES if (phase := _phase(kind, name)) is not None}
    if issubclass(kind, BatchNode):
        found = list(_batch(phases))
    else:
        found = [*_passed_on(phases), *_arguments(kind, phases)]
    return tuple(found)


_NAMES = ("prep", "exec", "exec_async", "exec_fallback", "post")


def _phase(kind: Any, name: str) -> _Phase | None:
    function = getattr(kind, name, None)
    if not inspect.isfunction(function) or function.__module__ == "pocoflow.nodes.base":
        return None
    return _Phase(name, function)


def _work(phases: dict[str, _Phase]) -> _Phase | None:
    return phases.get("exec_async") or phases.get("exec")


def _passed_on(phases: dict[str, _Phase]) -> Iterator[_Mismatch]:
    """What one phase returns against what the next takes."""
    prep, work, post = phases.get("prep"), _work(phases), phases.get("post")
    fallback = phases.get("exec_fallback")
    if prep is not None:
        yield from _against(prep, prep.returns, [(work, 0), (fallback, 0), (post, 1)])
    for one in (work, fallback):
        if one is not None:
            yield from _against(one, one.returns, [(post, 2)])


def _batch(phases: dict[str, _Phase]) -> Iterator[_Mismatch]:
    prep, work, post = phases.get("prep"), _work(phases), phases.get("post")
    fallback = phases.get("exec_fallback")
    items = plain(prep.returns) if prep is not None else Any
    one_kind = len(get_args(items)) == 1 and get_origin(items) is not None
    item = get_args(items)[0] if one_kind else Any
    if prep is not None:
        yield from _against(prep, item, [(work, 0), (fallback, 0)], "an item of ")
        yield from _against(prep, prep.returns, [(post, 1)])
    if work is not None and post is not None:
        yield from _against(work, list[_known(work.returns)], [(post, 2)], "a list of results: ")  # type: ignore[misc]


def _known(hint: Any) -> Any:
    return Any if is_unknown(hint) else hint


def _against(
    giver: _Phase, given: Any, takers: Iterable[tuple[_Phase | None, int]], how: str = ""
) -> Iterator[_Mismatch]:
    for taker, number in takers:
        if taker is None:
            continue
        parameter, wanted = taker.parameter(number)
        if not fits(given, wanted):
            yield _Mismatch(
                "PF204",
                f"{giver.name} gives {how}{type_label(given)}, but parameter {parameter!r} of "
                f"{taker.name} is annotated as {type_label(wanted)}",
                f"make the two agree: {giver.name} is at {':'.join(map(str, giver.where))}",
                taker.where,
            )


def _arguments(kind: Any, phases: dict[str, _Phase]) -> Iterator[_Mismatch]:
    """``Node[Prep, Exec, Post]`` against the annotations of the methods."""
    prep_type, exec_type, post_type = (_argument(one) for one in type_arguments(kind))
    work = _work(phases)
    returns = [
        (phases.get("prep"), "Prep", prep_type),
        (work, "Exec", exec_type),
        (phases.get("exec_fallback"), "Exec", exec_type),
        (phases.get("post"), "Post", post_type),
    ]
    for phase, label, wanted in returns:
        if phase is not None and not fits(phase.returns, wanted):
            yield _disagree(kind, phase, label, wanted, "returns", phase.returns)
    takes = [
        (work, 0, "Prep", prep_type),
        (phases.get("post"), 1, "Prep", prep_type),
        (phases.get("post"), 2, "Exec", exec_type),
    ]
    for phase, number, label, given in takes:
        if phase is not None and not fits(given, phase.parameter(number)[1]):
            name, hint = phase.parameter(number)
            yield _disagree(kind, phase, label, given, f"takes {name!r} as", hint)


def _argument(given: Any) -> Any:
    return Any if isinstance(given, _VARIABLES) else given


def _disagree(
    kind: Any, phase: _Phase, label: str, argument: Any, verb: str, hint: Any
) -> _Mismatch:
    return _Mismatch(
        "PF205",
        f"{kind.__name__} is declared with {label} = {type_label(argument)}, but its {phase.name} "
        f"{verb} {type_label(hint)}",
        f"change Node[...] of {kind.__name__}, or the annotation of {phase.name}",
        phase.where,
    )
