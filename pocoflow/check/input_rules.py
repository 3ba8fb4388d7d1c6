"""PF408 and PF409: changes of store values in ``exec``, and state on the node."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence
from dis import opmap
from functools import partial
from types import CodeType, FunctionType
from typing import NamedTuple

from pocoflow.check.call_rules import exec_functions
from pocoflow.check.findings import Finding
from pocoflow.check.scope import Owner, Scope, Sort
from pocoflow.check.source import (
    PHASES,
    Function,
    bindings_of,
    definition_of,
    functions_of,
    inner_parts,
    reached,
)
from pocoflow.check.subject import Site, Subject
from pocoflow.nodes.base import Node
from pocoflow.nodes.definitions import overrides
from pocoflow.nodes.function import FunctionNode
from pocoflow.nodes.parallel import FanOut
from pocoflow.values.callables import names_in
from pocoflow.values.remembering import remembered

_CHANGES = frozenset(
    (
        *("add", "append", "appendleft", "clear", "discard", "extend", "insert", "pop", "popitem"),
        *("popleft", "remove", "reverse", "setdefault", "sort", "update"),
    )
)
"""Methods that change containers."""

_OF_LISTS = frozenset(
    ("append", "appendleft", "extend", "popitem", "popleft", "setdefault", "sort")
)
"""Those that clients or indexes, which may be shared instead of copied, are unlikely to have."""

_WHY = {
    True: "with several attempts, a timeout, journaled calls or an exec_fallback it works on a "
    "copy, so the change is lost",
    False: "with several attempts it works on a copy, and after a crash its result is taken from "
    "the record, so the change is lost",
}

_STORING = ("STORE_SUBSCR", "DELETE_SUBSCR", "STORE_SLICE", "STORE_ATTR", "DELETE_ATTR")

_STORES = frozenset(code for name, code in opmap.items() if name in _STORING)


def check_inputs(subject: Subject, *, lost_only: bool = False) -> Iterator[Finding]:
    """Changes in ``exec`` of values that only ``post``, or ``writes=``, should change.

    Args:
        subject: The flow.
        lost_only: Only changes that each run loses, as ``exec`` works on a copy there.
    """
    for at in _sites(subject):
        copies = at.vertex.copies_input
        for function in exec_functions(at.vertex) if copies or not lost_only else ():
            found = definition_of(function) if _may_change(function.__code__) else None
            if found is None:
                continue
            changes = list(_changes(found[0].body, lost_only))
            for name in _of_the_store(at.vertex.node, found[0]):
                line = next((line for changed, line in changes if changed == name), None)
                if line is not None and not _is_own(found[0].body, name):
                    yield subject.finding(
                        "PF408",
                        f"exec changes {name!r} in place, which is the store's: {_WHY[copies]}",
                        "return what is new, and have writes= or post put it into the store; or "
                        "change a copy",
                        at=at,
                        where=(function.__code__.co_filename, line),
                    )


def _sites(subject: Subject) -> Iterable[Site]:
    """Each function, and one node of each other class, preferably one that works on a copy."""
    found: dict[object, Site] = {}
    for at in subject.nodes:
        node = at.vertex.node
        which = node if isinstance(node, FunctionNode) else type(node)
        if which not in found or (at.vertex.copies_input and not found[which].vertex.copies_input):
            found[which] = at
    return found.values()


def _of_the_store(node: Node, work: Function) -> list[str]:
    """The parameters of ``exec`` that receive values of the store."""
    if isinstance(node, FunctionNode):
        return [param.name for param in node.signature.parameters if param.field is not None]
    names = [arg.arg for arg in (*work.args.posonlyargs, *work.args.args)][1:2]
    return names if any(map(_hands_out, functions_of(node, ("prep",)))) else []


def _hands_out(prep: FunctionType) -> bool:
    """Whether a ``prep`` returns the store, or a value in it, uncopied."""
    store = prep.__code__.co_varnames[1 : prep.__code__.co_argcount][:1]
    scope = Scope.of(prep, dict.fromkeys(store, Sort.STORE), Owner(None, {}))
    return scope is not None and any(
        isinstance(part, ast.Return) and _is_held(scope, part.value)
        for part in inner_parts(scope.node.body)
    )


def _is_held(scope: Scope, value: ast.expr | None) -> bool:
    """Whether an expression is the store, or a value in it."""
    match value:
        case ast.Name(id=name) if scope.sort(value) is None:
            return bool(scope.ask_of(name, partial(_is_held, scope)))
        case ast.Subscript(value=owner) | ast.Call(func=ast.Attribute(value=owner, attr="get")):
            return scope.sort(owner) is Sort.STORE
        case ast.Attribute(value=owner):
            return scope.is_state(owner)
        case _:
            return scope.sort(value) is Sort.STORE


def _may_change(code: CodeType) -> bool:
    """Whether the source of a function has to be read: most change nothing in place."""
    return not (_STORES.isdisjoint(code.co_code[::2]) and _CHANGES.isdisjoint(names_in(code)))


def _is_own(body: Sequence[ast.stmt], name: str) -> bool:
    """Whether a name is bound to something else as well, or its value is returned."""
    bound = bindings_of(body)
    queue = [part.value for part in inner_parts(body) if isinstance(part, ast.Return)]
    for expression in queue:  # grows during iteration
        match expression:
            case ast.Name(id=other) if other != name and len(bound.get(other, ())) == 1:
                queue += (value for value in bound.pop(other) if value is not None)
            case ast.Tuple(elts=inside) | ast.List(elts=inside) | ast.Dict(values=inside):
                queue += inside
            case ast.Starred(value=inner):
                queue.append(inner)
            case ast.IfExp():
                queue += expression.body, expression.orelse
            case _:
                pass
    return name in bound or any(_root(expression) == name for expression in queue)


def _changes(body: Sequence[ast.stmt], lost_only: bool) -> Iterator[tuple[str | None, int]]:
    """The names of values that are changed in place, each with the line."""
    methods = _OF_LISTS if lost_only else _CHANGES
    for node in inner_parts(body):
        match node:
            case ast.Subscript(ctx=ast.Store() | ast.Del()):
                yield _root(node.value), node.lineno
            case ast.Attribute(ctx=ast.Store() | ast.Del()) if not lost_only:
                yield _root(node.value), node.lineno
            case ast.Call(func=ast.Attribute(value=owner, attr=method)) if method in methods:
                yield _root(owner), node.lineno
            case _:
                pass


def _root(value: ast.expr | None) -> str | None:
    """The name of the object that an expression is a part of."""
    while isinstance(value, ast.Subscript | ast.Attribute):
        value = value.value
    return value.id if isinstance(value, ast.Name) else None


# -- state on the node ---------------------------------------------------------------------------

_SETS = opmap["STORE_ATTR"]


class _Handed(NamedTuple):
    """An attribute that one phase sets and a later one reads."""

    name: str
    setter: str
    reader: str
    where: tuple[str, int]


def check_handed(subject: Subject, *, at_once: bool = False) -> Iterator[Finding]:
    """Attributes by which a phase of a class passes a value to a later one.

    Args:
        subject: The flow.
        at_once: Only those of nodes that a ``FanOut`` runs for several items at the same time; for
        a flow without a database, nothing else is reported anyway.
    """
    for at in subject.classes if subject.stored and not at_once else _of_items(subject):
        node = at.vertex.node
        if isinstance(node, FunctionNode) or node.is_flow:
            continue
        for handed in _handed(node):
            yield subject.finding(
                "PF409",
                f"{handed.setter} sets self.{handed.name}, which {handed.reader} reads: branches "
                "and runs at the same time share the node, and a resume may begin between the two",
                f"return it from {handed.setter}, or put it into the store",
                at=at,
                where=handed.where,
            )


def _of_items(subject: Subject) -> Iterator[Site]:
    """The nodes that may be executed several times at once in one run."""
    inside: set[int] = set()
    for at, node in subject.fans_out:
        if isinstance(node, FanOut) and node.limit != 1:
            for branch in at.vertex.branches:
                inside.update(
                    id(node) for graph in branch.inner_first() for node in graph.nodes.values()
                )
    return (at for at in subject.nodes if id(at.vertex) in inside)


def _handed(node: Node) -> Iterator[_Handed]:
    kind: type = type(node)
    names = [phase for phase in PHASES if overrides(kind, phase) or phase == "post"]
    phases = {name: _methods(kind, *functions_of(node, (name,))) for name in names}
    reported: set[str] = set()
    for number, setter in enumerate(phases):
        for function in phases[setter]:
            others = [phase for phase in phases[setter] if phase is not function]
            later = [name for name in names[number + 1 :] if function not in phases[name]]
            for name, line in _set_in(function) if later else ():
                reader = next((phase for phase in later if _is_read(name, phases[phase])), None)
                if reader is not None and name not in reported and not _is_read(name, others):
                    reported.add(name)
                    yield _Handed(name, setter, reader, (function.__code__.co_filename, line))


@remembered
def _methods(kind: type, *functions: FunctionType) -> list[FunctionType]:
    """Functions of a class, and the methods of it that they call, transitively."""
    bases = [vars(base) for base in kind.__mro__]
    found = reached(kind, *functions)
    methods = {f for f in found if any(base.get(f.__name__) is f for base in bases)}
    return [function for function in found if function in methods.union(functions)]


def _set_in(function: FunctionType) -> Iterator[tuple[str, int]]:
    """The attributes that a phase sets on its node without testing them first, as for a cache."""
    found = definition_of(function) if _SETS in function.__code__.co_code[::2] else None
    if found is None or not found[0].args.args:
        return
    owner, parts = found[0].args.args[0].arg, [*inner_parts(found[0].body)]
    asked: dict[str, int] = {}
    ends: dict[int, int] = {}
    for part in parts:
        match part:
            case ast.Attribute(value=ast.Name(id=name), attr=attr, ctx=ast.Load()) if name == owner:
                asked.setdefault(attr, part.lineno)
            case ast.Call(args=[ast.Name(id=name), ast.Constant(str(attr)), *_]) if name == owner:
                asked.setdefault(attr, part.lineno)  # getattr and hasattr
            case ast.Compare(left=ast.Constant(str(attr))):
                asked.setdefault(attr, part.lineno)  # "client" in vars(self)
            case ast.Assign(end_lineno=int(last)) | ast.AnnAssign(end_lineno=int(last)):
                ends.update((id(inner), last) for inner in ast.walk(part))
            case _:
                pass
    for part in parts:
        match part:
            case ast.Attribute(value=ast.Name(id=name), ctx=ast.Store()) if name == owner:
                last = ends.get(id(part), part.lineno)
                if asked.get(part.attr, last + 1) > last:
                    yield part.attr, part.lineno
            case _:
                pass


def _is_read(name: str, functions: Iterable[FunctionType]) -> bool:
    return any(name in _read_in(function) for function in functions)


@remembered
def _read_in(function: FunctionType) -> set[str]:
    """The attributes of its node that a method reads."""
    found = definition_of(function)
    if found is None or not found[0].args.args:
        return set()
    owner = found[0].args.args[0].arg
    read: set[str] = set()
    for part in ast.walk(found[0]):
        match part:
            case ast.Attribute(value=ast.Name(id=name), ctx=ast.Load()) if name == owner:
                read.add(part.attr)
            case _:
                pass
    return read
