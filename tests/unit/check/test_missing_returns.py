"""A ``return`` that is missing is found before the run, and named where it cannot be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from pocoflow import END, BatchNode, Flow, Node, Store, fields, node
from pocoflow.errors import ActionError, InvalidValueError


class Doc(BaseModel):
    text: str
    upper: str = ""
    words: list[str] = []
    perhaps: str | None = None


D = fields(Doc)


@node(writes=D.upper)
def forgets(text: str) -> str:  # type: ignore[return]  # ty: ignore[invalid-return-type]
    """The usual mistake."""
    text.upper()


@node(writes=D.upper)
def unannotated(text):  # type: ignore[no-untyped-def]
    """Without annotations."""
    text.upper()


@node(writes=D.upper)
async def asynchronous(text: str) -> str:  # type: ignore[return]  # ty: ignore[invalid-return-type]
    """As a coroutine."""
    text.upper()


@node(each=D.words, writes=D.words)
def each(word: str) -> str:  # type: ignore[return]  # ty: ignore[invalid-return-type]
    """For each item."""
    word.upper()


@node(writes=(D.upper, D.perhaps))
def two(text: str) -> tuple[str, str]:  # type: ignore[return]  # ty: ignore[invalid-return-type]
    """For two fields."""
    text.upper()


@node(writes=D.upper)
def returns(text: str) -> str:
    """Returns on every way."""
    if len(text) > 100:
        return text and text[:100]
    return text.upper() if len(text) > 1 else text


@node(writes=D.upper)
def raises(text: str) -> str:
    """Never ends well."""
    raise OSError(text)


@node(writes=D.perhaps)
def allowed(text: str) -> str | None:
    """Its field takes None."""
    text.upper()
    return None


@node(writes=D.upper)
def stub(text: str) -> str:  # type: ignore[empty-body]  # ty: ignore[empty-body]
    """Not written yet."""


@node(writes=D.upper)
def sometimes(text: str) -> Any:
    """Returns on one way."""
    if len(text) > 100:
        return text


@pytest.mark.parametrize("made", [forgets, unannotated, asynchronous, each, two])
def test_a_function_that_never_returns_a_value_is_an_error(made: Any) -> None:
    """What it writes would be None: it is said before it is called."""
    (found,) = Flow(made, schema=Doc).validate()
    assert (found.code, found.severity, found.node) == ("PF203", "error", made.name)
    assert "it always returns None, and writes that to '" in found.message
    assert "is a 'return' missing?" in found.message


@pytest.mark.parametrize("made", [returns, raises, allowed, stub, sometimes])
def test_a_function_that_may_return_a_value_is_no_error(made: Any) -> None:
    """Nothing is said of one that returns, raises, may give None, or is not written yet."""
    assert Flow(made, schema=Doc).validate() == []


def test_what_is_missing_at_run_time_is_said() -> None:
    """The error names the function and the return; not post, which a function has not."""
    with pytest.raises(
        InvalidValueError, match="function 'sometimes' of node 'sometimes'"
    ) as caught:
        Flow(sometimes, schema=Doc).run({"text": "x"})
    assert "returned None; is a 'return' missing? store 'sometimes': field 'upper'" in str(
        caught.value
    )
    assert "pocoflow: in taking the result of node 'sometimes'" in caught.value.__notes__[0]


def test_an_exec_whose_result_is_written_is_named_where_it_has_no_return() -> None:
    """The store refuses what ``post`` writes, and the mistake is one phase before."""

    class Upper(Node):
        def exec(self, prep_result: Any) -> Any:
            str(prep_result).upper()

        def post(self, store: Store[Any], prep_result: Any, exec_result: Any) -> Any:
            store["upper"] = exec_result

    with pytest.raises(InvalidValueError, match="got NoneType") as caught:
        Flow(Upper(), schema=Doc).run({"text": "a"})
    assert caught.value.__notes__[-1].endswith(
        "exec of 'Upper' returned None: is a 'return' missing?"
    )


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
@pytest.mark.parametrize("schema", [Doc, {"text": str, "upper": str}])
def test_a_coroutine_in_the_place_of_a_value_is_to_be_awaited(schema: Any) -> None:
    """An ``await`` that is missing is named where the value is refused."""

    async def call() -> str:
        return "A"

    store = Store({"text": "a"}, schema=schema)
    with pytest.raises(InvalidValueError, match="expects str, got a coroutine, which has to be"):
        store["upper"] = call()


def test_an_exec_that_never_returns_what_it_is_annotated_with_is_a_warning() -> None:
    """It is no error, as post may not use it."""

    class Ask(Node[None, str, Literal["done"]]):
        def exec(self, prep_result: None) -> str:  # type: ignore[return]  # ty: ignore[invalid-return-type]
            str(prep_result)

        def post(self, store: Store[Doc], prep: None, result: str) -> Literal["done"]:
            return "done"

    ask = Ask()
    (found,) = Flow(ask, schema=Doc).then(ask.when("done"), END).validate()
    assert (found.code, found.severity, found.node) == ("PF204", "warning", "Ask")
    assert "exec is annotated as str, and always returns None" in found.message


def test_a_prep_that_is_a_generator_gives_its_items() -> None:
    """It returns nothing itself, and yields what is worked on."""

    class Letters(BatchNode[str, str]):
        def prep(self, store: Store[Doc]) -> Iterator[str]:
            yield from store.state.text

        def exec(self, letter: str) -> str:
            return letter

    assert Flow(Letters(), schema=Doc).validate() == []


# -- functions that route -------------------------------------------------------------------------


@node
def decide(text):  # type: ignore[no-untyped-def]
    """Returns actions that it does not declare."""
    return "good" if text else "bad"


@node
def chooses(text: str) -> Literal["good", "bad"]:
    """Returns whatever it is given."""
    return text  # type: ignore[return-value]  # ty: ignore[invalid-return-type]


def test_a_function_without_a_return_annotation_is_asked_for_its_actions() -> None:
    """Each edge says it, with the annotation to write; the default action is not missed beside."""
    wired: Any = Flow(decide, schema=Doc)
    wired.then(decide.when("good"), END).then(decide.when("bad"), returns)
    found = wired.validate()
    assert [one.code for one in found] == ["PF102", "PF102"]
    assert "as it has no return annotation" in found[0].message
    assert found[0].fix == "declare what it returns: -> Literal['good', 'bad']"


def test_what_a_function_without_an_annotation_returned_is_said() -> None:
    """Where it has no edges, the run says what to write."""
    with pytest.raises(ActionError, match="has no return annotation") as caught:
        Flow(decide, schema=Doc).run({"text": "x"})
    assert "it returned 'good': write a result to the store, @node(writes=...)" in str(caught.value)
    assert "or declare the actions, -> Literal['good']" in str(caught.value)


def test_a_misspelt_action_of_a_function_is_answered_with_the_nearest() -> None:
    """As that of a class is."""
    wired = Flow(chooses, schema=Doc).then(chooses.when("good"), END).then(chooses.when("bad"), END)
    with pytest.raises(ActionError, match=r"'god', which is not .*; did you mean 'good'\?"):
        wired.run({"text": "god"})


# -- what a fix is written with -------------------------------------------------------------------


class Summarise(Node[None, None, Literal["done", "more"]]):
    """Returns two actions."""

    def post(self, store: Store[Doc], prep: None, result: None) -> Literal["done", "more"]:
        """Return one of them."""
        return "done"


summing_up = Summarise()


def test_a_fix_names_the_variable_of_a_node() -> None:
    """That of its module if there is one, else its class in small letters: never the class."""
    for made, name in ((summing_up, "summing_up"), (Summarise(), "summarise")):
        (found,) = Flow(made, schema=Doc).then(made.when("done"), END).validate()
        assert found.code == "PF103"
        assert f"flow.then({name}.when('more'), ...)" in found.fix


def test_an_edge_to_a_node_that_is_not_reached_comes_from_where_the_flow_ends() -> None:
    """The fix names the node that no edge leaves, not the start."""
    flow: Any = Flow(raises, schema=Doc)
    flow.then(raises, returns).then(summing_up.when("done"), allowed)
    found = [one for one in flow.validate() if one.code == "PF101"]
    fixes = {one.node: one.fix for one in found}
    assert "flow.then(returns, summing_up)" in fixes["Summarise"]


def test_what_no_end_is_reached_after_is_not_said_to_be_overwritten() -> None:
    """An endless loop is one finding."""

    @node
    def again(text: str) -> None:
        text.upper()

    flow: Flow[Doc] = Flow(returns, schema=Doc).then(returns, again).then(again, again)
    assert [one.code for one in flow.validate()] == ["PF104"]
