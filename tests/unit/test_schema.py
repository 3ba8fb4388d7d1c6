"""What a schema promises: strict types, constraints, validators, and errors that explain."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum, StrEnum
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Protocol, Self, cast

import pytest
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    HttpUrl,
    PostgresDsn,
    PrivateAttr,
    RootModel,
    Strict,
    ValidationError,
    ValidationInfo,
    computed_field,
    create_model,
    field_validator,
    model_validator,
)
from typing_extensions import TypedDict

from pocoflow import Flow, Node, Store, Subflow, bind, fields, node, resource
from pocoflow.errors import (
    DefinitionError,
    IncompleteStoreError,
    InvalidValueError,
    MissingKeyError,
    ResourceError,
    StoreError,
    UnknownFieldError,
)
from pocoflow.store.schema import make_schema


class Article(BaseModel):
    limit: ClassVar[int] = 100

    document: str
    summary: str
    score: float = 0.0
    tags: list[str] = Field(default_factory=list)

    @property
    def title(self) -> str:
        return self.document[:5].upper()

    @computed_field  # type: ignore[prop-decorator]
    @property
    def length(self) -> int:
        return len(self.document)

    @cached_property
    def words(self) -> int:
        return len(self.document.split())

    @property
    def percent(self) -> float:
        return self.score * 100

    @percent.setter
    def percent(self, value: float) -> None:
        self.score = value / 100

    def grade(self, score: float) -> str:
        self.score = score
        return f"{self.title}: {self.score}"

    @classmethod
    def kind(cls) -> str:
        return cls.__name__

    @staticmethod
    def twice(number: int) -> int:
        return number * 2


class Colour(Enum):
    RED = "red"


class Mood(StrEnum):
    GOOD = "good"


class Inner(BaseModel):
    x: int = 0


class Shape(TypedDict):
    sides: int


def recorded(store: Store[Any]) -> list[tuple[str, Any, Any]]:
    """A list that every write of the store is appended to from now on."""
    seen: list[tuple[str, Any, Any]] = []
    store.add_observer(lambda key, old, new: seen.append((key, old, new)))
    return seen


# -- building -----------------------------------------------------------------------------------


def test_a_model_class_as_schema_completes_the_data_with_its_defaults() -> None:
    """Defaults are there from the start, in the order of the model, each store with its own."""
    store = Store({"document": "d"}, schema=Article)
    assert store == {"document": "d", "score": 0.0, "tags": []}
    assert store.schema is Article
    other = Store({"document": "d"}, schema=Article)
    assert store["tags"] is not other["tags"]


def test_a_default_may_be_made_from_the_fields_before_it() -> None:
    """A ``default_factory`` that takes the validated data gets it."""

    class Job(BaseModel):
        name: str
        label: str = Field(default_factory=lambda data: f"job {data['name']}")

    assert Store({"name": "n"}, schema=Job)["label"] == "job n"


def test_a_model_instance_brings_its_schema_and_stays_as_it_is() -> None:
    """``Store(instance)`` is complete and typed; writes to it do not reach the instance."""
    article = Article(document="d", summary="s", tags=["a"])
    store = Store(article)
    store.validate()
    assert store.schema is Article
    store["summary"] = "new"
    assert article.summary == "s"
    assert store.to_model() == article.model_copy(update={"summary": "new"})


def test_a_store_built_from_a_store_takes_its_schema_along() -> None:
    """A copy of a typed store is typed, unless another schema is given."""
    store = Store(Store({"document": "d"}, schema=Article))
    assert store.schema is Article
    assert Store(Store({"x": 1}), schema={"x": int}).schema == {"x": int}


@pytest.mark.parametrize("schema", [{"x": int}, Inner], ids=["dict", "model"])
def test_initial_data_is_checked(schema: Any) -> None:
    """Data that does not fit is refused when the store is built, not later."""
    with pytest.raises(TypeError, match=r"store 'jobs'.*'x' expects int, got str: 'one'"):
        Store({"x": "one"}, schema=schema, name="jobs")


def test_a_refused_dict_is_left_as_it_was() -> None:
    """``Store.over`` checks before it fills in defaults, so the owner's dict is untouched."""
    owned: dict[str, Any] = {"x": "one"}
    with pytest.raises(InvalidValueError):
        Store.over(owned, Inner)
    assert owned == {"x": "one"}
    owned = {}
    Store.over(owned, Inner)
    assert owned == {"x": 0}


@pytest.mark.parametrize("schema", [Inner(x=1), 3, "Inner", [int], int, lambda: int])
def test_a_schema_that_is_none_is_refused(schema: Any) -> None:
    """Only a model class or a dict of types is a schema; an instance gets a hint."""
    with pytest.raises(DefinitionError, match="a store schema is a Pydantic model class") as caught:
        Store({}, schema=schema)
    assert isinstance(caught.value, ValueError)
    assert ("pass the class Inner" in str(caught.value)) == isinstance(schema, Inner)


def test_a_root_model_is_no_schema() -> None:
    """A model without fields has no keys to hold, and the error says what to use instead."""
    with pytest.raises(DefinitionError, match="RootModel, which has no fields"):
        Store({}, schema=cast(Any, RootModel[int]))


# -- strictness ---------------------------------------------------------------------------------

FITS: list[tuple[Any, Any]] = [
    (int, 1),
    (int, 10**30),
    (float, 1.5),
    (str, "text"),
    (str, ""),
    (bool, True),
    (bytes, b"x"),
    (list, [1, "a"]),
    (list[int], [1, 2]),
    (dict, {1: 2}),
    (dict[str, int], {"a": 1}),
    (tuple[int, str], (1, "a")),
    (set[int], {1}),
    (int | None, None),
    (int | str, "a"),
    (Literal["a", "b"], "b"),
    (Any, object),
    (object, None),
    (Colour, Colour.RED),
    (Inner, Inner(x=1)),
    (Path, Path("a")),
    (datetime, datetime(2026, 1, 2)),  # noqa: DTZ001
    (Decimal, Decimal("1.5")),
    (Shape, {"sides": 3}),
    (Callable, len),
    (Annotated[int, Field(gt=0)], 1),
    (None, None),
]

