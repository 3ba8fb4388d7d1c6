"""Errors as edges: what a type checker sees of ``node.catch``."""

from __future__ import annotations

from typing import assert_type

from pydantic import BaseModel

from pocoflow import END, Flow, fields, node
from pocoflow.failure import Failure
from pocoflow.nodes.edges import Catch


class RateLimitError(Exception):
    wait: float = 1.0


class Page(BaseModel):
    url: str
    text: str = ""
    wait: float = 0.0
    limit: float | None = None
    failure: Failure | None = None


P = fields(Page)


@node(writes=P.text)
def fetch(url: str) -> str:
    return url


def seconds(error: RateLimitError) -> float:
    return error.wait


flow: Flow[Page] = Flow(fetch, schema=Page)

# The source of an edge, with nothing written, a failure, or a value of the error.
assert_type(fetch.catch(TimeoutError), Catch)
flow.then(fetch.catch(TimeoutError, ConnectionError), END)
flow.then(fetch.catch(ValueError, writes=P.failure), END)
flow.then(fetch.catch(RateLimitError, writes=P.wait, value=seconds), END)
flow.then(fetch.catch(RateLimitError, writes=P.limit, value=lambda error: error.wait), END)

# What is no exception that can be caught.
fetch.catch(KeyboardInterrupt)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
fetch.catch("TimeoutError")  # type: ignore[call-overload]  # ty: ignore[invalid-argument-type]

# A failure goes to a field that holds one.
fetch.catch(ValueError, writes=P.text)  # type: ignore[call-overload]  # ty: ignore[invalid-argument-type]

# The function takes the errors that are caught, and knows them.
fetch.catch(OSError, writes=P.wait, value=seconds)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
fetch.catch(RateLimitError, writes=P.wait, value=lambda error: error.wai)  # type: ignore[attr-defined]  # ty: ignore[missing-attribute]

# A value that needs a function to be made.
fetch.catch(ValueError, value=seconds)  # type: ignore[call-overload]  # ty: ignore[no-matching-overload]
