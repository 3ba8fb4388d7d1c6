"""Commits of asynchronous runs: whom they wait for, what they share, what a cancellation leaves."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from pocoflow import BatchNode, Flow, Node, Parallel, Store, WorkflowDB, context
from pocoflow.db.port import Transaction
from pocoflow.engine import commits
from pocoflow.engine.effects import Commit
from pocoflow.errors import (
    DatabaseBusyError,
    DatabaseFileError,
    DeadlineError,
    InvalidValueError,
    NoRunError,
)
from tests.rows import held, raw_of, row_of
from tests.waiting import wait_for

WAIT = 60.0
"""Seconds after which something that should have happened long ago is given up."""


class Count(Node):
    """Counts up to what the store says, a step for each number."""

    async def exec(self, prep_result: Any) -> int:
        return 1

    async def post(self, store: Store[Any], prep_result: Any, one: int) -> str:
        store["n"] += one
        return "again" if store["n"] < store["last"] else "done"


def counting(db: WorkflowDB | Path, **settings: Any) -> Flow:
    """A flow of one node that goes on to itself."""
    node = Count()
    return Flow(node.then("again", node), db_path=db, flow_name="count", **settings)


def status_of(path: Path, run_id: str) -> tuple[str, int]:
    """The status of a run and how many steps it has finished."""
    with WorkflowDB(path) as db:
        row = db.get_run(run_id)
        assert row is not None
        return row["status"], row["total_steps"]


@asynccontextmanager
async def started(flow: Flow, store: dict[str, Any]) -> AsyncIterator[asyncio.Task[Store[Any]]]:
    """A run as a task that has come to its first node."""
    begun = asyncio.Event()
    flow.on("node_start", lambda *facts: begun.set())
    task = asyncio.create_task(flow.run_async(store))
    await asyncio.wait_for(begun.wait(), WAIT)
    yield task


# -- other databases --------------------------------------------------------------------------


def test_a_run_does_not_wait_for_the_database_of_another_one(tmp_path: Path) -> None:
    """A database that somebody else writes to holds up its own runs and no others."""
    a, b = tmp_path / "a.db", tmp_path / "b.db"

    async def main() -> None:
        with held(a):
            waiting = asyncio.create_task(counting(a).run_async({"n": 0, "last": 3}))
            for _ in range(3):
                await asyncio.wait_for(counting(b).run_async({"n": 0, "last": 3}), 20)
            assert not waiting.done()
        await asyncio.wait_for(waiting, WAIT)

    asyncio.run(main())


def test_two_names_of_one_database_come_to_the_same_end(tmp_path: Path) -> None:
    """Flows with a path, another spelling of it and a WorkflowDB of it write to it at once."""
    path = tmp_path / "runs.db"
    (tmp_path / "other.db").symlink_to(path)

    async def main() -> None:
        with WorkflowDB(path) as db:
            flows = [counting(path), counting(tmp_path / "other.db"), counting(db)]
            await asyncio.gather(*(f.run_async({"n": 0, "last": 5}) for f in flows * 5))
            assert {run["status"] for run in db.list_runs()} == {"completed"}
            assert len(db.list_runs()) == 15

    asyncio.run(main())


# -- together ---------------------------------------------------------------------------------


def test_a_call_is_one_commit_and_calls_at_once_share_it(tmp_path: Path) -> None:
    """One after the other, twenty calls are twenty commits; at the same time they are far fewer."""

    async def answer(number: int) -> int:
        await asyncio.sleep(0)
        return number

    class InTurn(Node):
        async def exec(self, prep_result: object) -> None:
            for number in range(20):
                await context().call(answer, number)

    class AtOnce(Node):
        async def exec(self, prep_result: object) -> None:
            await asyncio.gather(*(context().call(answer, number) for number in range(20)))

    counts = []
    for one in (InTurn(), AtOnce()):
        with WorkflowDB(tmp_path / f"{one.name}.db") as db:
            statements: Counter[str] = Counter()
            raw: Any = raw_of(db)
            raw.set_trace_callback(partial(_count, statements))
            asyncio.run(Flow(one, db_path=db).run_async({}))
            raw.set_trace_callback(None)
            counts.append(statements["COMMIT"])
    assert counts[0] - counts[1] >= 10
    assert counts[0] <= 23  # with the beginning, the result and the step


def _count(statements: Counter[str], sql: str) -> None:
    statements.update([sql.partition(" ")[0]])


def test_commits_that_wait_together_share_a_transaction(tmp_path: Path) -> None:
    """Fifty runs of ten steps make far fewer commits than they have steps."""
    with WorkflowDB(tmp_path / "runs.db") as db:
        statements: Counter[str] = Counter()
        raw: Any = raw_of(db)
        raw.set_trace_callback(lambda sql: statements.update([sql.partition(" ")[0]]))
        flow = counting(db)

        async def main() -> None:
            await asyncio.gather(*(flow.run_async({"n": 0, "last": 10}) for _ in range(50)))

        asyncio.run(main())
        raw.set_trace_callback(None)
        assert statements["COMMIT"] < 500
        runs = db.list_runs()
        assert [(run["status"], run["total_steps"]) for run in runs] == [("completed", 10)] * 50
        for run in runs:
            steps = [row["step"] for row in db.get_checkpoints(run["run_id"])]
            assert [step for step in steps if step >= 0] == list(range(10))
            assert db.load_checkpoint(run["run_id"], 4)["n"] == 5


def test_what_waits_for_a_database_to_be_opened_is_one_commit() -> None:
    """The first runs of a flow, which begin while its database is opened, begin together."""
    all_wait = threading.Event()
    groups: list[int] = []

    class Home:
        home = "one"

        def together(self, calls: Sequence[Callable[[], object]], /) -> None:
            groups.append(len(calls))
            for call in calls:
                call()

    def opened() -> Home:
        assert all_wait.wait(WAIT)
        return home

    async def main() -> list[int]:
        storages = [commits.Unopened("two", opened) for _ in range(20)]
        waiting = [
            asyncio.ensure_future(commits.commit(Commit(storage, int, (number,))))
            for number, storage in enumerate(storages)
        ]
        await asyncio.sleep(0)  # each has begun
        all_wait.set()
        return [await one for one in waiting]

    home = Home()
    assert asyncio.run(main()) == list(range(20))
    assert sum(groups) == 20
    assert len(groups) <= 2


def first_shared(
    db: WorkflowDB, come: threading.Barrier, go: threading.Barrier, runs: Sequence[threading.Thread]
) -> list[str]:
    """The first transaction of ten threads, which wait together while another one is at work."""
    statements: list[str] = []
    for run in runs:
        run.start()
    come.wait(30)
    with db.connection.alone:
        raw_of(db).set_trace_callback(statements.append)
        go.wait(30)
        wait_for(lambda: len(db.connection.waiting) >= 10, "not all threads wait")
    for run in runs:
        run.join(30)
    raw_of(db).set_trace_callback(None)
    return statements[: statements.index("COMMIT")]


def test_commits_of_threads_that_wait_for_one_share_a_transaction(tmp_path: Path) -> None:
    """Ten results that come while a thread is at the database are one commit."""
    come, go = threading.Barrier(11), threading.Barrier(11)

    class Wait(Node):
        def exec(self, prep_result: object) -> int:
            come.wait(30)
            go.wait(30)
            return 1

    with WorkflowDB(tmp_path / "runs.db") as db:
        flow = Flow(Wait(), db_path=db, max_steps=1)
        runs = [threading.Thread(target=flow.run, args=({},)) for _ in range(10)]
        one = first_shared(db, come, go, runs)
        assert sum("INTO pf_log" in statement for statement in one) >= 10
        assert [row["status"] for row in db.list_runs()] == ["completed"] * 10


def test_items_of_threads_that_wait_share_a_transaction(tmp_path: Path) -> None:
    """What ten items have given while a thread is at the database is one commit."""
    come, go = threading.Barrier(11), threading.Barrier(11)

    class Wait(BatchNode[int, int, str]):
        concurrency = 10

        def prep(self, store: Store[Any]) -> range:
            return range(10)

        def exec(self, item: int) -> int:
            come.wait(30)
            go.wait(30)
            return item

    with WorkflowDB(tmp_path / "runs.db") as db:
        run = threading.Thread(target=Flow(Wait(), db_path=db).run, args=({},))
        one = first_shared(db, come, go, [run])
        assert sum("INTO pf_log" in statement for statement in one) >= 10
        assert [row["status"] for row in db.list_runs()] == ["completed"]


def test_a_group_is_not_joined_by_those_who_wait_for_its_end(tmp_path: Path) -> None:
    """What threads wait to commit meanwhile is committed after it, and all of both is there."""
    holds = threading.Event()

    def write(name: str, raw: Transaction, put: object) -> None:
        raw.execute("INSERT INTO pf_graphs (graph) VALUES (?)", (name,))

    with WorkflowDB(tmp_path / "runs.db") as db:
        connection = db.connection

        def commit(name: str) -> None:
            connection.commit(partial(write, name), 1)

        def wait() -> None:
            holds.set()
            wait_for(lambda: len(connection.waiting) >= 3, "not all threads wait")

        def group() -> None:
            connection.together([partial(commit, "a"), wait, partial(commit, "b")])

        threads = [threading.Thread(target=group)]
        threads += [threading.Thread(target=commit, args=(name,)) for name in "cde"]
        threads[0].start()
        assert holds.wait(WAIT)
        for thread in threads[1:]:
            thread.start()
        for thread in threads:
            thread.join(WAIT)
        rows = connection.rows("SELECT graph FROM pf_graphs ORDER BY graph")
        assert [row[0] for row in rows] == [*"abcde"]


def test_a_group_of_another_thread_is_none_of_this_one(tmp_path: Path) -> None:
    """What is written here meanwhile is kept for the end of the run if a Ctrl-C comes."""
    holds, go, seen = threading.Event(), threading.Event(), list[bool]()

    with WorkflowDB(tmp_path / "runs.db") as db:
        connection = db.connection

        def wait() -> None:
            seen.append(connection.is_shared)
            holds.set()
            assert go.wait(WAIT)

        thread = threading.Thread(target=connection.together, args=([wait, lambda: None],))
        thread.start()
        assert holds.wait(WAIT)
        seen.append(connection.is_shared)
        go.set()
        thread.join(WAIT)
    assert seen == [True, False]


class Numbers(BaseModel):
    n: int = 0
    last: int = 3
    numbers: list[int] = []
    spoil: bool = False
    text: str = ""


class Spoil(Count):
    async def post(self, store: Store[Any], prep_result: Any, one: int) -> str:
        if store["spoil"]:
            store["numbers"].append("no number")
        return await super().post(store, prep_result, one)


def test_a_commit_that_fails_fails_its_own_run_only(tmp_path: Path) -> None:
    """A value that does not fit is the error of the run that has it; those beside it complete."""
    node = Spoil()
    flow = Flow(node.then("again", node), schema=Numbers, db_path=tmp_path / "runs.db")

    async def main() -> list[Any]:
        runs = (flow.run_async(Numbers(spoil=number % 4 == 0)) for number in range(20))
        return await asyncio.gather(*runs, return_exceptions=True)

    for number, outcome in enumerate(asyncio.run(main())):
        assert isinstance(outcome, InvalidValueError if number % 4 == 0 else Store), outcome
    with WorkflowDB(tmp_path / "runs.db") as db:
        found = Counter(run["status"] for run in db.list_runs())
    assert found == {"failed": 5, "completed": 15}


class Fill(Count):
    async def post(self, store: Store[Any], prep_result: Any, one: int) -> str:
        store["text"] = "x" * 4_000_000 if store["spoil"] else "x"
        return await super().post(store, prep_result, one)


def test_a_commit_for_which_there_is_no_room_fails_its_own_run_only(tmp_path: Path) -> None:
    """Of commits that wait together, one that would fill the disk does not undo the others."""
    node = Fill()
    with WorkflowDB(tmp_path / "runs.db") as db:
        flow = Flow(node.then("again", node), schema=Numbers, db_path=db)
        raw_of(db).execute("PRAGMA max_page_count = 800")

        async def main() -> list[Any]:
            runs = (flow.run_async(Numbers(spoil=number == 7)) for number in range(20))
            return await asyncio.gather(*runs, return_exceptions=True)

        outcomes = asyncio.run(main())
        assert isinstance(outcomes.pop(7), DatabaseFileError)
        assert all(isinstance(outcome, Store) for outcome in outcomes), outcomes
        found = Counter(run["status"] for run in db.list_runs())
    assert found == {"failed": 1, "completed": 19}


class Paid(Node):
    """Gives a result that takes much room."""

    async def exec(self, prep_result: Any) -> str:
        return "x" * 2_000_000


class PaidItems(BatchNode[Any, Any, str]):
    concurrency = 2

    def prep(self, store: Store[Any]) -> list[int]:
        return [1]

    def exec(self, item: int) -> str:
        return "x" * 2_000_000


@pytest.mark.parametrize("way", ["run", "run_async"])
@pytest.mark.parametrize("node", [Paid, PaidItems])
def test_a_result_for_which_there_is_no_room_is_named(
    node: type[Node], way: str, tmp_path: Path
) -> None:
    """Whoever has paid for a result that the full disk did not take is told so, and on record."""
    with WorkflowDB(tmp_path / "runs.db") as db:
        flow = Flow(node(), db_path=db, run_id="r")
        raw_of(db).execute("PRAGMA max_page_count = 100")
        told = "the disk is full .*has finished, and its result could not be recorded: a resume"
        with pytest.raises(DatabaseFileError, match=told):
            flow.run({}) if way == "run" else asyncio.run(flow.run_async({}))
        assert "could not be recorded" in (row_of(db, "r")["error_msg"] or "")
        raw_of(db).execute("PRAGMA max_page_count = 100000")
        flow.resume("r")


def test_the_thread_ends_when_nothing_is_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that is not in use has no thread, and gets one again when it is."""
    monkeypatch.setattr(commits, "_IDLE", 0.01)
    flow = counting(tmp_path / "runs.db")
    for _ in range(2):
        asyncio.run(flow.run_async({"n": 0, "last": 2}))
        for thread in threading.enumerate():
            if thread.name == "pocoflow-commit":
                thread.join(WAIT)
                assert not thread.is_alive()


