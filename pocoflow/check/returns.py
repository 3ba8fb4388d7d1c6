"""Whether a ``post`` can end without an action: by a bare ``return``, or past its last statement.

Only what is certain counts. A call may never come back, and the conditions of several ``if``, or of
a ``match``, may leave nothing over, which a type checker knows and this does not.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from pocoflow.check.source import definition_of

__all__ = ["Lacking", "lacking_action"]

_INNER = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


class Lacking(NamedTuple):
    """Where a function ends without an action.

    Attributes:
        line: The line of the ``return``, or of the last statement.
        is_bare: Whether it is a ``return``; else the function comes to its end.
        always: Whether it never returns one.
    """

    line: int
    is_bare: bool
    always: bool


@lru_cache(maxsize=1024)
def lacking_action(function: Callable[..., Any]) -> Lacking | None:
    """Where a ``post`` certainly can end without an action; ``None`` if nowhere."""
    if hasattr(function, "__wrapped__"):
        return None  # a decorator may do anything around it
    node = definition_of(function)
    if node is None:
        return None
    inside = list(_inside(node.body))
    if any(isinstance(one, (ast.Yield, ast.YieldFrom)) for one in inside):
        return None
    returns = [one for one in inside if isinstance(one, ast.Return)]
    bare = [one for one in returns if _may_be_none(one.value)]
    gives = any(one not in bare or isinstance(one.value, ast.IfExp) for one in returns)
    always = not gives and not any(isinstance(one, ast.Raise) for one in inside)
    if bare:
        return Lacking(bare[0].lineno, True, always)
    if _Ways(node, inside).passes(node.body):
        return Lacking(node.body[-1].lineno, False, always)
    return None


def _inside(body: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """The parts of statements, without those of functions and classes in them."""
    for node in body:
        yield node
        if not isinstance(node, _INNER):
            yield from _inside(ast.iter_child_nodes(node))


def _may_be_none(value: ast.expr | None) -> bool:
    match value:
        case None | ast.Constant(value=None):
            return True
        case ast.IfExp(body=body, orelse=other):
            return _may_be_none(body) or _may_be_none(other)
        case _:
            return False


class _Ways:
    """Whether a call certainly can get past a statement."""

    def __init__(
        self, function: ast.FunctionDef | ast.AsyncFunctionDef, inside: list[ast.AST]
    ) -> None:
        arguments = function.args
        names = [one.arg for one in (*arguments.posonlyargs, *arguments.args)]
        self._store = names[1] if len(names) > 1 else None
        kinds = (ast.If, ast.Match)
        self._is_only_choice = sum(isinstance(one, kinds) for one in inside) == 1

    def passes(self, body: list[ast.stmt]) -> bool:
        """Whether a call certainly can get past all of the statements."""
        return all(self._passes(one) for one in body)

    def _passes(self, node: ast.stmt) -> bool:
        match node:
            case ast.Return() | ast.Raise() | ast.Break() | ast.Continue():
                return False
            case ast.Expr(value=value):
                return isinstance(value, ast.Constant) or self._comes_back(value)
            case ast.If(body=body, orelse=other):
                rest = self.passes(other) if other else self._is_only_choice
                return rest or self.passes(body)
            case ast.Match(cases=cases):
                return any(self.passes(case.body) for case in cases)
            case ast.While(test=ast.Constant()):
                return False
            case ast.Try(body=body, handlers=handlers, orelse=other, finalbody=last):
                whole = self.passes([*body, *other])
                return (whole or any(self.passes(one.body) for one in handlers)) and (
                    self.passes(last)
                )
            case ast.With(body=body) | ast.AsyncWith(body=body):
                return self.passes(body)
            case ast.Assert(test=test):
                return not isinstance(test, ast.Constant)
            case ast.TryStar():
                return False
            case _:
                return True

    def _comes_back(self, value: ast.expr) -> bool:
        """Whether a call comes back: a method of the store, or of what it holds, or ``print``."""
        if not isinstance(value, ast.Call):
            return False
        called = value.func
        if isinstance(called, ast.Name):
            return called.id == "print"
        while isinstance(called, ast.Attribute | ast.Subscript):
            called = called.value
        return isinstance(called, ast.Name) and called.id == self._store
