"""PF115 and PF406: budgets that nothing is counted in, and journaled calls that are refused."""

from __future__ import annotations

import ast
import dis
import sys
from collections.abc import Iterator
from functools import partial
from types import FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

from pocoflow.check.findings import Finding
from pocoflow.check.source import definition_of, is_a
from pocoflow.check.storage_rules import not_storable
from pocoflow.check.subject import Subject
from pocoflow.graph.graph import GraphNode
from pocoflow.messages import closest, type_label
from pocoflow.nodes.annotations import awaited, read_hints
from pocoflow.nodes.context import context
from pocoflow.nodes.function import FunctionNode
from pocoflow.values.callables import names_in

__all__ = ["check_budgets", "check_calls"]


def check_calls(subject: Subject) -> Iterator[Finding]:
    """Journaled calls that are refused wherever they are made."""
    for name, place in subject.nodes:
        for function in _functions(place):
            names = names_in(function.__code__)
            if "context" in names and not names.isdisjoint({"call", "calling"}):
                for line, what, fix in _refused(function):
                    where = (function.__code__.co_filename, line)
                    yield subject.finding("PF406", what, fix, node=name, where=where)


def _functions(place: GraphNode) -> list[FunctionType]:
    if isinstance(place.node, FunctionNode):
        found: list[Any] = [place.node.signature.function]
    else:
        kind: Any = type(place.node)
        found = [getattr(kind, name, None) for name in ("exec", "exec_async")]
    return [one for one in found if isinstance(one, FunctionType)]


class _Made(NamedTuple):
    """A journaled call in a source."""

    call: ast.Call
    is_named: bool


def _refused(function: FunctionType) -> Iterator[tuple[int, str, str]]:
    """The calls of a function that are refused: the line, what is wrong, and what to do."""
    found = definition_of(function)
    if found is None:
        return
    for made in _calls_in(found[0], function):
        called, *arguments = made.call.args
        line = made.call.lineno
        if isinstance(called, ast.Lambda) and not made.is_named:
            what = "it makes a journaled call of a lambda, which has no name to be known by"
            name = "call a function, or give it a name: context().calling(name=...).call(...)"
            yield line, f"{what} after a crash, and so is refused", name
        known = _value(called, function)
        hint = awaited(read_hints(known).get("return")) if callable(known) else None
        bad = None if hint is None else not_storable(hint)
        if bad is not None:
            what = f"it makes a journaled call of {ast.unparse(called)}, which returns"
            what = f"{what} {type_label(bad)}: that cannot be stored, so the call is refused"
            yield line, what, "return what can be stored, or call it without context().call"
        for one in (*arguments, *(part.value for part in made.call.keywords)):
            value = _value(one, function)
            if isinstance(one, ast.Lambda) or isinstance(value, FunctionType | type | ModuleType):
                what = f"it hands {ast.unparse(one)} to a journaled call, which cannot be stored,"
                hand = "hand values to it, or make the call in a function that knows the rest"
                yield line, f"{what} so the call is refused", hand


def _calls_in(tree: ast.AST, function: FunctionType) -> Iterator[_Made]:
    parts = list(ast.walk(tree))
    mine = {
        target.id
        for one in parts
        if isinstance(one, ast.Assign) and _is_context(one.value, function)
        for target in one.targets
        if isinstance(target, ast.Name)
    }
    for one in parts:
        match one:
            case ast.Call(func=ast.Attribute(attr="call", value=of), args=[_, *_]):
                is_named = False
                if isinstance(of, ast.Call) and isinstance(of.func, ast.Attribute):
                    if of.func.attr != "calling":
                        continue
                    is_named = any(part.arg in (None, "name") for part in of.keywords)
                    of = of.func.value
                if _is_context(of, function) or (isinstance(of, ast.Name) and of.id in mine):
                    yield _Made(one, is_named)
            case _:
                pass


def _is_context(expression: ast.expr, function: FunctionType) -> bool:
    return isinstance(expression, ast.Call) and _value(expression.func, function) is context


def _value(expression: ast.expr, function: FunctionType) -> object:
    """What a name of the module, or an attribute of one, stands for; ``None`` if nobody knows."""
    if isinstance(expression, ast.Attribute):
        owner = _value(expression.value, function)
        return getattr(owner, expression.attr, None) if isinstance(owner, ModuleType) else None
    if not isinstance(expression, ast.Name):
        return None
    code = function.__code__
    if expression.id in (*code.co_varnames, *code.co_cellvars, *code.co_freevars):
        return None
    return function.__globals__.get(expression.id)