# -- cancelled while a commit waits -----------------------------------------------------------


def test_a_task_that_waits_for_a_commit_is_cancelled_at_once(tmp_path: Path) -> None:
    """The caller goes on; the run is recorded as cancelled as soon as the database is free."""
    path = tmp_path / "runs.db"

    async def main() -> None:
        async with started(counting(path, run_id="r"), {"n": 0, "last": 10_000}) as task:
            with held(path):
                await asyncio.sleep(0.1)
                task.cancel()
                done, _ = await asyncio.wait([task], timeout=20)
                assert done
                assert task.cancelled()

    asyncio.run(main())
    commits._finish()
    status, steps = status_of(path, "r")
    assert status == "cancelled"
    store = counting(path).resume("r", changes={"last": steps + 3})
    assert store["n"] == store["last"]


def test_a_deadline_ends_a_run_that_waits_for_a_commit(tmp_path: Path) -> None:
    """A run whose database is busy ends at its deadline."""
    path = tmp_path / "runs.db"
    held_now = held(path)

    class Busy(Node):
        async def exec(self, prep_result: Any) -> None:
            held_now.__enter__()

    async def main() -> None:
        flow = Flow(Busy(), db_path=path, run_id="r", deadline=0.5)
        with pytest.raises(DeadlineError):
            await asyncio.wait_for(flow.run_async({}), WAIT)
        held_now.__exit__(None, None, None)

    asyncio.run(main())
    commits._finish()
    assert status_of(path, "r")[0] == "failed"


