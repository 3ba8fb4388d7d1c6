"""Silenced findings, at a line or for a whole flow, and codes that silence nothing.

``# pocoflow: ignore[PF301]`` at the line of a finding, or ``Flow(ignore=("PF301",))``. A code may
be a prefix, such as ``PF3``.
"""

from __future__ import annotations

import inspect
import linecache
import re
from collections.abc import Collection, Iterator
from functools import cache
from typing import NamedTuple

from pocoflow.check.findings import Finding
from pocoflow.check.subject import Subject
from pocoflow.nodes.base import Node, made_of
from pocoflow.nodes.definitions import location_of
from pocoflow.nodes.parallel import SplitNode

_COMMENT = re.compile(r"#\s*pocoflow:\s*ignore(?:\[([\w\s,]*)\])?", re.IGNORECASE)


class Used(NamedTuple):
    """A code that silences something: of a flow, or of the comment at a line."""

    where: tuple[str | None, int | None] | None
    code: str


class Silencer:
    """Filters the findings that are silenced.

    Attributes:
        used: The codes that have silenced something.
    """

    def __init__(self, subject: Subject) -> None:
        self.used: set[Used] = set()
        around = [("", subject.ignore, subject.where)]
        for level in subject.levels[1:]:
            ignored = getattr(level.node, "ignore", ())
            if ignored and level.node is not None:
                around.append((f"{'/'.join(level.path)}/", ignored, location_of(level.node)))
        self._around = around
        self._at = cache(_codes_at)  # many nodes may have findings at the line of their class

    def is_silent(self, finding: Finding) -> bool:
        """Whether a finding is silenced."""
        node, at = finding.node or "", (finding.file, finding.line)
        around = [
            (where, codes) for prefix, codes, where in self._around if node.startswith(prefix)
        ]
        for where, codes in ((at, self._at(*at) or ()), *around):
            for code in codes:
                if finding.code.startswith(code):
                    self.used.add(Used(where, code))
                    return True
        return False


def _codes_at(file: str | None, line: int | None) -> list[str] | None:
    """The codes that the comment at a line silences; ``None`` if there is none."""
    found = _COMMENT.search(linecache.getline(file, line)) if file and line else None
    codes = None if found is None else (found[1] or "").split(",")
    return None if codes is None else [code.strip().upper() for code in codes if code.strip()]


def needless(subject: Subject, used: Collection[Used]) -> Iterator[Finding]:
    """A finding for each code of a flow, or at a line of its contents, that silences nothing."""
    where = subject.where
    for code in subject.ignore:
        if Used(where, code) not in used:
            yield _needless(subject, f"Flow(ignore=...) names {code}", where)
    for file, line in sorted(set(_lines(subject))):
        codes = _codes_at(file, line)
        if codes == []:
            yield _needless(subject, "the comment names no code, as in ignore[PF301]", (file, line))
        for code in codes or ():
            if Used((file, line), code) not in used:
                yield _needless(subject, f"the comment names {code}", (file, line))


def _needless(subject: Subject, what: str, where: tuple[str, int] | None) -> Finding:
    return subject.finding(
        "PF111", f"{what}, and nothing is silenced by that", "take it out", where=where
    )


def _lines(subject: Subject) -> Iterator[tuple[str, int]]:
    """The lines of the flow, of its edges, and of the definitions of its nodes."""
    if subject.where is not None:
        yield subject.where
    for level in subject.levels:
        for edge in level.graph.edges:
            yield edge.file, edge.line
        for vertex in level.graph.nodes.values():
            yield from _definition(vertex.node)


def _definition(node: Node) -> Iterator[tuple[str, int]]:
    made = location_of(node)
    if made is None:
        return
    file, line = made
    if node.is_flow or isinstance(node, SplitNode):
        yield made
        return
    try:
        lines, first = inspect.getsourcelines(made_of(node))
    except (OSError, TypeError):
        return
    if first <= line < first + len(lines):
        yield from ((file, number) for number in range(first, first + len(lines)))
