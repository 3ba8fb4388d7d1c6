"""PF303: what parallel branches write at the same time."""

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel

from pocoflow import END, FanOut, Flow, Node, Parallel, Store, fields, key, node
from pocoflow.check.findings import Finding
from pocoflow.errors import BranchError, FlowValidationError
from pocoflow.failure import Failure
from pocoflow.reducers import append


class Work(BaseModel):
    document: str = ""
    items: list[int] = []
    one: int = 0
    summary: str = ""
    title: str = ""
    log: Annotated[list[str], append] = []


W = fields(Work)


@node(writes=W.summary)
def shorten(document: str) -> str:
    """Writes the summary."""
    return document


@node(writes=W.summary)
def translate(document: str) -> str:
    """Writes the summary, too."""
    return document


@node(writes=W.title)
def name(document: str) -> str:
    """Writes the title."""
    return document


class Perhaps(Node):
    """Writes the summary only now and then."""

    def post(self, store: Store[Any], prepared: Any, result: Any) -> None:
        if store["document"]:
            store["summary"] = "perhaps"


def clashes(start: Node[Any, Any, Any]) -> list[Finding]:
    """What PF303 finds in a flow."""
    return [one for one in Flow(start, schema=Work).validate() if one.code == "PF303"]


def test_two_branches_that_write_one_field_are_an_error() -> None:
    """The finding names the node, the branches and the field; the run does not start."""
    start = Parallel(shorten, translate, name="both")
    (found,) = clashes(start)
    assert (found.severity, found.node) == ("error", "both")
    assert all(part in found.message for part in ("'shorten'", "'translate'", "'summary'"))
    assert found.file == __file__
    with pytest.raises(FlowValidationError, match="PF303"):
        Flow(start, schema=Work).run({})


def test_branches_with_fields_of_their_own_are_fine() -> None:
    """Different fields need no reducer."""
    assert clashes(Parallel(shorten, name, name="both")) == []


def test_a_flow_and_a_node_as_branches_clash_too() -> None:
    """What a flow writes somewhere on its way counts as written by the branch that it is."""
    flow = Flow(name, flow_name="inner", schema=Work)
    flow.then(name, translate)
    (found,) = clashes(Parallel(shorten, flow, name="both"))
    assert found.severity == "error"
    assert "'inner'" in found.message


def test_branches_in_branches_count() -> None:
    """What a nested parallel node writes is written by the branch that it is in."""
    inner = Parallel(name, translate, name="inner")
    (found,) = clashes(Parallel(shorten, inner, name="both"))
    assert (found.node, found.severity) == ("both", "error")


def test_a_write_that_depends_on_values_is_a_warning() -> None:
    """A branch that may not write after all does not keep a run from starting."""
    start = Parallel(shorten, Perhaps(), name="both")
    (found,) = clashes(start)
    assert found.severity == "warning"
    assert Flow(start, schema=Work).run({}).state.summary == ""


def test_the_items_of_a_fan_out_are_a_warning() -> None:
    """The same branch for several items clashes with itself, but one item works."""
    (found,) = clashes(FanOut(shorten, each=W.items, as_=W.one, name="each"))
    assert (found.severity, found.node) == ("warning", "each")
    assert "'summary'" in found.message


class Report(BaseModel):
    """Has a field for failures without a default."""

    items: list[str]
    item: str = ""
    count: int = 0
    failures: list[Failure]
    log: Annotated[list[str], append] = []


class Elsewhere(BaseModel):
    """Another model."""

    other: Any = None


R, E = fields(Report), fields(Elsewhere)


@node(writes=key("log"))
def work(item: str) -> str:
    """Fails for one item."""
    if item == "bad":
        raise ValueError(item)
    return item


@node
def count(failures: list[Failure]) -> None:
    """Reads the failures."""


def test_the_field_of_the_failures_is_written() -> None:
    """What follows may read the list, failures or none; nobody has to hand it in."""
    fan = FanOut(work, each=R.items, as_=R.item, on_error="collect", errors=R.failures)
    flow: Flow[Report] = Flow(fan, schema=Report)
    flow.then(fan, count).then(fan.when("failed"), count)
    assert flow.validate() == []
    assert len(flow.run({"items": ["good", "bad"]}).state.failures) == 1
    assert flow.run({"items": []}).state.failures == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"errors": E.other, "on_error": "collect"}, "it writes 'other'"),
        ({"private": [E.other]}, "it has the private field 'other'"),
        ({"as_": E.other}, "it gives each item to its branch as 'other'"),
        ({"errors": key("count"), "on_error": "collect"}, "errors= writes list[Failure] to field"),
    ],
)
def test_a_field_that_the_schema_lacks_is_found_before_the_run(
    given: dict[str, Any], said: str
) -> None:
    """Each field that a parallel node names is one of the schema, and of a type that fits."""
    fan = FanOut(work, **{"each": R.items, "as_": R.item, "name": "fan", **given})
    flow: Flow[Report] = Flow(fan, schema=Report)
    flow.then(fan.when("failed"), END)
    found = [one for one in flow.validate() if one.code in ("PF201", "PF203")]
    assert [one.message.startswith(said) for one in found] == [True]


