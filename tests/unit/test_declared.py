"""What is declared is understood, or refused where it is written."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Optional, cast

import annotated_types
import pytest
from pydantic import BaseModel, BeforeValidator, Field, StringConstraints
from typing_extensions import Doc

from pocoflow import AsyncNode, BatchNode, Flow, Node, Store, fields, key, node
from pocoflow.errors import DefinitionError, HookError, MissingInputError
from pocoflow.reducers import extend

# -- reducers ---------------------------------------------------------------------------------


def last(limit: int, old: list[str], new: list[str]) -> list[str]:
    """The list, cut."""
    return [*old, *new][-limit:]


class Cut:
    """A reducer in several forms."""

    def __init__(self, limit: int = 10) -> None:
        self.limit = limit

    def __call__(self, old: list[str], new: list[str]) -> list[str]:
        return last(self.limit, old, new)

    def method(self, old: list[str], new: list[str]) -> list[str]:
        return last(self.limit, old, new)

    @classmethod
    def of_class(cls, old: list[str], new: list[str]) -> list[str]:
        return last(10, old, new)

    @staticmethod
    def static(old: list[str], new: list[str]) -> list[str]:
        return last(10, old, new)


REDUCERS: dict[str, Any] = {
    "partial": functools.partial(last, 10),
    "object": Cut(),
    "bound method": Cut().method,
    "classmethod": Cut.of_class,
    "staticmethod": Cut.static,
    "slot": list.__add__,
    "builtin": operator.add,
    "partial of an object": functools.partial(Cut()),
    "cached": functools.lru_cache(lambda old, new: old + new).__wrapped__,
    "lambda": lambda old, new: old + new,
}


@pytest.mark.parametrize("form", REDUCERS)
@pytest.mark.parametrize("around", ["plain", "optional", "union", "nested", "dict"])
def test_a_reducer_of_any_form_is_called(form: str, around: str) -> None:
    """An increment is reduced, in whatever form the reducer is declared."""
    reducer = REDUCERS[form]
    hint: Any = Annotated[list[str], reducer]
    if around == "optional":
        hint = Optional[hint]  # noqa: UP045 - as users write it
    elif around == "union":
        hint = hint | None
    elif around == "nested":
        hint = Annotated[hint, Field(description="notes")]
    schema: Any = {"notes": hint}
    if around != "dict":
        schema = type("Chat", (BaseModel,), {"__annotations__": {"notes": hint}, "notes": []})
    store = Store({"notes": ["a"]}, schema=schema)
    store.reduce("notes", ["b"])
    assert store["notes"] == ["a", "b"]


@pytest.mark.parametrize(
    "said",
    [
        Field(max_length=5),
        StringConstraints(max_length=5),
        BeforeValidator(str),
        annotated_types.MaxLen(5),
        annotated_types.Predicate(str.islower),
        Doc("a text"),
        "a text",
        5,
        Cut(3).limit,
        type("Mark", (), {}),
    ],
)
def test_other_metadata_is_no_reducer(said: Any) -> None:
    """What Pydantic and others say beside a type is left to them."""
    store = Store({"text": "a"}, schema={"text": Annotated[str, said]})
    store["text"] = "b"
    assert store["text"] == "b"


@pytest.mark.parametrize(
    ("hint", "said"),
    [
        (Annotated[list[str], len], "two arguments"),
        (Annotated[list[str], functools.partial(last, 10, [])], "called with two"),
        (Annotated[list[str], Cut], "an object of it"),
        (Annotated[list[str], extend, operator.add], "several reducers"),
        (list[Annotated[int, operator.add]], "for a part"),
        (dict[str, Annotated[list[str], extend]], "for a part"),
        (Annotated[list[str], extend] | int | None, "for a part"),
    ],
)
def test_what_cannot_be_a_reducer_is_refused_with_the_schema(hint: Any, said: str) -> None:
    """A declaration that nothing would call is an error, and not ignored."""
    with pytest.raises(DefinitionError, match=said):
        Store({}, schema={"notes": hint})


# -- phases -----------------------------------------------------------------------------------


def tokens(*_: Any) -> Any:
    """Yield."""
    yield "a"


async def tokens_async(*_: Any) -> Any:
    """Yield."""
    yield "a"


def timed(function: Any) -> Any:
    """A usual decorator."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


