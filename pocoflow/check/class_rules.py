"""Checks of a class by itself: its phases against each other, and names that nothing uses."""

from __future__ import annotations

import inspect
import linecache
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from types import FunctionType, GenericAlias
from typing import Any, NamedTuple, Union, get_args, get_origin

from pocoflow.check.assignable import fits
from pocoflow.check.findings import Finding, Severity
from pocoflow.check.item_rules import item_of
from pocoflow.check.source import PHASES, is_a, is_foreign
from pocoflow.check.subject import Site, Subject
from pocoflow.messages import package_of, type_label
from pocoflow.nodes.annotations import (
    actions_of,
    answered,
    awaited,
    is_unknown,
    is_variable,
    read_hints,
    type_arguments,
)
from pocoflow.nodes.base import AnyNode, Node
from pocoflow.nodes.definitions import class_location, location_of, overrides
from pocoflow.nodes.function import AnyFunctionNode, FunctionNode
from pocoflow.nodes.node_kinds import AskNode, BatchNode
from pocoflow.nodes.porting import RENAMED
from pocoflow.nodes.settings import ITEM_SETTINGS, STEP_SETTINGS
from pocoflow.nodes.signature import definition_location
from pocoflow.nodes.subflow import Subflow
from pocoflow.values.callables import forgets_to_return
from pocoflow.values.remembering import remembered

_NUMBERS = tuple(
    name
    for name in (*STEP_SETTINGS, *ITEM_SETTINGS)
    if name not in ("retry_on", "journal", "on_error")
)
_OF_BATCHES: dict[str, type] = {"concurrency": int, "on_error": str}
_ALIKE = 0.85


class _Mistake(NamedTuple):
    """A mistake of a class, with the fields of a finding."""

    code: str
    message: str
    fix: str
    where: tuple[str, int] | None
    severity: Severity | None = None


class _Phase(NamedTuple):
    """One phase that a class overrides: its result and parameters, by its annotations."""

    name: str
    function: Callable[..., object]
    returns: object
    takes: list[tuple[str, object]]

    def parameter(self, number: int) -> tuple[str, object]:
        return self.takes[number] if number < len(self.takes) else ("", Any)

    @property
    def where(self) -> tuple[str, int]:
        return definition_location(self.function)


_Phases = dict[str, _Phase]
_Given = list[tuple[_Phase, object]]


@remembered
def hints_of(function: Callable[..., object]) -> dict[str, object]:
    """The annotations of a function."""
    return read_hints(function)


def check_class(subject: Subject, at: Site) -> Iterator[Finding]:
    """PF204 and PF205 for one node."""
    kind: type = type(at.vertex.node)
    return _findings(subject, at, _mistakes(kind))


def check_names(subject: Subject) -> Iterator[Finding]:
    """PF208, which needs neither a schema nor the code: it is logged before a run."""
    for at in subject.classes:
        kind: type = type(at.vertex.node)
        yield from _findings(subject, at, _misspelt_names(kind))
        if not subject.graph.wraps:  # a middleware of an attempt may fail, and be retried
            yield from _findings(subject, at, _idle(at.vertex.node))
    for at in subject.nodes:
        yield from _findings(subject, at, misnamed(at.vertex.node))
    for level in subject.levels:
        for vertex in level.graph.nodes.values():
            if vertex.inner is not None:
                yield from _findings(subject, level.site(vertex), _nested(vertex.node))
            elif isinstance(vertex.node, Subflow):
                yield from _findings(subject, level.site(vertex), _nested(vertex.node.flow))


def _findings(subject: Subject, at: Site, mistakes: Iterable[_Mistake]) -> Iterator[Finding]:
    for code, message, fix, where, severity in mistakes:
        yield subject.finding(code, message, fix, node=at.name, where=where, severity=severity)


@remembered
def _mistakes(kind: type) -> tuple[_Mistake, ...]:
    phases = _phases(kind)
    mistakes = [*_disagreeing(kind, phases), *_returning_nothing(phases), *_asked(kind, phases)]
    return (*mistakes, *(_without_items(phases) if issubclass(kind, BatchNode) else ()))


