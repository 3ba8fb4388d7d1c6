"""Functions as nodes: what they read and write, how they route, and what is refused."""

from __future__ import annotations

import asyncio
import copy
import functools
import importlib
import inspect
import sys
import textwrap
import threading
import typing
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from enum import Enum, StrEnum
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Never, cast, get_type_hints

import pytest
from pydantic import BaseModel
from typing_extensions import TypeAliasType

import pocoflow
from pocoflow import END, Flow, Node, Store, WorkflowDB, fields, key, node, resource
from pocoflow.errors import (
    ActionError,
    DefinitionError,
    InvalidValueError,
    MissingKeyError,
    NotSavedError,
    ReferenceMisuseError,
)
from pocoflow.nodes.annotations import is_unknown, read_hints
from pocoflow.nodes.function import FunctionNode
from pocoflow.store.fields import StoreField

if TYPE_CHECKING:
    from decimal import Decimal as OnlyForCheckers


class Article(BaseModel):
    document: str
    summary: str
    score: float = 0.0
    tags: list[str] = []


A = fields(Article)
untyped: Callable[..., FunctionNode[..., Any, Any, Any]] = cast(Any, node)
"""``@node`` for what type checkers refuse."""

loosely: Callable[..., Callable[..., FunctionNode[..., Any, Any, Any]]] = cast(Any, node)
"""``@node(...)`` for what type checkers refuse."""


class Route(StrEnum):
    UP = "up"
    DOWN = "down"


Verdict = Literal["good", "bad"]
Alias = TypeAliasType("Alias", Verdict)


@node(writes=A.summary)
def summarise(document: str) -> str:
    """Make it short."""
    return document[:3]


@node(writes=A.score)
async def grade(text: str = A.summary) -> float:
    """Longer is better."""
    return float(len(text))


@node
def decide(score: float) -> Literal["good", "bad"]:
    """Three is enough."""
    return "good" if score > 2 else "bad"


@node
def publish(store: Store[Article]) -> None:
    """Make it loud."""
    store.state.summary = store.state.summary.upper()


@node
def later(score: float) -> Later:
    """Return what is defined further down."""
    return Later.NOW


class Later(StrEnum):
    NOW = "now"
    NEVER = "never"


def article_flow() -> Flow[Article]:
    """A flow of all kinds of functions."""
    flow = Flow(start=summarise, schema=Article, flow_name="article")
    flow.then(summarise, grade).then(grade, decide)
    return flow.then(decide.when("good"), publish).then(decide.when("bad"), END)


def as_module(folder: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> ModuleType:
    """Import a program from a folder."""
    folder.joinpath("program_of_a_test.py").write_text(textwrap.dedent(source), encoding="utf-8")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "program_of_a_test", raising=False)
    return importlib.import_module("program_of_a_test")


# -- in a flow ----------------------------------------------------------------------------------


def test_functions_make_a_flow() -> None:
    """Functions that write, route and use the whole store run as one flow, sync and async."""
    store = article_flow().run({"document": "a long text"})
    assert store["summary"] == "A L"
    assert store["score"] == 3.0
    assert asyncio.run(article_flow().run_async({"document": "a long text"})) == store
    assert article_flow().run_background({"document": "x"}).wait()["summary"] == "x"


def test_every_kind_of_function_runs_in_every_kind_of_run() -> None:
    """Sync and async, with and without the store: each is awaited or called where it must be."""
    calls: list[str] = []

    @node(writes=key("a"))
    def plain() -> int:
        calls.append("plain")
        return 1

    @node(writes=key("b"))
    async def coroutine(a: int) -> int:
        await asyncio.sleep(0)
        calls.append("coroutine")
        return a + 1

    @node
    def whole(store: Store) -> None:
        calls.append("whole")
        store["c"] = store["b"] + 1

    @node
    async def whole_coroutine(store: Store, c: int) -> None:
        await asyncio.sleep(0)
        calls.append("whole coroutine")
        store["d"] = c + 1

    flow = Flow(start=plain).then(plain, coroutine).then(coroutine, whole)
    flow.then(whole, whole_coroutine)
    wanted = {"a": 1, "b": 2, "c": 3, "d": 4}
    assert dict(flow.run({})) == wanted
    assert dict(asyncio.run(flow.run_async({}))) == wanted
    assert calls == ["plain", "coroutine", "whole", "whole coroutine"] * 2


