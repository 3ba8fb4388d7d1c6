"""What is to be set where a flow ends, and the places in the user's file that findings have."""

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Secret, SecretBytes, SecretStr

from pocoflow import END, FanOut, Flow, Node, Parallel, Store, Subflow, bind, fields, key, node
from pocoflow.errors import DefinitionError, FlowValidationError
from pocoflow.reducers import append, item


class Doc(BaseModel):
    """The store of every flow here."""

    text: str
    out: str
    docs: list[str] = []
    count: int = 0


D = fields(Doc)


@node
def choose(text: str) -> Literal["a", "b"]:
    """Decide."""
    return "a" if len(text) > 1 else "b"


@node(writes=D.out)
def cut(text: str) -> str:
    """Make the output."""
    return text[:1]


@node
def look(text: str) -> None:
    """Only read."""


class Open(Node[Any, Any, Any]):
    """May write anything."""

    def post(self, store: Store[Any], prep: Any, result: Any) -> None:
        """Hand the store to somebody."""
        vars(store)


def halfway(**settings: Any) -> Flow[Doc]:
    """One of two ways leaves the output out."""
    flow: Flow[Doc] = Flow(choose, schema=Doc, **settings)
    return flow.then(choose.when("a"), cut).then(choose.when("b"), END)


def line_of(text: str) -> int:
    """The line in this file that ends with a mark."""
    lines = Path(__file__).read_text("utf-8").splitlines()
    (found,) = [number for number, line in enumerate(lines, 1) if line.endswith(f"# {text}")]
    return found


def test_a_way_that_leaves_out_a_declared_output_is_an_error() -> None:
    """With its path, before any node has run; a run that is given the value is not stopped."""
    flow = halfway(outputs=(D.out,))
    (found,) = flow.validate()
    assert (found.code, found.severity, found.node) == ("PF304", "error", "choose")
    assert "'out' is not set where the run ends on the path choose -b-> END" in found.message
    with pytest.raises(FlowValidationError, match="PF304"):
        flow.run({"text": "x"})
    assert flow.run({"text": "x", "out": ""})["out"] == ""
    assert halfway(outputs=(D.text,)).validate() == []  # an input is there


@pytest.mark.parametrize("branch", [cut, Flow(cut, flow_name="inner").then(cut, END)])
def test_what_branches_keep_for_themselves_is_no_output(branch: Any) -> None:
    """An output that only a branch has, as a private field, is never set in the end."""
    together = Parallel(branch, private=(D.out,), name="together")
    (found, lost) = Flow(together, schema=Doc, outputs=(D.out,)).validate()
    assert (found.code, found.severity, found.node) == ("PF304", "error", "together")
    assert (lost.code, lost.severity) == ("PF302", "warning")
    merged = Parallel(branch, name="merged")
    assert Flow(merged, schema=Doc, outputs=(D.out,)).validate() == []


class Choose(Node[Any, Any, Any]):
    """Declares nothing."""

    def post(self, store: Store[Any], prep: Any, result: Any) -> Any:
        """One of two ways leaves the output out."""
        if not store["text"]:
            return "none"
        store["out"] = "x"
        return "found"


def test_a_class_that_declares_nothing_may_end_the_run_early() -> None:
    """In a flow that declares nothing either."""
    a = Choose()
    flow = Flow(a, schema=Doc).then(a.when("found"), cut).then(a.when("none"), END)
    assert flow.validate() == []


def test_what_a_model_requires_is_a_warning() -> None:
    """Only ``to_model()`` needs it, so nothing is stopped; a choice that ends the run is a way."""
    for flow in (halfway(), halfway(inputs=(D.text,))):
        (found,) = flow.validate()
        assert (found.code, found.severity) == ("PF304", "warning")
        assert "the run ends on the path choose -b-> END" in found.message
        assert "out" not in flow.run({"text": "x"})
    nobody = Flow(look, schema=Doc, inputs=(D.text,)).validate()
    assert [(one.code, one.severity) for one in nobody] == [("PF304", "warning")]
    assert "no node writes it" in nobody[0].message


