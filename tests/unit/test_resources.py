"""Resources: typed keys for live objects that a run is given and never stores."""

from __future__ import annotations

import abc
import asyncio
import copy
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import pytest

from pocoflow import Flow, Node, Store, WorkflowDB, context, key, node, resource
from pocoflow.errors import DefinitionError, NoRunError, ReferenceMisuseError, ResourceError


class Client:
    def __init__(self, answer: str = "42") -> None:
        self.answer = answer
        self.lock = threading.Lock()  # nothing that could be stored

    def ask(self, question: str) -> str:
        return f"{question} {self.answer}"


class Other:
    pass


class Asks(Protocol):
    def ask(self, question: str) -> str: ...


@runtime_checkable
class Answers(Protocol):
    def answer_to(self, question: str) -> str: ...


class Abstract(abc.ABC):
    @abc.abstractmethod
    def ask(self, question: str) -> str: ...


llm = resource(Client, "llm")


@node(writes=key("answer"))
def ask(question: str, client: Client = llm) -> str:
    """Ask the model."""
    return client.ask(question)


class AskInNode(Node):
    def prep(self, store: Store) -> Any:
        return store["question"]

    def exec(self, question: Any) -> str:
        return context()[llm].ask(question)

    def post(self, store: Store, prep: Any, answer: str) -> None:
        store["answer"] = answer


def test_a_function_gets_the_object_as_an_argument() -> None:
    """A parameter whose default is a resource is the object that the run was given."""
    store = Flow(start=ask).run({"question": "6 x 7?"}, resources={llm: Client()})
    assert store["answer"] == "6 x 7? 42"


def test_any_node_gets_the_object_from_the_context() -> None:
    """``context()[key]`` is the object, in a node of any kind."""
    store = Flow(start=AskInNode()).run({"question": "?"}, resources={llm: Client()})
    assert store["answer"] == "? 42"


def test_resources_work_in_every_way_to_start_a_run() -> None:
    """``run_async`` and ``run_background`` take the same ``resources`` as ``run``."""
    flow = Flow(start=ask)
    given = {llm: Client("async")}
    store = asyncio.run(flow.run_async({"question": "?"}, resources=given))
    assert store["answer"] == "? async"
    assert flow.run_background({"question": "?"}, resources=given).wait()["answer"] == "? async"


def test_an_async_function_and_a_whole_store_function_get_resources() -> None:
    """Each kind of function node takes resources."""

    @node(writes=key("answer"))
    async def ask_later(question: str, client: Client = llm) -> str:
        return client.ask(question)

    @node
    def shout(store: Store, client: Client = llm) -> None:
        store["answer"] = store["answer"] + client.answer

    flow = Flow(start=ask_later).then(ask_later, shout)
    store = flow.run({"question": "?"}, resources={llm: Client("!")})
    assert store["answer"] == "? !!"


def test_each_run_has_its_own_objects() -> None:
    """Runs of one flow do not see one another's resources."""
    flow = Flow(start=ask)
    answers = [
        flow.run({"question": "?"}, resources={llm: Client(answer)})["answer"]
        for answer in ("a", "b")
    ]
    assert answers == ["? a", "? b"]


def test_a_missing_resource_ends_the_run_before_its_first_node() -> None:
    """What a function node declares is checked before anything runs, nested flows included."""
    ran: list[str] = []

    @node
    def first() -> None:
        ran.append("first")

    for last in (ask, Flow(start=ask, flow_name="inner")):
        flow = Flow(start=first).then(first, cast(Any, last))
        with pytest.raises(
            ResourceError, match=r"ask' asks for <resource 'llm': Client>"
        ) as caught:
            flow.run({"question": "?"})
        assert "resources={key: object}" in str(caught.value)
        assert isinstance(caught.value, TypeError)
    assert ran == []


def test_a_missing_resource_leaves_no_run_behind(tmp_path: Path) -> None:
    """A run that cannot begin is not in the database."""
    flow = Flow(start=ask, db_path=tmp_path / "runs.db")
    with pytest.raises(ResourceError):
        flow.run({"question": "?"})
    assert WorkflowDB(tmp_path / "runs.db").list_runs() == []


def test_an_object_of_another_type_is_refused_before_the_first_node() -> None:
    """The message names the resource, what was given and what it must be."""
    with pytest.raises(
        ResourceError, match=r"'llm'.* of class Other: it has to be of class Client"
    ):
        Flow(start=ask).run({"question": "?"}, resources={llm: Other()})
    with pytest.raises(ResourceError, match=r"a class: it .* pass an instance, with \(\)$"):
        Flow(start=ask).run({"question": "?"}, resources={llm: Client})


def test_a_subclass_is_fine() -> None:
    """An object of a subclass is an object of the class."""

    class Fake(Client):
        pass

    store = Flow(start=ask).run({"question": "?"}, resources={llm: Fake("fake")})
    assert store["answer"] == "? fake"


def test_a_resource_that_only_a_context_asks_for_is_missed_at_access() -> None:
    """Without a declaration the error comes when the node asks, and names what was given."""
    with pytest.raises(ResourceError, match=r"'llm'.*given: <resource 'db': Other>"):
        Flow(start=AskInNode()).run({"question": "?"}, resources={resource(Other, "db"): Other()})