def test_a_parameter_reads_the_field_of_its_name_or_of_its_reference() -> None:
    """``document`` is the field ``document``; ``text=A.summary`` is the field ``summary``."""
    seen: list[object] = []

    extra = key("extra")

    @node
    def look(document: str, *, text: str = A.summary, other: Any = extra) -> None:
        seen.append((document, text, other))

    Flow(start=look).run({"document": "d", "summary": "s", "extra": 5})
    assert seen == [("d", "s", 5)]


def test_a_default_is_used_where_the_field_is_not_set() -> None:
    """A parameter with an ordinary default reads the field if it is there."""
    seen: list[object] = []

    @node
    def look(document: str, style: str = "short", count: int | None = None) -> None:
        seen.append((document, style, count))

    Flow(start=look).run({"document": "d"})
    Flow(start=look).run({"document": "d", "style": "long", "count": 3})
    assert seen == [("d", "short", None), ("d", "long", 3)]


def test_a_field_that_was_not_saved_is_no_field_that_is_not_set(tmp_path: Path) -> None:
    """A default does not silently take the place of a value that a checkpoint could not hold."""
    path = Store({"lock": threading.Lock()}).snapshot(tmp_path / "store.json")

    @node
    def look(lock: object = None) -> None: ...

    with pytest.raises(NotSavedError, match="'lock' was not saved"):
        Flow(start=look).run(Store.restore(path))


def test_a_field_that_is_not_set_is_an_error_that_names_field_and_node() -> None:
    """A required field that nobody wrote ends the step with its name; the note names the node."""
    forgetful = Store({"document": "text"}, schema=Article)

    @node
    def forget(store: Store[Article]) -> None:
        del store["document"]

    flow = Flow(start=forget, schema=Article, ignore=("PF301",)).then(forget, summarise)
    with pytest.raises(MissingKeyError, match="field 'document' is not set") as caught:
        flow.run(forgetful)
    assert "in prep of node 'summarise'" in "".join(caught.value.__notes__)


def test_several_fields_are_written_from_a_tuple() -> None:
    """``writes=(a, b)`` writes the values of the returned tuple, all or nothing."""

    @node(writes=(A.summary, A.tags))
    def both(document: str) -> tuple[str, list[str]]:
        return document[:1], [document]

    store = Flow(start=both, schema=Article).run({"document": "text"})
    assert (store["summary"], store["tags"]) == ("t", ["text"])

    @loosely(writes=(A.summary, A.tags))
    def half(document: str) -> tuple[str, Any]:
        return "new", 5

    seen = Store({"document": "text"}, schema=Article)
    with pytest.raises(InvalidValueError, match="tags"):
        Flow(start=half, schema=Article).run(seen)
    assert "summary" not in seen


@pytest.mark.parametrize("result", [("one",), ("one", "two", "three"), "ab", None, ["one", "two"]])
def test_a_tuple_of_another_length_is_refused_before_it_is_written(result: object) -> None:
    """What is not a tuple of one value per field raises, naming the fields and the result."""

    @loosely(writes=(key("a"), key("b")))
    def both() -> Any:
        return result

    seen: Store[Any] = Store({})
    with pytest.raises(
        InvalidValueError, match="'both' writes 'a', 'b', so it returns a tuple of 2"
    ):
        Flow(start=both).run(seen)
    assert dict(seen) == {}


def test_one_field_as_a_tuple_takes_a_tuple_of_one() -> None:
    """``writes=(A.tags,)`` unpacks; ``writes=A.tags`` does not."""

    @node(writes=(A.tags,))
    def tagged() -> tuple[list[str]]:
        return (["a"],)

    assert Flow(start=tagged, schema=Article).run({})["tags"] == ["a"]


