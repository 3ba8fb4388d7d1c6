"""Findings are silenced where they are found, or for a flow: for the check and a run alike."""

from typing import Any, Literal

import pytest
from pydantic import BaseModel

from pocoflow import Flow, Parallel, Question, Subflow, bind, fields, node
from pocoflow.errors import DefinitionError, FlowValidationError


class Doc(BaseModel):
    """The store of every flow here."""

    text: str = ""
    out: str


D = fields(Doc)


@node
def choose(text: str) -> Literal["a", "b"]:
    """Decide."""
    return "a"


@node(writes=D.out)
def cut(text: str) -> str:
    """Make the output."""
    return text[:1]


@node
def loud(out: str) -> None:
    """Reads what one way leaves out."""


@node  # pocoflow: ignore[PF301]
def silent(out: str) -> None:
    """Reads it too, and somebody knows better."""


@node  # pocoflow: ignore[PF2, pf301]
def by_family(out: str) -> None:
    """Silenced along with others."""


@node  # pocoflow: ignore[PF302]
def of_another(out: str) -> None:
    """Another rule is silenced."""


def reading(reader: Any, **settings: Any) -> Flow[Doc]:
    """A flow with a way to the reader on which nothing is written."""
    flow: Flow[Doc] = Flow(choose, schema=Doc, **settings)
    flow.then(choose.when("a"), cut).then(choose.when("b"), reader)
    return flow.then(cut, reader)


@pytest.mark.parametrize("reader", [silent, by_family])
def test_a_comment_silences_its_line(reader: Any) -> None:
    """The check says nothing, and a run is not stopped."""
    flow = reading(reader)
    assert flow.validate() == []
    assert flow.run({})["out"] == ""


@pytest.mark.parametrize("reader", [loud, of_another])
def test_a_comment_silences_no_other_line_and_no_other_rule(reader: Any) -> None:
    """What no comment names is told, and stops a run."""
    assert [one.code for one in reading(reader).validate()] == ["PF301"]
    with pytest.raises(FlowValidationError):
        reading(reader).run({})


@pytest.mark.parametrize("ignore", [("PF301",), ["PF3"], "pf301", ("PF104", "PF301")])
def test_a_flow_silences_what_is_in_it(ignore: Any) -> None:
    """By a code or the beginning of some; nested flows, branches and subflows included."""
    flow = reading(loud, ignore=ignore)
    assert flow.validate() == []
    assert flow.run({})["out"] == ""
    inner = reading(loud, flow_name="inner")
    for part in (
        inner,
        Parallel(inner, name="both"),
        Subflow(inner, inputs=[bind(D.text).to(D.text)]),
    ):
        assert [one.code for one in Flow(part, schema=Doc).validate()] == ["PF301"]
        assert Flow(part, schema=Doc, ignore=ignore).validate() == []


def test_what_a_flow_is_set_to_silence_later_counts() -> None:
    """A validation and a run look at what is set now, whatever was proved before."""
    flow = reading(loud)
    assert [one.code for one in flow.validate()] == ["PF301"]
    flow.ignore = ("PF301",)
    assert flow.validate() == []
    assert flow.run({})["out"] == ""
    flow.ignore = ()
    with pytest.raises(FlowValidationError):
        flow.run({})


def test_a_nested_flow_silences_what_is_in_it_and_nothing_else() -> None:
    """What a flow says of itself holds where it is nested."""
    inner = reading(loud, flow_name="inner", ignore=("PF301",))
    assert Flow(inner, schema=Doc).validate() == []
    assert Flow(Subflow(inner, inputs=[bind(D.text).to(D.text)]), schema=Doc).validate() == []
    outer: Flow[Doc] = Flow(choose, schema=Doc).then(choose.when("a"), inner)
    outer.then(choose.when("b"), of_another)
    assert [one.node for one in outer.validate() if one.code == "PF301"] == ["of_another"]


@pytest.mark.parametrize("ignore", [("PF999",), ("F301",), (1,), ("",)])
def test_what_is_ignored_is_a_code(ignore: Any) -> None:
    """A code that is not there is refused where it is written."""
    with pytest.raises(DefinitionError, match=r"Flow\(ignore=...\) takes codes of rules"):
        Flow(loud, ignore=ignore)


def test_a_loop_that_a_person_or_the_time_ends_is_not_endless() -> None:
    """A question that nobody answers pauses the run; a deadline stops it."""

    @node(writes=D.text)
    def listen(out: str) -> Question[str]:
        return Question(out)

    @node(writes=D.out)
    def speak(text: str) -> str:
        return text

    def loop(start: Any, other: Any, **settings: Any) -> list[str]:
        flow: Flow[Doc] = Flow(start, schema=Doc, **settings)
        flow.then(start, other).then(other, start)
        return [one.code for one in flow.validate()]

    assert "PF104" not in loop(listen, speak, db_path="never.db")
    assert "PF104" not in loop(cut, speak, deadline=10)
    assert "PF104" in loop(cut, speak)


def test_a_loop_that_an_exception_may_end_is_a_warning() -> None:
    """A node that raises, or reads input until there is none, may be the way out."""

    @node(writes=D.text)
    def read(out: str) -> str:
        return input(out)

    @node(writes=D.text)
    def count(out: str) -> str:
        if len(out) > 3:
            raise StopAsyncIteration(out)
        return out + "!"

    @node(writes=D.out)
    def keep(text: str) -> str:
        return text

    reading: Flow[Doc] = Flow(read, schema=Doc).then(read, keep).then(keep, read)
    counting: Flow[Doc] = Flow(count, schema=Doc).then(count, keep).then(keep, count)
    for flow in (reading, counting):
        (found,) = [one for one in flow.validate() if one.code == "PF104"]
        assert found.severity == "warning"
    with pytest.raises(StopAsyncIteration):
        counting.run({"out": ""})
