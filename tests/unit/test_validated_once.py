"""A value that was accepted is a value: no validator sees it again as if it were raw input."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, make_dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PlainValidator,
    PrivateAttr,
    RootModel,
    SecretStr,
    Tag,
    ValidationInfo,
    WrapValidator,
    create_model,
    field_validator,
    model_validator,
)

from pocoflow import FanOut, Flow, Node, Parallel, Store, Subflow, WorkflowDB, bind, fields, node
from pocoflow.errors import InvalidValueError
from pocoflow.reducers import add, append, extend, merge
from pocoflow.store.schema import make_schema


def to_cents(euros: int) -> int:
    """A validator that changes what it is given, each time."""
    return euros * 100


def parse(text: Any) -> datetime:
    """A validator that takes text and nothing else."""
    return datetime.strptime(text, "%d.%m.%Y")  # noqa: DTZ007


Cents = Annotated[int, AfterValidator(to_cents)]
When = Annotated[datetime, BeforeValidator(parse)]
DAY = "01.02.2026"


class Line(BaseModel):
    """A model with validators inside of a store."""

    when: When
    cents: Cents = 0


class Order(BaseModel):
    """The store: each field has a validator that must not see its own result."""

    cents: Cents = 0
    when: When | None = None
    lines: list[Line] = []
    by: dict[str, Line] = {}
    log: Annotated[list[Cents], append] = []
    days: Annotated[list[When], extend] = []
    total: Annotated[int, add, AfterValidator(to_cents)] = 0
    table: Annotated[dict[str, Cents], merge] = {}
    dates: list[When] = []
    date: When | None = None
    returned: Cents = 0
    note: str = ""
    n: int = 0

    @field_validator("note", mode="before")
    @classmethod
    def _loud(cls, note: str) -> str:
        return note + "!"

    @model_validator(mode="before")
    @classmethod
    def _raw(cls, values: dict[str, Any]) -> dict[str, Any]:
        return {**values, "note": values["note"] + "?"} if "note" in values else values


def given() -> dict[str, Any]:
    """What a caller gives."""
    line = {"a": Line(when=DAY, cents=1)}  # type: ignore[arg-type]
    return {"cents": 5, "when": DAY, "lines": [*line.values()], "by": line, "note": "hi"}


class Writes(Node[None, None, str]):
    """Writes other fields, and gives increments."""

    def post(self, store: Store[Any], prepared: None, result: None) -> str:
        store["n"] = 1
        store.reduce("log", 3)
        store.reduce("days", [DAY])
        store.reduce("total", 2)
        store.reduce("table", {"a": 1})
        store.state.n = 2
        return "default"


class Last(Node[None, None, str]):
    """Fails as long as it is down."""

    down = False

    def exec(self, prepared: None) -> None:
        if self.down:
            raise ConnectionError("down")

    def post(self, store: Store[Any], prepared: None, result: None) -> str:
        return "default"


EXPECTED: dict[str, Any] = {
    "cents": 500,
    "when": datetime(2026, 2, 1),  # noqa: DTZ001
    "log": [300],
    "days": [datetime(2026, 2, 1)],  # noqa: DTZ001
    "total": 200,
    "table": {"a": 100},
    "note": "hi?!",
    "n": 2,
}


def expected(values: Any) -> bool:
    """Whether all values are what they were accepted as."""
    assert {key: values[key] for key in EXPECTED} == EXPECTED
    assert [line.cents for line in (*values["lines"], *values["by"].values())] == [100, 100]
    return True


def test_what_was_accepted_stays_as_it_is(tmp_path: Path) -> None:
    """In a run, and after resume, fork, load, snapshot, ``to_model`` or another run of the same."""
    first, last = Writes(), Last()
    first.then("default", last)
    path = tmp_path / "runs.db"
    flow = Flow(first, schema=Order, db_path=path, run_id="r")
    last.down = True
    with pytest.raises(ConnectionError):
        flow.run(given())
    last.down = False
    with WorkflowDB(path) as db:
        loaded, untyped = db.load_checkpoint("r", 0, schema=Order), db.load_checkpoint("r", 0)
    forks = [flow.fork("r", step=-1), flow.fork("r", step=0, changes={"cents": 7})]
    done = flow.resume("r")
    changed = flow.resume(forks[1])
    assert changed["cents"] == 700
    assert expected({**changed.as_dict(), "cents": 500})
    model = done.to_model()
    snapshots = done.snapshot(tmp_path / "s.json")
    again = Flow(Last(), schema=Order)
    for store in (
        *(done, flow.resume(forks[0]), loaded, again.run(untyped), again.run(loaded)),
        *(vars(model), Store(model), Store(done), again.run(model)),
        *(Store.restore(snapshots, schema=Order), again.run(Store.restore(snapshots))),
    ):
        assert expected(store)


class Does(Node[None, None, str]):
    """Does something to the store."""

    def __init__(self, name: str, act: Callable[[Store[Any]], object]) -> None:
        super().__init__(name=name)
        self.act = act

    def post(self, store: Store[Any], prepared: None, result: None) -> str:
        self.act(store)
        return "default"


def test_binding_a_store_again_validates_what_is_defined_in_another_way() -> None:
    """The same schema, and what a wider one inherits, leave accepted values as they are."""

    class Euros(BaseModel):
        cents: Annotated[int, AfterValidator(lambda euros: euros * 100)] = 0
        note: str = ""

    class Wider(Euros):
        note: Annotated[str, AfterValidator(str.upper)] = ""
        left: int = 5

    store: Store[Any] = Store({"cents": 5, "note": "a"}, schema=Euros)
    store.bind(Euros)
    assert dict(store) == {"cents": 500, "note": "a"}
    store.bind(Wider)
    assert dict(store) == {"cents": 500, "note": "A", "left": 5}
    with pytest.raises(InvalidValueError):
        store.bind({"note": int})
    store["cents"] = 6
    assert (store.schema, store["cents"]) == (Wider, 600)


def test_branches_hand_over_values_not_input() -> None:
    """Neither the view of a branch, nor its item, nor the join, nor a Subflow validates again."""
    a = fields(Order)
    seen: list[Any] = []

    def writes(store: Store[Any]) -> None:
        store["cents"] = 6
        store.reduce("log", 4)

    fork = Parallel(
        Does("one", writes), Does("two", lambda store: store.reduce("log", 5)), name="fork"
    )
    item = Does("item", lambda store: seen.append((store["date"], store["cents"])))
    fan_out = FanOut(item, each=a.dates, as_=a.date)

    class Inner(BaseModel):
        cents: Cents = 0
        made: Cents = 0

    inner = Flow(Does("inner", lambda store: store.update(made=2)), schema=Inner, flow_name="inner")
    b = fields(Inner)
    sub = Subflow(inner, inputs=[bind(b.cents).to(a.cents)], outputs=[bind(a.returned).to(b.made)])
    fork.then("default", fan_out)
    fan_out.then("default", sub)
    store = Flow(fork, schema=Order).run({"cents": 5, "dates": [DAY], "log": [1], "note": "hi"})
    assert (store["cents"], store["log"], store["returned"]) == (600, [100, 400, 500], 200)
    assert (seen, store["note"]) == ([(EXPECTED["when"], 600)], "hi?!")


class Always(BaseModel):
    """A model whose instances Pydantic validates again when they are given."""

    model_config = ConfigDict(revalidate_instances="always")
    n: Annotated[int, AfterValidator(lambda n: n + 1)] = 0


class Frozen(BaseModel):
    """A frozen model with a private attribute and an alias."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    n: int = Field(1, alias="number")
    _hidden: int = PrivateAttr(3)