DOES_NOT_FIT: list[tuple[Any, Any]] = [
    (int, "3"),
    (int, True),
    (int, 1.0),
    (int, None),
    (float, "1.5"),
    (float, True),
    (str, 1),
    (str, b"x"),
    (bool, 1),
    (bool, "true"),
    (bytes, "x"),
    (list, (1,)),
    (list[int], ["1"]),
    (list[int], [True]),
    (dict[str, int], {1: 1}),
    (tuple[int, str], [1, "a"]),
    (set[int], [1]),
    (int | None, "1"),
    (int | str, 1.5),
    (Literal["a", "b"], "c"),
    (Colour, "red"),
    (Path, "a"),
    (datetime, "2026-01-02"),
    (date, "2026-01-02"),
    (Decimal, "1.5"),
    (Shape, {"sides": "3"}),
    (Shape, {}),
    (Callable, 3),
    (Annotated[int, Field(gt=0)], 0),
    (None, 0),
]


def _model(kind: Any) -> Any:
    """A model class with one field ``x`` of a type."""
    namespace = {"__annotations__": {"x": kind}, "__module__": __name__}
    config = ConfigDict(arbitrary_types_allowed=True)
    return type("Holder", (BaseModel,), {**namespace, "model_config": config})


@pytest.mark.parametrize("make", [lambda kind: {"x": kind}, _model], ids=["dict", "model"])
@pytest.mark.parametrize(("kind", "value"), FITS, ids=lambda part: str(part)[:30])
def test_a_value_of_its_type_is_taken_as_it_is(make: Any, kind: Any, value: Any) -> None:
    """What fits is stored equal and of the same type, under both kinds of schema."""
    store = Store({}, schema=make(kind))
    store["x"] = value
    assert store["x"] == value
    assert type(store["x"]) is type(value)
    store.validate()


@pytest.mark.parametrize("make", [lambda kind: {"x": kind}, _model], ids=["dict", "model"])
@pytest.mark.parametrize(("kind", "value"), DOES_NOT_FIT, ids=lambda part: str(part)[:30])
def test_a_value_of_another_type_is_refused(make: Any, kind: Any, value: Any) -> None:
    """No conversion, ``True`` is no ``int``, and the error names store, key, given type, value."""
    store = Store({}, schema=make(kind), name="jobs")
    seen = recorded(store)
    with pytest.raises(TypeError) as caught:
        store["x"] = value
    assert isinstance(caught.value, InvalidValueError)
    text = str(caught.value)
    assert "store 'jobs'" in text
    assert "'x'" in text
    assert f"got {type(value).__name__}: {value!r}" in text
    assert "x" not in store
    assert seen == []


@pytest.mark.parametrize("schema", [{"x": float}, _model(float)], ids=["dict", "model"])
def test_an_int_is_fine_for_a_float(schema: Any) -> None:
    """The one conversion there is; what is stored is what validation returned, a ``float``."""
    store = Store({"x": 3}, schema=schema)
    assert type(store["x"]) is float
    store["x"] = 4
    assert type(store["x"]) is float


def test_a_wrong_type_says_what_was_expected() -> None:
    """The expected type reads as one writes it, under both kinds of schema."""
    for schema, label in (
        ({"x": list[str]}, "list[str]"),
        ({"x": int | None}, "int | None"),
        ({"x": Inner}, "Inner"),
        ({"x": Literal["a", "b"]}, "Literal['a', 'b']"),
        ({"x": (int, str)}, "int or str"),
        (_model(list[str]), "list[str]"),
        (_model(Inner), "Inner"),
    ):
        with pytest.raises(TypeError) as caught:
            Store({"x": 1.5}, schema=cast(Any, schema))
        assert f"'x' expects {label}, got float: 1.5" in str(caught.value)


def test_a_wrong_part_of_a_value_is_pointed_at() -> None:
    """In a long list the error says which element does not fit."""
    for schema in ({"x": list[int]}, _model(list[int])):
        with pytest.raises(TypeError, match=r"\[2\]"):
            Store({"x": [1, 2, "three"]}, schema=schema)


def test_a_long_value_is_cut_in_the_message() -> None:
    """A document of a megabyte does not end up in an error message."""
    for schema in ({"x": int}, _model(int)):
        with pytest.raises(TypeError) as caught:
            Store({"x": "long" * 100_000}, schema=schema)
        assert len(str(caught.value)) < 300
        assert "'longlong" in str(caught.value)


def test_a_value_whose_repr_fails_is_still_reported() -> None:
    """A broken ``__repr__`` does not hide the error that is reported."""

    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError

    with pytest.raises(TypeError, match="'x' expects int, got Broken: <Broken whose repr raised"):
        Store({"x": Broken()}, schema={"x": int})


def test_a_dict_for_a_nested_model_becomes_that_model() -> None:
    """The fields of a nested model are checked as strictly, and an instance of it is stored."""
    store = Store({}, schema=_model(Inner))
    store["x"] = {"x": 1}
    assert store["x"] == Inner(x=1)
    with pytest.raises(TypeError, match=r"'x' expects Inner, got dict.*\['x'\].*got str: '1'"):
        store["x"] = {"x": "1"}


def test_a_wrong_value_of_a_union_is_one_line() -> None:
    """However many members a union has, the error is one line about the field."""
    with pytest.raises(TypeError, match=r"'x' expects int \| str, got float: 1.5") as caught:
        Store({"x": 1.5}, schema=_model(int | str))
    assert len(str(caught.value).splitlines()) == 1


# -- dict schemas -------------------------------------------------------------------------------


def test_keys_outside_a_dict_schema_are_allowed() -> None:
    """A dict schema types the keys that it names and no others."""
    store = Store({"free": 1}, schema={"x": int})
    store["free"] = "anything"
    store["x"] = 2
    assert store == {"free": "anything", "x": 2}


def test_a_dict_schema_needs_no_data_until_it_is_validated() -> None:
    """Keys may be missing; ``validate`` raises ``ValueError`` naming every one of them."""
    store = Store({}, schema={"query": str, "result": str, "n": int}, name="my_pipeline")
    store["n"] = 1
    with pytest.raises(ValueError, match="not set") as caught:
        store.validate()
    assert isinstance(caught.value, IncompleteStoreError)
    assert "store 'my_pipeline'" in str(caught.value)
    assert "'query', 'result'" in str(caught.value)
    assert "'n'" not in str(caught.value)
    store.update(query="q", result="r")
    store.validate()


def test_a_dict_schema_keeps_the_identity_of_plain_containers() -> None:
    """A list under ``list`` is the very list, so that an alias of it stays one."""
    items = [1]
    store = Store({"items": items}, schema={"items": list})
    items.append(2)
    assert store["items"] is items