@remembered
def given_to_post(kind: type) -> dict[str, object]:
    """The types of the parameters of ``post``, by the annotations of earlier phases."""
    phases = _phases(kind)
    found: dict[str, object] = {}
    for row in _handed(kind, phases):
        kinds = [row.declared if _is_open(hint) else hint for _, hint in row.given]
        kinds += [list[Exception]] if getattr(kind, "on_error", "stop") == "collect" else []
        for taker, number in row.takers:
            if taker.name == "post" and row.given and not any(map(_is_open, kinds)):
                found[taker.parameter(number)[0]] = Union[tuple(kinds)]  # noqa: UP007 - of several
    return {name: given for name, given in found.items() if name}


def _is_open(hint: object) -> bool:
    inner = get_args(hint) if get_origin(hint) is list else (hint,)
    return any(part is Any or is_unknown(part) or is_variable(part) for part in inner)


# -- phases ---------------------------------------------------------------------------------------


def _phases(kind: object) -> _Phases:
    """The phases that a class overrides, by their names; ``exec_async`` is its ``exec``."""
    found = {name: phase for name in PHASES if (phase := _phase(kind, name)) is not None}
    if "exec_async" in found:
        found["exec"] = found.pop("exec_async")
    return found


def _phase(kind: object, name: str) -> _Phase | None:
    function = getattr(kind, name, None)
    if not inspect.isfunction(function) or package_of(function) == "pocoflow":
        return None
    hints = hints_of(function)
    returns = hints.get("return", Any)
    if not inspect.iscoroutinefunction(function):
        returns = awaited(returns)
    if name in ("exec", "exec_async"):
        returns, _ = answered(returns)
    names = list(inspect.signature(function).parameters)
    # A static method has no parameter for the node.
    given = names if is_a(inspect.getattr_static(kind, name), staticmethod) else names[1:]
    return _Phase(name, function, returns, [(name, hints.get(name, Any)) for name in given])


class _Handed(NamedTuple):
    """A value that some phases pass to others.

    Attributes:
        label: Its name in the declaration of the class.
        declared: Its declared type there.
        given: The type that each phase gives, for the phases that produce it.
        takers: The phases that receive it, each with the number of its parameter.
        how: How it is derived from the result of a phase, for messages.
    """

    label: str
    declared: object
    given: _Given
    takers: list[tuple[_Phase, int]]
    how: str = ""


def _handed(kind: type, phases: _Phases) -> list[_Handed]:
    """The values that the phases of a class pass to each other; in a batch, item by item."""

    def takers(*those: tuple[str, int]) -> list[tuple[_Phase, int]]:
        return [(phases[name], number) for name, number in those if name in phases]

    preps, works = takers(("prep", 0)), takers(("exec", 0), ("exec_fallback", 0))
    given = [(phase, phase.returns) for phase, _ in preps]
    if not issubclass(kind, BatchNode):
        first, second = [answered(hint)[0] for hint in type_arguments(kind, Node)[:2]]
        results = [(phase, phase.returns) for phase, _ in works]
        return [
            _Handed("Prep", first, given, [*works, *takers(("post", 1))]),
            _Handed("Exec", second, results, takers(("post", 2))),
        ]
    first, second = [answered(hint)[0] for hint in type_arguments(kind, BatchNode)[:2]]
    declared = GenericAlias(list, (second,))
    lists: _Given = [(phase, GenericAlias(list, (phase.returns,))) for phase, _ in works]
    items = [(phase, item_of(phase.returns) or Any) for phase, _ in preps]
    return [
        _Handed("", Any, given, takers(("post", 1))),
        _Handed("Item", first, items, works, "an item of "),
        _Handed("Result", declared, lists, takers(("post", 2)), "a list of results: "),
    ]


def _without_items(phases: _Phases) -> Iterator[_Mistake]:
    """A batch whose ``prep`` returns no items; a run does not accept a text as items."""
    prep = phases.get("prep")
    if prep is not None and item_of(prep.returns) is None:
        yield _Mistake(
            "PF207",
            f"prep of a batch gives the items, and is annotated as {type_label(prep.returns)}",
            "return a list, or another iterable, of the items",
            prep.where,
        )


