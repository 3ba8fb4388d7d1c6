"""PF408 and PF409: what ``exec`` changes of the store's, and what phases hand on by their node."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence
from dis import opmap
from types import CodeType, FunctionType
from typing import NamedTuple

from pocoflow.check.call_rules import exec_functions
from pocoflow.check.findings import Finding
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
"""Methods with which containers are changed."""

_OF_LISTS = frozenset(
    ("append", "appendleft", "extend", "popitem", "popleft", "setdefault", "sort")
)
"""Those that are hardly of a client or an index, which may be shared instead of copied."""

_WHY = {
    True: "with several attempts, a timeout, journaled calls or an exec_fallback it works on a "
    "copy, so the change is lost",
    False: "with several attempts it works on a copy, and after a crash its result is taken from "
    "the record, so the change is lost",
}

_STORING = ("STORE_SUBSCR", "DELETE_SUBSCR", "STORE_SLICE", "STORE_ATTR", "DELETE_ATTR")

_STORES = frozenset(code for name, code in opmap.items() if name in _STORING)


def check_inputs(subject: Subject, *, lost_only: bool = False) -> Iterator[Finding]:
    """What ``exec`` changes that only ``post``, or ``writes=``, should.

    Args:
        subject: The flow.
        lost_only: Only what each run loses, as ``exec`` works on a copy there.
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
    """Each function, and a node of each other class, one that works on a copy if there is one."""
    found: dict[object, Site] = {}
    for at in subject.nodes:
        node = at.vertex.node
        which = node if isinstance(node, FunctionNode) else type(node)
        if which not in found or (at.vertex.copies_input and not found[which].vertex.copies_input):
            found[which] = at
    return found.values()


def _of_the_store(node: Node, work: Function) -> list[str]:
    """The parameters of ``exec`` that are given what the store holds."""
    if isinstance(node, FunctionNode):
        return [one.name for one in node.signature.parameters if one.field is not None]
    taken = [one.arg for one in (*work.args.posonlyargs, *work.args.args)][1:2]
    return taken if any(map(_hands_out, functions_of(node, ("prep",)))) else []


def _hands_out(prep: FunctionType) -> bool:
    """Whether a ``prep`` returns the store, or what it holds, as it is."""
    found = definition_of(prep)
    if found is None or len(found[0].args.args) < 2:
        return False
    store, body = found[0].args.args[1].arg, found[0].body
    bound = bindings_of(body)
    returned = [one.value for one in inner_parts(body) if isinstance(one, ast.Return)]
    for one in returned:
        if isinstance(one, ast.Name) and len(bound.get(one.id, ())) == 1:
            (one,) = bound[one.id]
        if one is not None and store not in bound and _is_held(one, store):
            return True
    return False


def _is_held(value: ast.expr, store: str) -> bool:
    match value:
        case ast.Name(id=name) | ast.Subscript(value=ast.Name(id=name)):
            return name == store
        case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr="get")):
            return name == store
        case ast.Attribute(value=ast.Attribute(value=ast.Name(id=name), attr="state")):
            return name == store
        case _:
            return False


def _may_change(code: CodeType) -> bool:
    """Whether it is worth reading the source of a function: most change nothing in place."""
    return not (_STORES.isdisjoint(code.co_code[::2]) and _CHANGES.isdisjoint(names_in(code)))


def _is_own(body: Sequence[ast.stmt], name: str) -> bool:
    """Whether a name stands for something else as well, or what it stands for is returned."""
    bound = bindings_of(body)
    queue = [one.value for one in inner_parts(body) if isinstance(one, ast.Return)]
    for one in queue:  # grows while it is walked through
        match one:
            case ast.Name(id=other) if other != name and len(bound.get(other, ())) == 1:
                queue += (value for value in bound.pop(other) if value is not None)
            case ast.Tuple(elts=inside) | ast.List(elts=inside) | ast.Dict(values=inside):
                queue += inside
            case ast.Starred(value=inner):
                queue.append(inner)
            case ast.IfExp():
                queue += one.body, one.orelse
            case _:
                pass
    return name in bound or any(_root(one) == name for one in queue)


def _changes(body: Sequence[ast.stmt], lost_only: bool) -> Iterator[tuple[str | None, int]]:
    """The names of what is changed in place, each with the line; maybe of lists and dicts alone."""
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
    """The name of what something is a part of."""
    while isinstance(value, ast.Subscript | ast.Attribute):
        value = value.value
    return value.id if isinstance(value, ast.Name) else None


# -- what phases hand on -------------------------------------------------------------------------

_SETS = opmap["STORE_ATTR"]


class _Handed(NamedTuple):
    """An attribute that one phase sets and a later one reads."""

    name: str
    setter: str
    reader: str
    where: tuple[str, int]


def check_handed(subject: Subject, *, at_once: bool = False) -> Iterator[Finding]:
    """Attributes by which a phase of a class hands something to a later one.

    Args:
        subject: The flow.
        at_once: Only those of nodes that a ``FanOut`` runs for several items at the same time; of a
            flow that keeps no runs, nothing else is told anyway.
    """
    for at in subject.classes if subject.stored and not at_once else _of_items(subject):
        node = at.vertex.node
        if isinstance(node, FunctionNode) or node.is_flow:
            continue
        for one in _handed(node):
            yield subject.finding(
                "PF409",
                f"{one.setter} sets self.{one.name}, which {one.reader} reads: branches and runs "
                "at the same time share the node, and a resume may begin between the two",
                f"return it from {one.setter}, or put it into the store",
                at=at,
                where=one.where,
            )


def _of_items(subject: Subject) -> Iterator[Site]:
    """The nodes of which several may be at work at the same time in one run."""
    inside: set[int] = set()
    for at, node in subject.fans_out:
        if isinstance(node, FanOut) and node.limit != 1:
            for branch in at.vertex.branches:
                inside.update(
                    id(one) for graph in branch.inner_first() for one in graph.nodes.values()
                )
    return (at for at in subject.nodes if id(at.vertex) in inside)


def _handed(node: Node) -> Iterator[_Handed]:
    kind: type = type(node)
    names = [phase for phase in PHASES if overrides(kind, phase) or phase == "post"]
    phases = {one: _methods(kind, *functions_of(node, (one,))) for one in names}
    told: set[str] = set()
    for number, setter in enumerate(phases):
        for function in phases[setter]:
            others = [one for one in phases[setter] if one is not function]
            later = [one for one in names[number + 1 :] if function not in phases[one]]
            for name, line in _set_in(function) if later else ():
                reader = next((one for one in later if _is_read(name, phases[one])), None)
                if reader is not None and name not in told and not _is_read(name, others):
                    told.add(name)
                    yield _Handed(name, setter, reader, (function.__code__.co_filename, line))


@remembered
def _methods(kind: type, *functions: FunctionType) -> list[FunctionType]:
    """Functions of a class, and the methods of it that they name, and so on."""
    bases = [vars(base) for base in kind.__mro__]
    found = reached(kind, *functions)
    own = {one for one in found if any(it.get(one.__name__) is one for it in bases)}
    return [one for one in found if one in own.union(functions)]


def _set_in(function: FunctionType) -> Iterator[tuple[str, int]]:
    """What a phase sets on its node, unless it asks for it first, as for a client that is kept."""
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
                ends.update((id(one), last) for one in ast.walk(part))
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
    return any(name in _read_in(one) for one in functions)


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
