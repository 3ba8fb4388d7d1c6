"""PF115: budgets that nothing is counted in, and edges for budgets that there are not."""

from __future__ import annotations

import dis
import gc
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from types import CodeType, FunctionType, ModuleType

from pocoflow.check.findings import Finding
from pocoflow.check.source import is_a, is_foreign
from pocoflow.check.subject import Subject
from pocoflow.messages import closest
from pocoflow.nodes.function import FunctionNode
from pocoflow.values.callables import names_in

_MOST = 3000
_IMPORTERS = ("import_module", "__import__")
_IMPORTS = dis.opmap["IMPORT_NAME"]
_UNPACKS = dis.opmap["CALL_FUNCTION_EX"]
_HOLDERS = (dict, list, tuple, set, frozenset, partial)


def check_budgets(subject: Subject) -> Iterator[Finding]:
    """Budgets that nothing is counted in, and edges for budgets that there are not."""
    budgets = subject.budgets
    if not (subject.is_part or subject.is_inner):  # else one of a flow around it may be meant
        yield from _never_taken(subject)
    spent = _Spending().of(subject) if budgets and not subject.graph.wraps else None
    for node in subject.lost_budgets:
        yield subject.finding(
            "PF115",
            f"node_budgets= has one of node {node!r}, which is not in the flow: it is not in force",
            "give it for a node that the start leads to, or take it out",
        )
    for name in budgets:
        if spent is not None and name not in spent:
            yield subject.finding(
                "PF115",
                f"there is a budget of {name!r}, and nothing in the flow spends any"
                f"{closest(name, spent)}",
                f"say what it costs where it is paid, context().spend({name}=...), or take the "
                "budget out",
                severity="warning",
            )


def _never_taken(subject: Subject) -> Iterator[Finding]:
    for level in subject.levels:
        vertices = level.graph.nodes.values()
        waits = [(vertex, one.catch) for vertex in vertices for one in vertex.catches]
        for vertex, catch in waits:
            for name in catch.spent or ():
                if name not in subject.budgets:
                    yield subject.finding(
                        "PF115",
                        f"the edge of {vertex.name!r} for {name!r} is never taken: the flow has no "
                        f"budget of that name{closest(name, subject.budgets)}",
                        f'give the flow one, Flow(budget={{"{name}": ...}}), or take the edge out',
                        at=level.site(vertex),
                        edge=level.edges[vertex.name, catch.label],
                        severity="warning",
                    )


class _Spending:
    """Finds the names of what functions spend, in all that they can be seen to reach.

    Objects are looked into as the garbage collector does, so that none of them is asked.
    """

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._is_open = False

    def of(self, subject: Subject) -> set[str] | None:
        """The names; ``None`` if something may spend that is not seen."""
        if subject.graph.resources:
            return None
        left: list[object] = []
        for _, graph in subject.graph.levels():
            for node in (vertex.node for vertex in graph.nodes.values()):
                if isinstance(node, FunctionNode):
                    if node.by_parameter:
                        return None
                    left.append(node.signature.function)
                left.append(node)
        seen: set[int] = set()
        while left and not self._is_open:
            one = left.pop()
            if id(one) not in seen and not _is_plain(one):
                seen.add(id(one))
                left += self._reached(one)
            if len(seen) > _MOST:
                return None
        return None if self._is_open else self._names

    def _reached(self, one: object) -> list[object]:
        """What an object has in it that a node may call, or may find there."""
        kind = type(one)
        if is_a(one, FunctionType):
            return self._function(one)
        if is_a(one, type):
            return [] if is_foreign(one.__module__) else gc.get_referents(one)
        # A descriptor is a method, a property, or a function that is wrapped.
        if not (is_a(one, _HOLDERS) or hasattr(kind, "__get__")):
            if is_foreign(kind.__module__):
                return []
            bases = [vars(base) for base in kind.__mro__[:-1]]
            # It may stand for something else, and would have to be asked.
            self._is_open |= any({"__class__", "__getattribute__"} & base.keys() for base in bases)
        return [kind, *gc.get_referents(one)]

    def _function(self, function: FunctionType) -> list[object]:
        if is_foreign(function.__module__):
            return []
        code = function.__code__
        names = names_in(code)
        if "spend" in names:
            self._is_open |= not self._keywords(code)
        self._is_open |= not names.isdisjoint(_IMPORTERS)
        self._is_open |= any(not is_foreign(one) for one in _imported(code))
        found: list[object] = [function.__defaults__, function.__kwdefaults__, vars(function)]
        for one in map(function.__globals__.get, names):
            found += [vars(one).get(name) for name in names] if is_a(one, ModuleType) else [one]
        for cell in function.__closure__ or ():
            with suppress(ValueError):  # of an empty cell
                found.append(cell.cell_contents)
        return found

    def _keywords(self, code: CodeType) -> bool:
        """Take the names of keyword arguments; whether all are seen in the code."""
        for one in code.co_consts:
            if isinstance(one, tuple):
                self._names.update(part for part in one if isinstance(part, str))
            elif isinstance(one, CodeType) and not self._keywords(one):
                return False
        return _UNPACKS not in code.co_code[::2]


def _imported(code: CodeType) -> Iterator[str]:
    """The modules that code imports when it is executed."""
    if _IMPORTS in code.co_code[::2]:
        steps = dis.get_instructions(code)
        yield from (one.argval for one in steps if one.opcode == _IMPORTS)
    for one in code.co_consts:
        if isinstance(one, CodeType):
            yield from _imported(one)


def _is_plain(one: object) -> bool:
    """Whether an object is a text or a number, which has nothing in it."""
    return not gc.is_tracked(one) and is_foreign(type(one).__module__)
