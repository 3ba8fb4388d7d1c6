"""What type checkers say when a phase does not fit the node's types. Never executed."""

from collections.abc import Awaitable
from typing import Any, Literal, assert_type

from pydantic import BaseModel

from pocoflow import AsyncNode, Node, Store


class Article(BaseModel):
    document: str
    summary: str = ""


class Grade(Node[str, float, Literal["good", "bad"]]):
    """Every phase typed; the parameters have names of the author's choice."""

    def prep(self, store: Store[Article]) -> str:
        return store.state.summary

    def exec(self, summary: str) -> float:
        return len(summary) / 100

    def post(self, store: Store[Article], summary: str, score: float) -> Literal["good", "bad"]:
        return "good" if score > 0.8 else "bad"

    def exec_fallback(self, summary: str, problem: Exception) -> float:
        return 0.0


class AsyncPhases(Node[str, float, Literal["good", "bad"]]):
    """Every phase of a plain node may be ``async def``."""

    async def prep(self, store: Store[Article]) -> str:
        return store.state.summary

    async def exec(self, summary: str) -> float:
        return 0.5

    async def post(self, store: Store[Article], summary: str, score: float) -> Literal["good"]:
        return "good"

    async def exec_fallback(self, summary: str, problem: Exception) -> float:
        return 0.0


class Fetch(AsyncNode[list[str], list[bytes]]):
    def prep(self, store: Store[Article]) -> list[str]:
        return [store.state.document]

    async def exec_async(self, urls: list[str]) -> list[bytes]:
        return [url.encode() for url in urls]

    def post(self, store: Store[Article], urls: list[str], pages: list[bytes]) -> str:
        return "done"

    async def exec_fallback(self, urls: list[str], problem: Exception) -> list[bytes]:
        return []


class Narrower(Node[str, float]):
    """Results may be narrower than declared, parameters wider."""

    def prep(self, store: Store) -> Literal["a", "b"]:
        return "a"

    def exec(self, text: object) -> int:
        return 1

    def post(self, store: Store[Any], text: object, number: float, extra: int = 0) -> None:
        pass

    def exec_fallback(self, text: object, problem: BaseException) -> int:
        return 0


class Inherits(Grade):
    def exec(self, summary: str) -> float:
        return super().exec(summary) / 2


assert_type(Grade().exec("text"), float)
assert_type(Grade().prep(Store({}, schema=Article)), str)
assert_type(Grade().post(Store(), "text", 0.5), Literal["good", "bad"])
assert_type(Grade().exec_fallback("text", ValueError()), float)
assert_type(Inherits().exec("text"), float)
assert_type(Narrower().exec("text"), int)
assert_type(Node[str, int]().exec("text"), int | Awaitable[int])


async def awaits() -> None:
    assert_type(await AsyncPhases().exec("text"), float)
    assert_type(await Fetch().exec_async(["url"]), list[bytes])
    assert_type(await Fetch().exec(["url"]), list[bytes])
    wrong: str = await Fetch().exec_async(["url"])  # type: ignore[assignment]  # ty: ignore[invalid-assignment]
    await Fetch().exec_async("url")  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
    await Grade().exec("text")  # type: ignore[misc]  # ty: ignore[invalid-await]


# -- mistakes in calls, as a unit test of a node makes them -----------------------------------

Grade().exec(5)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
Grade().exec("text", "more")  # type: ignore[call-arg]  # ty: ignore[too-many-positional-arguments]
Grade().exec()  # type: ignore[call-arg]  # ty: ignore[missing-argument]
Grade().prep({"summary": ""})  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
Grade().post(Store(), "text", "high")  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
Grade().exec_fallback("text", "problem")  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
result: str = Grade().exec("text")  # type: ignore[assignment]  # ty: ignore[invalid-assignment]

# -- mistakes in overrides --------------------------------------------------------------------

Graded = Node[str, float, Literal["good", "bad"]]


class PrepReturns(Graded):
    def prep(self, store: Store) -> int:  # type: ignore[override]  # ty: ignore[incompatible-method-override]
        return 1


class PrepReturnsNothing(Graded):
    def prep(self, store: Store) -> None:  # type: ignore[override]  # ty: ignore[incompatible-method-override]
        pass


class PrepTakesDict(Graded):
    def prep(self, store: dict[str, Any]) -> str:  # type: ignore[override]  # ty: ignore[incompatible-method-override]
        return ""


class PrepTakesModel(Graded):
    def prep(self, store: Article) -> str:  # type: ignore[override]  # ty: ignore[incompatible-method-override]
        return ""


class PrepTakesNothing(Graded):
    def prep(self) -> str:  # type: ignore[override]  # ty: ignore[incompatible-method-override]
        return ""


class PrepReturnsWrongValue(Graded):
    def prep(self, store: Store[Article]) -> str:
        return store.state  # type: ignore[return-value]  # ty: ignore[invalid-explicit-return]


class PrepReadsUnknownField(Graded):
    def prep(self, store: Store[Article]) -> str:
        store.state.sumary  # type: ignore[attr-defined]  # ty: ignore[missing-attribute]
        return ""


class AsyncPrepReturns(Graded):
    async def prep(self, store: Store) -> int:  # type: ignore[override]  # ty: ignore[incompatible-method-override]
        return 1


class ExecTakes(Graded):
    def exec(self, summary: int) -> float:  # type: ignore[override]  # ty: ignore[incompatible-method-override]
        return 1.0


