"""``@node(each=...)``: a function of one item, mapped over a field of the store."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from pocoflow import Flow, Store, WorkflowDB, context, fields, key, node, resource
from pocoflow.errors import DefinitionError, InvalidValueError
from tests.rows import row_of


class Pages(BaseModel):
    urls: list[str] = []
    prefix: str = ""
    pages: list[str] = []


A = fields(Pages)


@node(each=A.urls, writes=A.pages, concurrency=3)
def fetch(url: str, prefix: str) -> str:
    """Give the prefix and the url."""
    return f"{prefix}{url}"


@node(each=A.urls, writes=A.pages, concurrency=3)
async def fetch_async(url: str, prefix: str) -> str:
    """Give the same, later for longer urls."""
    for _ in range(len(url)):
        await asyncio.sleep(0)
    return f"{prefix}{url}"


@pytest.mark.parametrize("step", [fetch, fetch_async])
@pytest.mark.parametrize("driver", ["run", "run_async"])
def test_the_first_parameter_takes_each_item(step: Any, driver: str) -> None:
    """Each item of the field goes to the first parameter; the results are written in order."""
    given = Pages(urls=["ccc", "bb", "a"], prefix="/")
    flow = Flow(step, schema=Pages)
    store = flow.run(given) if driver == "run" else asyncio.run(flow.run_async(given))
    assert store["pages"] == ["/ccc", "/bb", "/a"]


def test_it_stays_a_plain_function_of_one_item() -> None:
    """Called by itself, it takes one item and returns one result."""
    assert fetch("x", "/") == "/x"
    assert fetch("x", prefix="-") == "-x"


def test_items_are_retried_and_journaled_by_themselves(tmp_path: Path) -> None:
    """After a failure for good, a resume works only on the items that were not finished."""
    calls: list[int] = []
    broken = [True]

    @node(each=key("numbers"), writes=key("doubled"), max_retries=2)
    def double(number: int) -> int:
        calls.append(number)
        if number == 3 and broken:
            raise ValueError(number)
        return number * 2

    flow = Flow(double, db_path=tmp_path / "runs.db", run_id="each")
    with pytest.raises(ValueError, match="3"):
        flow.run({"numbers": [1, 2, 3, 4]})
    broken.clear()
    assert flow.resume("each")["doubled"] == [2, 4, 6, 8]
    assert calls == [1, 2, 3, 3, 3, 4]
    with WorkflowDB(tmp_path / "runs.db") as db:
        assert db.get_run("each") == {**row_of(db, "each"), "status": "completed"}


def test_failures_are_collected_on_request() -> None:
    """With ``on_error="collect"`` the exception of an item takes the place of its result."""

    @node(each=key("numbers"), writes=key("halves"), on_error="collect")
    def halve(number: int) -> int:
        if number % 2:
            raise ValueError(number)
        return number // 2

    store = Flow(halve).run({"numbers": [2, 3, 4]})
    first, second, third = store["halves"]
    assert (first, type(second), third) == (1, ValueError, 2)


def test_a_function_of_items_may_write_nothing() -> None:
    """Without ``writes`` the function is called for each item and the default edge is taken."""
    seen: list[tuple[str, int | None]] = []

    @node(each=key("names"))
    def greet(name: str) -> None:
        seen.append((name, context().item))

    @node(writes=key("done"))
    def finish() -> bool:
        return True

    flow = Flow(greet)
    flow.then(greet, finish)
    assert flow.run({"names": ["a", "b"]})["done"]
    assert seen == [("a", 0), ("b", 1)]


def test_resources_and_defaults_work_beside_the_item() -> None:
    """The other parameters are fields, by name or reference, and resources, as usual."""
    words: dict[str, str] = resource(dict[str, str], "words")

    @node(each=key("names"), writes=key("out"))
    def look_up(name: str, table: dict[str, str] = words, end: str = "!") -> str:
        return table[name] + end

    store = Flow(look_up).run({"names": ["a"]}, resources={words: {"a": "alpha"}})
    assert store["out"] == ["alpha!"]


@pytest.mark.parametrize("given", ["text", b"bytes", 7])
def test_a_field_that_holds_no_items_is_refused(given: Any) -> None:
    """A text or a number where items are expected is refused by name, not taken apart."""

    @node(each=key("items"), writes=key("out"))
    def same(item: Any) -> Any:
        return item

    with pytest.raises(InvalidValueError, match=r"node 'same' works on each item of field 'items'"):
        Flow(same).run({"items": given})


def test_what_makes_no_sense_is_refused_at_decoration() -> None:
    """A wrong reference, a default for the item, the store, or an action is refused at once."""

    def plain(item: int) -> int:
        return item

    def default(item: int = 3) -> int:
        return item

    def nothing() -> int:
        return 1

    def whole(store: Store[Any]) -> None: ...

    def beside(item: int, store: Store[Any]) -> None: ...

    def acts(item: int) -> Literal["good", "bad"]:
        return "good" if item else "bad"

    out: Any = key("out")
    untyped: Any = node
    for function, settings, match in (
        (plain, {"each": "items", "writes": out}, "each='items' is a string"),
        (plain, {"each": 5, "writes": out}, "it takes a field reference"),
        (default, {"each": key("items"), "writes": out}, "so it has no default"),
        (nothing, {"each": key("items"), "writes": out}, "no such parameter"),
        (whole, {"each": key("items")}, "no such parameter"),
        (beside, {"each": key("items")}, "without the store"),
        (acts, {"each": key("items")}, "did you mean @node"),
        (plain, {"each": key("items"), "writes": (out, key("b"))}, "writes one field"),
        (plain, {"writes": out, "concurrency": 3}, "add each="),
        (plain, {"each": key("items"), "writes": out, "concurrency": 0}, "at least 1"),
    ):
        with pytest.raises(DefinitionError, match=match):
            untyped(**settings)(function)
