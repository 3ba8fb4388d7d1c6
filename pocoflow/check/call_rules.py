"""Uses of ``context()`` in phases (PF406, PF209), and nodes that no executor can call (PF407)."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from functools import cache, partial
from types import FunctionType, ModuleType
from typing import NamedTuple

from pocoflow.check.class_rules import hints_of
from pocoflow.check.findings import Finding, Severity
from pocoflow.check.scope import Owner, Scope
from pocoflow.check.source import functions_of, inner_parts, is_a, reached
from pocoflow.check.storage_rules import how_bad, not_storable, result_types
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
    """Journaled calls that are always refused."""
    asking = cache(_asking)
    for at in subject.classes:
        kind: type = type(at.vertex.node)
        for phase, phase_function in _phases(at.vertex.node):
            for function in asking(kind, phase_function) if phase == "exec" else [phase_function]:
                if makes_calls(function.__code__):
                    refused = _refused(function) if phase == "exec" else _misplaced(function, phase)
                    for line, what, fix in refused:
                        where = (function.__code__.co_filename, line)
                        yield subject.finding("PF406", what, fix, at=at, where=where)


def _phases(node: AnyNode) -> Iterator[tuple[str, FunctionType]]:
    """The functions of a node, each with the phase that calls it."""
    if isinstance(node, FunctionNode):
        phase = "post" if node.signature.takes_store else "exec"
        yield from ((phase, function) for function in functions_of(node))
        return
    for phase in ("prep", "exec", "exec_async", "post"):
        yield from ((phase.removesuffix("_async"), func) for func in functions_of(node, (phase,)))


def check_resources_asked(subject: Subject) -> Iterator[Finding]:
    """PF209: resources that a class takes from the context, with ``open=``, but undeclared."""
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
    """Functions of a class, and those that they reach, which use the context."""
    return [func for func in reached(kind, *functions) if "context" in names_in(func.__code__)]


def asked_for(functions: Iterable[FunctionType]) -> Iterator[tuple[Resource, tuple[str, int]]]:
    """The resources that functions take from ``context()``, by their source, with the lines."""
    for function in functions:
        scope = _scope_of(function) if "context" in names_in(function.__code__) else None
        parts = [] if scope is None else [*ast.walk(scope.node)]
        tries = [part for part in parts if isinstance(part, ast.Try)]
        guarded = {id(part) for block in tries for stmt in block.body for part in ast.walk(stmt)}
        for part in parts:
            if isinstance(part, ast.Subscript) and scope and _is_context(scope, part.value):
                key = scope.object(part.slice)
                if isinstance(key, Resource) and id(part) not in guarded:
                    yield key, (function.__code__.co_filename, part.lineno)


def exec_functions(vertex: Vertex) -> list[FunctionType]:
    """The functions that implement ``exec`` of a node."""
    return functions_of(vertex.node, ("exec", "exec_async"))


class _Call(NamedTuple):
    """A journaled call in a source."""

    call: ast.Call
    is_named: bool


def _refused(function: FunctionType) -> Iterator[tuple[int, str, str]]:
    """The calls of a function that are refused: the line, the message, and the fix."""
    scope = _scope_of(function)
    if scope is None:
        return
    for made in _calls_in(ast.walk(scope.node), scope):
        called, *arguments = made.call.args
        line = made.call.lineno
        if isinstance(called, ast.Lambda) and not made.is_named:
            message = "it makes a journaled call of a lambda, which has no name to be known by"
            fix = "call a function, or give it a name: context().calling(name=...).call(...)"
            yield line, f"{message} after a crash, and so is refused", fix
        known = scope.object(called)
        hint = awaited(read_hints(known).get("return")) if callable(known) else None
        bad = None if hint is None else not_storable(hint, is_whole=True)
        if bad is not None:
            message = f"it makes a journaled call of {ast.unparse(called)}, which returns"
            message = f"{message} {type_label(bad)}: that cannot be stored, so the call is refused"
            yield line, message, "return what can be stored, or call it without context().call"
        for part in (*arguments, *(keyword.value for keyword in made.call.keywords)):
            value = scope.object(part)
            if isinstance(part, ast.Lambda) or is_a(value, (FunctionType, type, ModuleType)):
                message = (
                    f"it hands {ast.unparse(part)} to a journaled call, which cannot be stored,"
                )
                fix = "hand values to it, or make the call in a function that knows the rest"
                yield line, f"{message} so the call is refused", fix


def _misplaced(function: FunctionType, phase: str) -> Iterator[tuple[int, str, str]]:
    """The calls of a function that is not ``exec``, except those of functions defined in it."""
    scope = _scope_of(function)
    for made in () if scope is None else _calls_in(inner_parts(scope.node.body), scope):
        what = f"it makes a journaled call in {phase}, which is refused: they are made in exec"
        yield made.call.lineno, what, "make it in exec, or call the function itself"


def _calls_in(parts: Iterable[ast.AST], scope: Scope) -> Iterator[_Call]:
    for part in parts:
        match part:
            case ast.Call(func=ast.Attribute(attr="call", value=owner), args=[_, *_]):
                is_named = False
                if isinstance(owner, ast.Call) and isinstance(owner.func, ast.Attribute):
                    if owner.func.attr != "calling":
                        continue
                    is_named = any(keyword.arg in (None, "name") for keyword in owner.keywords)
                    owner = owner.func.value
                if _is_context(scope, owner):
                    yield _Call(part, is_named)
            case _:
                pass


def _scope_of(function: FunctionType) -> Scope | None:
    return Scope.of(function, {}, Owner(None, {}))


def _is_context(scope: Scope, expression: ast.expr) -> bool:
    """Whether an expression is ``context()``, or a name for it."""
    match expression:
        case ast.Name(id=name):
            return bool(scope.ask_of(name, partial(_is_context, scope)))
        case ast.Call(func=ast.Name(id=name)) if name in scope.function.__globals__:
            return scope.function.__globals__[name] is context  # perhaps imported twice
        case ast.Call(func=called):
            return scope.object(called) is context
        case _:
            return False


# -- executors -----------------------------------------------------------------------------------

EXECUTORS = "PF407"

_HERE = ", or call it in the process of the run: executor='here'"


def check_executors(subject: Subject) -> Iterator[Finding]:
    """Nodes that are to be sent to executors, and cannot be."""
    if not subject.sends:
        return
    files = () if subject.where is None else (subject.where[0],)
    for at in subject.nodes:
        node = at.vertex.node
        if not at.vertex.travels:
            findings = _without_effect(node)
        elif where_to(node.executor, subject.executor) is None:
            continue
        else:
            findings = _unsendable(at.vertex, files)
        for what, fix, severity in findings:
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
    for does, hints in (("is called with", _taken(node)), ("returns", result_types(vertex))):
        for hint in hints:
            if (bad := not_storable(hint)) is not None:
                what = f"an executor calls its exec, which {does} {type_label(bad)}: that cannot"
                yield f"{what} be sent", f"send values{_HERE}", how_bad(hint)
                break
    opened = [key for key in declared(node) if is_opened(key)]
    for key in dict.fromkeys(
        (*declared(node), *(key for key, _ in asked_for(exec_functions(vertex))))
    ):
        if key not in opened:
            what = f"an executor calls its exec, which needs {key!r}: no worker opens it"
            steps = [] if is_opened(key) else ["give the key open=..."]
            if key not in declared(node):
                is_function = isinstance(node, FunctionNode)
                step = "take it as a parameter, client: Client = <key>"
                steps.append(step if is_function else "name it in resources of the node's class")
            fix = ", and ".join(steps)
            yield what, f"{fix}{_HERE}", "error"


def _taken(node: Node) -> list[object]:
    """The types of the arguments of ``exec``, as far as the node declares them."""
    if isinstance(node, FunctionNode):
        hints = node.signature.hints
        fields = (param.name for param in node.signature.parameters if param.resource is None)
        return [hints[name] for name in fields if name in hints]
    kind = type(node)
    if isinstance(node, BatchNode):
        given = [type_arguments(kind, BatchNode)[0]]
    else:
        prep = kind.prep if isinstance(kind.prep, FunctionType) else None
        given = [hints_of(prep).get("return")] if prep is not None else []
        given.append(type_arguments(kind, Node)[0])
    return [awaited(hint) for hint in given if hint is not None and not is_variable(hint)]
