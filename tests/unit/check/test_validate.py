"""``flow.validate()``, and what it does to a run."""

import asyncio
import pickle
import subprocess
import sys
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from pocoflow import END, FanOut, Flow, Node, Parallel, Store, Subflow, bind, fields, key, node
from pocoflow.check.findings import Finding
from pocoflow.errors import (
    DefinitionError,
    FlowValidationError,
    InvalidValueError,
    MissingInputError,
    MissingKeyError,
)
from pocoflow.reducers import append, extend, item, latest, merge


class Article(BaseModel):
    document: str
    summary: str
    score: float = 0.0


A = fields(Article)


@node(writes=A.summary)
def summarise(document: str) -> str:
    """Shorten."""
    return document[:3]


@node
def publish(summary: str) -> None:
    """Nothing is written."""


@node
def is_long(document: str) -> Literal["long", "short"]:
    """Decide."""
    return "long" if len(document) > 5 else "short"


def forgetful() -> Flow[Article]:
    """A flow that publishes a summary which nobody has written."""
    flow = Flow(start=is_long, schema=Article, flow_name="article")
    flow.then(is_long.when("long"), summarise).then(is_long.when("short"), publish)
    return flow.then(summarise, publish)


def codes(flow: Flow[Any]) -> list[str]:
    """The codes of what is found."""
    return [one.code for one in flow.validate()]


def test_everything_is_reported_at_once() -> None:
    """Whoever has three mistakes hears of three."""

    @node(writes=key("sumary"))
    def wrong(document: int) -> str:
        return ""

    flow = Flow(start=wrong, schema=Article)
    flow.then(wrong, is_long).then(is_long.when("long"), publish)
    assert codes(flow) == ["PF103", "PF201", "PF202"]


def test_a_field_of_another_model_is_told_apart_from_that_of_the_schema() -> None:
    """What the reference names, and what the flow's schema has under that name."""

    class Other(BaseModel):
        summary: int
        document: int

    other = fields(Other)

    @node(writes=other.summary)
    def count(text: int = other.document) -> int:
        return text

    first, second = Flow(start=count, schema=Article).validate()
    assert first.message == (
        "parameter 'text' is annotated as int for Other.document, but this flow's schema is "
        "Article, whose 'document' holds str"
    )
    assert second.message == (
        "it returns int for writes=Other.summary, but this flow's schema is Article, whose "
        "'summary' holds str"
    )
    assert Flow(start=count, schema=Other).validate() == []


def test_a_write_for_nothing_says_who_overwrites_it() -> None:
    """Each node that writes the field next is named."""

    def writer(name: str) -> Any:
        return node(writes=A.summary, name=name)(keep_all)

    first, left, right = writer("first"), writer("left"), writer("right")
    flow = Flow(start=first, schema=Article).then(first, is_long)
    flow.then(is_long.when("long"), left).then(is_long.when("short"), right)
    (one,) = flow.validate()
    assert (one.code, one.node) == ("PF302", "first")
    assert one.message.endswith("before anything reads it, by 'left', 'right'")
    endless = (
        Flow(start=first, schema=Article).then(first, is_long).then(is_long.when("*"), is_long)
    )
    assert codes(endless) == ["PF104"]


def keep_all(document: str) -> str:
    """What each writer does."""
    return document