def _returning_nothing(phases: _Phases) -> Iterator[_Mistake]:
    """Phases that are annotated with a result, and always return ``None``."""
    for name in ("prep", "exec", "exec_fallback"):
        phase = phases.get(name)
        if phase is None or fits(type(None), phase.returns):
            continue
        if forgets_to_return(phase.function):
            yield _Mistake(
                "PF204",
                f"{phase.name} is annotated as {type_label(phase.returns)}, and always returns "
                "None: is a 'return' missing?",
                f"return {type_label(phase.returns)}, or annotate it as None",
                phase.where,
                "warning",
            )


def _disagreeing(kind: type, phases: _Phases) -> Iterator[_Mistake]:
    """Results of phases against the parameters of others, and both against the declaration."""
    for row in _handed(kind, phases):
        is_said = not _is_open(row.declared)
        for giver, gives in row.given:
            if is_said and not fits(gives, row.declared):
                yield _undeclared(kind, row, giver, f"returns {type_label(giver.returns)}")
            for taker, number in row.takers:
                parameter, wanted = taker.parameter(number)
                if not fits(gives, wanted):
                    yield _Mistake(
                        "PF204",
                        f"{giver.name} gives {row.how}{type_label(gives)}, but parameter "
                        f"{parameter!r} of {taker.name} is annotated as {type_label(wanted)}",
                        f"make the two agree: {giver.name} is at {':'.join(map(str, giver.where))}",
                        taker.where,
                    )
        for taker, number in row.takers:
            parameter, wanted = taker.parameter(number)
            if is_said and not fits(row.declared, wanted):
                yield _undeclared(kind, row, taker, f"takes {parameter!r} as {type_label(wanted)}")
    post, actions = phases.get("post"), type_arguments(kind, Node)[2]
    if post is not None and not is_variable(actions) and not _names_all(actions, post.returns):
        severity: Severity = "warning" if fits(post.returns, actions) else "error"
        row = _Handed("Post", actions, [], [])
        yield _undeclared(kind, row, post, f"returns {type_label(post.returns)}", severity)


def _undeclared(
    kind: type, row: _Handed, phase: _Phase, does: str, severity: Severity | None = None
) -> _Mistake:
    base = "BatchNode" if issubclass(kind, BatchNode) else "Node"
    declared = get_args(row.declared)[0] if row.label == "Result" else row.declared
    return _Mistake(
        "PF205",
        f"{kind.__name__} is declared with {row.label} = {type_label(declared)}, but its "
        f"{phase.name} {does}",
        f"change {base}[...] of {kind.__name__}, or the annotation of {phase.name}",
        phase.where,
        severity,
    )


def _names_all(declared: object, returned: object) -> bool:
    """Whether all actions that ``post`` may return are declared."""
    try:
        wanted, given = actions_of(declared), actions_of(returned)
    except TypeError:  # any action, or no action at all
        return fits(returned, declared)
    return wanted is None or given is None or {*given} <= {*wanted}


def _asked(kind: Any, phases: _Phases) -> Iterator[_Mistake]:
    """``AskNode[Answer, Post]`` against the annotation of the phase that asks."""
    if not issubclass(kind, AskNode):
        return
    wanted, is_plain = type_arguments(kind, AskNode)[0], kind.exec is AskNode.exec
    phase = phases.get("prep" if is_plain else "exec")
    given = Any if phase is None else answered(phase.returns)[0]
    if phase is not None and not is_variable(wanted) and not fits(given, wanted):
        answer = type_label(wanted)
        yield _Mistake(
            "PF205",
            f"{kind.__name__} is declared with Answer = {answer}, but its {phase.name} returns "
            f"{type_label(phase.returns)}, which would be the answer, or would be asked for",
            f"return Question[{answer}] to ask a person, or {answer} for an answer that is known",
            phase.where,
        )


# -- settings without effect -------------------------------------------------------------------

_OF_EXEC = (*(name for name in STEP_SETTINGS if name != "journal"), "exec_fallback")
_OF_RETRIES = ("retry_delay", "backoff", "jitter", "retry_on")


