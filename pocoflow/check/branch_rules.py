"""PF3 where branches run at the same time: what several of them write needs a reducer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, get_origin

from pocoflow.check.findings import Finding
from pocoflow.check.node_effects import Place
from pocoflow.check.subject import Site, Subject
from pocoflow.errors import BranchError
from pocoflow.graph.graph import Graph
from pocoflow.nodes.annotations import plain
from pocoflow.nodes.parallel import FanOut, Spread
from pocoflow.nodes.subflow import Subflow


class _Written(NamedTuple):
    """Where a branch writes a key.

    Attributes:
        branch: The branch.
        node: The node in it that does.
        place: Where in its source.
        certainty: 2 if the branch has written it wherever it ends, 1 if only on some path.
    """

    branch: str
    node: str
    place: Place
    certainty: int


def check_branches(subject: Subject) -> Iterator[Finding]:
    """Each key that several parallel branches write and that has no reducer."""
    for at, node in subject.spreads:
        if not isinstance(node, Subflow):
            yield from _clashes(subject, at, node)
            yield from _assigned(subject, at, node)


def _clashes(subject: Subject, at: Site, node: Spread) -> Iterator[Finding]:
    first: dict[str, _Written] = {}
    for branch, graph in zip(node.branches, at.place.branches, strict=True):
        for key, one in _writes(subject, branch.name, graph).items():
            if key in node.private or (isinstance(node, FanOut) and key == node.item):
                continue
            is_error, ways = False, ""  # a run with one item works
            if isinstance(node, FanOut):
                who = f"the branch of every item (node {one.node!r}) writes {key!r}, which has no "
                who += "reducer: two items clash"
            elif first.setdefault(key, one) is not one:
                other = first[key]
                is_error = other.certainty + one.certainty > 2  # else they may exclude each other
                ways = "let one branch write it, "
                who = (
                    f"branches {other.branch!r} (node {other.node!r}) and {one.branch!r} (node "
                    f"{one.node!r}) both write {key!r}, which has no reducer"
                )
            else:
                continue
            yield subject.finding(
                "PF303",
                who,
                f"{ways}name it in private=(key({key!r}),) if only the nodes of one branch use it, "
                "or declare how the writes are put together, as in Annotated[list[str], extend]",
                at=at,
                where=one.place.where,
                severity="error" if is_error else "warning",
            )


def _assigned(subject: Subject, at: Site, node: Spread) -> Iterator[Finding]:
    """Keys with a reducer that a branch assigns to, which cannot be put together."""
    for graph in at.place.branches:
        for spot, effects in subject.inside(graph).effects.items():
            found = [
                (one.key, one.place, one.is_certain) for one in effects.values if not one.is_default
            ]
            found += [(key, place, False) for key, place in effects.changes.items()]
            for key, place, is_sure in found:
                if key in node.private or not subject.fields.reduces(key):
                    continue
                if place.node is not None and not isinstance(spot.place.node, Subflow):
                    continue  # in a branch of its own, which is looked at by itself
                does = "changes" if effects.changes.get(key) is place else "assigns to"
                severity = subject.unless_caught(spot.place, (BranchError,))
                yield subject.finding(
                    "PF303",
                    f"it {does} {key!r} in a parallel branch, and {key!r} has a reducer: a branch "
                    "gives it increments",
                    f"write store.reduce({key!r}, increment)",
                    node=f"{at.name}/{spot.inside(place.node)}",
                    where=place.where,
                    # What a resumed run has of branches that ended becomes increments.
                    severity=severity if is_sure and subject.is_new else "warning",
                )


def _writes(subject: Subject, branch: str, graph: Graph) -> dict[str, _Written]:
    """What a branch writes by plain assignment, and where first."""
    found: dict[str, _Written] = {}
    flow = subject.inside(graph)
    ends = [one for effects in flow.effects.values() for one in effects.exits]
    for spot, effects in flow.effects.items():
        # What a branch changes in place is a copy of its own, unless it cannot be copied.
        changed = (
            one for one in effects.changes.items() if _is_copied(subject.fields.type_of(one[0]))
        )
        for key, at in (*effects.writes.items(), *changed):
            if not subject.fields.reduces(key):
                certainty = (key in flow.at_ends) + any(key in one.must for one in ends)
                found.setdefault(key, _Written(branch, spot.inside(at.node), at, certainty))
    return found


def _is_copied(kind: object) -> bool:
    kind = get_origin(plain(kind)) or plain(kind)
    return kind is Any or (isinstance(kind, type) and issubclass(kind, (dict, list)))
