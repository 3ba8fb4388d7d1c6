"""Rules that flows declare about the order of visits, proved on every path.

A rule is an automaton with two states whose input is a sequence of visits: ``a``, the one that it
requires or forbids, and ``b``, the one that this is before or after. Its product with the flow is
explored breadth first, so that the path of a finding is a shortest one. Steps of parallel branches
may come in any order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import NamedTuple, TypeAlias

from pocoflow.check.findings import Finding
from pocoflow.check.flat import Spot, Walk, Way, path_text
from pocoflow.check.subject import Level, Subject
from pocoflow.graph.graph import Graph, Vertex, label
from pocoflow.graph.order import OrderRule, Visited
from pocoflow.nodes.edges import ANY_ACTION
from pocoflow.nodes.parallel import FAILED, FanOut, SplitNode
from pocoflow.nodes.subflow import Subflow

Path: TypeAlias = tuple[tuple[str, str | None], ...]
"""The names of nodes, each with the action that leads to it."""


class _State(NamedTuple):
    """The state of a rule.

    Attributes:
        value: ``before``: whether the required node was visited; ``after``: whether it still has to
            be; ``never after``: whether it is forbidden from here on.
        touched: Whether the branch has changed the value.
    """

    value: bool
    touched: bool = False


@dataclass(slots=True)
class _Explored:
    """Everything that may happen in a flow or a branch.

    Attributes:
        ends: The states in which it may end, each with the action; ``None`` if unknown.
        inside: The states in which it may be stopped.
        failing: The states in which an error may leave it.
        first: A path to the first ``a`` and the first ``b`` in it.
        broken: A path on which the rule is broken, if there is one.
    """

    ends: set[tuple[_State, str | None]] = field(default_factory=set)
    inside: set[_State] = field(default_factory=set)
    failing: set[_State] = field(default_factory=set)
    first: dict[str, Path] = field(default_factory=dict)
    broken: Path | None = None


class _Outcome(NamedTuple):
    """The states after a node.

    Attributes:
        ended: The states in which it ended, each with the action; ``None`` if unknown.
        collected: Those in which failures of its branches were collected.
        raised: Those in which it raised an error.
        inside: Those in which it was stopped.
    """

    ended: set[tuple[_State, str | None]]
    collected: set[_State]
    raised: set[_State]
    inside: set[_State]

    def on(self, vertex: Vertex, way: Way) -> set[_State]:
        """The states in which a node may be left by one of its edges."""
        if way.catch is not None:
            return self.raised
        if way.action == FAILED and _collects(vertex):
            return self.collected
        return {
            state
            for state, action in self.ended
            if None in (action, way.action) or action == way.action
        }


def check_order(subject: Subject) -> Iterator[Finding]:
    """A finding for each rule that a path breaks, or that has no effect in its flow."""
    for level in (at for at in subject.levels if at.graph.rules):
        begins = subject.vertex if level.graph is subject.graph and subject.is_new else None
        walk = Walk(begins or level.graph.start)
        for rule in level.graph.rules:
            idle = _idle(level.graph, rule)
            if idle is None:
                yield from _broken(subject, level, rule, walk)
            else:
                yield subject.finding("PF114", *idle, where=rule.where)


def _broken(subject: Subject, level: Level, rule: OrderRule, walk: Walk) -> Iterator[Finding]:
    found = _Proof(rule).explore(walk, False, is_whole=True).broken
    if found is None:
        return
    what, other = rule.what, rule.other
    message = {
        "before": f"{other} can come without {what} before it",
        "after": f"the flow can end without {what} after {other}",
        "never after": f"{what} can come after {other}",
    }[rule.kind]
    if rule.each:
        message = f"{other} can come without {what} since the last {other}"
    steps = [(label(name, level.path) if name != "END" else name, action) for name, action in found]
    last = next((name for name, _ in reversed(steps) if name != "END"), None)
    yield subject.finding(
        "PF113",
        f"the rule {rule} is broken on the path {path_text(steps)}: {message}",
        "lead that path another way, or change the rule",
        node=last,
        where=rule.where,
    )


def _idle(graph: Graph, rule: OrderRule) -> tuple[str, str] | None:
    """The message and the fix for a rule that has no effect in its flow."""
    if rule.kind in ("require", "forbid"):
        ways = ".after(node)" if rule.kind == "forbid" else ".before(node) or .after(node)"
        return f"the rule {rule} does not say when", f"go on with {ways}"
    for visited in (rule.what, rule.other):
        found = graph.find(visited.node)
        if found is None:
            return (
                f"the rule {rule} is about {visited.node.name!r}, which is not in this flow",
                "write the edges that lead to it, or take the rule out",
            )
        actions = found[1].declared
        if not (visited.action is None or actions is None or visited.action in actions):
            message = f"the rule {rule} is about an action that {visited.node.name!r} never returns"
            return f"{message} (it returns: {', '.join(map(repr, actions))})", "write one of those"
    return None


_Here: TypeAlias = tuple[Spot, _State]


class _States:
    """The possible states of a rule at each spot of a walk, breadth first.

    Args:
        read: Returns the state after an event; ``None`` if that breaks the rule.
        must_be_done: Whether a required visit may not be pending at an end.
        start: The state in which the walk begins.

    Attributes:
        found: The results so far.
        queue: The spots to explore next.
    """

    def __init__(
        self, read: Callable[[_State, str], _State | None], must_be_done: bool, start: _State
    ) -> None:
        self._read, self._must_be_done = read, must_be_done
        self._came: dict[_Here, tuple[_Here, str] | None] = {}
        self.found = _Explored(inside={start})
        self.queue: deque[_Here] = deque()

    def path(self, here: _Here | None) -> Path:
        """A shortest path to a spot."""
        steps: list[tuple[str, str | None]] = []
        while here is not None:
            before = self._came[here]
            steps.append((here[0].name, None if before is None else before[1]))
            here = None if before is None else before[0]
        return tuple(reversed(steps))

    def go(self, source: _Here | None, way: Way, state: _State, happens: str) -> None:
        """Follow one edge with its events."""
        found, target, action = self.found, way.target, way.action or ANY_ACTION
        name = "END" if target is None else target.name
        step = (name, None if source is None else action)
        for event in happens:
            found.first.setdefault(event, (*self.path(source), step))
            after = self._read(state, event)
            if after is None:
                found.broken = found.broken or (*self.path(source), step)
                return
            state = after
        if target is None:
            found.ends.add((state, way.ending))
            if self._must_be_done and state.value:
                found.broken = found.broken or (*self.path(source), step)
        elif (target, state) not in self._came:
            here = (target, state)
            self._came[here] = None if source is None else (source, action)
            self.queue.append(here)


class _Proof:
    """Explores one rule through flows and branches."""

    def __init__(self, rule: OrderRule) -> None:
        self._rule = rule
        self._known: dict[tuple[int, bool], _Explored] = {}
        self._walks: dict[int, Walk] = {}

    def explore(self, walk: Walk, value: bool, *, is_whole: bool = False) -> _Explored:
        """Everything that may happen from the start of a walk.

        Args:
            walk: The walk.
            value: The state of the rule there.
            is_whole: Whether it is the flow of the rule, and not a branch in it.
        """
        states = _States(self._read, is_whole and self._rule.kind == "after", _State(value))
        start, found = walk.start, states.found
        for happens in self._entering(start.frames, start):
            states.go(None, Way(None, start), _State(value), happens)
        while states.queue and not found.broken:
            here = states.queue.popleft()
            spot, state = here
            outcome = _Outcome({(state, None)}, set(), {state}, {state})
            if spot.vertex.branches:
                outcome = self._branches(spot, state, states.path(here), found)
            found.inside |= outcome.inside
            if not _catches_all(spot):
                found.failing |= outcome.raised
            for way in spot.ways:
                after = outcome.on(spot.vertex, way)
                for happens in self._happens(spot, way):
                    for next_state in after:
                        states.go(here, way, next_state, happens)
        found.inside |= _ends(found)
        return found

    # -- the events of an edge -------------------------------------------------------------------

    def _read(self, state: _State, happens: str) -> _State | None:
        """The state after an event; ``None`` if that breaks the rule."""
        kind, value = self._rule.kind, state.value
        if kind == "before":
            if happens == "a":
                return _State(True, True)
            if not value:
                return None
            return _State(False, True) if self._rule.each else state
        if kind == "after":
            return _State(happens == "b", True)
        if happens == "b":
            return _State(True, True)
        return None if value else state

    def _happens(self, spot: Spot, way: Way) -> Iterator[str]:
        """The possible events of an edge: ends and starts of nodes, flows left and entered."""
        vertices = (*spot.frames, spot.vertex)
        caught = len(vertices)
        if way.catch is not None:
            caught = next(n for n, v in enumerate(vertices) if v.node is way.catch.node)
        parts = []
        for depth in range(len(spot.frames), way.depth - 1, -1):
            action = way.action if depth == len(spot.frames) else way.ending
            if caught > depth:
                parts.append(self._ending(vertices[depth], action))
            elif way.catch is not None and way.catch.spent is not None:
                # A budget may be spent when the node has finished, or before.
                parts.append([*self._ending(vertices[depth], None, is_any=True), ""])
        target = way.target
        parts.append([""] if target is None else self._entering(target.frames[way.depth :], target))
        return map("".join, product(*parts))

    def _entering(self, frames: Sequence[Vertex], spot: Spot) -> list[str]:
        return ["".join(self._beginning(vertex) for vertex in (*frames, spot.vertex))]

    def _beginning(self, vertex: Vertex) -> str:
        return "".join(name for name, it in self._watched(begins=True) if it.node is vertex.node)

    def _ending(self, vertex: Vertex, action: str | None, *, is_any: bool = False) -> list[str]:
        """The possible events at the end of a node.

        An action of ``None`` is any without an edge, or any at all.
        """
        found = [""]
        for name, visited in self._watched(begins=False):
            if visited.node is not vertex.node:
                continue
            if visited.action is None or visited.action == action:
                found = [f"{before}{name}" for before in found]
            elif is_any or (action is None and visited.action not in vertex.targets):
                found += [f"{before}{name}" for before in found]
        return found

    def _watched(self, *, begins: bool) -> Iterator[tuple[str, Visited]]:
        """The visits that count when a node begins, or when it ends.

        A required visit counts when it is finished; all others count from their start, unless they
        are about the action that ends them.
        """
        what, other = self._rule.what, self._rule.other
        if (self._rule.kind == "never after") == begins:
            yield "a", what
        if (other.action is None) == begins:
            yield "b", other

    # -- parallel branches ------------------------------------------------------------------------

    def _branches(self, spot: Spot, state: _State, path: Path, found: _Explored) -> _Outcome:
        """The states after a node with branches; the events in these are recorded."""
        node = spot.vertex.node
        assert isinstance(node, SplitNode)
        if isinstance(node, FanOut) and node.limit == 1:
            return self._in_turn(spot, state, path, found)
        branches = [self._explored(graph, state.value) for graph in spot.vertex.branches]
        for branch in branches:
            self._record(branch, spot, path, found)
        self._record_parallel(branches, spot, path, found)
        return _joined_by(state, branches, node)

    def _in_turn(self, spot: Spot, state: _State, path: Path, found: _Explored) -> _Outcome:
        """The states after a branch that works on one item after the other."""
        raised, inside = {state}, {state}
        queue = [(state, False)]
        for current, has_failed in queue:  # grows during iteration
            branch = self._explored(spot.vertex.branches[0], current.value)
            self._record(branch, spot, path, found)
            failing = {_after(current, other) for other in branch.failing}
            inside |= {_after(current, other) for other in branch.inside}
            after_branch = {(_after(current, other), has_failed) for other in _ends(branch)}
            if _collects(spot.vertex):
                after_branch |= {(other, True) for other in failing}
            else:
                raised |= failing
            queue += after_branch - {*queue}
        ended = {(end, None) for end, has_failed in queue if not has_failed}
        collected = {end for end, has_failed in queue if has_failed}
        reached = {end for end, _ in queue}
        return _Outcome({*ended}, collected, raised | reached, inside | reached)

    def _explored(self, graph: Graph, value: bool) -> _Explored:
        key = (id(graph), value)
        if key not in self._known:
            if id(graph) not in self._walks:
                self._walks[id(graph)] = Walk(graph.start)
            self._known[key] = self.explore(self._walks[id(graph)], value)
        return self._known[key]

    def _record(self, inside: _Explored, spot: Spot, path: Path, found: _Explored) -> None:
        for name, way in inside.first.items():
            found.first.setdefault(name, _inside(spot, path, way))
        if inside.broken is not None:
            found.broken = found.broken or _inside(spot, path, inside.broken)

    def _record_parallel(
        self, branches: Sequence[_Explored], spot: Spot, path: Path, found: _Explored
    ) -> None:
        """Record a rule that a branch breaks because another one runs in parallel."""
        # A visit in one branch may be undone for the rule by the other before it counts.
        pair = {"before": ("b", "b"), "never after": ("b", "a")}.get(self._rule.kind)
        if pair is None or (self._rule.kind == "before" and not self._rule.each):
            return
        is_fan = isinstance(spot.vertex.node, FanOut)
        for number, branch in enumerate(branches):
            for other_number, other in enumerate(branches):
                if number == other_number and not is_fan:
                    continue
                if pair[0] in branch.first and pair[1] in other.first:
                    first = _inside(spot, path, branch.first[pair[0]])
                    second = _inside(spot, path, other.first[pair[1]])
                    found.broken = found.broken or (*first, (second[-1][0], "beside it"))
                    return


def _catches_all(spot: Spot) -> bool:
    """Whether every error of a node is caught, there or in an enclosing flow."""
    vertices = (*spot.frames, spot.vertex)
    return any(
        issubclass(Exception, catch.catch.kinds) for vertex in vertices for catch in vertex.catches
    )


def _collects(vertex: Vertex) -> bool:
    return isinstance(vertex.node, SplitNode) and vertex.node.collects


def _inside(spot: Spot, path: Path, way: Path) -> Path:
    """A path into a branch of a node."""
    return (*path, *((spot.inside(name), action or "default") for name, action in way))


def _ends(explored: _Explored) -> set[_State]:
    return {state for state, _ in explored.ends}


def _after(before: _State, state: _State) -> _State:
    return state if state.touched else before


def _joined_by(before: _State, branches: Sequence[_Explored], node: SplitNode) -> _Outcome:
    """The states after parallel branches: all of them or, for a fan-out, any number."""
    is_fan = isinstance(node, FanOut)
    ends, inside = [_ends(branch) for branch in branches], [branch.inside for branch in branches]

    def joined(states: Sequence[set[_State]], failing: int | None = None) -> set[_State]:
        """The states if all branches are in one of the given states, or one of them fails."""
        if failing is None:
            return _joined(before, [], states) if is_fan else _joined(before, states, [])
        failed = branches[failing].failing
        if is_fan:
            return _joined(before, [failed], states)
        return _joined(before, [*states[:failing], failed, *states[failing + 1 :]], [])

    ended = {(state, None) for state in joined(ends)}
    if isinstance(node, Subflow):
        return _Outcome(
            {(_after(before, state), action) for state, action in branches[0].ends},
            set(),
            {before} | joined(ends) | joined(inside, 0),
            joined(inside),
        )
    numbers = range(len(branches))
    either = [branch.failing | _ends(branch) for branch in branches]
    collected: set[_State] = set().union(*(joined(either, number) for number in numbers))
    # Items that are not a list raise before the branches begin, conflicting writes at the merge.
    raised = {before, *joined(ends)}
    if node.collects:
        return _Outcome({*ended}, collected, raised | collected, joined(inside))
    stopped: set[_State] = set().union(*(joined(inside, number) for number in numbers))
    return _Outcome({*ended}, set(), raised | stopped, joined(inside))


def _joined(
    before: _State, branches: Sequence[set[_State]], perhaps: Sequence[set[_State]]
) -> set[_State]:
    """The states after parallel branches, each of which is in one of its states.

    Args:
        before: The state in which they begin.
        branches: The states of each branch.
        perhaps: The states of branches that may not exist.
    """
    if not all(branches):
        return set()  # one of them never gets there
    found = {state for states in (*branches, *perhaps) for state in states if state.touched}
    if all(any(not state.touched for state in states) for states in branches):
        found.add(before)
    return found
