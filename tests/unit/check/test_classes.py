"""What is wrong with a class is read once and said once, however many nodes there are of it."""

import ast
from collections.abc import Awaitable, Coroutine, Iterable, Iterator
from itertools import pairwise
from typing import Any, Generic, Literal, TypeVar

import pytest
from pydantic import BaseModel

from pocoflow import BatchNode, Flow, Node, Question, Store

T = TypeVar("T")


class S(BaseModel):
    """The store."""

    text: str = ""
    count: int = 0


class Wrong(Node[str, int, Literal["default"]]):
    """Has a mistake of each kind that a class can have."""

    max_retires = 3

    def prep(self, store: Store[S]) -> str:
        """Read a field that is not there."""
        return str(store["txt"])

    def exec(self, text: int) -> int:  # type: ignore[override]  # ty: ignore[invalid-method-override]
        """Take another type than prep gives."""
        return text

    def post(self, store: Store[S], text: str, result: int) -> Literal["default"]:
        """Write another type than the field holds."""
        store["count"] = text
        return "default"


def chain(length: int) -> Flow[Any]:
    """Nodes of the class, one behind the other."""
    nodes = [Wrong(name=f"node {number}") for number in range(length)]
    flow: Flow[Any] = Flow(nodes[0], schema=S)
    for one, successor in pairwise(nodes):
        flow.then(one, successor)
    return flow


def test_a_mistake_of_a_class_is_one_finding() -> None:
    """Ten nodes of a class give the findings of one."""
    one = [(it.code, it.line) for it in chain(1).validate()]
    assert {code for code, _ in one} >= {"PF201", "PF203", "PF204", "PF208"}
    assert [(it.code, it.line) for it in chain(10).validate() if it.code != "PF302"] == one


def test_a_class_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The source of a class is not read anew for each of its nodes, nor for each flow."""
    chain(2).validate()
    parsed: list[object] = []
    monkeypatch.setattr(ast, "parse", lambda *given, **_: parsed.append(given))
    chain(50).validate()
    assert parsed == []


def test_a_phase_of_one_node_is_its_own() -> None:
    """A node whose phase was replaced is not taken for one of its class, and its class stays."""
    first, second = Wrong(name="first"), Wrong(name="second")
    vars(first)["prep"] = lambda store: "text"
    flow: Flow[Any] = Flow(first, schema=S).then(first, second)
    found = [it.node for it in flow.validate() if it.code == "PF201"]
    assert found == ["second"]


class Lengths(BatchNode[str, int, Literal["default"]]):
    """Is right."""

    def prep(self, store: Store[S]) -> Iterator[str]:
        """Give the items one after the other."""
        yield from store.state.text.split()

    def exec(self, item: str) -> int:
        """Work on one."""
        return len(item)

    def post(self, store: Store[S], items: Iterable[str], results: list[int]) -> Literal["default"]:
        """Add them up."""
        store.state.count = sum(results)
        return "default"


class Paged(Generic[T]):
    """Gives its items in pages."""

    def __iter__(self) -> Iterator[list[T]]:
        """Give the only page."""
        return iter([[]])


class Pages(BatchNode[list[str], int, Literal["default"]]):
    """Is right as well: what the items of a class of yours are is not known."""

    def prep(self, store: Store[S]) -> Paged[str]:
        """Give the pages."""
        return Paged()

    def exec(self, page: list[str]) -> int:
        """Work on one."""
        return len(page)


class OtherItems(Lengths):
    """Gives other items than it says."""

    def prep(self, store: Store[S]) -> list[bytes]:  # type: ignore[override]  # ty: ignore[invalid-method-override]
        """Give bytes."""
        return [store.state.text.encode()]


class OtherResults(Lengths):
    """Gives other results than it says, and takes others."""

    def exec(self, item: str) -> str:  # type: ignore[override]  # ty: ignore[invalid-method-override]
        """Give the item."""
        return item

    def post(  # type: ignore[override]
        self,
        store: Store[S],
        items: object,
        results: list[str],  # ty: ignore[invalid-method-override]
    ) -> Literal["default"]:
        """Take them."""
        return "default"


class Adds(Lengths):
    """Writes the list of its results to a field for one, and says nothing of what it is given."""

    def post(self, store: Any, items: Any, results: Any) -> Literal["default"]:
        """Write it."""
        store["count"] = results
        return "default"


class Unsaid(Node[None, None, Literal["good", "bad"]]):
    """Returns an action that it does not say, beside one that it does."""

    def post(self, store: Store[S], prep: None, result: None) -> Literal["good", "new"]:  # type: ignore[override]  # ty: ignore[invalid-method-override]
        """Return it."""
        return "new"


class Asks(BatchNode[str, Question[bool], str]):
    """Says that it asks a person, and is right but for the database."""

    def prep(self, store: Store[S]) -> list[str]:
        """Give the items."""
        return store.state.text.split()

    def exec(self, item: str) -> Question[bool]:
        """Ask."""
        return Question(item)


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (Lengths, []),
        (Pages, []),
        (Asks, [("PF404", "error")]),
        (OtherItems, [("PF204", "error"), ("PF204", "error"), ("PF205", "error")]),
        (OtherResults, [("PF205", "error"), ("PF205", "error")]),
        (Adds, [("PF203", "error")]),
        (Unsaid, [("PF205", "warning")]),
    ],
)
def test_what_a_class_says_of_itself_holds_for_batches_and_for_each_action(
    kind: type[Node], told: list[tuple[str, str]]
) -> None:
    """Items, results and actions are compared with the annotations of the methods."""
    found = Flow(kind(), schema=S).validate()
    assert sorted((one.code, one.severity) for one in found) == told
    if kind is Adds:
        assert found[0].message.startswith("it writes 'results', a list[int], to field 'count'")


@pytest.mark.parametrize(
    "hint", [Awaitable, Coroutine, Awaitable[int], Coroutine[Any, Any, int]], ids=str
)
def test_a_phase_that_gives_a_coroutine_hands_on_what_that_gives(hint: Any) -> None:
    """An annotation that does not say what that is fits whatever takes it."""

    class Counts(Node):
        """Gives a coroutine without being one."""

        def exec(self, prep_result: object) -> hint:
            """Begin to count."""

            async def count() -> int:
                return 1

            return count()

        def post(self, store: Store[S], prep_result: object, exec_result: int) -> None:
            """Take what has been counted."""
            store.state.count = exec_result

    assert Flow(Counts(), schema=S).validate() == []
    assert Flow(Counts(), schema=S).run()["count"] == 1