def test_an_edge_of_the_flow_itself_is_a_warning_unless_it_is_nested(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A text first wires the flow as a node of another one; who meant a node of it is told."""
    flow = Flow(start=summarise, schema=Article).then("default", publish)
    (one,) = flow.validate()
    assert (one.code, one.severity, one.file) == ("PF110", "warning", __file__)
    assert one.fix == "did you mean flow.then(summarise, publish)?"
    flow.run({"document": "long"})
    assert "PF110: flow 'summarise': an edge leads from this flow" in caplog.text
    routed = Flow(start=is_long).then("short", END)
    (one,) = routed.validate()
    assert one.fix == "did you mean flow.then(is_long.when('short'), END)?"
    named = Flow(start=summarise, schema=Article).then("summarise", publish)
    (one,) = named.validate()
    assert one.fix == "'summarise' is the name of a node: write flow.then(summarise, publish)"


@pytest.mark.parametrize(
    "nest",
    [
        lambda inner: Flow(start=inner),
        lambda inner: Flow(start=is_long).then(is_long.when("*"), inner),
        lambda inner: Flow(start=Node()).then(inner, publish),
        lambda inner: Node().then("default", inner),
        lambda inner: Parallel(inner, Node()),
        lambda inner: FanOut(inner, each=key("items"), as_=key("item")),
    ],
    ids=["start", "target", "source", "target of a node", "branch", "branch of items"],
)
def test_nothing_is_said_of_the_edges_of_a_flow_that_is_nested(nest: Callable[[Any], Any]) -> None:
    """Neither in the flow around it nor where it is checked, or run, by itself."""
    inner = Flow(start=summarise, schema=Article, flow_name="inner").then("default", publish)
    assert codes(inner) == ["PF110"]
    nest(inner)
    assert codes(inner) == []
    assert codes(Flow(start=inner, schema=Article)) == []


def test_errors_stop_a_run_before_its_first_node(tmp_path: Path) -> None:
    """No node runs, no run is recorded, and the exception has and prints every finding."""
    flow = forgetful()
    with pytest.raises(FlowValidationError) as caught:
        flow.run({"document": "short"})
    assert [one.code for one in caught.value.findings] == ["PF301"]
    text = str(caught.value)
    assert text.startswith("flow 'article' has 1 mistake, so it was stopped before its first node")
    assert "is_long -short-> publish" in text
    assert isinstance(caught.value, DefinitionError)
    assert pickle.loads(pickle.dumps(caught.value)).findings == caught.value.findings  # noqa: S301
    kept = Flow(start=is_long, schema=Article, db_path=tmp_path / "runs.db")
    kept.then(is_long.when("long"), summarise).then(is_long.when("short"), publish)
    with pytest.raises(FlowValidationError):
        kept.run({"document": "short"})


@pytest.mark.parametrize("way", ["run", "run_async", "run_background", "stream"])
def test_every_way_to_run_is_stopped(way: str) -> None:
    """There is no way around the validation."""
    flow = forgetful()
    ways: dict[str, Callable[[], object]] = {
        "run": lambda: flow.run({"document": "short"}),
        "run_async": lambda: asyncio.run(flow.run_async({"document": "short"})),
        "run_background": lambda: flow.run_background({"document": "short"}).wait(),
        "stream": lambda: list(flow.stream({"document": "short"})),
    }
    with pytest.raises(FlowValidationError):
        ways[way]()


def test_what_the_store_holds_is_never_missing() -> None:
    """A key that a run begins with is not reported as read before it was written."""
    flow = forgetful()
    assert flow.run({"document": "short", "summary": "given"})["summary"] == "given"
    assert flow.run(Article(document="a long one", summary=""))["summary"] == "a l"
    with pytest.raises(FlowValidationError):
        flow.run({"document": "short"})


def test_a_run_without_its_input_is_refused() -> None:
    """The message names the input, who reads it, and what the store has instead."""
    flow = Flow(start=summarise, flow_name="article").then(summarise, publish)
    with pytest.raises(MissingInputError) as caught:
        flow.run({"documnt": "a"})
    assert str(caught.value) == (
        "flow 'article' is run without 'document' (node 'summarise' reads it; did you mean "
        "'documnt'?): put it into the store that it is run with (keys: 'documnt')"
    )
    assert isinstance(caught.value, MissingKeyError)
    assert flow.run({"document": "abcd"})["summary"] == "abc"


def test_inputs_can_be_declared() -> None:
    """Declared inputs are asked for, count as written, and are the only ones."""
    flow = Flow(start=publish, schema=Article, inputs=(A.summary,))
    assert flow.inputs == ("summary",)
    assert codes(flow) == ["PF304"]  # nobody sets the document
    with pytest.raises(MissingInputError, match="'summary'"):
        flow.run({})
    narrow = Flow(start=publish, schema=Article, inputs=(A.document,))
    (found,) = [one for one in narrow.validate() if one.code == "PF301"]
    assert "no node writes it, and it is not among the inputs (document)" in found.message
    misspelt = Flow(start=publish, schema=Article, inputs=(A.summary, A.document, key("sumary")))
    assert codes(misspelt) == ["PF201"]


@pytest.mark.parametrize("inputs", ["document", ("document",), (1,), A, (A,)], ids=repr)
def test_inputs_are_references(inputs: Any) -> None:
    """A string that no type checker can check is refused, with advice."""
    with pytest.raises(DefinitionError, match=r"Flow\(\.\.\.\): inputs=.* reference"):
        Flow(start=publish, inputs=inputs)


def test_a_single_reference_is_an_input_as_well() -> None:
    """A tuple of one is not needed."""
    assert Flow(start=publish, inputs=A.summary).inputs == ("summary",)  # type: ignore[arg-type]


class Loop(Node):
    def post(self, store, prep_result, exec_result):  # type: ignore[no-untyped-def]
        store["n"] = store["n"] + 1
        return "again" if store["n"] < 3 else "done"


def test_an_untyped_flow_runs_as_ever() -> None:
    """Where nothing is declared nothing is proved: the classic flow is not touched."""
    loop = Loop()
    loop.then("again", loop)
    assert Flow(loop).run({"n": 0})["n"] == 3
    with pytest.raises(KeyError, match="'n'"):
        Flow(loop).run({})
    lost = Node()
    lost.then("*", lost)
    with pytest.raises(RuntimeError, match="max_steps"):
        Flow(lost, max_steps=5).run()
    assert [one.code for one in Flow(lost).validate()] == ["PF104"]


def test_outputs_that_are_declared_are_proved_before_a_run() -> None:
    """What a flow says that it sets is proved, also of classes that say nothing of their types."""
    flow = Flow(Loop(), outputs=(key("sum"),))
    with pytest.raises(FlowValidationError, match=r"PF304.*'sum' is not set"):
        flow.run({"n": 5})
    assert Flow(Loop(), outputs=(key("n"),)).run({"n": 5})["n"] == 6


def test_actions_that_a_class_names_are_proved_before_a_run() -> None:
    """``Node[..., ..., Literal[...]]`` is an annotation, though ``post`` has none of its own."""

    class Says(Node[str, str, Literal["done"]]):
        def post(self, store, prepared, result):  # type: ignore[no-untyped-def]
            return "done"

    first = Says()
    first.then("other", Node())  # type: ignore[arg-type]
    assert "PF102" in codes(Flow(first))
    with pytest.raises(FlowValidationError, match="PF102"):
        Flow(first).run({})


def test_a_resumed_run_is_validated_from_its_node() -> None:
    """``resume_from`` needs what the nodes from there on read, and nothing else."""
    flow = Flow(start=summarise, schema=Article).then(summarise, publish)
    assert flow.run({"summary": "given"}, resume_from=publish)["summary"] == "given"
    with pytest.raises(MissingInputError, match="'summary'"):
        flow.run({"document": "a"}, resume_from=publish)


class Fails(Node):
    broken = True

    def prep(self, store: Store[Article]) -> str:
        return store.state.summary

    def exec(self, text: str) -> str:
        if Fails.broken:
            raise OSError("not now")
        return text


def test_a_stored_run_is_validated_before_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run whose code is wrong by now is not touched; under the right code it goes on."""
    fails = Fails()
    flow = Flow(start=summarise, schema=Article, db_path=tmp_path / "runs.db", run_id="run-1")
    flow.then(summarise, fails)
    with pytest.raises(OSError, match="not now"):
        flow.run({"document": "abcd"})

    @node(writes=key("sumary"))
    def wrong() -> str:
        return ""

    changed = Flow(start=summarise, schema=Article, db_path=tmp_path / "runs.db")
    changed.then(summarise, fails).then(fails, wrong)
    with pytest.raises(FlowValidationError, match="PF201"):
        changed.resume("run-1")
    monkeypatch.setattr(Fails, "broken", False)
    assert flow.resume("run-1")["summary"] == "abc"


def test_a_new_edge_is_seen() -> None:
    """Validation is repeated when, and only when, the wiring has changed."""
    flow = Flow(start=is_long, schema=Article).then(is_long.when("short"), END)
    assert codes(flow) == ["PF103"]
    flow.then(is_long.when("long"), END)
    assert codes(flow) == []
    assert flow.run({"document": "a"})["document"] == "a"
    flow.then(is_long.when("long"), publish)
    with pytest.raises(FlowValidationError):
        flow.run({"document": "a"})


def test_the_schema_of_a_store_counts() -> None:
    """A store with a model is checked against it, although the flow has none."""

    @node
    def reads(documnet: str) -> None:
        pass

    with pytest.raises(FlowValidationError, match="PF201"):
        Flow(start=reads).run(Store({"document": "a"}, schema=Article))


def test_a_nested_flow_counts() -> None:
    """What a nested flow reads and writes, and how it can end, is part of the flow around it."""
    inner = Flow(start=is_long, flow_name="inner")
    inner.then(is_long.when("long"), summarise).then(is_long.when("short"), END)
    outer = Flow(start=inner, schema=Article)
    inner.then("default", publish).then("short", publish)
    (found,) = outer.validate()
    assert (found.code, found.node) == ("PF301", "publish")
    assert "inner/is_long -short-> publish" in found.message
    wrong = Flow(start=is_long, flow_name="wrong")
    wrong.then(is_long.when("long"), END).then(is_long.when("short"), END)
    wrong.then("lnog", publish)
    (impossible,) = [one for one in Flow(start=wrong).validate() if one.code == "PF102"]
    assert "which 'wrong' never returns (it returns: 'long', 'short'" in impossible.message


class Log(BaseModel):
    log: Annotated[list[str], append]
    kept: Annotated[list[str], append] = []


def test_an_increment_needs_a_value() -> None:
    """A field that a node reduces into has a default, is an input, or was given by the run."""

    @node(writes=(item(fields(Log).log), item(fields(Log).kept)))
    def note() -> tuple[str, str]:
        return "a", "b"

    flow = Flow(start=note, schema=Log)
    assert flow.validate() == []
    with pytest.raises(MissingInputError, match="without 'log'"):
        flow.run({})
    assert flow.run({"log": []})["log"] == ["a"]
    (found,) = Flow(start=note, schema=Log, inputs=()).validate()
    assert (found.code, found.node) == ("PF301", "note")
    assert found.message == (
        "it gives an increment to 'log', which has no value yet on the path note"
    )
    assert found.fix.startswith("give 'log' a default in the schema")
    assert Flow(start=note, schema=Log, inputs=(fields(Log).log,)).validate() == []


def test_an_increment_of_a_subflow_or_of_an_error_needs_a_value_as_well() -> None:
    """Whoever gives it: an output that is handed back, or what is left of an error."""

    class Notes(BaseModel):
        doc: str = ""
        notes: Annotated[list[str], extend]

    N = fields(Notes)

    @node(writes=N.notes)
    def split(doc: str) -> list[str]:
        return doc.split()

    inner = Flow(split, schema=Notes, inputs=(N.doc, N.notes))
    handed, back = [bind(N.doc).to(N.doc)], [bind(N.notes).to(N.notes)]
    sub = Subflow(inner, inputs=handed, outputs=back, name="sub")
    found = Flow(sub, schema=Notes, inputs=(N.doc,)).validate()
    (outer,) = [one for one in found if one.flow == "sub"]
    assert (outer.code, outer.severity) == ("PF301", "error")
    assert "gives an increment to 'notes', which has no value yet" in outer.message

    @node
    def fails() -> None:
        raise ValueError("x")

    def words(exc: ValueError) -> list[str]:
        return [str(exc)]

    caught = fails.catch(ValueError, writes=N.notes, value=words)
    flow = Flow(fails, schema=Notes, inputs=(N.doc,)).then(caught, END).then(fails, END)
    (one,) = [one for one in flow.validate() if one.severity == "error"]
    assert (one.code, one.node) == ("PF301", "fails")
    assert flow.run({"doc": "a", "notes": []})["notes"] == ["x"]


def test_an_increment_is_of_the_type_that_the_reducer_takes() -> None:
    """One item for append, several for extend; the advice names both."""

    class Notes(BaseModel):
        log: Annotated[list[str], append] = []
        more: Annotated[list[str], extend] = []
        by: Annotated[dict[str, int], merge] = {}
        last: Annotated[str, latest] = ""

    N = fields(Notes)

    def writing(field: Any, kind: Any) -> Flow[Any]:
        def gives() -> Any: ...

        gives.__annotations__["return"] = kind
        return Flow(node(writes=field)(gives), schema=Notes)

    (found,) = writing(N.log, list[str]).validate()
    assert (found.code, found.severity) == ("PF203", "error")
    assert found.message.endswith("which has a reducer that takes str")
    assert found.fix.endswith(
        "with append it is one item, writes=item(...), and extend takes several"
    )
    others: tuple[Any, ...] = ((N.more, int), (N.more, str), (N.by, list[int]), (N.last, int))
    for field, kind in (*others, (N.by, dict[int, int])):
        assert codes(writing(field, kind)) == ["PF203"]
    fitting: tuple[Any, ...] = ((N.log, str), (N.more, tuple[str, ...]), (N.by, dict[str, int]))
    for field, kind in fitting:
        assert writing(field, kind).validate() == []


def test_an_output_of_a_subflow_is_an_increment_too() -> None:
    """What is handed back to a field that append reduces is one item."""

    class Notes(BaseModel):
        doc: str = ""
        words: list[str] = []
        log: Annotated[list[str], append] = []

    N = fields(Notes)

    @node(writes=N.words)
    def split(doc: str) -> list[str]:
        return doc.split()

    inner = Flow(split, schema=Notes)
    log: Any = N.log
    for source, expected in ((N.words, ["PF203"]), (N.doc, [])):
        handed, back = [bind(N.doc).to(N.doc)], [bind(log).to(source)]
        sub = Subflow(inner, inputs=handed, outputs=back)
        assert codes(Flow(sub, schema=Notes)) == expected


def test_a_reducer_that_the_flow_does_not_know_is_told() -> None:
    """Without the schema, what is written takes the place of the value."""

    @node(writes=item(fields(Log).kept))
    def note() -> str:
        return "new"

    @node(writes=fields(Log).kept)
    def replaces() -> list[str]:
        return ["new"]

    for one, severity in ((note, "error"), (replaces, "warning")):
        (found,) = Flow(one).validate()
        assert (found.code, found.severity) == ("PF203", severity)
        assert found.fix == "give the flow the schema, Flow(..., schema=Log)"
    assert codes(Flow(note, schema=Log)) == []


def test_a_frozen_field_that_is_set_again_is_told() -> None:
    """It has a value by then: it is read, has a default, was written, or goes round in a loop."""

    class Job(BaseModel):
        q: str
        id: str = Field(frozen=True)
        kind: str = Field(default="a", frozen=True)

    J = fields(Job)

    @node(writes=J.id)
    def again(id: str) -> str:
        return id + "!"

    @node(writes=J.kind)
    def other(q: str) -> str:
        return q

    @node(writes=J.id)
    def first(q: str) -> str:
        return q

    @node
    def loop(q: str) -> Literal["again", "stop"]:
        return "stop" if q else "again"

    looped = Flow(first, schema=Job).then(first, loop).then(loop.when("again"), first)
    for flow in (
        Flow(again, schema=Job),
        Flow(other, schema=Job),
        looped.then(loop.when("stop"), END),
    ):
        (found,) = [one for one in flow.validate() if one.code == "PF203"]
        assert (found.severity, "frozen" in found.message) == ("warning", True)
    assert Flow(first, schema=Job).validate() == []


def test_a_schema_of_a_nested_flow_that_does_not_count_is_told() -> None:
    """The flow around has none, so nothing that it says is checked."""
    inner = Flow(summarise, schema=Article, flow_name="inner")
    for start, name in ((inner, "inner"), (Parallel(inner, name="both"), "both/inner")):
        (found,) = Flow(start, flow_name="outer").validate()
        assert (found.code, found.severity, found.node) == ("PF206", "warning", name)
        assert "Flow(..., schema=Article)" in found.fix
    assert codes(Flow(Parallel(inner, name="both"), schema=Article)) == []


def test_what_a_subflow_is_not_given_is_handed_in() -> None:
    """The advice is one that works inside of a subflow."""
    sub = Subflow(Flow(publish, schema=Article), name="sub")
    (found,) = Flow(sub, schema=Article).validate()
    assert "Subflow(..., inputs=[bind(fields(Article).summary).to(...)])" in found.fix
    handed = [bind(fields(Article).summary).to(A.document)]
    assert Flow(Subflow(sub.flow, inputs=handed), schema=Article).validate() == []


def test_a_node_that_has_the_store_may_give_the_value() -> None:
    """A function that writes to the store itself is believed to reduce into what it put there."""

    @node(writes=item(fields(Log).log))
    def note(store: Store[Log]) -> str:
        store.state.log = []
        return "a"

    flow = Flow(start=note, schema=Log)
    assert flow.validate() == []
    assert flow.run({})["log"] == ["a"]


def test_a_validator_that_converts_is_believed() -> None:
    """A field whose validator reads other types takes them from a node, too."""

    class Loose(BaseModel):
        when: int

        @field_validator("when", mode="before")
        @classmethod
        def read(cls, value: object) -> object:
            return int(value) if isinstance(value, str) else value

    @node(writes=key("when"))
    def now() -> str:
        return "5"

    assert codes(Flow(start=now, schema=Loose)) == []
    assert Flow(start=now, schema=Loose).run()["when"] == 5


class Colour(Enum):
    """What a model may keep the values of."""

    RED = "red"


class Painted(BaseModel):
    """A model whose fields hold the values of their enums."""

    model_config = ConfigDict(use_enum_values=True)
    colour: Colour = Colour.RED
    colours: list[Colour] = []


def test_the_values_of_enums_are_read_where_the_model_keeps_those() -> None:
    """A parameter takes what its field holds, and a node writes what its field takes."""

    @node
    def show(colour: str, colours: list[str]) -> None:
        """Take the values."""
        assert (colour, colours) == ("red", ["red"])

    @node(each=key("colours"))
    def each(colour: str) -> None:
        """Take one value."""
        assert colour == "red"

    flow = Flow(show, schema=Painted).then(show, each)
    assert codes(flow) == []
    flow.run({"colour": Colour.RED, "colours": [Colour.RED]})

    @node(writes=key("colour"))
    def paint() -> str:
        """Write what the store refuses."""
        return "red"

    assert codes(Flow(paint, schema=Painted)) == ["PF203"]


def test_what_a_store_of_another_class_has_is_left_alone() -> None:
    """Who annotates a parameter with a class of stores may use what that has."""

    class Kept(Store[Article]):
        """A store with a method of its own."""

        def first(self) -> str:
            """The first word."""
            return self.state.document.split()[0]

    @node
    def first(store: Kept) -> None:
        """Use it."""
        print(store.first())

    flow = Flow(first, schema=Article)
    assert codes(flow) == []
    flow.run(Kept({"document": "a b"}, schema=Article))


def test_what_is_written_from_a_parameter_is_compared() -> None:
    """A class that writes the result of ``exec`` is held to the type of the field."""

    class Grade(Node):
        def exec(self, prep_result: object) -> str:
            return "high"

        def post(self, store: Store[Article], prep_result: object, grade: str) -> None:
            store.state.score = grade  # type: ignore[assignment]
            store["summary"] = 5

    flow = Flow(start=Grade(), schema=Article)
    assert [one.message for one in flow.validate()] == [
        "it writes 'grade', a str, to field 'score', which holds float",
        "it writes 5 to field 'summary', which holds str",
    ]


def test_a_constant_of_the_right_type_is_refused_in_the_words_of_the_store() -> None:
    """What is wrong with it is a constraint, which no type tells."""

    class Rated(BaseModel):
        score: float = Field(0.0, le=1)

    class Rate(Node):
        def post(self, store: Store[Rated], prep_result: object, result: object) -> None:
            store.state.score = 10.0

    (found,) = Flow(start=Rate(), schema=Rated).validate()
    assert found.message == (
        "it writes 10.0 to field 'score', which holds float: Rated: field 'score' expects float, "
        "got float: 10.0 (Input should be less than or equal to 1)"
    )
    assert found.fix == "write what it takes, or change the field"


def test_the_check_is_not_imported_before_it_is_needed() -> None:
    """``import pocoflow`` loads nothing of the validation, and a plain one no library for types.

    One without a schema makes no model, which loads much of Pydantic.
    """
    program = (
        "import sys, pocoflow\n"
        "assert 'pocoflow.check' not in sys.modules\n"
        "pocoflow.Flow(pocoflow.Node()).run({})\n"
        "assert not {'pydantic.root_model', 'pydantic.types'} & sys.modules.keys()\n"
        "@pocoflow.node\n"
        "def publish(summary: str) -> None: ...\n"
        "pocoflow.Flow(start=publish, schema={'summary': str}).run({'summary': ''})\n"
        "assert 'pocoflow.check' in sys.modules\n"
        "assert 'beartype' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


class Tried(BaseModel):
    """A draft, and what was said of it."""

    task: str
    draft: str = ""
    said: str | None = None


T = fields(Tried)


@node(writes=T.draft)
def again(task: str, said: str) -> str:
    """Takes no None."""
    return task + said


@node(writes=T.draft)
def once(task: str, said: str | None) -> str:
    """Takes it."""
    return task + (said or "")


@node(writes=T.said)
def say(draft: str) -> str | None:
    """Gives it a value."""
    return draft


@node
def choose(draft: str) -> Literal["new", "old"]:
    """Who knows what it looks at."""
    return "old" if draft else "new"


def test_a_parameter_without_none_is_told_where_its_field_is_none_by_default() -> None:
    """As in the first round of a loop: a type checker does not see what a name stands for."""

    def loop(first: Any, **given: Any) -> list[Finding]:
        flow = Flow(first, schema=Tried, outputs=(), max_steps=5, **given)
        return flow.then(first, say).then(say, first, at_most=2, then=END).validate()

    (found,) = loop(again)
    assert (found.code, found.severity, found.node) == ("PF202", "warning", "again")
    assert "'said' is annotated as str, and field 'said' is None here, its default" in found.message
    assert found.fix == "annotate it as str | None, or write the field before"
    assert loop(once) == loop(again, inputs=(T.task, T.said)) == []
    written = Flow(say, schema=Tried, outputs=()).then(say, again)
    chosen = Flow(choose, schema=Tried, outputs=()).then(choose.when("old"), again)
    chosen.then(choose.when("new"), say).then(say, again)
    assert written.validate() == chosen.validate() == []
    assert Flow(again, schema=Tried, outputs=()).validate() == []  # whoever runs it gives it
    assert codes(Flow(again, schema=Tried, inputs=(T.task,), outputs=())) == ["PF202"]


def test_a_constant_that_a_constraint_refuses_is_an_error_in_a_dict_of_types_as_well() -> None:
    """Only a function of the user may decide otherwise."""

    class Owes(Node[None, None]):
        def post(self, store: Store[Any], prep_result: None, exec_result: None) -> None:
            store["left"] = -1

    (found,) = Flow(Owes(), schema={"left": Annotated[int, Field(ge=0)]}).validate()
    assert (found.code, found.severity) == ("PF203", "error")
    with pytest.raises(InvalidValueError):
        Owes().post(Store(schema={"left": Annotated[int, Field(ge=0)]}), None, None)
    assert not Flow(Owes(), schema={"left": Annotated[int, BeforeValidator(abs)]}).validate()
