"""Flows in one thread or many: routing, hooks, checkpoints, and the context of a run."""

from __future__ import annotations

import functools
import json
import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from enum import Enum, StrEnum
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import pytest
from pydantic import BaseModel, ConfigDict, field_validator

from pocoflow import Flow, Node, RunContext, Store, WorkflowDB, context
from pocoflow.errors import (
    ActionError,
    DefinitionError,
    HookError,
    InvalidValueError,
    MaxStepsError,
    NoRunError,
    RunExistsError,
    UnhandledActionError,
    UnknownFieldError,
)


class Step(Node):
    """Appends its name to the store's ``"trail"`` and returns a fixed action."""

    def __init__(self, name: str, action: Any = "next") -> None:
        self.name = name
        self.action = action

    def post(self, store: Store[Any], prep_result: object, exec_result: object) -> Any:
        store["trail"] = [*store.get("trail", []), self.name]
        return self.action


class Failing(Node):
    """Fails in the phase that it is told."""

    def __init__(self, phase: str = "exec", error: BaseException | None = None) -> None:
        self.phase = phase
        self.error = ValueError("broken") if error is None else error

    def _fail(self, phase: str) -> None:
        if self.phase == phase:
            raise self.error

    def prep(self, store: Store[Any]) -> Any:
        self._fail("prep")

    def exec(self, prep_result: object) -> Any:
        self._fail("exec")

    def post(self, store: Store[Any], prep_result: object, exec_result: object) -> str:
        self._fail("post")
        return "next"


def line(*names: str) -> list[Step]:
    """Steps wired one after the other."""
    steps = [Step(name) for name in names]
    for source, target in pairwise(steps):
        source.then("next", target)
    return steps


def context_of(flow: Flow) -> RunContext:
    """The context of a run of the flow."""
    seen: list[RunContext] = []
    flow.on("flow_end", lambda steps, store: seen.append(context()))
    flow.run()
    return seen[0]


def trail(flow: Flow, store: Any = None, **options: Any) -> list[str]:
    """The names of the steps that a run of the flow took."""
    return cast("list[str]", flow.run(store, **options)["trail"])


# -- stores -------------------------------------------------------------------------------------


class State(BaseModel):
    trail: list[str] = []
    extra: int = 0


def test_run_returns_the_store_that_it_was_given() -> None:
    """A ``Store`` is the shared state itself, not a copy of it."""
    store = Store({"a": 1})
    assert Flow(Step("a")).run(store) is store
    assert store == {"a": 1, "trail": ["a"]}


def test_run_lets_the_callers_dict_see_each_write() -> None:
    """A plain dict is written while the run goes on, and keeps what came before a failure."""
    shared: dict[str, Any] = {"old": 1}
    seen: list[dict[str, Any]] = []
    first, second, last = Step("a"), Step("b"), Failing()
    first.then("next", second)
    second.then("next", last)
    flow = Flow(first).on("node_end", lambda name, action, elapsed, store: seen.append({**shared}))
    with pytest.raises(ValueError, match="broken"):
        flow.run(shared)
    assert seen == [{"old": 1, "trail": ["a"]}, {"old": 1, "trail": ["a", "b"]}]
    assert shared == {"old": 1, "trail": ["a", "b"]}


def test_run_takes_a_model_and_leaves_it_alone() -> None:
    """The store that comes back holds the writes, typed as the model."""
    given = State(extra=3)
    store = Flow(Step("a")).run(given)
    assert given == State(extra=3)
    assert store.to_model() == State(trail=["a"], extra=3)


def test_a_model_that_holds_something_live_is_copied_around_it(tmp_path: Path) -> None:
    """A lock cannot be copied, so it is shared, and the rest of the model is left alone."""

    class Guarded(BaseModel):
        model_config = ConfigDict(arbitrary_types_allowed=True)

        lock: Any
        trail: list[str] = []

    class Append(Node):
        def post(self, store: Store[Any], prep_result: object, exec_result: object) -> None:
            store["trail"].append("a")

    given = Guarded(lock=threading.Lock(), trail=[])
    store = Flow(Append(), schema=Guarded).run(given)
    assert (store["trail"], given.trail) == (["a"], [])
    assert store["lock"] is given.lock
    kept = Flow(Append(), schema=Guarded, db_path=tmp_path / "runs.db", ignore=("PF401",))
    store = kept.run(given, thread="talk")
    assert (store["trail"], given.trail) == (["a"], [])
    assert store["lock"] is given.lock


def test_a_validator_of_what_is_given_may_wait_for_another_run() -> None:
    """What a run begins with is checked beside other runs, and none of them waits for it."""
    ended = []

    class Checked(BaseModel):
        extra: int = 0

        @field_validator("extra")
        @classmethod
        def ask(cls, given: int) -> int:
            run = threading.Thread(target=lambda: Flow(Step("a")).run({}), daemon=True)
            run.start()
            run.join(30)
            ended.append(not run.is_alive())
            return given

    Flow(Node(), schema=Checked).run({"extra": 1})
    assert ended == [True]


def test_run_without_a_store_starts_with_an_empty_one() -> None:
    """``run()`` makes a store, each run its own, called like the flow."""
    flow = Flow(Step("a"), flow_name="jobs")
    first, second = flow.run(), flow.run()
    assert first == second == {"trail": ["a"]}
    assert first is not second
    assert first.name == "jobs"


