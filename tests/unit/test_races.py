"""What runs at the same time: nothing is left behind, done twice, or lost between two looks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from pocoflow import BatchNode, Flow, Node, Store


class Items(BatchNode[int, int, str]):
    """Works on items of which so many are there before the next one cannot be had."""

    concurrency = 3

    def __init__(self) -> None:
        super().__init__()
        self.seen = threading.Event()
        self.begun: list[int] = []
        self.ended: list[int] = []

    def prep(self, store: Store[Any]) -> Iterator[int]:
        yield from (0, 1)
        raise ConnectionError("no more")

    def exec(self, item: int) -> int:
        self.begun.append(item)
        self.seen.wait(0.2)  # by what comes next: in vain, as that waits for this
        self.ended.append(item)
        return item


class ItemsAsync(Items):
    """The same, asynchronously."""

    async def exec(self, item: int) -> int:  # type: ignore[override]
        self.begun.append(item)
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.append(item)
        return item


@pytest.mark.parametrize("kind", [Items, ItemsAsync])
@pytest.mark.parametrize("driver", ["run", "run_async"])
def test_a_batch_that_failed_has_ended_when_its_error_is_caught(
    kind: type[Items], driver: str
) -> None:
    """No item is at work any more when the next node is, also if it was the items that failed."""
    batch = kind()
    left: list[int] = []

    class Next(Node):
        async def exec(self, given: None) -> None:
            await asyncio.sleep(0)  # a turn for every other task
            left.extend(set(batch.begun) - set(batch.ended))
            batch.seen.set()

    flow = Flow(batch).then(batch.catch(ConnectionError), Next())
    flow.run({}) if driver == "run" else asyncio.run(flow.run_async({}))
    assert left == []


def test_no_item_is_begun_after_the_task_of_its_run_was_cancelled() -> None:
    """A batch in threads begins no more items once the task of its run was cancelled."""
    begun: list[int] = []
    at_work, go_on = threading.Event(), threading.Event()

    class Work(BatchNode[int, int, str]):
        concurrency = 2

        def prep(self, store: Store[Any]) -> range:
            return range(50)

        def exec(self, item: int) -> int:
            begun.append(item)
            if len(begun) == self.concurrency:
                at_work.set()
            go_on.wait()
            return item

    async def cancel() -> None:
        task = asyncio.ensure_future(Flow(Work()).run_async({}))
        await asyncio.to_thread(at_work.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go_on.set()

    asyncio.run(cancel())  # waits for the threads of its executor
    assert sorted(begun) == [0, 1]
