"""What a run can come to at most, and limits that no run reaches, against walks of graphs."""

import random
from functools import cache
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from pocoflow import END, BatchNode, FanOut, Flow, Node, Parallel, fields, key, node
from pocoflow.graph.graph import Graph, Vertex
from pocoflow.nodes.edges import End


class Step(Node[Any, Any, str]):
    """A node that works, and returns any action."""

    def exec(self, prepared: Any) -> Any:
        return prepared


class Thrice(Step):
    """A node that is tried three times."""

    max_retries = 3


class Items(BatchNode[Any, Any, str]):
    """A node that is tried twice on each item."""

    max_retries = 2

    def exec(self, item: Any) -> Any:
        return item


def loop(at_most: int) -> Flow[Any]:
    """Writes and grades, again at most so often, and publishes or gives up."""
    write, grade = Thrice(name="write"), Step(name="grade")
    flow = Flow(write)
    flow.then(write, grade).then(grade.when("good"), Step(name="publish"))
    return flow.then(grade.when("bad"), write, at_most=at_most, then=Step(name="give_up"))


def test_the_bound_of_a_loop_is_what_its_limit_allows() -> None:
    """Steps and calls of a loop are those of its rounds, and of the way before and after it."""
    bound = loop(3).bound()
    assert (bound.steps, bound.calls) == (4 * 2 + 1, 4 * (3 + 1) + 1)
    assert str(bound) == "at most 9 steps and 17 calls of exec"


def test_a_nested_flow_counts_for_each_entry() -> None:
    """What is inside of a loop is counted in each of its rounds, a nested flow with its limits."""
    inner, last = loop(2), Step(name="last")
    outer = Flow(inner, flow_name="outer")
    outer.then(inner, inner, at_most=1, then=last)
    assert outer.bound().steps == 2 * (3 * 2 + 1) + 1


def test_items_are_counted_each() -> None:
    """Of what works on items, the bound says what comes for each of them."""
    items, fan = Items(name="items"), FanOut(loop(1), each=key("a"), as_=key("b"), name="fan")
    flow = Flow(items)
    flow.then(items, fan).then(fan, Parallel(Step(name="left"), Thrice(name="right")))
    assert str(flow.bound()) == (
        "at most 5 steps and 4 calls of exec, and 2 calls of exec more for each item of 'items', "
        "and 5 steps and 9 calls of exec more for each item of 'fan'"
    )


def test_a_loop_without_a_limit_has_no_bound() -> None:
    """The loop is named, with the flows around it."""
    one, two = Step(name="one"), Step(name="two")
    inner = Flow(one, flow_name="inner")
    inner.then(one, two).then(two.when("again"), one).then(two, END)
    bound = Flow(inner, flow_name="outer").bound()
    assert (bound.steps, bound.calls) == (None, None)
    assert str(bound) == (
        "no bound but max_steps: no limit ends the loop inner/two -> inner/one -> inner/two"
    )


def test_a_loop_that_goes_on_by_its_then_has_no_bound() -> None:
    """A limit whose then leads back into the loop ends nothing."""
    one, two = Step(name="one"), Step(name="two")
    flow = Flow(one)
    flow.then(one, one, at_most=3, then=two).then(two, one)
    assert flow.bound().steps is None


class Article(BaseModel):
    """What a flow writes about."""

    topic: str
    text: str
    notes: str


A = fields(Article)


@pytest.mark.parametrize("at_most", [1, 3])
def test_where_a_limit_leads_its_edge_was_taken(at_most: int) -> None:
    """What the rounds of a loop have written may be read where its limit leads."""

    @node(writes=A.text)
    def write(topic: str) -> str:
        return topic

    @node
    def grade(text: str) -> Literal["good", "bad"]:
        return "bad" if text else "good"

    @node(writes=A.notes)
    def revise(text: str) -> str:
        return f"more than {text}"

    @node
    def give_up(notes: str) -> None:
        assert notes

    @node(writes=A.notes)
    def praise() -> str:
        return "good"

    flow = Flow(start=write, schema=Article)
    flow.then(write, grade).then(revise, write).then(grade.when("good"), praise)
    flow.then(grade.when("bad"), revise, at_most=at_most, then=give_up)
    assert flow.validate() == []
    assert flow.run({"topic": "tea"})["notes"] == "more than tea"
    flow.then(revise, END)
    assert [one.code for one in flow.validate() if one.severity == "error"] == ["PF105", "PF112"]


ACTIONS = ("a", "b", "c")


def drawn(chance: random.Random) -> Flow[Any]:
    """A random graph in which about half of the edges have limits."""
    nodes = [Step(name=f"n{number}") for number in range(chance.randrange(1, 6))]
    flow = Flow(nodes[0])
    for one in nodes:
        for action in chance.sample(ACTIONS, chance.randrange(1, 4)):
            ends: list[Step | End] = [*nodes, END]
            target, then = chance.choice(ends), chance.choice(ends)
            if chance.random() < 0.5 and target is not END and then is not target:
                flow.then(one.when(action), target, at_most=chance.randrange(1, 3), then=then)
            else:
                flow.then(one.when(action), target)
    return flow


class Walks:
    """All walks through a graph, with the counts of its limited edges."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.spent: set[tuple[str, str]] = set()
        self.is_endless = False
        self._around: set[object] = set()
        self.longest = cache(self._longest)

    def _longest(self, place: Vertex, counts: tuple[tuple[tuple[str, str], int], ...]) -> int:
        here = (place, counts)
        if here in self._around:
            self.is_endless = True
            return 0
        self._around.add(here)
        best = 0
        for action, target in place.targets.items():
            known, successor, limit = dict(counts), target, place.limits.get(action)
            if limit is not None:
                edge = (place.name, action)
                if known.get(edge, 0) == limit.at_most:
                    successor = limit.then
                    self.spent.add(edge)
                else:
                    known[edge] = known.get(edge, 0) + 1
            if successor is not None:
                best = max(best, self.longest(successor, tuple(sorted(known.items()))))
        self._around.discard(here)
        return best + 1


@pytest.mark.parametrize("seed", range(20))
def test_no_walk_is_longer_than_the_bound(seed: int) -> None:
    """On random graphs no walk exceeds the bound, and no limit that is found idle is reached."""
    chance, bounded = random.Random(seed), 0
    for _ in range(25):
        flow = drawn(chance)
        walks = Walks(flow.graph)
        longest = walks.longest(flow.graph.start, ())
        bound = flow.bound()
        if walks.is_endless:
            assert bound.steps is None
        elif bound.steps is not None:
            bounded += 1
            assert longest <= bound.steps
        for finding in flow.validate():
            if finding.code == "PF112" and finding.edge is not None:
                assert finding.edge[:2] not in walks.spent
    assert bounded


def test_limits_that_nothing_reaches_are_found() -> None:
    """A limit beside the loop, and one that a lower limit on every way back keeps from it."""

    @node
    def one() -> None: ...
    @node
    def two() -> None: ...
    @node
    def out() -> None: ...

    beside = Flow(one)
    beside.then(one, two, at_most=2, then=out)
    lower = Flow(one)
    lower.then(one, two, at_most=2, then=out).then(two, one, at_most=5, then=out)
    fine = Flow(one)
    fine.then(one, two, at_most=2, then=out).then(two, one, at_most=2, then=out)
    found = [one.message for flow in (beside, lower, fine) for one in flow.validate()]
    assert [text.partition(":")[2].partition(";")[0].strip() for text in found] == [
        "nothing leads back to it, so a run takes it once",
        "every way back takes the edge one -default-> two, which is taken 2 times at most",
    ]
