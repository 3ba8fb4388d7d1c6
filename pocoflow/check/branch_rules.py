"""PF3 where branches run at the same time: what several of them write needs a reducer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, TypeAlias, get_origin

from pocoflow.check.findings import Finding
from pocoflow.check.flat import Walk
from pocoflow.check.node_effects import Place
from pocoflow.check.subject import Subject
from pocoflow.graph.graph import Graph, GraphNode
from pocoflow.nodes.annotations import plain
from pocoflow.nodes.parallel import FanOut, Spread
from pocoflow.nodes.subflow import Subflow

__all__ = ["check_branches"]


class _Written(NamedTuple):
    """Where a branch writes a key.

    Attributes:
        node: The node that does.
        place: Where in its source.
        is_certain: Whether it does on some way out, whatever the values are.
    """

    node: str
    place: Place
    is_certain: bool


_Known: TypeAlias = dict[int, dict[str, _Written]]
"""What branches write, by the id of their graph and by key."""


def check_branches(subject: Subject) -> Iterator[Finding]:
    """Each key that several parallel branches write and that has no reducer."""
    written: _Known = {}
    for level in reversed(subject.levels):  # what is inside of a branch before the branch
        if isinstance(level.node, Spread):
            _note_writes(subject, level.graph, written)
    for name, place in subject.nodes:
        if isinstance(place.node, FanOut):
            yield from _of_items(subject, name, place, place.node, written)
        elif isinstance(place.node, Spread) and not isinstance(place.node, Subflow):
            yield from _of_branches(subject, name, place, place.node, written)


def _of_branches(
    subject: Subject, name: str, place: GraphNode, node: Spread, known: _Known
) -> Iterator[Finding]:
    first: dict[str, tuple[str, _Written]] = {}
    for branch, graph in zip(node.branches, place.branches, strict=True):
        for key, written in known[id(graph)].items():
            if key in node.private:
                continue
            if key not in first:
                first[key] = (branch.name, written)
                continue
            other, before = first[key]
            certain = before.is_certain and written.is_certain
            yield _clash(
                subject,
                name,
                f"branches {other!r} (node {before.node!r}) and {branch.name!r} (node "
                f"{written.node!r}) both write {key!r}, which has no reducer",
                written,
                is_error=certain,
            )


def _of_items(
    subject: Subject, name: str, place: GraphNode, node: FanOut, known: _Known
) -> Iterator[Finding]:
    for graph in place.branches:
        for key, written in known[id(graph)].items():
            if key not in _private(node):
                yield _clash(
                    subject,
                    name,
                    f"the branch of every item (node {written.node!r}) writes {key!r}, which has "
                    "no reducer: two items clash",
                    written,
                    is_error=False,  # a run with one item works
                )


def _clash(
    subject: Subject, name: str, message: str, written: _Written, *, is_error: bool
) -> Finding:
    return subject.finding(
        "PF303",
        message,
        "let one branch write it, or declare how the writes are put together, as in "
        "Annotated[list[str], extend]",
        node=name,
        where=written.place.where,
        severity="error" if is_error else "warning",
    )


def _note_writes(subject: Subject, graph: Graph, known: _Known) -> None:
    """What a branch writes by plain assignment, those inside of it included; the first place."""
    if id(graph) in known:
        return
    found = known[id(graph)] = {}
    for spot in Walk(graph.start).spots:
        is_own = isinstance(spot.place.node, Subflow)
        for inner in () if is_own else spot.place.branches:
            private = _private(spot.place.node)
            for key, written in known[id(inner)].items():
                if key not in private:
                    _note(found, key, written)
        if spot.place.branches and not is_own:
            continue
        effects = subject.effects(spot.place)
        for key, at in effects.writes.items():
            if not subject.fields.reduces(key):
                certain = any(key in way.must for way in effects.exits)
                _note(found, key, _Written(spot.name, at, certain))
        for key, at in effects.changes.items():
            # What a branch changes in place is a copy of its own, unless it cannot be copied.
            if _is_copied(subject.fields.type_of(key)) and not subject.fields.reduces(key):
                _note(found, key, _Written(spot.name, at, False))


def _is_copied(kind: Any) -> bool:
    kind = get_origin(plain(kind)) or plain(kind)
    return kind is Any or (isinstance(kind, type) and issubclass(kind, (dict, list)))


def _private(node: object) -> frozenset[str]:
    own = node.private if isinstance(node, Spread) else frozenset()
    return own.union((node.item,)) if isinstance(node, FanOut) else own


def _note(found: dict[str, _Written], key: str, written: _Written) -> None:
    """Keep the first place that is certain, or the first one."""
    if key not in found or (written.is_certain and not found[key].is_certain):
        found[key] = written
