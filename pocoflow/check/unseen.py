"""What the graph does not show: what middleware may do, and whether a node may end a run."""

from __future__ import annotations

import ast
import inspect
from types import FunctionType

from pocoflow.check.source import PHASES, Function, bindings_of, definition_of, inner_parts
from pocoflow.graph.graph import Vertex
from pocoflow.nodes.base import Node
from pocoflow.nodes.definitions import overrides
from pocoflow.nodes.function import FunctionNode
from pocoflow.nodes.subflow import Subflow

_HARMLESS = {
    *("abs", "all", "any", "bool", "dict", "enumerate", "frozenset", "isinstance", "len", "list"),
    *("print", "range", "repr", "reversed", "set", "sorted", "str", "tuple", "type", "zip"),
}


def lets_through(middleware: object) -> bool:
    """Whether a middleware of visits, by its source, only looks on.

    It has nothing to do with the store, returns the action that it was given, and raises what was
    raised.
    """
    function = getattr(middleware, "__func__", middleware)
    found = definition_of(function) if isinstance(function, FunctionType) else None
    if found is None:
        return False
    node = found[0]
    names = [one.arg for one in (*node.args.posonlyargs, *node.args.args)]
    own = names[1:] if inspect.ismethod(middleware) else names
    parts = list(inner_parts(node.body))
    return bool(own) and _only_asks(node, own[0]) and _hands_on(node, parts)


def _only_asks(node: Function, visit: str) -> bool:
    """Whether the visit is only asked for what is not the store."""
    uses = [one for one in ast.walk(node) if isinstance(one, ast.Name) and one.id == visit]
    asked = [
        one.value
        for one in ast.walk(node)
        if isinstance(one, ast.Attribute) and one.attr != "store"
    ]
    return all(any(use is one for one in asked) for use in uses)


def _hands_on(node: Function, parts: list[ast.AST]) -> bool:
    """Whether what comes of going on, an action or an error, is what comes of the middleware."""
    bound = bindings_of(node.body)

    def is_action(value: ast.expr | None) -> bool:
        if isinstance(value, ast.Name):
            given = bound.get(value.id, ())
            return len(given) == 1 and not isinstance(given[0], ast.Name) and is_action(given[0])
        return isinstance(value, ast.Yield) and value.value is None

    for part in parts:
        match part:
            case ast.Return(value=value) if not is_action(value):
                return False
            case ast.ExceptHandler(body=body) if not _always_raises(body):
                return False
            case ast.With() | ast.AsyncWith() | ast.TryStar():
                return False  # which may keep what is raised to themselves
            case _:
                pass
    return _always_returns(node.body)


def _always_raises(body: list[ast.stmt]) -> bool:
    returns = any(isinstance(one, ast.Return) for one in inner_parts(body))
    return isinstance(body[-1], ast.Raise) and not returns


def _always_returns(body: list[ast.stmt]) -> bool:
    match body[-1]:
        case ast.Return():
            return True
        case ast.Try(body=tried, orelse=rest):
            return _always_returns(rest or tried)
        case _:
            return False


# -- what may end a run ---------------------------------------------------------------------------


def may_stop(vertex: Vertex) -> bool:
    """Whether a node may raise something, as far as its source tells: perhaps the way out.

    It has a timeout or a resource, or it calls, or waits for, what is not known to return.
    """
    if isinstance(vertex.node, Subflow):
        return True
    every = [vertex]
    for one in every:  # grows while it is walked through
        every += (inner for graph in one.within for inner in graph.nodes.values())
    return any(_may_raise(one.node) for one in every)


def _may_raise(node: Node) -> bool:
    if node.timeout is not None:
        return True
    if isinstance(node, FunctionNode):
        if any(one.resource is not None for one in node.signature.parameters):
            return True
        return _raises(node.signature.function)
    kind: type = type(node)
    return any(_raises(getattr(kind, one)) for one in PHASES if overrides(kind, one))


def _raises(function: object) -> bool:
    found = definition_of(function) if isinstance(function, FunctionType) else None
    if found is None or not isinstance(function, FunctionType):
        return True
    code = function.__code__
    local = (*code.co_varnames, *code.co_cellvars, *code.co_freevars)
    known = _HARMLESS.difference(function.__globals__, local)
    return any(_is_risky(part, known) for one in found[0].body for part in ast.walk(one))


def _is_risky(part: ast.AST, known: set[str]) -> bool:
    match part:
        case ast.Call(func=ast.Name(id=name)):
            return name not in known
        case ast.Call() | ast.Raise() | ast.Assert() | ast.Await() | ast.With() | ast.AsyncWith():
            return True
        case ast.AsyncFor():
            return True
        case _:
            return False
