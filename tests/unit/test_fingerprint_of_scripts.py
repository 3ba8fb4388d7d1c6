"""A flow is the same flow whether its file was started as a script or imported."""

from typing import Any

import pytest

from pocoflow.flow.naming import digest
from pocoflow.graph.fingerprint import Fingerprint, differences
from pocoflow.store.schema.model_facts import definitions_of
from pocoflow.values import identity

TYPES = """
import functools
from enum import Enum
from typing import Annotated, Generic, TypeVar
from pydantic import AfterValidator, BaseModel, Field

class Source(BaseModel):
    name: str

class Colour(Enum):
    RED = 1
    BLUE = 2

T = TypeVar("T")

class Page(BaseModel, Generic[T]):
    item: T

class Check:
    def __call__(self, value):
        return value

    @classmethod
    def named(cls, value, kind=None):
        return value

class State(BaseModel):
    one: Annotated[Source, AfterValidator(Check())]
    two: Annotated[list[Page[Source]], AfterValidator(Check.named)]
    three: Annotated[Colour | None, AfterValidator(functools.partial(Check.named, kind=Source))]
    four: Annotated[str, Field(pattern="^app.txt$")]

VALUES = {
    "model": Source(name="a"),
    "generic": [Page[Source](item=Source(name="b"))],
    "set": {Colour.RED, Colour.BLUE},
    "dict": {Colour.RED: Source(name="c")},
    "nested": {"in": (frozenset({Colour.BLUE, Colour.RED}), None)},
    "odd": {float("inf"), float("-inf"), chr(0xD800), 1.5},
}
"""


def types_in(module: str) -> dict[str, Any]:
    """What a module of that name defines."""
    namespace: dict[str, Any] = {"__name__": module}
    exec(TYPES, namespace)  # noqa: S102 - the text above
    return namespace


def flow_of(label: str) -> Fingerprint:
    """The fingerprint of a flow of one node."""
    nodes = [{"path": ["Ask"], "class": label, "code": "0"}]
    return {"start": "Ask", "nodes": nodes, "edges": [], "schema": None}


def test_a_script_and_its_module_are_one_definition() -> None:
    """A run that a script has started can be resumed by a program that imports it."""
    assert differences(flow_of("__main__:Ask"), flow_of("app:Ask")) == []
    assert differences(flow_of("app:Ask"), flow_of("__main__:Ask")) == []


def test_another_class_or_module_is_a_difference() -> None:
    """A node that another class or module defines now is told of."""
    assert differences(flow_of("app:Ask"), flow_of("web:Ask")) == [
        "node 'Ask' was app:Ask, is web:Ask"
    ]
    assert differences(flow_of("__main__:Ask"), flow_of("app:Tell")) == [
        "node 'Ask' was __main__:Ask, is app:Tell"
    ]


def test_another_python_is_no_other_code() -> None:
    """It compiles the code of each node to something else, which says nothing of that."""

    def under(python: str, code: str) -> Fingerprint:
        found = flow_of("app:Ask")
        return {**found, "nodes": [{**found["nodes"][0], "code": code}], "python": python}

    assert differences(under("3.11", "0"), under("3.13", "1")) == ["Python was 3.11, is 3.13"]
    assert differences(under("3.11", "0"), under("3.11", "1")) == ["code of node 'Ask' changed"]


def test_a_schema_that_is_gone_or_new_is_one_difference() -> None:
    """Not a line for each of its fields."""
    with_schema = {**flow_of("app:Ask"), "schema": {"a": "str", "b": "int"}}
    assert differences(with_schema, flow_of("app:Ask")) == ["the flow has no schema now"]
    assert differences(flow_of("app:Ask"), with_schema) == ["the flow has a schema now"]


def test_a_field_is_the_same_field_wherever_its_classes_are_defined() -> None:
    """No validator sees accepted values again because a script is imported; text is compared."""
    script, imported = types_in("__main__"), types_in("tools.app")
    assert definitions_of(script["State"]) == definitions_of(imported["State"])
    assert "^app.txt$" in definitions_of(script["State"])["four"]


@pytest.mark.parametrize("name", types_in("app")["VALUES"])
def test_a_value_is_known_again_wherever_its_class_is_defined(name: str) -> None:
    """Neither the module of a class nor the order of a set is part of what an item is."""
    script, imported = (types_in(one)["VALUES"][name] for one in ("__main__", "tools.app"))
    assert identity(script) == identity(imported)
    assert digest({"key": script}) == digest({"key": imported}) != ""


def test_what_differs_in_more_than_a_module_is_not_the_same() -> None:
    """Another class, another member, another value: another item."""
    found = types_in("app")
    source, colour, page = found["Source"], found["Colour"], found["Page"]
    values = [
        *(source(name="a"), source(name="b"), {"name": "a"}, colour.RED, colour.BLUE, "RED", 1),
        *(page[source](item=source(name="a")), page[str](item="a"), [source(name="a")]),
    ]
    assert len({identity(value) for value in values}) == len(values)
