"""Flows on stores of their own: each by itself, and the fields that are handed in and out."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pocoflow.check.findings import Finding
from pocoflow.check.schemas import Fields, fields_of
from pocoflow.check.subject import Site, Subject
from pocoflow.messages import type_label
from pocoflow.nodes.definitions import place_of
from pocoflow.nodes.subflow import Link, Subflow


def check_links(subject: Subject) -> Iterator[Finding]:
    """What is wrong with the links of each subflow."""
    for at, node in _subflows(subject):
        inner = fields_of(node.flow.schema)
        for link in node.inputs:
            yield from _linked(subject, at, link, (inner, inner.takes), subject.fields)
        for link in node.outputs:
            target = (subject.fields, subject.fields.increment)
            yield from _linked(subject, at, link, target, inner)


def subflows_of(subject: Subject) -> list[Subject]:
    """The flows of the subflows, each by itself with what is handed in as its inputs."""
    return [
        _alone(subject, at.name, node, () if subject.is_strict else tuple(at.place.targets))
        for at, node in _subflows(subject)
    ]


def _subflows(subject: Subject) -> Iterator[tuple[Site, Subflow]]:
    return ((at, node) for at, node in subject.spreads if isinstance(node, Subflow))


def _alone(subject: Subject, name: str, node: Subflow, expected: tuple[str, ...]) -> Subject:
    inner = fields_of(node.flow.schema)
    names = (link.target.name for link in node.inputs)
    handed = tuple(name for name in names if not inner.lacks(name))
    return Subject(
        f"{subject.flow_name}/{name}",
        node.flow.graph,
        node.flow.schema,
        handed,
        subject.stored,
        where=place_of(node),
        outputs={link.source.name: link.written for link in node.outputs},
        is_inner=True,
        ignore=node.flow.ignore,
        ends_in_time=subject.ends_in_time,
        is_watched=subject.is_watched,
        has_writers=subject.has_writers,
        around=subject.caught_of(node),
        executor=subject.executor,
        expected=expected,
    )


def _linked(
    subject: Subject,
    at: Site,
    link: Link,
    target: tuple[Fields, Callable[[str], object]],
    source: Fields,
) -> Iterator[Finding]:
    shown, (into, takes) = f"bind({link.target}).to({link.source})", target
    for field, fields in ((link.target, into), (link.source, source)):
        # What the flow around it lacks is said where every node's fields are.
        if fields is not subject.fields and fields.lacks(field.name):
            yield from subject.lacking(
                f"{shown} names", field.name, fields, at=at, where=link.written
            )
            return
    holds = source.held(link.source)
    yield from subject.misfit(
        f"{shown}: {link.target.name!r} is given {type_label(holds)}, and holds",
        holds,
        takes(link.target.name) if into else into.held(link.target),
        "bind fields of one type, or let a node convert the value",
        at=at,
        where=link.written,
    )