class Tokens:
    """Can be called."""

    def __call__(self, *_: Any) -> Any:
        yield "a"


GENERATORS = [
    tokens,
    tokens_async,
    timed(tokens),
    timed(tokens_async),
    # A partial in a class is going to be a method, and since 3.13 Python says so.
    staticmethod(functools.partial(tokens)),
    functools.partialmethod(tokens),
    Tokens(),
    staticmethod(tokens),
]


@pytest.mark.parametrize("phase", ["prep", "exec", "post", "exec_fallback"])
@pytest.mark.parametrize("function", GENERATORS, ids=range(len(GENERATORS)))
def test_a_phase_that_is_a_generator_is_refused(phase: str, function: Any) -> None:
    """Its body would never run."""
    with pytest.raises(DefinitionError, match=f"{phase} is a generator"):
        type("Stream", (Node,), {phase: function})()


def test_a_generator_set_on_a_node_is_refused_by_its_flow() -> None:
    """Also one that came after the node was made."""
    made: Any = Node()
    made.exec = tokens
    with pytest.raises(DefinitionError, match="exec is a generator"):
        Flow(made).run({})


def test_an_async_node_and_a_batch() -> None:
    """``exec_async`` is a phase; ``prep`` of a batch gives items, and may be a generator."""
    with pytest.raises(DefinitionError, match="exec_async is a generator"):
        type("Stream", (AsyncNode,), {"exec_async": tokens_async})()
    with pytest.raises(DefinitionError, match="prep is a generator"):
        type("Items", (BatchNode,), {"prep": tokens_async})()
    type("Items", (BatchNode,), {"prep": tokens})()


# -- listeners --------------------------------------------------------------------------------


async def push(*_: Any) -> None:
    """Never awaited."""


class Push:
    """Can be called, and awaited."""

    async def __call__(self, *_: Any) -> None:
        pass

    async def push(self, *_: Any) -> None:
        pass


@pytest.mark.parametrize(
    "listener",
    [push, functools.partial(push), Push(), Push().push, functools.partial(Push()), tokens_async],
    ids=range(6),
)
def test_an_async_listener_is_refused(listener: Any) -> None:
    """Nobody would await it."""
    flow = Flow(Node())
    with pytest.raises(HookError, match="nobody would await it"):
        flow.subscribe(listener)
    with pytest.raises(HookError, match="nobody would await it"):
        flow.on("flow_start", listener)
    with pytest.raises(HookError, match="nobody would await it"):
        Store().add_observer(listener)


def test_a_listener_of_another_shape_is_refused() -> None:
    """``subscribe`` and ``add_observer`` look at what they are given."""
    with pytest.raises(HookError, match="listener"):
        Flow(Node()).subscribe(lambda event: None)  # type: ignore[arg-type, misc] # ty: ignore
    with pytest.raises(HookError, match="not callable"):
        Store().add_observer(5)  # type: ignore[arg-type] # ty: ignore
    with pytest.raises(HookError, match="old"):
        Store().add_observer(lambda key: None)  # type: ignore[arg-type, misc] # ty: ignore
    handle = Flow(Node()).run_background({})
    handle.wait()
    with pytest.raises(HookError, match="missing a required argument"):
        handle.add_done_callback(lambda handle: None)  # type: ignore[arg-type, misc] # ty: ignore


