"""What the check knows of the items that a node works on."""

from collections.abc import ItemsView, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict

from pocoflow import BatchNode, FanOut, Flow, Node, Parallel, Store, fields, key, node
from pocoflow.check.item_rules import item_of
from pocoflow.errors import BranchError, MissingInputError
from pocoflow.failure import Failure
from pocoflow.reducers import append, extend
from tests.unit.check.test_validate import codes


class Batch(BaseModel):
    text: str = "ab"
    number: int = 3
    score: float = 0.5
    tags: list[str] = []
    lengths: list[int] = []


B = fields(Batch)


class Custom(list[int]):
    """A list of its own, of which nothing is known."""


@pytest.mark.parametrize(
    ("holds", "item"),
    [
        (list[str], str),
        (set[int], int),
        (frozenset[bytes], bytes),
        (Sequence[float], float),
        (Iterable[str | None], str | None),
        (tuple[int, ...], int),
        (tuple[int, str], int | str),
        (dict[str, int], str),
        (Mapping[int, str], int),
        (list[str] | None, str),
        (list[str] | str, str),
        (ItemsView[str, int], Any),
        (enumerate[str], Any),
        (list, Any),
        (Custom, Any),
        (Batch, Any),
        (Any, Any),
        (bytearray, Any),
        (str, None),
        (bytes, None),
        (int, None),
        (float | None, None),
        (Literal["a", "b"], None),
        (bool, None),
        (type(None), None),
    ],
)
def test_the_item_of_a_type(holds: object, item: object) -> None:
    """Containers of the library have the items of their argument; text and numbers have none."""
    assert item_of(holds) == item


def test_an_item_that_does_not_fit_its_parameter_is_found() -> None:
    """By the flow's schema, or without one by the model of the reference."""

    @node(each=B.tags)  # type: ignore[arg-type]
    def count(n: int) -> None:
        """Takes an int."""

    @node(each=B.tags)
    def read(tag: str, number: int) -> None:
        """Takes what is there."""

    for schema in (Batch, None):
        (one,) = Flow(start=count, schema=schema).validate()
        assert one.code == "PF202"
        assert one.message == (
            "parameter 'n' is annotated as int and takes each item of field Batch.tags, which "
            "holds list[str]"
        )
        assert Flow(start=read, schema=schema).validate() == []


@pytest.mark.parametrize("reference", [B.text, B.number, B.score])
def test_a_field_that_is_no_list_is_found(reference: Any) -> None:
    """Before the run, which would fail there; a text counts as no list."""

    @node(each=reference)
    def read(item: Any) -> None:
        """Takes anything."""

    assert codes(Flow(start=read, schema=Batch)) == ["PF207"]
    fan = FanOut(Node(name="do"), each=reference, as_=B.number)
    assert codes(Flow(start=fan, schema=Batch)) == ["PF207"]


class Collected(Batch):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    failures: list[int | Exception] = []
    whatever: list[Any] = []


@pytest.mark.parametrize(
    ("field", "wanted"), [("lengths", ["PF203"]), ("failures", []), ("whatever", [])]
)
def test_collected_exceptions_need_a_field_that_takes_them(field: str, wanted: list[str]) -> None:
    """A list of results has exceptions in it where items may fail, also before one does."""

    @node(each=B.tags, writes=getattr(fields(Collected), field), on_error="collect")
    def measure(tag: str) -> int:
        return len(tag)

    assert codes(Flow(start=measure, schema=Collected)) == wanted


def test_a_field_that_does_not_take_the_list_of_results_is_found() -> None:
    """What is said is of the list, which nobody has annotated."""
    text: Any = B.text

    @node(each=B.tags, writes=text)
    def shout(tag: str) -> str:
        return tag.upper()

    (one,) = Flow(start=shout, schema=Batch).validate()
    told = "the list of what it returns is list[str], for field Batch.text, which holds str"
    assert (one.code, one.message) == ("PF203", told)
    assert one.fix.startswith("let writes= name a field that holds list[str]")


