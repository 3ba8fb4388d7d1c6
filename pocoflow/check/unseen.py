"""Effects that the graph does not show: of middleware, and of nodes that may end a run."""

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
_RISKY = (ast.Call, ast.Raise, ast.Assert, ast.Await, ast.With, ast.AsyncWith, ast.AsyncFor)


def lets_through(middleware: object) -> bool:
    """Whether a middleware of visits, by its source, only observes.

    It does not use the store, returns the action that it received, and reraises errors.
    """
    function = getattr(middleware, "__func__", middleware)
    found = definition_of(function) if isinstance(function, FunctionType) else None
    if found is None:
        return False
    node = found[0]
    names = [arg.arg for arg in (*node.args.posonlyargs, *node.args.args)]
    given = names[1:] if inspect.ismethod(middleware) else names
    parts = list(inner_parts(node.body))
    return bool(given) and _only_asks(node, given[0]) and _hands_on(node, parts)


def _only_asks(node: Function, visit: str) -> bool:
    """Whether no use of the visit is its store."""
    uses = [part for part in ast.walk(node) if isinstance(part, ast.Name) and part.id == visit]
    asked = [
        part.value
        for part in ast.walk(node)
        if isinstance(part, ast.Attribute) and part.attr != "store"
    ]
    return all(any(use is owner for owner in asked) for use in uses)


def _hands_on(node: Function, parts: list[ast.AST]) -> bool:
    """Whether the outcome of the visit, an action or an error, is the outcome of the middleware."""
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
                return False  # which may suppress errors
            case _:
                pass
    return _always_returns(node.body)


def _always_raises(body: list[ast.stmt]) -> bool:
    returns = any(isinstance(part, ast.Return) for part in inner_parts(body))
    return isinstance(body[-1], ast.Raise) and not returns


def _always_returns(body: list[ast.stmt]) -> bool:
    match body[-1]:
        case ast.Return():
            return True
        case ast.Try(body=tried, orelse=rest):
            return _always_returns(rest or tried)
        case _:
            return False


# -- nodes that may end a run --------------------------------------------------------------------


def may_stop(vertex: Vertex) -> bool:
    """Whether a node may raise an exception, as far as its source shows: perhaps the exit.

    It has a timeout or a resource, or it calls, or awaits, something that may not return.
    """
    if isinstance(vertex.node, Subflow):
        return True
    vertices = [vertex]
    for outer in vertices:  # grows during iteration
        vertices += (inner for graph in outer.within for inner in graph.nodes.values())
    return any(_may_raise(inner.node) for inner in vertices)


def _may_raise(node: Node) -> bool:
    if node.timeout is not None:
        return True
    if isinstance(node, FunctionNode):
        if any(param.resource is not None for param in node.signature.parameters):
            return True
        return _raises(node.signature.function)
    kind: type = type(node)
    return any(_raises(getattr(kind, phase)) for phase in PHASES if overrides(kind, phase))


def _raises(function: object) -> bool:
    found = definition_of(function) if isinstance(function, FunctionType) else None
    if found is None or not isinstance(function, FunctionType):
        return True
    code = function.__code__
    local = (*code.co_varnames, *code.co_cellvars, *code.co_freevars)
    known = _HARMLESS.difference(function.__globals__, local)
    return any(_is_risky(part, known) for top in found[0].body for part in ast.walk(top))


def _is_risky(part: ast.AST, known: set[str]) -> bool:
    match part:
        case ast.Call(func=ast.Name(id=name)):
            return name not in known
        case _:
            return isinstance(part, _RISKY)
