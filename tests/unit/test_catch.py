"""Errors as edges: ``flow.then(node.catch(...), target)``."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from pocoflow import (
    END,
    FanOut,
    Flow,
    Node,
    Parallel,
    Store,
    WorkflowDB,
    context,
    fields,
    key,
    node,
)
from pocoflow.db.lines import BranchRecorder, LineRecorder
from pocoflow.errors import (
    DatabaseFileError,
    DefinitionError,
    FlowValidationError,
    HookError,
    InvalidValueError,
    NodeTimeoutError,
    RunCancelled,
)
from pocoflow.failure import Failure
from pocoflow.node import BatchNode, NodeLike


class RateLimitError(Exception):
    """A service asks to wait."""

    def __init__(self, wait: float) -> None:
        super().__init__(f"wait {wait} s")
        self.wait = wait


class State(BaseModel):
    """What the flows here work on."""

    url: str = "u"
    page: str = ""
    wait: float = 0.0
    failure: Failure | None = None
    log: list[str] = []


S = fields(State)


class Break(Node):
    """Raises in a phase, a number of times."""

    def __init__(self, error: Exception, phase: str = "exec", times: int = 99) -> None:
        super().__init__(name="fetch")
        self.error, self.phase, self.times, self.calls = error, phase, times, 0

    def _maybe(self, phase: str) -> None:
        if phase == self.phase and self.times > 0:
            self.times -= 1
            self.calls += 1
            raise self.error

    def prep(self, store: Store[Any]) -> None:
        self._maybe("prep")

    def exec(self, prepared: None) -> str:
        self._maybe("exec")
        return "page"

    def post(self, store: Store[Any], prepared: None, page: str) -> str:
        store["page"] = page
        self._maybe("post")
        return "default"


@node(writes=S.log)
def give_up(log: list[str], failure: Failure | None) -> list[str]:
    """Note what went wrong."""
    return [*log, "gave up" if failure is None else f"{failure.type_name}: {failure.message}"]


@node(writes=S.log)
def use(page: str, log: list[str]) -> list[str]:
    """Use the page."""
    return [*log, page]


def guarded(broken: NodeLike[Any], catch: Any = None, **settings: Any) -> Flow[State]:
    """``fetch``, then ``use``, or ``give_up`` after a ``ValueError``."""
    flow: Flow[State] = Flow(broken, schema=State, **settings)
    flow.then(broken, use)
    flow.then(broken.catch(ValueError, writes=S.failure) if catch is None else catch, give_up)
    return flow


@pytest.mark.parametrize("phase", ["prep", "exec", "post"])
@pytest.mark.parametrize("driver", ["run", "run_async", "run_background"])
@pytest.mark.parametrize("stored", [True, False])
def test_an_error_of_any_phase_takes_its_edge(
    phase: str, driver: str, stored: bool, tmp_path: Path
) -> None:
    """The run goes on at the target, with the failure in the field, whoever drives it."""
    path = {"db_path": tmp_path / "runs.db"} if stored else {}
    flow = guarded(Break(ValueError("no"), phase), **path)
    runs: dict[str, Callable[[], Store[State]]] = {
        "run": lambda: flow.run({}),
        "run_async": lambda: asyncio.run(flow.run_async({})),
        "run_background": lambda: flow.run_background({}).wait(),
    }
    store = runs[driver]()
    assert store["log"] == ["ValueError: no"]
    failure = store.state.failure
    assert failure is not None
    assert failure.node == "fetch"
    assert "Traceback" in failure.traceback
    assert store["page"] == ("page" if phase == "post" else "")  # what it had written stays


def test_another_error_ends_the_run() -> None:
    """An error that no edge is for is raised as it was, and the run fails."""
    error = OSError("gone")
    with pytest.raises(OSError, match="gone") as caught:
        guarded(Break(error)).run({})
    assert caught.value is error


def test_retries_and_fallback_come_first() -> None:
    """The edge is taken after the last attempt, and not at all if the fallback has a result."""

    class Stubborn(Break):
        max_retries = 3

    class Falls(Break):
        def exec_fallback(self, prepared: None, exc: Exception) -> str:
            return "spare"

    broken = Stubborn(ValueError("no"))
    assert guarded(broken).run({})["log"] == ["ValueError: no"]
    assert broken.calls == 3
    assert guarded(Falls(ValueError("no"))).run({})["log"] == ["spare"]


def test_a_value_of_the_error_is_written() -> None:
    """``value=`` makes what the field holds of the exception itself."""
    broken = Break(RateLimitError(2.5), times=1)
    catch = broken.catch(RateLimitError, writes=S.wait, value=lambda exc: exc.wait)
    flow: Flow[State] = Flow(broken, schema=State)
    flow.then(broken, use).then(catch, broken)  # a loop: the second call works
    store = flow.run({})
    assert (store["wait"], store["log"]) == (2.5, ["page"])


def test_the_first_edge_that_fits_is_taken() -> None:
    """Edges are tried in the order in which they were written."""
    broken = Break(FileNotFoundError("f"))
    flow: Flow[State] = Flow(broken, schema=State)
    flow.then(broken, use).then(broken.catch(FileNotFoundError), give_up)
    flow.then(broken.catch(OSError), END)
    assert flow.run({})["log"] == ["gave up"]


def test_an_edge_to_END_completes_the_run(tmp_path: Path) -> None:
    """An error that leads to ``END`` ends the run on purpose: it is completed."""
    broken = Break(ValueError("no"))
    flow: Flow[State] = Flow(broken, schema=State, db_path=tmp_path / "runs.db", run_id="r")
    flow.then(broken, use).then(broken.catch(ValueError), END)
    flow.run({})
    with WorkflowDB(tmp_path / "runs.db") as db:
        assert db.handle("r").status == "completed"


def test_a_caught_error_is_a_step_on_record(tmp_path: Path) -> None:
    """The step that failed has a checkpoint, and an event with the error and where it led."""
    flow = guarded(Break(ValueError("no")), db_path=tmp_path / "runs.db", run_id="r")
    told: list[tuple[str, str]] = []
    flow.on("node_error", lambda name, exc, store: told.append((name, str(exc))))
    flow.run({})
    assert told == [("fetch", "no")]
    with WorkflowDB(tmp_path / "runs.db") as db:
        assert [row["node_name"] for row in db.get_checkpoints("r")] == ["fetch", "give_up"]
        (event,) = [one for one in db.get_events("r") if one["event"] == "node_error"]
        assert (event["action"], event["error_type"], event["error_msg"]) == (
            "except ValueError",
            "ValueError",
            "no",
        )
        assert "Traceback" in (event["traceback"] or "")


def test_a_resume_goes_on_behind_the_edge(tmp_path: Path) -> None:
    """After a crash in the target the node that failed is not run again."""
    crash = [True]

    @node(writes=S.log)
    def note(failure: Failure | None) -> list[str]:
        if crash:
            raise RuntimeError("crash")
        return ["" if failure is None else failure.message]

    broken = Break(ValueError("no"))
    flow: Flow[State] = Flow(broken, schema=State, db_path=tmp_path / "runs.db", run_id="r")
    flow.then(broken, use).then(broken.catch(ValueError, writes=S.failure), note)
    with pytest.raises(RuntimeError, match="crash"):
        flow.run({})
    crash.clear()
    assert flow.resume("r")["log"] == ["no"]
    assert broken.calls == 1


def test_a_nested_flow_passes_on_what_it_does_not_catch() -> None:
    """An error inside of a nested flow takes the edge of the flow's node, whatever its depth."""
    innermost = Flow(Break(ValueError("deep")), flow_name="innermost")
    inner = Flow(innermost, flow_name="inner")
    store = guarded(inner).run({})
    failure = store.state.failure
    assert failure is not None
    assert failure.node == "inner/innermost/fetch"


