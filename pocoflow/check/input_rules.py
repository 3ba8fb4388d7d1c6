"""PF408: what ``exec`` changes in place of what is the store's."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from types import FunctionType

from pocoflow.check.call_rules import exec_functions
from pocoflow.check.findings import Finding
from pocoflow.check.source import Function, bindings_of, definition_of, functions_of, inner_parts
from pocoflow.check.subject import Subject
from pocoflow.nodes.base import Node
from pocoflow.nodes.function import FunctionNode

_CHANGES = frozenset(
    (
        *("add", "append", "appendleft", "clear", "discard", "extend", "insert", "pop", "popitem"),
        *("popleft", "remove", "reverse", "setdefault", "sort", "update"),
    )
)
"""Methods with which containers are changed."""

_BASE = Node.exec


def check_inputs(subject: Subject) -> Iterator[Finding]:
    """What ``exec`` changes that only ``post``, or ``writes=``, should."""
    for at in subject.classes:
        node = at.place.node
        for function in exec_functions(at.place):
            found = None if function is _BASE else definition_of(function)
            if found is None:
                continue
            for name in _of_the_store(node, found[0]):
                line = _changed(found[0].body, name)
                if line is not None:
                    yield subject.finding(
                        "PF408",
                        f"exec changes {name!r} in place, which is the store's: with several "
                        "attempts it works on a copy, and after a crash its result is taken from "
                        "the record, so the change is lost",
                        "return what is new, and have writes= or post put it into the store; or "
                        "change a copy",
                        at=at,
                        where=(function.__code__.co_filename, line),
                    )


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


def _changed(body: Sequence[ast.stmt], name: str) -> int | None:
    """The first line that changes what a name stands for, unless it is returned or bound anew."""
    parts = list(inner_parts(body))
    if name in bindings_of(body) or any(
        isinstance(one, ast.Return) and _root(one.value) == name for one in parts
    ):
        return None
    lines = [one.lineno for one in parts if isinstance(one, ast.expr) and _changes(one, name)]
    return min(lines, default=None)


def _changes(node: ast.expr, name: str) -> bool:
    match node:
        case (
            ast.Subscript(ctx=ast.Store() | ast.Del()) | ast.Attribute(ctx=ast.Store() | ast.Del())
        ):
            return _root(node.value) == name
        case ast.Call(func=ast.Attribute(value=owner, attr=method)):
            return method in _CHANGES and _root(owner) == name
        case _:
            return False


def _root(value: ast.expr | None) -> str | None:
    """The name of what something is a part of."""
    while isinstance(value, ast.Subscript | ast.Attribute):
        value = value.value
    return value.id if isinstance(value, ast.Name) else None
