"""PF115: budgets that nothing spends, and edges for budgets that do not exist."""

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
    """Budgets that nothing spends, and edges for budgets that do not exist."""
    budgets = subject.budgets
    if not (subject.is_part or subject.is_inner):  # else a budget of an enclosing flow may be meant
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
        waits = [(vertex, catch.catch) for vertex in vertices for catch in vertex.catches]
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
    """Finds the names under which functions spend, in everything they are known to reach.

    Objects are traversed by the garbage collector's referents, so no code of theirs runs.
    """

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._is_open = False

    def of(self, subject: Subject) -> set[str] | None:
        """The names; ``None`` if something unknown may spend."""
        if subject.graph.resources:
            return None
        pending: list[object] = []
        for _, graph in subject.graph.levels():
            for node in (vertex.node for vertex in graph.nodes.values()):
                if isinstance(node, FunctionNode):
                    if node.by_parameter:
                        return None
                    pending.append(node.signature.function)
                pending.append(node)
        seen: set[int] = set()
        while pending and not self._is_open:
            item = pending.pop()
            if id(item) not in seen and not _is_plain(item):
                seen.add(id(item))
                pending += self._reached(item)
            if len(seen) > _MOST:
                return None
        return None if self._is_open else self._names

    def _reached(self, item: object) -> list[object]:
        """The objects that a node may call or reach through an object."""
        kind = type(item)
        if is_a(item, FunctionType):
            return self._function(item)
        if is_a(item, type):
            return [] if is_foreign(item.__module__) else gc.get_referents(item)
        # A descriptor is a method, a property, or a wrapped function.
        if not (is_a(item, _HOLDERS) or hasattr(kind, "__get__")):
            if is_foreign(kind.__module__):
                return []
            bases = [vars(base) for base in kind.__mro__[:-1]]
            # It may be a proxy, whose code would have to run.
            self._is_open |= any({"__class__", "__getattribute__"} & base.keys() for base in bases)
        return [kind, *gc.get_referents(item)]

    def _function(self, function: FunctionType) -> list[object]:
        if is_foreign(function.__module__):
            return []
        code = function.__code__
        names = names_in(code)
        if "spend" in names:
            self._is_open |= not self._keywords(code)
        self._is_open |= not names.isdisjoint(_IMPORTERS)
        self._is_open |= any(not is_foreign(module) for module in _imported(code))
        found: list[object] = [function.__defaults__, function.__kwdefaults__, vars(function)]
        for item in map(function.__globals__.get, names):
            found += [vars(item).get(name) for name in names] if is_a(item, ModuleType) else [item]
        for cell in function.__closure__ or ():
            with suppress(ValueError):  # of an empty cell
                found.append(cell.cell_contents)
        return found

    def _keywords(self, code: CodeType) -> bool:
        """Collect the names of keyword arguments; return whether the code shows all of them."""
        for const in code.co_consts:
            if isinstance(const, tuple):
                self._names.update(part for part in const if isinstance(part, str))
            elif isinstance(const, CodeType) and not self._keywords(const):
                return False
        return _UNPACKS not in code.co_code[::2]


def _imported(code: CodeType) -> Iterator[str]:
    """The modules that code imports at run time."""
    if _IMPORTS in code.co_code[::2]:
        steps = dis.get_instructions(code)
        yield from (step.argval for step in steps if step.opcode == _IMPORTS)
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from _imported(const)


def _is_plain(item: object) -> bool:
    """Whether an object is a text or a number, without referents."""
    return not gc.is_tracked(item) and is_foreign(type(item).__module__)
