"""Rules about the order of visits, and flows of which all that may happen is tried.

    python -m tests.unit.check.orders 2000

A random flow is described by plain values, from which the flow is built that the library looks at.
Whoever walks here knows nothing of the library: it carries out the description step by step in all
the ways that there are, branches in any order, and looks at the whole history at each visit.
"""

from __future__ import annotations

import random
import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from pocoflow import END, FanOut, Flow, Node, Parallel, key, node
from pocoflow.graph.order import Visited
from pocoflow.nodes.base import NodeLike

__all__ = ["Rule", "Spec", "breaks", "build", "compare", "drawn", "says"]

ERRORS: dict[str, type[Exception]] = {"value": ValueError, "key": KeyError, "any": Exception}
RAISED = {"value": ("value", "any"), "key": ("key", "any"), "other": ("any",)}
"""What a node may raise, and which edges catch it."""


@dataclass(eq=False)
class Spec:
    """A node or, where it has parts, what is inside of it.

    Attributes:
        name: Its name.
        kind: ``leaf``, ``flow``, ``parallel``, or ``fan``.
        actions: What a leaf may return.
        parts: The nodes of a flow, or the branches, which are flows.
        edges: Where actions of the nodes of a flow lead, by number and action; ``None`` is the end.
        errors: Where their errors lead, by number and class.
        collects: Whether failures of branches are collected.
        in_turn: Whether a fan works on one item after the other.
    """

    name: str
    kind: str
    actions: tuple[str, ...] = ()
    parts: list[Spec] = field(default_factory=list)
    edges: dict[tuple[int, str], int | None] = field(default_factory=dict)
    errors: dict[tuple[int, str], int | None] = field(default_factory=dict)
    collects: bool = False
    in_turn: bool = False

    def all(self) -> Iterator[Spec]:
        """It and all that is in it."""
        yield self
        for one in self.parts:
            yield from one.all()


@dataclass(frozen=True)
class Rule:
    """A rule: its kind, its two nodes, and the actions that they must end with."""

    kind: str
    what: Spec
    other: Spec
    each: bool = False
    what_action: str | None = None
    other_action: str | None = None


# -- what is drawn --------------------------------------------------------------------------------


def drawn(chance: random.Random) -> tuple[Spec, Rule]:
    """A random flow, and a rule about two of its nodes."""
    flow = _flow(chance, "f", 2)
    inside = [one for one in flow.all() if one is not flow and not one.name.endswith("!")]
    kind = chance.choice(("before", "before", "each", "after", "never after"))
    what, other = chance.choice(inside), chance.choice(inside)
    while what is other and kind != "never after":
        if len(inside) == 1:
            kind = "never after"
        other = chance.choice(inside)
    actions: list[str | None] = [None, None]
    for number, one in enumerate((what, other)):
        fits = (kind != "never after") if number == 0 else kind in ("after", "never after")
        if fits and one.actions and chance.random() < 0.3:
            actions[number] = chance.choice(one.actions)
    rule = Rule("before" if kind == "each" else kind, what, other, kind == "each", *actions)
    return flow, rule


def _flow(chance: random.Random, name: str, depth: int) -> Spec:
    flow = Spec(name, "flow")
    count = chance.randrange(1, 5 if depth == 2 else 3)
    for number in range(count):
        flow.parts.append(_node(chance, f"{name}{number}", depth))
    for number, one in enumerate(flow.parts):
        for action in _ending(one):
            if chance.random() < 0.85:
                target = chance.randrange(count + 1)
                flow.edges[number, action] = None if target == count else target
        for error in ERRORS:
            if chance.random() < 0.12:
                target = chance.randrange(count + 1)
                flow.errors[number, error] = None if target == count else target
    return flow


def _node(chance: random.Random, name: str, depth: int) -> Spec:
    kind = chance.choice(("leaf", "leaf", "flow", "parallel", "fan")) if depth else "leaf"
    if kind == "leaf":
        return Spec(name, "leaf", chance.choice((("x",), ("x", "y"), ("x", "y"))))
    if kind == "flow":
        return _flow(chance, name, depth - 1)
    spread = Spec(name, kind, collects=chance.random() < 0.3)
    for number in range(1 if kind == "fan" else 2):
        branch = _flow(chance, f"{name}{'ab'[number]}", depth - 1)
        branch.name += "!"
        spread.parts.append(branch)
    spread.in_turn = kind == "fan" and chance.random() < 0.5
    return spread


def _ending(spec: Spec) -> tuple[str, ...]:
    if spec.kind == "leaf":
        return spec.actions
    if spec.kind == "flow":
        return ("x", "y", "default", "failed")
    return ("default", "failed") if spec.collects else ("default",)


# -- the flow of the library ----------------------------------------------------------------------


