"""What phases do with ``context()`` (PF406, PF209), and nodes that no executor is given (PF407)."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable, Iterator
from functools import cache
from types import FunctionType, ModuleType
from typing import NamedTuple

from pocoflow.check.class_rules import hints_of
from pocoflow.check.findings import Finding, Severity
from pocoflow.check.source import definition_of, functions_of, inner_parts, is_a, reached
from pocoflow.check.storage_rules import exec_types, how_bad, not_storable
from pocoflow.check.subject import Subject
from pocoflow.graph.graph import Vertex
from pocoflow.graph.references import refer
from pocoflow.messages import type_label
from pocoflow.nodes.annotations import awaited, is_variable, read_hints, type_arguments
from pocoflow.nodes.base import AnyNode, Node
from pocoflow.nodes.context import context
from pocoflow.nodes.definitions import makes_calls
from pocoflow.nodes.function import FunctionNode
from pocoflow.nodes.node_kinds import BatchNode
from pocoflow.nodes.resources import Resource, declared, is_opened
from pocoflow.nodes.settings import where_to
from pocoflow.values.callables import names_in


def check_calls(subject: Subject) -> Iterator[Finding]:
    """Journaled calls that are refused whenever they are made."""
    asking = cache(_asking)
    for at in subject.classes:
        kind: type = type(at.vertex.node)
        for phase, own in _phases(at.vertex.node):
            for function in asking(kind, own) if phase == "exec" else [own]:
                if makes_calls(function.__code__):
                    refused = _refused(function) if phase == "exec" else _misplaced(function, phase)
                    for line, what, fix in refused:
                        where = (function.__code__.co_filename, line)
                        yield subject.finding("PF406", what, fix, at=at, where=where)


def _phases(node: AnyNode) -> Iterator[tuple[str, FunctionType]]:
    """The functions of a node, each with the phase that calls it."""
    if isinstance(node, FunctionNode):
        phase = "post" if node.signature.takes_store else "exec"
        yield from ((phase, one) for one in functions_of(node))
        return
    for phase in ("prep", "exec", "exec_async", "post"):
        yield from ((phase.removesuffix("_async"), one) for one in functions_of(node, (phase,)))


def check_resources_asked(subject: Subject) -> Iterator[Finding]:
    """PF209: what a class takes from the context, that a run would open, and that none declares."""
    asking = cache(_asking)
    for at in subject.classes:
        kind: type = type(at.vertex.node)
        for key, where in asked_for(asking(kind, *functions_of(at.vertex.node))):
            if is_opened(key) and key not in subject.graph.resources:
                yield subject.finding(
                    "PF209",
                    f"it takes {key!r} from context(), which is open only where the run was given "
                    "it: a run opens what its nodes declare, and none declares this",
                    "declare it in the class, resources = (<key>,), with the key and not its "
                    "name; a function takes it as a parameter, client: Client = <key>",
                    at=at,
                    where=where,
                )


def _asking(kind: type, *functions: FunctionType) -> list[FunctionType]:
    """Functions of a class, and those that they reach, which ask the context."""
    return [one for one in reached(kind, *functions) if "context" in names_in(one.__code__)]


def asked_for(functions: Iterable[FunctionType]) -> Iterator[tuple[Resource, tuple[str, int]]]:
    """The resources that functions take from ``context()``, as far as their source shows; where."""
    for function in functions:
        if "context" not in names_in(function.__code__):
            continue
        known = definition_of(function)
        parts = [] if known is None else [*ast.walk(known[0])]
        mine, tries = _contexts(parts, function), [one for one in parts if isinstance(one, ast.Try)]
        guarded = {id(part) for one in tries for tried in one.body for part in ast.walk(tried)}
        for one in parts:
            if isinstance(one, ast.Subscript) and is_context(one.value, function, mine):
                key = value_of(one.slice, function)
                if isinstance(key, Resource) and id(one) not in guarded:
                    yield key, (function.__code__.co_filename, one.lineno)


def exec_functions(vertex: Vertex) -> list[FunctionType]:
    """The functions that ``exec`` of a node is."""
    return functions_of(vertex.node, ("exec", "exec_async"))


class _Made(NamedTuple):
    """A journaled call in a source."""

    call: ast.Call
    is_named: bool


def _refused(function: FunctionType) -> Iterator[tuple[int, str, str]]:
    """The calls of a function that are refused: the line, what is wrong, and what to do."""
    found = definition_of(function)
    if found is None:
        return
    for made in _calls_in(ast.walk(found[0]), function):
        called, *arguments = made.call.args
        line = made.call.lineno
        if isinstance(called, ast.Lambda) and not made.is_named:
            what = "it makes a journaled call of a lambda, which has no name to be known by"
            name = "call a function, or give it a name: context().calling(name=...).call(...)"
            yield line, f"{what} after a crash, and so is refused", name
        known = value_of(called, function)
        hint = awaited(read_hints(known).get("return")) if callable(known) else None
        bad = None if hint is None else not_storable(hint, is_whole=True)
        if bad is not None:
            what = f"it makes a journaled call of {ast.unparse(called)}, which returns"
            what = f"{what} {type_label(bad)}: that cannot be stored, so the call is refused"
            yield line, what, "return what can be stored, or call it without context().call"
        for one in (*arguments, *(part.value for part in made.call.keywords)):
            value = value_of(one, function)
            if isinstance(one, ast.Lambda) or is_a(value, (FunctionType, type, ModuleType)):
                what = f"it hands {ast.unparse(one)} to a journaled call, which cannot be stored,"
                hand = "hand values to it, or make the call in a function that knows the rest"
                yield line, f"{what} so the call is refused", hand


def _misplaced(function: FunctionType, phase: str) -> Iterator[tuple[int, str, str]]:
    """The calls of a function that is no ``exec``, but for what is defined in it."""
    found = definition_of(function)
    for made in () if found is None else _calls_in(inner_parts(found[0].body), function):
        what = f"it makes a journaled call in {phase}, which is refused: they are made in exec"
        yield made.call.lineno, what, "make it in exec, or call the function itself"


def _calls_in(among: Iterable[ast.AST], function: FunctionType) -> Iterator[_Made]:
    parts = list(among)
    mine = _contexts(parts, function)
    for one in parts:
        match one:
            case ast.Call(func=ast.Attribute(attr="call", value=of), args=[_, *_]):
                is_named = False
                if isinstance(of, ast.Call) and isinstance(of.func, ast.Attribute):
                    if of.func.attr != "calling":
                        continue
                    is_named = any(part.arg in (None, "name") for part in of.keywords)
                    of = of.func.value
                if is_context(of, function, mine):
                    yield _Made(one, is_named)
            case _:
                pass


def _contexts(parts: Iterable[ast.AST], function: FunctionType) -> set[str]:
    """The names that a function gives to ``context()``."""
    return {
        target.id
        for one in parts
        if isinstance(one, ast.Assign) and is_context(one.value, function)
        for target in one.targets
        if isinstance(target, ast.Name)
    }


def is_context(expression: ast.expr, function: FunctionType, names: Collection[str] = ()) -> bool:
    """Whether an expression in a function is ``context()``, or one of the names for it."""
    if isinstance(expression, ast.Name):
        return expression.id in names
    return isinstance(expression, ast.Call) and value_of(expression.func, function) is context


def value_of(expression: ast.expr, function: FunctionType) -> object:
    """What a name of the module, or an attribute of one, stands for; ``None`` if nobody knows."""
    if isinstance(expression, ast.Attribute):
        owner = value_of(expression.value, function)
        return getattr(owner, expression.attr, None) if is_a(owner, ModuleType) else None
    if not isinstance(expression, ast.Name):
        return None
    code = function.__code__
    if expression.id in (*code.co_varnames, *code.co_cellvars, *code.co_freevars):
        return None
    return function.__globals__.get(expression.id)


# -- executors -----------------------------------------------------------------------------------

EXECUTORS = "PF407"

_HERE = ", or call it in the process of the run: executor='here'"


def check_executors(subject: Subject) -> Iterator[Finding]:
    """What executors are to be given, and cannot be."""
    if not subject.sends:
        return
    files = () if subject.where is None else (subject.where[0],)
    for at in subject.nodes:
        node = at.vertex.node
        if not at.vertex.travels:
            found = _without_effect(node)
        elif where_to(node.executor, subject.executor) is None:
            continue
        else:
            found = _unsendable(at.vertex, files)
        for what, fix, severity in found:
            yield subject.finding(EXECUTORS, what, fix, at=at, severity=severity)


_Found = Iterator[tuple[str, str, Severity]]


def _without_effect(node: Node) -> _Found:
    if node.executor not in (None, "here"):
        what = "it has an executor, and no exec that could be called there"
        yield what, "leave executor out, or give it to the nodes inside", "error"


def _unsendable(vertex: Vertex, files: tuple[str, ...]) -> _Found:
    node = vertex.node
    reference = refer(node, files)
    if isinstance(reference, str):
        what = f"an executor calls its exec, and cannot be told which node it is: {reference}"
        yield what, f"define it, or its flow, at the top of a module{_HERE}", "error"
    for said, hints in (("is called with", _taken(node)), ("returns", exec_types(vertex))):
        for hint in hints:
            if (bad := not_storable(hint)) is not None:
                what = f"an executor calls its exec, which {said} {type_label(bad)}: that cannot"
                yield f"{what} be sent", f"send values{_HERE}", how_bad(hint)
                break
    opened = [one for one in declared(node) if is_opened(one)]
    for key in dict.fromkeys(
        (*declared(node), *(key for key, _ in asked_for(exec_functions(vertex))))
    ):
        if key not in opened:
            what = f"an executor calls its exec, which needs {key!r}: no worker opens it"
            ways = [] if is_opened(key) else ["give the key open=..."]
            if key not in declared(node):
                is_function = isinstance(node, FunctionNode)
                way = "take it as a parameter, client: Client = <key>"
                ways.append(way if is_function else "name it in resources of the node's class")
            fix = ", and ".join(ways)
            yield what, f"{fix}{_HERE}", "error"


def _taken(node: Node) -> list[object]:
    """The types of what ``exec`` is called with, as far as the node says."""
    if isinstance(node, FunctionNode):
        hints = node.signature.hints
        fields = (one.name for one in node.signature.parameters if one.resource is None)
        return [hints[name] for name in fields if name in hints]
    kind = type(node)
    if isinstance(node, BatchNode):
        given = [type_arguments(kind, BatchNode)[0]]
    else:
        prep = kind.prep if isinstance(kind.prep, FunctionType) else None
        given = [hints_of(prep).get("return")] if prep is not None else []
        given.append(type_arguments(kind, Node)[0])
    return [awaited(one) for one in given if one is not None and not is_variable(one)]
