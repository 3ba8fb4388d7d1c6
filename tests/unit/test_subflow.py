"""``Subflow``: a flow as a node, on a store of its own."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel

from pocoflow import (
    END,
    FanOut,
    Flow,
    Parallel,
    Store,
    Subflow,
    WorkflowDB,
    bind,
    fields,
    key,
    node,
)
from pocoflow.errors import DefinitionError, InvalidValueError
from pocoflow.reducers import append


class Article(BaseModel):
    """The store around."""

    document: str
    title: str = ""
    summary: str
    count: int = 0


class Mark(BaseModel):
    """A class that only the store inside knows."""

    letter: str


class Short(BaseModel):
    """The store inside."""

    text: str
    limit: int = 3
    result: str
    mark: Mark | None = None
    log: Annotated[list[str], append] = []


A, S = fields(Article), fields(Short)


@node(writes=(S.result, S.mark))
def cut(text: str, limit: int) -> tuple[str, Mark]:
    """Cut the text."""
    return text[:limit], Mark(letter=text[:1])


@node
def judge(result: str, mark: Mark | None) -> Literal["good", "bad"]:
    """Say whether it is good."""
    return "good" if result and mark and mark.letter == result[0] else "bad"


def shortening(**settings: Any) -> Flow[Short]:
    """The flow inside."""
    flow: Flow[Short] = Flow(cut, schema=Short, flow_name="shorten", **settings)
    return flow.then(cut, judge)


@node(writes=A.title)
def done(summary: str) -> str:
    """Read what was handed back."""
    return summary.upper()


def around(**settings: Any) -> Flow[Article]:
    """A flow that runs the other one on a store of its own."""
    shorten = Subflow(
        shortening(),
        inputs=[bind(S.text).to(A.document)],
        outputs=[bind(A.summary).to(S.result)],
    )
    flow: Flow[Article] = Flow(shorten, schema=Article, flow_name="article", **settings)
    return flow.then(shorten.when("good"), done).then(shorten.when("bad"), END)


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("driver", ["run", "run_async"])
def test_fields_are_handed_in_and_out(stored: bool, driver: str, tmp_path: Path) -> None:
    """The flow works on its own store; only what is bound goes in and out; its action routes."""
    settings = {"db_path": tmp_path / "runs.db", "run_id": "r"} if stored else {}
    flow = around(**settings)
    given = {"document": "abcdef"}
    store = flow.run(given) if driver == "run" else asyncio.run(flow.run_async(given))
    expected = {"document": "abcdef", "title": "ABC", "summary": "abc", "count": 0}
    assert store.as_dict() == expected
    if stored:
        with WorkflowDB(tmp_path / "runs.db") as db:
            names = [row["node_name"] for row in db.get_checkpoints("r")]
            assert names == ["shorten/cut", "shorten/judge", "shorten", "done"]
            for row in db.get_checkpoints("r"):
                assert "result" not in db.load_checkpoint("r", row["step"])


def test_the_flow_runs_by_itself() -> None:
    """The same flow runs on its own, with a store of its schema."""
    assert shortening().run({"text": "xyz", "limit": 1})["result"] == "x"


@pytest.mark.parametrize("broken_at", ["judge", "done"])
def test_a_resume_goes_on_inside(broken_at: str, tmp_path: Path) -> None:
    """What is finished inside is not run again: values and the final action are on record."""
    calls: list[str] = []
    crash = [True]

    def note(name: str) -> None:
        calls.append(name)
        if crash and name == broken_at:
            raise RuntimeError("crash")

    @node(writes=(S.result, S.mark))
    def first(text: str) -> tuple[str, Mark]:
        note("first")
        return text[:3], Mark(letter="a")

    @node
    def second(mark: Mark | None) -> Literal["good", "bad"]:
        note("judge")
        return "good" if mark == Mark(letter="a") else "bad"

    @node(writes=A.title)
    def last(summary: str) -> str:
        note("done")
        return summary

    inner: Flow[Short] = Flow(first, schema=Short, flow_name="shorten")
    inner.then(first, second)
    sub = Subflow(
        inner, inputs=[bind(S.text).to(A.document)], outputs=[bind(A.summary).to(S.result)]
    )
    flow: Flow[Article] = Flow(sub, schema=Article, db_path=tmp_path / "runs.db", run_id="r")
    flow.then(sub.when("good"), last).then(sub.when("bad"), END)
    with pytest.raises(RuntimeError, match="crash") as caught:
        flow.run({"document": "abcdef"})
    inside = [note for note in caught.value.__notes__ if note.endswith(", in a subflow")]
    assert len(inside) == (broken_at == "judge")
    crash.clear()
    assert flow.resume("r")["title"] == "abc"
    assert calls.count("first") == 1
    assert calls.count("judge") == (2 if broken_at == "judge" else 1)


def test_a_resume_between_the_end_inside_and_the_handing_back(tmp_path: Path) -> None:
    """The action that ended the flow inside is known after a crash before it was used."""
    crash = [True]

    class Fragile(Subflow):
        def post(self, store: Any, given: Any, ends: Any, /) -> Any:
            if crash:
                raise RuntimeError("crash")
            return super().post(store, given, ends)

    sub = Fragile(
        shortening(),
        inputs=[bind(S.text).to(A.document)],
        outputs=[bind(A.summary).to(S.result)],
    )
    flow: Flow[Article] = Flow(sub, schema=Article, db_path=tmp_path / "runs.db", run_id="r")
    flow.then(sub.when("good"), done).then(sub.when("bad"), END)
    with pytest.raises(RuntimeError, match="crash"):
        flow.run({"document": "abcdef"})
    crash.clear()
    assert flow.resume("r")["title"] == "ABC"


def test_a_subflow_in_branches_and_in_a_subflow(tmp_path: Path) -> None:
    """It nests: in a fan-out, each item has a store of its own for the flow inside."""

    class Texts(BaseModel):
        texts: list[str]
        text: str = ""
        found: Annotated[list[str], append] = []

    T = fields(Texts)
    outer: Flow[Short] = Flow(
        Subflow(
            shortening(),
            inputs=[bind(S.text).to(S.text), bind(S.limit).to(S.limit)],
            outputs=[bind(S.result).to(S.result)],
        ),
        schema=Short,
        flow_name="outer",
    )
    each = Subflow(
        outer,
        inputs=[bind(S.text).to(T.text)],
        outputs=[bind(key("found")).to(S.result)],
        name="each",
    )

    fan = FanOut(each, each=T.texts, as_=T.text, concurrency=2, name="fan")
    flow: Flow[Texts] = Flow(fan, schema=Texts, db_path=tmp_path / "runs.db", run_id="r")
    assert flow.run({"texts": ["abcd", "xyz1"]})["found"] == ["abc", "xyz"]


def test_reducers_inside_take_values_and_increments() -> None:
    """Inside, a field with a reducer is what it is in any store, not the part of a branch."""

    @node(writes=key("log"))
    def once(text: str) -> str:
        return text

    @node
    def reset(store: Store[Short]) -> None:
        store["result"] = store["log"][0]
        store["log"] = []  # in a parallel branch this would be refused

    inner: Flow[Short] = Flow(once, schema=Short, flow_name="inner")
    inner.then(once, reset)
    links = [bind(A.summary).to(S.result)]
    sub = Subflow(inner, inputs=[bind(S.text).to(A.document)], outputs=links)
    assert Flow(sub, schema=Article).run({"document": "d"})["summary"] == "d"


def test_parallel_subflows_hand_back_different_fields() -> None:
    """Two of them run side by side, and what each hands back is merged."""
    first = Subflow(
        shortening(),
        inputs=[bind(S.text).to(A.document)],
        outputs=[bind(A.summary).to(S.result)],
        name="first",
    )
    second = Subflow(
        shortening(),
        inputs=[bind(S.text).to(A.document)],
        outputs=[bind(A.title).to(S.result)],
        name="second",
    )
    flow: Flow[Article] = Flow(Parallel(first, second, name="both"), schema=Article)
    assert [one.code for one in flow.validate()] == []
    store = flow.run({"document": "abcdef"})
    assert (store["summary"], store["title"]) == ("abc", "abc")


# -- mistakes ---------------------------------------------------------------------------------


def found(inputs: Any, outputs: Any, inner: Flow[Any] | None = None) -> list[tuple[str, str]]:
    """The codes and messages of what validation finds."""
    sub = Subflow(shortening() if inner is None else inner, inputs=inputs, outputs=outputs)
    flow: Flow[Article] = Flow(sub, schema=Article)
    flow.then(sub.when("good"), END).then(sub.when("bad"), END)
    return [(one.code, one.message) for one in flow.validate()]


def test_fields_that_one_field_is_handed_to_do_not_share_it() -> None:
    """What is changed in place of one is not changed of the other, as it is not after a resume."""

    @node
    def grow(store: Store[Any]) -> None:
        store["inner"].append(1)

    @node
    def change(store: Store[Any]) -> None:
        store["first"].append(2)

    links = [bind(key(name)).to(key("inner")) for name in ("first", "second")]
    made = Subflow(Flow(grow), inputs=[bind(key("inner")).to(key("given"))], outputs=links)
    store = Flow(made).then(made, change).run({"given": []})
    assert (store["first"], store["second"], store["given"]) == ([1, 2], [1], [])


def test_what_is_bound_wrongly_is_found() -> None:
    """Fields that are not there, or hold something else, are found before the run."""
    ok_in, ok_out = [bind(S.text).to(A.document)], [bind(A.summary).to(S.result)]
    assert found(ok_in, ok_out) == []
    wrong: Any = A.count
    ((code, message),) = found([bind(S.text).to(wrong)], ok_out)
    assert code == "PF203"
    assert "'text' is given int, and holds str" in message
    ((code, message),) = found([*ok_in, bind(key("limt")).to(A.count)], ok_out)
    assert code == "PF201"
    assert "did you mean 'limit'" in message
    ((code, message),) = found(ok_in, [bind(key("sumary")).to(S.result)])
    assert code == "PF201"
    assert "did you mean 'summary'" in message


def test_an_input_that_is_not_handed_in_is_found() -> None:
    """The flow inside has what is bound and its defaults, and nothing else."""
    ((code, message),) = found([], [bind(A.summary).to(S.result)])
    assert code == "PF301"
    assert "'text'" in message


def test_a_field_that_nothing_inside_writes_is_not_handed_back() -> None:
    """An output that would never be set is found."""

    class Other(Short):
        extra: str

    inner: Flow[Other] = Flow(cut, schema=Other, flow_name="other")
    inner.then(cut, judge)
    links = [bind(A.summary).to(fields(Other).extra)]
    (code, message) = found([bind(S.text).to(A.document)], links, inner)[0]
    assert code == "PF301"
    assert "hands back 'extra'" in message


def test_a_mistake_inside_is_found_from_outside() -> None:
    """The flow inside is proved with the flow around it, under its own schema."""

    @node
    def wrong(txt: str) -> None:
        pass

    inner: Flow[Short] = Flow(wrong, schema=Short, flow_name="inner")
    findings = found([bind(S.text).to(A.document)], [], inner)
    assert ("PF201", True) in [(code, "did you mean 'text'" in text) for code, text in findings]


def test_a_value_that_does_not_fit_inside_ends_the_run() -> None:
    """A value that only the run shows to be wrong is refused at the border."""

    class Tight(BaseModel):
        text: Literal["x"]

    inner: Flow[Tight] = Flow(judge_nothing, schema=Tight, flow_name="tight")
    sub = Subflow(inner, inputs=[bind(key("text")).to(key("document"))])
    with pytest.raises(InvalidValueError, match="text"):
        Flow(sub).run({"document": "y"})


@node
def judge_nothing() -> None:
    """Do nothing."""


def test_arguments_without_sense_are_refused() -> None:
    """Each is named, with what it takes."""
    with pytest.raises(DefinitionError, match="takes a flow"):
        Subflow(cut)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
    with pytest.raises(DefinitionError, match=r"takes a list, \[bind\(target\)"):
        Subflow(shortening(), inputs=[S.text])  # type: ignore[list-item]  # ty: ignore[invalid-argument-type]
    alone: Any = bind(S.text).to(A.document)
    with pytest.raises(DefinitionError, match=r"not bind\(Short.text\).to\(Article.document\)"):
        Subflow(shortening(), inputs=alone)
    with pytest.raises(DefinitionError, match="more than once"):
        Subflow(shortening(), inputs=[bind(S.text).to(A.document), bind(S.text).to(A.title)])
    with pytest.raises(DefinitionError, match="reference"):
        bind("text")
    with pytest.raises(DefinitionError, match="reference"):
        bind(S.text).to("document")
