"""What is said of a class by itself: its phases against each other, and names that nothing uses."""

from __future__ import annotations

import inspect
import linecache
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from types import FunctionType
from typing import Any, NamedTuple, Union

from pocoflow.check.assignable import fits
from pocoflow.check.findings import Finding, Severity
from pocoflow.check.item_rules import item_of
from pocoflow.check.source import PHASES, is_a
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
from pocoflow.nodes.definitions import class_place, overrides, place_of
from pocoflow.nodes.function import AnyFunctionNode, FunctionNode
from pocoflow.nodes.node_kinds import AskNode, BatchNode
from pocoflow.nodes.porting import RENAMED
from pocoflow.nodes.settings import ITEM_SETTINGS, STEP_SETTINGS
from pocoflow.nodes.signature import definition_place
from pocoflow.nodes.subflow import Subflow
from pocoflow.values.callables import forgets_to_return

_NUMBERS = tuple(
    one
    for one in (*STEP_SETTINGS, *ITEM_SETTINGS)
    if one not in ("retry_on", "journal", "on_error")
)
_OF_BATCHES: dict[str, type] = {"concurrency": int, "on_error": str}
_ALIKE = 0.85


class _Mistake(NamedTuple):
    """A mistake of a class, as a finding has it."""

    code: str
    message: str
    fix: str
    where: tuple[str, int] | None
    severity: Severity | None = None


class _Phase(NamedTuple):
    """One phase that a class overrides: what it returns and takes, by its annotations."""

    name: str
    function: Callable[..., object]
    returns: object
    takes: list[tuple[str, object]]

    def parameter(self, number: int) -> tuple[str, object]:
        return self.takes[number] if number < len(self.takes) else ("", Any)

    @property
    def where(self) -> tuple[str, int]:
        return definition_place(self.function)


_Phases = dict[str, _Phase]


@lru_cache(maxsize=4096)
def hints_of(function: Callable[..., object]) -> dict[str, object]:
    """The annotations of a function."""
    return read_hints(function)


def check_class(subject: Subject, at: Site) -> Iterator[Finding]:
    """PF204 and PF205 for one node."""
    kind: type = type(at.place.node)
    return _told(subject, at, _mistakes(kind))


def check_names(subject: Subject) -> Iterator[Finding]:
    """PF208, which needs neither a schema nor what the code does: it is told before a run."""
    for at in subject.classes:
        kind: type = type(at.place.node)
        yield from _told(subject, at, _near(kind))
        if not subject.graph.wraps:  # what is around an attempt may fail, and be tried again
            yield from _told(subject, at, _idle(at.place.node))
    for at in subject.nodes:
        yield from _told(subject, at, misnamed(at.place.node))
    for level in subject.levels:
        for place in level.graph.nodes.values():
            if place.inner is not None:
                yield from _told(subject, level.site(place), _of_runs(place.node))
            elif isinstance(place.node, Subflow):
                yield from _told(subject, level.site(place), _of_runs(place.node.flow))


def _told(subject: Subject, at: Site, mistakes: Iterable[_Mistake]) -> Iterator[Finding]:
    for code, message, fix, where, severity in mistakes:
        yield subject.finding(code, message, fix, node=at.name, where=where, severity=severity)


@lru_cache(maxsize=1024)
def _mistakes(kind: type) -> tuple[_Mistake, ...]:
    phases = _phases(kind)
    if "exec_async" in phases:
        phases["exec"] = phases["exec_async"]
    is_batch = issubclass(kind, BatchNode)
    found = [*_passed_on(phases, is_batch), *_returning_nothing(phases), *_asked(kind, phases)]
    found += _declared(kind, phases, is_batch)
    return (*found, *(_without_items(phases) if is_batch else ()))


@lru_cache(maxsize=1024)
def given_to_post(kind: type) -> dict[str, object]:
    """What the parameters of ``post`` get, by what the phases before it say that they return."""
    phases = _phases(kind)
    post = phases.get("post")
    if post is None:
        return {}
    is_batch = issubclass(kind, BatchNode)
    declared = (Any, type_arguments(kind, BatchNode)[1]) if is_batch else type_arguments(kind, Node)
    results = [phases.get("exec_async") or phases.get("exec")]
    results += [phases["exec_fallback"]] if "exec_fallback" in phases else []
    made = [_returned(one, declared[1]) for one in results]
    if is_batch and Any not in made:
        made += [Exception] if getattr(kind, "on_error", "stop") == "collect" else []
        made = [list[Union[tuple(made)]]]  # type: ignore[misc]  # noqa: UP007 - of several
    found = {
        post.parameter(1)[0]: [_returned(phases.get("prep"), declared[0])],
        post.parameter(2)[0]: made,
    }
    known = {name: kinds for name, kinds in found.items() if name and Any not in kinds}
    return {name: Union[tuple(kinds)] for name, kinds in known.items()}  # noqa: UP007 - of several