def test_an_inner_edge_comes_before_an_outer_one() -> None:
    """A nested flow that catches the error itself goes on inside; ``END`` there ends it alone."""
    broken = Break(ValueError("deep"))
    inner: Flow[Any] = Flow(broken, flow_name="inner")
    inner.then(broken, END).then(broken.catch(ValueError), END)
    store = guarded(inner).run({"page": "kept"})
    assert store["log"] == ["kept"]


def test_an_error_may_lead_into_a_nested_flow() -> None:
    """The target of the edge may be a flow."""
    repair: Flow[Any] = Flow(give_up, flow_name="repair")
    broken = Break(ValueError("no"))
    flow: Flow[State] = Flow(broken, schema=State)
    flow.then(broken, use).then(broken.catch(ValueError), repair).then(repair, use)
    assert flow.run({"page": "old"})["log"] == ["gave up", "old"]


@pytest.mark.parametrize("stored", [True, False])
def test_a_parallel_node_catches_what_its_branches_raise(stored: bool, tmp_path: Path) -> None:
    """The first failure stops the branches, and then takes the edge of the parallel node."""
    fork = Parallel(Break(ValueError("one")), Flow(use, flow_name="two"), name="fork")
    path = {"db_path": tmp_path / "runs.db", "run_id": "r"} if stored else {}
    assert guarded(fork, **path).run({})["log"] == ["ValueError: one"]


