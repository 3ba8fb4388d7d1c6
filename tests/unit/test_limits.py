"""Edges with limits: how often they are taken, and where they lead after that."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from pocoflow import END, FanOut, Flow, Node, Store, context, key
from pocoflow.errors import DefinitionError, MaxStepsError
from pocoflow.nodes.base import NodeLike


class Step(Node[None, None, str]):
    """Writes its name down and returns the action it was made with."""

    def __init__(self, name: str, action: str = "default") -> None:
        super().__init__(name=name)
        self.action = action

    def post(self, store: Store[Any], prepared: None, result: None) -> str:
        store["trail"] = [*store["trail"], self.name]
        return self.action


class Raise(Step):
    """Writes its name down and raises."""

    def post(self, store: Store[Any], prepared: None, result: None) -> str:
        super().post(store, prepared, result)
        raise TimeoutError


def trail(flow: Flow[Any]) -> str:
    """The names of the nodes that a run visits."""
    return " ".join(flow.run({"trail": []})["trail"])


def looping(database: Path | None = None, at_most: int = 3) -> Flow[Any]:
    """Writes and grades, at most three times again, and gives up then."""
    write, grade = Step("write"), Step("grade", "bad")
    flow = Flow(write, db_path=database)
    flow.then(write, grade).then(grade.when("good"), END)
    return flow.then(grade.when("bad"), write, at_most=at_most, then=Step("give_up"))


def test_an_edge_is_taken_so_often_and_then_leads_elsewhere() -> None:
    """With at_most=3, the fourth attempt to take the edge goes to then."""
    assert trail(looping()) == "write grade " * 4 + "give_up"


def test_an_edge_of_a_node_may_have_a_limit() -> None:
    """node.then takes a limit as flow.then does, and it counts in each flow by itself."""
    again = Step("again")
    again.then("default", again, at_most=2, then=Step("out"))
    assert trail(Flow(again)) == trail(Flow(again)) == "again again again out"


def test_an_edge_for_any_action_and_one_for_errors_may_have_limits() -> None:
    """The edge counts, whichever action or error takes it."""
    any_action, error = Step("any", "some"), Raise("error")
    flow = Flow(any_action)
    flow.then(any_action.when("*"), any_action, at_most=1, then=error)
    flow.then(error.catch(TimeoutError), error, at_most=2, then=Step("out"))
    assert trail(flow) == "any any error error error out"


def test_an_edge_may_lead_to_the_end_then() -> None:
    """END is a target of then=, also written as None; the action ends the flow."""
    for end in (END, None):
        inner_step, out = Step("inner", "bad"), Step("out")
        inner = Flow(inner_step, flow_name="flow")
        inner.then(inner_step.when("bad"), inner_step, at_most=1, then=end)
        outer = Flow(inner)
        outer.then(inner.when("bad"), out)
        assert trail(outer) == "inner inner out"


def nested(database: Path | None = None) -> Flow[Any]:
    """A loop in a flow in a loop."""
    work = Step("work")
    inner = Flow(work, flow_name="inner")
    inner.then(work, work, at_most=2, then=END)
    outer = Flow(inner, flow_name="outer", db_path=database)
    return outer.then(inner, inner, at_most=1, then=Step("last"))


def test_each_entry_of_the_flow_counts_anew() -> None:
    """A nested flow that is left and entered again begins to count again."""
    assert trail(nested()) == "work " * 6 + "last"


def test_each_branch_counts_by_itself() -> None:
    """Branches that run side by side do not take limits away from one another."""
    note = Step("note")
    loop = Flow(note, flow_name="loop")
    loop.then(note, note, at_most=2, then=END)
    each = FanOut(loop, each=key("items"), as_=key("item"), private=(key("trail"),))
    flow = Flow(each)
    steps: list[int] = []
    flow.on("flow_end", lambda count, store: steps.append(count))
    flow.run({"items": [1, 2, 3], "trail": []})
    assert steps == [1 + 3 * 3]


@pytest.mark.parametrize("make", [looping, nested])
def test_a_limit_is_kept_over_resumes_and_forks(make: Any, tmp_path: Path) -> None:
    """Wherever a run stops or is forked, it goes on counting where it was."""
    whole = trail(make())
    flow = make(tmp_path / "runs.db")
    count = len(whole.split())
    for stop in range(1, count):
        flow.run_id, flow.max_steps = f"run-{stop}", stop
        with pytest.raises(MaxStepsError):
            flow.run({"trail": []})
        for more in range(stop + 1, count):
            flow.max_steps = more
            with pytest.raises(MaxStepsError):
                flow.resume(f"run-{stop}")
        flow.max_steps = count
        assert " ".join(flow.resume(f"run-{stop}")["trail"]) == whole
    for step in range(-1, count - 1):
        assert " ".join(flow.resume(flow.fork("run-1", step))["trail"]) == whole
    flow.database.close()


def test_a_limit_holds_on_an_event_loop_and_with_middleware(tmp_path: Path) -> None:
    """Every kind of run counts in the same way."""
    flow = looping(tmp_path / "runs.db")
    store = asyncio.run(flow.run_async({"trail": []}))
    assert " ".join(store["trail"]) == "write grade " * 4 + "give_up"
    seen: list[str] = []

    def visit(one: Any) -> Any:
        seen.append(one.name)
        return (yield)

    other = looping().use(visit=visit)
    assert trail(other).split() == seen
    flow.database.close()


def test_a_renamed_node_goes_on_counting(tmp_path: Path) -> None:
    """The count of an edge belongs to its source under the name that it has now."""
    flow = looping(tmp_path / "runs.db")
    flow.max_steps, flow.run_id = 4, "renamed"
    with pytest.raises(MaxStepsError):
        flow.run({"trail": []})
    for steps in (4, 5, 9):
        flow.graph.nodes["grade" if steps == 4 else "judge"].node.name = "judge"
        flow.max_steps = steps
        rename = {"grade": "judge"} if steps != 5 else {}
        if steps < 9:
            with pytest.raises(MaxStepsError):
                flow.resume("renamed", rename=rename)
    store = flow.resume("renamed")
    assert " ".join(store["trail"]) == "write grade " * 2 + "write judge " * 2 + "give_up"
    flow.database.close()


def test_a_limit_that_was_changed_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A resume counts on under the limit of now, and its record says what it was before."""
    flow = looping(tmp_path / "runs.db")
    flow.max_steps, flow.run_id = 5, "changed"
    with pytest.raises(MaxStepsError):
        flow.run({"trail": []})
    flow.database.close()
    flow = looping(tmp_path / "runs.db", 2)
    assert " ".join(flow.resume("changed")["trail"]) == "write grade " * 3 + "give_up"
    assert "edge 'grade' - 'bad' has a limit of 2, had a limit of 3" in caplog.text
    flow.database.close()