def build(spec: Spec, rule: Rule | None = None) -> Flow[Any]:
    """The flow that a description describes, with its rule."""
    made: dict[int, NodeLike[Any]] = {}
    flow = _built(spec, made)
    if rule is not None:
        what, other = (
            Visited(made[id(one)], action)
            for one, action in ((rule.what, rule.what_action), (rule.other, rule.other_action))
        )
        given: Any = [
            one.node if one.action is None else one.node.when(one.action) for one in (what, other)
        ]
        if rule.kind == "never after":
            flow.forbid(given[0]).after(given[1])
        elif rule.kind == "after":
            flow.require(given[0]).after(given[1])
        else:
            flow.require(given[0]).before(given[1], each=rule.each)
    return flow


def _built(spec: Spec, made: dict[int, NodeLike[Any]]) -> Flow[Any]:
    nodes = [_made(one, made) for one in spec.parts]
    flow: Flow[Any] = Flow(nodes[0], flow_name=spec.name)
    for (number, action), target in spec.edges.items():
        one: Any = nodes[number]
        flow.then(one.when(action), END if target is None else nodes[target])
    # Of several edges that catch an error, the first counts.
    for (number, error), target in spec.errors.items():
        flow.then(nodes[number].catch(ERRORS[error]), END if target is None else nodes[target])
    return flow


def _made(spec: Spec, made: dict[int, NodeLike[Any]]) -> NodeLike[Any]:
    found: Node[Any, Any, Any] | Flow[Any]
    if spec.kind == "leaf":
        found = _one(spec.name) if len(spec.actions) == 1 else _two(spec.name)
    elif spec.kind == "flow":
        found = _built(spec, made)
    else:
        on_error: Literal["stop", "collect"] = "collect" if spec.collects else "stop"
        branches = [_built(one, made) for one in spec.parts]
        if spec.kind == "parallel":
            found = Parallel(*branches, name=spec.name, on_error=on_error)
        else:
            found = FanOut(
                branches[0],
                each=key("items"),
                as_=key("item"),
                name=spec.name,
                on_error=on_error,
                concurrency=1 if spec.in_turn else 2,
            )
    made[id(spec)] = found
    return found


def _one(name: str) -> Any:
    @node(name=name)
    def one() -> Literal["x"]:
        return "x"

    return one


def _two(name: str) -> Any:
    @node(name=name)
    def two() -> Literal["x", "y"]:
        return "x"

    return two


def says(flow: Flow[Any]) -> bool:
    """Whether the library says that the rule is broken."""
    return any(one.code == "PF113" for one in flow.validate())


# -- all that may happen --------------------------------------------------------------------------

Event = tuple[str, Spec, str]
"""``begin`` or ``end``, the node, and the action that ends it."""

Move = tuple[tuple[Event, ...], Any]
"""What happens, and then: a place to go on from, ``("end", action)`` or ``("error", kind)``."""


def _enter(spec: Spec) -> Iterator[Move]:
    begin: Event = ("begin", spec, "")
    if spec.kind == "leaf":
        yield (begin,), ("leaf", spec)
    elif spec.kind == "flow":
        for events, place in _begin(spec):
            yield (begin, *events), place
    elif spec.kind == "parallel":
        yield (begin,), ("branches", spec, tuple((one, None) for one in spec.parts))
    else:
        for count in range(4):
            yield (begin,), ("branches", spec, ((spec.parts[0], None),) * count)


def _begin(flow: Spec) -> Iterator[Move]:
    for events, place in _enter(flow.parts[0]):
        yield events, ("flow", flow, 0, place)


def _moves(place: Any) -> Iterator[Move]:
    kind, spec = place[0], place[1]
    if kind == "leaf":
        for action in spec.actions:
            yield (), ("end", action)
        for error in RAISED:
            yield (), ("error", error)
    elif kind == "next":
        yield from _enter(spec)
    elif kind == "flow":
        yield from _moves_in_flow(spec, place[2], place[3])
    else:
        yield from _moves_in_branches(spec, place[2])


def _moves_in_flow(flow: Spec, number: int, inner: Any) -> Iterator[Move]:
    here = flow.parts[number]
    for events, after in _moves(inner):
        if after[0] not in ("end", "error"):
            yield events, ("flow", flow, number, after)
            continue
        if after[0] == "end":
            events = (*events, ("end", here, after[1]))
            target, action = flow.edges.get((number, after[1])), after[1]
        else:
            edges = [one for one in flow.errors if one[0] == number and one[1] in RAISED[after[1]]]
            if not edges:
                yield events, after
                continue
            target, action = flow.errors[edges[0]], "default"
        if target is None:
            yield events, ("end", action)
        else:  # meanwhile other branches go on
            yield events, ("flow", flow, target, ("next", flow.parts[target]))