def test_a_branch_catches_for_itself(tmp_path: Path) -> None:
    """An edge inside of a branch is taken there; the other branches and the join see no error."""
    broken = Break(ValueError("one"))
    first: Flow[Any] = Flow(broken, flow_name="first")
    first.then(broken, END).then(broken.catch(ValueError, writes=S.failure), END)
    fork = Parallel(first, Flow(use, flow_name="second"), name="fork")
    flow: Flow[State] = Flow(fork, schema=State, db_path=tmp_path / "runs.db")
    store = flow.run({"page": "p"})
    failure = store.state.failure
    assert failure is not None
    assert failure.node == "fork/first/fetch"
    assert store["log"] == ["p"]


def test_a_result_that_does_not_fit_the_schema_can_be_caught() -> None:
    """What a function returns in the wrong type is an error like any other."""

    @node(writes=S.page)
    def fetch(url: str) -> Any:
        return 7

    flow: Flow[State] = Flow(fetch, schema=State)
    flow.then(fetch, use).then(fetch.catch(InvalidValueError, writes=S.failure), give_up)
    (line,) = flow.run({})["log"]
    assert line.startswith("pocoflow.errors.InvalidValueError: ")
    assert "page" in line


def test_a_timeout_can_be_caught() -> None:
    """The timeout of a node is an error with an edge like any other."""

    @node(writes=S.page, timeout=0.01)
    async def fetch(url: str) -> str:
        await asyncio.Event().wait()
        return "never"

    flow: Flow[State] = Flow(fetch, schema=State)
    flow.then(fetch, use).then(fetch.catch(NodeTimeoutError), give_up)
    assert flow.run({})["log"] == ["gave up"]


def test_the_cancellation_of_a_run_is_not_caught() -> None:
    """An edge for every exception does not keep a cancelled run going."""
    began = threading.Event()

    @node
    async def wait() -> None:
        began.set()
        await asyncio.Event().wait()

    flow: Flow[Any] = Flow(wait)
    flow.then(wait, END).then(wait.catch(Exception), END)
    handle = flow.run_background({})
    assert began.wait(30)
    handle.cancel()
    with pytest.raises(RunCancelled):
        handle.wait()
    assert handle.status == "cancelled"


def test_an_error_in_value_ends_the_run() -> None:
    """What ``value=`` raises is not lost: it ends the run, with the caught error as its context."""
    broken = Break(RateLimitError(1.0))

    def wrong(exc: RateLimitError) -> float:
        raise LookupError("in value")

    flow = guarded(broken, broken.catch(RateLimitError, writes=S.wait, value=wrong))
    with pytest.raises(LookupError, match="in value") as caught:
        flow.run({})
    assert isinstance(caught.value.__context__, RateLimitError)


def test_a_value_that_has_to_be_awaited_is_not_written() -> None:
    """Where nobody could see it before, as behind a lambda, it ends the run."""
    broken = Break(RateLimitError(1.0))

    async def wait(exc: RateLimitError) -> float:
        return exc.wait

    given: Any = lambda exc: wait(exc)  # noqa: E731, PLW0108 - hides what it calls
    flow = guarded(broken, broken.catch(RateLimitError, writes=S.wait, value=given))
    with pytest.raises(HookError, match=r"wait\(\), which nobody awaits"):
        flow.run({})