# -- budgets --------------------------------------------------------------------------------------


def check_budgets(subject: Subject) -> Iterator[Finding]:
    """Budgets that nothing is counted in, and edges for budgets that there are not."""
    budgets = subject.budgets
    for level in subject.levels:
        edges = {(one.source, one.action): one for one in level.graph.edges if one.is_error}
        for place in level.graph.nodes.values():
            for one in place.catches:
                for name in one.catch.spent or ():
                    if name not in budgets and not (subject.is_part or subject.is_inner):
                        yield subject.finding(
                            "PF115",
                            f"the edge of {place.name!r} for {name!r} is never taken: the flow has "
                            f"no budget of that name{closest(name, budgets)}",
                            f'give the flow one, Flow(budget={{"{name}": ...}}), or take the edge '
                            "out",
                            node=place.name,
                            edge=edges.get((place.name, one.catch.label)),
                        )
    if not budgets or subject.graph.wraps:
        return
    spent = _Spending().of(subject)
    for name in budgets:
        if spent is not None and name not in spent:
            yield subject.finding(
                "PF115",
                f"the flow has a budget of {name!r}, and nothing in it spends any"
                f"{closest(name, spent)}",
                f"say what it costs where it is paid, context().spend({name}=...), or take the "
                "budget out",
            )


class _Spending:
    """Finds the names of what functions spend, in all that they can be seen to reach."""

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._seen: set[int] = set()
        self._left: list[object] = []
        self._is_open = False

    def of(self, subject: Subject) -> set[str] | None:
        """The names; ``None`` if something may spend that is not seen."""
        for _, place in subject.nodes:
            if subject.graph.resources or (
                isinstance(place.node, FunctionNode) and place.node.resources
            ):
                return None
            self._left.append(place.node)
            if isinstance(place.node, FunctionNode):
                self._left.append(place.node.signature.function)
        while self._left and not self._is_open:
            one = self._left.pop()
            if id(one) not in self._seen:
                self._seen.add(id(one))
                self._visit(one)
            if len(self._seen) > _MOST:
                return None
        return None if self._is_open else self._names

    def _visit(self, one: object) -> None:
        if is_a(one, partial):
            self._left += [one.func, *one.args]
        elif is_a(one, MethodType):
            self._left += [one.__func__, one.__self__]
        elif is_a(one, FunctionType):
            self._function(one)
        elif is_a(one, type):
            if not _is_foreign(one.__module__):
                for kind in one.__mro__:
                    self._left += [part for part in vars(kind).values() if callable(part)]
        elif not is_a(one, _VALUES) and not _is_foreign(type(one).__module__):
            self._left.append(type(one))
            bases = [vars(kind) for kind in type(one).__mro__[:-1]]
            if any("__class__" in base or "__getattribute__" in base for base in bases):
                self._is_open = True  # it may stand for something else, and would have to be asked
            elif hasattr(one, "__dict__"):
                self._left += vars(one).values()

    def _function(self, function: FunctionType) -> None:
        if _is_foreign(function.__module__):
            return
        names = names_in(function.__code__)
        if "spend" in names:
            self._is_open = self._is_open or not self._keywords(function.__code__)
        for name in names:
            found = function.__globals__.get(name)
            if is_a(found, ModuleType):
                self._left += [vars(found).get(part) for part in names]
            elif found is not None:
                self._left.append(found)
        for cell in function.__closure__ or ():
            try:
                self._left.append(cell.cell_contents)
            except ValueError:
                continue
        wrapped = getattr(function, "__wrapped__", None)
        self._left += [] if wrapped is None else [wrapped]

    def _keywords(self, code: Any) -> bool:
        """Take the names of keyword arguments; whether all are seen in the code."""
        for one in code.co_consts:
            if isinstance(one, tuple):
                self._names.update(part for part in one if isinstance(part, str))
            elif hasattr(one, "co_consts") and not self._keywords(one):
                return False
        return _UNPACKS not in code.co_code[::2]


_MOST = 3000
_UNPACKS = dis.opmap["CALL_FUNCTION_EX"]
_VALUES = (str, bytes, int, float, complex, bool, list, dict, tuple, set, frozenset, ModuleType)


def _is_foreign(module: object) -> bool:
    """Whether code is part of Python or of this library, which spend nothing."""
    top = str(module).partition(".")[0]
    return top in sys.stdlib_module_names or top == "pocoflow"