def _moves_in_branches(spec: Spec, branches: tuple[tuple[Any, Any], ...]) -> Iterator[Move]:
    ended = [place in ("done", "failed") for _, place in branches]
    if all(ended) or not any(place for _, place in branches):
        for error in RAISED:  # before the branches begin, and when they are merged
            yield (), ("error", error)
    if all(ended):
        is_failed = any(place == "failed" for _, place in branches)
        yield (), ("end", "failed" if is_failed else "default")
        return
    for number, (branch, place) in enumerate(branches):
        if place in ("done", "failed"):
            continue
        moves = _begin(branch) if place is None else _moves(place)
        for events, after in moves:
            now = after
            if after[0] == "end":
                now = "done"
            elif after[0] == "error":
                if not spec.collects:
                    yield events, after
                    continue
                now = "failed"
            changed = (*branches[:number], (branch, now), *branches[number + 1 :])
            yield events, ("branches", spec, changed)
        if spec.in_turn:
            return  # the others wait


def _counts(event: Event, what: str, spec: Spec, action: str | None) -> bool:
    return event[0] == what and event[1] is spec and action in (None, event[2])


def breaks(rule: Rule, history: tuple[Event, ...], *, has_ended: bool) -> bool:
    """Whether the last event of a history breaks a rule, or its end does."""
    what_at = "begin" if rule.kind == "never after" else "end"
    other_at = "begin" if rule.other_action is None else "end"
    what = [
        n for n, one in enumerate(history) if _counts(one, what_at, rule.what, rule.what_action)
    ]
    other = [
        n for n, one in enumerate(history) if _counts(one, other_at, rule.other, rule.other_action)
    ]
    last = len(history) - 1
    if rule.kind == "before":
        if last not in other:
            return False
        since = other[-2] if rule.each and len(other) > 1 else -1
        return not any(since < one < last for one in what)
    if rule.kind == "never after":
        return last in what and any(one < last for one in other)
    return has_ended and bool(other) and not any(one > other[-1] for one in what)


def _facts(rule: Rule, history: tuple[Event, ...]) -> tuple[bool, ...]:
    """What a history leaves that may matter later."""
    ends = [_counts(one, "end", rule.what, rule.what_action) for one in history]
    other_at = "begin" if rule.other_action is None else "end"
    others = [_counts(one, other_at, rule.other, rule.other_action) for one in history]
    last = max((n for n, one in enumerate(others) if one), default=-1)
    return any(ends), any(ends[last + 1 :]), any(others)


def is_broken(flow: Spec, rule: Rule, most: int = 40_000) -> bool | None:
    """Whether something may happen that breaks a rule; ``None`` if that is too much to try."""
    queue: deque[tuple[tuple[Event, ...], Any]] = deque()
    met: set[Any] = set()

    def add(history: tuple[Event, ...], events: tuple[Event, ...], place: Any) -> bool:
        for event in events:
            history = (*history, event)
            if breaks(rule, history, has_ended=False):
                return True
        if place[0] == "end":
            return breaks(rule, history, has_ended=True)
        if place[0] != "error" and (seen := (place, _facts(rule, history))) not in met:
            met.add(seen)
            queue.append((_kept(rule, history), place))
        return False

    for events, place in _begin(flow):
        if add((), events, place):
            return True
    while queue:
        if len(met) > most:
            return None
        history, place = queue.popleft()
        for events, after in _moves(place):
            if add(history, events, after):
                return True
    return False


def _kept(rule: Rule, history: tuple[Event, ...]) -> tuple[Event, ...]:
    """The events that the rule is about."""
    return tuple(one for one in history if one[1] in (rule.what, rule.other))


def compare(seed: int) -> str:
    """``broken``, ``kept``, ``skipped``, or what is wrong with the answer of the library."""
    spec, rule = drawn(random.Random(seed))
    wanted = is_broken(spec, rule)
    if wanted is None:
        return "skipped"
    found = build(spec, rule)
    if any(one.code == "PF114" for one in found.validate()):
        return "skipped"  # no edge leads to one of its nodes
    if says(found) != wanted:
        return f"seed {seed}: the library says {says(found)}, not {wanted}: {found.graph.rules}"
    return "broken" if wanted else "kept"


def main(arguments: list[str]) -> int:
    """Compare so many flows, from one on, and print how many rules were broken and kept."""
    count = int(arguments[0]) if arguments else 2000
    first = int(arguments[1]) if len(arguments) > 1 else 0
    outcomes: dict[str, int] = {}
    wrong = 0
    for seed in range(first, first + count):
        outcome = compare(seed)
        if outcome.startswith("seed"):
            wrong += 1
            print(outcome, flush=True)
        else:
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
    print(f"{count} flows: {outcomes}, {wrong} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