def test_an_item_that_does_not_fit_the_field_of_its_branch_is_found() -> None:
    """``as_=`` names a field that holds an item of ``each=``."""
    wrong = FanOut(Node(name="do"), each=key("tags"), as_=key("number"))
    (one,) = Flow(start=wrong, schema=Batch).validate()
    assert one.code == "PF203"
    assert one.message == "it gives each item of 'tags', str, to field 'number', which holds int"
    right = FanOut(Node(name="do"), each=B.tags, as_=B.text)
    numbers = FanOut(Node(name="do"), each=B.lengths, as_=B.score)
    for fan in (right, numbers):
        assert Flow(start=fan, schema=Batch).validate() == []
    # Without a schema nothing is known of what a key holds.
    assert Flow(start=FanOut(Node(), each=key("tags"), as_=key("number"))).validate() == []


class Reduced(BaseModel):
    texts: list[str] = ["a"]
    notes: Annotated[Any, append] = None


def test_an_item_for_a_field_with_a_reducer_is_found() -> None:
    """A branch would be refused what it is given, unless it has the field for itself."""
    R = fields(Reduced)

    @node
    def look(notes: Any) -> None:
        assert notes == "a"

    wrong = Flow(FanOut(look, each=R.texts, as_=key("notes"), name="each"), schema=Reduced)
    (found,) = wrong.validate()
    assert (found.code, found.severity, found.node) == ("PF203", "error", "each")
    assert "'notes', which has a reducer" in found.message
    unproved = Flow(wrong.start, schema=Reduced, ignore=("PF",))
    with pytest.raises(BranchError, match="has a reducer"):
        unproved.run({})
    own = FanOut(look, each=R.texts, as_=key("notes"), private=(R.notes,), name="each")
    assert [one.message for one in Flow(own, schema=Reduced).validate()] == []


class Failing(BaseModel):
    every: list[Failure] = []
    none: list[Failure] | None = None
    tags: list[str] = []
    one: Failure | None = None
    more: Annotated[list[Failure], extend] = []
    each: Annotated[list[Failure], append] = []


@pytest.mark.parametrize(
    ("field", "code"),
    [
        *(("every", None), ("none", None), ("more", None)),
        *(("tags", "PF203"), ("one", "PF203"), ("each", "PF203")),
    ],
)
def test_failures_of_branches_fit_the_field_that_they_are_for(field: str, code: str | None) -> None:
    """What would be seen when the first branch fails is seen before the run."""
    flow = Flow(
        Parallel(Node(name="a"), Node(name="b"), on_error="collect", errors=key(field), name="p"),
        schema=Failing,
    )
    assert [(one.code, one.node) for one in flow.validate()] == ([(code, "p")] if code else [])


def test_the_field_of_the_items_is_read() -> None:
    """It is an input of a run, and a node that writes it writes it for somebody."""

    @node(each=key("words"))
    def read(word: str) -> None:
        """Takes a word."""

    @node(writes=key("words"))
    def split(text: str) -> list[str]:
        return text.split()

    with pytest.raises(MissingInputError, match="'words' \\(node 'read' reads it"):
        Flow(start=read).run()
    flow = Flow(start=split).then(split, read).then(read, split)
    assert "PF302" not in codes(flow)
    assert codes(Flow(start=read, inputs=(key("text"),)).then(read, split)) == ["PF301"]
    (one,) = Flow(start=read, schema=Batch).validate()
    assert one.message.startswith("it works on each item of 'words', which Batch does not have")


@pytest.mark.parametrize(
    ("gives", "wanted"),
    [
        (str, ["PF207"]),
        (int | None, ["PF207"]),
        (Literal["ab"], ["PF207"]),
        *((one, []) for one in (list[str], str | list[str], Iterator[Any], Any, Custom, "Nowhere")),
    ],
)
def test_a_batch_that_gives_no_items_is_found(gives: Any, wanted: list[str]) -> None:
    """A run does not take a text for items; what is not known is left alone."""

    class Letters(BatchNode):
        def prep(self, store: Store[Batch]) -> Any:
            """Give the items."""
            return store["text"]

    Letters.prep.__annotations__["return"] = gives
    found = [one for one in Flow(Letters(), schema=Batch).validate() if one.severity == "error"]
    assert [one.code for one in found] == wanted