@pytest.mark.parametrize(
    "flow",
    [
        Flow(look, schema=Doc),  # who does not say what is given may be given it
        Flow(look, schema={"text": str, "out": str}, inputs=(key("text"),)),
        Flow(Open(), schema=Doc, inputs=(D.text,), outputs=(D.out,)),
        Flow(cut, schema=Doc, outputs=(D.out,)),
        Flow(Parallel(cut, look, name="both"), schema=Doc, outputs=(D.out,)),
        halfway(outputs=()),
    ],
)
def test_what_is_set_or_may_be_is_not_told(flow: Flow[Any]) -> None:
    """Nothing is said of what somebody has set, may have set, or nobody counts on."""
    assert flow.validate() == []


def test_an_end_after_an_error_counts_for_what_is_declared() -> None:
    """An edge for errors that leads to the end leaves the output out as well."""
    flow: Flow[Doc] = Flow(cut, schema=Doc, outputs=(D.out,))
    flow.then(cut.catch(ValueError), END)
    (found,) = flow.validate()
    assert "cut -except ValueError-> END" in found.message
    assert Flow(cut, schema=Doc).then(cut.catch(ValueError), END).validate() == []


def test_one_mistake_is_one_finding() -> None:
    """Where the only writer is led to by a misspelt action, that is said and nothing else."""
    flow: Flow[Doc] = Flow(look, schema=Doc, outputs=(D.out,))
    flow.then(look.when("dfault"), cut)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
    assert [one.code for one in flow.validate()] == ["PF102"]


def test_outputs_are_references() -> None:
    """A name that no type checker can check is refused; an unknown field is PF201."""
    with pytest.raises(DefinitionError, match=r"Flow\(\.\.\.\): outputs='out' is a string"):
        Flow(look, outputs=("out",))
    (found,) = Flow(look, schema=Doc, outputs=(key("outt"),)).validate()
    assert (found.code, "did you mean 'out'" in found.message) == ("PF201", True)


def test_an_output_that_an_ending_of_a_subflow_lacks_is_an_error() -> None:
    """It would fail after the flow inside was paid for; the place is that of the bind."""
    inner = halfway(flow_name="inner")
    outputs = [bind(D.out).to(D.out)]  # the link
    part = Subflow(inner, inputs=[bind(D.text).to(D.text)], outputs=outputs)
    flow: Flow[Doc] = Flow(part, schema=Doc).then(part, look).then(part.when("b"), look)
    (found,) = flow.validate()
    assert (found.code, found.severity) == ("PF301", "error")
    assert (found.file, found.line) == (__file__, line_of("the link"))
    assert "the flow hands back 'out'" in found.message


def test_findings_on_flows_and_branches_are_in_the_users_file() -> None:
    """A flow, a parallel node and a link have the place where they are written."""
    both = Parallel(cut, name="both", on_error="collect")  # the fork
    flow: Flow[Doc] = Flow(both, schema=Doc).then(both, END)
    (found,) = flow.validate()
    assert (found.code, found.file, found.line) == ("PF103", __file__, line_of("the fork"))
    fan = FanOut(look, each=D.count, as_=D.text)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type] # the fan
    (found,) = Flow(fan, schema=Doc).validate()
    assert (found.code, found.file, found.line) == ("PF207", __file__, line_of("the fan"))
    bad = Flow(look, schema=Doc, inputs=(D.text, key("txt")))  # the flow
    (found,) = [one for one in bad.validate() if one.code == "PF201"]
    assert (found.file, found.line) == (__file__, line_of("the flow"))
    wrong = [bind(D.text).to(key("document"))]  # the wrong link
    part = Subflow(Flow(cut, schema=Doc), inputs=wrong)
    (found,) = Flow(part, schema=Doc).validate()
    assert (found.code, found.file, found.line) == ("PF201", __file__, line_of("the wrong link"))
    turned: Any = [bind(key("document")).to(D.text)]
    inner = Flow(cut, schema=Doc)
    (found, *_) = Flow(Subflow(inner, inputs=turned), schema={"document": str}).validate()
    assert found.fix.endswith(
        "; or turn it round, bind(Doc.text).to('document'): what is set comes first"
    )


class Mine(Flow[Doc]):
    """A flow of the user's own."""


def made() -> Flow[Doc]:
    """Make one in a function."""
    return Mine(choose, schema=Doc, outputs=(D.count, key("nope")))  # in a function


