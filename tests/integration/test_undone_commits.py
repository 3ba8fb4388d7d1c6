"""What was written in a transaction that is undone, as others of it failed, is written once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import AfterValidator, BaseModel

from pocoflow import (
    BatchNode,
    Flow,
    Node,
    Question,
    RunPaused,
    Store,
    WorkflowDB,
    context,
    key,
    node,
)
from pocoflow.engine import commits
from pocoflow.errors import RunExistsError
from pocoflow.events import FlowCancelled
from tests.rows import held, raw_of, row_of

ITEMS = 8


class Order(BaseModel):
    """A store whose validator must not see its own result."""

    cents: Annotated[int, AfterValidator(lambda euros: euros * 100)] = 0


class Quick(Node):
    """Has nothing to do."""

    async def exec(self, prep_result: Any) -> int:
        return 1


@node(writes=key("answer"))
async def approve() -> Question[str]:
    """Asks, and pauses its run."""
    return Question("All right?")


class Paid(BatchNode[int, int, str]):
    """Pays for items, all at once; they end when all are there, and somebody lets them."""

    concurrency = ITEMS

    def __init__(self) -> None:
        super().__init__()
        self.all_there, self.may_end = asyncio.Event(), asyncio.Event()
        self.waiting = 0

    def prep(self, store: Store[Any]) -> list[int]:
        return list(range(ITEMS))

    async def exec(self, item: int) -> int:
        context().spend(usd=1)
        self.waiting += 1
        if self.waiting == ITEMS:
            self.all_there.set()
        await self.may_end.wait()
        return item


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database that has a run ``taken``."""
    Flow(Quick(), flow_name="quick", db_path=tmp_path / "runs.db").run({}, run_id="taken")
    return tmp_path / "runs.db"


async def begun(run: Coroutine[Any, Any, Any], *, alone: bool = False) -> asyncio.Task[Any]:
    """A run as a task that waits for its first commit, behind those before it, or alone."""
    task = asyncio.create_task(run)
    for _ in range(3):
        await asyncio.sleep(0)
    waiting = [one.queue for one in commits._threads.values() if alone]
    while not all(one.empty() for one in waiting):  # noqa: ASYNC110 - emptied by a thread
        await asyncio.sleep(0.001)
    return task


def test_the_validators_of_inputs_are_called_once(path: Path) -> None:
    """A run that has to begin again does so with the values that were accepted."""
    flow = Flow(Quick(), flow_name="quick", schema=Order, db_path=path)
    given = [{"cents": number} for number in range(12)]

    async def main() -> list[Any]:
        with held(path):
            runs = [await begun(flow.run_async(one)) for one in given]
            runs.append(await begun(flow.run_async({}, run_id="taken")))
        return await asyncio.gather(*runs, return_exceptions=True)

    *stores, refused = asyncio.run(main())
    assert isinstance(refused, RunExistsError)
    assert [store["cents"] for store in stores] == [100 * number for number in range(12)]
    assert [one["cents"] for one in given] == [100 * number for number in range(12)]


def test_a_run_pauses_though_others_fail_beside_it(path: Path) -> None:
    """It waits for its answer; what is written beside its pause does not end it."""
    flow = Flow(approve, flow_name="approve", db_path=path)
    refused: list[asyncio.Task[Any]] = []

    async def main() -> list[Any]:
        def begin_one(*facts: object) -> None:
            refused.append(asyncio.create_task(flow.run_async({}, run_id="taken")))

        flow.on("node_ask", begin_one)
        runs = (flow.run_async({}) for _ in range(12))
        outcomes = await asyncio.gather(*runs, return_exceptions=True)
        await asyncio.wait(refused)
        return outcomes

    outcomes = asyncio.run(main())
    assert all(isinstance(one.exception(), RunExistsError) for one in refused)
    assert all(isinstance(one, RunPaused) for one in outcomes), outcomes
    with WorkflowDB(path) as db:
        assert Counter(run["status"] for run in db.list_runs(flow_name="approve")) == {"paused": 12}


def test_a_run_that_is_cancelled_as_it_begins_tells_of_it_once(path: Path) -> None:
    """Listeners hear once of the end, also if what others write beside it fails."""
    flow = Flow(Quick(), flow_name="quick", db_path=path)
    flow.run({})  # the database is open
    told: list[object] = []
    flow.subscribe(lambda event, store: told.append(event))

    async def main() -> list[Any]:
        with held(path):
            first = await begun(flow.run_async({}), alone=True)
            cancelled = await begun(flow.run_async({}, run_id="cancelled"))
            cancelled.cancel()
            await asyncio.wait([cancelled])
            refused = [await begun(flow.run_async({}, run_id="taken")) for _ in range(3)]
        return await asyncio.gather(first, cancelled, *refused, return_exceptions=True)

    asyncio.run(main())
    with WorkflowDB(path) as db:
        assert row_of(db, "cancelled")["status"] == "cancelled"
    assert sum(isinstance(one, FlowCancelled) for one in told) == 1


def test_what_items_and_the_end_of_their_run_write_together_is_written_once(path: Path) -> None:
    """What was spent counts once, and what ``prep`` gave is stored once, whoever writes it."""

    async def main() -> None:
        paid = Paid()
        run = asyncio.create_task(Flow(paid, db_path=path).run_async({}, run_id="paid"))
        await paid.all_there.wait()
        with held(path):
            first = await begun(Flow(Quick(), db_path=path).run_async({}), alone=True)
            paid.may_end.set()
            for _ in range(3 * ITEMS):
                await asyncio.sleep(0)
            run.cancel()
            await asyncio.wait([run])
        await first

    asyncio.run(main())
    with WorkflowDB(path) as db:
        wanted = "SELECT count(*) FROM pf_log WHERE kind = 6 AND id >> 32 = ?"
        run = row_of(db, "paid")
        (prepared,) = db.connection.rows(wanted, (run["run_no"],))
        assert (run["status"], prepared[0]) == ("cancelled", 1)
        assert db.get_account("paid") == {"usd": Decimal(ITEMS)}


class Fails(Node):
    """Fails with an error that may take more room than there is."""

    async def exec(self, prep_result: Any) -> None:
        raise ValueError("x")

    async def prep(self, store: Store[Any]) -> None:
        if store["is_long"]:
            raise ValueError("x" * 4_000_000)


def test_listeners_hear_of_an_end_that_could_not_be_recorded(path: Path) -> None:
    """As of that of a run which ends alone: the database is full, and the run has failed."""
    with WorkflowDB(path) as db:
        raw_of(db).execute("PRAGMA max_page_count = 800")
        flow = Flow(Fails(), db_path=db)
        told: list[object] = []
        flow.on("flow_error", lambda error, store: told.append(error))

        async def main() -> list[Any]:
            runs = (flow.run_async({"is_long": number == 7}) for number in range(20))
            return list(await asyncio.gather(*runs, return_exceptions=True))

        outcomes = asyncio.run(main())
        assert all(isinstance(one, ValueError) for one in outcomes), outcomes
        assert len(told) == 20
        found = Counter(run["error_type"] for run in db.list_runs(status="failed"))
    assert found == {"ValueError": 19, "Interrupted": 1}