@pytest.mark.parametrize(
    ("arguments", "settings", "said"),
    [
        ((), {}, "takes classes of exceptions"),
        ((ValueError("x"),), {}, "takes classes of exceptions"),
        ((KeyboardInterrupt,), {}, "takes classes of exceptions"),
        (((ValueError, OSError),), {}, "takes classes of exceptions"),
        ((ValueError,), {"writes": "failure"}, "writes='failure' is a string"),
        ((ValueError,), {"writes": 5}, "takes a field reference"),
        ((ValueError,), {"value": str}, "the field that writes="),
        ((ValueError,), {"writes": key("a"), "value": lambda: 1}, "too many positional arguments"),
        ((ValueError,), {"writes": key("a"), "value": lambda a, b: 1}, "argument: 'b'"),
    ],
)
def test_arguments_without_sense_are_refused(
    arguments: tuple[Any, ...], settings: dict[str, Any], said: str
) -> None:
    """``catch`` says which argument is wrong and what it takes."""
    broken = Break(ValueError())
    with pytest.raises(DefinitionError, match=r"fetch\.catch\(") as caught:
        broken.catch(*arguments, **settings)
    assert said in str(caught.value)


# -- the proof --------------------------------------------------------------------------------


class Article(BaseModel):
    """Required fields, so that there is something to prove."""

    document: str
    summary: str
    reason: str
    failure: Failure | None = None


A = fields(Article)


@node(writes=A.summary)
def summarise(document: str) -> str:
    """Write the summary."""
    return document


@node
def show(summary: str) -> None:
    """Read the summary."""


@node
def explain(reason: str) -> None:
    """Read the reason."""


def codes(flow: Flow[Any]) -> list[str]:
    """The codes of what validation finds on the way; what an end leaves unset is not looked at."""
    return [finding.code for finding in flow.validate() if finding.code != "PF304"]


def test_what_failed_to_be_written_is_not_there_behind_the_edge() -> None:
    """A field that only the failed node writes is missing on the way of its errors."""
    flow: Flow[Article] = Flow(summarise, schema=Article)
    flow.then(summarise, END).then(summarise.catch(ValueError), show)
    (finding,) = flow.validate()
    assert finding.code == "PF301"
    assert "except ValueError" in finding.message
    with pytest.raises(FlowValidationError):
        flow.run({"document": "d"})


def test_what_the_edge_writes_is_there_behind_it() -> None:
    """The field of ``writes=`` counts as written at the target."""
    flow: Flow[Article] = Flow(summarise, schema=Article)
    flow.then(summarise, END)
    flow.then(summarise.catch(ValueError, writes=A.reason, value=str), explain)
    assert codes(flow) == []


def test_a_field_of_another_type_is_found() -> None:
    """The field must hold a ``Failure``, or what ``value=`` returns."""
    flow: Flow[Article] = Flow(summarise, schema=Article)
    flow.then(summarise.catch(ValueError, writes=A.reason), explain)  # type: ignore[call-overload]  # ty: ignore[invalid-argument-type]

    def length(exc: OSError) -> int:
        return 1

    reason: Any = A.reason
    flow.then(summarise.catch(OSError, writes=reason, value=length), explain)
    assert codes(flow) == ["PF203", "PF203"]
    other: Flow[Article] = Flow(summarise, schema=Article)
    other.then(summarise.catch(OSError, writes=key("reasn"), value=str), END)
    (finding,) = other.validate()
    assert finding.code == "PF201"
    assert "did you mean 'reason'" in finding.message


def test_a_loop_has_a_way_out_by_an_error() -> None:
    """A loop that only an error ends is no endless loop."""

    @node
    def again() -> Literal["more"]:
        return "more"

    flow: Flow[Any] = Flow(again)
    flow.then(again.when("more"), again)
    assert codes(flow) == ["PF104"]
    flow.then(again.catch(StopAsyncIteration), END)
    assert codes(flow) == []


def test_the_target_of_an_error_can_be_reached() -> None:
    """A node that only errors lead to is part of the graph, its picture and its proof."""
    flow: Flow[Article] = Flow(summarise, schema=Article)
    flow.then(summarise.catch(ValueError), give_up)
    assert list(flow.graph.nodes) == ["summarise", "give_up"]
    assert "except ValueError" in flow.graph.to_mermaid()


def test_what_branches_read_and_write_is_known() -> None:
    """What a branch reads must be there before the fork; what it writes is there after the join."""
    fork = Parallel(summarise, name="fork")
    flow: Flow[Article] = Flow(fork, schema=Article, inputs=(A.document, A.reason))
    flow.then(fork, show)
    assert codes(flow) == []
    bare: Flow[Article] = Flow(fork, schema=Article, inputs=(A.reason,))
    bare.then(fork, show)
    assert codes(bare) == ["PF301"]
    early: Flow[Article] = Flow(show, schema=Article)
    early.then(show, Parallel(summarise, name="late"))
    assert codes(early) == ["PF301"]


