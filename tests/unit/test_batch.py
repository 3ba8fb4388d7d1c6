"""Batch nodes: ``exec`` mapped over items, in order, several at once, each finished item kept."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pocoflow import BatchNode, Flow, RunCancelled, Store, WorkflowDB, context
from pocoflow.errors import ActionError, DefinitionError


class Double(BatchNode[int, int, str]):
    """Doubles each number of ``store["numbers"]``."""

    def prep(self, store: Store[Any]) -> Iterable[int]:
        numbers: list[int] = store["numbers"]
        return numbers

    def exec(self, item: int) -> int:
        return item * 2

    def post(self, store: Store[Any], items: Any, results: list[int]) -> str:
        store["doubled"] = results
        return "done"


class DoubleAsync(Double):
    """The same, asynchronously; later items finish first."""

    async def exec(self, item: int) -> int:  # type: ignore[override]
        for _ in range(5 - item % 5):
            await asyncio.sleep(0)
        return item * 2


def with_settings(kind: type[Double], **settings: Any) -> Double:
    """An instance with settings of its own."""
    node = kind()
    for name, value in settings.items():
        setattr(node, name, value)
    return node


@pytest.mark.parametrize("kind", [Double, DoubleAsync])
@pytest.mark.parametrize("concurrency", [1, 4, 100])
@pytest.mark.parametrize("count", [0, 1, 23])
@pytest.mark.parametrize("driver", ["run", "run_async"])
def test_results_come_in_the_order_of_the_items(
    kind: type[Double], concurrency: int, count: int, driver: str
) -> None:
    """Results are in the order of the items, whatever finishes first and whoever drives."""
    flow = Flow(with_settings(kind, concurrency=concurrency))
    given = {"numbers": list(range(count))}
    store = flow.run(given) if driver == "run" else asyncio.run(flow.run_async(given))
    assert store["doubled"] == [number * 2 for number in range(count)]


@pytest.mark.parametrize("concurrency", [1, 3])
def test_items_are_taken_as_they_are_worked_on(concurrency: int) -> None:
    """An iterable larger than memory is read no further ahead than the concurrency."""
    taken: list[int] = []
    ended: list[int] = []
    ahead: list[int] = []

    class Lazy(Double):
        def prep(self, store: Store[Any]) -> Iterator[int]:
            for number in range(50):
                taken.append(number)
                yield number

        def exec(self, item: int) -> int:
            ahead.append(len(taken) - len(ended))
            ended.append(item)
            return item

    Flow(with_settings(Lazy, concurrency=concurrency)).run({})
    assert len(taken) == 50
    assert max(ahead) <= concurrency


def test_no_more_than_the_concurrency_runs_at_once() -> None:
    """With ``concurrency = 3`` three items meet at a barrier, and never a fourth."""
    barrier = threading.Barrier(3, timeout=30)
    guard = threading.Lock()
    now = most = 0

    class Meet(Double):
        concurrency = 3

        def exec(self, item: int) -> int:
            nonlocal now, most
            with guard:
                now += 1
                most = max(most, now)
            barrier.wait()
            with guard:
                now -= 1
            return item

    Flow(Meet()).run({"numbers": list(range(9))})
    assert most == 3


@pytest.mark.parametrize("concurrency", [1, 4])
def test_each_item_has_its_own_attempts_and_fallback(concurrency: int) -> None:
    """An item is retried by itself, and its own fallback gives its result at last."""
    calls: dict[int, int] = {}
    events: list[tuple[int | None, int]] = []

    class Flaky(Double):
        max_retries = 3

        def exec(self, item: int) -> int:
            calls[item] = calls.get(item, 0) + 1
            events.append((context().item, context().attempt))
            if item == 2 or (item == 1 and calls[item] < 3):
                raise ValueError(item)
            return item

        def exec_fallback(self, item: int, exc: Exception) -> int:
            return -item

    store = Flow(with_settings(Flaky, concurrency=concurrency)).run({"numbers": [0, 1, 2, 3]})
    assert store["doubled"] == [0, 1, -2, 3]
    assert calls == {0: 1, 1: 3, 2: 3, 3: 1}
    assert sorted(events, key=str) == sorted(
        [(0, 1), (1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 3), (3, 1)], key=str
    )


@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize("kind", [Double, DoubleAsync])
def test_a_failed_item_stops_the_batch_by_its_exception(
    kind: type[Double], concurrency: int
) -> None:
    """With ``on_error = "stop"`` the very exception of the item ends the run; it names the item."""

    class Sync(Double):
        def exec(self, item: int) -> int:
            if item == 3:
                raise LookupError("three")
            return item

    class Async(Double):
        async def exec(self, item: int) -> int:  # type: ignore[override]
            if item == 3:
                raise LookupError("three")
            await asyncio.sleep(0)
            return item

    node = with_settings(Sync if kind is Double else Async, concurrency=concurrency)
    with pytest.raises(LookupError, match="three") as caught:
        Flow(node).run({"numbers": list(range(8))})
    assert any("item 3" in note for note in caught.value.__notes__)


@pytest.mark.parametrize("items", [None, 3, "text"])
def test_a_prep_that_gives_no_items_is_where_the_run_failed(items: Any) -> None:
    """Neither nothing, nor a number, nor a text: the note names the phase that gave it."""

    class Gives(Double):
        def prep(self, store: Store[Any]) -> Any:
            return items

    with pytest.raises(ActionError, match="prep of batch node 'Gives' returned") as caught:
        Flow(Gives()).run({})
    assert "in prep of node 'Gives'" in caught.value.__notes__[0]


@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_collecting_batch_puts_exceptions_in_their_places(concurrency: int) -> None:
    """With ``on_error = "collect"`` the exception of an item stands where its result would."""

    class Odd(Double):
        on_error = "collect"

        def exec(self, item: int) -> int:
            if item % 2:
                raise ValueError(f"odd {item}")
            return item

    results = Flow(with_settings(Odd, concurrency=concurrency)).run({"numbers": [0, 1, 2, 3]})
    first, second, third, fourth = results["doubled"]
    assert (first, third) == (0, 2)
    assert [str(second), str(fourth)] == ["odd 1", "odd 3"]


def test_a_collected_failure_is_no_result_that_cannot_be_stored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Only ``post`` hears of it, and a resume of the step tries that item alone again."""
    executed: list[int] = []
    bug = [True]

    class Odd(Double):
        on_error = "collect"

        def exec(self, item: int) -> int:
            executed.append(item)
            if item % 2:
                raise ValueError(f"odd {item}")
            return item

        def post(self, store: Store[Any], items: Any, results: list[Any]) -> str:
            if bug:
                raise RuntimeError(bug.pop())
            store["doubled"] = [str(one) for one in results]
            return "done"

    flow = Flow(Odd(), db_path=tmp_path / "runs.db", run_id="r")
    with pytest.raises(RuntimeError):
        flow.run({"numbers": [0, 1, 2]})
    assert flow.resume("r")["doubled"] == ["0", "odd 1", "2"]
    assert executed == [0, 1, 2, 1]
    assert [one["note"] for one in flow.database.get_events("r")] == [None] * 8
    assert "cannot be stored" not in caplog.text