class Collect(Node):
    """Puts its result into a dict that all branches have, as one does with a shared dict."""

    def post(self, store: Store[Any], prepared: Any, result: Any) -> None:
        store["out"][self.name] = result


class Append(Node):
    """Appends to a list that all branches have."""

    def post(self, store: Store[Any], prepared: Any, result: Any) -> None:
        store["out"].append(result)


class Deep(Node):
    """Changes a part of what a key holds."""

    def post(self, store: Store[Any], prepared: Any, result: Any) -> None:
        store["out"]["a"]["b"] += 1


@pytest.mark.parametrize("kind", [Collect, Append, Deep])
def test_what_branches_change_in_place_is_a_warning(kind: type[Node]) -> None:
    """Each branch changes a copy of its own, and the copies cannot be put together."""
    both = Parallel(kind(name="a"), kind(name="b"))
    items = FanOut(kind(), each=key("items"), as_=key("item"))
    private = Parallel(kind(name="a"), kind(name="b"), private=[key("out")])
    for start in (both, items):
        (one,) = Flow(start=start).validate()
        assert (one.code, one.severity) == ("PF303", "warning")
        assert "'out', which has no reducer" in one.message
    assert Flow(start=private).validate() == []
    assert Flow(start=Parallel(kind(name="a"), Node(name="b"))).validate() == []
    # What it holds is no list or dict: a client, for one, is shared.
    client = Flow(start=both, schema={"out": int})
    assert "PF303" not in [one.code for one in client.validate()]


class Assigns(Node):
    """Writes over what branches are to add to."""

    def post(self, store: Store[Any], prep: Any, result: Any) -> None:
        store["log"] = ["a"]


class MayAssign(Node):
    """Writes over it, or not."""

    def post(self, store: Store[Any], prep: Any, result: Any) -> None:
        if store["n"]:
            store.update(log=["a"])


class InPlace(Node):
    """Changes it in place."""

    def post(self, store: Store[Any], prep: Any, result: Any) -> None:
        store["log"].append("a")


class Adds(Node):
    """Gives an increment."""

    def post(self, store: Store[Any], prep: Any, result: Any) -> None:
        store.reduce("log", "a")
        store.put({"log": "b"})


class Logged(BaseModel):
    """A field with a reducer."""

    n: int = 0
    log: Annotated[list[str], append] = []


def test_a_branch_that_assigns_to_a_field_with_a_reducer_is_found() -> None:
    """Nobody could put that together, however few branches do."""
    cases = {Assigns: "error", MayAssign: "warning", InPlace: "warning", Adds: None}
    for kind, severity in cases.items():
        other = Node(name="other")
        flow = Flow(Parallel(kind(name="one"), other, name="p"), schema=Logged)
        found = [(one.code, one.severity, one.node) for one in flow.validate()]
        assert found == ([] if severity is None else [("PF303", severity, "p/one")])
        own = Parallel(kind(name="one"), other, private=(fields(Logged).log,))
        assert "PF303" not in {one.code for one in Flow(own, schema=Logged).validate()}
        if severity == "error":
            flow = Flow(Parallel(kind(), other), schema=Logged, ignore=("PF303",))
            with pytest.raises(BranchError, match="has a reducer"):
                flow.run({})
        elif severity is None:
            assert flow.run({})["log"] == ["a", "b"]


@pytest.mark.parametrize("kind", [Assigns, InPlace])
def test_an_assignment_in_branches_of_branches_is_told_once(kind: type[Node]) -> None:
    """The finding has the whole path of the node, however deep it is."""
    inner = Parallel(kind(name="one"), Node(name="other"), name="inner")
    around = Flow(Parallel(inner, Node(name="third"), name="outer"), schema=Logged)
    found = [one.node for one in around.validate() if one.code == "PF303"]
    assert found == ["outer/inner/one"]


def test_another_schema_in_a_branch_is_told_once() -> None:
    """It is a warning there, and an error in a nested flow."""

    class Other(BaseModel):
        n: int = 0

    flow = Flow(Adds(name="one"), schema=Other, flow_name="nested")
    for start, severity in ((Parallel(flow, name="p"), "warning"), (flow, "error")):
        found = Flow(start, schema=Logged).validate()
        assert [one.severity for one in found if one.code == "PF206"] == [severity]


