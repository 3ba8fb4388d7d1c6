"""Journaled calls: what ``exec`` has paid for is given again, and what was of no use is not."""

from __future__ import annotations

import asyncio
import json
import logging
import pickle
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from inspect import isawaitable
from pathlib import Path
from typing import Any, Literal
from unittest.mock import AsyncMock

import pytest

from pocoflow import (
    BatchNode,
    FanOut,
    Flow,
    Node,
    Retry,
    RunCancelled,
    Store,
    WorkflowDB,
    context,
    key,
    node,
)
from pocoflow.db.log import Kind
from pocoflow.errors import DefinitionError, NodeTimeoutError, NotStorableError, RunError
from pocoflow.nodes.context import Cancellation

WAIT = 60


class Model:
    """Answers one text after another, and remembers what it was asked."""

    def __init__(self, *answers: object) -> None:
        self.answers = [*answers]
        self.asked: list[Any] = []

    def ask(self, prompt: Any) -> Any:
        """The next answer; an exception is raised."""
        self.asked.append(prompt)
        answer = self.answers[len(self.asked) - 1]
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def ask_async(self, prompt: Any) -> Any:
        """The same, awaited."""
        await asyncio.sleep(0)
        return self.ask(prompt)


class Do(Node):
    """A node whose ``exec`` is a function; what it returns is ``found``."""

    def __init__(self, work: Callable[[Any], Any], **settings: Any) -> None:
        super().__init__(name="do")
        self.work = work
        for name, value in settings.items():
            setattr(self, name, value)

    def prep(self, store: Store[Any]) -> Any:
        return store.get("given")

    def exec(self, prep_result: Any) -> Any:
        return self.work(prep_result)

    def post(self, store: Store[Any], prep_result: Any, exec_result: Any) -> str:
        store["found"] = exec_result
        return "default"


class DoAsync(Do):
    """The same with an asynchronous function."""

    async def exec(self, prep_result: Any) -> Any:
        return await self.work(prep_result)


Run = Callable[[Flow[Any]], Any]


def run_sync(flow: Flow[Any]) -> Any:
    """Run it here, or go on with it if it has begun."""
    if flow.db_path is not None and flow.database.get_run("r"):
        return flow.resume("r")
    return flow.run({"given": ["given"]})


def run_async(flow: Flow[Any]) -> Any:
    """The same on an event loop."""
    if flow.db_path is not None and flow.database.get_run("r"):
        return asyncio.run(flow.resume_async("r"))
    return asyncio.run(flow.run_async({"given": ["given"]}))