def idle_retries(node: AnyFunctionNode) -> list[str]:
    """The settings for retries of a function with a single attempt."""
    return [name for name in _OF_RETRIES if node.max_retries == 1 and name in vars(node)]


def _idle(node: AnyNode) -> Iterator[_Mistake]:
    """Settings for retries of a function without any, and for ``exec`` of a class without it."""
    kind: type = type(node)
    if isinstance(node, FunctionNode):
        lacks, names = "max_retries above 1", idle_retries(node)
        file = definition_location(node.signature.function)[0] if names else ""
        if any(".calling(" in line for line in linecache.getlines(file)):
            return  # they apply to the attempts of a journaled call, too
    else:
        lacks, attributes = "exec", {} if package_of(kind) == "pocoflow" else vars(kind)
        names = [name for name in _OF_EXEC if name in attributes]
        if any(overrides(kind, name) or name in vars(node) for name in ("exec", "exec_async")):
            return
    if names:
        what = f"{' and '.join(names)} of {node.name!r} {'has' if len(names) == 1 else 'have'}"
        fix = f"give it {lacks}, or take {'it' if len(names) == 1 else 'them'} out"
        yield _Mistake("PF208", f"{what} no effect: it has no {lacks}", fix, location_of(node))


_BUDGETS = ("budget", "node_budgets", "thread_budget", "label_budgets")


def _nested(flow: Any) -> Iterator[_Mistake]:
    """Settings for runs on a flow that is nested in another one."""
    most = inspect.signature(type(flow).__init__).parameters.get("max_steps")
    names = [name for name in ("deadline", *_BUDGETS) if getattr(flow, name)]
    names += ["max_steps"] if most is not None and flow.max_steps != most.default else []
    names += ["executor"] if flow.executor is not None else []
    names += [name for name in ("carry", "record_emitted") if getattr(flow, name)]
    names += ["hooks"] if flow.has_hooks else []
    if names:
        yield _Mistake(
            "PF208",
            f"what flow {flow.name!r} says of {' and '.join(names)} counts only where it is run by "
            "itself",
            f"set {'them' if len(names) > 1 else 'it'} on the flow around it",
            flow.made_at,
        )
    kind: type = type(flow)
    for method in ("run", "run_async"):
        if package_of(getattr(kind, method)) != "pocoflow":
            yield _Mistake(
                "PF208",
                f"{kind.__name__}.{method} is called where flow {flow.name!r} is run by itself, "
                "and not here",
                "wrap the visits of its nodes by a middleware, flow.use(visit=...)",
                flow.made_at,
            )


# -- names ----------------------------------------------------------------------------------------


@remembered
def _misspelt_names(kind: type) -> tuple[_Mistake, ...]:
    """Names that resemble a setting or a phase, and that nothing uses."""
    return tuple(name for base in _users_classes(kind) for name in _names(kind, base))


def _users_classes(kind: type) -> list[type]:
    return [b for b in kind.__mro__ if issubclass(b, Node) and package_of(b) != "pocoflow"]


def _names(kind: type, owner: type) -> Iterator[_Mistake]:
    inherited = {name for base in kind.__mro__ if base is not owner for name in vars(base)}
    defined = {
        name for base in kind.__mro__ if package_of(base) != "pocoflow" for name in vars(base)
    }
    for given, value in vars(owner).items():
        if given in inherited or given.startswith("_") or not given.isidentifier():
            continue
        if _OF_BATCHES.get(given) is type(value) and not _is_used(kind, given):
            yield _of_batches(f"{owner.__name__}.{given}", class_location(owner))
            continue
        meant = _meant(kind, given, value)
        if meant is not None and meant not in defined and not _is_used(kind, given):
            is_function = is_a(value, FunctionType)
            where = definition_location(value) if is_function else class_location(owner)
            yield _misspelt(f"{owner.__name__}.{given}", given, meant, where)


_VALUES = (int, float, type, tuple)
"""The types of the settings that are searched for: there are many other attributes."""