def test_a_callback_that_gives_a_coroutine_is_told_that_nobody_awaits_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What it is shows only when it is called."""
    flow = Flow(Node()).subscribe(lambda event, store: push(event))
    flow.on("flow_end", lambda steps, store: push(steps))
    flow.run({})
    store = Store()
    store.add_observer(lambda key, old, new: push(key))
    store["a"] = 1
    handle = flow.run_background({})
    handle.wait()
    handle.add_done_callback(lambda: push("done"))
    told = [record for record in caplog.records if record.exc_info]
    assert len(told) == 2 * 5 + 2
    assert all(
        "returned a coroutine, push()" in str(one.exc_info[1]) for one in told if one.exc_info
    )


def test_a_coroutine_is_no_answer_to_whether_there_is_another_attempt() -> None:
    """``retry_on`` would be taken to say yes, always."""

    @node(max_retries=3, retry_on=lambda exc: cast(Any, push(exc)))
    def fail() -> None:
        raise OSError("down")

    with pytest.raises(HookError, match="returned a coroutine"):
        Flow(fail).run({})


# -- stores -----------------------------------------------------------------------------------


class State(BaseModel):
    """One field."""

    out: str = ""


def test_a_store_takes_no_attributes() -> None:
    """A value belongs into the store, not on it."""
    store: Any = Store(schema=State)
    for name in ("out", "outt", "items"):
        with pytest.raises(AttributeError, match=f"store\\['{name}'\\]"):
            setattr(store, name, "x")
    with pytest.raises(AttributeError, match=r"store\.state\.out"):
        _ = store.out
    with pytest.raises(AttributeError, match="did you mean"):
        del store.out
    assert not hasattr(store, "outt")
    assert store["out"] == ""
    store.name = "renamed"
    assert store.name == "renamed"


@pytest.mark.parametrize("name", ["copy", "fromkeys"])
def test_a_store_says_how_it_becomes_a_dict(name: str) -> None:
    """What dicts have and stores have not is found in the dict that a store gives."""
    with pytest.raises(AttributeError, match=rf"no dict: store\.as_dict\(\)\.{name} is"):
        getattr(Store({"a": 1}), name)


def test_a_flow_takes_no_attribute_that_is_nearly_one_of_its_own() -> None:
    """A misspelt setting would set nothing; what is like none is the program's own."""
    flow: Any = Flow(Node())
    with pytest.raises(DefinitionError, match="no attribute 'max_step'; did you mean 'max_steps'"):
        flow.max_step = 5
    flow.max_steps, flow.owner = 5, "us"

    class Own(Flow[Any]):
        """Declares what it sets."""

        def __init__(self) -> None:
            super().__init__(Node())
            self.run_ids: list[str] = []

    assert Own().run_ids == []


def test_an_argument_that_a_class_of_flows_defines_is_refused() -> None:
    """It would be written over, unless the class hands it on."""

    class Limited(Flow[Any]):
        max_steps = 3

    with pytest.raises(DefinitionError, match=r"defines max_steps.*super\(\).__init__"):
        Limited(Node())

    class Handed(Flow[Any]):
        steps: int = 3
        schema = Doc1

        def __init__(self) -> None:
            super().__init__(Node(), schema=Handed.schema, max_steps=self.steps)

    assert Handed().schema is Doc1


def test_a_subclass_of_store_has_the_attributes_that_it_declares() -> None:
    """With an annotation, a value or a property."""

    class Mine(Store[Any]):
        calls: int
        limit = 5

        def __init__(self) -> None:
            super().__init__({})
            self.calls = 0

        @property
        def twice(self) -> int:
            return self.calls * 2

        @twice.setter
        def twice(self, value: int) -> None:
            self.calls = value // 2

    store: Any = Mine()
    store.twice = 8
    store.limit = 6
    assert (store.calls, store.limit, store.twice) == (4, 6, 8)
    with pytest.raises(AttributeError, match="does not declare it"):
        store.other = 1


# -- overrides --------------------------------------------------------------------------------


