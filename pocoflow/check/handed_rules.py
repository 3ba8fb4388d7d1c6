"""PF409: what a phase hands to a later one as an attribute of the node, which runs share."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dis import opmap
from types import FunctionType
from typing import NamedTuple

from pocoflow.check.findings import Finding
from pocoflow.check.source import definition_of, functions_of, inner_parts
from pocoflow.check.subject import Site, Subject
from pocoflow.nodes.base import Node
from pocoflow.nodes.definitions import overrides
from pocoflow.nodes.function import FunctionNode
from pocoflow.nodes.parallel import FanOut

_PHASES = ("prep", "exec", "exec_async", "exec_fallback", "post")
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
        node = at.place.node
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
    for at, node in subject.spreads:
        if isinstance(node, FanOut) and node.limit != 1:
            for branch in at.place.branches:
                inside.update(
                    id(one) for graph in branch.inner_first() for one in graph.nodes.values()
                )
    return (at for at in subject.nodes if id(at.place) in inside)


def _handed(node: Node) -> Iterator[_Handed]:
    own = [phase for phase in _PHASES if overrides(type(node), phase) or phase == "post"]
    told: set[str] = set()
    for number, setter in enumerate(own):
        for function in functions_of(node, (setter,)):
            for name, line in _set_in(function):
                readers = (one for one in own[number + 1 :] if name in _read_in(node, one))
                reader = next(readers, None)
                if reader is not None and name not in told:
                    told.add(name)
                    yield _Handed(name, setter, reader, (function.__code__.co_filename, line))


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


def _read_in(node: Node, phase: str) -> set[str]:
    read: set[str] = set()
    for function in functions_of(node, (phase,)):
        found = definition_of(function)
        if found is None or not found[0].args.args:
            continue
        owner = found[0].args.args[0].arg
        for part in ast.walk(found[0]):
            match part:
                case ast.Attribute(value=ast.Name(id=name), ctx=ast.Load()) if name == owner:
                    read.add(part.attr)
    return read
