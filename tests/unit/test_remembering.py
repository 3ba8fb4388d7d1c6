"""What is remembered of classes and functions does not keep those of each request for good."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, create_model

from pocoflow import Flow, Node, Store, fields, node
from pocoflow.parsing import parse

MADE = 110


class Counter(BaseModel):
    n: int = 0


class Document:
    """What a request is about."""


def of_class(document: Document, **settings: Any) -> None:
    """A run of a class that encloses the document."""

    class Keep(Node):
        def exec(self, prep_result: object) -> str:
            return type(document).__name__

        def post(self, store: Store, prep_result: object, exec_result: str) -> str:
            store["read"] = exec_result
            return "done"

    assert Flow(Keep(), flow_name="request", **settings).run({})["read"] == "Document"


def of_function(document: Document, **settings: Any) -> None:
    """The same of a function, under a schema."""

    @node(writes=fields(Counter).n)
    def count(n: int) -> int:
        return n + len(type(document).__name__)

    assert Flow(count, schema=Counter, **settings).run({})["n"] == 8


def of_schema(document: Document, **settings: Any) -> None:
    """The same of a schema that is made for the request."""

    class Keep(Node):
        def post(self, store: Store, prep_result: object, exec_result: object) -> str:
            store["values"] = [*store["values"], 1]
            return "done"

    schema = create_model("Request", values=(list[int], []), own=(Any, document))
    Flow(Keep(), schema=schema, flow_name="request", **settings).run({})


def of_value(document: Document, **settings: Any) -> None:
    """The same of a class of values."""

    class Found(BaseModel):
        n: int = 0

        def read(self) -> Document:
            return document

    class Keep(Node):
        def post(self, store: Store, prep_result: object, exec_result: object) -> str:
            store["found"] = [Found(n=one) for one in range(60)]
            return "done"

    Flow(Keep(), flow_name="request", **settings).run({})


def of_parts(document: Document, **settings: Any) -> None:
    """The same of a class that is named as what a list holds."""

    class Found(BaseModel):
        n: int = 0

        def read(self) -> Document:
            return document

    class Look(Node):  # Python itself keeps 128 of Node[list[Found], ...]
        def exec(self, prep_result: object) -> list[Found]:
            parse(dict[str, list[Found]], "{}")
            return parse(list[Found], '[{"n": 1}]')

        def post(self, store: Store, prep_result: object, exec_result: list[Found]) -> str:
            store["n"] = exec_result[0].n
            return "done"

    assert Flow(Look(), flow_name="request", **settings).run({})["n"] == 1


@pytest.fixture(params=["in memory", "on disk"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """Those of a flow that keeps nothing, and of one that keeps its runs."""
    return {} if request.param == "in memory" else {"db_path": tmp_path / "runs.db"}


def _told_of(request_of: Callable[..., None], settings: dict[str, Any]) -> weakref.ref[Document]:
    document = Document()
    request_of(document, **settings)
    return weakref.ref(document)


@pytest.mark.parametrize("request_of", [of_class, of_function, of_schema, of_value, of_parts])
def test_what_a_request_makes_goes(
    request_of: Callable[..., None], settings: dict[str, Any]
) -> None:
    """Of the classes and functions that each request makes anew only the last few are kept."""
    documents = [_told_of(request_of, settings) for _ in range(MADE)]
    gc.collect()
    kept = [place for place, one in enumerate(documents) if one() is not None]
    assert len(kept) <= 70
    assert not kept or kept[0] >= MADE - 70
