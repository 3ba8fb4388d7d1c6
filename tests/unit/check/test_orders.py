"""Rules that flows state about the order of visits: what breaks them, and what does not."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest

from pocoflow import END, FanOut, Flow, Node, Parallel, Store, key, node
from pocoflow.errors import DefinitionError, FlowValidationError
from pocoflow.nodes.base import NodeLike
from tests.unit.check.orders import compare


class Step(Node[None, None, Literal["yes", "no"]]):
    """A node that says yes or no."""

    def post(self, store: Store[Any], prepared: None, result: None) -> Literal["yes", "no"]:
        return "yes"


class Plain(Node[None, None, None]):
    """A node that goes on."""


def messages(flow: Flow[Any]) -> list[str]:
    """What is found about the rules of a flow."""
    return [one.message for one in flow.validate() if one.code in ("PF113", "PF114")]


def chain(*nodes: NodeLike[Any]) -> Flow[Any]:
    """A flow through some nodes."""
    flow = Flow(nodes[0], flow_name="chain")
    for one, successor in itertools.pairwise(nodes):
        flow.then(one, successor)
    return flow


@pytest.fixture
def a() -> Plain:
    """A node."""
    return Plain(name="a")


@pytest.fixture
def b() -> Plain:
    """Another one."""
    return Plain(name="b")


def test_what_is_required_before_is_on_every_path(a: Plain, b: Plain) -> None:
    """A way round what is required is found, with that way."""
    start = Step(name="start")
    flow = Flow(start)
    flow.then(start.when("yes"), a).then(start.when("no"), b).then(a, b)
    flow.require(a).before(b)
    assert messages(flow) == [
        (
            "the rule require(a).before(b) is broken on the path start -no-> b: "
            "b can come without a before it"
        )
    ]
    flow = Flow(start)
    flow.then(start.when("yes"), a).then(start.when("no"), a).then(a, b).require(a).before(b)
    assert messages(flow) == []


def test_a_run_of_a_flow_that_breaks_a_rule_stops_before_its_first_node(a: Plain, b: Plain) -> None:
    """A broken rule is an error, at the line where the rule is written."""
    flow = chain(b, a).require(a).before(b)
    with pytest.raises(FlowValidationError) as caught:
        flow.run({})
    (one,) = caught.value.findings
    assert (one.code, one.severity, one.node) == ("PF113", "error", "b")
    assert one.file == __file__


def test_a_rule_counts_in_a_flow_that_has_no_types(a: Plain) -> None:
    """A flow of classic nodes that states a rule is proved, too."""

    class Classic(Node):
        pass

    one = Classic()
    one.then("default", a)
    flow = Flow(one)
    flow.forbid(a).after(one)
    with pytest.raises(FlowValidationError):
        flow.run({})


def test_each_asks_for_one_before_every_other(a: Plain) -> None:
    """With each, what was there for the last visit does not count for the next."""
    publish = Step(name="publish")
    flow = chain(a, publish)
    flow.then(publish.when("yes"), publish).then(publish.when("no"), END)
    flow.require(a).before(publish)
    assert messages(flow) == []
    flow.require(a).before(publish, each=True)
    assert messages(flow) == [
        (
            "the rule require(a).before(publish, each=True) is broken on the path a -> publish "
            "-yes-> publish: publish can come without a since the last publish"
        )
    ]
    again = chain(a, publish)
    again.then(publish.when("yes"), a).then(publish.when("no"), END)
    assert messages(again.require(a).before(publish, each=True)) == []


def test_what_is_forbidden_after_is_on_no_path(a: Plain, b: Plain) -> None:
    """Also far behind, and by way of a loop."""
    choose = Step(name="choose")
    flow = chain(a, choose)
    flow.then(choose.when("yes"), b).then(choose.when("no"), END)
    flow.forbid(a).after(b)
    assert messages(flow) == []
    flow.then(b, choose).forbid(choose).after(b)
    assert messages(flow) == [
        (
            "the rule forbid(choose).after(b) is broken on the path a -> choose -yes-> b -> "
            "choose: choose can come after b"
        )
    ]


def test_a_node_that_is_forbidden_after_itself_comes_once(a: Plain) -> None:
    """forbid(send).after(send) says that nothing is sent twice."""
    assert messages(chain(a, Plain(name="end")).forbid(a).after(a)) == []
    loop = Step(name="loop")
    flow = Flow(loop)
    flow.then(loop.when("yes"), loop).then(loop.when("no"), END)
    assert len(messages(flow.forbid(loop).after(loop))) == 1


def test_what_is_required_after_comes_before_every_end(a: Plain, b: Plain) -> None:
    """After the last visit, what is required comes before the flow ends."""
    pay = Step(name="pay")
    flow = Flow(pay)
    flow.then(pay.when("yes"), a).then(pay.when("no"), END).then(a, b)
    flow.require(b).after(pay)
    assert messages(flow) == [
        (
            "the rule require(b).after(pay) is broken on the path pay -no-> END: the flow can end "
            "without b after pay"
        )
    ]
    other = Flow(pay)
    other.then(pay.when("yes"), a).then(pay.when("no"), END).then(a, b)
    assert messages(other.require(b).after(pay.when("yes"))) == []


def test_a_rule_may_be_about_visits_that_end_with_an_action(a: Plain) -> None:
    """approve.when("yes") is a visit of approve that says yes."""
    approve = Step(name="approve")
    flow = Flow(approve)
    flow.then(approve.when("yes"), a).then(approve.when("no"), a)
    flow.require(approve).before(a)
    assert messages(flow) == []
    flow.forbid(a).after(approve.when("no"))
    flow.require(approve.when("yes")).before(a)
    assert [one.partition(": ")[0] for one in messages(flow)] == [
        "the rule forbid(a).after(approve.when('no')) is broken on the path approve -no-> a",
        "the rule require(approve.when('yes')).before(a) is broken on the path approve -no-> a",
    ]


def test_a_visit_that_an_error_ends_has_not_done_what_is_required(a: Plain, b: Plain) -> None:
    """The edge for its error is a way round it; what forbids counts as soon as it has begun."""
    flow = chain(a, b)
    flow.then(a.catch(TimeoutError), b)
    flow.forbid(b).after(a)
    flow.require(a).before(b)
    assert [one.partition(": ")[0] for one in messages(flow)] == [
        "the rule forbid(b).after(a) is broken on the path a -> b",
        "the rule require(a).before(b) is broken on the path a -except TimeoutError-> b",
    ]
    ended = chain(a, b)
    ended.then(a.catch(TimeoutError), END).require(b).after(a)
    assert len(messages(ended)) == 1


def test_an_error_that_no_edge_catches_does_not_count(a: Plain, b: Plain) -> None:
    """What would have to come after it is not asked for."""
    assert messages(chain(a, b).require(b).after(a)) == []


def test_any_action_without_an_edge_is_none_that_has_one(a: Plain, b: Plain) -> None:
    """The edge for "*" is taken by other actions than those that have edges of their own."""

    class Classic(Node):
        def post(self, store: Store[Any], prepared: None, result: None) -> str:
            return str(store["action"])

    one = Classic(name="one")
    flow = Flow(one)
    flow.then(one.when("yes"), a).then(one.when("*"), b)
    assert messages(flow.forbid(b).after(one.when("yes"))) == []
    assert len(messages(flow.forbid(b).after(one.when("no")))) == 1


def test_where_a_budget_is_spent_a_visit_may_be_done_or_not(a: Plain, b: Plain) -> None:
    """The edge for a spent budget is a way round what is required, and no way round the rest."""
    review = Step(name="review")
    flow = Flow(review, budget={"usd": 1})
    flow.then(review.when("yes"), a).then(review.when("no"), END)
    flow.then(review.catch(Exception), END).then(review.when_spent("usd"), a)
    flow.forbid(a).after(review.when("no"))
    flow.require(review).before(a)
    assert [one.partition(": ")[0] for one in messages(flow)] == [
        "the rule forbid(a).after(review.when('no')) is broken on the path review -spent usd-> a",
        "the rule require(review).before(a) is broken on the path review -spent usd-> a",
    ]


def test_rules_reach_into_nested_flows_and_branches(a: Plain, b: Plain) -> None:
    """A node inside is as good as one beside, and a nested flow is done when it has ended."""
    inner = chain(a, Plain(name="c"))
    assert messages(chain(inner, b).require(a).before(b)) == []
    assert messages(chain(inner, b).require(inner).before(b)) == []
    assert len(messages(chain(inner, b).forbid(b).after(a))) == 1
    sides = Parallel(Flow(a, flow_name="left"), Plain(name="right"), name="sides")
    assert messages(chain(sides, b).require(a).before(b)) == []
    assert len(messages(chain(b, sides).require(a).before(b))) == 1


def test_branches_come_in_any_order(a: Plain, b: Plain) -> None:
    """Neither of two branches is before the other, or surely not after it."""
    sides = Parallel(Flow(a, flow_name="left"), Flow(b, flow_name="right"), name="sides")
    found = messages(Flow(sides).require(a).before(b))
    assert found == [
        (
            "the rule require(a).before(b) is broken on the path sides -> sides/right/b: "
            "b can come without a before it"
        )
    ]
    (found_too,) = messages(Flow(sides).forbid(b).after(a))
    assert "sides -> sides/left/a -beside it-> sides/right/b" in found_too


def test_a_fan_may_have_no_items(a: Plain, b: Plain) -> None:
    """What is in the branch of a FanOut alone is not certain to be visited."""
    fan = FanOut(Flow(a, flow_name="item_flow"), each=key("xs"), as_=key("x"), name="fan")
    assert "fan -> b" in messages(chain(fan, b).require(a).before(b))[0]
    assert messages(chain(fan, b).require(fan).before(b)) == []


def test_a_rule_of_the_flow_of_a_branch_is_for_each_item() -> None:
    """The rule belongs to the flow that states it, and to each of its entries by itself."""

    def each(concurrency: int) -> tuple[FanOut, Flow[Any], Plain, Plain]:
        approve, send = Plain(name="approve"), Plain(name="send")
        item = chain(approve, send)
        fan = FanOut(item, each=key("xs"), as_=key("x"), name="fan", concurrency=concurrency)
        return fan, item, approve, send

    fan, item, approve, send = each(10)
    item.require(approve).before(send, each=True)
    assert messages(Flow(fan)) == []
    assert len(messages(Flow(fan).require(approve).before(send, each=True))) == 1
    fan, item, approve, send = each(1)
    assert messages(Flow(fan).require(approve).before(send, each=True)) == []


def test_a_limit_leads_on_only_where_its_edge_was_taken(a: Plain, b: Plain) -> None:
    """Where the limit of an edge leads, the way round has been gone."""
    loop = Step(name="loop")
    flow = Flow(loop)
    flow.then(loop.when("yes"), a, at_most=2, then=b).then(a, loop)
    flow.then(loop.when("no"), END).require(a).before(b)
    assert messages(flow) == []


def test_a_run_that_begins_elsewhere_has_visited_nothing(
    a: Plain, b: Plain, tmp_path: Path
) -> None:
    """A rule counts from where a new run begins; a run that is resumed has been there before."""
    fails = True

    class Failing(Plain):
        def exec(self, prepared: None) -> None:
            if fails:
                raise TimeoutError

    c = Failing(name="c")
    flow = chain(a, b, c).require(a).before(b).require(a).before(c)
    flow = flow.using(db_path=tmp_path / "runs.db")
    flow.run_id = "first"
    with pytest.raises(TimeoutError):
        flow.run({})
    flow.run_id = None
    with pytest.raises(FlowValidationError):
        flow.run({}, resume_from=c)
    fails = False
    flow.resume("first")
    with pytest.raises(FlowValidationError):
        flow.run({}, resume_from=b)
    flow.database.close()


def test_rules_about_nothing_are_found(a: Plain, b: Plain) -> None:
    """A node that is not there, an action that is not returned, and half a rule."""
    choose, other = Step(name="choose"), Plain(name="other")
    flow = chain(a, b, choose)
    flow.forbid(other).after(a)
    wrong: Any = "perhaps"
    flow.require(choose.when(wrong)).after(a)
    flow.require(a)
    assert messages(flow) == [
        "the rule forbid(other).after(a) is about 'other', which is not in this flow",
        (
            "the rule require(choose.when('perhaps')).after(a) is about an action that 'choose' "
            "never returns (it returns: 'yes', 'no')"
        ),
        "the rule require(a) does not say when",
    ]


REFUSED: list[tuple[Callable[[Flow[Any], Any], object], str]] = [
    (lambda flow, one: flow.require(Plain), "the class Plain"),  # type: ignore[arg-type]
    (lambda flow, one: flow.require(one.when("*")), "a rule is about one action"),
    (lambda flow, one: flow.forbid(one.when("default")), "forbid takes a node, not"),
    (lambda flow, one: flow.require(one).before("b"), "before takes a node, not 'b'"),  # type: ignore[arg-type]
    (lambda flow, one: flow.require(one).before(one, each=1), "each=1"),  # type: ignore[arg-type]
    (lambda flow, one: flow.forbid(one).after(None), "after takes a node, or node.when"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("state", "said"), REFUSED)
def test_what_is_no_rule_is_refused(
    state: Callable[[Flow[Any], Any], object], said: str, a: Plain
) -> None:
    """A mistake is refused where the rule is written."""
    with pytest.raises(DefinitionError, match=said.replace("*", r"\*")):
        state(Flow(a), a)


def test_rules_are_drawn() -> None:
    """A dotted line says what is required, and one with a cross what is forbidden."""

    @node
    def pay() -> None: ...
    @node
    def log() -> None: ...
    @node
    def stop() -> None: ...

    flow = Flow(start=pay)
    flow.then(pay, chain(log, stop))
    flow.require(pay).before(log).require(log).after(pay).forbid(pay).after(stop)
    text = flow.graph.to_mermaid()
    lines = {line.strip() for line in text.splitlines()}
    assert 'n0 -.-o|"required before"| n2' in lines
    assert 'n0 -.-o|"required after"| n2' in lines
    assert 'n3 -.-x|"forbidden after"| n0' in lines
    assert 'n3 -> n0 [label="forbidden after", style=dotted' in flow.graph.to_dot()


def test_a_flow_on_another_database_has_rules_of_its_own(a: Plain, b: Plain) -> None:
    """using() takes the rules along, and what is stated later is of one flow only."""
    flow = chain(a, b).forbid(b).after(a)
    other = flow.using()
    other.forbid(a).after(b)
    assert (len(flow.graph.rules), len(other.graph.rules)) == (1, 2)


@pytest.mark.parametrize("part", range(4))
def test_what_is_proved_is_all_that_can_happen(part: int) -> None:
    """Of random flows, a rule is found broken exactly if something can happen that breaks it."""
    outcomes = [compare(seed) for seed in range(30 * part, 30 * (part + 1))]
    assert [one for one in outcomes if one not in ("broken", "kept", "skipped")] == []
    assert outcomes.count("broken") > 5
    assert outcomes.count("kept") > 5