# -- routing ------------------------------------------------------------------------------------


def test_a_run_follows_the_edges() -> None:
    """From the start node along the actions, until a node has no edge."""
    assert trail(Flow(line("a", "b", "c")[0])) == ["a", "b", "c"]


def test_none_from_post_is_the_default_action() -> None:
    """A ``post`` without ``return`` takes the edge ``"default"``."""
    a = Step("a", action=None)
    a.then("default", Step("b"))
    assert trail(Flow(a)) == ["a", "b"]


class Verdict(StrEnum):
    GOOD = "good"


class OldVerdict(str, Enum):  # noqa: UP042 - the older way to write a StrEnum
    GOOD = "good"


class Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "not what it is equal to"


GOOD = ["good", Verdict.GOOD, OldVerdict.GOOD, Text("good")]


@pytest.mark.parametrize("returned", GOOD, ids=lambda action: type(action).__name__)
@pytest.mark.parametrize("wired", GOOD, ids=lambda action: type(action).__name__)
def test_an_action_may_be_the_member_of_an_enum_of_strings(returned: str, wired: str) -> None:
    """Members and plain strings that are equal are one action, in ``then`` and from ``post``."""
    a = Step("a", action=returned)
    a.then(wired, Step("b"))
    ended: list[str] = []
    flow = Flow(a).on("node_end", lambda name, action, elapsed, store: ended.append(action))
    assert trail(flow) == ["a", "b"]
    assert ended[0] == "good"
    assert type(ended[0]) is str


@pytest.mark.parametrize("action", [3, True, b"next", ["next"], {"next": 1}, object, Step("x")])
def test_an_action_that_is_no_string_fails_the_run(action: Any) -> None:
    """The error names the node, what it returned and the edges that there are."""
    a = Step("a", action=action)
    a.then("next", Step("b")).then("*", Step("c"))
    with pytest.raises(ActionError) as caught:
        Flow(a, ignore=("PF109",)).run()
    assert isinstance(caught.value, TypeError)
    text = str(caught.value)
    assert "post of node 'a' returned" in text
    assert type(action).__name__ in text
    assert "edges: next, *" in text


def unhandled() -> Step:
    """A node whose action has no edge."""
    a = Step("a", action="nxet")
    return a.then("next", Step("b")).then("error", Step("c"))


def test_an_unhandled_action_ends_the_run_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """As documented the run completes; the log names flow, node, action and the edges."""
    steps: list[int] = []
    flow = Flow(unhandled(), flow_name="jobs").on("flow_end", lambda n, store: steps.append(n))
    with caplog.at_level(logging.WARNING, logger="pocoflow"):
        assert trail(flow) == ["a"]
    assert steps == [1]
    (record,) = caplog.records
    assert record.name == "pocoflow.flow"
    for part in ("'jobs'", "'a'", "'nxet'", "no edge", "next, error"):
        assert part in record.getMessage()


def test_an_unhandled_action_is_on_record(tmp_path: Path) -> None:
    """The event log says what happened; the run is completed."""
    with WorkflowDB(tmp_path / "runs.db") as db:
        Flow(unhandled(), db_path=db, run_id="jobs-1").run()
        run = db.get_run("jobs-1")
        assert run is not None
        assert run["status"] == "completed"
        (ended,) = [row for row in db.get_events("jobs-1") if row["event"] == "node_end"]
    assert ended["action"] == "nxet"
    assert "no edge" in (ended["note"] or "")
    assert ended["error_msg"] is None


def test_an_unhandled_action_raises_in_a_strict_flow() -> None:
    """With ``strict=True`` a misspelt action is an error that names node, action and edges."""
    with pytest.raises(UnhandledActionError) as caught:
        Flow(unhandled(), strict=True, flow_name="jobs").run()
    for part in ("'jobs'", "'a'", "'nxet'", "next, error"):
        assert part in str(caught.value)