def test_a_start_that_is_cancelled_while_the_database_is_busy_has_an_end(tmp_path: Path) -> None:
    """A run whose beginning waits when its task is cancelled never reads as running."""
    path = tmp_path / "runs.db"

    async def main() -> None:
        with held(path):
            task = asyncio.create_task(counting(path, run_id="r").run_async({"n": 0, "last": 3}))
            await asyncio.sleep(0.1)
            task.cancel()
            done, _ = await asyncio.wait([task], timeout=20)
            assert done

    asyncio.run(main())
    commits._finish()
    assert status_of(path, "r") == ("cancelled", 0)


def test_the_last_commit_counts_for_a_run_that_was_cancelled_meanwhile(tmp_path: Path) -> None:
    """A run whose last step is on record is completed, whoever was cancelled at that moment."""
    path = tmp_path / "runs.db"
    held_now, is_last = held(path), asyncio.Event()

    class Last(Node):
        async def post(self, store: Store[Any], prep_result: Any, result: Any) -> str:
            held_now.__enter__()
            is_last.set()
            return "done"

    async def main() -> None:
        task = asyncio.create_task(Flow(Last(), db_path=path, run_id="r").run_async({}))
        await is_last.wait()  # and then the run waits for its commit
        task.cancel()
        await asyncio.wait([task])
        held_now.__exit__(None, None, None)

    asyncio.run(main())
    commits._finish()
    assert status_of(path, "r") == ("completed", 1)