def test_what_items_may_not_write_is_not_relied_on() -> None:
    """A fan-out over no items writes nothing, and the field of its item is its own."""

    class Pages(BaseModel):
        urls: list[str]
        url: str
        last: str

    P = fields(Pages)

    @node(writes=P.last)
    def visit(url: str) -> str:
        return url

    fan = FanOut(visit, each=P.urls, as_=P.url, name="fan")
    flow: Flow[Pages] = Flow(fan, schema=Pages, inputs=(P.urls,))
    assert [one for one in codes(flow) if one != "PF303"] == []
    read_private: Flow[Pages] = Flow(fan, schema=Pages, inputs=(P.urls,))

    @node
    def after(url: str) -> None:
        pass

    read_private.then(fan, after)
    assert "PF301" in codes(read_private)


# -- what an earlier process left -------------------------------------------------------------


def test_a_caught_error_leaves_no_result_to_the_next_node(tmp_path: Path) -> None:
    """The finished ``exec`` of a node that fails when it is resumed is not taken for another's."""
    fetch = Break(RuntimeError("bug"), "post", times=1)

    class Other(Node):
        def exec(self, prepared: None) -> str:
            return "own"

        def post(self, store: Store[Any], prepared: None, result: str) -> str:
            store["page"] = result
            return "default"

    other = Other()
    flow = Flow(fetch, schema=State, db_path=tmp_path / "runs.db", run_id="r")
    flow.then(fetch, other).then(fetch.catch(ValueError), other)
    with pytest.raises(RuntimeError, match="bug"):
        flow.run({})
    fetch.error, fetch.phase, fetch.times = ValueError("gone"), "prep", 1
    assert flow.resume("r")["page"] == "own"


# -- the database -----------------------------------------------------------------------------


@node(writes=S.page)
def page(url: str) -> str:
    """Work in a branch."""
    return f"page of {url}"


@node(writes=S.wait, max_retries=2)
def flaky(url: str) -> float:
    """Fail at first."""
    if context().attempt == 1:
        raise ValueError("busy")
    return 1.0


class Items(BatchNode[int, int]):
    """Works on items, and collects what fails."""

    on_error = "collect"
    max_retries = 2

    def prep(self, store: Store[Any]) -> list[int]:
        """Give the items."""
        return [1, 2]

    def exec(self, item: int) -> int:
        """Fail at first."""
        if context().attempt == 1:
            raise ValueError("busy")
        return item


@pytest.mark.parametrize("driver", ["run", "run_async"])
@pytest.mark.parametrize(
    ("build", "method"),
    [
        (lambda: Parallel(page, name="fork"), "step"),
        (lambda: Parallel(page, name="fork"), "journal"),
        (lambda: Parallel(page, name="fork", on_error="collect"), "step"),
        (lambda: Parallel(Parallel(page), name="fork", on_error="collect"), "step"),
        (lambda: Parallel(flaky, name="fork", on_error="collect"), "retry"),
        (lambda: flaky, "retry"),
        (Items, "retry"),
        (Items, "journal_item"),
    ],
    ids=[
        "step-of-branch",
        "journal-of-branch",
        "collecting",
        "branch-of-branch",
        "retry-in-branch",
        "retry",
        "retry-of-item",
        "items",
    ],
)
def test_a_failing_commit_is_neither_caught_nor_collected(
    build: Callable[[], Any],
    method: str,
    driver: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A database that cannot be written ends the run, also inside of branches and batches."""

    def full(self: LineRecorder, *facts: Any) -> None:
        raise DatabaseFileError("disk full")

    work = build()
    flow = Flow(work, schema=State, db_path=tmp_path / "runs.db", run_id="r")
    flow.then(work.when("*"), END).then(work.catch(Exception, writes=S.failure), give_up)
    of_branch = method in ("step", "journal")
    monkeypatch.setattr(BranchRecorder if of_branch else LineRecorder, method, full)
    with pytest.raises(DatabaseFileError, match="disk full"):
        flow.run({}) if driver == "run" else asyncio.run(flow.run_async({}))
    monkeypatch.undo()
    with WorkflowDB(tmp_path / "runs.db") as db:
        assert db.handle("r").status == "failed"
    assert flow.resume("r")["failure"] is None