def test_a_clash_is_logged_once_before_the_first_branch(caplog: pytest.LogCaptureFixture) -> None:
    """A run that is not refused tells of it before any branch is paid for, and not again."""
    seen: list[str] = []
    flow = Flow(start=FanOut(Append(), each=key("items"), as_=key("item")), flow_name="many")
    flow.on("node_start", lambda name, store: seen.append(caplog.text))
    for _ in range(2):
        flow.run({"items": [1], "out": []})
    assert "PF303: flow 'many', node 'FanOut': the branch of every item" in seen[0]
    assert "Fix: name it in private=(key('out'),) if only the nodes of one branch" in seen[0]
    assert [record.levelname for record in caplog.records].count("WARNING") == 1
    caplog.clear()
    Flow(start=FanOut(Node(), each=key("items"), as_=key("item"))).run({"items": [1]})
    assert not caplog.records


def test_a_read_in_a_branch_has_the_place_of_the_node_that_reads() -> None:
    """The finding names the node in its branch, and points to its line."""

    @node(writes=key("left"))
    def writer(text: str) -> str:
        return text

    @node(writes=key("right"))
    def reader(left: str) -> str:
        return left

    flow = Flow(Parallel(writer, reader, name="both"), inputs=(key("text"),))
    (found,) = flow.validate()
    assert (found.code, found.node, found.file) == ("PF301", "both/reader", __file__)
    assert found.line == reader.signature.function.__code__.co_firstlineno


class Parts(BaseModel):
    document: str
    left: str
    right: str
    both: str = ""


P = fields(Parts)


@node
def is_left(document: str) -> Literal["yes", "no"]:
    """Decides."""
    return "yes" if document else "no"


@node(writes=P.left)
def left(document: str) -> str:
    """Writes the left part."""
    return document


@node(writes=P.right)
def right(document: str) -> str:
    """Writes the right part."""
    return document


@node(writes=P.both)
def together(left: str, right: str) -> str:
    """Needs both."""
    return left + right


def perhaps(name: str) -> Flow[Any]:
    """Writes the left part on one of two ways."""
    flow: Flow[Any] = Flow(is_left, flow_name=name).then(is_left.when("yes"), left)
    return flow.then(is_left.when("no"), END)


def missing_behind(*branches: Any, chooses: bool = False) -> list[str]:
    """How bad what the nodes behind branches miss is."""
    start = Parallel(*branches, right, name="parts")
    flow = Flow(start, schema=Parts, outputs=())
    if chooses:
        flow.then(start, is_left).then(is_left.when("yes"), together).then(is_left.when("no"), END)
    else:
        flow.then(start, together)
    return [one.severity for one in flow.validate() if one.code == "PF301"]


def test_what_a_branch_leaves_out_on_one_of_its_ways_is_missing_behind_it() -> None:
    """As in a flow without branches; two branches may exclude each other, a choice may know."""
    assert missing_behind(left) == []
    assert missing_behind(perhaps("one")) == ["error"]
    assert missing_behind(perhaps("one"), perhaps("two")) == []
    assert missing_behind(perhaps("one"), chooses=True) == ["warning"]


def test_what_a_branch_writes_for_itself_alone_and_nobody_reads_is_told() -> None:
    """Private fields and the item end with the branch: the work for what is in them is lost."""

    @node(writes=W.title)
    def uses(summary: str) -> str:
        return summary

    @node(writes=W.one)
    def doubles(one: int) -> int:
        return 2 * one

    def found(branch: Any, *private: str) -> list[tuple[str, str | None]]:
        each = FanOut(branch, each=W.items, as_=W.one, private=tuple(map(key, private)))
        told = Flow(each, schema=Work, outputs=()).validate()
        return [(one.code, one.node) for one in told if one.code == "PF302"]

    read = Flow(shorten, flow_name="read").then(shorten, uses)
    again = Flow(doubles, flow_name="again", max_steps=5).then(
        doubles, doubles, at_most=2, then=END
    )
    assert found(shorten, "summary") == [("PF302", "FanOut/shorten")]
    assert found(doubles) == [("PF302", "FanOut/doubles")]
    assert found(shorten) == found(read, "summary", "document") == found(again) == []
    assert found(read, "summary", "title") == [("PF302", "FanOut/read/uses")]
    assert found(Perhaps(), "summary") == [("PF302", "FanOut/Perhaps")]
    (told,) = Flow(FanOut(doubles, each=W.items, as_=W.one), schema=Work).validate()
    assert "'one' is dropped at the end of the branch before anything reads it" in told.message
    assert told.fix.startswith("write it to another field, with a reducer")


def test_a_branch_that_is_watched_is_not_told_of_what_it_writes_for_itself() -> None:
    """A hook sees the store of a branch, too."""
    flow = Flow(FanOut(shorten, each=W.items, as_=W.one, private=(W.summary,)), schema=Work)
    assert [one.code for one in flow.validate()] == ["PF302"]
    flow.on("node_end", lambda name, action, elapsed, store: None)
    assert flow.validate() == []
