"""Functions that write and choose their action: ``@node(writes=..., actions=True)``."""

import asyncio
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from pocoflow import END, Flow, Question, Store, fields, key, node
from pocoflow.errors import ActionError, DefinitionError, InvalidValueError


class Article(BaseModel):
    """The store."""

    text: str = ""
    score: float = 0.0
    count: int = 0


A = fields(Article)


class Route(StrEnum):
    """Where to go."""

    UP = "up"
    DOWN = "down"


@node(writes=A.score, actions=True)
def grade(text: str) -> tuple[float, Literal["good", "bad"]]:
    """Grade a text by its length."""
    return len(text) / 10, "good" if len(text) > 5 else "bad"


@node(writes=(A.score, A.count), actions=True)
async def both(text: str, count: int) -> tuple[float, int, Route]:
    """Write two fields."""
    return float(len(text)), count + 1, Route.UP if count < 2 else Route.DOWN


def test_the_last_element_is_the_action_and_the_others_are_written() -> None:
    """The value goes to the field, the action to the edges, and a call gives both."""
    flow = Flow(start=grade, schema=Article)
    flow.then(grade.when("good"), END).then(grade.when("bad"), END)
    seen: list[str] = []
    flow.on("node_end", lambda name, action, spent, store: seen.append(action))
    assert flow.run({"text": "long enough"})["score"] == 1.1
    assert flow.run({"text": "no"})["score"] == 0.2
    assert seen == ["good", "bad"]
    assert grade("no") == (0.2, "bad")
    assert grade.actions == ("good", "bad")
    assert flow.validate() == []


def test_several_fields_and_a_function_that_is_awaited(tmp_path: Path) -> None:
    """With several fields their values come first, one after another; a database keeps them."""
    flow = Flow(start=both, schema=Article, db_path=tmp_path / "runs.db")
    flow.then(both.when(Route.UP), both).then(both.when(Route.DOWN), END)
    store = asyncio.run(flow.run_async({"text": "tide"}))
    assert (store["score"], store["count"]) == (4.0, 3)
    assert flow.validate() == []
    flow.database.close()


def test_a_result_that_is_journaled_is_taken_again(tmp_path: Path) -> None:
    """After a crash in post, the value and the action come from the record."""
    calls: list[int] = []

    @node(writes=A.score, actions=True)
    def rate(text: str) -> tuple[float, Route]:
        calls.append(1)
        return 0.5, Route.DOWN

    class Halt(BaseException):
        pass

    flow = Flow(start=rate, schema=Article, db_path=tmp_path / "runs.db", run_id="one")
    flow.then(rate.when(Route.UP), END).then(rate.when(Route.DOWN), END)
    finish = rate.post

    def halt(*given: Any) -> Any:
        raise Halt

    rate.post = halt  # type: ignore[method-assign]
    with pytest.raises(Halt):
        flow.run({"text": "tide"})
    rate.post = finish  # type: ignore[method-assign]
    assert flow.resume("one")["score"] == 0.5
    assert calls == [1]
    flow.database.close()


def test_none_is_the_default_action_and_an_unknown_annotation_any() -> None:
    """The action is what it is for a function that only chooses."""

    @node(writes=key("x"), actions=True)
    def perhaps(n: int = key("n")) -> tuple[int, Literal["again"] | None]:
        return n, None

    @node(writes=key("x"), actions=True)
    def open_ended(n) -> Any:  # type: ignore[no-untyped-def]
        return n, "anything"

    assert perhaps.actions == ("again", "default")
    assert open_ended.actions is None
    ends = Flow(start=perhaps).then(perhaps, open_ended).then(perhaps.when("again"), END)
    assert ends.then(open_ended.when("anything"), END).run({"n": 2})["x"] == 2


def test_the_whole_store_may_be_a_parameter() -> None:
    """Such a function runs in post, and its result is used in the same way."""

    @node(writes=A.count, actions=True)
    def count(store: Store[Article]) -> tuple[int, Literal["done"]]:
        return len(store["text"]), "done"

    flow = Flow(start=count, schema=Article).then(count.when("done"), END)
    assert flow.run({"text": "tide"})["count"] == 4


def test_a_result_of_another_form_fails() -> None:
    """No tuple, one of another length, and an action that is not declared; nothing is written."""
    given: Any = None

    @node(writes=A.score, actions=True)
    def wrong(text: str) -> tuple[float, Literal["good", "bad"]]:
        result: tuple[float, Literal["good", "bad"]] = given
        return result

    flow = Flow(start=wrong, schema=Article)
    flow.then(wrong.when("good"), END).then(wrong.when("bad"), END)
    for form in (0.5, (0.5,), (0.5, 1, "good")):
        given = form
        with pytest.raises(InvalidValueError, match="a tuple of 2, the action last, not"):
            flow.run({"text": ""})
    given = (0.5, "god")
    store = Store({"text": ""}, schema=Article)
    with pytest.raises(ActionError, match="not among its actions"):
        flow.run(store)
    assert store["score"] == 0.0


def test_edges_are_checked_by_what_it_declares() -> None:
    """An action without an edge, and an edge that is never taken, are findings."""
    flow = Flow(start=grade, schema=Article)
    wrong: Any = "god"
    flow.then(grade.when("good"), END).then(grade.when(wrong), END)
    assert [one.code for one in flow.validate()] == ["PF102", "PF103"]


def text_and_action() -> tuple[str, Literal["good"]]:
    """Give a text where a number is written."""
    return "", "good"


def no_tuple() -> float:
    """Give no action."""
    return 1.0


def too_short() -> tuple[float, Literal["good"]]:
    """Give one value."""
    return 1.0, "good"


def any_text() -> tuple[float, str]:
    """Give any text as the action."""
    return 1.0, "good"


def asks() -> tuple[float, Literal["good"]] | Question[tuple[float, Literal["good"]]]:
    """Ask somebody."""
    return Question("?")


def of_item(item: int) -> tuple[float, Literal["good"]]:
    """Work on an item."""
    return 1.0, "good"


@pytest.mark.parametrize(
    ("function", "settings", "said"),
    [
        (no_tuple, {"writes": A.score}, "returns a tuple of what it writes"),
        (too_short, {"writes": (A.score, A.text)}, "tuple[..., ..., Literal['...']], not"),
        (any_text, {"writes": A.score}, "its action, and it is str: declare the actions"),
        (asks, {"writes": A.score}, "it asks, so no single result"),
        (of_item, {"writes": A.score, "each": key("xs")}, "it works on items"),
        (too_short, {}, "without writes= what it returns is its action anyway"),
        (too_short, {"writes": A.score, "actions": "yes"}, "actions='yes': it is True"),
    ],
)
def test_what_cannot_choose_is_refused(function: Any, settings: dict[str, Any], said: str) -> None:
    """A mistake is refused where the function is decorated, with what to write."""
    decorate: Any = node
    with pytest.raises(DefinitionError) as caught:
        decorate(**{"actions": True, **settings})(function)
    assert said in str(caught.value)


def test_what_is_written_is_checked_against_the_schema() -> None:
    """The part of the tuple that is written has to fit its field."""
    decorate: Any = node
    wrong = decorate(writes=A.score, actions=True)(text_and_action)
    flow = Flow(start=wrong, schema=Article).then(wrong.when("good"), END)
    assert [one.code for one in flow.validate()] == ["PF203"]