def test_a_flow_without_limits_has_none_on_record(tmp_path: Path) -> None:
    """Rows of runs without limits are as they were."""
    one = Step("one")
    one.then("default", Step("two"))
    flow = Flow(one, db_path=tmp_path / "runs.db")
    flow.run({"trail": []})
    assert flow.database.connection.rows("SELECT id FROM pf_log WHERE mark IS NOT NULL") == []
    assert "limits" not in (flow.database.get_graph(flow.database.list_runs()[0]["run_id"]) or {})
    flow.database.close()


def test_a_limit_is_drawn() -> None:
    """Both ways of the edge are in the pictures, with the number."""
    graph = looping().graph
    for text in (graph.to_mermaid(), graph.to_dot()):
        assert "bad, at most 3" in text
        assert "bad, after 3" in text


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"at_most": 3}, "at_most=3 needs then=: where the run goes"),
        ({"at_most": 0, "then": END}, "at_most=0: it is how often the edge is taken"),
        ({"at_most": True, "then": END}, "at_most=True"),
        ({"at_most": "3", "then": END}, "at_most='3'"),
        ({"then": END}, "at_most=None"),
        ({"at_most": 3, "then": "end"}, "the target must be a node or END, not 'end'"),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused(given: dict[str, Any], said: str) -> None:
    """A limit needs both of its parts; the message has the edge, the place and what to write."""
    one, two = Step("one"), Step("two")
    with pytest.raises(DefinitionError) as caught:
        Flow(one).then(one, two, **given)
    assert said in str(caught.value)
    assert "flow.then(one.when('default'), target) at" in str(caught.value)
    with pytest.raises(DefinitionError):
        one.then("default", two, **given)


def test_a_limit_without_effect_is_refused() -> None:
    """An edge to END is taken once, and one that leads to its target after all has no limit."""
    one, two = Step("one"), Step("two")
    with pytest.raises(DefinitionError, match="an edge to END is taken once"):
        Flow(one).then(one, END, at_most=2, then=two)
    with pytest.raises(DefinitionError, match="then=two is the target itself"):
        Flow(one).then(one, two, at_most=2, then=two)


def test_another_limit_for_an_edge_is_another_edge() -> None:
    """Two edges for one action that differ in their limits are a conflict, as other targets are."""
    one, two = Step("one"), Step("two")
    one.then("default", one)
    flow = Flow(one)
    flow.then(one, one, at_most=2, then=two)
    assert [(kept.at_most, dropped.at_most) for kept, dropped in flow.graph.conflicts] == [
        (2, None)
    ]
    (found,) = flow.validate()
    assert found.code == "PF106"
    assert "one, at most 2 (" in found.message


def test_an_edge_to_a_flow_may_have_a_limit() -> None:
    """A flow is a target as a node is, before and after the limit."""
    first, second, third = (Flow(Step(name), flow_name=f"{name}_flow") for name in "abc")
    outer = Flow(first)
    outer.then(first, second).then(second, first, at_most=1, then=third)
    assert trail(outer) == "a b a b c"
    nodes: list[NodeLike[Any]] = [place.node for place in outer.graph.nodes.values()]
    assert nodes == [first, second, third]


def test_a_limit_in_a_branch_is_kept_over_a_crash(tmp_path: Path) -> None:
    """A branch that is resumed goes on counting, whatever its siblings did."""

    class Count(Node[Any, Any, str]):
        def exec(self, prepared: None) -> None:
            if broken and context().count == 2:
                raise KeyError("stop")

        def post(self, store: Store[Any], prepared: Any, result: Any) -> str:
            store.update({"seen": store["seen"] + 1})
            return "default"

    counting = Count()
    counting.then("default", counting, at_most=3, then=END)
    each = FanOut(
        counting, each=key("items"), as_=key("item"), concurrency=1, private=(key("seen"),)
    )
    flow = Flow(each, db_path=tmp_path / "runs.db", run_id="aside")
    broken = True
    with pytest.raises(KeyError):
        flow.run({"items": [1, 2], "seen": 0})
    broken = False
    flow.resume("aside")
    rows = [row for row in flow.database.get_events("aside") if row["event"] == "node_end"]
    ended = [row for row in rows if "Count" in (row["node_name"] or "")]
    assert len(ended) == 2 * 4
    flow.database.close()