class ExecTakesTwo(Graded):
    def exec(self, summary: str, more: str) -> float:  # type: ignore[override]  # ty: ignore[incompatible-method-override]
        return 1.0


class ExecTakesStore(Graded):
    def exec(self, store: Store[Article]) -> float:  # type: ignore[override]  # ty: ignore[incompatible-method-override]
        return 1.0


class ExecReturns(Graded):
    def exec(self, summary: str) -> str:  # type: ignore[override]  # ty: ignore[incompatible-method-override]
        return ""


class ExecReturnsOptional(Graded):
    def exec(self, summary: str) -> float | None:  # type: ignore[override]  # ty: ignore[incompatible-method-override]
        return None


class AsyncExecReturns(Graded):
    async def exec(self, summary: str) -> str:  # type: ignore[override]  # ty: ignore[incompatible-method-override]
        return ""


class PostTakesPrep(Graded):
    def post(self, store: Store, summary: int, score: float) -> Literal["good"]:  # type: ignore[override]  # ty: ignore[incompatible-method-override]
        return "good"


class PostTakesExec(Graded):
    def post(self, store: Store, summary: str, score: str) -> Literal["good"]:  # type: ignore[override]  # ty: ignore[incompatible-method-override]
        return "good"


class PostTakesSwapped(Graded):
    def post(self, store: Store, score: float, summary: str) -> Literal["good"]:  # type: ignore[override]  # ty: ignore[incompatible-method-override]
        return "good"


class PostTakesStoreOnly(Graded):
    def post(self, store: Store) -> Literal["good"]:  # type: ignore[override]  # ty: ignore[incompatible-method-override]
        return "good"


class PostReturnsOther(Graded):
    def post(self, store: Store, summary: str, score: float) -> Literal["good", "god"]:  # type: ignore[override]  # ty: ignore[incompatible-method-override]
        return "good"


class PostReturnsAnyText(Graded):
    def post(self, store: Store, summary: str, score: float) -> str:  # type: ignore[override]  # ty: ignore[incompatible-method-override]
        return summary


class PostReturnsNothing(Graded):
    def post(self, store: Store, summary: str, score: float) -> None:  # type: ignore[override]  # ty: ignore[incompatible-method-override]
        pass


class PostMayReturnNothing(Graded):
    def post(self, store: Store, summary: str, score: float) -> Literal["good"] | None:  # type: ignore[override]  # ty: ignore[incompatible-method-override]
        return None


class PostReturnsNumber(Node):
    def post(self, store: Store, prep: str, result: str) -> int:  # type: ignore[override]  # ty: ignore[incompatible-method-override]
        return 1


class PostReturnsWrongValue(Graded):
    def post(self, store: Store, summary: str, score: float) -> Literal["good", "bad"]:
        return "god"  # type: ignore[return-value]  # ty: ignore[invalid-explicit-return]


class PostWritesWrongType(Graded):
    def post(self, store: Store[Article], summary: str, score: float) -> Literal["good", "bad"]:
        store.state.summary = score  # type: ignore[assignment]  # ty: ignore[invalid-assignment]
        return "good"


class AsyncPostReturns(Graded):
    async def post(self, store: Store, summary: str, score: float) -> str:  # type: ignore[override]  # ty: ignore[incompatible-method-override]
        return "good"


class FallbackTakesPrep(Graded):
    def exec_fallback(self, summary: int, problem: Exception) -> float:  # type: ignore[override]  # ty: ignore[incompatible-method-override]
        return 0.0


class FallbackTakesNarrowError(Graded):
    def exec_fallback(self, summary: str, problem: ValueError) -> float:  # type: ignore[override]  # ty: ignore[incompatible-method-override]
        return 0.0


class FallbackTakesOne(Graded):
    def exec_fallback(self, summary: str) -> float:  # type: ignore[override]  # ty: ignore[incompatible-method-override]
        return 0.0


class FallbackReturns(Graded):
    def exec_fallback(self, summary: str, problem: Exception) -> str:  # type: ignore[override]  # ty: ignore[incompatible-method-override]
        return ""


class AsyncFallbackReturns(Graded):
    async def exec_fallback(self, summary: str, problem: Exception) -> str:  # type: ignore[override]  # ty: ignore[incompatible-method-override]
        return ""


Fetching = AsyncNode[list[str], list[bytes], Literal["done"]]


class ExecAsyncTakes(Fetching):
    async def exec_async(self, urls: str) -> list[bytes]:  # type: ignore[override]  # ty: ignore[incompatible-method-override]
        return []


class ExecAsyncReturns(Fetching):
    async def exec_async(self, urls: list[str]) -> list[str]:  # type: ignore[override]  # ty: ignore[incompatible-method-override]
        return urls


class ExecAsyncIsSync(Fetching):
    def exec_async(self, urls: list[str]) -> list[bytes]:  # type: ignore[override]  # ty: ignore[incompatible-method-override]
        return []


class ExecAsyncReturnsWrongValue(Fetching):
    async def exec_async(self, urls: list[str]) -> list[bytes]:
        return urls  # type: ignore[return-value]  # ty: ignore[invalid-explicit-return]


class AsyncNodePostReturns(Fetching):
    def post(self, store: Store, urls: list[str], pages: list[bytes]) -> Literal["gone"]:  # type: ignore[override]  # ty: ignore[incompatible-method-override]
        return "gone"


class InheritedExecReturns(Grade):
    def exec(self, summary: str) -> str:  # type: ignore[override]  # ty: ignore[incompatible-method-override]
        return ""
