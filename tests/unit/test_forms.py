"""What is asked for so that an answer fits its JSON schema, and what a line of text stands for."""

from __future__ import annotations

import datetime
import enum
import json
from decimal import Decimal
from typing import Any, Literal

import pytest
from hypothesis import given, strategies as st
from pydantic import BaseModel, Field as Described, TypeAdapter

from pocoflow.db.jsonschemas import misfits
from pocoflow.values.callables import UNSET
from pocoflow.views.forms import Field, form_of


class Colour(enum.Enum):
    """A colour."""

    RED = "red"
    BLUE = "blue"


class Inner(BaseModel):
    depth: int = 1


class Tree(BaseModel):
    name: str
    kids: list[Tree] = []


class Everything(BaseModel):
    verdict: Literal["publish", "revise"]
    stars: int = Described(3, ge=1, le=5, description="How good")
    weight: float | None = None
    colour: Colour = Colour.RED
    maybe: Colour | None = None
    due: datetime.date
    inner: Inner = Inner()
    tags: list[str] = Described(default_factory=list)
    only: Literal["this"] = "this"
    price: Decimal = Decimal("1.5")
    code: str = Described("", max_length=20, title="The code")


def form(hint: Any) -> Field:
    """The form of an answer of a type."""
    return form_of(TypeAdapter(hint).json_schema())


@pytest.mark.parametrize(
    ("hint", "kind", "choices"),
    [
        (bool, "bool", ()),
        (int, "integer", ()),
        (float, "number", ()),
        (str, "text", ()),
        (datetime.datetime, "text", ()),
        (Literal["a", "b"], "choice", ("a", "b")),
        (Literal["a"], "choice", ("a",)),
        (Literal["a", 1] | None, "choice", ("a", 1)),
        (Colour, "choice", ("red", "blue")),
        (None, "choice", (None,)),
        (list[int], "json", ()),
        (dict[str, int], "json", ()),
        (int | str, "json", ()),
        (Any, "json", ()),
        (Everything, "object", ()),
        (Tree, "object", ()),
        (Inner | None, "json", ()),
    ],
)
def test_a_type_is_asked_for_in_the_way_that_fits_it(
    hint: Any, kind: str, choices: tuple[Any, ...]
) -> None:
    """Every type that Pydantic can describe has a form; what is unusual is asked for as JSON."""
    made = form(hint)
    assert (made.kind, made.choices) == (kind, choices)


def test_a_model_has_a_field_for_each_of_its_own() -> None:
    """Defaults, descriptions, limits and what may be left out are those of the model."""
    fields = {field.name: field for field in form(Everything).fields}
    assert list(fields) == list(Everything.model_fields)
    assert {name: field.kind for name, field in fields.items()} == {
        "verdict": "choice",
        "stars": "integer",
        "weight": "number",
        "colour": "choice",
        "maybe": "choice",
        "due": "text",
        "inner": "json",
        "tags": "json",
        "only": "choice",
        "price": "json",
        "code": "text",
    }
    assert [name for name, field in fields.items() if field.is_required] == ["verdict", "due"]
    assert [name for name, field in fields.items() if field.takes_null] == ["weight", "maybe"]
    assert fields["stars"].description == "How good"
    assert fields["stars"].limits == "at least 1, at most 5"
    assert fields["colour"].default == "red"
    assert fields["tags"].default is UNSET
    assert (fields["code"].title, fields["code"].is_line) == ("The code", True)


def test_every_field_is_checked_by_a_schema_of_its_own() -> None:
    """A field that refers to a definition is checked without the schema around it."""
    fields = {field.name: field for field in form(Everything).fields}
    assert misfits(fields["colour"].schema, "red") == []
    assert misfits(fields["colour"].schema, "green") != []
    assert misfits(fields["maybe"].schema, None) == []
    (kids,) = [field for field in form(Tree).fields if field.name == "kids"]
    assert misfits(kids.schema, [{"name": "a", "kids": [{"name": "b"}]}]) == []
    assert misfits(kids.schema, [{"kids": []}]) != []


@pytest.mark.parametrize(
    ("hint", "text", "value"),
    [
        (bool, "y", True),
        (bool, "No", False),
        (bool | None, "", None),
        (int, " 12 ", 12),
        (int | None, "null", None),
        (float, "1e3", 1000.0),
        (float, "3", 3),
        (str, " as it is ", " as it is "),
        (str, '""', ""),
        (str | None, "", None),
        (Literal["a", "b"], "2", "b"),
        (Literal["a", "b"], "a", "a"),
        (Literal["1", 1], "1", 1),
        (Literal["1", 1], '"1"', "1"),
        (Literal[3, 2], "2", 2),
        (list[int], "[1, 2]", [1, 2]),
    ],
)
def test_a_line_stands_for_a_value(hint: Any, text: str, value: Any) -> None:
    """What a person types for a type is read as one would expect."""
    assert repr(form(hint).read(text)) == repr(value)


@pytest.mark.parametrize(
    ("hint", "text"),
    [
        (bool, "maybe"),
        (bool, ""),
        (int, "1.0"),
        (int, "ten"),
        (float, "nan"),
        (float, "1e999"),
        (str, ""),
        (Literal["a", "b"], "3"),
        (Literal["a", "b"], "0"),
        (Literal[20, 10], "1"),  # it could be the first as well
        (list[int], "[1"),
        (list[float], "[NaN]"),
    ],
)
def test_a_line_that_stands_for_nothing_is_refused(hint: Any, text: str) -> None:
    """A typo is an error, never a guess."""
    with pytest.raises(ValueError, match=r"\w"):
        form(hint).read(text)


def test_an_empty_line_is_the_default_or_leaves_the_field_out() -> None:
    """Return alone takes the default of a field; without one, the model's own counts."""
    optional = [field for field in form(Everything).fields if not field.is_required]
    read = {field.name: field.read("") for field in optional}
    assert (read["stars"], read["colour"], read["tags"]) == (3, "red", UNSET)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(st.lists(JSON, min_size=1, max_size=5, unique_by=json.dumps))
def test_choices_are_told_apart(values: list[Any]) -> None:
    """No two choices have one label, and a label stands for its own choice."""
    made = form_of({"enum": values})
    assert len(set(made.labels)) == len(values)
    for label, value in zip(made.labels, values, strict=True):
        if label.strip() == label and label:
            assert made.read(label) == value


WORDS = st.sampled_from(
    [
        "$defs",
        "$ref",
        "allOf",
        "anyOf",
        "const",
        "default",
        "description",
        "enum",
        "format",
        "maxLength",
        "maximum",
        "minLength",
        "oneOf",
        "properties",
        "required",
        "title",
        "type",
    ]
)
SCHEMAS = st.recursive(
    JSON | st.sampled_from(["string", "object", "null", "#/$defs/a", "#/$defs/b"]),
    lambda inner: st.dictionaries(WORDS | st.just("a"), inner | st.lists(inner, max_size=2)),
)


@given(st.dictionaries(WORDS, SCHEMAS, max_size=4))
def test_no_schema_is_too_strange(schema: dict[str, Any]) -> None:
    """A schema that nobody of ours has made has a form, too."""
    assert form_of({"type": "object", "properties": {"a": schema}}).fields[0].name == "a"
    form_of(schema)