def test_a_dict_schema_may_give_a_tuple_of_types() -> None:
    """As for ``isinstance``, and a bool passes only where ``bool`` is among them."""
    store = Store({"x": 1}, schema={"x": (int, str)})
    store["x"] = "text"
    with pytest.raises(TypeError, match="got bool: True"):
        store["x"] = True
    Store({"x": True}, schema={"x": (int, bool)})


def test_a_class_that_says_itself_what_fits_is_asked() -> None:
    """A type without instances, such as Pydantic's ``AwareDatetime``, is no ``isinstance``."""
    store = Store({}, schema={"at": AwareDatetime})
    store["at"] = datetime(2026, 1, 2, tzinfo=UTC)
    store.validate()
    with pytest.raises(InvalidValueError, match=r"key 'at' expects AwareDatetime.*timezone"):
        store["at"] = datetime(2026, 1, 2)  # noqa: DTZ001


def test_a_subclass_is_fine_for_its_base() -> None:
    """An instance of a subclass fits wherever its base is asked for, and stays what it is."""

    class Deeper(Inner):
        y: int = 1

    deeper = Deeper()
    for schema in ({"x": Inner}, _model(Inner)):
        store = Store({"x": deeper}, schema=schema)
        assert store["x"] is deeper


@pytest.mark.parametrize("entry", ["", "int", 5, [int], {"a": int}, Inner(x=1), len, ...])
def test_a_dict_schema_of_values_instead_of_types_is_refused(entry: Any) -> None:
    """``{"query": ""}`` is data, not a schema, and the error says so with the key."""
    with pytest.raises(DefinitionError, match=r"schema key 'query': .* is a value, not a type"):
        Store({}, schema={"query": entry})


def test_a_type_that_cannot_check_a_value_is_refused() -> None:
    """A protocol that is not ``runtime_checkable`` is an error of the schema, not of a value."""

    class Client(Protocol):
        def call(self) -> str: ...

    with pytest.raises(DefinitionError, match="schema key 'client': Client cannot check a value"):
        Store({}, schema={"client": Client})


# -- unknown fields -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "write",
    [
        lambda store: store.__setitem__("sumary", "x"),
        lambda store: store.update(sumary="x"),
        lambda store: store.setdefault("sumary", "x"),
        lambda store: setattr(store.state, "sumary", "x"),
    ],
    ids=["set", "update", "setdefault", "state"],
)
def test_a_write_to_an_unknown_field_names_model_field_and_near_miss(
    write: Callable[[Store[Article]], object],
) -> None:
    """A typo never adds a key: the error says which model, which field, and what was meant."""
    store = Store({"document": "d"}, schema=Article, name="jobs")
    with pytest.raises(TypeError) as caught:
        write(store)
    assert isinstance(caught.value, UnknownFieldError)
    assert isinstance(caught.value, AttributeError)
    text = str(caught.value)
    assert "store 'jobs'" in text
    assert "Article has no field 'sumary'" in text
    assert "did you mean 'summary'?" in text
    assert "document, summary, score, tags" in text
    assert "sumary" not in store


def test_initial_data_with_an_unknown_field_is_refused() -> None:
    """A key that the model does not have is refused when the store is built."""
    with pytest.raises(UnknownFieldError, match="no field 'documnt'; did you mean 'document'"):
        Store({"documnt": "d"}, schema=Article)


def test_a_model_that_allows_extras_takes_other_keys() -> None:
    """With ``extra="allow"`` other keys are stored, read through the view, part of the model."""

    class Open(BaseModel):
        model_config = ConfigDict(extra="allow")
        x: int = 0

    store: Store[Any] = Store({"more": 1}, schema=Open)
    store["other"] = [2]
    store.state.third = 3
    assert store == {"x": 0, "more": 1, "other": [2], "third": 3}
    assert store.state.other == [2]
    assert store.to_model().model_extra == {"more": 1, "other": [2], "third": 3}
    assert Store(store.to_model()) == store
    with pytest.raises(TypeError, match="'x' expects int"):
        store["x"] = "1"


def test_fields_go_by_their_names_never_by_aliases() -> None:
    """An alias is how JSON calls a field; a store knows the name alone."""

    class Aliased(BaseModel):
        full_name: str = Field(alias="fullName", default="")

    store = Store({"full_name": "Ada"}, schema=Aliased)
    store["full_name"] = "Grace"
    assert store.state.full_name == "Grace"
    assert store.to_model().full_name == "Grace"
    with pytest.raises(UnknownFieldError, match="'fullName'"):
        store["fullName"] = "Alan"


# -- constraints and validators -----------------------------------------------------------------


class Limits(BaseModel):
    low: int = Field(default=0, ge=0)
    high: int = Field(default=10, le=100)
    name: str = Field(default="n", min_length=1)

    @field_validator("name")
    @classmethod
    def tidy(cls, name: str) -> str:
        if name == "forbidden":
            raise ValueError("that name is taken")
        return name.strip()

    @model_validator(mode="after")
    def ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low {self.low} is above high {self.high}")
        return self


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("low", -1, "greater than or equal to 0"),
        ("high", 101, "less than or equal to 100"),
        ("name", "", "at least 1 character"),
        ("name", "forbidden", "that name is taken"),
        ("low", 11, "low 11 is above high 10"),
    ],
)
def test_constraints_and_validators_hold_on_every_write(key: str, value: Any, reason: str) -> None:
    """A refused write names store and key, gives the reason, and changes nothing."""
    store = Store({}, schema=Limits, name="jobs")
    before = store.as_dict()
    seen = recorded(store)
    with pytest.raises(TypeError) as caught:
        store[key] = value
    assert "store 'jobs'" in str(caught.value)
    assert repr(key) in str(caught.value)
    assert reason in str(caught.value)
    assert store == before
    assert seen == []


def test_what_is_stored_is_what_the_validators_returned() -> None:
    """A validator that tidies a value tidies what the store holds and what observers see."""
    store = Store({}, schema=Limits)
    seen = recorded(store)
    store["name"] = "  Ada "
    assert store["name"] == "Ada"
    assert seen == [("name", "n", "Ada")]


