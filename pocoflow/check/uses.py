"""The uses of a store in the expressions of one function."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pocoflow.check.effects import Place, Write

__all__ = ["Point", "Uses"]

_KEYED = ("get", "setdefault", "pop")
_LOOKS_AT_ALL = ("as_dict", "items", "keys", "snapshot", "to_model", "validate", "values")
_CHANGING = ("append", "extend", "insert")  # of lists; a client may well have an `add`
_HARMLESS = ("name", "schema", "unsaved")
_INNER = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
_LOOPS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


class Point:
    """What holds where the reading stands.

    Attributes:
        must: Keys that have been written, whatever way led here.
        may: Keys that may have been written.
        unknown: Whether something else may have been written.
        sure: Whether every call comes here.
    """

    __slots__ = ("may", "must", "sure", "unknown")

    def __init__(
        self, must: frozenset[str], may: frozenset[str], unknown: bool, sure: bool
    ) -> None:
        self.must, self.may, self.unknown, self.sure = must, may, unknown, sure

    def copy(self, sure: bool) -> Point:
        """The same place, on a way that perhaps only some calls take."""
        return Point(self.must, self.may, self.unknown, self.sure and sure)


class Uses:
    """Collects what a function does with its store, expression by expression.

    Args:
        function: The function.
        stores: The names of its parameters that are the store.
        constants: Names of the module that are text.
    """

    def __init__(
        self,
        function: ast.FunctionDef | ast.AsyncFunctionDef,
        stores: frozenset[str],
        constants: Mapping[str, str],
    ) -> None:
        self._stores = set(stores)
        self._states: set[str] = set()
        self._constants = constants
        self._parameters, assigned = _names(function)
        self._parameters -= assigned
        self.needs: dict[str, int] = {}
        self.reads: set[str] = set()
        self.writes: dict[str, int] = {}
        self.named: dict[str, int] = {}
        self.values: list[Write] = []
        self.changes: dict[str, int] = {}
        self.reads_more = self.writes_more = False
        self.guarding = 0  # how many blocks around the reading catch what a read may raise
        if assigned & stores:  # the name is another object further down
            self.reads_more = self.writes_more = True
        body = [node for one in function.body for node in ast.walk(one)]
        self._find_names(body)
        self._guarded = set(self._guards(body))

    # -- what is looked at before the reading ----------------------------------------------------

    def _find_names(self, body: Iterable[ast.AST]) -> None:
        """Names that are given to the store or its state once: ``state = store.state``."""
        for node in body:
            match node:
                case ast.Assign(targets=[ast.Name(id=name)], value=ast.Attribute() as value):
                    if self._is_state(value):
                        self._states.add(name)
                case _:
                    pass

    def _guards(self, body: Iterable[ast.AST]) -> Iterator[str]:
        for node in body:
            match node:
                case ast.Compare(left=left, ops=[ast.In() | ast.NotIn()], comparators=[right]):
                    if self._is_store(right):
                        yield self._key(left) or ""
                case ast.Call(func=ast.Attribute(value=owner, attr=method), args=[key, *_]):
                    if self._is_store(owner) and method in _KEYED:
                        yield self._key(key) or ""
                case ast.Call(func=ast.Name(id="hasattr" | "getattr"), args=[owner, key, *_]):
                    if self._is_state(owner):
                        yield self._key(key) or ""
                case _:
                    pass

    def _is_store(self, node: ast.AST) -> bool:
        return isinstance(node, ast.Name) and node.id in self._stores

    def _is_state(self, node: ast.AST) -> bool:
        match node:
            case ast.Attribute(value=owner, attr="state"):
                return self._is_store(owner)
            case ast.Name(id=name):
                return name in self._states
            case _:
                return False

    def _key(self, node: ast.AST) -> str | None:
        match node:
            case ast.Constant(value=str() as text):
                return text
            case ast.Name(id=name):
                return self._constants.get(name)
            case _:
                return None

    # -- reading expressions ---------------------------------------------------------------------

    def expression(self, node: ast.AST | None, at: Point) -> None:
        """Take note of every use of the store in an expression, in the order of evaluation."""
        match node:
            case None | ast.Constant():
                return
            case ast.Subscript(value=owner, slice=key) if self._is_store(owner):
                self.expression(key, at)
                self._access(self._key(key), node, at)
            case ast.Attribute(value=owner, attr=name) if self._is_state(owner):
                self._access(name, node, at)
            case ast.Attribute(value=owner, attr=name) if self._is_store(owner):
                if name not in _HARMLESS:
                    self._escapes(at)
            case ast.Call(func=ast.Attribute(value=owner, attr=method)) if self._is_store(owner):
                self._method(method, node, at)
            case ast.Call(func=ast.Name(id="hasattr"), args=[owner, key]) if self._is_state(owner):
                self.reads.add(self._key(key) or "")
            case ast.Call(func=ast.Name(id="len" | "bool" | "list" | "dict"), args=[owner]) if (
                self._is_store(owner)
            ):
                self.reads_more = True
            case ast.Compare(left=left, ops=[ast.In() | ast.NotIn()], comparators=[owner]) if (
                self._is_store(owner)
            ):
                self.expression(left, at)
                self._look(self._key(left))
            case _ if self._is_store(node) or self._is_state(node):
                self._escapes(at)
            case ast.Call(func=ast.Attribute(value=owner, attr=method)) if method in _CHANGING:
                self._change(owner)
                self._parts(node, at)
            case _:
                self._parts(node, at)

    def _change(self, node: ast.AST) -> None:
        """Take note of a change in place, of what a key holds or of a part of it."""
        key = None
        match node:
            case ast.Subscript(value=owner, slice=name) if self._is_store(owner):
                key = self._key(name)
            case ast.Attribute(value=owner, attr=attribute) if self._is_state(owner):
                key = attribute
            case ast.Subscript(value=owner):
                self._change(owner)
            case _:
                pass
        if key is not None:
            self.changes.setdefault(key, getattr(node, "lineno", 0))

    def _parts(self, node: Any, at: Point) -> None:
        match node:
            case ast.BoolOp(values=values):
                self._ordered(values[:1], values[1:], at)
            case ast.IfExp(test=test, body=body, orelse=other):
                self._ordered([test], [body, other], at)
            case _ if isinstance(node, _INNER):
                if any(self._is_store(one) or self._is_state(one) for one in ast.walk(node)):
                    self._escapes(at)
            case _ if isinstance(node, _LOOPS):
                generators: list[ast.comprehension] = node.generators
                first, *more = generators
                result = [one for one in ast.iter_child_nodes(node) if isinstance(one, ast.expr)]
                self._ordered([first.iter], [*first.ifs, *more, *result], at)
            case _:
                self._ordered(list(ast.iter_child_nodes(node)), [], at)

    def _ordered(self, always: Iterable[ast.AST], perhaps: Iterable[ast.AST], at: Point) -> None:
        for one in always:
            self.expression(one, at)
        beside = at.copy(sure=False)
        for one in perhaps:
            self.expression(one, beside)
        at.may, at.unknown = beside.may, beside.unknown

    def _access(self, key: str | None, node: Any, at: Point) -> None:
        if isinstance(node.ctx, ast.Store):
            self.write(key, node.lineno, at)
        else:
            self.read(key, node.lineno, at)

    def read(self, key: str | None, line: int, at: Point) -> None:
        """Take note of a read; ``None`` is a key that is not known."""
        if key is None:
            self.reads_more = True
            return
        self.reads.add(key)
        if key in self._guarded or self.guarding:
            return
        self.named.setdefault(key, line)
        if at.sure and not at.unknown and key not in at.may:
            self.needs.setdefault(key, line)

    def write(self, key: str | None, line: int, at: Point, value: ast.AST | None = None) -> None:
        """Take note of a write; ``None`` is a key that is not known."""
        if key is None:
            self.writes_more = at.unknown = True
            return
        self.writes.setdefault(key, line)
        self.named.setdefault(key, line)
        at.must, at.may = at.must | {key}, at.may | {key}
        match value:
            case ast.Constant(value=constant) if constant is not ...:
                self.values.append(Write(key, Place(line=line), None, constant))
            case ast.Name(id=name) if name in self._parameters:
                self.values.append(Write(key, Place(line=line), name))

    def _look(self, key: str | None) -> None:
        if key is None:
            self.reads_more = True
        else:
            self.reads.add(key)

    def _escapes(self, at: Point) -> None:
        self.reads_more = self.writes_more = at.unknown = True

    # -- the methods of a store ------------------------------------------------------------------

    def _method(self, method: str, call: ast.Call, at: Point) -> None:
        for argument in (*call.args, *(one.value for one in call.keywords)):
            if not self._is_store(argument):
                self.expression(argument, at)
        key = self._key(call.args[0]) if call.args else None
        if method in ("get", "pop", "setdefault"):
            self._look(key)
            if method == "setdefault":
                self.write(key, call.lineno, at)
        elif method in ("put", "update"):
            self._update(call, at)
        elif method == "reduce":
            self.read(key, call.lineno, at)
            self.write(key, call.lineno, at)
        elif method in _LOOKS_AT_ALL:
            self.reads_more = True
        elif method == "recheck":
            self._look(key)
        else:
            self._escapes(at)

    def _update(self, call: ast.Call, at: Point) -> None:
        line = call.lineno
        for one in call.keywords:
            self.write(one.arg, line, at, one.value)
        for argument in call.args:
            match argument:
                case ast.Dict(keys=keys, values=values):
                    for key, value in zip(keys, values, strict=True):
                        self.write(None if key is None else self._key(key), line, at, value)
                case _:
                    self.write(None, line, at)

    def assign(self, target: ast.AST, value: ast.AST | None, at: Point) -> None:
        """Take note of an assignment; the value has been read before."""
        match target:
            case ast.Subscript(value=owner, slice=key) if self._is_store(owner):
                self.write(self._key(key), target.lineno, at, value)
            case ast.Attribute(value=owner, attr=name) if self._is_state(owner):
                self.write(name, target.lineno, at, value)
            case ast.Name():
                return
            case ast.Subscript(value=owner):
                self._change(owner)
                self.expression(target, at)
            case _:
                self.expression(target, at)

    def names_state(self, node: ast.Assign) -> bool:
        """Whether a statement only gives ``store.state`` a name."""
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                return name in self._states and self._is_state(value)
            case _:
                return False


def _names(function: ast.FunctionDef | ast.AsyncFunctionDef) -> tuple[set[str], set[str]]:
    """The parameters of a function, and the names that are assigned to in it."""
    arguments = function.args
    parameters = {
        one.arg for one in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
    }
    assigned = {
        node.id
        for one in function.body
        for node in ast.walk(one)
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)
    }
    return parameters, assigned