def test_what_was_begun_is_committed_before_the_program_ends(tmp_path: Path) -> None:
    """A program that ends right after it has cancelled a run leaves it cancelled."""
    program = """
        import asyncio, sqlite3, threading
        from pocoflow import Flow, Node

        class Forever(Node):
            async def exec(self, prep_result):
                await asyncio.Event().wait()

        async def main():
            flow = Flow(Forever(), db_path="runs.db", run_id="r")
            task = asyncio.create_task(flow.run_async({}))
            while not flow.database.get_run("r"):
                await asyncio.sleep(0.01)
            other = sqlite3.connect("runs.db", isolation_level=None, check_same_thread=False)
            other.execute("BEGIN IMMEDIATE")
            threading.Timer(2, other.execute, ["ROLLBACK"]).start()
            task.cancel()
            await asyncio.wait([task])

        asyncio.run(main())
        """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    ended = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=WAIT, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert status_of(tmp_path / "runs.db", "r")[0] == "cancelled"


def test_a_run_that_begins_as_the_program_ends_is_on_record(tmp_path: Path) -> None:
    """Also the first one, for which what checks flows is imported; nothing is complained of."""
    program = """
        import asyncio, threading
        from pydantic import BaseModel, field_validator
        from pocoflow import Flow, Node

        class Late(BaseModel):
            n: int

            @field_validator("n")
            @classmethod
            def ends(cls, n):
                threading.main_thread().join()
                return n

        async def main():
            flow = Flow(Node(), schema=Late, db_path="runs.db", run_id="r")
            task = asyncio.create_task(flow.run_async({"n": 1}))
            await asyncio.sleep(0)

        asyncio.run(main())
        """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    ended = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=WAIT, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert status_of(tmp_path / "runs.db", "r") == ("cancelled", 0)