def test_a_model_validator_waits_until_all_required_fields_are_set() -> None:
    """Until then single fields are checked; the write that completes the model is checked whole."""

    class Span(BaseModel):
        begin: int
        end: int

        @model_validator(mode="after")
        def ordered(self) -> Self:
            if self.begin > self.end:
                raise ValueError("it ends before it begins")
            return self

    store = Store({}, schema=Span)
    store["begin"] = 5
    with pytest.raises(InvalidValueError, match=r"Span.*it ends before it begins"):
        store["end"] = 3
    assert "end" not in store
    store["end"] = 7
    with pytest.raises(InvalidValueError, match="it ends before it begins"):
        store["begin"] = 8
    store.update(begin=8, end=9)
    assert store == {"begin": 8, "end": 9}
    with pytest.raises(InvalidValueError, match="it ends before it begins"):
        Store({"begin": 2, "end": 1}, schema=Span)


def test_a_model_validator_may_change_other_fields() -> None:
    """What an ``after`` validator sets is written, and observed, together with the write."""

    class Box(BaseModel):
        width: int = 1
        area: int = 1

        @model_validator(mode="after")
        def measure(self) -> Self:
            self.area = self.width * self.width
            return self

    store = Store({}, schema=Box)
    seen = recorded(store)
    store["width"] = 3
    assert store == {"width": 3, "area": 9}
    assert sorted(seen) == [("area", 1, 9), ("width", 1, 3)]


def test_a_model_validator_leaves_the_other_values_alone() -> None:
    """A write to one field neither copies the lists of the others nor reports them as written."""

    class Chat(BaseModel):
        messages: list[dict[str, str]] = []
        turns: int = 0

        @model_validator(mode="after")
        def counted(self) -> Self:
            return self

    store = Store({}, schema=Chat)
    messages = store["messages"]
    seen = recorded(store)
    store["turns"] = 1
    messages.append({"role": "user"})
    assert store["messages"] is messages
    assert seen == [("turns", 0, 1)]


def test_a_frozen_field_is_set_once() -> None:
    """``Field(frozen=True)`` may be given or written while it is not set, and never again."""

    class Job(BaseModel):
        id: str = Field(frozen=True)
        n: int = 0

    store = Store({}, schema=Job, name="jobs")
    store["id"] = "a"
    store["n"] = 1
    with pytest.raises(TypeError, match=r"store 'jobs': field 'id' is frozen.*'a'.*'b'"):
        store["id"] = "b"
    assert store == {"id": "a", "n": 1}
    assert Store({"id": "a"}, schema=Job)["id"] == "a"
    assert Store(Job(id="a"))["id"] == "a"


@pytest.mark.parametrize(
    "remove",
    [
        lambda store: store.pop("id"),
        lambda store: store.popitem(),
        lambda store: store.clear(),
        lambda store: delattr(store.state, "id"),
    ],
    ids=["pop", "popitem", "clear", "state"],
)
def test_a_frozen_field_is_not_deleted_either(remove: Callable[[Store[Any]], object]) -> None:
    """What is set once stays, as Pydantic has it, and could else be set to another value."""

    class Job(BaseModel):
        id: str = Field(frozen=True)

    store = Store({"id": "a"}, schema=Job, name="jobs")
    with pytest.raises(TypeError, match="store 'jobs': field 'id' is frozen: it is not deleted"):
        remove(store)
    assert store == {"id": "a"}
    with pytest.raises(KeyError):
        del Store({}, schema=Job)["id"]


def test_the_value_of_a_frozen_field_again_is_no_change() -> None:
    """A number or a text that is equal is the same, whether or not it is one object."""

    class Job(BaseModel):
        n: int = Field(frozen=True)
        text: str = Field(frozen=True)
        tags: list[str] = Field(frozen=True)

    store = Store({}, schema=Job)
    for _ in range(2):
        store.update(n=int("1000000"), text="".join(["a", "b"]))
    store["tags"] = ["a"]
    store["tags"] = store["tags"]
    with pytest.raises(TypeError, match="'tags' is frozen"):
        store["tags"] = ["a"]
    with pytest.raises(TypeError, match="'n' is frozen"):
        store["n"] = 1000001


def test_no_validator_sees_the_value_of_a_frozen_field_again() -> None:
    """What it made of the first one stays, also if that is written again."""

    class Price(BaseModel):
        cents: Annotated[int, AfterValidator(lambda euros: euros * 100)] = Field(frozen=True)

    store = Store({"cents": 5}, schema=Price)
    store["cents"] = 500
    assert store["cents"] == 500


def test_every_field_of_a_frozen_model_is_set_once() -> None:
    """``ConfigDict(frozen=True)`` says of each field what ``Field(frozen=True)`` says of one."""

    class Job(BaseModel):
        model_config = ConfigDict(frozen=True)
        id: str
        n: int = 0

    store = Store({}, schema=Job, name="jobs")
    store["id"] = "a"
    for key in ("id", "n"):
        with pytest.raises(TypeError, match=f"field '{key}' is frozen"):
            store[key] = "b"


def test_models_that_refer_to_each_other_are_schemas_too() -> None:
    """A recursive model works, and its parts are checked."""
    store = Store({"tree": Tree(children=[Tree()])}, schema=Forest)
    store["tree"] = Tree()
    with pytest.raises(TypeError, match="'tree' expects Tree, got int: 3"):
        store["tree"] = 3


class Forest(BaseModel):
    tree: Tree


class Tree(BaseModel):
    children: list[Tree] = []


# -- update -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"summary": "new", "score": "high"},
        {"score": "high", "summary": "new"},
        {"summary": "new", "scroe": 1.0},
    ],
)
def test_an_update_with_one_wrong_value_writes_none(changes: dict[str, Any]) -> None:
    """All or nothing: the values before and after the wrong one are not written either."""
    store = Store({"document": "d", "summary": "old"}, schema=Article)
    before = store.as_dict()
    seen = recorded(store)
    with pytest.raises(TypeError):
        store.update(changes)
    assert store == before
    assert seen == []


def test_an_update_may_pass_through_what_single_writes_could_not() -> None:
    """Two values that only fit together can be written together."""
    store = Store({}, schema=Limits)
    with pytest.raises(InvalidValueError):
        store["low"] = 50
    store.update(low=50, high=60)
    assert store == {"low": 50, "high": 60, "name": "n"}


# -- unset fields -------------------------------------------------------------------------------


