"""The values of names and expressions in one function: the store, a constant, a function."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from enum import Enum
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE, CO_GENERATOR
from types import BuiltinFunctionType, CellType, CoroutineType, FunctionType, ModuleType
from typing import Any, TypeVar

from pocoflow.check.node_effects import ABSENT as _UNKNOWN, Fact, Value
from pocoflow.check.source import (
    PLAIN,
    Function,
    Module,
    bindings_of,
    definition_of,
    is_a,
    module_named,
)
from pocoflow.messages import package_of
from pocoflow.nodes.edges import DEFAULT_ACTION

KnownT = TypeVar("KnownT")

NOTHING_RETURNED = frozenset((DEFAULT_ACTION,))
"""The action of a function that returns ``None``."""

_NOT_THEIRS = ("abc", "builtins", "pocoflow", "typing")


class Sort(Enum):
    """The tracked values of a name or an expression."""

    STORE = "the store"
    STATE = "store.state"
    SELF = "the node, or its class"
    STORES = "a collection that has the store in it"


Given = Mapping[str, "Sort | Value | None"]
"""The values of the parameters of a function."""


class Owner:
    """The node class whose functions are analysed.

    Args:
        kind: The class; ``None`` for a function outside a class.
        own: The attributes of the node itself that may override those of its class.

    Attributes:
        used: The attributes that were looked up, which a node may override.
        facts: The values of names of modules and classes, which a program may change.
    """

    def __init__(self, kind: type | None, own: Mapping[str, object]) -> None:
        self.kind = kind
        self.own = own
        self.used: set[str] = set()
        self.facts: list[Fact] = []

    def note(self, names: Mapping[str, object], name: str) -> None:
        """Record the value of a name of a module or a class."""
        self.facts.append(Fact(names, name, names.get(name, _UNKNOWN)))

    def static(self, bases: Sequence[type], name: str) -> object:
        """An attribute of the first of some classes that has it, without binding."""
        for base in bases:
            self.note(vars(base), name)
            if name in vars(base):
                return vars(base)[name]
        return _UNKNOWN

    def attribute(self, name: str) -> object:
        """An attribute of the node, unbound, or ``_UNKNOWN``."""
        self.used.add(name)
        if name in self.own:
            return self.own[name]
        return _UNKNOWN if self.kind is None else self.static(self.kind.__mro__, name)

    def inherited(self, function: FunctionType, name: str) -> object:
        """An attribute of ``super()`` in a method."""
        bases = () if self.kind is None else self.kind.__mro__
        own = function.__name__
        defines = (n for n, base in enumerate(bases) if vars(base).get(own) is function)
        return self.static(bases[next(defines, len(bases)) + 1 :], name)

    def is_constant(self, name: str) -> bool:
        """Whether no class reassigns an attribute, other than in an ``__init__``."""
        bases = () if self.kind is None else self.kind.__mro__
        names = {base.__module__ for base in bases if package_of(base) not in ("", *_NOT_THEIRS)}
        modules = [module_named(module) for module in names]
        return not any(source is not None and source.rebinds(name) for source in modules)


Target = tuple[FunctionType, Sort | None]
"""A function that is called, and the value of its first parameter, if it is bound."""


class Scope:
    """One function, with what is known about its arguments.

    Args:
        function: The function.
        node: Its source.
        module: The file that contains it.
        given: The values of its parameters.
        owner: The node class.

    Attributes:
        is_lost: Whether a name for the store is also bound to something else.
        is_generator: Whether a call does not execute it.
    """

    def __init__(
        self, function: FunctionType, node: Function, module: Module, given: Given, owner: Owner
    ) -> None:
        self.function, self.node, self.owner = function, node, owner
        self._module = module
        self._given = given
        self._bound = bindings_of(node.body)
        self._looking: set[str] = set()
        code = function.__code__
        self.is_generator = bool(code.co_flags & (CO_GENERATOR | CO_ASYNC_GENERATOR))
        self._locals = {*code.co_varnames, *code.co_cellvars}
        cells: tuple[CellType, ...] = function.__closure__ or ()
        self._closure = dict(zip(code.co_freevars, cells, strict=False))
        for name, what in given.items():
            bound = self._bound.get(name, ())
            if what is Sort.STORE and all(isinstance(b, ast.Name) and b.id == name for b in bound):
                self._bound.pop(name, None)
        self.is_lost = any(
            isinstance(what, Sort) and name in self._bound for name, what in given.items()
        )

    @classmethod
    def of(cls, function: FunctionType, given: Given, owner: Owner) -> Scope | None:
        """The scope of a function; ``None`` if its source is unavailable."""
        found = definition_of(function)
        return None if found is None else cls(function, *found, given, owner)

    # -- the store ------------------------------------------------------------------------------

    def sort(self, node: ast.AST | None) -> Sort | None:
        """The tracked value of an expression, if it has one."""
        match node:
            case ast.Name(id=name):
                value = self._single(name)
                return value if isinstance(value, Sort) else self.ask_of(name, self.sort)
            case ast.Attribute(value=owner, attr="state"):
                return Sort.STATE if self.sort(owner) is Sort.STORE else None
            case ast.NamedExpr(target=target):
                return self.sort(target)
            case ast.Call(func=ast.Name(id="type"), args=[owner], keywords=[]):
                return Sort.SELF if self.sort(owner) is Sort.SELF else None
            case _:
                return None

    def is_state(self, node: ast.AST | None) -> bool:
        """Whether an expression is the typed view of the store."""
        return self.sort(node) is Sort.STATE

    def is_store(self, node: ast.AST | None) -> bool:
        """Whether an expression is the store, its state, or contains it."""
        return self.sort(node) in (Sort.STORE, Sort.STATE, Sort.STORES)

    def _single(self, name: str) -> ast.expr | Sort | Value | None:
        """The only binding of a local name, if there is exactly one."""
        bound = self._bound.get(name)
        if name in self._given:
            return None if bound else self._given[name]
        return bound[0] if bound is not None and len(bound) == 1 else None

    def ask_of(self, name: str, ask: Callable[[ast.expr], KnownT | None]) -> KnownT | None:
        """Evaluate the only expression that a local name is bound to, without recursion."""
        value = self._single(name)
        if not isinstance(value, ast.expr) or name in self._looking:
            return None
        self._looking.add(name)
        try:
            return ask(value)
        finally:
            self._looking.discard(name)

    def is_parameter(self, name: str) -> bool:
        """Whether a name is a parameter with an unknown value that is never rebound."""
        return name in self._given and self._given[name] is None and name not in self._bound

    def names_store(self, target: ast.expr) -> bool:
        """Whether a target of an assignment is tracked as an alias of the store."""
        return isinstance(target, ast.Name) and self.is_store(target)

    # -- constants ------------------------------------------------------------------------------

    def key(self, node: ast.expr) -> str | None:
        """The constant text that an expression evaluates to."""
        value = self.value(node)
        is_known = value is not None and value.kind is None and not value.parameter
        found = value.constant if value is not None and is_known else None
        if isinstance(found, Enum) and isinstance(found, str):
            found = found.value
        return found if type(found) is str else None

    def choices(self, node: ast.expr | None) -> frozenset[str]:
        """The actions to which an expression may evaluate; empty if they are unknown."""
        match node:
            case ast.Constant(value=None):
                return NOTHING_RETURNED
            case ast.IfExp(body=body, orelse=other):
                parts: Sequence[ast.expr | None] = (body, other)
            case ast.Name(id=name) if name in self._bound and name not in self._given:
                if name in self._looking:
                    return frozenset()
                parts = self._bound[name]
                self._looking.add(name)
            case _:
                key = None if node is None else self.key(node)
                return frozenset() if key is None else frozenset((key,))
        try:
            found = [self.choices(part) for part in parts]
        finally:
            if isinstance(node, ast.Name):
                self._looking.discard(node.id)
        return frozenset().union(*found) if all(found) else frozenset()

    def value(self, node: ast.expr | None) -> Value | None:
        """What is known about the value of an expression."""
        match node:
            case ast.Constant(value=constant):
                return None if constant is ... else Value(constant)
            case ast.Name(id=name) if name in self._given or name in self._locals:
                return self._local(name)
            case ast.Name() | ast.Attribute():
                return _named(self.object(node))
            case ast.Call(func=called):
                kind = _MADE.get(self.called(called)) or self._made(called)
                return None if kind is None else Value(kind=kind)
            case ast.JoinedStr() | ast.BinOp(left=ast.Constant(value=str()), op=ast.Mod()):
                return Value(kind=str)
            case ast.Lambda():
                return Value(kind=FunctionType)
            case ast.UnaryOp(op=ast.Not()):
                return Value(kind=bool)
            case ast.IfExp(body=ast.Constant(value=yes), orelse=ast.Constant(value=no)):
                return Value(kind=str) if type(yes) is type(no) is str else None
            case ast.ListComp() | ast.SetComp() | ast.DictComp():
                return Value(kind=_DISPLAYS[type(node)])
            case ast.UnaryOp() | ast.List() | ast.Tuple() | ast.Set() | ast.Dict():
                try:
                    return Value(ast.literal_eval(node))
                except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
                    kind = _DISPLAYS.get(type(node))
                    return None if kind is None else Value(kind=kind)
            case _:
                return None

    def _made(self, called: ast.expr) -> type | None:
        """The class of the result of a call; ``None`` if it is uncertain."""
        match called:
            case ast.Attribute(value=ast.Constant(value=str()) | ast.JoinedStr(), attr=name):
                return str if name in _GIVE_TEXT else None
            case _:
                found = self.called(called)
        function = None if found is not None else self.object(called)
        if is_a(function, FunctionType) and function.__code__.co_flags & CO_COROUTINE:
            return CoroutineType
        is_plain = is_a(found, type) and is_a(found.__new__, BuiltinFunctionType)
        return found if is_plain and type(found).__call__ is type.__call__ else None

    def _local(self, name: str) -> Value | None:
        value = self._single(name)
        if isinstance(value, Value):
            return value
        found = self.ask_of(name, self.value)
        is_mutable = found is not None and isinstance(found.constant, (list, dict, set))
        return None if is_mutable else found

    def _free(self, name: str) -> Any:
        """The constant value of a free or global name."""
        if name in self._closure:
            with suppress(ValueError):  # of an empty cell
                return self._closure[name].cell_contents if self._is_fixed(name) else _UNKNOWN
        found = self.function.__globals__.get(name, getattr(builtins, name, _UNKNOWN))
        is_fixed = name not in self._locals and self._module.keeps(name, found)
        self.owner.note(self.function.__globals__, name)
        return found if is_fixed else _UNKNOWN

    def _is_fixed(self, name: str) -> bool:
        """Whether a name of an enclosing function is never rebound."""
        around = self._module.around(self.node)
        while around is not None:
            arguments = around.args
            parameters = (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
            bound = bindings_of(around.body).get(name, [])
            if name in [param.arg for param in parameters]:
                return not bound
            if bound:
                return len(bound) == 1
            around = self._module.around(around)
        return False

    # -- functions ------------------------------------------------------------------------------

    def object(self, node: ast.expr) -> Any:
        """The constant value of an expression that is not local, or ``_UNKNOWN``."""
        match node:
            case ast.Name(id=name) if name not in self._given and name not in self._bound:
                return self._free(name)
            case ast.Attribute(value=value, attr=name) if self.sort(value) is Sort.SELF:
                return self.owner.attribute(name) if self.owner.is_constant(name) else _UNKNOWN
            case ast.Attribute(value=value, attr=name):
                owner = self.object(value)
                if is_a(owner, ModuleType):
                    self.owner.note(vars(owner), name)
                    module, found = module_named(owner.__name__), vars(owner).get(name, _UNKNOWN)
                    return found if module is None or module.keeps(name, found) else _UNKNOWN
                if is_a(owner, type) and not self._module.rebinds(name):
                    return self.owner.static(owner.__mro__, name)
                if is_a(owner, Enum) and name in ("name", "value"):
                    is_plain = self.owner.static(type(owner).__mro__, name) is vars(Enum)[name]
                    return getattr(owner, name) if is_plain else _UNKNOWN
            case _:
                pass
        return _UNKNOWN

    def called(self, node: ast.expr) -> Any:
        """The builtin, or the class, that is called; ``None`` if it is something else."""
        found = self.object(node)
        return found if is_a(found, (type, BuiltinFunctionType)) else None

    def error(self, node: ast.expr) -> type[BaseException] | None:
        """The exception class that is called; ``None`` for anything else."""
        found = self.called(node)
        return found if is_a(found, type) and issubclass(found, BaseException) else None

    def target(self, node: ast.expr) -> Target | None:
        """The function that is called, if it is a Python function."""
        found, first = self.object(node), None
        match node:
            case ast.Attribute(value=ast.Call(func=ast.Name(id="super"), args=[])):
                found, first = self.owner.inherited(self.function, node.attr), Sort.SELF
            case ast.Attribute(value=owner) if self.sort(owner) is Sort.SELF:
                first = None if node.attr in self.owner.own else Sort.SELF
            case _:
                pass
        if is_a(found, staticmethod):
            found, first = found.__func__, None
        elif is_a(found, classmethod):
            found, first = found.__func__, Sort.SELF
        return (found, first) if is_a(found, FunctionType) else None


def _named(found: object) -> Value | None:
    """What is known about a named object: a constant, a class, a function."""
    if is_a(found, PLAIN):
        return Value(found)
    if is_a(found, type):
        return Value(kind=type[found])
    return Value(kind=FunctionType) if is_a(found, FunctionType) else None


_MADE: dict[object, type] = {
    **{kind: kind for kind in (str, int, float, bool, bytes, list, dict, set, frozenset, tuple)},
    len: int,
    repr: str,
    sorted: list,
}
_GIVE_TEXT = ("capitalize", "format", "join", "lower", "replace", "strip", "title", "upper")
_DISPLAYS: dict[type[ast.AST], type] = {
    ast.List: list,
    ast.ListComp: list,
    ast.Tuple: tuple,
    ast.Set: set,
    ast.SetComp: set,
    ast.Dict: dict,
    ast.DictComp: dict,
}