def test_a_written_value_is_checked_by_the_schema() -> None:
    """A function whose annotation lies is found by the store."""

    @loosely(writes=A.score)
    def wrong() -> Any:
        return "high"

    with pytest.raises(InvalidValueError, match="score"):
        Flow(start=wrong, schema=Article).run({})


def test_one_function_serves_in_many_flows() -> None:
    """The edges of a flow belong to it, so flows that share functions do not mix."""
    short = Flow(start=summarise, schema=Article)
    long = article_flow()
    assert short.run({"document": "text"})["summary"] == "tex"
    assert long.run({"document": "text"})["summary"] == "TEX"
    assert list(short.graph.nodes) == ["summarise"]


# -- actions ------------------------------------------------------------------------------------


def test_a_literal_an_enum_or_none_is_the_action() -> None:
    """Without ``writes`` the result routes: a Literal, a StrEnum member or None."""
    trail: list[str] = []

    @node
    def route(turn: int) -> Route:
        trail.append("route")
        return Route.UP if turn else Route.DOWN

    @node
    async def up() -> None:
        trail.append("up")

    @node
    def down() -> Literal["again"] | None:
        trail.append("down")
        return None

    flow = Flow(start=route).then(route.when(Route.UP), up).then(route.when(Route.DOWN), down)
    flow.then(down, up).then(down.when("again"), route)
    flow.run({"turn": 1})
    flow.run({"turn": 0})
    assert trail == ["route", "up", "route", "down", "up"]


@pytest.mark.parametrize(
    ("annotation", "actions"),
    [
        (None, ("default",)),
        (Literal["a", "b"], ("a", "b")),
        ("Literal['a'] | Literal['b', 'a'] | None", ("a", "b", "default")),
        ("Literal['a', None]", ("a", "default")),
        (Route, ("up", "down")),
        (Route | Literal["a"], ("up", "down", "a")),
        (Literal[Route.UP], ("up",)),
        (Annotated[Verdict, "note"], ("good", "bad")),
        (Alias, ("good", "bad")),
        (Alias | None, ("good", "bad", "default")),
        (Never, ()),
        (Awaitable[Verdict], ("good", "bad")),
        ("Verdict", ("good", "bad")),
        ("Literal['x']", ("x",)),
        ("NotThere", None),
        ("Literal['x'] | NotThere", None),
        ("list[NotThere", None),
    ],
    ids=str,
)
def test_the_annotation_tells_the_actions(annotation: Any, actions: object) -> None:
    """The actions are read from the annotation, in its order; unknown ones are ``None``."""

    def route() -> None: ...

    route.__annotations__["return"] = annotation
    assert node(route).actions == actions


@pytest.mark.parametrize(
    "annotation",
    [
        str,
        "str",
        Any,
        int,
        bool,
        list[str],
        Literal[1],
        Literal["a"] | int,
        Enum,
        object,
        str | None,
    ],
    ids=str,
)
def test_what_could_turn_text_into_an_action_is_refused(annotation: Any) -> None:
    """A bare ``str`` or anything else without ``writes`` is refused, with the way to do it."""

    def answer(document: str) -> None: ...

    answer.__annotations__["return"] = annotation
    with pytest.raises(DefinitionError, match=r"did you mean @node\(writes=\.\.\.\)\?") as caught:
        node(answer)
    assert f"@node answer ({__file__}:" in str(caught.value)


def test_a_result_that_is_not_a_declared_action_is_refused_at_run_time() -> None:
    """What an annotation hides from the type checker does not become an action either."""
    for result in ("great", None, 5, ["good"]):

        @node
        def lie(result: Any = result) -> Verdict:
            return cast(Verdict, result)

        with pytest.raises(
            ActionError, match=r"'lie' returned .*among its actions \('good', 'bad'\)"
        ):
            Flow(start=lie).run({})


