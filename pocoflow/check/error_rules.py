"""Edges that errors take: whether one is ever taken, and what it writes."""

from __future__ import annotations

from collections.abc import Iterator
from types import FunctionType
from typing import Any

from pocoflow.check.assignable import fits_field
from pocoflow.check.class_rules import hints_of
from pocoflow.check.findings import Finding
from pocoflow.check.subject import Level, Subject
from pocoflow.graph.graph import GraphNode, label
from pocoflow.graph.wiring import GraphEdge
from pocoflow.messages import closest, type_label
from pocoflow.nodes.edges import Catch
from pocoflow.values.failures import Failure

__all__ = ["check_errors"]


def check_errors(subject: Subject) -> Iterator[Finding]:
    """Every finding about an edge that errors take."""
    for level in subject.levels:
        edges = {(e.source, e.action): e for e in level.graph.edges if e.is_error}
        for place in level.graph.nodes.values():
            for number, one in enumerate(place.catches):
                edge = edges[place.name, one.catch.label]
                earlier = [before.kinds for before in place.catches[:number]]
                taken = tuple(kind for kinds in earlier for kind in kinds)
                yield from _never_taken(subject, level, place, edge, one.catch, taken)
                yield from _written(subject, level, place, edge, one.catch)


def _never_taken(
    subject: Subject,
    level: Level,
    place: GraphNode,
    edge: GraphEdge,
    catch: Catch,
    taken: tuple[type[Exception], ...],
) -> Iterator[Finding]:
    for kind in catch.kinds:
        before = next((one for one in taken if issubclass(kind, one)), None)
        if before is not None:
            yield subject.finding(
                "PF108",
                f"an edge of {place.name!r} catches {kind.__qualname__}, which an edge before it "
                f"for {before.__qualname__} takes already",
                "write the edge for the narrower class first, or take one of the two out",
                node=label(place.name, level.path),
                edge=edge,
            )


def _given(catch: Catch) -> Any:
    """The type of what an edge writes; ``None`` if it is not known."""
    value = catch.value
    if value is None:
        return Failure
    if isinstance(value, type):
        return value
    return hints_of(value).get("return") if isinstance(value, FunctionType) else None


def _written(
    subject: Subject, level: Level, place: GraphNode, edge: GraphEdge, catch: Catch
) -> Iterator[Finding]:
    field, fields = catch.field, subject.fields
    if field is None or not fields:
        return
    name = label(place.name, level.path)
    if fields.lacks(field.name):
        yield subject.finding(
            "PF201",
            f"the edge for its errors writes {field.name!r}, which {fields.label} does not have"
            f"{closest(field.name, fields.names)} (fields: {', '.join(fields.names)})",
            f"correct the name, or add the field to {fields.label}",
            node=name,
            edge=edge,
        )
        return
    given = _given(catch)
    takes = fields.takes(field.name)
    if given is not None and not fits_field(given, takes):
        yield subject.finding(
            "PF203",
            f"the edge for its errors writes {type_label(given)} to field {field}, which holds "
            f"{type_label(takes)}",
            f"let the field hold {type_label(given)}, or make another value of the error with "
            "catch(..., value=...)",
            node=name,
            edge=edge,
        )
