"""What type checkers know about ``@node(each=...)``: one item in, one result out. Never run."""

from collections.abc import Coroutine
from typing import Any, assert_type

from pydantic import BaseModel

from pocoflow import Flow, fields, key, node


class Pages(BaseModel):
    urls: list[str] = []
    prefix: str = ""
    sizes: list[int] = []
    pages: list[str] = []
    later: list[str] | None = None


A = fields(Pages)


@node(each=A.urls, writes=A.sizes, concurrency=10, on_error="stop", max_retries=3)
def size(url: str, prefix: str = A.prefix) -> int:
    return len(prefix + url)


@node(each=A.urls, writes=A.pages)
async def fetch(url: str) -> str:
    return url


@node(each=A.urls, writes=A.later)
def fetch_later(url: str) -> str:
    return url


@node(each=A.sizes)
def show(number: int) -> None:
    pass


@node(each=A.sizes)
async def show_async(number: int) -> None:
    pass


@node(each=key("anything"), writes=key("results"))
def untyped(item: Any) -> int:
    return 1


assert_type(size("url", "prefix"), int)
page: Coroutine[Any, Any, str] = fetch("url")
assert_type(show(3), None)
flow = Flow(size, schema=Pages)
flow.then(size, fetch).then(fetch, show).then(show, show_async).then(show_async, untyped)

# -- mistakes ---------------------------------------------------------------------------------

size(3)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
size.when("done")  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]


@node(each=A.urls, writes=A.later)  # type: ignore[arg-type]  # ty: ignore[no-matching-overload]
def gives_another(url: str) -> int:
    return len(url)


@node(each=A.urls, writes=A.sizes)  # type: ignore[arg-type]  # ty: ignore[no-matching-overload]
def takes_another(number: int) -> int:
    return number


@node(each=A.urls, writes=A.sizes)  # type: ignore[arg-type]  # ty: ignore[no-matching-overload]
def takes_all(urls: list[str]) -> int:
    return len(urls)


@node(each=A.urls, writes=A.sizes)  # type: ignore[arg-type]  # ty: ignore[no-matching-overload]
def returns_another(url: str) -> str:
    return url


@node(each=A.urls, writes=A.sizes)  # type: ignore[arg-type]  # ty: ignore[no-matching-overload]
def returns_all(url: str) -> list[int]:
    return [len(url)]


@node(each=A.urls)  # type: ignore[arg-type]  # ty: ignore[no-matching-overload]
def writes_nothing(url: str) -> int:
    return len(url)


@node(each=A.sizes, writes=A.prefix)  # type: ignore[call-overload, untyped-decorator]  # ty: ignore[invalid-argument-type]
def writes_one(number: int) -> str:
    return ""


@node(each=A.urls, writes=A.sizes, on_error="ignore")  # type: ignore[call-overload, untyped-decorator]  # ty: ignore[invalid-argument-type]
def on_error_is_neither(url: str) -> int:
    return len(url)


@node(writes=A.prefix, concurrency=4)  # type: ignore[call-overload, untyped-decorator]  # ty: ignore[no-matching-overload]
def concurrency_of_one(prefix: str) -> str:
    return prefix