def test_an_unset_field_is_absent_and_says_so() -> None:
    """``in`` is false, reading is an error that says "not set yet", by key and by attribute."""
    store = Store({"document": "d"}, schema=Article, name="jobs")
    assert "summary" not in store
    assert store.get("summary") is None
    assert not hasattr(store.state, "summary")
    assert getattr(store.state, "summary", "later") == "later"
    with pytest.raises(KeyError, match="store 'jobs': field 'summary' is not set yet"):
        store["summary"]
    with pytest.raises(AttributeError, match="store 'jobs': field 'summary' is not set yet"):
        store.state.summary  # noqa: B018
    store["summary"] = "s"
    assert store.state.summary == "s"


def test_a_deleted_field_is_unset_again() -> None:
    """``del`` makes a field absent, with the same error on reading."""
    store = Store(Article(document="d", summary="s"))
    del store["summary"]
    with pytest.raises(MissingKeyError, match="field 'summary' is not set yet"):
        store["summary"]
    del store.state.document
    assert "document" not in store


def test_validate_names_all_that_is_missing() -> None:
    """``validate`` of an incomplete store is a ``ValueError`` with model and fields."""
    store = Store({}, schema=Article, name="jobs")
    with pytest.raises(ValueError, match=r"store 'jobs'.*Article") as caught:
        store.validate()
    assert isinstance(caught.value, IncompleteStoreError)
    assert "'document', 'summary'" in str(caught.value)
    with pytest.raises(IncompleteStoreError, match="'document', 'summary'"):
        store.to_model()


def test_a_default_that_was_deleted_is_named_where_the_model_is_needed() -> None:
    """``to_model`` is the complete model or an error: no field is left out of it in silence."""
    store = Store(Article(document="d", summary="s"), name="jobs")
    del store["tags"]
    store.validate()
    with pytest.raises(IncompleteStoreError, match="of Article not set: 'tags'"):
        store.to_model()
    with pytest.raises(IncompleteStoreError, match="not set: 'tags'"):
        str(store.state)


def test_validate_finds_what_was_changed_in_place() -> None:
    """A list that was spoilt after it was written is found by ``validate`` and ``to_model``."""
    store = Store(Article(document="d", summary="s", tags=["a"]), name="jobs")
    store["tags"].append(3)
    for check in (store.validate, store.to_model):
        with pytest.raises(InvalidValueError, match=r"'tags' expects list.*\[1\].*got int: 3"):
            cast(Any, check)()
    typed = Store({"x": [1]}, schema={"x": list[int]})
    typed["x"].append("two")
    with pytest.raises(InvalidValueError, match=r"key 'x' expects list\[int\]"):
        typed.validate()


class Spot(BaseModel):
    model_config = ConfigDict(frozen=True)

    x: int


@dataclass(frozen=True)
class Corner:
    x: int


@pytest.mark.parametrize("make", [lambda kind: {"x": kind}, _model], ids=["dict", "model"])
@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (set[Spot], lambda: {Spot(x=1)}),
        (frozenset[Corner], lambda: frozenset({Corner(1)})),
        (dict[Spot, int], lambda: {Spot(x=1): 1}),
        (dict[tuple[Corner, int], int], lambda: {(Corner(1), 2): 1}),
    ],
    ids=["set", "frozenset", "keys", "keys of several"],
)
def test_objects_in_sets_and_as_keys_are_checked_again_and_stay_hashable(
    make: Any, kind: Any, value: Callable[[], Any]
) -> None:
    """An instance in a set, or as a key, passes every check of an accepted value, by itself."""
    given = value()
    store = Store({"x": given}, schema=make(kind))
    store.recheck("x")
    store.validate()
    assert store["x"] == value()
    (one,) = store["x"]
    object.__setattr__(one[0] if isinstance(one, tuple) else one, "x", "much")
    with pytest.raises(InvalidValueError, match=r"'x'.*much"):
        store.validate()


class Page(BaseModel):
    url: HttpUrl
    database: PostgresDsn = PostgresDsn("postgresql://db/work")
    n: int = 1


@pytest.mark.parametrize(
    "spoil",
    [
        lambda pages: setattr(pages[0], "n", "much"),
        lambda pages: setattr(pages[0], "url", "http://much"),
        lambda pages: setattr(pages[0], "database", "much"),
    ],
    ids=["beside", "a text", "several hosts"],
)
def test_a_value_with_urls_in_it_is_held_to_its_types(spoil: Callable[[list[Page]], None]) -> None:
    """What is changed in place beside a URL, or in its place, is found as anywhere."""
    store: Store[Any] = Store(
        {"pages": [Page(url=HttpUrl("http://a"))]},
        schema=create_model("M", pages=(list[Page], ...)),
    )
    store.validate()
    spoil(store["pages"])
    with pytest.raises(InvalidValueError, match=r"'pages'.*much"):
        store.validate()


def test_validate_reports_all_wrong_fields_at_once() -> None:
    """Two spoilt fields are two lines of one error."""

    class Two(BaseModel):
        a: list[int] = []
        b: list[int] = []

    store = Store({}, schema=Two)
    store["a"].append("x")
    store["b"].append("y")
    with pytest.raises(InvalidValueError) as caught:
        store.validate()
    assert "'a'" in str(caught.value)
    assert "'b'" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 2


def test_an_untyped_store_validates_and_has_no_model() -> None:
    """Without a schema there is nothing to validate, and ``to_model`` says what is missing."""
    Store({"a": 1}).validate()
    for store in (Store({"a": 1}, name="jobs"), Store({"a": 1}, {"a": int}, "jobs")):
        assert store.name == "jobs"
        with pytest.raises(StoreError, match="store 'jobs' has no model schema"):
            store.to_model()


def test_to_model_is_independent_of_the_store() -> None:
    """The model is complete and validated, and writing to it does not write to the store."""
    store = Store(Article(document="d", summary="s", tags=["a"]))
    model = store.to_model()
    assert type(model) is Article
    model.summary = "other"
    model.tags.append("b")
    assert store["summary"] == "s"
    assert store["tags"] == ["a"]


# -- the state view -----------------------------------------------------------------------------


def test_the_state_view_reads_and_writes_the_store() -> None:
    """Attributes are keys: reads see writes by key, writes are checked and observed."""
    store = Store({"document": "d"}, schema=Article, name="jobs")
    seen = recorded(store)
    state = store.state
    store["summary"] = "s"
    assert state.summary == "s"
    state.score = 0.5
    assert store["score"] == 0.5
    assert seen == [("summary", None, "s"), ("score", 0.0, 0.5)]
    with pytest.raises(TypeError, match="store 'jobs': field 'score' expects float, got str"):
        state.score = cast(Any, "high")
    assert state.score == 0.5