def test_a_function_without_a_return_annotation_returns_nothing() -> None:
    """An untyped function counts as ``-> None``; text that it returns is no action."""

    @untyped
    def quiet(document):  # type: ignore[no-untyped-def] # the case
        return document or None

    assert quiet.actions == ("default",)
    Flow(start=quiet).run({"document": ""})
    with pytest.raises(
        ActionError, match=r"has the action None only.*writes=.*-> Literal\[\.\.\.\]"
    ):
        Flow(start=quiet).run({"document": "text of a model"})


def test_names_that_are_defined_further_down_are_resolved_when_needed() -> None:
    """A return annotation may name an enum that the module defines later."""
    assert later.actions == ("now", "never")
    flow = Flow(start=later).then(later.when(Later.NOW), END).then(later.when(Later.NEVER), END)
    assert flow.run({"score": 1.0})


def test_an_annotation_that_only_a_checker_can_resolve_is_unknown_not_wrong() -> None:
    """Names under ``TYPE_CHECKING`` make actions and types unknown; the function still runs."""

    @untyped
    def unknown(document: OnlyForCheckers) -> OnlyForCheckers:
        return document

    assert unknown.actions is None
    assert is_unknown(unknown.signature.hints["document"])
    trail: list[str] = []

    @node
    def after() -> None:
        trail.append("after")

    Flow(start=unknown).then(unknown.when("go"), after).run({"document": "go"})
    assert trail == ["after"]


def test_an_unknown_name_that_turns_out_to_be_no_action_is_an_error_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that is defined later as something else than actions is reported with the node."""
    program = as_module(
        tmp_path,
        monkeypatch,
        """
        from __future__ import annotations
        from pocoflow import node

        @node
        def answer() -> Later:
            return "text"

        Later = str
        """,
    )
    with pytest.raises(DefinitionError, match=r"'answer'.*writes="):
        _ = program.answer.actions


# -- the whole store ----------------------------------------------------------------------------


def test_a_store_parameter_is_the_store_itself() -> None:
    """The store that the function gets is the run's, next to arguments from fields."""
    seen: list[Store[Any]] = []

    @node(writes=key("count"))
    def count(store: Store, document: str, extra: str = "x") -> int:
        seen.append(store)
        store["extra"] = extra + document
        return len(store)

    store = Store({"document": "d"})
    Flow(start=count).run(store)
    assert seen[0] is store
    assert dict(store) == {"document": "d", "extra": "xd", "count": 2}


@pytest.mark.parametrize(
    "annotation",
    [Store, Store[Article], Annotated[Store[Article], "note"], "Store", "Store[NotThere]"],
    ids=str,
)
def test_a_store_is_recognised_by_its_annotation(annotation: Any) -> None:
    """``Store``, ``Store[Model]`` and strings of them, whatever the parameter is called."""

    def look(everything: Any) -> None: ...

    look.__annotations__["everything"] = annotation
    made = node(look)
    assert made.signature.takes_store
    assert made.signature.parameters[0].field is None


