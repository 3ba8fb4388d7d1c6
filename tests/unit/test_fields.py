"""References to fields: they name a field, and nothing else can be done with them."""

from __future__ import annotations

import copy
import operator
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, cast

import pytest
from pydantic import BaseModel, Field, computed_field

from pocoflow import Flow, Node, Store, fields, key, node, resource
from pocoflow.errors import DefinitionError, InvalidValueError, PocoflowError, ReferenceMisuseError
from pocoflow.store.fields import FieldRef, Reference, StoreField, field_of


class Address(BaseModel):
    name: str
    city: str


class Article(BaseModel):
    document: str
    summary: str = Field(default="", alias="abstract")
    score: float = 0.0
    address: Address | None = None
    model_count: int = 0

    limit: ClassVar[int] = 3

    def shorten(self) -> str:
        return self.summary[:10]

    @property
    def length(self) -> int:
        return len(self.summary)

    @computed_field  # type: ignore[prop-decorator] # documented as such by pydantic
    @property
    def words(self) -> int:
        return len(self.summary.split())


A: Any = fields(Article)


def test_an_attribute_of_fields_is_a_reference_that_names_the_field_and_its_model() -> None:
    """``A.summary`` is a reference to the field of that name, and says so."""
    assert isinstance(A.summary, FieldRef)
    assert field_of(A.summary) == StoreField("summary", Article)
    assert repr(A.summary) == "<field Article.summary>"
    assert repr(A) == "fields(Article)"
    assert str(field_of(A.summary)) == "Article.summary"


def test_key_is_a_reference_without_a_model() -> None:
    """``key("name")`` names a key of a store that has no model."""
    assert field_of(key("anything")) == StoreField("anything", None)
    assert repr(key("anything")) == "<field 'anything'>"


def test_fields_may_be_named_like_the_parts_of_a_model() -> None:
    """A field named ``name`` or ``model_...`` is a field like any other."""
    assert field_of(cast(Any, fields(Address)).name).name == "name"
    assert field_of(A.model_count).name == "model_count"


def test_dir_of_fields_lists_the_fields() -> None:
    """A console or notebook completes the names of the fields and no others."""
    assert dir(A) == sorted(Article.model_fields)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("sumary", "did you mean 'summary'?"),
        ("sumary", "document, summary, score"),
        ("abstract", "'abstract' is an alias; a store knows the field as 'summary'"),
        ("shorten", "method, property or class attribute"),
        ("length", "method, property or class attribute"),
        ("words", "method, property or class attribute"),
        ("limit", "method, property or class attribute"),
        ("model_dump", "method, property or class attribute"),
        ("_private", "has no field '_private'"),
    ],
)
def test_what_is_not_a_field_is_refused_with_the_reason(name: str, part: str) -> None:
    """An unknown name, an alias, a method or a property raises, and the message helps."""
    with pytest.raises(ReferenceMisuseError) as caught:
        getattr(A, name)
    assert part in str(caught.value)
    assert f"fields(Article).{name}" in str(caught.value)


def test_protocols_of_python_find_nothing_in_fields() -> None:
    """``hasattr`` for a special method is false instead of an error."""
    assert not hasattr(A, "__wrapped__")
    assert not hasattr(A.summary, "__wrapped__")
    assert not hasattr(A, "sumary")


USES: dict[str, Callable[[Any], object]] = {
    "truth": bool,
    "not": operator.not_,
    "==": lambda ref: ref == "text",
    "!=": lambda ref: ref != "text",
    "== from the right": lambda ref: "text" == ref,  # noqa: SIM300
    "<": lambda ref: ref < 1,
    ">=": lambda ref: ref >= 1,
    "iter": iter,
    "list": list,
    "len": len,
    "in": lambda ref: "a" in ref,
    "item": lambda ref: ref[0],
    "field of the field": lambda ref: ref.city,
    "field of the field named name": lambda ref: ref.name,
    "method": lambda ref: ref.upper(),
    "call": lambda ref: ref(),
    "assignment": lambda ref: setattr(ref, "city", "Ghent"),
}


@pytest.mark.parametrize("how", USES)
def test_a_reference_cannot_be_used_as_the_value(how: str) -> None:
    """Truth, comparison, iteration, items, calls and attributes of a reference raise."""
    with pytest.raises(ReferenceMisuseError, match=r"<field Article\.address>"):
        USES[how](A.address)


def test_the_error_is_the_builtin_that_each_use_would_raise() -> None:
    """Misuse is a ``TypeError``, an ``AttributeError`` and one of ours."""
    with pytest.raises(TypeError):
        bool(A.summary)
    with pytest.raises(AttributeError):
        _ = A.summary.upper
    assert issubclass(ReferenceMisuseError, PocoflowError)


def test_arithmetic_on_a_reference_fails_by_itself() -> None:
    """``A.score + 1`` is a ``TypeError``, as for any object without arithmetic."""
    with pytest.raises(TypeError):
        A.score + 1


def test_fields_take_no_values() -> None:
    """Assigning to an attribute of ``fields(...)`` raises instead of hiding the field."""
    with pytest.raises(ReferenceMisuseError, match="takes no values"):
        A.summary = "text"
    assert isinstance(A.summary, FieldRef)


@pytest.mark.parametrize("given", [5, "Article", Article(document=""), dict, None])
def test_fields_takes_a_model_class(given: object) -> None:
    """Anything but a Pydantic model class is refused, with the way for untyped stores."""
    with pytest.raises(DefinitionError, match=r"key\('name'\)"):
        fields(cast(Any, given))


@pytest.mark.parametrize("given", [5, "", None, A.summary])
def test_key_takes_a_name(given: object) -> None:
    """Anything but a non-empty string is refused."""
    with pytest.raises(DefinitionError, match="name of a key"):
        key(cast(Any, given))


def test_a_reference_can_be_copied_pickled_and_be_a_key() -> None:
    """What copies or ships a definition can take a reference along; identity is its hash."""
    reference = A.summary
    assert copy.copy(reference) is reference
    assert copy.deepcopy([reference])[0] is reference
    assert field_of(pickle.loads(pickle.dumps(reference))) == field_of(reference)  # noqa: S301
    assert {reference: 1}[reference] == 1
    assert isinstance(reference, Reference)


def test_a_field_is_read_and_written_by_its_name_not_its_alias() -> None:
    """In a store the field is known by its name, whatever alias the model gives it."""

    @node(writes=A.summary)
    def summarise(document: str) -> str:
        return document.upper()

    store: Store[Any] = Flow(start=summarise, schema=Article).run({"document": "text"})
    assert store["summary"] == "TEXT"


def test_a_reference_is_refused_as_a_value() -> None:
    """No store takes one, with or without a schema; the error names the key and the reference."""

    class Loose(BaseModel):
        x: Any = None

    for schema in (None, Loose, {"x": object}):
        store: Store[Any] = Store({}, schema=schema)
        for reference in (A.summary, key("name"), resource(str, "client")):
            writes: list[Callable[[], object]] = [
                partial(Store, {"x": reference}, schema),
                partial(store.__setitem__, "x", reference),
                partial(store.update, x=reference),
                partial(Flow(Node(), schema=schema).run, {"x": reference}),
            ]
            for write in writes:
                with pytest.raises(InvalidValueError, match=r"'x': <.*is no value"):
                    write()
