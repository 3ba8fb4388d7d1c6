"""PF408: an ``exec`` that changes what is the store's."""

from typing import Any

import pytest
from pydantic import BaseModel

from pocoflow import BatchNode, Flow, Node, Store, fields, node


class Talk(BaseModel):
    """What the flows work on."""

    words: list[str] = []
    table: dict[str, list[int]] = {}
    count: int = 0


T = fields(Talk)


class Chat(Node[Any, Any, Any]):
    """Takes a list of the store, and leaves it as it is."""

    def prep(self, store: Store[Talk]) -> Any:
        """Give it."""
        return store.state.words

    def exec(self, given: Any) -> Any:
        """Count."""
        return len(given)


class Appends(Chat):
    """Changes it."""

    def exec(self, given: Any) -> Any:
        """Append."""
        given.append("x")
        return len(given)


class ByKey(Appends):
    """Takes it by its key, through a name."""

    def prep(self, store: Store[Talk]) -> Any:
        """Give it."""
        words = store["words"]
        return words


class Whole(Chat):
    """Takes the store itself, and writes to it."""

    def prep(self, store: Store[Talk]) -> Any:
        """Give it."""
        return store

    def exec(self, given: Any) -> Any:
        """Write deep inside."""
        given["table"]["a"] = [1]


class Awaits(Appends):
    """Changes it in a coroutine."""

    async def exec(self, given: Any) -> Any:
        """Delete."""
        if given:
            del given[0]


class Items(BatchNode[Any, Any, Any]):
    """Changes the items of a dict of the store."""

    def prep(self, store: Store[Talk]) -> Any:
        """Give it."""
        return store.get("table")

    def exec(self, item: Any) -> Any:
        """Change one."""
        item[0] += 1


@node(writes=T.count)
def appends(words: list[str]) -> int:
    """Change a parameter."""
    words.append("x")
    return len(words)


class Copies(Appends):
    """Gives a copy."""

    def prep(self, store: Store[Talk]) -> Any:
        """Give it."""
        return [*store.state.words]


class Takes(Chat):
    """Works on a copy of its own."""

    def exec(self, given: Any) -> Any:
        """Copy, and change."""
        given = list(given)
        given.append("x")
        return len(given)


class Returns(Chat):
    """Returns what it has changed, so that it is on record."""

    def exec(self, given: Any) -> Any:
        """Change, and return."""
        given.append("x")
        return given


class ReturnsWithMore(Chat):
    """Returns it with something beside it, or by another name."""

    def exec(self, given: Any) -> Any:
        """Change, and return."""
        given.append("x")
        found = {"words": given, "last": given[-1]}
        if len(given) > 3:
            return found
        return given, "x"


class ReturnsItsElements(Chat):
    """Returns what is in it, as one of two lists."""

    def exec(self, given: Any) -> Any:
        """Change, and return."""
        given.append("x")
        return [*given, "y"] if given else []


@node(writes=T.words)
def returns(words: list[str]) -> list[str]:
    """Return what was changed."""
    words.append("x")
    return words


@node(writes=T.count)
def local(words: list[str]) -> int:
    """Change what is its own."""
    mine = dict.fromkeys(words, 0)
    mine.update({"a": 1})
    return len(mine)


def told(start: Any) -> list[str]:
    """The findings of the rule, with the name that they tell."""
    found = Flow(start, schema=Talk).validate()
    return [one.message.split("'")[1] for one in found if one.code == "PF408"]


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (Appends(), "given"),
        (ByKey(), "given"),
        (Whole(), "given"),
        (Awaits(), "given"),
        (Items(), "item"),
        (appends, "words"),
    ],
)
def test_what_an_exec_changes_in_the_store_is_found(start: Any, name: str) -> None:
    """A change that a crash, or another attempt, would lose is told of, with its name."""
    assert told(start) == [name]


@pytest.mark.parametrize(
    "start",
    [
        Chat(),
        Copies(),
        Takes(),
        Returns(),
        ReturnsWithMore(),
        ReturnsItsElements(),
        returns,
        local,
    ],
)
def test_what_is_not_lost_is_not_found(start: Any) -> None:
    """A copy may be changed, and what is returned is on record."""
    assert told(start) == []


class Tries(Whole):
    """Works on a copy, as another attempt may follow."""

    max_retries = 2


class FallsBack(Appends):
    """Works on a copy, which its fallback must not see."""

    def exec_fallback(self, given: Any, exc: Exception) -> Any:
        """Give nothing."""


class Client:
    """A client, which is shared and not copied."""

    def add(self, item: object) -> None:
        """Send it."""


class Adds(Chat):
    """Calls a method of a client that has the name of one of a set."""

    max_retries = 2

    def prep(self, store: Store[Any]) -> Any:
        """Give it."""
        return store["client"]

    def exec(self, given: Any) -> Any:
        """Send."""
        given.add(1)


@pytest.mark.parametrize(
    ("kind", "lost"),
    [(Tries, True), (FallsBack, True), (Whole, False), (Appends, False), (Adds, False)],
)
def test_what_each_run_loses_is_logged_before_it(
    kind: type[Node], lost: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Also of a flow that declares nothing, once; what only a crash would lose is not."""
    Flow(start=kind()).run({"words": [], "table": {}, "client": Client()})
    told = [one.getMessage() for one in caplog.records]
    assert [("PF408" in one, "so the change is lost" in one) for one in told] == [
        (True, True)
    ] * lost


def test_one_node_of_a_class_that_loses_what_others_keep_is_found(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Settings may be those of a node."""
    Flow(start=Whole()).run({"table": {}})
    assert not caplog.records
    plain, tried = Whole(name="plain"), Whole(name="tried")
    tried.max_retries = 3
    Flow(start=plain.then("default", tried)).run({"table": {}})
    (record,) = caplog.records
    assert "node 'tried': exec changes 'given'" in record.getMessage()
