"""What type checkers know about batches: ``exec`` takes one item of many. Never executed."""

from collections.abc import Iterable, Iterator
from typing import Any, Literal, assert_type

from pydantic import BaseModel

from pocoflow import Flow, Store
from pocoflow.node import BatchNode


class Article(BaseModel):
    urls: list[str] = []
    sizes: list[int] = []


class Sizes(BatchNode[str, int, Literal["done", "empty"]]):
    concurrency = 4
    on_error = "collect"
    max_retries = 3
    timeout = 5.0

    def prep(self, store: Store[Article]) -> list[str]:
        return store.state.urls

    def exec(self, url: str) -> int:
        return len(url)

    def post(
        self, store: Store[Article], urls: Iterable[str], sizes: list[int]
    ) -> Literal["done", "empty"]:
        store.state.sizes = sizes
        return "done" if sizes else "empty"

    def exec_fallback(self, url: str, problem: Exception) -> int:
        return 0


class AsyncSizes(BatchNode[str, int]):
    async def prep(self, store: Store[Article]) -> set[str]:
        return set(store.state.urls)

    async def exec(self, url: str) -> int:
        return len(url)

    async def post(self, store: Store[Article], urls: Iterable[str], sizes: list[int]) -> None:
        store.state.sizes = sizes


class Generated(BatchNode[str, int]):
    def prep(self, store: Store[Article]) -> Iterator[str]:
        yield from store.state.urls

    def exec(self, url: str) -> int:
        return len(url)


class Classic(BatchNode):
    def prep(self, store: Any) -> Any:
        return store["urls"]

    def exec(self, url: Any) -> Any:
        return len(url)

    def post(self, store: Any, urls: Any, sizes: Any) -> str:
        store["sizes"] = sizes
        return "done"


sizes = Sizes()
assert_type(sizes.exec("url"), int)
assert_type(sizes.prep(Store()), list[str])
assert_type(sizes.post(Store(), {"url"}, [3]), Literal["done", "empty"])
assert_type(sizes.then("done", AsyncSizes()).then("empty", Classic()), Sizes)
assert_type(Flow(start=sizes, schema=Article), Flow[Article])
sizes.concurrency = 8
AsyncSizes().on_error = "stop"

# -- mistakes ---------------------------------------------------------------------------------

sizes.exec(["url"])  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
sizes.then("don", Classic())  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
sizes.concurrency = "8"  # type: ignore[assignment]  # ty: ignore[invalid-assignment]
sizes.on_error = "ignore"  # type: ignore[assignment]  # ty: ignore[invalid-assignment]

Sizing = BatchNode[str, int, Literal["done"]]


class OnErrorIsNeither(Sizing):
    on_error = "ignore"  # type: ignore[assignment]  # ty: ignore[invalid-assignment]


class ConcurrencyIsText(Sizing):
    concurrency = "4"  # type: ignore[assignment]  # ty: ignore[invalid-assignment]


class PrepReturnsOne(Sizing):
    def prep(self, store: Store) -> int:  # type: ignore[override]  # ty: ignore[incompatible-method-override]
        return 1


class PrepReturnsOthers(Sizing):
    def prep(self, store: Store) -> list[int]:  # type: ignore[override]  # ty: ignore[incompatible-method-override]
        return [1]


class ExecTakesAll(Sizing):
    def exec(self, urls: list[str]) -> int:  # type: ignore[override]  # ty: ignore[incompatible-method-override]
        return 1


class ExecReturns(Sizing):
    def exec(self, url: str) -> str:  # type: ignore[override]  # ty: ignore[incompatible-method-override]
        return url


class ExecReturnsAll(Sizing):
    def exec(self, url: str) -> list[int]:  # type: ignore[override]  # ty: ignore[incompatible-method-override]
        return [1]


class PostTakesOne(Sizing):
    def post(self, store: Store, urls: list[str], size: int) -> Literal["done"]:  # type: ignore[override]  # ty: ignore[incompatible-method-override]
        return "done"


class PostTakesOthers(Sizing):
    def post(self, store: Store, urls: list[str], sizes: list[str]) -> Literal["done"]:  # type: ignore[override]  # ty: ignore[incompatible-method-override]
        return "done"


class PostReturns(Sizing):
    def post(self, store: Store, urls: list[str], sizes: list[int]) -> Literal["don"]:  # type: ignore[override]  # ty: ignore[incompatible-method-override]
        return "don"


class FallbackTakesAll(Sizing):
    def exec_fallback(self, urls: list[str], problem: Exception) -> int:  # type: ignore[override]  # ty: ignore[incompatible-method-override]
        return 1


class FallbackReturns(Sizing):
    def exec_fallback(self, url: str, problem: Exception) -> None:  # type: ignore[override]  # ty: ignore[incompatible-method-override]
        pass


class NumberedActions(BatchNode[str, int, int]):  # type: ignore[type-var]  # ty: ignore[invalid-type-arguments]
    pass