def test_a_store_that_only_checkers_import_is_recognised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``Store`` under ``TYPE_CHECKING``, as linters like it, is the whole store as well."""
    program = as_module(
        tmp_path,
        monkeypatch,
        """
        from __future__ import annotations
        from typing import TYPE_CHECKING
        from pocoflow import node
        if TYPE_CHECKING:
            import pocoflow
            from pocoflow import Store
            from models import Article

        @node
        def one(store: Store[Article]) -> None:
            store["one"] = 1

        @node
        def two(store: pocoflow.Store) -> None:
            store["two"] = 2
        """,
    )
    store = Flow(start=program.one).then(program.one, program.two).run({})
    assert dict(store) == {"one": 1, "two": 2}


def test_a_function_that_takes_the_store_runs_in_post() -> None:
    """It can write there; there is no ``exec``, so nothing is journaled or retried."""
    phases: list[str] = []

    @node
    def look(store: Store) -> None:
        phases.append(pocoflow.context().phase)

    flow = Flow(start=look)
    flow.run({})
    assert phases == ["post"]
    assert not flow.graph.start.has_exec


@pytest.mark.parametrize(
    "setting",
    [
        {"max_retries": 3},
        {"retry_delay": 1.0},
        {"backoff": 2.0},
        {"jitter": 0.5},
        {"retry_on": OSError},
        {"timeout": 1.0},
        {"journal": False},
    ],
    ids=str,
)
def test_settings_of_exec_are_refused_for_a_whole_store_function(setting: dict[str, Any]) -> None:
    """A retry that cannot happen is an error at decoration, not a silent nothing."""

    def look(store: Store) -> None: ...

    with pytest.raises(DefinitionError, match=f"{next(iter(setting))}.*whole store.*runs in post"):
        node(**setting)(look)


# -- settings -----------------------------------------------------------------------------------


def test_settings_are_those_of_a_node() -> None:
    """``@node(max_retries=...)`` and the others are the attributes of the node."""

    def retry_on(exc: Exception) -> bool:
        return True

    @node(
        writes=key("x"),
        name="a name",
        max_retries=3,
        retry_delay=0.5,
        backoff=2.0,
        jitter=0.25,
        retry_on=retry_on,
        timeout=9.0,
        journal=False,
    )
    def work() -> int:
        return 1

    assert work.name == "a name"
    assert (work.max_retries, work.retry_delay, work.backoff) == (3, 0.5, 2.0)
    assert (work.jitter, work.retry_on, work.timeout) == (0.25, retry_on, 9.0)
    assert not work.journal
    assert (decide.name, decide.max_retries, decide.journal) == ("decide", 1, True)


def test_a_function_is_retried_like_exec() -> None:
    """The function is what is tried again; its arguments are taken from the store once."""
    attempts: list[str] = []

    @node(writes=key("answer"), max_retries=3)
    def flaky(question: str) -> str:
        attempts.append(question)
        if len(attempts) < 3:
            raise ConnectionError("not yet")
        return "42"

    assert Flow(start=flaky).run({"question": "?"})["answer"] == "42"
    assert attempts == ["?", "?", "?"]


def test_the_result_is_journaled_and_not_paid_for_twice(tmp_path: Path) -> None:
    """A write that fails after the call is repeated on resume, the call is not."""
    calls: list[str] = []

    class Narrow(BaseModel):
        question: str
        answer: int = 0

    @loosely(writes=key("answer"))
    def paid(question: str) -> Any:
        calls.append(question)
        return "42"

    path = tmp_path / "runs.db"
    with pytest.raises(InvalidValueError):
        Flow(start=paid, schema=Narrow, db_path=path, run_id="one").run({"question": "?"})
    store = Flow(start=paid, db_path=path).resume("one")
    assert store["answer"] == "42"
    assert calls == ["?"]


def test_a_journaled_result_comes_back_as_its_class(tmp_path: Path) -> None:
    """The return annotation vouches for the class of a stored result, a local one included."""

    @dataclass
    class Local:
        text: str

    fail = True

    @node(writes=key("verse"))
    def write(line: str) -> Local:
        return Local(line)

    path = tmp_path / "runs.db"
    flow = Flow(start=write, db_path=path, run_id="one")
    store = Store({"line": "so much depends"})

    def refuse(key: str, old: object, new: object) -> None:
        if fail:
            raise KeyboardInterrupt

    store.add_observer(refuse)
    with pytest.raises(KeyboardInterrupt):
        flow.run(store)
    assert WorkflowDB(path).list_runs()[0]["status"] == "failed"
    fail = False
    assert flow.resume("one")["verse"] == Local("so much depends")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_retry": 3}, "no setting 'max_retry'; did you mean 'max_retries'?"),
        ({"max_retries": 0}, "summary.max_retries is 0"),
        ({"timeout": -1}, "summary.timeout is -1"),
        ({"retry_on": "OSError"}, "summary.retry_on is 'OSError'"),
        ({"name": 5}, r"name of a node, @node\(name=...\) on summary, .* not 5"),
        ({"resources": ()}, r"a parameter whose default is resource\(\.\.\.\)"),
        ({"name": ""}, "name of a node"),
        ({"writes": "summary"}, r"writes='summary' is a string.*fields\(Model\).summary.*key"),
        ({"writes": ("summary", A.score)}, "writes='summary' is a string"),
        ({"writes": [A.summary]}, "several fields are a tuple"),
        ({"writes": A}, "takes a field reference"),
        ({"writes": ()}, "name each field that it writes once"),
        ({"writes": (A.summary, A.summary)}, "name each field that it writes once"),
        ({"writes": 5}, "takes a field reference"),
    ],
    ids=str,
)
def test_a_setting_that_makes_no_sense_is_refused(settings: Any, message: str) -> None:
    """Unknown settings and values are errors at decoration, with a suggestion."""

    def summary(document: str) -> Any: ...

    with pytest.raises(DefinitionError, match=message):
        loosely(**{"writes": A.summary, **settings})(summary)


def test_writes_without_its_name_is_found() -> None:
    """``@node(A.summary)`` and ``@node("summary")`` are taken for a forgotten ``writes=``."""
    for given in (A.summary, "summary", (A.summary, A.score)):
        with pytest.raises(DefinitionError, match=r"did you mean @node\(writes=\.\.\.\)\?"):
            untyped(given)


def test_a_tuple_type_of_another_length_is_refused_at_decoration() -> None:
    """The annotation is compared with the number of fields."""
    with pytest.raises(DefinitionError, match=r"writes 2 fields \(Article.summary, .*tuple of 3"):

        @loosely(writes=(A.summary, A.score))
        def too_many() -> tuple[str, float, int]:
            return "", 0.0, 0

    @loosely(writes=(A.summary, A.document))
    def any_number() -> tuple[str, ...]:
        return "a", "b"

    assert any_number.signature.unpacks

    @loosely(writes=(A.summary, A.document))
    def nothing_said() -> typing.Tuple:  # type: ignore[type-arg] # noqa: UP006
        return "a", "b"

    assert Flow(start=nothing_said, schema=Article).validate() == []


# -- as a plain function ------------------------------------------------------------------------


def test_a_node_can_be_called_as_the_function_it_was() -> None:
    """In a unit test the function needs no store and no run."""
    assert summarise("a long text") == "a l"
    assert summarise(document="a long text") == "a l"
    assert asyncio.run(grade("text")) == 4.0
    assert decide(0.5) == "bad"
    store = Store({"document": "d", "summary": "s"}, schema=Article)
    publish(store)
    assert store["summary"] == "S"


def test_calling_without_an_argument_that_is_a_reference_names_the_field() -> None:
    """The reference never reaches the function in place of a value."""
    with pytest.raises(TypeError, match=r"grade\(\).*without 'text'.*field Article.summary"):
        cast(Any, grade)()

    @node
    def look(document: str, *, text: str = A.summary) -> None: ...

    with pytest.raises(ReferenceMisuseError, match="'text'"):
        look("d")
    look("d", text="t")


def test_wrong_arguments_of_a_plain_call_are_pythons_own_error() -> None:
    """A missing or surplus argument is the ``TypeError`` of the function itself."""
    with pytest.raises(TypeError, match=r"summarise\(\) missing 1 required positional argument"):
        cast(Any, summarise)()
    with pytest.raises(TypeError, match="takes from 0 to 1 positional arguments but 2"):
        cast(Any, grade)("a", "b")


def test_name_docstring_and_signature_are_kept() -> None:
    """Help, documentation tools and ``inspect`` see the function."""
    anything: Any = summarise
    assert summarise.__doc__ == "Make it short."
    assert (anything.__name__, anything.__qualname__) == ("summarise", "summarise")
    assert (anything.__module__, inspect.unwrap(anything).__name__) == (__name__, "summarise")
    assert str(inspect.signature(anything)) == "(document: 'str') -> 'str'"
    assert get_type_hints(inspect.unwrap(anything)) == {"document": str, "return": str}
    assert repr(summarise) == f"<node 'summarise' from {__name__}.summarise>"
    assert isinstance(summarise, Node)
    assert isinstance(summarise, FunctionNode)


def test_the_signature_tells_what_a_function_reads_and_writes() -> None:
    """Tools find what each parameter reads and whether it must be set, in their order."""
    llm: dict[str, str] = resource(dict, "llm")

    @node(writes=(A.summary, key("y")))
    def work(
        document: str, text: str = A.summary, extra: int = 3, store: Any = llm
    ) -> tuple[str, int]:
        return "", 1

    read = work.signature
    assert read.writes == (StoreField("summary", Article), StoreField("y"))
    assert [one.field for one in read.parameters] == [
        StoreField("document"),
        StoreField("summary", Article),
        StoreField("extra"),
        None,
    ]
    assert [one.required for one in read.parameters] == [True, True, False, True]
    assert [one.by_reference for one in read.parameters] == [False, True, False, False]
    assert work.by_parameter == {"store": llm}
    assert read.hints["return"] == tuple[str, int]
    assert not read.takes_store
    assert not read.is_async


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_a_copy_is_a_node_of_its_own(copied: Callable[[Any], Any]) -> None:
    """A copied node has edges and a name of its own, and calls the same function."""
    again = copied(summarise)
    again.name = "again"
    again.then("default", END)
    assert (summarise.name, dict(summarise.edges)) == ("summarise", {})
    assert again("text") == "tex"
    assert Flow(start=again).run({"document": "text"})["summary"] == "tex"

    @node
    def choose(document: str) -> Literal["good", "bad"]:
        return "good"

    # Nobody has asked for its actions by now.
    assert copied(choose).actions == ("good", "bad")


# -- kinds of functions -------------------------------------------------------------------------


def test_closures_and_bound_methods_are_functions() -> None:
    """A function of a function and a method of an object keep what they are bound to."""

    def make(prefix: str) -> FunctionNode[Any, str, str, Any]:
        @node(writes=key("out"), name=prefix)
        def add(text: str) -> str:
            return prefix + text

        return add

    class Shouter:
        def __init__(self, mark: str) -> None:
            self.mark = mark

        def shout(self, text: str = key("out")) -> str:
            return text.upper() + self.mark

    shout = node(writes=key("out"))(Shouter("!").shout)
    one, two = make("a"), make("b")
    store = Flow(start=one).then(one, two).then(two, shout).run({"text": "x"})
    assert store["out"] == "BX!"
    assert shout("y") == "Y!"


def test_a_static_method_below_the_decorator_works() -> None:
    """``@staticmethod`` above ``@node`` gives a class a node."""

    class Steps:
        @staticmethod
        @node(writes=key("out"))
        def work(text: str) -> str:
            return text * 2

    assert Flow(start=Steps.work).run({"text": "x"})["out"] == "xx"
    assert Steps().work("y") == "yy"


def test_a_wrapped_function_is_read_through_its_wrapper() -> None:
    """A decorator with ``functools.wraps`` below ``@node`` does not hide the parameters."""
    calls: list[str] = []

    def logged(function: Callable[[str], str]) -> Callable[[str], str]:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> str:
            calls.append("called")
            return function(*args, **kwargs)

        return wrapper

    @node(writes=key("out"))
    @logged
    def work(text: str) -> str:
        return text + "."

    assert Flow(start=work).run({"text": "x"})["out"] == "x."
    assert calls == ["called"]


def counted(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a number of a text."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> int:
        return len(function(*args, **kwargs))

    return wrapper


def repeated(function: Callable[..., Any]) -> Callable[..., Any]:
    """Call it once more."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        function(*args, **kwargs)
        result = function(*args, **kwargs)
        return result

    return wrapper