def test_a_node_without_edges_is_an_end(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever it returns, nothing is unhandled there, in a strict flow either."""
    with caplog.at_level(logging.WARNING, logger="pocoflow"):
        assert trail(Flow(Step("a", action="anything"), strict=True)) == ["a"]
    assert caplog.records == []


def test_a_wildcard_leaves_nothing_unhandled() -> None:
    """A strict flow takes ``"*"`` for an edge of any action."""
    a = Step("a", action="other")
    a.then("*", Step("b"))
    assert trail(Flow(a, strict=True)) == ["a", "b"]


@pytest.mark.parametrize("limit", [1, 2, 7])
def test_max_steps_guards_against_endless_loops(limit: int) -> None:
    """A loop ends after ``max_steps`` steps with a ``RuntimeError`` that says how to go on."""
    a = Step("a")
    a.then("next", a)
    store = Store()
    with pytest.raises(RuntimeError, match=f"max_steps={limit}") as caught:
        Flow(a, max_steps=limit, flow_name="jobs").run(store)
    assert isinstance(caught.value, MaxStepsError)
    assert "'jobs'" in str(caught.value)
    assert "node 'a'" in str(caught.value)
    assert len(store["trail"]) == limit


def test_a_run_of_exactly_max_steps_completes() -> None:
    """The limit is on steps that are needed, not on those that are taken."""
    assert trail(Flow(line("a", "b", "c")[0], max_steps=3)) == ["a", "b", "c"]


def test_resume_from_begins_at_another_node() -> None:
    """The nodes before it do not run; those after it do."""
    a, b, _ = line("a", "b", "c")
    flow = Flow(a)
    assert trail(flow, resume_from=b) == ["b", "c"]
    assert trail(flow, {"trail": ["a"]}, resume_from=b) == ["a", "b", "c"]


def test_resume_from_a_node_that_is_not_in_the_flow_is_refused() -> None:
    """The error names the node and those that there are; no node runs."""
    store = Store()
    with pytest.raises(DefinitionError, match="node 'elsewhere' is not in this flow") as caught:
        Flow(line("a", "b")[0]).run(store, resume_from=Step("elsewhere"))
    assert "nodes: a, b" in str(caught.value)
    assert store == {}


@pytest.mark.parametrize(
    ("given", "shown"), [(Step, "not the class Step: "), ("b", "not 'b': "), (len, "not <built-in")]
)
def test_resume_from_what_is_no_node_is_refused(given: Any, shown: str) -> None:
    """The error says what was given, and where the node is found; that is where it goes on."""
    flow = Flow(line("a", "b", "c")[0])
    with pytest.raises(DefinitionError, match=r"resume_from takes a node of this flow") as caught:
        flow.run({}, resume_from=given)
    assert shown in str(caught.value)
    assert "flow.graph.nodes[name].node (nodes: a, b, c)" in str(caught.value)
    assert trail(flow, resume_from=flow.graph.nodes["b"].node) == ["b", "c"]


# -- the graph ----------------------------------------------------------------------------------


def test_two_nodes_of_one_class_have_names_of_their_own() -> None:
    """In hooks the second is ``Name_2``, and so on around names that are taken; no node changes."""
    nodes = [Failing("never") for _ in range(3)]
    taken = Failing("never")
    taken.name = "Failing_2"
    chain = [nodes[0], nodes[1], taken, nodes[2]]
    for source, target in pairwise(chain):
        source.then("next", target)
    names: list[str] = []
    Flow(chain[0]).on("node_start", lambda name, store: names.append(name)).run()
    assert len(set(names)) == 4
    assert names[0] == "Failing"
    assert all(name.startswith("Failing_") for name in names[1:])
    assert [node.name for node in nodes] == ["Failing"] * 3


def test_rewiring_is_seen_by_the_next_run() -> None:
    """A new edge, another target, another name or another start counts from the next run on."""
    a, b, c = Step("a"), Step("b"), Step("c")
    flow = Flow(a)
    assert trail(flow) == ["a"]
    a.then("next", b)
    assert trail(flow) == ["a", "b"]
    a.then("next", c)
    assert trail(flow) == ["a", "c"]
    c.name = "renamed"
    names: list[str] = []
    flow.on("node_start", lambda name, store: names.append(name)).run()
    assert names == ["a", "renamed"]
    flow.start = b
    assert trail(flow) == ["b"]


def test_an_edge_that_a_node_draws_while_it_runs_counts_from_the_next_run_on() -> None:
    """A run goes by the graph as it was when the run began."""

    class Drawing(Step):
        def post(self, store: Store[Any], prep_result: object, exec_result: object) -> Any:
            self.then("next", Step("b"))
            return super().post(store, prep_result, exec_result)

    flow = Flow(Drawing("a"))
    assert trail(flow) == ["a"]
    assert trail(flow) == ["a", "b"]


# -- the constructor ----------------------------------------------------------------------------


@pytest.mark.parametrize("start", [None, "a", Step, 3])
def test_the_start_is_a_node(start: Any) -> None:
    """Anything else is refused; a class gets the hint that ``()`` is missing."""
    with pytest.raises(DefinitionError, match=r"Flow\(start=...\) takes a node") as caught:
        Flow(start)
    assert ("pass an instance" in str(caught.value)) == isinstance(start, type)


@pytest.mark.parametrize("path", ["", 3, b"runs.db", Flow, ["runs.db"]])
def test_a_database_is_a_path_or_a_database(path: Any) -> None:
    """Anything else is refused where it is written, by the name of the argument."""
    with pytest.raises(DefinitionError, match=r"Flow\(db_path=.*the path of an SQLite file"):
        Flow(Step("a"), db_path=path)


def test_what_is_set_on_a_flow_after_a_run_counts_for_the_next_one() -> None:
    """A setting of a flow that is changed between two runs is that of the second one."""
    a, b = line("a", "b")
    flow = Flow(a)
    assert trail(flow) == ["a", "b"]
    flow.max_steps = 1
    with pytest.raises(MaxStepsError, match="max_steps=1"):
        flow.run()
    flow.max_steps, flow.start = 10, b
    assert trail(flow) == ["b"]
    flow.name, flow.deadline = "other", 1000.0
    given = context_of(flow)
    assert (given.flow_name, given.cancellation.deadline) == ("other", 1000.0)


@pytest.mark.parametrize("max_steps", [0, -1, 1.5, "10", None, True])
def test_max_steps_is_a_whole_number_of_at_least_one(max_steps: Any) -> None:
    """Another limit is refused, with the value."""
    with pytest.raises(DefinitionError, match=r"max_steps=.* whole number of at least 1"):
        Flow(Step("a"), max_steps=max_steps)


def test_a_flow_is_called_like_its_start_node_unless_it_gets_a_name() -> None:
    """``flow_name`` is the label of its runs."""
    assert Flow(Step("a")).flow_name == "a"
    assert Flow(Failing()).flow_name == "Failing"
    assert Flow(Step("a"), flow_name="jobs").flow_name == "jobs"
    assert repr(Flow(Step("a"), flow_name="jobs")) == "<Flow 'jobs' from 'a'>"


def test_a_run_id_of_the_callers_own_is_used_and_not_twice(tmp_path: Path) -> None:
    """``run_id`` names the run; a database refuses the same id again and keeps the first run."""
    ids: list[str] = []

    class Note(Node):
        def post(self, store: Store[Any], prep_result: object, exec_result: object) -> str:
            ids.append(context().run_id)
            return "done"

    with WorkflowDB(tmp_path / "runs.db") as db:
        flow = Flow(Note(), db_path=db, run_id="mine-1")
        flow.run()
        with pytest.raises(RunExistsError, match="'mine-1'"):
            flow.run()
        assert [run["run_id"] for run in db.list_runs()] == ["mine-1"]
        assert db.list_runs()[0]["status"] == "completed"
    assert ids == ["mine-1"]


def test_each_run_gets_an_id_that_begins_with_the_flows_name() -> None:
    """Without a ``run_id`` it is the flow's name and eight hexadecimal digits."""
    ids: list[str] = []

    class Note(Node):
        def exec(self, prep_result: object) -> None:
            ids.append(context().run_id)

    flow = Flow(Note(), flow_name="my pipeline")
    for _ in range(20):
        flow.run()
    assert len(set(ids)) == 20
    for run_id in ids:
        stem, _, digits = run_id.rpartition("-")
        assert stem == "my pipeline"
        assert len(digits) == 8
        int(digits, 16)


# -- hooks --------------------------------------------------------------------------------------


def told(flow: Flow) -> list[tuple[Any, ...]]:
    """Everything that the hooks of a flow are called with from now on, in order."""
    calls: list[tuple[Any, ...]] = []
    flow.on("flow_start", lambda store: calls.append(("flow_start", store)))
    flow.on("node_start", lambda name, store: calls.append(("node_start", name, store)))
    flow.on(
        "node_end",
        lambda name, action, elapsed, store: calls.append(
            ("node_end", name, action, type(elapsed), store)
        ),
    )
    flow.on("node_error", lambda name, exc, store: calls.append(("node_error", name, exc, store)))
    flow.on("flow_end", lambda steps, store: calls.append(("flow_end", steps, store)))
    flow.on("flow_error", lambda exc, store: calls.append(("flow_error", exc, store)))
    flow.on("flow_cancelled", lambda n, store: calls.append(("flow_cancelled", n, store)))
    return calls


def test_hooks_are_called_in_order_with_the_documented_arguments() -> None:
    """Start, each node's start and end, end; every one with the store itself."""
    flow = Flow(line("a", "b")[0])
    calls = told(flow)
    store = flow.run(Store())
    assert calls == [
        ("flow_start", store),
        ("node_start", "a", store),
        ("node_end", "a", "next", float, store),
        ("node_start", "b", store),
        ("node_end", "b", "next", float, store),
        ("flow_end", 2, store),
    ]
    assert all(call[-1] is store for call in calls)


@pytest.mark.parametrize("phase", ["prep", "exec", "post"])
@pytest.mark.parametrize("error", [ValueError("broken"), KeyboardInterrupt(), SystemExit(3)])
def test_a_failure_in_any_phase_is_told_and_raised(phase: str, error: BaseException) -> None:
    """``node_error`` and ``flow_error`` get the very exception; ``flow_end`` is not called."""
    a = Step("a")
    a.then("next", Failing(phase, error))
    flow = Flow(a)
    calls = told(flow)
    store = Store()
    with pytest.raises(type(error)) as caught:
        flow.run(store)
    assert caught.value is error
    assert calls[3:] == [
        ("node_start", "Failing", store),
        ("node_error", "Failing", error, store),
        ("flow_error", error, store),
    ]


def test_max_steps_is_told_as_the_failure_of_the_flow_not_of_a_node() -> None:
    """No node failed: there is ``flow_error`` and no ``node_error``."""
    a = Step("a")
    a.then("next", a)
    flow = Flow(a, max_steps=1)
    calls = told(flow)
    with pytest.raises(MaxStepsError) as caught:
        flow.run(store := Store())
    assert calls[3:] == [("flow_error", caught.value, store)]


def test_elapsed_is_the_time_of_the_step_in_seconds() -> None:
    """A step that waits for an event has waited at least as long as it says."""
    times: list[float] = []

    class Waits(Node):
        def exec(self, prep_result: object) -> None:
            threading.Event().wait(0.01)

    flow = Flow(Waits())
    flow.on("node_end", lambda name, action, elapsed, store: times.append(elapsed)).run()
    assert 0.01 <= times[0] < 10


def test_several_hooks_of_one_event_are_called_in_the_order_of_their_registration() -> None:
    """``on`` adds, returns the flow, and replaces nothing."""
    order: list[int] = []
    flow = Flow(Step("a"))
    assert flow.on("flow_end", lambda steps, store: order.append(1)) is flow
    flow.on("flow_end", lambda steps, store: order.append(2)).run()
    assert order == [1, 2]


@pytest.mark.parametrize("event", ["flow_start", "node_start", "node_end", "flow_end"])
def test_a_failing_hook_is_logged_and_changes_nothing(
    event: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The run completes, the other hooks are called, and the log has the traceback."""

    def broken(*arguments: object) -> None:
        raise ValueError("the hook is broken")

    calls: list[str] = []
    flow = Flow(Step("a"), flow_name="jobs")
    flow.on(event, broken)
    flow.on(event, lambda *arguments: calls.append(event))
    with caplog.at_level(logging.ERROR, logger="pocoflow"):
        assert trail(flow) == ["a"]
    assert calls == [event]
    (record,) = caplog.records
    assert record.name == "pocoflow.flow"
    assert repr(event) in record.getMessage()
    assert "'jobs'" in record.getMessage()
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "the hook is broken"


@pytest.mark.parametrize("event", ["node_error", "flow_error"])
def test_a_failing_hook_does_not_hide_the_failure_of_a_node(event: Any) -> None:
    """The caller gets the exception of the node, not that of the hook."""

    def broken(*arguments: object) -> None:
        raise LookupError("the hook is broken")

    flow = Flow(Failing()).on(event, broken)
    with pytest.raises(ValueError, match="broken") as caught:
        flow.run()
    assert not isinstance(caught.value, LookupError)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("event", ["flow_start", "node_start", "node_end"])
def test_what_ends_the_program_gets_through_a_hook(event: Any, kind: type[BaseException]) -> None:
    """Ctrl-C while a hook runs ends the run; it is not logged away."""

    def interrupted(*arguments: object) -> None:
        raise kind

    store = Store()
    first, _ = line("a", "b")
    with pytest.raises(kind):
        Flow(first).on(event, interrupted).run(store)
    assert store == ({"trail": ["a"]} if event == "node_end" else {})


class Callbacks:
    def method(self, name: str, store: Store[Any]) -> None:
        pass

    def __call__(self, name: str, store: Store[Any], more: int = 0) -> None:
        pass

    @staticmethod
    def static(name: str, store: Store[Any]) -> None:
        pass


async def asynchronous(name: str, store: Store[Any]) -> None:
    """A coroutine function, which nobody would await."""


class AsynchronousCall:
    async def __call__(self, name: str, store: Store[Any]) -> None:
        pass


@pytest.mark.parametrize(
    "callback",
    [
        print,
        Callbacks().method,
        Callbacks(),
        Callbacks.static,
        lambda *arguments: None,
        lambda name, store, *more, key=None, **named: None,
        functools.partial(lambda prefix, name, store: None, "prefix"),
        dict,
    ],
    ids=["print", "method", "callable", "static", "*args", "defaults", "partial", "class"],
)
def test_a_hook_of_a_fitting_shape_is_accepted(
    callback: Callable[..., object],
) -> None:
    """Whatever can be called with two arguments may hear of ``node_start``."""
    assert trail(Flow(Step("a")).on("node_start", callback)) == ["a"]


def test_print_is_a_hook(capsys: pytest.CaptureFixture[str]) -> None:
    """The builtin prints what it is called with."""
    Flow(Step("a")).on("node_start", print).on("flow_end", print).run({"x": 1})
    assert capsys.readouterr().out == (
        "a Store('a', {'x': 1})\n1 Store('a', {'x': 1, 'trail': ['a']})\n"
    )


@pytest.mark.parametrize(
    ("event", "callback", "shape"),
    [
        ("node_start", lambda name: None, "name, store"),
        ("node_start", lambda name, action, store: None, "name, store"),
        ("node_start", lambda: None, "name, store"),
        ("node_start", lambda *, name, store: None, "name, store"),
        ("node_start", lambda name, store, *, level: None, "name, store"),
        ("node_end", lambda name, store: None, "name, action, elapsed, store"),
        ("node_error", lambda exc: None, "name, exc, store"),
        ("node_retry", lambda name, exc, store: None, "name, attempt, exc, store"),
        ("flow_end", lambda store: None, "steps, store"),
        ("flow_start", lambda: None, "store"),
        ("flow_error", lambda exc: None, "exc, store"),
        ("flow_cancelled", lambda: None, "steps, store"),
        ("node_start", Callbacks.method, "name, store"),
        ("node_start", "not callable", "name, store"),
        ("node_start", None, "name, store"),
        ("node_start", asynchronous, "name, store"),
        ("node_start", AsynchronousCall(), "name, store"),
        ("node_start", functools.partial(asynchronous, "a"), "name, store"),
    ],
    ids=[
        "too few",
        "too many",
        "none",
        "keywords only",
        "needs a keyword",
        "node_end",
        "node_error",
        "node_retry",
        "flow_end",
        "flow_start",
        "flow_error",
        "flow_cancelled",
        "unbound method",
        "text",
        "None",
        "async",
        "async call",
        "async partial",
    ],
)
def test_a_hook_of_a_wrong_shape_is_refused_when_it_is_registered(
    event: Any, callback: Any, shape: str
) -> None:
    """The error says what the event calls and what the callback takes; nothing is registered."""
    flow = Flow(Step("a"))
    with pytest.raises(HookError) as caught:
        flow.on(event, callback)
    assert isinstance(caught.value, TypeError)
    assert f"flow.on({event!r}, callback) calls callback({shape})" in str(caught.value)
    assert trail(flow) == ["a"]


def test_an_event_that_does_not_exist_is_refused_with_a_suggestion() -> None:
    """A misspelt event is found when the hook is registered."""
    with pytest.raises(HookError, match="no event 'node_strat'; did you mean 'node_start'") as got:
        Flow(Step("a")).on(cast(Any, "node_strat"), print)
    for event in ("flow_start", "node_end", "node_error", "flow_end"):
        assert event in str(got.value)


def test_hooks_are_told_after_the_commit(tmp_path: Path) -> None:
    """What a hook hears of is on record already: checkpoint, event, and the status at the end."""
    db = WorkflowDB(tmp_path / "runs.db")
    seen: list[tuple[int, str]] = []

    def look(*arguments: object) -> None:
        run = db.get_run("jobs-1")
        assert run is not None
        seen.append((len(db.get_checkpoints("jobs-1")), run["status"]))

    flow = Flow(line("a", "b")[0], db_path=db, run_id="jobs-1")
    flow.on("flow_start", look).on("node_end", look).on("flow_end", look).run()
    assert seen == [(0, "running"), (1, "running"), (2, "completed"), (2, "completed")]
    db.close()


# -- JSON checkpoints ---------------------------------------------------------------------------


def test_each_step_leaves_a_json_checkpoint(tmp_path: Path) -> None:
    """``step_<NNN>_<Node>.json`` holds the store as it stood after the step; folders are made."""
    folder = tmp_path / "deep" / "ckpt"
    Flow(line("A", "B", "C")[0], checkpoint_dir=folder).run(Store({"x": 1}, name="n"))
    names = ["step_000_A.json", "step_001_B.json", "step_002_C.json"]
    assert sorted(file.name for file in folder.iterdir()) == names
    assert Store.restore(folder / names[1]) == {"x": 1, "trail": ["A", "B"]}
    assert json.loads((folder / names[0]).read_text())["name"] == "n"


def test_json_checkpoints_stay_in_one_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that changes the working directory does not take them along."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()

    class Goes(Node):
        def post(self, store: Store[Any], prep_result: Any, exec_result: Any) -> str:
            os.chdir("elsewhere")
            return "default"

    goes = Goes(name="goes")
    Flow(goes, checkpoint_dir="ckpt").then(goes, Node(name="last")).run()
    names = sorted(file.name for file in (tmp_path / "ckpt").iterdir())
    assert names == ["step_000_goes.json", "step_001_last.json"]


def test_a_failed_step_leaves_no_checkpoint(tmp_path: Path) -> None:
    """Only finished steps are kept, so that one can go on from the last."""
    a = Step("a")
    a.then("next", Failing("post"))
    with pytest.raises(ValueError, match="broken"):
        Flow(a, checkpoint_dir=str(tmp_path)).run()
    assert [file.name for file in tmp_path.iterdir()] == ["step_000_a.json"]


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "../../../../etc/passwd",
        "/etc/passwd",
        "a/b\\c",
        "..",
        ".",
        " ",
        "x" * 5000,
        "узел 🦆",
        "line\nfeed",
        "nul\0byte",
        "C:\\x",
        "%s%n",
        "step_000_a.json",
    ],
    ids=lambda name: ascii(name[:20]),
)
def test_a_checkpoint_stays_in_its_folder_whatever_the_node_is_called(
    tmp_path: Path, name: str
) -> None:
    """A hostile, long or strange name is made harmless, and the steps stay apart."""
    folder = tmp_path / "inner" / "ckpt"
    first, second = Step(name), Step(name)
    first.then("next", second)
    Flow(first, checkpoint_dir=folder).run()
    files = sorted(file.relative_to(tmp_path) for file in tmp_path.rglob("*") if file.is_file())
    assert len(files) == 2
    for number, file in enumerate(files):
        assert file.parent == Path("inner/ckpt")
        assert file.name.startswith(f"step_{number:03d}_")
        assert file.suffix == ".json"
        assert len(file.name) < 255
        assert file.name.isascii()
        assert Store.restore(tmp_path / file)["trail"] == [name] * (number + 1)


def test_a_checkpoint_that_cannot_be_written_fails_the_run(tmp_path: Path) -> None:
    """Somebody asked for checkpoints: a run without them does not claim to have completed."""
    flow = Flow(Step("a"), checkpoint_dir=tmp_path / "ckpt")
    (tmp_path / "ckpt").write_text("a file where the folder should be")
    calls = told(flow)
    with pytest.raises(OSError, match="ckpt"):
        flow.run()
    assert calls[-1][0] == "flow_error"


# -- changes in place ---------------------------------------------------------------------------


class Spoils(Node):
    def post(self, store: Store[Any], prep_result: object, exec_result: object) -> str:
        store["trail"].append(3)
        return "done"


@pytest.mark.parametrize("kept", [True, False], ids=["database", "memory"])
def test_a_list_changed_in_place_is_checked_at_the_end_of_the_step(
    tmp_path: Path, kept: bool
) -> None:
    """A change that never went through the store is held against the schema all the same."""
    with WorkflowDB(tmp_path / "runs.db") as db:
        flow = Flow(Spoils(), schema=State, db_path=db if kept else None, flow_name="jobs")
        calls = told(flow)
        with pytest.raises(InvalidValueError, match=r"'trail' expects list\[str\].*got int: 3"):
            flow.run({"trail": ["a"]})
    assert [call[0] for call in calls] == ["flow_start", "node_start", "node_error", "flow_error"]


# -- the run context ----------------------------------------------------------------------------


def snapshot(ctx: RunContext) -> dict[str, Any]:
    """The facts of a run context as they are now."""
    facts = ("run_id", "flow_name", "node", "path", "step", "phase", "attempt", "item")
    return {name: getattr(ctx, name) for name in facts}


class Observing(Node):
    """Fails once, and keeps what ``context()`` says in every phase and attempt."""

    max_retries = 2

    def __init__(self, name: str, seen: list[dict[str, Any]]) -> None:
        self.name = name
        self.seen = seen

    def prep(self, store: Store[Any]) -> None:
        self.seen.append(snapshot(context()))

    def exec(self, prep_result: None) -> None:
        self.seen.append(snapshot(context()))
        if context().attempt == 1:
            raise ValueError("once more")

    def post(self, store: Store[Any], prep_result: None, exec_result: None) -> str:
        self.seen.append(snapshot(context()))
        return "next"


def expected(run_id: str, node: str, step: int) -> list[dict[str, Any]]:
    """What :class:`Observing` must have seen in one step."""
    fixed = {"run_id": run_id, "flow_name": "jobs", "path": (), "item": None}
    places = [("prep", 1), ("exec", 1), ("exec", 2), ("post", 2)]
    return [
        {**fixed, "node": node, "step": step, "phase": phase, "attempt": attempt}
        for phase, attempt in places
    ]


def test_the_context_knows_run_node_step_phase_and_attempt() -> None:
    """Inside each phase and attempt ``context()`` says where one is."""
    seen: list[dict[str, Any]] = []
    first, second = Observing("a", seen), Observing("b", seen)
    first.then("next", second)
    Flow(first, flow_name="jobs", run_id="jobs-1").run()
    assert seen == expected("jobs-1", "a", 0) + expected("jobs-1", "b", 1)


def test_the_context_knows_the_unique_name_of_a_node() -> None:
    """Of two nodes of one class each is told the name that hooks and database use."""
    names: list[str] = []

    class Who(Node):
        def exec(self, prep_result: object) -> None:
            names.append(context().node)

    first = Who()
    first.then("default", Who())
    Flow(first).run()
    assert names == ["Who", "Who_2"]


def test_there_is_no_context_outside_a_run() -> None:
    """Before, after a success and after a failure, ``context()`` raises and says where it works."""
    for flow in (None, Flow(Step("a")), Flow(Failing())):
        if flow is not None:
            try:
                flow.run()
            except ValueError:
                assert flow.start.name == "Failing"
        with pytest.raises(NoRunError, match="inside prep, exec and post") as caught:
            context()
        assert isinstance(caught.value, RuntimeError)


def test_a_flow_run_by_a_node_has_a_context_of_its_own() -> None:
    """Inside it is the inner run, afterwards the outer one again."""
    seen: list[str] = []

    class Note(Node):
        def exec(self, prep_result: object) -> None:
            seen.append(context().flow_name)

    class Outer(Node):
        def exec(self, prep_result: object) -> None:
            seen.append(context().flow_name)
            Flow(Note(), flow_name="inner").run()
            seen.append(context().flow_name)

    Flow(Outer(), flow_name="outer").run()
    assert seen == ["outer", "inner", "outer"]


def test_hooks_run_inside_the_context() -> None:
    """A hook may ask for the run that it hears of."""
    seen: list[tuple[str, int]] = []
    flow = Flow(line("a", "b")[0], run_id="jobs-1")

    def look(name: str, store: Store[Any]) -> None:
        seen.append((context().run_id, context().step))

    flow.on("node_start", look).run()
    assert seen == [("jobs-1", 0), ("jobs-1", 1)]


class Keys(Node):
    """Keeps its idempotency key in every phase and attempt."""

    max_retries = 3

    def __init__(self, keys: list[str], failures: int = 0) -> None:
        self.keys = keys
        self.failures = failures

    def prep(self, store: Store[Any]) -> None:
        self.keys.append(context().idempotency_key)

    def exec(self, prep_result: None) -> None:
        self.keys.append(context().idempotency_key)
        if context().attempt <= self.failures:
            raise ValueError("once more")

    def post(self, store: Store[Any], prep_result: None, exec_result: None) -> str:
        self.keys.append(context().idempotency_key)
        return "next"


def test_the_idempotency_key_is_the_same_in_all_attempts_of_a_step() -> None:
    """A paid service that sees the key twice can tell that it is the same call."""
    keys: list[str] = []
    Flow(Keys(keys, failures=2)).run()
    assert len(keys) == 5
    assert len(set(keys)) == 1


def test_the_idempotency_key_differs_between_steps_and_runs() -> None:
    """No other step of this run, and no step of another run, has it, whatever the run ids are."""
    keys: list[str] = []
    node = Keys(keys)
    node.then("next", node)
    flow = Flow(node, max_steps=3, run_id="the same id")
    for _ in range(2):
        with pytest.raises(MaxStepsError):
            flow.run()
    assert len(keys) == 2 * 3 * 3
    assert len(set(keys)) == 2 * 3


def test_the_idempotency_key_survives_a_resume(tmp_path: Path) -> None:
    """A step that failed and is executed again in a resumed run has the key that it had."""
    keys: list[str] = []

    class Breaks(Keys):
        broken = True

        def exec(self, prep_result: None) -> None:
            super().exec(prep_result)
            if self.broken:
                raise KeyboardInterrupt

    node = Breaks(keys)
    with WorkflowDB(tmp_path / "runs.db") as db:
        flow = Flow(node, db_path=db, run_id="jobs-1")
        with pytest.raises(KeyboardInterrupt):
            flow.run()
        node.broken = False
        flow.resume("jobs-1")
    assert len(keys) == 5
    assert len(set(keys)) == 1


def test_check_cancelled_does_nothing_while_nobody_cancels() -> None:
    """A node may call it as often as it likes."""

    class Polite(Node):
        def exec(self, prep_result: object) -> None:
            for _ in range(3):
                context().check_cancelled()

    Flow(Polite()).run()


# -- many runs of one flow ----------------------------------------------------------------------

RUNS = 12


class Meeting(Node):
    """Waits in ``exec`` until as many runs as there are meet here."""

    def __init__(self, name: str, barrier: threading.Barrier) -> None:
        self.name = name
        self.barrier = barrier

    def prep(self, store: Store[Any]) -> int:
        return cast(int, store["number"])

    def exec(self, number: int) -> tuple[str, int]:
        before = context().run_id
        self.barrier.wait(30)
        assert context().run_id == before
        return before, number

    def post(self, store: Store[Any], number: int, result: tuple[str, int]) -> str:
        assert result == (context().run_id, number)
        store["visits"] = [*store.get("visits", []), [context().run_id, context().step, number]]
        return "next"


@pytest.mark.parametrize("kept", [True, False], ids=["database", "memory"])
def test_one_flow_runs_many_times_at_once(tmp_path: Path, kept: bool) -> None:
    """Runs in twelve threads meet inside each node, and nothing of one gets into another."""
    barrier = threading.Barrier(RUNS)
    first, second, third = (Meeting(name, barrier) for name in "abc")
    first.then("next", second)
    second.then("next", third)
    db_path = tmp_path / "runs.db" if kept else None
    flow = Flow(first, db_path=db_path, checkpoint_dir=None, flow_name="jobs")
    heard: dict[str, list[str]] = {}
    flow.on("node_start", lambda name, store: heard.setdefault(context().run_id, []).append(name))
    with ThreadPoolExecutor(RUNS) as pool:
        stores = list(pool.map(lambda number: flow.run({"number": number}), range(RUNS)))
    ids = []
    for number, store in enumerate(stores):
        run_id = store["visits"][0][0]
        assert store["visits"] == [[run_id, step, number] for step in range(3)]
        assert heard[run_id] == ["a", "b", "c"]
        ids.append(run_id)
    assert len(set(ids)) == RUNS
    if db_path is not None:
        with WorkflowDB(db_path) as db:
            runs = {run["run_id"]: run for run in db.list_runs()}
            assert set(runs) == set(ids)
            for run_id, store in zip(ids, stores, strict=True):
                assert runs[run_id]["status"] == "completed"
                assert runs[run_id]["total_steps"] == 3
                assert db.load_checkpoint(run_id, 2) == store


def test_the_failure_of_one_run_does_not_touch_the_others() -> None:
    """Of two runs at once one fails and the other completes."""
    barrier = threading.Barrier(2)

    class Picky(Meeting):
        def exec(self, number: int) -> tuple[str, int]:
            result = super().exec(number)
            if number == 0:
                raise ValueError("not this one")
            return result

    flow = Flow(Picky("a", barrier))
    with ThreadPoolExecutor(2) as pool:
        bad, good = (pool.submit(flow.run, {"number": number}) for number in range(2))
        with pytest.raises(ValueError, match="not this one"):
            bad.result(30)
        assert len(good.result(30)["visits"]) == 1


def test_a_model_with_more_fields_than_the_schema_is_named() -> None:
    """A stored run could not go on with them; one without more is taken."""

    class State(BaseModel):
        n: int

    class Same(State):
        def twice(self) -> int:
            return 2 * self.n

    class More(State):
        session: str = ""

    flow = Flow(Node(), schema=State)
    assert flow.run(Same(n=1)) == {"n": 1}
    with pytest.raises(UnknownFieldError, match=r"'session'.*More has more than State.*=More"):
        flow.run(More(n=1))