def _returned(phase: _Phase | None, declared: object) -> object:
    if phase is None:
        return Any
    given = declared if _is_open(phase.returns) else phase.returns
    return Any if _is_open(given) or is_variable(given) else given


def _is_open(hint: object) -> bool:
    return hint is Any or is_unknown(hint)


# -- phases ---------------------------------------------------------------------------------------


def _phases(kind: object) -> _Phases:
    """The phases that a class overrides, by their names."""
    return {name: phase for name in PHASES if (phase := _phase(kind, name)) is not None}


def _phase(kind: object, name: str) -> _Phase | None:
    function = getattr(kind, name, None)
    if not inspect.isfunction(function) or function.__module__ == "pocoflow.nodes.base":
        return None
    hints = hints_of(function)
    returns = hints.get("return", Any)
    if not inspect.iscoroutinefunction(function):
        returns = awaited(returns)
    if name in ("exec", "exec_async"):
        returns, _ = answered(returns)
    try:
        names = list(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        names = []
    # A static method is given no node.
    given = names if is_a(inspect.getattr_static(kind, name), staticmethod) else names[1:]
    return _Phase(name, function, returns, [(one, hints.get(one, Any)) for one in given])


def _passed_on(phases: _Phases, is_batch: bool) -> Iterator[_Mistake]:
    """What one phase returns against what the next takes."""
    prep, work, fallback, post = map(phases.get, ("prep", "exec", "exec_fallback", "post"))
    if prep is not None:
        given, how = (_item(prep), "an item of ") if is_batch else (prep.returns, "")
        yield from _against(prep, given, [(work, 0), (fallback, 0)], how)
        yield from _against(prep, prep.returns, [(post, 1)])
    for one in (work, fallback):
        if one is not None and not is_batch:
            yield from _against(one, one.returns, [(post, 2)])
    if work is not None and is_batch:
        result = Any if is_unknown(work.returns) else work.returns
        yield from _against(work, list[result], [(post, 2)], "a list of results: ")  # type: ignore[valid-type]


def _without_items(phases: _Phases) -> Iterator[_Mistake]:
    """A batch whose ``prep`` gives no items; a run does not take a text for them."""
    prep = phases.get("prep")
    if prep is not None and item_of(prep.returns) is None:
        yield _Mistake(
            "PF207",
            f"prep of a batch gives the items, and is annotated as {type_label(prep.returns)}",
            "return a list, or another iterable, of the items",
            prep.where,
        )


def _returning_nothing(phases: _Phases) -> Iterator[_Mistake]:
    """Phases that are annotated with a result, and give none."""
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


def _item(prep: _Phase) -> object:
    """The type of the items that a ``prep`` gives; anything, if it gives none."""
    return item_of(prep.returns) or Any


def _against(
    giver: _Phase, given: object, takers: Iterable[tuple[_Phase | None, int]], how: str = ""
) -> Iterator[_Mistake]:
    for taker, number in takers:
        if taker is None:
            continue
        parameter, wanted = taker.parameter(number)
        if not fits(given, wanted):
            yield _Mistake(
                "PF204",
                f"{giver.name} gives {how}{type_label(given)}, but parameter {parameter!r} of "
                f"{taker.name} is annotated as {type_label(wanted)}",
                f"make the two agree: {giver.name} is at {':'.join(map(str, giver.where))}",
                taker.where,
            )


_OF_ALL = (
    *(("prep", 0, None), ("exec", 1, None), ("exec_fallback", 1, None), ("post", 2, None)),
    *(("exec", 0, 0), ("exec_fallback", 0, 0), ("post", 0, 1), ("post", 1, 2)),
)
"""The phases, which argument is about each, and about which of its parameters, if about any."""


def _declared(kind: type, phases: _Phases, is_batch: bool) -> Iterator[_Mistake]:
    """``Node[Prep, Exec, Post]``, or that of a batch, against the annotations of the methods."""
    base, labels = (BatchNode, "Item Result Post") if is_batch else (Node, "Prep Exec Post")
    arguments = [answered(one)[0] for one in type_arguments(kind, base)]
    for name, which, number in _OF_ALL:
        phase, argument = phases.get(name), arguments[which]
        is_whole = is_batch and number == 1  # all that prep gave, in whatever it was
        if phase is None or is_variable(argument) or is_whole:
            continue
        severity: Severity | None = None
        if number is None:
            verb, hint = "returns", phase.returns
            agrees = fits(_item(phase) if is_batch and name == "prep" else hint, argument)
            if agrees and name == "post" and not _names_all(argument, hint):
                agrees, severity = False, "warning"
        else:
            parameter, hint = phase.parameter(number)
            verb, given = f"takes {parameter!r} as", argument
            if is_batch and name == "post":  # which gets what exec gave for each item
                given = list[Any] if is_unknown(given) else list[given]  # type: ignore[valid-type]
            agrees = fits(given, hint)
        if not agrees:
            yield _Mistake(
                "PF205",
                f"{kind.__name__} is declared with {labels.split()[which]} = "
                f"{type_label(argument)}, but its {phase.name} {verb} {type_label(hint)}",
                f"change {base.__name__}[...] of {kind.__name__}, or the annotation of "
                f"{phase.name}",
                phase.where,
                severity,
            )


def _names_all(argument: object, hint: object) -> bool:
    """Whether the actions that ``post`` may return are all among those that are declared."""
    try:
        named, returned = actions_of(argument), actions_of(hint)
    except TypeError:
        return True  # any action
    return named is None or returned is None or {*returned} <= {*named}


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


# -- what has no effect --------------------------------------------------------------------------

_OF_EXEC = (*(one for one in STEP_SETTINGS if one != "journal"), "exec_fallback")
_OF_RETRIES = ("retry_delay", "backoff", "jitter", "retry_on")


def idle_retries(node: AnyFunctionNode) -> list[str]:
    """The settings for retries of a function that is tried once."""
    return [one for one in _OF_RETRIES if node.max_retries == 1 and one in vars(node)]


def _idle(node: AnyNode) -> Iterator[_Mistake]:
    """Settings for retries of a function that has none, and for ``exec`` of a class without one."""
    kind: type = type(node)
    if isinstance(node, FunctionNode):
        lacks, names = "max_retries above 1", idle_retries(node)
        file = definition_place(node.signature.function)[0] if names else ""
        if any(".calling(" in line for line in linecache.getlines(file)):
            return  # the attempts of a journaled call go by them, too
    else:
        lacks, own = "exec", {} if package_of(kind) == "pocoflow" else vars(kind)
        names = [one for one in _OF_EXEC if one in own]
        if any(overrides(kind, one) or one in vars(node) for one in ("exec", "exec_async")):
            return
    if names:
        what = f"{' and '.join(names)} of {node.name!r} {'has' if len(names) == 1 else 'have'}"
        fix = f"give it {lacks}, or take {'it' if len(names) == 1 else 'them'} out"
        yield _Mistake("PF208", f"{what} no effect: it has no {lacks}", fix, place_of(node))


_BUDGETS = ("budget", "node_budgets", "thread_budget", "label_budgets")


def _of_runs(flow: Any) -> Iterator[_Mistake]:
    """What is of the runs of a flow that is a part of another one."""
    most = inspect.signature(type(flow).__init__).parameters.get("max_steps")
    names = [one for one in ("deadline", *_BUDGETS) if getattr(flow, one)]
    names += ["max_steps"] if most is not None and flow.max_steps != most.default else []
    names += ["executor"] if flow.executor is not None else []
    names += [one for one in ("carry", "record_emitted") if getattr(flow, one)]
    names += ["hooks"] if flow.has_hooks else []
    if names:
        yield _Mistake(
            "PF208",
            f"{' and '.join(names)} of flow {flow.name!r} count only where it is run by itself",
            f"set {'them' if len(names) > 1 else 'it'} on the flow around it",
            flow.made_at,
        )
    kind: type = type(flow)
    for own in ("run", "run_async"):
        if package_of(getattr(kind, own)) != "pocoflow":
            yield _Mistake(
                "PF208",
                f"{kind.__name__}.{own} is called where flow {flow.name!r} is run by itself, and "
                "not here",
                "wrap the visits of its nodes by a middleware, flow.use(visit=...)",
                flow.made_at,
            )


# -- names ----------------------------------------------------------------------------------------


@lru_cache(maxsize=1024)
def _near(kind: type) -> tuple[_Mistake, ...]:
    """Names that are nearly those of a setting or a phase, and that nothing uses."""
    return tuple(one for base in _users_classes(kind) for one in _names(kind, base))


def _users_classes(kind: type) -> list[type]:
    return [one for one in kind.__mro__ if issubclass(one, Node) and package_of(one) != "pocoflow"]


def _names(kind: type, owner: type) -> Iterator[_Mistake]:
    elsewhere = {name for base in kind.__mro__ if base is not owner for name in vars(base)}
    theirs = {
        name for base in kind.__mro__ if package_of(base) != "pocoflow" for name in vars(base)
    }
    for given, value in vars(owner).items():
        if given in elsewhere or given.startswith("_") or not given.isidentifier():
            continue
        if _OF_BATCHES.get(given) is type(value) and not _is_used(owner, given):
            yield _of_batches(f"{owner.__name__}.{given}", class_place(owner))
            continue
        meant = _meant(kind, given, value)
        if meant is not None and meant not in theirs and not _is_used(owner, given):
            is_function = is_a(value, FunctionType)
            where = definition_place(value) if is_function else class_place(owner)
            yield _nearly(f"{owner.__name__}.{given}", given, meant, where)


_VALUES = (int, float, type, tuple)
"""Of these are the values of settings that are looked for: the other attributes are many."""


def misnamed(node: AnyNode) -> Iterator[_Mistake]:
    """Attributes of a node itself that are nearly settings, and that nothing uses."""
    kind, own = type(node), vars(node)
    for given, value in own.items():
        if given[:1] == "_" or not (is_a(value, _VALUES) or given in _OF_BATCHES):
            continue
        if hasattr(kind, given):
            continue
        what = f"{given} of {node.name!r}"
        if _OF_BATCHES.get(given) is type(value):
            if not isinstance(node, FunctionNode) and not _is_read(node, given):
                yield _of_batches(what, place_of(node))
            continue
        meant = _meant(kind, given, value)
        if meant is None or any(meant in vars(one) for one in (node, *_users_classes(kind))):
            continue
        if not _is_read(node, given):
            yield _nearly(what, given, meant, place_of(node))


def _of_batches(what: str, where: tuple[str, int] | None) -> _Mistake:
    return _Mistake(
        "PF208",
        f"{what} is not looked at: it is a setting of a BatchNode",
        "derive the class from BatchNode, whose exec is called for each item, or use it",
        where,
    )


def _nearly(what: str, given: str, meant: str, where: tuple[str, int] | None) -> _Mistake:
    return _Mistake(
        "PF208",
        f"{what} is not looked at, neither by a run nor by the code around it; did you mean "
        f"{meant!r}?",
        f"call it {meant}, or use it",
        where,
    )


def _meant(kind: type, given: str, value: object) -> str | None:
    """The setting, or the phase, that a name is nearly, if its value could be one."""
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
        alike = tuple(one for one in PHASES if _takes(kind, one) == count)
    else:
        return None
    if is_a(value, FunctionType):  # a constant may be in capitals
        given = given.lower()
    found = _nearest(given, alike)
    return found if found is not None and hasattr(kind, found) else None


@lru_cache(maxsize=1024)  # the same names are in many classes, also in those made in a function
def _nearest(given: str, alike: tuple[str, ...]) -> str | None:
    import difflib

    found = [one for one in alike if sorted(one) == sorted(given)]  # two letters are swapped
    found = found or difflib.get_close_matches(given, alike, n=1, cutoff=_ALIKE)
    return found[0] if found else None


def _is_errors(value: object) -> bool:
    """Whether it is a class of exceptions, or a tuple of some."""
    kinds = value if is_a(value, tuple) else (value,)
    return bool(kinds) and all(is_a(one, type) and issubclass(one, Exception) for one in kinds)


def _takes(kind: type, phase: str) -> int | None:
    function = getattr(kind, phase, None)
    if is_a(function, FunctionType) and not hasattr(function, "__wrapped__"):
        return function.__code__.co_argcount
    return len(inspect.signature(function).parameters) if callable(function) else None


def _is_used(owner: type, name: str) -> bool:
    """Whether something in the file of a class reads an attribute of that name, or may."""
    text = _source_around(owner)
    return not text or re.search(rf"""[.'"]{name}\b""", text) is not None


def _is_read(node: AnyNode, name: str) -> bool:
    """The same of an attribute of a node itself, which is at least set somewhere."""
    if isinstance(node, FunctionNode):
        texts = ["".join(linecache.getlines(definition_place(node.signature.function)[0]))]
    else:
        texts = [_source_around(one) for one in _users_classes(type(node))]
    reads = re.compile(rf"""[.'"]{name}\b(?!\s*(:[^=\n]+)?=[^=])""")
    return not all(texts) or any(map(reads.search, texts))


def _source_around(owner: type) -> str:
    functions = (one for one in vars(owner).values() if is_a(one, FunctionType))
    files = {one.__code__.co_filename for one in functions}
    files.add(getattr(sys.modules.get(owner.__module__), "__file__", None) or "")
    return "".join(line for file in files if file for line in linecache.getlines(file))