@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize("kind", [Double, DoubleAsync])
@pytest.mark.parametrize("driver", ["run", "run_async"])
def test_finished_items_are_not_executed_again(
    kind: type[Double], concurrency: int, driver: str, tmp_path: Path
) -> None:
    """After a failure, resume works only on the items that were not finished."""
    executed: list[int] = []
    broken = True

    class Sync(Double):
        def exec(self, item: int) -> int:
            executed.append(item)
            if broken and item == 15:
                raise RuntimeError("broken")
            return item * 2

    class Async(Double):
        async def exec(self, item: int) -> int:  # type: ignore[override]
            executed.append(item)
            await asyncio.sleep(0)
            if broken and item == 15:
                raise RuntimeError("broken")
            return item * 2

    node = with_settings(Sync if kind is Double else Async, concurrency=concurrency)
    flow = Flow(node, db_path=tmp_path / "runs.db", run_id="batch")
    with pytest.raises(RuntimeError, match="broken"):
        flow.run({"numbers": list(range(30))})
    before = list(executed)
    executed.clear()
    broken = False
    if driver == "run":
        store = flow.resume("batch")
    else:
        store = asyncio.run(flow.resume_async("batch"))
    assert store["doubled"] == [number * 2 for number in range(30)]
    repeated = set(before) & set(executed)
    assert 15 in repeated
    # Items that were being awaited when the batch stopped were never finished.
    assert len(repeated) <= (concurrency if kind is DoubleAsync else 1)
    assert sorted({*before, *executed}) == list(range(30))


def test_a_batch_is_one_step_with_one_checkpoint(tmp_path: Path) -> None:
    """However many items it has, a batch is one step of the run and leaves no journal behind."""
    flow = Flow(with_settings(Double, concurrency=5), db_path=tmp_path / "runs.db", run_id="one")
    flow.run({"numbers": list(range(40))})
    with WorkflowDB(tmp_path / "runs.db") as db:
        run = db.get_run("one")
        assert run is not None
        assert (run["status"], run["total_steps"]) == ("completed", 1)
        assert len(db.get_checkpoints("one")) == 1
        assert db.connection.rows("SELECT * FROM pf_log WHERE kind IN (3, 4, 5, 6)") == []


def test_cancel_stops_between_items() -> None:
    """A cancelled run takes no more items; ``wait`` says that it was cancelled."""
    started, go_on = threading.Event(), threading.Event()
    executed: list[int] = []

    class Slow(Double):
        def exec(self, item: int) -> int:
            executed.append(item)
            started.set()
            assert go_on.wait(30)
            return item

    handle = Flow(Slow()).run_background({"numbers": list(range(100))})
    assert started.wait(30)
    handle.cancel()
    go_on.set()
    with pytest.raises(RunCancelled):
        handle.wait(30)
    assert executed == [0]


def test_a_timeout_is_per_item() -> None:
    """An item that exceeds the timeout fails by itself; the others have their results."""
    release = threading.Event()

    class Stuck(Double):
        timeout = 0.05
        concurrency = 2
        on_error = "collect"

        def exec(self, item: int) -> int:
            if item == 1:
                release.wait(30)
            return item

    store = Flow(Stuck()).run({"numbers": [0, 1, 2]})
    release.set()
    assert store["doubled"][0] == 0
    assert store["doubled"][2] == 2
    assert isinstance(store["doubled"][1], TimeoutError)


@pytest.mark.parametrize("given", ["text", b"bytes", 5, None])
def test_prep_must_give_items(given: object) -> None:
    """What is not a collection of items is refused by name; a text is not taken apart."""

    class Wrong(Double):
        def prep(self, store: Store[Any]) -> Any:
            return given

    with pytest.raises(ActionError, match=rf"batch node 'Wrong' returned {given!r}:"):
        Flow(Wrong()).run({})


@pytest.mark.parametrize("setting", [{"concurrency": 0}, {"on_error": "ignore"}])
def test_senseless_settings_are_refused(setting: dict[str, Any]) -> None:
    """A concurrency below 1 or an unknown policy is refused before any node runs."""
    with pytest.raises(DefinitionError, match=next(iter(setting))):
        Flow(with_settings(Double, **setting)).run({"numbers": [1]})