@pytest.mark.parametrize("base", [Node, AsyncNode, BatchNode, Flow])
@pytest.mark.parametrize("name", ["_run", "_exec", "_run_async", "next_node", "_successors"])
def test_an_override_that_is_never_called_is_refused(base: Any, name: str) -> None:
    """Where the class is defined, with how it is written here."""
    with pytest.raises(DefinitionError, match=f"{name} is never called"):
        type("Old", (base,), {name: lambda self, store: None})


@pytest.mark.parametrize(
    ("name", "value"),
    [("edges", []), ("replaced", False), ("is_batch", True)],
)
@pytest.mark.parametrize("base", [Node, BatchNode, Flow])
def test_an_attribute_that_hides_what_a_run_reads_is_refused(
    base: Any, name: str, value: object
) -> None:
    """Where the class is defined, and also where a mixin has it."""
    told = f"{name} hides what a run reads there: give it another name"
    with pytest.raises(DefinitionError, match=told):
        type("Own", (base,), {name: value})
    with pytest.raises(DefinitionError, match=told):
        type("Own", (type("Mixin", (), {name: value}), base), {})
    # Behind the class of the library it hides nothing.
    type("Own", (base, type("Mixin", (), {name: value, "name": lambda self: "x"})), {})


def test_the_name_of_a_node_is_no_method() -> None:
    """It is a text, a property or a class attribute."""
    for made in (lambda self: "x", classmethod(lambda cls: "x"), staticmethod(lambda: "x")):
        with pytest.raises(DefinitionError, match=r"Own\.name hides what a run reads there"):
            type("Own", (Node,), {"name": made})
    cached = functools.cached_property(lambda self: "x")
    for value in ("x", property(lambda self: "x"), cached):
        assert type("Own", (Node,), {"name": value})().name == "x"


def test_an_override_that_is_set_on_a_flow_is_refused() -> None:
    """As one of its class is."""
    flow: Any = Flow(start=Node())
    with pytest.raises(DefinitionError, match=r"_run of flow 'Node' is never called.*middleware"):
        flow._run = lambda store: None
    assert not hasattr(flow, "_run")


def test_an_override_of_a_mixin_is_refused_with_the_node() -> None:
    """The mixin itself is no node, so nobody was told of it."""
    mixin = type("Traced", (), {"_run": lambda self, store: None})
    with pytest.raises(DefinitionError, match=r"Traced\._run is never called"):
        type("Ask", (mixin, Node), {})


def test_a_phase_that_is_no_function_is_refused() -> None:
    """``prep = None`` does not leave it out."""
    for value in (None, 5):
        with pytest.raises(DefinitionError, match=f"prep is {value}: a phase is a function"):
            type("Ask", (Node,), {"prep": value})()


def test_a_method_that_the_class_uses_is_its_own() -> None:
    """Names are refused where nothing calls them, and not where the class does."""

    class Mine(Node):
        def _exec(self) -> int:
            return 5

        def exec(self, prepared: None) -> int:
            return self._exec()

        def post(self, store: Store[Any], prepared: None, result: int) -> str:
            store["n"] = result
            return "default"

    assert Flow(Mine()).run({})["n"] == 5


def test_a_node_that_cannot_be_written_to_is_refused() -> None:
    """It is given its name and edges."""

    @dataclass(frozen=True)
    class Ask(Node):
        model: str = "small"

    with pytest.raises(DefinitionError, match="frozen"):
        Ask()


# -- decorators -------------------------------------------------------------------------------