class Forever(Node):
    """Says when it waits, for ever."""

    def __init__(self) -> None:
        self.waits = asyncio.Event()

    async def exec(self, prep_result: Any) -> None:
        self.waits.set()
        await asyncio.Event().wait()


class ForeverEach(BatchNode):
    """The same, for several items."""

    concurrency = 2

    def __init__(self) -> None:
        self.waits = asyncio.Event()

    def prep(self, store: Store[Any]) -> list[int]:
        return [1, 2]

    async def exec(self, item: int) -> None:
        self.waits.set()
        await asyncio.Event().wait()


class ForeverBeside(Parallel):
    """The same, in a branch."""

    def __init__(self) -> None:
        node = Forever()
        super().__init__(node)
        self.waits = node.waits


@pytest.mark.parametrize("make", [Forever, ForeverEach, ForeverBeside])
def test_a_run_whose_loop_was_closed_under_it_has_an_end(tmp_path: Path, make: Any) -> None:
    """A task that is thrown away with its loop leaves no run that reads as running.

    Nor does it leave its context to whoever throws it away.
    """
    path, node, tasks = tmp_path / "runs.db", make(), []
    coroutine = Flow(node, db_path=path, run_id="r").run_async({})
    loop = asyncio.new_event_loop()

    async def drive() -> None:
        tasks.append(loop.create_task(coroutine))
        await node.waits.wait()

    loop.run_until_complete(drive())
    loop.close()
    coroutine.close()
    commits._finish()
    assert status_of(path, "r")[0] in ("failed", "cancelled")
    gc.collect()
    with pytest.raises(NoRunError):
        context()