def test_context_takes_keys_of_resources_alone() -> None:
    """Asking the context for anything else is an error that says what it takes."""

    @node
    def confused() -> None:
        context()["llm"]

    with pytest.raises(ResourceError, match="takes what resource"):
        Flow(start=confused).run({})


@pytest.mark.parametrize("name", ["llm", Client, 5])
def test_the_keys_of_resources_are_what_resource_returned(name: object) -> None:
    """A string or a class as a key is refused with the way to do it."""
    with pytest.raises(ResourceError, match=r"resource\(Class, name\)"):
        Flow(start=ask).run({"question": "?"}, resources={name: Client()})


def test_equal_keys_are_one_resource() -> None:
    """The class and the name make the key, so that two modules may each write it down."""
    assert resource(Client, "llm") == llm
    assert hash(resource(Client, "llm")) == hash(llm)
    assert resource(Client, "other") != llm
    assert cast(Any, resource(Other, "llm")) != llm
    store = Flow(start=ask).run({"question": "?"}, resources={resource(Client, "llm"): Client()})
    assert store["answer"] == "? 42"


def test_two_resources_of_one_class_are_told_apart_by_name() -> None:
    """The name is what sets a fast model apart from a good one."""
    fast, good = resource(Client, "fast"), resource(Client, "good")

    @node(writes=(key("a"), key("b")))
    def both(one: Client = fast, two: Client = good) -> tuple[str, str]:
        return one.answer, two.answer

    store = Flow(start=both).run({}, resources={fast: Client("fast"), good: Client("good")})
    assert (store["a"], store["b"]) == ("fast", "good")


USES: dict[str, Callable[[Any], object]] = {
    "method": lambda k: k.ask("?"),
    "attribute": lambda k: k.name,
    "truth": bool,
    "call": lambda k: k("?"),
    "iter": iter,
    "len": len,
    "item": lambda k: k[0],
    "<": lambda k: k < k,
    "assignment": lambda k: setattr(k, "answer", "?"),
}


@pytest.mark.parametrize("how", USES)
def test_a_key_is_not_the_object(how: str) -> None:
    """Using the key as if it were the client says how to get the client."""
    with pytest.raises(ReferenceMisuseError, match=r"'llm'.*context\(\)\[key\]"):
        USES[how](llm)


def test_a_function_called_plainly_must_be_given_its_resource() -> None:
    """Outside a run there is no object behind the default; the error names the resource."""
    assert ask("?", Client("test")) == "? test"
    with pytest.raises(TypeError, match=r"ask\(\).*without 'client'.*<resource 'llm': Client>"):
        ask("?")
    with pytest.raises(NoRunError):
        context()


def test_protocols_and_abstract_classes_are_kinds() -> None:
    """A kind may be a protocol or an abstract class; what can be checked is checked."""
    asks, answers = resource(Asks, "a"), resource(Answers, "b")

    @node(writes=key("answer"))
    def use(a: Asks = asks, b: Answers = answers) -> str:
        return a.ask(b.answer_to("?"))

    class Answering:
        def answer_to(self, question: str) -> str:
            return question * 2

    given: dict[object, object] = {asks: Client(), answers: Answering()}
    assert Flow(start=use).run({}, resources=given)["answer"] == "?? 42"
    with pytest.raises(ResourceError, match="'b'"):
        Flow(start=use).run({}, resources={**given, answers: Client()})
    assert repr(resource(Abstract, "x")) == "<resource 'x': Abstract>"


@pytest.mark.parametrize(
    ("kind", "name"), [("llm", "llm"), (Client(), "llm"), (len, "llm"), (Client, ""), (Client, 5)]
)
def test_a_resource_is_a_class_and_a_name(kind: object, name: object) -> None:
    """Anything else is refused when the resource is defined."""
    with pytest.raises(DefinitionError, match="resource"):
        resource(cast(Any, kind), cast(Any, name))


def test_a_key_can_be_copied_and_pickled() -> None:
    """What copies or ships a definition can take a key along."""
    assert copy.deepcopy([llm])[0] is llm
    assert pickle.loads(pickle.dumps(llm)) == llm  # noqa: S301


def test_a_resource_is_never_stored_and_asked_for_again_on_resume(tmp_path: Path) -> None:
    """A checkpoint holds no client; a resumed run is given one again."""

    @node(writes=key("answer"))
    def fragile(question: str, client: Client = llm) -> str:
        if client.answer == "bad":
            raise ConnectionError("gone")
        return client.ask(question)

    flow = Flow(start=fragile, db_path=tmp_path / "runs.db", run_id="one")
    with pytest.raises(ConnectionError):
        flow.run({"question": "?"}, resources={llm: Client("bad")})
    database = WorkflowDB(tmp_path / "runs.db")
    assert dict(database.load_checkpoint("one", step=-1)) == {"question": "?"}
    with pytest.raises(ResourceError, match="asks for"):
        flow.resume("one")
    assert flow.resume("one", resources={llm: Client("good")})["answer"] == "? good"