def test_methods_and_properties_of_the_model_work_on_the_state() -> None:
    """What the model computes from its fields is computed from the store."""
    store = Store({"document": "hello world"}, schema=Article)
    state = store.state
    assert state.title == "HELLO"
    assert state.length == 11
    assert state.words == 2
    assert state.kind() == "Article"
    assert state.twice(2) == 4
    assert state.limit == 100
    seen = recorded(store)
    assert state.grade(0.5) == "HELLO: 0.5"
    state.percent = 25
    assert state.percent == 25
    assert seen == [("score", 0.0, 0.5), ("score", 0.5, 0.25)]
    store["document"] = "one two three"
    assert state.words == 3


def test_a_property_that_reads_an_unset_field_says_which() -> None:
    """The error is about the field that is not set, not about the property."""
    store = Store({}, schema=Article)
    with pytest.raises(AttributeError, match="field 'document' is not set yet"):
        store.state.title  # noqa: B018


def test_what_every_model_can_do_works_on_the_state_of_a_complete_store() -> None:
    """``model_dump`` and its like act on the complete model; what is unset is named."""
    store = Store({"document": "d"}, schema=Article)
    with pytest.raises(IncompleteStoreError, match="'summary'"):
        store.state.model_dump()
    store["summary"] = "s"
    assert store.state.model_dump(exclude={"length"}) == store
    assert store.state.model_copy(update={"summary": "t"}).summary == "t"
    assert store["summary"] == "s"


def test_what_python_asks_of_a_model_is_that_of_the_complete_one() -> None:
    """Text, equality, a copy, and a loop over the fields; what is private is in no store."""

    class Note(BaseModel):
        topic: str
        _seen: int = PrivateAttr(0)

        def __str__(self) -> str:
            return f"about {self.topic}"

        def seen(self) -> int:
            return self._seen

    store: Store[Note] = Store({}, schema=Note)
    with pytest.raises(IncompleteStoreError, match="'topic'"):
        str(store.state)
    store["topic"] = "tides"
    assert f"{store.state}" == "about tides"
    assert store.state == Note(topic="tides") == copy.copy(store.state)
    assert store.state == Store(Note(topic="tides")).state != Store(Note(topic="owls")).state
    assert pickle.loads(pickle.dumps(Store(Article(document="d", summary="")).state)).title == "D"  # noqa: S301
    assert dict(store.state) == {"topic": "tides"}
    with pytest.raises(AttributeError, match=r"_seen: store\.to_model\(\) has them"):
        store.state.seen()


def test_a_name_that_the_model_does_not_have_is_an_attribute_error() -> None:
    """A typo on the view is an ``AttributeError`` with a suggestion."""
    store = Store({"document": "d"}, schema=Article, name="jobs")
    with pytest.raises(AttributeError, match=r"store 'jobs'.*'documnt'; did you mean 'document'"):
        cast(Any, store.state).documnt  # noqa: B018
    assert not hasattr(store.state, "documnt")


def test_an_untyped_store_has_a_view_too() -> None:
    """Without a schema the attributes are simply the keys."""
    store: Store[Any] = Store({"a": 1})
    store.state.b = 2
    assert store.state.a == 1
    assert store == {"a": 1, "b": 2}
    assert dir(store.state) == ["a", "b"]
    with pytest.raises(AttributeError, match="'c'"):
        store.state.c  # noqa: B018


def test_the_view_shows_itself() -> None:
    """``dir`` knows the fields, set or not, and ``repr`` the values."""
    store = Store({"document": "d"}, schema=Article, name="jobs")
    assert set(dir(store.state)) >= {"document", "summary", "score", "tags"}
    assert "'jobs'" in repr(store.state)
    assert "'document': 'd'" in repr(store.state)


# -- bind ---------------------------------------------------------------------------------------


def test_bind_types_a_store_from_then_on() -> None:
    """An untyped store is validated, completed with defaults, and checked on every later write."""
    store: Store[Any] = Store({"document": "d"}, name="jobs")
    seen = recorded(store)
    store.bind(Article)
    assert store == {"document": "d", "score": 0.0, "tags": []}
    assert store.schema is Article
    with pytest.raises(TypeError, match="'summary' expects str"):
        store["summary"] = 3
    store["summary"] = "s"
    assert ("summary", None, "s") in seen


def test_bind_to_a_schema_that_does_not_fit_changes_nothing() -> None:
    """The store stays untyped, with the values that it had."""
    store: Store[Any] = Store({"document": 3})
    with pytest.raises(TypeError, match="'document' expects str, got int: 3"):
        store.bind(Article)
    assert store.schema is None
    assert store == {"document": 3}
    store["anything"] = 1
    with pytest.raises(UnknownFieldError, match="'anything'"):
        Store({"document": "d", "anything": 1}).bind(Article)


# -- in a flow ----------------------------------------------------------------------------------


class Summarise(Node[str, str]):
    def prep(self, store: Store[Article]) -> str:
        return store.state.document

    def exec(self, text: str) -> str:
        return text.upper()

    def post(self, store: Store[Article], text: str, summary: str) -> str:
        store.state.summary = summary
        return "default"


def test_a_flow_binds_its_schema_to_an_untyped_store_in_place() -> None:
    """The store that was given is validated, typed, and the one that comes back."""
    store: Store[Any] = Store({"document": "d"})
    result = Flow(Summarise(), schema=Article).run(store)
    assert result is store
    assert store.schema is Article
    assert store["summary"] == "D"


def test_a_flow_refuses_a_store_that_does_not_fit_before_any_node_runs() -> None:
    """The error comes from the start of the run, and the store is as it was."""
    store: Store[Any] = Store({"documnt": "d"}, name="jobs")
    with pytest.raises(UnknownFieldError, match=r"store 'jobs'.*did you mean 'document'"):
        Flow(Summarise(), schema=Article).run(store)
    assert store == {"documnt": "d"}
    given: dict[str, Any] = {"document": 3}
    with pytest.raises(TypeError, match="'document' expects str"):
        Flow(Summarise(), schema=Article, flow_name="summaries").run(given)
    assert given == {"document": 3}


