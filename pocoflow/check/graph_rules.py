"""PF1: the graph, and the writes of edges for errors."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from operator import or_
from types import FunctionType
from typing import Any

from pocoflow.check.assignable import fits
from pocoflow.check.bounds import check_limits
from pocoflow.check.class_rules import hints_of
from pocoflow.check.control import solve
from pocoflow.check.findings import Finding, Severity
from pocoflow.check.flat import Spot
from pocoflow.check.node_effects import Lacking
from pocoflow.check.subject import Level, Site, Subject
from pocoflow.check.unseen import may_stop
from pocoflow.errors import ActionError
from pocoflow.graph.graph import Vertex
from pocoflow.graph.listed_edges import GraphEdge
from pocoflow.messages import closest, type_label
from pocoflow.nodes.annotations import awaited
from pocoflow.nodes.answer_types import asks
from pocoflow.nodes.base import Node
from pocoflow.nodes.definitions import has_own_post
from pocoflow.nodes.edges import DEFAULT_ACTION, Catch, End
from pocoflow.nodes.function import FunctionNode
from pocoflow.nodes.signature import definition_location
from pocoflow.values.failures import Failure


def check_graph(subject: Subject) -> Iterator[Finding]:
    """Every finding of the family PF1."""
    for level in subject.levels:
        yield from _unreachable(subject, level)
        yield from _impossible(subject, level)
        yield from _unhandled(subject, level)
        yield from _conflicts(subject, level)
        yield from _caught(subject, level)
        yield from check_limits(subject, level)
    yield from check_namesakes(subject)
    yield from _lacking(subject)
    yield from _endless(subject)
    yield from check_unused_edges(subject)


def listed(actions: object) -> str:
    """Actions as text for messages."""
    return ", ".join(map(repr, actions if isinstance(actions, (tuple, list)) else ())) or "none"


def _unreachable(subject: Subject, level: Level) -> Iterator[Finding]:
    for vertex in level.graph.nodes.values():
        if not vertex.reachable:
            start = level.graph.start.name
            reached = [node for node in level.graph.nodes.values() if node.reachable]
            source = next((node for node in reached if not node.targets), level.graph.start)
            actions, outlet = subject.actions(source), _variable(subject, source)
            if actions and DEFAULT_ACTION not in actions:
                unused = [action for action in actions if action not in source.targets]
                outlet += f".when({(*unused, *actions)[0]!r})"
            yield subject.finding(
                "PF101",
                f"no edge leads from the start {start!r} to {vertex.name!r}",
                f"write an edge to it, such as flow.then({outlet}, {_variable(subject, vertex)}), "
                "or take its own edges out",
                at=level.site(vertex),
            )


def _impossible(subject: Subject, level: Level) -> Iterator[Finding]:
    for vertex in level.graph.nodes.values():
        actions = subject.actions(vertex)
        if actions is None:
            continue
        for action in vertex.targets:
            if action in actions:
                continue
            edge = level.edges[vertex.name, action]
            returns = f"(it returns: {listed(actions)}{closest(action, actions)})"
            fix = f"write the edge for one of those, or add {action!r} to what it returns"
            if not actions:
                returns, fix = (
                    "as it comes to no end",
                    "let it come to an end, or take the edge out",
                )
            if _is_unannotated(vertex.node):
                returns = "as it has no return annotation"
                wanted = [target for target in vertex.targets if target != DEFAULT_ACTION]
                fix = f"declare what it returns: -> Literal[{listed(wanted)}]"
            yield subject.finding(
                "PF102",
                f"an edge for action {action!r}, which {vertex.name!r} never returns {returns}",
                fix,
                at=level.site(vertex),
                edge=edge,
                severity=(
                    "warning"
                    if subject.declared(vertex) is None or subject.is_wrapped
                    else _if_declared(vertex, edge.written)
                ),
            )


def _is_unannotated(node: Node) -> bool:
    """Whether a function that returns actions has no return annotation."""
    return (
        isinstance(node, FunctionNode)
        and not node.signature.writes
        and "return" not in node.signature.hints
    )


def _if_declared(vertex: Vertex, written: str) -> Severity:
    """The severity of a wrong edge: a warning for a class that does not declare its actions."""
    silent = vertex.inner is None and not has_own_post(type(vertex.node))
    return "warning" if silent and written == "node" else "error"


def _unhandled(subject: Subject, level: Level) -> Iterator[Finding]:
    for vertex in level.graph.nodes.values():
        actions = subject.declared(vertex) if vertex.is_open else None
        if actions is None:
            continue
        if vertex.targets and _is_unannotated(vertex.node):
            continue  # its other edges are findings (PF102) that report the missing annotation
        misspelt = [target for target in vertex.targets if target not in actions]
        for action in actions:
            if action in vertex.targets or subject.is_expected(level.graph, action):
                continue
            # An edge for a misspelling of this action has its own finding (PF102).
            if not any(closest(action, [name]) for name in misspelt):
                source = f"flow.then({_variable(subject, vertex)}.when({action!r})"
                yield subject.finding(
                    "PF103",
                    f"{vertex.name!r} can return {action!r}, which has no edge: the run would end "
                    f"there (edges: {listed(vertex.actions)})",
                    f"write where it leads, {source}, ...), or that it ends on purpose, {source}, "
                    "END)",
                    at=level.site(vertex),
                    severity=_if_unhandled(subject, vertex),
                )


def _if_unhandled(subject: Subject, vertex: Vertex) -> Severity:
    """The severity of a missing edge: an untyped class may end a run in that way."""
    edges = (edge for edge in vertex.edges.values() if edge.catch is None)
    is_typed = isinstance(vertex.node, FunctionNode) or any(e.written == "flow" for e in edges)
    # A middleware may replace this action by another one.
    return "error" if is_typed and not subject.is_wrapped else "warning"


def _lacking(subject: Subject) -> Iterator[Finding]:
    """Classes that name their actions, and a ``post`` that may end without one of them."""
    for name, vertex in subject.definitions:
        post = getattr(type(vertex.node), "post", None)
        promised = vertex.promised
        if not inspect.isfunction(post):
            continue
        yield from _misgiven(subject, Site(name, vertex), post)
        if promised is None or DEFAULT_ACTION in promised:
            continue
        found = subject.effects(vertex).lacking
        if found is not None:
            yield subject.finding(
                "PF109",
                f"post of {vertex.name!r} {_ends(found)} without an action, which would be "
                f"'default', and its actions are {listed(promised)}",
                "return one of them on every way, or add 'default' to them",
                node=name,
                where=(definition_location(post)[0], found.line),
                severity="error" if found.always else "warning",
            )


def _misgiven(subject: Subject, at: Site, post: FunctionType) -> Iterator[Finding]:
    """Return values of ``post`` of a class that are not actions."""
    if isinstance(at.vertex.node, FunctionNode) or not has_own_post(type(at.vertex.node)):
        return
    found, (file, line) = subject.effects(at.vertex).misgiven, definition_location(post)
    # A wrapper of a function has its annotations, and may return something else.
    hint = Any if hasattr(post, "__wrapped__") else awaited(hints_of(post).get("return", Any))
    is_sure = at.vertex.promised is None and not fits(hint, str | None)
    if found is not None or is_sure:
        does, fix = "returns what", "return an action, and write the value to the store"
        if found is None and any(map(any, subject.returned(at.vertex))):  # it does return an action
            is_sure, fix = False, "annotate it with the actions that it returns, or with str"
            does = f"is annotated with {type_label(hint)}, which"
        is_sure = (is_sure or (found is not None and found.always)) and not subject.is_wrapped
        yield subject.finding(
            "PF109",
            f"post of {at.vertex.name!r} {does} is no action: that is a text with characters, "
            "or None for 'default'",
            fix,
            at=at,
            where=(file, line if found is None else found.line),
            severity=subject.unless_caught(at.vertex, (ActionError,)) if is_sure else "warning",
        )


def _ends(found: Lacking) -> str:
    if found.always:
        return "always ends"
    return "has a return" if found.is_bare else "can come to its end"


def _variable(subject: Subject, vertex: Vertex) -> str:
    """The probable name of a node in the program: that of its variable, or of its class."""
    name = subject.variables.get(id(vertex.node))
    if name is not None or not vertex.name.isidentifier():
        return name or "node"
    return _WORD.sub("_", vertex.name).lower()


_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def _conflicts(subject: Subject, level: Level) -> Iterator[Finding]:
    for edge, dropped in level.graph.conflicts:
        ends = [f"{_target(e)} ({e.file}:{e.line})" for e in (edge, dropped)]
        disagree = edge.written != dropped.written
        who = "the flow and the node disagree on" if disagree else "two edges for"
        rule = "the flow's counts" if disagree else "the later counts"
        yield subject.finding(
            "PF106" if disagree else "PF105",
            f"{who} action {edge.action!r} of {edge.source!r}: {ends[0]} and {ends[1]}; {rule}",
            "keep one of the two edges",
            at=level.site(level.graph.nodes[edge.source]),
            edge=edge,
            # Writing an edge of a node again is the documented way to change its target.
            severity="warning" if dropped.written == edge.written == "node" else "error",
        )


def _target(edge: GraphEdge) -> str:
    limit = "" if edge.at_most is None else f", at most {edge.at_most}"
    return f"{edge.target or 'END'}{limit}"


def check_namesakes(subject: Subject) -> Iterator[Finding]:
    """Nodes with the same name, in a flow with a database."""
    for level in subject.levels if subject.stored else ():
        found: dict[str, list[Vertex]] = {}
        for vertex in level.graph.nodes.values():
            found.setdefault(vertex.node.name, []).append(vertex)
        for name, namesakes in found.items():
            if len(namesakes) > 1:
                yield subject.finding(
                    "PF107",
                    f"{len(namesakes)} nodes are called {name!r} "
                    f"({listed([v.name for v in namesakes])} in the database): after a change of "
                    "the graph a stored run may go on at the wrong one",
                    "give each a name= of its own",
                    at=level.site(namesakes[1]),
                )


def check_unused_edges(subject: Subject) -> Iterator[Finding]:
    """Edges of the flow itself, as a node, that were meant for one of its nodes."""
    for edge in subject.unused_edges:
        vertices = subject.graph.nodes
        name = "END" if isinstance(edge.target, End) else edge.target.name
        target = subject.variables.get(id(edge.target), name)
        if (named := vertices.get(edge.action)) is not None:
            fix = f"{edge.action!r} is the name of a node: write "
            fix += f"flow.then({_variable(subject, named)}, {target})"
        else:
            ends = (v for v in vertices.values() if v.reachable and not v.actions)
            source = _variable(subject, next(ends, subject.graph.start))
            meant = source if edge.action == DEFAULT_ACTION else f"{source}.when({edge.action!r})"
            fix = f"did you mean flow.then({meant}, {target})?"
        yield subject.finding(
            "PF110",
            f"an edge leads from this flow, as a node of another one, to {name!r} for action "
            f"{edge.action!r}; it is a node of none, so the edge does nothing",
            fix,
            where=(edge.file, edge.line),
        )


def _endless(subject: Subject) -> Iterator[Finding]:
    if subject.ends_in_time:
        return
    spots = subject.walk.spots
    before: dict[Spot | None, list[Spot]] = {}
    for spot in spots:
        for way in spot.ways:
            before.setdefault(way.target, []).append(spot)
    # A question may never be answered, which ends the run as well.
    ends = {spot for spot in spots if asks(spot.vertex.node)}.union(before.get(None, ()))
    free = solve(
        dict.fromkeys(ends, True),
        lambda spot, _: ((source, True) for source in before.get(spot, ())),
        or_,
    )
    reported: set[Spot] = set()
    for spot in spots:
        if spot not in free:
            circle = _circle(spot, reported)
            if circle:
                yield _endless_finding(subject, circle)


def _circle(start: Spot, seen: set[Spot]) -> list[Spot]:
    """The loop that the first edge of each node leads to, if it is a new one."""
    trail: dict[Spot, int] = {}
    spot: Spot | None = start
    # A node without outgoing edges always raises: it ends the run, and is not a loop.
    while spot is not None and spot not in trail and spot not in seen:
        trail[spot] = len(trail)
        spot = spot.ways[0].target if spot.ways else None
    seen.update(trail)
    return [] if spot is None or spot not in trail else [*trail][trail[spot] :]


def _endless_finding(subject: Subject, circle: list[Spot]) -> Finding:
    shown = [spot.name for spot in circle[:8]] + (["..."] if len(circle) > 8 else [])
    first = circle[0]
    is_led = subject.graph.wraps or bool(subject.budgets)
    may_end = is_led or bool(subject.around) or any(may_stop(spot.vertex) for spot in circle)
    return subject.finding(
        "PF104",
        f"no way leads out of the loop {' -> '.join([*shown, first.name])}: every run that comes "
        "there goes on until max_steps",
        "give one of its nodes an action that leaves it, or an edge to END",
        at=Site(first.name, first.vertex),
        severity="warning" if may_end else "error",
    )


# -- edges that errors take -----------------------------------------------------------------------


def _caught(subject: Subject, level: Level) -> Iterator[Finding]:
    for at in (level.site(node) for node in level.graph.nodes.values() if node.catches):
        taken: tuple[type[Exception], ...] = ()
        for catch in at.vertex.catches:
            if catch.catch.spent is not None:
                continue  # it takes precedence over those for errors, for its budgets only
            edge = level.edges[at.vertex.name, catch.catch.label]
            for kind in catch.catch.kinds:
                before = next((other for other in taken if issubclass(kind, other)), None)
                if before is not None:
                    yield subject.finding(
                        "PF108",
                        f"an edge of {at.vertex.name!r} catches {kind.__qualname__}, which an edge "
                        f"before it for {before.__qualname__} takes already",
                        "write the edge for the narrower class first, or take one of the two out",
                        at=at,
                        edge=edge,
                    )
            yield from _written(subject, at, edge, catch.catch)
            taken += catch.catch.kinds


def _given(catch: Catch) -> object:
    """The type of the value that an edge writes; ``None`` if it is unknown."""
    value = catch.value
    if value is None:
        return Failure
    if isinstance(value, type):
        return value
    return hints_of(value).get("return") if isinstance(value, FunctionType) else None


def _written(subject: Subject, at: Site, edge: GraphEdge, catch: Catch) -> Iterator[Finding]:
    field, fields = catch.field, subject.fields
    if field is None or not fields:
        return
    if fields.lacks(field.name):
        yield from subject.lacking(
            "the edge for its errors writes", field.name, fields, at=at, edge=edge
        )
        return
    given = _given(catch)
    if given is not None:
        yield from subject.misfit(
            f"the edge for its errors writes {type_label(given)} to field {field}, which holds",
            given,
            fields.increment(field.name),
            f"let the field hold {type_label(given)}, or make another value of the error with "
            "catch(..., value=...)",
            at=at,
            edge=edge,
        )