def named(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make an action of a truth value."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Literal["yes", "no"]:
        return "yes" if function(*args, **kwargs) else "no"

    return wrapper


def test_a_wrapper_that_converts_counts_by_its_own_annotation() -> None:
    """What a function returns is what comes out of its decorators; unknown if nobody says."""

    def text(q: str) -> str:
        return q

    def choose(q: str) -> Literal["good", "bad"]:
        return "good" if q else "bad"

    hints = [read_hints(one(text)).get("return") for one in (counted, repeated, functools.cache)]
    assert hints == [int, str, str]
    assert is_unknown(read_hints(functools.wraps(text)(lambda q: q + q))["return"])

    @node
    @named
    def is_long(q: str) -> bool:
        return len(q) > 3

    assert is_long.signature.actions() == ("yes", "no")
    assert node(repeated(choose)).signature.actions() == ("good", "bad")
    assert node(writes=key("n"))(counted(text)).signature.hints["return"] is int


def test_a_function_may_call_itself_and_other_nodes() -> None:
    """Inside a function the name of a node is the plain function."""

    @node(writes=key("out"))
    def factorial(n: int) -> int:
        return 1 if n < 2 else n * factorial(n - 1)

    assert Flow(start=factorial).run({"n": 5})["out"] == 120


def _refused_definitions() -> Iterator[tuple[str, Callable[[], object]]]:
    class Owner:
        def method(self, text: str) -> None: ...

        @classmethod
        def of_class(cls, text: str) -> None: ...

    async def stream() -> AsyncIterator[str]:
        yield "a"

    def generate() -> Iterator[str]:
        yield "a"

    def varargs(*texts: str) -> None: ...
    def keywords(**texts: str) -> None: ...
    def positional(text: str, /) -> None: ...
    def whole_fields(article: Article = A) -> None: ...
    def bare_store(store) -> None: ...  # type: ignore[no-untyped-def] # the case

    yield r"method of .*Owner, and a node is not bound", lambda: untyped(Owner.method)
    yield r"classmethod: a node is a function", lambda: untyped(vars(Owner)["of_class"])
    yield r"staticmethod: .*below @staticmethod", lambda: untyped(staticmethod(print))
    yield r"it is a generator", lambda: loosely(writes=A.tags)(generate)
    yield r"generator", lambda: loosely(writes=A.tags)(stream)
    yield r"a lambda has no name", lambda: untyped(lambda text: None)
    yield r"@node on the class Owner", lambda: untyped(Owner)
    yield r"@node on functools.partial", lambda: untyped(functools.partial(print))
    yield r"@node on <built-in function print>", lambda: untyped(print)
    yield r"@node on <node 'decide'", lambda: untyped(decide)
    yield r"@node on 5", lambda: untyped(5)
    yield r"\*texts: 'str' cannot name fields", lambda: untyped(varargs)
    yield r"\*\*texts: 'str' cannot name fields", lambda: untyped(keywords)
    yield r"'text' is positional-only; take the '/' out", lambda: untyped(positional)
    yield r"'article' is fields\(Article\): name one of its", lambda: untyped(whole_fields)
    yield r"annotate 'store' as Store", lambda: untyped(bare_store)


REFUSED = dict(_refused_definitions())


@pytest.mark.parametrize("message", REFUSED)
def test_what_cannot_be_a_node_is_refused_at_decoration(message: str) -> None:
    """Each says what it is about and what to do instead."""
    with pytest.raises(DefinitionError, match=message):
        REFUSED[message]()


def test_a_refusal_has_the_place_of_the_definition() -> None:
    """File and line of the function are in the message."""

    def varargs(*texts: str) -> None: ...

    line = varargs.__code__.co_firstlineno
    with pytest.raises(DefinitionError) as caught:
        node(varargs)
    assert f"@node varargs ({__file__}:{line}): " in str(caught.value)


# -- the name node ------------------------------------------------------------------------------