def test_a_flow_refuses_a_store_of_another_schema() -> None:
    """A store typed as something else is refused with both schemas named."""
    with pytest.raises(DefinitionError, match=r"'Summarise'.*Article.*Inner"):
        Flow(Summarise(), schema=Article).run(cast(Any, Store(Inner())))
    with pytest.raises(DefinitionError, match=r"'Summarise'.*Article.*int"):
        Flow(Summarise(), schema=Article).run(Store({}, schema={"document": int}))


def test_a_flow_takes_a_store_of_a_subclass_of_its_schema() -> None:
    """More fields than the flow asks for are fine."""

    class Longer(Article):
        extra: int = 1

    store = Flow(Summarise(), schema=Article).run(Store({"document": "d"}, schema=Longer))
    assert store == {"document": "d", "summary": "D", "score": 0.0, "tags": [], "extra": 1}


def test_a_flow_leaves_a_model_instance_as_it_is() -> None:
    """``run(model)`` works on a copy, lists included; the store that returns has the writes."""

    class Append(Node):
        def post(self, store: Store[Article], prep: object, result: object) -> str:
            store.state.tags.append("b")
            store.state.summary = "new"
            return "done"

    article = Article(document="d", summary="s", tags=["a"])
    store = Flow(Append(), schema=Article).run(article)
    assert article == Article(document="d", summary="s", tags=["a"])
    assert store.to_model() == Article(document="d", summary="new", tags=["a", "b"])
    assert Flow(Append()).run(article).schema is Article


def test_a_flow_lets_the_callers_dict_see_defaults_and_writes() -> None:
    """``run(dict)`` with a schema fills the caller's own dict."""
    given: dict[str, Any] = {"document": "d"}
    Flow(Summarise(), schema=Article).run(given)
    assert given == {"document": "d", "score": 0.0, "tags": [], "summary": "D"}


@pytest.mark.parametrize("given", [3, "text", [("a", 1)], Article], ids=repr)
def test_a_flow_refuses_what_is_no_store(given: Any) -> None:
    """Anything but a store, a dict, a model instance or ``None`` is refused by name."""
    with pytest.raises(DefinitionError, match="flow 'Summarise' runs on a Store, a dict or"):
        Flow(Summarise(), schema=Article).run(given)


def test_a_flow_refuses_a_wrong_schema_when_it_is_built() -> None:
    """A schema that is none is found at once, not at the first run."""
    with pytest.raises(DefinitionError, match="a store schema is a Pydantic model class"):
        Flow(Summarise(), schema=cast(Any, Inner(x=1)))


# -- names that mean two classes ----------------------------------------------------------------


def defined() -> Any:
    """A class, an enum and a schema of them, as the cells of a notebook define them again."""

    class Doc(BaseModel):
        text: str = "x"

    class Color(Enum):
        RED = 1

    fields: Any = {"doc": (Doc | None, None), "docs": (list[Doc], []), "color": (Color, Color.RED)}
    return Doc, Color, create_model("Papers", **fields)


def test_a_class_that_was_defined_again_is_told_from_the_one_before() -> None:
    """The error says that the schema has the older class, and what to do."""
    _, color, schema = defined()
    doc, new, again = defined()
    for values in ({"doc": doc()}, {"docs": [doc()]}, {"color": new.RED}):
        with pytest.raises(InvalidValueError, match="was defined again after Papers"):
            Store(values, schema=schema)
    with pytest.raises(InvalidValueError, match="was defined again"):
        Store({"color": new.RED}, schema={"color": color})
    with pytest.raises(InvalidValueError, match="was defined again"):
        Store({"docs": [doc()]}, schema={"docs": list[defined()[0]]})  # type: ignore[misc]
    with pytest.raises(DefinitionError, match="the class was defined again"):
        Flow(Node(), schema=again).run(Store({}, schema=schema))


def test_the_proof_tells_a_class_that_was_defined_again() -> None:
    """Where it finds that ``Doc`` is no ``Doc``, it says why, and what to define again."""
    older, _, schema = defined()
    newer, _, again = defined()

    def reads(doc: Any) -> None: ...

    def writes() -> Any: ...

    def whole(store: Any) -> None: ...

    reads.__annotations__["doc"] = newer
    writes.__annotations__["return"] = newer
    whole.__annotations__["store"] = cast(Any, Store)[again]
    inner = Flow(Node(), schema=again, flow_name="inner")
    handed = bind(fields(again).color).to(fields(schema).color)
    wrong = [
        Flow(node(reads), schema=schema),
        Flow(node(writes=fields(schema).doc)(writes), schema=schema),
        Flow(node(whole), schema=schema),
        Flow(inner, schema=schema),
        Flow(Subflow(inner, inputs=[handed]), schema=schema),
    ]
    for flow in wrong:
        (found,) = (one for one in flow.validate() if one.code in {"PF202", "PF203", "PF206"})
        name = "Papers" if found.code == "PF206" else "Color" if "bind" in found.message else "Doc"
        assert found.message.endswith(f"{name} was defined again in between")
        assert found.fix.startswith("define again what names ")
    client = resource(older, "client")
    with pytest.raises(ResourceError, match="was defined again after <resource 'client'"):
        Flow(Node()).run({}, resources={client: newer()})


def test_a_class_of_the_expected_name_is_told_with_its_module() -> None:
    """``numpy.bool`` is not a ``bool``, and the error does not say that it got a ``bool``."""
    np = pytest.importorskip("numpy")
    kind = type(np.False_)
    for schema in (create_model("S", done=(bool, True)), {"done": bool}):
        with pytest.raises(InvalidValueError, match=f"got numpy.{kind.__name__}"):
            Store({"done": np.False_}, schema=schema)


# -- JSON values ----------------------------------------------------------------------------------


class Order(BaseModel):
    """What is ordered, from outside in euros."""

    day: date
    cents: int = 0
    parts: list[Inner] = []
    other: Order | None = None
    paid: bool

    @field_validator("cents", mode="before")
    @classmethod
    def of_euros(cls, euros: Any, info: ValidationInfo) -> Any:
        """Sees what is validated before it."""
        assert isinstance(info.data.get("day", date.max), date)
        return euros * 100


