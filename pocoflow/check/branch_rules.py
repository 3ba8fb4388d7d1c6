"""PF3 for branches: conflicting and useless writes; and for subflows: their links."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, get_origin

from pocoflow.check.findings import Finding
from pocoflow.check.flat import DataFlow, Spot
from pocoflow.check.node_effects import Location
from pocoflow.check.schemas import Fields, fields_of
from pocoflow.check.subject import Site, Subject
from pocoflow.errors import BranchError
from pocoflow.graph.graph import Graph
from pocoflow.messages import type_label
from pocoflow.nodes.annotations import plain
from pocoflow.nodes.definitions import location_of
from pocoflow.nodes.function import FunctionNode
from pocoflow.nodes.parallel import FanOut, SplitNode
from pocoflow.nodes.subflow import Link, Subflow


class _Written(NamedTuple):
    """A write of a key in a branch.

    Attributes:
        branch: The branch.
        node: The node in it that writes.
        location: Where in its source.
        certainty: 2 if the branch has written it at each of its ends, 1 if only on some path.
    """

    branch: str
    node: str
    location: Location
    certainty: int


def check_branches(subject: Subject) -> Iterator[Finding]:
    """Writes of parallel branches that cannot be merged, or that are never read."""
    for at, node in subject.fans_out:
        if not isinstance(node, Subflow):
            yield from _clashes(subject, at, node)
            yield from _assigned(subject, at, node)
            yield from _dropped(subject, at, node)


def _clashes(subject: Subject, at: Site, node: SplitNode) -> Iterator[Finding]:
    first: dict[str, _Written] = {}
    for branch, graph in zip(node.branches, at.vertex.branches, strict=True):
        for key, write in _writes(subject, branch.name, graph).items():
            if key in node.private or (isinstance(node, FanOut) and key == node.item):
                continue
            is_error, tip = False, ""  # a run with one item works
            if isinstance(node, FanOut):
                who = f"the branch of every item (node {write.node!r}) writes {key!r}, which has "
                who += "no reducer: two items clash"
            elif first.setdefault(key, write) is not write:
                other = first[key]
                is_error = other.certainty + write.certainty > 2  # else they may exclude each other
                tip = "let one branch write it, "
                who = (
                    f"branches {other.branch!r} (node {other.node!r}) and {write.branch!r} (node "
                    f"{write.node!r}) both write {key!r}, which has no reducer"
                )
            else:
                continue
            yield subject.finding(
                "PF303",
                who,
                f"{tip}name it in private=(key({key!r}),) if only the nodes of one branch use it, "
                "or declare how the writes are put together, as in Annotated[list[str], extend]",
                at=at,
                where=write.location.where,
                severity="error" if is_error else "warning",
            )


def _assigned(subject: Subject, at: Site, node: SplitNode) -> Iterator[Finding]:
    """Assignments of a branch to keys with a reducer, which cannot be merged."""
    for graph in at.vertex.branches:
        for spot, effects in subject.inside(graph).effects.items():
            found = [
                (value.key, value.location, value.is_certain)
                for value in effects.values
                if not value.is_default
            ]
            found += [(key, location, False) for key, location in effects.changes.items()]
            for key, location, is_sure in found:
                if key in node.private or not subject.fields.reduces(key):
                    continue
                if location.node is not None and not isinstance(spot.vertex.node, Subflow):
                    continue  # in an inner branch, which is checked separately
                does = "changes" if effects.changes.get(key) is location else "assigns to"
                severity = subject.unless_caught(spot.vertex, (BranchError,))
                yield subject.finding(
                    "PF303",
                    f"it {does} {key!r} in a parallel branch, and {key!r} has a reducer: a branch "
                    "gives it increments",
                    f"write store.reduce({key!r}, increment)",
                    node=f"{at.name}/{spot.inside(location.node)}",
                    where=location.where,
                    # On a resume, the results of branches that ended become increments.
                    severity=severity if is_sure and subject.is_new else "warning",
                )


def _dropped(subject: Subject, at: Site, node: SplitNode) -> Iterator[Finding]:
    """Writes of a branch to its private fields that nothing in it reads."""
    item = node.item if isinstance(node, FanOut) else ""
    own = node.private.union([item] if item else [])
    for graph in () if subject.is_watched else at.vertex.branches:
        flow = subject.inside(graph)
        for spot, effects in flow.effects.items():
            for key in own & effects.writes.keys():
                location = effects.writes[key]
                if _is_read_after(flow, spot, key):
                    continue
                kind = "where each branch finds its item"
                fix = "write it to another field"
                if key != item:
                    kind, fix = "private to each branch", f"take {key!r} out of private="
                yield subject.finding(
                    "PF302",
                    f"what it writes to {key!r} is dropped at the end of the branch before "
                    f"anything reads it: that field is {kind}",
                    f"{fix}, with a reducer that puts the writes of several branches together, as "
                    "in Annotated[list[str], append]; or take the write out",
                    node=f"{at.name}/{spot.inside(location.node)}",
                    where=location.where,
                )


def _is_read_after(flow: DataFlow, spot: Spot, key: str) -> bool:
    """Whether a branch may read the write of one of its nodes."""
    # A function reads its parameters before it writes; a class may read its own write.
    if key in flow.effects[spot].reads and not isinstance(spot.vertex.node, FunctionNode):
        return True
    readers = [at for at, does in flow.effects.items() if key in does.reads or does.reads_more]
    return any(flow.walk.leads(other, readers) for other in flow.walk.alike(spot))


def _writes(subject: Subject, branch: str, graph: Graph) -> dict[str, _Written]:
    """The keys that a branch assigns, each with its first write."""
    found: dict[str, _Written] = {}
    flow = subject.inside(graph)
    ends = [end for effects in flow.effects.values() for end in effects.exits]
    for spot, effects in flow.effects.items():
        # A branch changes its own copy in place, unless the value cannot be copied.
        changed = (
            pair for pair in effects.changes.items() if _is_copied(subject.fields.type_of(pair[0]))
        )
        for key, at in (*effects.writes.items(), *changed):
            if not subject.fields.reduces(key):
                certainty = (key in flow.at_ends) + any(key in end.must for end in ends)
                found.setdefault(key, _Written(branch, spot.inside(at.node), at, certainty))
    return found


def _is_copied(kind: object) -> bool:
    kind = get_origin(plain(kind)) or plain(kind)
    return kind is Any or (isinstance(kind, type) and issubclass(kind, (dict, list)))


# -- flows on their own stores --------------------------------------------------------------------


def check_links(subject: Subject) -> Iterator[Finding]:
    """Mistakes in the links of each subflow."""
    for at, node in _subflows(subject):
        inner = fields_of(node.flow.schema)
        for link in node.inputs:
            yield from _linked(subject, at, link, (inner, inner.takes), subject.fields)
        for link in node.outputs:
            target = (subject.fields, subject.fields.increment)
            yield from _linked(subject, at, link, target, inner)


def subflows_of(subject: Subject) -> list[Subject]:
    """The flows of the subflows, each with the targets of its links as its inputs."""
    return [
        _alone(subject, at.name, node, () if subject.is_strict else tuple(at.vertex.targets))
        for at, node in _subflows(subject)
    ]


def _subflows(subject: Subject) -> Iterator[tuple[Site, Subflow]]:
    return ((at, node) for at, node in subject.fans_out if isinstance(node, Subflow))


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
        where=location_of(node),
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
    (into, takes), hint = target, ""
    if not (into.lacks(link.source.name) or source.lacks(link.target.name)):
        hint = f"; or turn it round, {Link(link.source, link.target)}: what is set comes first"
    for field, fields in ((link.target, into), (link.source, source)):
        # A field that the enclosing flow lacks is reported with the fields of all nodes.
        if fields is not subject.fields and fields.lacks(field.name):
            yield from subject.lacking(
                f"{link} names", field.name, fields, hint, at=at, where=link.written
            )
            return
    holds = source.held(link.source)
    yield from subject.misfit(
        f"{link}: {link.target.name!r} is given {type_label(holds)}, and holds",
        holds,
        takes(link.target.name) if into else into.held(link.target),
        "bind fields of one type, or let a node convert the value",
        at=at,
        where=link.written,
    )