# -- items ------------------------------------------------------------------------------------

BATCH = """
import asyncio, os, signal, sys
from pocoflow import BatchNode, Flow

kind, way, number = sys.argv[1], sys.argv[2], int(sys.argv[3])
log = os.open("log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def work(item):
    os.write(log, b"%d\\n" % item)
    if item == number:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


class Work(BatchNode):
    concurrency = 8

    def prep(self, store):
        return range(2000)

    def post(self, store, items, results):
        store["sum"] = sum(results)
        return "done"


class Threads(Work):
    def exec(self, item):
        return work(item)


class Tasks(Work):
    async def exec(self, item):
        return work(item)


flow = Flow(globals()[kind](), db_path="runs.db", run_id="r")
started = os.path.exists("runs.db")
if way == "run":
    store = flow.resume("r") if started else flow.run({})
else:
    store = asyncio.run(flow.resume_async("r") if started else flow.run_async({}))
assert store["sum"] == sum(range(2000))
"""


@pytest.mark.parametrize("way", ["run", "run_async"])
@pytest.mark.parametrize("kind", ["Threads", "Tasks"])
def test_a_kill_costs_no_more_items_than_work_at_once(
    kind: Literal["Threads", "Tasks"], way: str, tmp_path: Path
) -> None:
    """Of instant items on eight workers, at most eight are called again after each kill."""
    program = tmp_path / "program.py"
    program.write_text(BATCH, encoding="utf-8")
    for kill in (300, 900, 1500, -1):
        command = [sys.executable, str(program), kind, way, str(kill)]
        ended = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=WAIT * 4, check=False
        )
        assert ended.returncode == (0 if kill < 0 else -9), ended.stderr
    calls = Counter((tmp_path / "log").read_text().split())
    assert len(calls) == 2000
    assert sum(calls.values()) - 2000 <= 3 * 8


def test_the_items_of_a_busy_database_fail_after_one_busy_timeout(tmp_path: Path) -> None:
    """Workers that wait for one database give up together, not one after another."""
    path = tmp_path / "runs.db"
    blocker = held(path)
    calls: list[int] = []

    class Work(BatchNode[int, int, str]):
        concurrency = 8

        def prep(self, store: Store[Any]) -> range:
            blocker.__enter__()
            return range(100)

        def exec(self, item: int) -> int:
            calls.append(item)
            return item

    with WorkflowDB(path, busy_timeout=0.5) as db:
        with pytest.raises(DatabaseBusyError):
            Flow(Work(), db_path=db).run({})
        blocker.__exit__(None, None, None)
    assert len(calls) <= 16