def misnamed(node: AnyNode) -> Iterator[_Mistake]:
    """Attributes of a node itself that resemble settings, and that nothing uses."""
    kind = type(node)
    for given, value in vars(node).items():
        if given[:1] == "_" or not (is_a(value, _VALUES) or given in _OF_BATCHES):
            continue
        if hasattr(kind, given):
            continue
        what = f"{given} of {node.name!r}"
        if _OF_BATCHES.get(given) is type(value):
            if not isinstance(node, FunctionNode) and not _is_read(node, given):
                yield _of_batches(what, location_of(node))
            continue
        meant = _meant(kind, given, value)
        if meant is None or any(meant in vars(owner) for owner in (node, *_users_classes(kind))):
            continue
        if not _is_read(node, given):
            yield _misspelt(what, given, meant, location_of(node))


def _of_batches(what: str, where: tuple[str, int] | None) -> _Mistake:
    return _Mistake(
        "PF208",
        f"{what} is not looked at: it is a setting of a BatchNode",
        "derive the class from BatchNode, whose exec is called for each item, or use it",
        where,
    )


def _misspelt(what: str, given: str, meant: str, where: tuple[str, int] | None) -> _Mistake:
    return _Mistake(
        "PF208",
        f"{what} is not looked at, neither by a run nor by the code around it; did you mean "
        f"{meant!r}?",
        f"call it {meant}, or use it",
        where,
    )


def _meant(kind: type, given: str, value: object) -> str | None:
    """The setting or phase that a name resembles, if its value could be one."""
    alike: tuple[str, ...]
    if is_a(value, bool):
        alike = ("journal",)
    elif _is_errors(value):
        alike = ("retry_on",)
    elif is_a(value, (int, float)):
        alike = _NUMBERS
        if given in RENAMED:
            return RENAMED[given]
    elif is_a(value, FunctionType):
        count = value.__code__.co_argcount
        alike = tuple(phase for phase in PHASES if _takes(kind, phase) == count)
    else:
        return None
    if is_a(value, FunctionType):  # a constant may be in capitals
        given = given.lower()
    found = _nearest(given, alike)
    return found if found is not None and hasattr(kind, found) else None


@lru_cache(maxsize=1024)  # many classes have the same names, also those created in a function
def _nearest(given: str, alike: tuple[str, ...]) -> str | None:
    import difflib

    matches = [name for name in alike if sorted(name) == sorted(given)]  # two letters swapped
    matches = matches or difflib.get_close_matches(given, alike, n=1, cutoff=_ALIKE)
    return matches[0] if matches else None


def _is_errors(value: object) -> bool:
    """Whether it is an exception class, or a tuple of these."""
    kinds = value if is_a(value, tuple) else (value,)
    return bool(kinds) and all(is_a(kind, type) and issubclass(kind, Exception) for kind in kinds)


def _takes(kind: type, phase: str) -> int | None:
    function = getattr(kind, phase, None)
    if is_a(function, FunctionType) and not hasattr(function, "__wrapped__"):
        return function.__code__.co_argcount
    return len(inspect.signature(function).parameters) if callable(function) else None


def _is_used(kind: type, name: str) -> bool:
    """Whether something in a file of a class, or of its bases, reads such an attribute, or may."""
    return _is_in(_sources_of(kind), rf"""[.'"]{name}\b""")


def _is_read(node: AnyNode, name: str) -> bool:
    """The same for an attribute of a node itself, which is at least set somewhere."""
    if isinstance(node, FunctionNode):
        texts = ["".join(linecache.getlines(definition_location(node.signature.function)[0]))]
    else:
        texts = _sources_of(type(node))
    return _is_in(texts, rf"""[.'"]{name}\b(?!\s*(:[^=\n]+)?=[^=])""")


def _is_in(texts: list[str], pattern: str) -> bool:
    return not all(texts) or any(re.search(pattern, text) for text in texts)


def _sources_of(kind: type) -> list[str]:
    return [_source_around(base) for base in kind.__mro__ if not is_foreign(base.__module__)]


def _source_around(owner: type) -> str:
    functions = (var for var in vars(owner).values() if is_a(var, FunctionType))
    files = {function.__code__.co_filename for function in functions}
    files.add(getattr(sys.modules.get(owner.__module__), "__file__", None) or "")
    return "".join(line for file in files if file for line in linecache.getlines(file))