class Numbers(RootModel[list[Cents]]):
    """A root model."""


class Cat(BaseModel):
    """One of two."""

    n: Cents = 1


class Tree(BaseModel):
    """A model that may contain itself."""

    children: list[Tree] = []
    parent: Tree | None = None


def family() -> Tree:
    """A parent whose child knows it."""
    parent = Tree()
    parent.children.append(Tree(parent=parent))
    return parent


def counts(value: Any, handler: Any) -> Any:
    """A validator around the type's own."""
    return handler(value) + 1


KINDS: dict[str, tuple[Any, Any]] = {
    "before": (Annotated[int, BeforeValidator(lambda text: int(text[1:]))], "x5"),
    "after": (Cents, 5),
    "wrap": (Annotated[int, WrapValidator(counts)], 5),
    "plain": (Annotated[int, PlainValidator(str)], 5),
    "another type": (Annotated[str, AfterValidator(str.split)], "a b"),
    "beyond its constraint": (Annotated[int, Field(le=10), AfterValidator(to_cents)], 5),
    "items": (list[Cents], [1, 2]),
    "values": (dict[str, tuple[Cents, ...]], {"a": (1,)}),
    "model": (Line, Line(when=DAY)),  # type: ignore[arg-type]
    "models": (list[Always], [Always(n=1)]),
    "frozen": (Frozen, Frozen(number=2)),
    "root": (Numbers, Numbers([1])),
    "cycle": (Tree, family()),
    "tagged": (
        Annotated[
            Annotated[Cat, Tag("c")] | Annotated[Line, Tag("l")],
            Discriminator(lambda one: one["kind"] if isinstance(one, dict) else "c"),
        ],
        Cat(),
    ),
    "secret": (Annotated[SecretStr, AfterValidator(lambda secret: secret)], SecretStr("s")),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("of_dict", [True, False], ids=["dict", "model"])
def test_every_kind_of_validator_sees_a_value_once(
    kind: str, of_dict: bool, tmp_path: Path
) -> None:
    """Other writes, checks, rebuilding, restoring and copying leave the very value."""
    hint, raw = KINDS[kind]
    schema: Any = {"x": hint, "n": int}
    if not of_dict:
        schema = create_model("Made", x=(hint, ...), n=(int, 0))
    store = Store({"x": raw}, schema=schema)
    value = store["x"]
    store["n"] = 1
    store.recheck("x")
    store.validate()
    assert Store(store)["x"] is store["x"] is value
    assert Store.rebuild(store, {}, "", schema, store.definitions)["x"] is value
    if kind not in ("secret", "cycle", "frozen", "tagged", "model", "models", "root"):
        assert Store.restore(store.snapshot(tmp_path / "s.json"), schema)["x"] == value
    if not of_dict and kind != "cycle":
        made: Any = store.to_model()
        assert made.x == value


@pytest.mark.parametrize("path", [None, "runs.db"])
def test_validators_are_called_once(path: str | None, tmp_path: Path) -> None:
    """However many steps follow: once for what came in, once for each write."""
    calls: list[Any] = []

    def seen(value: Any, info: ValidationInfo) -> Any:
        calls.append(value)
        return value

    made = create_model("Made", x=(Annotated[list[int], AfterValidator(seen)], []), n=(int, 0))

    def step(store: Store[Any]) -> None:
        store["n"] += 1

    node = Does("step", step)
    node.then("default", Does("again", step))
    store = Flow(node, schema=made, db_path=path and tmp_path / path).run({"x": [1]})
    store.to_model()
    assert calls == [[1]]


def test_a_validator_sees_a_json_value_once_where_other_fields_are_set_later() -> None:
    """Inputs from outside are read at once, also if they lack what nodes write."""
    calls: list[Any] = []

    def seen(value: Any) -> Any:
        calls.append(value)
        return value

    made = create_model("Made", x=(Annotated[int, AfterValidator(seen)], ...), out=(str, ...))
    for given in ({"x": 1}, {"x": 2, "out": "a"}):
        schema: Any = make_schema(made)
        read = schema.from_json(given)
        assert read.model_fields_set == given.keys()
    assert calls == [1, 2]


def test_a_change_in_place_is_held_to_types_and_constraints() -> None:
    """What was changed inside a model or a list with validators must still be of its type."""
    store = Store(given(), schema=Order)
    store["lines"][0].cents = "much"
    with pytest.raises(InvalidValueError, match=r"'lines'.*cents.*valid integer"):
        store.recheck("lines")


def boom(error: Exception) -> Callable[[Any], Any]:
    """A validator that raises."""

    def validate(value: Any) -> Any:
        raise error

    return validate


class OwnError(Exception):
    """An error of the user's own."""


@pytest.mark.parametrize(
    "error",
    [KeyError("k"), TypeError("t"), ZeroDivisionError("z"), OwnError("o"), StopIteration(1)],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("mode", [BeforeValidator, AfterValidator, PlainValidator])
def test_the_exception_of_a_validator_is_told_with_its_field(error: Exception, mode: Any) -> None:
    """Store, field and what was raised are in the error, and the exception is its cause."""
    hint: Any = Annotated[int, mode(boom(error))]
    made = create_model("Made", x=(hint, 0))
    makers: list[Callable[[], object]] = [
        lambda: Store({"x": 1}, schema=made, name="jobs"),
        lambda: Store({}, schema=made, name="jobs").update(x=1),
        lambda: Store({"x": 1}, schema={"x": hint}, name="jobs"),
    ]
    for make in makers:
        with pytest.raises(InvalidValueError) as caught:
            make()
        assert caught.value.__cause__ is error
        assert all(part in str(caught.value) for part in ("'jobs'", "'x'", type(error).__name__))


@pytest.mark.parametrize("error", [ValueError("v"), AssertionError("a")])
def test_what_a_validator_usually_raises_is_the_cause_too(error: Exception) -> None:
    """A ``ValueError`` and an ``AssertionError`` can be asked for what they hold."""
    hint: Any = Annotated[int, AfterValidator(boom(error))]
    for schema in (create_model("Made", x=(hint, 0)), {"x": hint}):
        with pytest.raises(InvalidValueError, match=r"'x'.*error|'x'.*failed") as caught:
            Store({"x": 1}, schema=schema)
        assert caught.value.__cause__ is error


class Bounds(BaseModel):
    """A field with a validator that looks at the one before it."""

    hi: int = 10
    lo: int = 0

    @field_validator("hi", "lo")
    @classmethod
    def _fits(cls, value: int, info: ValidationInfo) -> int:
        if info.field_name == "lo" and value > info.data["hi"]:
            raise ValueError("lo > hi")
        if info.field_name == "hi" and value < info.data.get("lo", value):
            raise ValueError("hi < lo")
        return value


def test_fields_that_are_written_together_are_validated_together() -> None:
    """In whatever order they are given, none of them is held against a value that is replaced."""
    store = Store({}, schema=Bounds)
    store.update(lo=30, hi=40)
    store.update(hi=-10, lo=-20)
    assert (store["hi"], store["lo"]) == (-10, -20)
    for values in ({"lo": 50, "hi": 40}, {"lo": 0}, {"hi": -30}):
        with pytest.raises(InvalidValueError, match="hi"):
            store.update(values)
    names = fields(Bounds)

    @node(writes=(names.lo, names.hi))
    def both() -> tuple[int, int]:
        return 30, 40

    assert Flow(both, schema=Bounds).run({}).as_dict() == {"hi": 40, "lo": 30}


class Short(BaseModel):
    model_config = ConfigDict(str_max_length=3)
    text: str = ""


class Configured(BaseModel):
    model_config = ConfigDict(
        str_max_length=5,
        str_strip_whitespace=True,
        allow_inf_nan=False,
        regex_engine="python-re",
        extra="allow",
    )
    __pydantic_extra__: dict[str, int]
    text: Annotated[str, Field(pattern=r"^(?!x)")] = ""
    number: float = 0.0
    texts: Annotated[list[Annotated[str, AfterValidator(str.upper)]], append] = []
    line: Short = Short()


def test_the_configuration_of_a_model_holds_for_every_write() -> None:
    """Lengths, blanks, NaN, the engine of patterns and the type of extras are the class's."""
    store = Store({"text": " abc ", "more": 1}, schema=Configured)
    store["text"] = " abcde "
    store.reduce("texts", " abcd ")
    assert (store["text"], store["texts"]) == ("abcde", ["ABCD"])
    wrong = {"text": "abcdef", "number": float("nan"), "more": "1"}
    for key, value in [*wrong.items(), ("text", "xyz")]:
        with pytest.raises(InvalidValueError, match=key):
            store[key] = value
        with pytest.raises(InvalidValueError, match=key):
            Store({key: value}, schema=Configured)
    assert store.to_model() == Configured(text="abcde", texts=["ABCD"], more=1)  # type: ignore[call-arg]


def test_the_configuration_of_a_model_holds_for_what_is_changed_in_place() -> None:
    """``validate`` and ``to_model`` find what the class, or that of a part, would not take."""
    store = Store({}, schema=Configured)
    store["texts"].append("abcdefgh")
    with pytest.raises(InvalidValueError, match=r"'texts'.*at most 5"):
        store.validate()
    store["texts"] = []
    store.validate()
    store["line"].text = "abcd"
    with pytest.raises(InvalidValueError, match=r"'line'.*at most 3"):
        store.to_model()


@dataclass
class Pair:
    """A dataclass, whose fields Python does not check."""

    first: int
    second: str


@pytest.mark.parametrize(
    ("kind", "value", "field"),
    [
        (Configured, Configured(text="abc"), "text"),
        (Pair, Pair(1, "b"), "first"),
        ((str, Pair), Pair(1, "b"), "second"),
    ],
)
def test_a_dict_of_types_holds_models_to_their_fields(kind: object, value: Any, field: str) -> None:
    """What was spoilt in a model or a dataclass is found, also where the type is one by itself."""

    def post(self: Node, store: Store, prepared: object, result: object) -> None:
        setattr(store["x"], field, 3.5)

    spoil = type("Spoil", (Node,), {"post": post})
    with pytest.raises(InvalidValueError, match=f"key 'x' expects .*{field}"):
        Flow(spoil()).run(Store({"x": value}, schema={"x": kind}))


def test_a_dict_of_types_takes_a_dataclass_that_never_fitted_its_annotations() -> None:
    """It is an instance, which is all that is asked of it."""
    loose = Pair(1, None)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
    store = Store({"x": loose}, schema={"x": Pair})
    loose.first = 2
    store.recheck("x")
    assert Flow(Node()).run(store)["x"] is loose


@pytest.mark.parametrize("annotation", ["how large it is", "OnlyForTypeCheckers"])
def test_a_dict_of_types_takes_a_dataclass_whose_annotations_cannot_be_read(
    annotation: str,
) -> None:
    """It is an instance, and nobody knows what its fields hold."""
    kind = make_dataclass("Unread", [("size", annotation)])
    value = kind(1)
    assert Flow(Node()).run(Store({"x": value}, schema={"x": kind}))["x"] is value


def test_input_that_a_model_hides_is_in_no_error() -> None:
    """``hide_input_in_errors`` holds for the errors of a store."""

    class Hides(BaseModel):
        model_config = ConfigDict(hide_input_in_errors=True)
        pin: int = Field(default=0, frozen=True)
        pins: list[int] = []

    store = Store({"pin": 1234}, schema=Hides)
    writes: list[Callable[[], object]] = [
        lambda: Store({"pin": "1234"}, schema=Hides),
        lambda: store.update(pin=12345),
        lambda: store.update(pins=["1234"]),
    ]
    for write in writes:
        with pytest.raises(InvalidValueError, match="'pin") as caught:
            write()
        assert "1234" not in str(caught.value)


def test_the_exception_of_a_model_validator_names_the_model() -> None:
    """An error that belongs to no field is told with the store and the model."""

    class Made(BaseModel):
        x: int = 0

        @model_validator(mode="after")
        def _fails(self) -> Made:
            raise KeyError("nothing")

    with pytest.raises(InvalidValueError, match=r"store 'jobs'.*Made.*KeyError") as caught:
        Store({}, schema=Made, name="jobs")
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_field_that_changed_meets_its_validators_and_others_do_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A resume under another schema checks what changed, once, and says which fields those are."""
    path = tmp_path / "runs.db"

    def flow(schema: Any, down: bool) -> Flow[Any]:
        node = Last(name="last")
        node.down = down
        return Flow(node, schema=schema, db_path=path, run_id="r", flow_name="flow")

    before = create_model("S", same=(Cents, 0), other=(int, 0))
    after = create_model("S", same=(Cents, 0), other=(Cents, 0))
    with pytest.raises(ConnectionError):
        flow(before, down=True).run({"same": 5, "other": 5})
    fork = flow(after, down=False).fork("r", step=-1)
    with caplog.at_level(logging.WARNING, "pocoflow"):
        store = flow(after, down=False).resume("r")
    assert (store["same"], store["other"]) == (500, 500)
    assert "field 'other' was int, is Annotated[int, AfterValidator" in caplog.text
    assert "checked again" in caplog.text
    assert "'same'" not in caplog.text
    store = flow(after, down=False).resume(fork)
    assert (store["same"], store["other"]) == (500, 500)


class Tagged(BaseModel):
    """A store whose list is changed by another name."""

    tags: list[str] = []
    n: int = 0


@pytest.mark.parametrize("read", [True, False], ids=["read", "alias"])
def test_what_nobody_touched_is_looked_at_in_a_while(read: bool) -> None:
    """In memory, what was read is checked with its step; what an alias spoils, at the end."""
    tags: list[Any] = []
    steps: list[int] = []

    def act(store: Store[Any]) -> None:
        steps.append(store["n"])
        store["n"] += 1
        if len(steps) == 3:
            (store.state.tags if read else tags).append(7)

    class Turns(Does):
        def post(self, store: Store[Any], prepared: None, result: None) -> str:
            super().post(store, prepared, result)
            return "again" if store["n"] < 9 else "done"

    node = Turns("node", act)
    node.then("again", node)
    store = Store({}, schema=Tagged)
    store["tags"] = tags
    tags = store["tags"]
    with pytest.raises(InvalidValueError, match="'tags'"):
        Flow(node, schema=Tagged).run(store)
    assert len(steps) == (3 if read else 9)


def test_a_model_validator_does_not_see_again_what_nobody_changed() -> None:
    """A run calls it as it begins, for each value that may have changed since, and no more."""
    seen = []

    class Whole(BaseModel):
        texts: list[str] = ["a", "b"]
        counts: dict[str, int] = {"a": 1}

        @model_validator(mode="after")
        def look(self) -> Whole:
            seen.append(self)
            return self

    store = Store(None, Whole)
    seen.clear()
    Flow(Node()).run(store)
    assert len(seen) == 2


def test_what_a_resume_validated_is_on_record_with_it(tmp_path: Path) -> None:
    """A run that fails again before its first step is neither validated twice nor not at all."""
    path = tmp_path / "runs.db"

    def flow(schema: Any, down: bool) -> Flow[Any]:
        node = Last(name="last")
        node.down = down
        return Flow(node, schema=schema, db_path=path, run_id="r", flow_name="flow")

    before = create_model("S", n=(int, 0), log=(list[int], []))
    after = create_model("S", n=(Cents, 0), log=(list[Cents], []))
    with pytest.raises(ConnectionError):
        flow(before, down=True).run({"n": 5, "log": [1]})
    for _ in range(2):
        with pytest.raises(ConnectionError):
            flow(after, down=True).resume("r")
    with WorkflowDB(path) as db:
        assert db.load_checkpoint("r", -1).as_dict() == {"n": 500, "log": [100]}
    assert flow(after, down=False).resume("r").as_dict() == {"n": 500, "log": [100]}


def test_a_validator_finds_the_fields_before_its_own() -> None:
    """As in Pydantic: those that were given, and the defaults of those that were not."""

    class Span(BaseModel):
        begin: int = 1
        end: int = 2

        @field_validator("end")
        @classmethod
        def _later(cls, end: int, info: ValidationInfo) -> int:
            assert end > info.data["begin"]
            return end

    assert Store({"end": 6}, schema=Span)["begin"] == 1
    for values in ({"end": 1}, {"end": 6, "begin": 7}):
        with pytest.raises(InvalidValueError, match="'end'"):
            Store(values, schema=Span)
