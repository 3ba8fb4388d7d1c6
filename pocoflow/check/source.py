"""Functions in their source, and the bindings of names in their module."""

from __future__ import annotations

import ast
import dis
import linecache
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import Enum
from functools import lru_cache
from inspect import unwrap
from types import CodeType, FunctionType
from typing import Any, ParamSpec, TypeAlias, TypeGuard, TypeVar

from pocoflow.nodes.annotations import tree_of
from pocoflow.nodes.base import Node
from pocoflow.nodes.function import FunctionNode
from pocoflow.values.callables import names_in

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef

KindT = TypeVar("KindT")
MadeT = TypeVar("MadeT")
ArgsP = ParamSpec("ArgsP")

PLAIN = (str, int, float, bool, bytes, complex, type(None), Enum)
"""The types of constants."""

_MOST = 100  # functions that are analysed for one

_OURS = ("pocoflow", "pydantic", "pydantic_core", "typing_extensions")

PHASES = ("prep", "exec", "exec_async", "exec_fallback", "post")

_LOADS = ("LOAD_GLOBAL", "LOAD_NAME")

_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


class Module:
    """The source of one file, read once.

    Args:
        tree: The syntax tree of the file.
        code: Its compiled code.

    Attributes:
        tree: The syntax tree of the file.
    """

    def __init__(self, tree: ast.Module, code: CodeType) -> None:
        self.tree = tree
        self._functions: dict[tuple[int, str], Function] = {}
        self._around: dict[Function, Function | None] = {}
        self._attributes: set[str] = set()
        self._sets_any = False
        self._globals: set[str] = set()
        self._find(tree, None)
        self._codes: dict[tuple[int, str], CodeType] = {}
        self._compiled(code)
        self._bound: dict[str, list[ast.expr | None]] | None = None

    def _find(self, node: ast.AST, around: Function | None) -> None:
        for child in ast.iter_child_nodes(node):
            inner = around
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
                first = min([child.lineno, *(part.lineno for part in child.decorator_list)])
                self._functions[first, child.name] = inner = child
                self._around[child] = around
            elif isinstance(child, ast.Attribute) and not isinstance(child.ctx, ast.Load):
                if around is None or around.name != "__init__":
                    self._attributes.add(child.attr)
            elif around is not None and around.name != "__init__" and _opens(child, around):
                self._sets_any = True
            elif isinstance(child, ast.Global):
                self._globals.update(child.names)
            self._find(child, inner)

    def _compiled(self, code: CodeType) -> None:
        for const in code.co_consts:
            if isinstance(const, CodeType):
                self._codes[const.co_firstlineno, const.co_name] = const
                self._compiled(const)

    def function(self, code: CodeType) -> Function | None:
        """The definition of a function; ``None`` if the source has changed."""
        where = (code.co_firstlineno, code.co_name)
        return self._functions.get(where) if self._codes.get(where) == code else None

    def around(self, function: Function) -> Function | None:
        """The function in which another one is defined."""
        return self._around.get(function)

    def rebinds(self, attribute: str) -> bool:
        """Whether an attribute of this name is set somewhere, other than in an ``__init__``."""
        return self._sets_any or attribute in self._attributes

    def keeps(self, name: str, value: object) -> bool:
        """Whether a name of the module always has a value: it is never rebound.

        A constant that is not bound in the source may be set by any code.
        """
        if self._bound is None:
            self._bound = bindings_of(self.tree.body)
        count = 2 if name in self._globals else len(self._bound.get(name, ()))
        return count == 1 or (count == 0 and not is_a(value, PLAIN))


def _opens(node: ast.AST, method: Function) -> bool:
    """Whether a node may set any attribute of the object of a method, or of its class."""
    match node:
        case ast.Call(func=ast.Attribute(attr="__setattr__")):
            return True
        case (
            ast.Call(func=ast.Name(id="setattr" | "vars"), args=[owner, *_])
            | ast.Attribute(value=owner, attr="__dict__")
        ):
            names = [part.id for part in ast.walk(owner) if isinstance(part, ast.Name)]
            return any(arg.arg in names for arg in method.args.args[:1])
        case _:
            return False


def is_a(value: object, kinds: type[KindT] | tuple[type[KindT], ...]) -> TypeGuard[KindT]:
    """Whether an object is an instance of a class, without running code of the object.

    ``isinstance`` would evaluate a proxy, such as settings that are loaded on first use.
    """
    return issubclass(type(value), kinds)


@lru_cache(maxsize=1024)
def is_foreign(module: object) -> bool:
    """Whether a module is part of Python, of this library, or of its dependencies."""
    top = str(module).partition(".")[0]
    return top in sys.stdlib_module_names or top in _OURS


def with_room(call: Callable[ArgsP, MadeT], *args: ArgsP.args, **kwargs: ArgsP.kwargs) -> MadeT:
    """Call a function, and again in a new thread if the recursion is too deep.

    The stack is empty there, so the result does not depend on the caller.

    Raises:
        RecursionError: The recursion is too deep there, too.
    """
    try:
        return call(*args, **kwargs)
    except RecursionError:
        # Late: it cannot be imported at interpreter exit, when a first run may still begin.
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(1) as apart:
            return apart.submit(call, *args, **kwargs).result()


def _parsed(text: str, file: str) -> Module:
    tree = tree_of(text, file)
    return Module(tree, compile(tree, file, "exec", dont_inherit=True))


@lru_cache(maxsize=256)
def _read(lines: tuple[str, ...], file: str) -> Module | None:
    try:
        return with_room(_parsed, "".join(lines), file)
    except (SyntaxError, ValueError, RecursionError, MemoryError, SystemError):
        return None


_known: dict[str, tuple[list[str], Module | None]] = {}


