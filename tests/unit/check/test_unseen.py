"""What stops no run: what a middleware, an edge around, or whoever waits may have a hand in."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from pocoflow import END, Flow, Node, Parallel, Store, Subflow, bind, context, fields, node
from pocoflow.errors import FlowValidationError, MissingKeyError
from pocoflow.middleware import Around, Visit


class Doc(BaseModel):
    """The store of every flow here."""

    a: str = ""
    b: str
    n: int = 0


D = fields(Doc)


@node
def first(a: str) -> Literal["x", "y"]:
    """Choose."""
    return "y" if a else "x"


@node(writes=D.b)
def make(a: str) -> str:
    """Give the field its value."""
    return a


@node(writes=D.a)
def use(b: str) -> str:
    """Need the field."""
    return b


def early(middleware: Callable[[Visit], Around] | None = None) -> Flow[Doc]:
    """One of two ways leaves out what is read."""
    flow: Flow[Doc] = Flow(first, schema=Doc)
    flow.then(first.when("x"), use).then(first.when("y"), make).then(make, use)
    return flow if middleware is None else flow.use(visit=middleware)


def loop(work: Callable[[], object]) -> Flow[Doc]:
    """A loop without an edge out of it."""

    @node
    def again(n: int) -> None:
        work()

    flow: Flow[Doc] = Flow(again, schema=Doc)
    return flow.then(again, again)


def severities(flow: Flow[Any]) -> dict[str, str]:
    """What is found, and how bad it is."""
    return {one.code: one.severity for one in flow.validate() if one.code != "PF304"}


@node
def still(n: int) -> None:
    """Do nothing that may fail."""
    len([n])


def ask() -> None:
    """Ask whether somebody has had enough."""
    context().check_cancelled()


def test_a_loop_is_an_error_only_if_nothing_may_end_it() -> None:
    """A call, a timeout or a middleware may, so it is a warning then, and the loop runs."""
    endless: Flow[Doc] = Flow(still, schema=Doc).then(still, still)
    assert severities(endless) == {"PF104": "error"}
    assert severities(loop(ask)) == {"PF104": "warning"}

    @node(timeout=60)
    def slow(n: int) -> None:
        len([n])

    timed: Flow[Doc] = Flow(slow, schema=Doc).then(slow, slow)
    assert severities(timed) == {"PF104": "warning"}

    def looks(visit: Visit) -> Around:
        return (yield)

    assert severities(endless.use(visit=looks)) == {"PF104": "warning"}

    def ends() -> None:
        raise EOFError

    with pytest.raises(EOFError):
        loop(ends).run({"b": ""})


def test_a_field_that_a_middleware_may_write_is_a_warning() -> None:
    """Also where nobody else writes it, and so for whatever the visit is handed to."""

    def fills(visit: Visit) -> Around:
        visit.store["b"] = "filled"
        return (yield)

    def hands_over(visit: Visit) -> Around:
        fill(visit)
        return (yield)

    def fill(visit: Visit) -> None:
        visit.store["b"] = "filled"

    for middleware in (fills, hands_over):
        flow = early(middleware)
        assert severities(flow) == {"PF301": "warning"}
        assert flow.run({})["a"] == "filled"
    alone: Flow[Doc] = Flow(use, schema=Doc).use(visit=fills)
    assert alone.run({})["a"] == "filled"


def test_an_action_or_an_error_that_a_middleware_may_change_is_a_warning() -> None:
    """It returns an action of its own, or takes what the store raises."""

    def ends(visit: Visit) -> Around:
        yield
        return "stop"

    flow: Flow[Doc] = Flow(still, schema=Doc)
    flow.then(still.when("stop"), END)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
    assert severities(flow)["PF102"] == "error"
    assert severities(flow.use(visit=ends)) == {"PF102": "warning", "PF103": "warning"}
    assert flow.run({"b": ""})["n"] == 0

    def keeps(visit: Visit) -> Around:
        try:
            return (yield)
        except KeyError:
            return "default"

    assert severities(early(keeps)) == {"PF301": "warning"}
    assert early(keeps).run({})["a"] == ""


def test_a_middleware_that_only_looks_on_hides_no_error() -> None:
    """It hands on what it was given, an error too, and leaves the store alone."""

    def looks(visit: Visit) -> Around:
        print(visit.name)
        try:
            action = yield
        except Exception:
            print("failed", visit.step)
            raise
        finally:
            print("done")
        return action

    assert severities(early(looks)) == {"PF301": "error"}
    with pytest.raises(FlowValidationError):
        early(looks).run({})


def test_what_is_collected_or_caught_around_a_branch_is_a_warning() -> None:
    """A branch that reads too early fails no run whose branches may fail."""

    def both(**settings: Any) -> Parallel:
        return Parallel(use, Node[Any, Any, Any](name="z"), name="both", **settings)

    collected = both(on_error="collect")
    flow: Flow[Doc] = Flow(collected, schema=Doc, inputs=())
    flow.then(collected, END).then(collected.when("failed"), END)
    caught = both()
    other: Flow[Doc] = Flow(caught, schema=Doc, inputs=())
    other.then(caught, END).then(caught.catch(MissingKeyError), END)
    for one in (flow, other):
        assert severities(one) == {"PF301": "warning"}
        assert one.run({})["a"] == ""
    assert severities(Flow(both(), schema=Doc, inputs=())) == {"PF301": "error"}


def test_what_is_caught_around_a_subflow_is_a_warning() -> None:
    """What a flow in a subflow fails of ends no run that goes on from there."""
    inner = early()
    part = Subflow(inner, inputs=[bind(D.a).to(D.a)], name="part")
    flow: Flow[Doc] = Flow(part, schema=Doc, inputs=(D.a,))
    assert severities(flow) == {"PF301": "error"}
    flow.then(part, END).then(part.catch(MissingKeyError), END)
    assert severities(flow) == {"PF301": "warning"}
    assert flow.run({"a": ""})["a"] == ""


def test_a_constant_that_is_set_anew_is_read_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a flow that was looked at before, and in a new one of the same class."""
    (tmp_path / "settings_of_reader.py").write_text("KEY = 'nope'\n", "utf-8")
    source = (
        "import settings_of_reader as settings\n"
        "from pocoflow import Node\n"
        "class Reader(Node):\n"
        "    KEY = 'a'\n"
        "    def prep(self, store):\n"
        "        return store[settings.KEY], store[self.KEY]\n"
    )
    (tmp_path / "reader_of_settings.py").write_text(source, "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    settings = importlib.import_module("settings_of_reader")
    reader = importlib.import_module("reader_of_settings").Reader
    old: Flow[Doc] = Flow(reader(), schema=Doc)
    for _ in range(2):
        assert severities(old) == {"PF201": "error"}
        monkeypatch.setattr(settings, "KEY", "b")
        old.run({"b": ""})
        for flow in (old, Flow(reader(), schema=Doc)):
            assert severities(flow) == {}
        monkeypatch.setattr(settings, "KEY", "nope")
    monkeypatch.setattr(settings, "KEY", "b")
    monkeypatch.setattr(reader, "KEY", "none")
    assert severities(old) == {"PF201": "error"}
    monkeypatch.setattr(reader, "KEY", "a")
    old.run({"b": ""})


class Either(Node[Any, Any, Any]):
    """Writes one of two texts."""

    def post(self, store: Store[Any], prep: Any, result: Any) -> None:
        """Write it."""
        store["n"] = "x" if store["a"] else "y"


def test_one_of_two_texts_is_a_text() -> None:
    """No number, so the write is an error whichever it is; a field of text takes it."""
    assert severities(Flow(Either(), schema=Doc)) == {"PF203": "error"}
    assert severities(Flow(Either(), schema={"n": str, "a": str})) == {}