def with_client(function: Any) -> Any:
    """Hand the function its first argument."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(str.upper, *args, **kwargs)

    return wrapper


class Doc1(BaseModel):
    """A document."""

    doc: str = "low tide"
    out: str = ""


def test_a_decorator_below_may_supply_arguments() -> None:
    """``supplied`` names them; the rest are fields."""

    @node(writes=fields(Doc1).out, supplied=("client",))
    @with_client
    def shout(client: Any, doc: str) -> str:
        return str(client(doc))

    assert Flow(shout, schema=Doc1).run({})["out"] == "LOW TIDE"
    with pytest.raises(DefinitionError, match="did you mean 'client'"):

        @node(writes=key("out"), supplied=("clint",))
        @with_client
        def whisper(client: Any, doc: str) -> str:
            return doc


def test_an_argument_that_a_decorator_may_supply_is_told_so() -> None:
    """Without a schema, too, where it is an input of the run."""

    @node(writes=key("out"))
    @with_client
    def shout(client: Any, doc: str) -> str:
        return str(client(doc))

    said = r"node 'shout' reads it; if a decorator supplies it, @node\(supplied=\('client',\)\)"
    with pytest.raises(MissingInputError, match=said):
        Flow(shout).run({"doc": "low tide"})


def test_no_attribute_hook_of_a_node_is_run(tmp_path: Path) -> None:
    """A node may hand all that it has not to a client which takes any name."""

    class Client:
        def __getattr__(self, name: str) -> Any:
            raise LookupError(name)

    class Ask(Node):
        def __init__(self) -> None:
            self.client = Client()

        def __getattr__(self, name: str) -> Any:
            return getattr(self.client, name)

    ask = Ask()
    flow = Flow(ask, db_path=tmp_path / "a.db", flow_name="f").then(ask, Node(name="other"))
    assert not flow.validate()
    flow.run({}, run_id="r")
    flow.resume(flow.fork("r", -1))


def test_a_decorator_above_has_hidden_the_node() -> None:
    """The error says which one, and where it belongs."""

    @timed
    @node(writes=key("out"))
    def shout(doc: str) -> str:
        return doc.upper()

    given: Any = shout
    uses: list[Callable[[], object]] = [
        lambda: Flow(shout),
        lambda: node(shout),
        lambda: Node().then("default", shout),
        lambda: Flow(Node(), node_budgets={given: {"usd": 1}}),
    ]
    for use in uses:
        with pytest.raises(DefinitionError, match="'timed' has hidden the node"):
            use()


def wrong(given: object) -> Any:
    """What no type checker lets pass."""
    return given


NONSENSE: dict[str, Callable[[Flow[Any]], object]] = {
    "types, a text": lambda flow: flow.resume("r", types=wrong("S")),
    "types, an instance": lambda flow: flow.resume("r", types=[wrong(Node())]),
    "types of a checkpoint": lambda flow: flow.database.load_checkpoint("r", 0, types=wrong(5)),
    "an alias without a module": lambda flow: Flow(Node(), aliases={"x": int}),
    "an alias of no class": lambda flow: flow.using(aliases={"old:X": wrong(Node())}),
    "aliases that are no dict": lambda flow: flow.recover(aliases=wrong(5)),
    "a switch": lambda flow: Flow(Node(), strict=wrong("no")),
    "another switch": lambda flow: Flow(Node(), record_emitted=wrong(1)),
    "a folder": lambda flow: Flow(Node(), checkpoint_dir=wrong(5)),
    "names before": lambda flow: Flow(Node(), formerly=wrong(5)),
    "a limit of a list": lambda flow: flow.database.list_runs(wrong("x")),
    "labels of a list": lambda flow: flow.database.list_runs(labels=wrong("x")),
}


@pytest.mark.parametrize("what", NONSENSE)
def test_an_argument_that_makes_no_sense_is_refused_where_it_is_given(
    what: str, tmp_path: Path
) -> None:
    """The message names the argument, and what it takes."""
    flow = Flow(Node(), db_path=tmp_path / "runs.db", flow_name="f")
    flow.run({}, run_id="r")
    words = "types|aliases|strict|emitted|dir|formerly|limit|labels"
    with pytest.raises(DefinitionError, match=words):
        NONSENSE[what](flow)