@pytest.mark.parametrize("more", [{}, {"paid": True}])
def test_json_values_are_read_by_a_model_that_lacks_some(more: dict[str, Any]) -> None:
    """Each value meets its validators once, whether those that are set later are there or not."""
    given = {"day": "2026-02-03", "cents": 5, "parts": [{"x": 1}], **more}
    made = make_schema(Order)
    assert made is not None
    read = made.from_json(given)
    assert isinstance(read, Order)
    assert read.model_fields_set == given.keys()
    store = Store(read)
    assert (store["day"], store["cents"], store["parts"]) == (date(2026, 2, 3), 500, [Inner(x=1)])
    assert ("paid" in store) is bool(more)
    assert store["other"] is None


def test_json_values_that_do_not_fit_are_told_by_their_places() -> None:
    """What is set later is not missed, and JSON is as strict as Python: a text is no number."""
    made = make_schema(Order)
    assert made is not None
    with pytest.raises(ValidationError) as told:
        made.from_json({"day": "soon", "parts": [{"x": "1"}]})
    assert [one["loc"] for one in told.value.errors()] == [("day",), ("parts", 0, "x")]
    with pytest.raises(ValueError, match="JSON"):
        made.from_json({"cents": float("nan")})


def test_json_values_are_read_by_a_dict_of_types() -> None:
    """Each by the type of its key, and others as they are."""
    types = {"day": date, "size": (int, str), "a b": list[Inner]}
    made = make_schema(types)
    assert made is not None
    read = made.from_json({"day": "2026-02-03", "size": "L", "a b": [{"x": 1}], "more": [1]})
    assert read == {"day": date(2026, 2, 3), "size": "L", "a b": [Inner(x=1)], "more": [1]}
    with pytest.raises(ValidationError) as told:
        made.from_json({"size": None, "a b": [{"x": "1"}]})
    assert {one["loc"][0] for one in told.value.errors()} == {"size", "a b"}


class Numbers(BaseModel):
    """Fields that hold machine numbers, and some that hold others."""

    f: float = 0.0
    maybe: float | None = None
    several: list[float] = []
    bounded: float = Field(0.0, ge=0, le=1)
    exact: Decimal | float = 0.0
    lax: Annotated[float, Strict(False)] = 0.0


NUMBERS = {"f": float, "maybe": float | None, "several": list[float], "exact": Decimal | float}


@pytest.mark.parametrize("schema", [Numbers, NUMBERS], ids=["a model", "a dict"])
@pytest.mark.parametrize("number", [Decimal("0.1"), Fraction(1, 3)], ids=str)
def test_a_number_that_is_no_machine_number_is_no_float(schema: Any, number: Any) -> None:
    """It would lose what it is used for, in silence; a field says whether it takes one."""
    for key, value in (("f", number), ("maybe", number), ("several", [1.0, number])):
        store = Store({}, schema=schema)
        with pytest.raises(InvalidValueError, match=f"'{key}' expects .*float.*got"):
            store[key] = value
        with pytest.raises(InvalidValueError):
            Store({key: value}, schema=schema)
    store = Store({}, schema=schema)
    if isinstance(number, Decimal):
        store["exact"] = number
        assert store["exact"] is number
    if schema is Numbers:
        store["lax"] = number
        assert type(store["lax"]) is float


@pytest.mark.parametrize("schema", [Numbers, NUMBERS], ids=["a model", "a dict"])
def test_whole_numbers_and_those_of_numpy_are_floats(schema: Any) -> None:
    """An ``int`` is fine for a ``float``; a ``bool`` and a text are not, and bounds hold."""
    np = pytest.importorskip("numpy")
    store = Store({}, schema=schema)
    for number in (3, np.float32(0.5), np.float64(0.5), np.int64(3)):
        store["f"] = number
        assert store["f"] == number
        assert isinstance(store["f"], float)
    for wrong in (True, "1", None, 1j):
        with pytest.raises(InvalidValueError):
            store["f"] = wrong
    if schema is Numbers:
        with pytest.raises(InvalidValueError, match="less than or equal to 1"):
            store["bounded"] = 2


@pytest.mark.parametrize(("kind", "fits"), [(Decimal, False), (Fraction, False), (int, True)])
def test_the_proof_takes_the_numbers_that_a_store_takes(kind: type, fits: bool) -> None:
    """A function that returns another number for a float is stopped before it has been called."""
    paid = []

    def work(maybe: float | None) -> Any:
        paid.append(1)
        return kind(1)

    work.__annotations__["return"] = kind
    flow = Flow(node(writes=fields(Numbers).f)(work), schema=Numbers)
    assert [one.code for one in flow.validate()] == ([] if fits else ["PF203"])
    if not fits:
        with pytest.raises(InvalidValueError):
            Flow(node(writes=fields(Numbers).f)(work), schema=Numbers, ignore=("PF",)).run({})


class Lazy(BaseModel):
    """Fields of which Pydantic makes iterators."""

    some: Iterable[int]
    named: dict[str, Iterable[float]] = {}


@pytest.mark.parametrize("schema", [Lazy, {"some": Iterable[int], "named": dict[str, object]}])
@pytest.mark.parametrize("given", [[1, 2], (1, 2), {1, 2}, {1: "a", 2: "b"}, range(1, 3)])
def test_a_collection_stays_one_where_something_to_iterate_over_is_asked_for(
    schema: Any, given: Any
) -> None:
    """Its items are checked where it is written, and it is there for whoever reads it next."""
    store = Store({"some": given}, schema=schema)
    assert [list(store["some"]) for _ in range(2)] == [[1, 2], [1, 2]]
    assert store["some"] == given
    with pytest.raises(InvalidValueError, match=r"'some'.*\[1\]: Input should be a valid integer"):
        store["some"] = [1, "two"]
    store.recheck("some")
    if isinstance(given, list):
        given = store["some"]
        given.append("three")
        with pytest.raises(InvalidValueError, match=r"'some'.*valid integer"):
            store.recheck("some")


def test_what_is_gone_through_once_stays_that() -> None:
    """A generator is not read where it is written; its items are checked as they are read."""
    store = Store({"some": (one for one in (1, "two"))}, schema=Lazy)
    items = iter(store["some"])
    assert next(items) == 1
    with pytest.raises(ValidationError):
        next(items)


def test_items_are_checked_at_any_depth() -> None:
    """What a dict holds to iterate over is checked at the write, too, and made as elsewhere."""
    store = Store({"some": [], "named": {"a": [1, 2.5]}}, schema=Lazy)
    assert store["named"] == {"a": [1.0, 2.5]}
    with pytest.raises(InvalidValueError, match=r"'named'"):
        store["named"] = {"a": [1, "2"]}