@pytest.fixture(params=[None, ":memory:", "file"], ids=["no database", "memory", "file"])
def db(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[WorkflowDB | None]:
    """A database, or none."""
    if request.param is None:
        yield None
        return
    path = tmp_path / "runs.db" if request.param == "file" else request.param
    with WorkflowDB(path) as opened:
        yield opened


@pytest.fixture(params=[run_sync, run_async], ids=["sync run", "async run"])
def run(request: pytest.FixtureRequest) -> Run:
    """A way to run a flow."""
    way: Run = request.param
    return way


# -- after a crash or a resume --------------------------------------------------------------------


def test_a_failed_agent_loop_goes_on_where_it_was(run: Run, tmp_path: Path) -> None:
    """Of five calls in one ``exec`` the fourth fails: a resume makes that and the last one."""
    model = Model(0, 1, 2, OSError("model is down"), 3, 4)

    def agent(_: object) -> list[Any]:
        return [context().call(model.ask, number) for number in range(5)]

    flow = Flow(Do(agent), db_path=tmp_path / "runs.db", run_id="r")
    with pytest.raises(OSError, match="model is down"):
        run(flow)
    assert run(flow)["found"] == [0, 1, 2, 3, 4]
    assert model.asked == [0, 1, 2, 3, 3, 4]


@pytest.mark.parametrize("was", [Do, DoAsync])
def test_what_became_a_coroutine_function_gives_what_is_on_record(
    tmp_path: Path, was: type[Do]
) -> None:
    """To be awaited, as the code is now; and not to be, where it is none any more."""
    model = Model(0, OSError("down"), 1)

    def ask(number: int) -> int:
        return int(model.ask(number))

    async def ask_async(number: int) -> int:
        return ask(number)

    def agent(_: object) -> list[int]:
        return [context().calling(name="ask").call(ask, number) for number in range(2)]

    async def agent_async(_: object) -> list[int]:
        return [await context().calling(name="ask").call(ask_async, number) for number in range(2)]

    then, now = Do(agent), DoAsync(agent_async)
    if was is DoAsync:
        then, now = now, then
    with pytest.raises(OSError, match="down"):
        Flow(then, db_path=tmp_path / "runs.db", flow_name="f").run({}, run_id="r")
    flow = Flow(now, db_path=tmp_path / "runs.db", flow_name="f")
    assert flow.resume("r", rename={"do": "do"})["found"] == [0, 1]
    assert model.asked == [0, 1, 1]


def test_awaited_calls_at_once_are_made_once(run: Run, tmp_path: Path) -> None:
    """A resume gives the calls in ``gather`` that returned, and makes the one that failed again."""
    model = Model("a", "b", OSError("down"), "c", "d")

    async def agent(_: object) -> list[Any]:
        first = await asyncio.gather(*(context().call(model.ask_async, one) for one in "AB"))
        return [*first, *[await context().call(model.ask_async, one) for one in "CD"]]

    flow = Flow(DoAsync(agent), db_path=tmp_path / "runs.db", run_id="r")
    with pytest.raises(OSError, match="down"):
        run(flow)
    assert run(flow)["found"] == ["a", "b", "c", "d"]
    assert model.asked == ["A", "B", "C", "C", "D"]


def test_calls_from_threads_are_made_once(run: Run, tmp_path: Path) -> None:
    """``exec`` may hand its context to threads of its own, and a function finds the run there."""
    asked = []

    def ask(number: int) -> str:
        asked.append(number)
        if number == 5 and asked.count(5) == 1:
            raise OSError("down")
        return f"{context().node} {number}"

    def agent(_: object) -> list[str]:
        mine = context()
        with ThreadPoolExecutor(3) as pool:
            return list(pool.map(lambda number: mine.call(ask, number), range(6)))

    flow = Flow(Do(agent), db_path=tmp_path / "runs.db", run_id="r")
    with pytest.raises(OSError, match="down"):
        run(flow)
    assert run(flow)["found"] == [f"do {number}" for number in range(6)]
    assert sorted(asked) == [0, 1, 2, 3, 4, 5, 5]


def test_what_prep_gave_is_on_record_before_calls_that_threads_make_at_once(tmp_path: Path) -> None:
    """None of the first calls is on record without it, so that ``prep`` is not run again."""

    def echo(number: int) -> int:
        return number

    class Agents(Node):
        def prep(self, store: Store[Any]) -> list[list[int]]:
            return [[number] for number in range(30_000)]  # takes its time to be encoded

        def exec(self, prep_result: Any) -> None:
            mine, ready = context(), threading.Barrier(4)

            def call(number: int) -> object:
                ready.wait(WAIT)
                return mine.call(echo, number)

            with ThreadPoolExecutor(4) as pool:
                assert list(pool.map(call, range(4))) == [0, 1, 2, 3]
            raise OSError("down")

    flow = Flow(Agents(), db_path=tmp_path / "runs.db")
    with pytest.raises(OSError, match="down"):
        flow.run({})
    rows = flow.database.connection.rows("SELECT kind FROM pf_log ORDER BY id")
    kinds = [Kind(row[0]) for row in rows]
    assert kinds.index(Kind.PREPARED) < kinds.index(Kind.CALL)


def test_calls_of_items_belong_to_their_items(run: Run, tmp_path: Path) -> None:
    """An item that is at another place after a resume has the calls that it has made."""
    asked = []

    def ask(item: str, which: int) -> str:
        asked.append((item, which))
        if (item, which) == ("b", 1) and asked.count(("b", 1)) == 1:
            raise OSError("down")
        return f"{item}{which}"

    class Items(BatchNode):
        def prep(self, store: Store[Any]) -> Iterator[str]:
            return iter(given)  # cannot be stored, so that prep runs again

        def exec(self, item: str) -> list[str]:
            return [context().call(ask, item, which) for which in range(2)]

        def post(self, store: Store[Any], prep_result: Any, exec_result: Any) -> str:
            store["found"] = exec_result
            return "default"

    given = ["a", "b"]
    flow = Flow(Items(), db_path=tmp_path / "runs.db", run_id="r")
    with pytest.raises(OSError, match="down"):
        run(flow)
    given = ["new", "b", "a"]
    assert run(flow)["found"] == [["new0", "new1"], ["b0", "b1"], ["a0", "a1"]]
    assert asked == [("a", 0), ("a", 1), ("b", 0), ("b", 1), ("new", 0), ("new", 1), ("b", 1)]


def test_calls_in_branches_are_made_once(run: Run, tmp_path: Path) -> None:
    """A branch gives its calls again."""
    model = Model(0, 1, 2, OSError("down"), 3)

    def agent(_: object) -> list[Any]:
        mine = context().branches[-1][1]
        return [context().call(model.ask, 2 * mine + which) for which in range(2)]

    class Fan(FanOut):
        def post(
            self, store: Store[Any], prep_result: Any, exec_result: Any
        ) -> Literal["default", "failed"]:
            store["found"] = model.asked
            return "default"

    class Quiet(Do):
        def post(self, store: Store[Any], prep_result: Any, exec_result: Any) -> str:
            return "default"

    fan = Fan(Quiet(agent), each=key("given"), as_=key("one"), concurrency=1)
    flow = Flow(fan, db_path=tmp_path / "runs.db", run_id="r")
    with pytest.raises(OSError, match="down"):
        asyncio.run(flow.run_async({"given": [0, 1]}))
    assert run(flow)["found"] == [0, 1, 2, 3, 3]


def test_exec_begins_with_the_same_input(run: Run, tmp_path: Path) -> None:
    """What ``exec`` has appended to its input before a crash is not there after it."""
    model = Model("one", OSError("down"), "two")

    class Given(Node):
        def prep(self, store: Store[Any]) -> list[str]:
            return [str(len(model.asked))]

        def exec(self, messages: list[str]) -> list[str]:
            for _ in range(2):
                messages.append(context().call(model.ask, messages))
            return messages

        def post(self, store: Store[Any], prep_result: object, exec_result: list[str]) -> str:
            store["found"] = exec_result
            return "default"

    flow = Flow(Given(), db_path=tmp_path / "runs.db", run_id="r")
    with pytest.raises(OSError, match="down"):
        run(flow)
    assert run(flow)["found"] == ["0", "one", "two"]
    assert len(model.asked) == 3


def test_a_call_that_is_on_record_and_not_made_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Code that asks for something else finds nothing on record, and the log says what is left."""
    model = Model("a", OSError("down"), "x", "y")
    prompts = ["a", "b"]

    def agent(_: object) -> list[Any]:
        return [context().call(model.ask, prompt) for prompt in prompts]

    flow = Flow(Do(agent), db_path=tmp_path / "runs.db", run_id="r")
    with pytest.raises(OSError, match="down"):
        flow.run({})
    prompts = ["x", "y"]
    with caplog.at_level(logging.WARNING):
        assert flow.resume("r")["found"] == ["x", "y"]
    (said,) = [one for one in caplog.messages if "has not asked for" in one]
    assert "1 of the calls that had returned before" in said
    assert "test_calls.Model.ask (1)" in said
    notes = [row["note"] for row in flow.database.get_events("r") if row["note"]]
    assert any("has not asked for 1 of the calls" in note for note in notes)


# -- after an attempt that failed -----------------------------------------------------------------


def test_a_useless_answer_is_asked_for_again(run: Run, db: WorkflowDB | None) -> None:
    """``json.loads(context().call(llm, prompt))``: an answer that is no JSON, then a good one."""
    model = Model("plan", "no json", '{"a": 1}')

    def agent(_: object) -> Any:
        context().call(model.ask, "plan")
        return json.loads(context().call(model.ask, "json"))

    flow = Flow(Do(agent, max_retries=3), db_path=db, run_id="r")
    assert run(flow)["found"] == {"a": 1}
    assert model.asked == ["plan", "json", "json"]


def test_a_call_that_failed_takes_no_other_with_it(run: Run, db: WorkflowDB | None) -> None:
    """If the call itself has failed, also inside of another error, all before it are given."""
    model = Model("a", OSError("down"), "b")

    def agent(_: object) -> list[Any]:
        try:
            return [context().call(model.ask, one) for one in "AB"]
        except OSError as exc:
            raise ValueError("no answer") from exc

    flow = Flow(Do(agent, max_retries=2), db_path=db, run_id="r")
    assert run(flow)["found"] == ["a", "b"]
    assert model.asked == ["A", "B", "B"]


def test_retry_can_keep_the_last_answer(run: Run, db: WorkflowDB | None) -> None:
    """``Retry(keep=True)`` is about something else than the last answer, also of awaited calls."""
    model = Model("a", "b")

    async def agent(_: object) -> list[Any]:
        found = await asyncio.gather(*(context().call(model.ask_async, one) for one in "AB"))
        if context().attempt == 1:
            raise Retry("once more", keep=True)
        return found

    flow = Flow(DoAsync(agent, max_retries=2, retry_on=OSError), db_path=db, run_id="r")
    assert run(flow)["found"] == ["a", "b"]
    assert model.asked == ["A", "B"]


def test_retry_survives_pickling() -> None:
    """One that crosses processes keeps what it says of the last answer, and its notes."""
    exc = Retry("once more", keep=True)
    exc.add_note("of the model")
    found = pickle.loads(pickle.dumps(exc))  # noqa: S301 - made here
    assert (str(found), found.keep, found.__notes__) == ("once more", True, ["of the model"])


def test_a_run_that_failed_for_a_useless_answer_asks_again(run: Run, tmp_path: Path) -> None:
    """The last attempt, too, leaves no answer on record that was of no use."""
    model = Model("plan", "no json", '{"a": 1}')

    def agent(_: object) -> Any:
        context().call(model.ask, "plan")
        return json.loads(context().call(model.ask, "json"))

    flow = Flow(Do(agent), db_path=tmp_path / "runs.db", run_id="r")
    with pytest.raises(json.JSONDecodeError):
        run(flow)
    assert run(flow)["found"] == {"a": 1}
    assert model.asked == ["plan", "json", "json"]


def test_what_an_attempt_changes_in_an_answer_stays_there(db: WorkflowDB | None) -> None:
    """The next attempt is given the answer as it was returned."""
    model = Model(["answer"])

    def agent(_: object) -> Any:
        answer = context().call(model.ask, "?")
        answer.append(f"attempt {context().attempt}")
        if context().attempt < 3:
            raise Retry("once more", keep=True)
        return answer

    found = Flow(Do(agent, max_retries=3), db_path=db, run_id="r").run({})["found"]
    assert found == ["answer", "attempt 3"]


def test_a_timeout_while_a_call_is_out_keeps_the_others(run: Run, db: WorkflowDB | None) -> None:
    """An attempt that waits for too long in a call is not one whose last answer was of no use."""
    asked = []
    hold = threading.Event()

    def ask(prompt: str) -> str:
        asked.append(prompt)
        if prompt == "b" and asked.count("b") == 1:
            hold.wait(WAIT)
        return prompt.upper()

    def agent(_: object) -> list[str]:
        return [context().call(ask, one) for one in "ab"]

    flow = Flow(Do(agent, max_retries=2, timeout=1.0), db_path=db, run_id="r")
    found = run(flow)["found"]
    hold.set()
    assert found == ["A", "B"]
    assert asked == ["a", "b", "b"]


# -- what a call is known by ----------------------------------------------------------------------


def once(work: Callable[[Any], Any], **settings: Any) -> Any:
    """What ``exec`` finds with the calls of a function."""
    return Flow(Do(work, **settings)).run({})["found"]


def test_equal_calls_are_counted(tmp_path: Path) -> None:
    """The second of two equal calls is another one than the first."""
    model = Model("heads", OSError("down"), "tails")

    def agent(_: object) -> list[Any]:
        return [context().call(model.ask, "toss") for _ in range(2)]

    flow = Flow(Do(agent), db_path=tmp_path / "runs.db", run_id="r")
    with pytest.raises(OSError, match="down"):
        flow.run({})
    assert flow.resume("r")["found"] == ["heads", "tails"]


def test_arguments_tell_calls_apart(db: WorkflowDB | None) -> None:
    """By position and by name, whatever the order of names, of whichever kind they are."""
    asked = []

    def ask(*given: Any, **named: Any) -> int:
        asked.append((given, named))
        return len(asked)

    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        (("a", "b"), {}),
        (("a,b",), {}),
        (('a","b',), {}),
        ((1,), {}),
        ((True,), {}),
        ((1.0,), {}),
        (({"c", "b"},), {"x": 1, "y": [2]}),
        (({"b", "c"},), {"y": [2], "x": 1}),
        (({"b"},), {"y": 2, "x": 1}),
    ]

    def agent(_: object) -> list[int]:
        found = [context().call(ask, *given, **named) for given, named in calls]
        if context().attempt == 1:
            calls.reverse()
            raise Retry(keep=True)
        return found[::-1]

    flow = Flow(Do(agent, max_retries=2), db_path=db, run_id="r")
    # Those with equal arguments are given in the order in which they are made.
    assert flow.run({})["found"] == [1, 2, 3, 4, 5, 6, 8, 7, 9]
    assert len(asked) == 9


def test_a_lambda_needs_a_name() -> None:
    """It is refused before it is called; with a name it is called."""
    asked = []
    with pytest.raises(DefinitionError, match=r"context\(\)\.calling\(name=\.\.\.\)"):
        once(lambda _: context().call(lambda: asked.append(1)))
    assert not asked
    assert once(lambda _: context().calling(name="ask").call(lambda: "yes")) == "yes"


def test_what_a_call_returned_is_no_function() -> None:
    """The function is to be named, and nothing is tried again where the code is wrong."""
    asked: list[str] = []

    def ask(prompt: str) -> str:
        asked.append(prompt)
        return "yes"

    flow = Flow(Do(lambda _: context().call(ask("a")), max_retries=3))  # type: ignore[arg-type]
    told = (
        r"context\(\)\.call\('yes'\) in exec of node 'do': it takes the function and its arguments"
    )
    with pytest.raises(DefinitionError, match=told):
        flow.run({})
    assert asked == ["a"]


def test_a_partial_is_its_function_with_its_arguments(db: WorkflowDB | None) -> None:
    """What was bound before counts as an argument."""
    model = Model("a", "b")

    def agent(_: object) -> Any:
        found = [context().call(partial(model.ask, one)) for one in "AB"]
        if context().attempt == 1:
            raise Retry(keep=True)
        return found

    flow = Flow(Do(agent, max_retries=2), db_path=db, run_id="r")
    assert flow.run({})["found"] == ["a", "b"]
    assert model.asked == ["A", "B"]


def test_what_cannot_be_stored_is_refused_before_the_call(db: WorkflowDB | None) -> None:
    """An argument, and what the annotation promises to return."""
    asked = []

    def ask(prompt: object) -> str:
        asked.append(prompt)
        return ""

    def connect(to: str) -> threading.Thread:
        asked.append(to)
        return threading.Thread()

    flow = Flow(Do(lambda _: context().call(ask, [1, object()])), db_path=db, run_id="r")
    with pytest.raises(NotStorableError, match=r"argument 1 cannot be stored.* at \[1\]: object"):
        flow.run({})
    with pytest.raises(DefinitionError, match="it returns Thread, which cannot be stored"):
        once(lambda _: context().call(connect, "there"))
    assert not asked


def test_a_result_that_cannot_be_stored_is_returned(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says so, and after a crash the call is made again."""
    asked = []

    def connect() -> Any:
        asked.append(1)
        return threading.Lock()

    def fail() -> None:
        if len(asked) == 1:
            raise OSError("down")

    def agent(_: object) -> bool:
        lock = context().call(connect)
        context().call(fail)
        return bool(lock.acquire(blocking=False))

    flow = Flow(Do(agent), db_path=tmp_path / "runs.db", run_id="r")
    with caplog.at_level(logging.WARNING), pytest.raises(OSError, match="down"):
        flow.run({})
    assert any("cannot be stored and would be computed again" in m for m in caplog.messages)
    assert flow.resume("r")["found"] is True
    assert len(asked) == 2


def test_a_call_is_made_in_exec_alone() -> None:
    """``prep`` and ``post`` are told where it works."""

    class Early(Do):
        def prep(self, store: Store[Any]) -> Any:
            return context().call(str, 1)

    with pytest.raises(RunError, match=r"work in exec of a node, and this is prep of node 'do'"):
        Flow(Early(str)).run({})


# -- settings -------------------------------------------------------------------------------------


def test_a_call_has_attempts_of_its_own(run: Run, db: WorkflowDB | None) -> None:
    """They are not those of the node, and its other calls are not made again."""
    model = Model("a", OSError("down"), OSError("down"), "b")

    def agent(_: object) -> Any:
        first = context().call(model.ask, "A")
        return first, context().calling(max_retries=3).call(model.ask, "B"), context().attempt

    assert run(Flow(Do(agent), db_path=db, run_id="r"))["found"] == ("a", "b", 1)
    assert model.asked == ["A", "B", "B", "B"]


def test_an_awaited_call_has_attempts_of_its_own(run: Run, db: WorkflowDB | None) -> None:
    """Likewise."""
    model = Model(OSError("down"), "a")

    async def agent(_: object) -> Any:
        return await context().calling(max_retries=2).call(model.ask_async, "A")

    assert run(Flow(DoAsync(agent), db_path=db, run_id="r"))["found"] == "a"


def test_a_call_has_a_timeout_of_its_own(run: Run) -> None:
    """A call that takes longer is given up, and the error names it."""
    hold = threading.Event()

    def wait() -> None:
        hold.wait(WAIT)

    async def wait_async() -> None:
        await asyncio.Event().wait()

    async def agent(_: object) -> None:
        await context().calling(timeout=0.05).call(wait_async)

    for work in (Do(lambda _: context().calling(timeout=0.05).call(wait)), DoAsync(agent)):
        with pytest.raises(NodeTimeoutError, match=r"call\(.*wait.* longer than its timeout of 0"):
            run(Flow(work))
    hold.set()


@pytest.mark.parametrize(
    "settings",
    [{"timeout": 0}, {"max_retries": 0}, {"max_retries": True}, {"name": ""}, {"name": "a\ud83d"}],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any]) -> None:
    """Where they are written."""
    ((name, value),) = settings.items()
    said = rf"calling\(\.\.\.\): {name} (is|must be) .*{re.escape(repr(value))}"
    with pytest.raises(DefinitionError, match=said):
        once(lambda _: context().calling(**settings).call(str, 1))