def module_of(file: str, names: dict[str, object] | None = None) -> Module | None:
    """The current source of a file; ``None`` if it cannot be read."""
    linecache.checkcache(file)
    lines = linecache.getlines(file, names)
    if not lines:
        return None
    known = _known.get(file)
    if known is None or known[0] is not lines:
        known = _known[file] = (lines, _read(tuple(lines), file))
    return known[1]


def definition_of(function: FunctionType) -> tuple[Function, Module] | None:
    """A function in its source; ``None`` if there is none, or if it has changed."""
    code = function.__code__
    module = module_of(code.co_filename, function.__globals__)
    node = None if module is None else module.function(code)
    return None if module is None or node is None else (node, module)


def knows_name(function: Callable[..., object], name: str) -> bool:
    """Whether something in the file of a function binds a name, if only for type checkers."""
    inner: Any = unwrap(function)
    module = module_of(inner.__code__.co_filename, inner.__globals__)
    if module is None:
        return True
    # Names of a star import at the top of the module are among its globals.
    inner = [part for part in module.tree.body if not isinstance(part, ast.ImportFrom)]
    hides = any("*" in _bound_by(part) for top in inner for part in ast.walk(top))
    return hides or any(name in _bound_by(part) for part in ast.walk(module.tree))


def functions_of(node: Node, phases: Iterable[str] = PHASES) -> list[FunctionType]:
    """The functions that implement phases of a node; for a function node, its function."""
    found: list[object] = [getattr(type(node), phase, None) for phase in phases]
    if isinstance(node, FunctionNode):
        found = [node.signature.function]
    return [function for function in found if isinstance(function, FunctionType)]


def reached(kind: type, *functions: FunctionType) -> list[FunctionType]:
    """Functions, and those of a class and of modules that they use, transitively."""
    users = [base for base in reversed(kind.__mro__) if not is_foreign(base.__module__)]
    methods = {name: value for base in users for name, value in vars(base).items()}
    found = dict.fromkeys(functions)
    for function in (queue := [*found]):  # grows during iteration
        if len(found) < _MOST:
            names, known = names_in(function.__code__), function.__globals__
            named = [*map(methods.get, names)]
            # Few use a global function, and telling it from an attribute is slow.
            if any(is_a(known.get(name), FunctionType) for name in names):
                named += map(known.get, _globals_in(function.__code__))
            new = [f for f in named if is_a(f, FunctionType) and f not in found]
            found.update(dict.fromkeys(new))
            queue += (f for f in dict.fromkeys(new) if not is_foreign(f.__module__))
    return queue


@lru_cache(maxsize=4096)
def _globals_in(code: CodeType) -> frozenset[str]:
    """The global names in code, without attributes, and in its inner functions."""
    inside = (_globals_in(const) for const in code.co_consts if isinstance(const, CodeType))
    names = (op.argval for op in dis.get_instructions(code) if op.opname in _LOADS)
    return frozenset(names).union(*inside)


def module_named(name: str) -> Module | None:
    """The source of a module that has been imported."""
    module = sys.modules.get(name)
    file = getattr(module, "__file__", None)
    return None if file is None else module_of(file, vars(module))


def inner_parts(body: Sequence[ast.AST]) -> Iterator[ast.AST]:
    """The parts of statements, without the contents of functions and classes among them."""
    for node in body:
        yield node
        if not isinstance(node, _SCOPES):
            yield from inner_parts(list(ast.iter_child_nodes(node)))


def bindings_of(body: Sequence[ast.stmt]) -> dict[str, list[ast.expr | None]]:
    """The bindings of each name in some statements; ``None`` for one that is not an expression.

    A binding by a loop counts twice; an assignment in a loop counts once, as a constant value is
    always the same.
    """
    values: dict[int, ast.expr | None] = {}
    found: dict[str, list[ast.expr | None]] = {}
    for node in inner_parts(body):
        match node:
            case ast.Assign(targets=[target], value=value):
                values.update((id(name), part) for name, part in pairs_of(target, value))
            case ast.AnnAssign(target=ast.Name() as target) | ast.NamedExpr(target=target):
                values[id(target)] = node.value
            case ast.AugAssign(target=ast.Name() as target, op=ast.BitOr()):
                values[id(target)] = target  # a store keeps its identity
            case _:
                pass
        for name in _bound_by(node):
            found.setdefault(name, []).append(values.get(id(node)))
    return found


def pairs_of(target: ast.expr, value: ast.expr) -> list[tuple[ast.expr, ast.expr]]:
    """The single assignments of a tuple assignment, such as ``a, b = 1, 2``."""
    match target, value:
        case ast.Tuple(elts=targets), ast.Tuple(elts=values) if len(targets) == len(values):
            if not any(isinstance(part, ast.Starred) for part in (*targets, *values)):
                return list(zip(targets, values, strict=True))
    return [(target, value)]


def _bound_by(node: ast.AST) -> Iterator[str]:
    """The names that a part of a statement binds; twice for several bindings."""
    match node:
        case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
            yield name
        case ast.alias(name=name, asname=other):
            yield (other or name).partition(".")[0]
        case ast.Global(names=names) | ast.Nonlocal(names=names):
            yield from (*names, *names)
        case ast.For(target=target) | ast.AsyncFor(target=target):
            inside = (part for part in ast.walk(target) if isinstance(part, ast.Name))
            yield from (part.id for part in inside if isinstance(part.ctx, ast.Store))
        case _:
            for attribute in ("name", "rest"):
                bound = getattr(node, attribute, None)
                if isinstance(bound, str):
                    yield bound
    if isinstance(node, _SCOPES):
        inner = [part for part in ast.walk(node) if isinstance(part, ast.Nonlocal)]
        yield from (name for part in inner for name in (*part.names, *part.names))