def test_a_flow_of_ones_own_has_the_line_that_makes_it() -> None:
    """Also if its class is the user's, and a function makes it."""
    (found,) = [one for one in made().validate() if one.code == "PF201"]
    assert (found.file, found.line) == (__file__, line_of("in a function"))


class Nested(BaseModel):
    """A model inside of the store's."""

    token: Secret[int]


@pytest.mark.parametrize(
    ("kind", "severity"),
    [
        (SecretStr, "error"),
        (SecretBytes, "error"),
        (Secret[str], "error"),
        (SecretStr | None, "warning"),  # it may well be None
        (Annotated[SecretStr, "a note"], "error"),
        (list[SecretStr], "error"),
        (dict[str, SecretBytes], "error"),
        (Nested, "error"),
        (type, "error"),
        (set[type[Nested]], "error"),
        (type[Nested] | str, "warning"),
    ],
)
def test_a_secret_or_a_class_is_not_written_down(kind: Any, severity: str, tmp_path: Path) -> None:
    """A field that holds one is told where runs are kept in a database, and only there."""
    schema = {"text": str, "token": kind}
    (found,) = Flow(look, schema=schema, db_path=tmp_path / "runs.db").validate()
    assert (found.code, found.severity) == ("PF401", severity)
    assert "Secret" in found.message or "holds type" in found.message
    assert kind is Nested or found.fix == "let it hold the name under which the program finds it"
    assert Flow(look, schema=schema).validate() == []


def test_what_a_hook_may_show_is_not_written_for_nothing() -> None:
    """A hook is given the store after each node, so it may read what the next one overwrites."""
    again = node(writes=D.out)(lambda_free)
    flow: Flow[Doc] = Flow(cut, schema=Doc).then(cut, again)
    assert [one.code for one in flow.validate()] == ["PF302"]
    flow.on("node_end", lambda name, action, elapsed, store: print(store["out"]))
    assert flow.validate() == []


def lambda_free(text: str) -> str:
    """Write the output once more."""
    return text


def test_what_a_branch_has_for_itself_is_not_wanted_at_the_end() -> None:
    """The item of a fan-out and private fields are set inside of branches alone."""

    class Scratch(BaseModel):
        texts: list[str]
        text: str
        tmp: str
        outs: Annotated[list[str], append] = []

    s = fields(Scratch)

    @node(writes=s.tmp)
    def begin(text: str) -> str:
        return text

    @node(writes=item(s.outs))
    def finish(tmp: str) -> str:
        return tmp

    branch = Flow(begin, schema=Scratch).then(begin, finish)
    fan = FanOut(branch, each=s.texts, as_=s.text, private=(s.tmp,))
    assert Flow(fan, schema=Scratch, inputs=(s.texts,)).validate() == []


class Named(Node[Any, Any, str]):
    """Returns the default action, by its name."""

    def post(self, store: Store[Any], prep: Any, result: Any) -> str:
        """Go on."""
        return "default"


def test_an_action_that_a_class_never_returns_ends_no_nested_flow() -> None:
    """The source of a class tells its actions; what it does not return leaves nothing out."""
    first = Named()
    inner: Flow[Doc] = Flow(first, schema=Doc, flow_name="inner").then(first.when("default"), cut)
    assert not Flow(inner, schema=Doc, inputs=(D.text,)).validate()


class Chooses(Node[Any, Any, str]):
    """Returns one of two actions, which only its source tells."""

    def post(self, store: Store[Any], prep: Any, result: Any) -> str:
        """Choose."""
        return "good" if store["text"] else "bad"


def test_an_edge_for_what_no_class_inside_of_a_flow_returns_is_a_warning() -> None:
    """The source of the classes in a nested flow says what can end it."""
    first, last = Chooses(), Chooses(name="last")
    inner: Flow[Doc] = Flow(first, flow_name="inner").then(first.when("good"), last)
    middle: Flow[Doc] = Flow(inner, flow_name="middle")
    flow = Flow(middle, schema=Doc, outputs=()).then(middle.when("bad"), look)
    assert flow.validate() == []
    flow.then(middle.when("goood"), END)
    (found,) = flow.validate()
    assert (found.code, found.severity) == ("PF102", "warning")
    assert "which 'middle' never returns (it returns: 'bad', 'good'; did you mean" in found.message