# -- attempts that learn --------------------------------------------------------------------------


def test_an_attempt_knows_what_those_before_it_raised(run: Run, db: WorkflowDB | None) -> None:
    """As failures, the first one first, whatever ``retry_on`` says of a ``Retry``."""
    said = []

    def agent(_: object) -> int:
        said.append([(one.node, one.type_name, one.message) for one in context().errors])
        if context().attempt < 3:
            raise Retry(f"attempt {context().attempt} lacks a title")
        return context().attempt

    flow = Flow(Do(agent, max_retries=3, retry_on=OSError), db_path=db, run_id="r")
    assert run(flow)["found"] == 3
    kind = "pocoflow.errors.Retry"
    first, second = (("do", kind, f"attempt {number} lacks a title") for number in (1, 2))
    assert said == [[], [first], [first, second]]


def test_errors_are_known_after_a_crash(tmp_path: Path) -> None:
    """Those of the attempts before the one that was interrupted, of items and of a step."""
    said = []
    stops: list[Cancellation] = []

    def agent(_: object) -> None:
        said.append([one.message for one in context().errors])
        if context().attempt == 1:
            raise Retry("no title")
        if len(said) == 2:
            stops[-1].request()
            context().check_cancelled()

    class Items(BatchNode):
        max_retries = 2

        def prep(self, store: Store[Any]) -> list[int]:
            stops.append(context().cancellation)
            return [7]

        def exec(self, item: int) -> None:
            agent(item)

    class Alone(Do):
        def prep(self, store: Store[Any]) -> None:
            stops.append(context().cancellation)

    for number, one in enumerate((Alone(agent, max_retries=2), Items())):
        said.clear()
        flow = Flow(one, db_path=tmp_path / "runs.db", run_id=f"r{number}")
        with pytest.raises(RunCancelled):
            flow.run({})
        flow.resume(f"r{number}")
        assert said == [[], ["no title"], ["no title"]]


def test_the_last_retry_is_raised_as_any_other_exception() -> None:
    """Or it falls back, or an edge catches it."""

    @node(max_retries=2)
    def agent() -> None:
        raise Retry("never")

    with pytest.raises(Retry, match="never"):
        Flow(agent).run({})
    flow = Flow(agent)
    end = Do(lambda _: "caught")
    flow.then(agent.catch(Retry), end)
    assert flow.run({})["found"] == "caught"


@pytest.mark.parametrize(
    ("called", "given", "result"),
    [(str.upper, "x", "X"), ("x".upper, None, "X"), (AsyncMock(return_value="X"), "x", "X")],
)
def test_what_is_called_may_be_no_function_of_python(
    called: Any, given: Any, result: str, tmp_path: Path
) -> None:
    """A method of a builtin class, and a mock, are called and put on record as functions are."""

    class Calls(Do):
        async def exec(self, given: Any) -> Any:
            made = context().call(called, *([] if given is None else [given]))
            return await made if isawaitable(made) else made

    flow = Flow(Calls(print), db_path=tmp_path / "runs.db")
    assert flow.run({"given": given})["found"] == result
