"""What type checkers know about functions as nodes, field references and resources. Never run."""

import abc
from asyncio import run
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from enum import StrEnum
from typing import Any, Literal, ParamSpec, Protocol, TypeVar, assert_type

from pydantic import BaseModel

import pocoflow
from pocoflow import END, Flow, Node, Store, context, fields, key, node, resource
from pocoflow.node import Node as SameNode
from pocoflow.nodes.edges import End, Outlet
from pocoflow.nodes.function import FunctionNode

P = ParamSpec("P")
T = TypeVar("T")


def traced(function: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
    async def around(*args: P.args, **kwargs: P.kwargs) -> T:
        return await function(*args, **kwargs)

    return around


class Article(BaseModel):
    document: str
    summary: str
    score: float = 0.0
    tags: list[str] = []
    note: str | None = None


class Client:
    def ask(self, text: str) -> str:
        return text


@contextmanager
def opened() -> Generator[Client]:
    yield Client()


@asynccontextmanager
async def opened_async() -> AsyncGenerator[Client]:
    yield Client()


@contextmanager
def opened_text() -> Generator[str]:
    yield ""


class Asks(Protocol):
    def ask(self, text: str) -> str: ...


class Abstract(abc.ABC):
    @abc.abstractmethod
    def ask(self, text: str) -> str: ...


class Classic(Node):
    pass


class Grade(Node[str, float, Literal["good", "bad"]]):
    pass


class Publish(Node[str, str, None]):
    resources = (resource(Client, "llm"),)


class Maybe(Node[str, str, Literal["again"] | None]):
    pass


class Route(StrEnum):
    UP = "up"
    DOWN = "down"


Default = Literal["default"]

# -- references -------------------------------------------------------------------------------

A = fields(Article)
llm = resource(Client, "llm")

assert_type(A, Article)
assert_type(A.summary, str)
assert_type(A.note, str | None)
assert_type(key("anything"), Any)
assert_type(llm, Client)
assert_type(resource(Asks, "llm"), Asks)
assert_type(resource(Client, "llm", open=opened), Client)
assert_type(resource(Client, "llm", open=opened_async, per="process"), Client)
assert_type(resource(Asks, "llm", open=opened), Asks)
assert_type(resource(Abstract, "llm"), Abstract)
assert_type(context()[llm], Client)
assert_type(context()[llm].ask("text"), str)
assert_type(END, Literal[End.END])

# -- functions that write ---------------------------------------------------------------------


@node(writes=A.summary)
def summarise(document: str) -> str:
    """The plainest of all."""
    return document


@node(
    writes=A.score,
    name="grade",
    max_retries=3,
    retry_delay=0.5,
    backoff=2,
    jitter=0.1,
    retry_on=(OSError, ValueError),
    timeout=30,
    journal=False,
)
async def grade(text: str = A.summary, client: Client = llm) -> float:
    return float(client.ask(text))


@node(writes=A.score)
def whole_number(text: str = A.summary) -> int:
    return 1


@node(writes=(A.score, A.summary))
def two(document: str, *, note: str | None = A.note) -> tuple[float, str]:
    return 1.0, document


@node(writes=(A.score, A.summary))
async def two_later(document: str) -> tuple[float, str]:
    return 1.0, document


@node(writes=A.tags)
def tags(document: str, separator: str = ",") -> list[str]:
    return document.split(separator)


@node(writes=A.note)
def forget() -> None:
    return None


@node(writes=A.note)
async def remember(document: str) -> str:
    return document


@node(writes=A.summary)
@traced
async def trace(document: str) -> str:
    return document


@node
@traced
async def choose_later(score: float) -> Literal["good", "bad"]:
    return "good"


@node(writes=key("count"))
def count(text: str = key("text")) -> int:
    return len(text)


assert_type(summarise("text"), str)
assert_type(run(trace("text")), str)
choose_later.when("good")
choose_later.when("god")  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
assert_type(summarise(document="text"), str)
assert_type(run(grade("text")), float)
assert_type(run(grade("text", Client())), float)
assert_type(whole_number(), float)
assert_type(two("text", note="note"), tuple[float, str])
assert_type(run(two_later("text")), tuple[float, str])
assert_type(tags("a b", " "), list[str])
assert_type(forget(), str | None)
assert_type(run(remember("text")), str | None)
assert_type(summarise.when("default"), Outlet)
assert_type(summarise.name, str)
as_node: Node[Any, str, Default] = summarise
as_function_node: FunctionNode[..., str, str, Default] = summarise
counted: int = count("text")


# -- functions that route ---------------------------------------------------------------------


@node
def decide(score: float) -> Literal["good", "bad"]:
    return "good" if score > 0.8 else "bad"


@node(name="decide later", timeout=5)
async def decide_later(score: float = A.score) -> Literal["good", "bad"]:
    return "good"


@node
def perhaps(score: float) -> Literal["again"] | None:
    return "again" if score < 0.5 else None


@node
def route(score: float) -> Route:
    return Route.UP


@node
def publish(store: Store[Article]) -> None:
    store.state.summary = "published"


@node()
async def publish_later(store: Store[Article], text: str = A.summary) -> None:
    store.state.summary = text


assert_type(decide(0.5), Literal["good", "bad"])
assert_type(run(decide_later(0.5)), Literal["good", "bad"])
assert_type(perhaps(0.5), Literal["again"] | None)
assert_type(route(0.5), Route)
as_decision: FunctionNode[..., Any, Any, Literal["good", "bad"]] = decide
as_later: FunctionNode[..., Any, Any, Literal["good", "bad"]] = decide_later
as_route: FunctionNode[..., Any, Any, Route] = route
as_none: FunctionNode[..., None, None, Default] = publish
assert_type(decide.when("good"), Outlet)
assert_type(decide.when("*"), Outlet)
assert_type(decide_later.when("bad"), Outlet)
assert_type(perhaps.when("again"), Outlet)
assert_type(perhaps.when(None), Outlet)
assert_type(route.when(Route.UP), Outlet)
assert_type(run(publish_later(Store(Article(document="", summary="")))), None)

# -- wiring -----------------------------------------------------------------------------------

flow = Flow(start=summarise, schema=Article, flow_name="article")
assert_type(flow.then(summarise, grade), Flow[Article])
assert_type(flow.then(grade, decide).then(decide.when("bad"), summarise), Flow[Article])
flow.then(decide.when("good"), publish).then(decide.when("*"), END)
flow.then(publish, END).then(publish_later.when("default"), END)
flow.then(perhaps, publish).then(perhaps.when("again"), perhaps)
flow.then(route.when(Route.UP), END)
flow.then(count, END).then(tags, Classic()).then(two, two_later)
flow.then(Classic(), publish).then(Classic().when("anything"), publish)
flow.then(Grade().when("good"), publish).then(Publish(), END).then(Maybe(), END)
flow.then(Flow(start=summarise), publish).then(publish, Flow(start=summarise))
flow.then("ok", publish).then("*", END)
decide.then("good", publish).then("bad", END)
resources: dict[Any, object] = {llm: Client()}
assert_type(flow.run({"document": ""}, resources={llm: Client()}), Store[Article])
flow.run_background(resources=resources).wait()
flow.resume("run", resources=resources)
same: type[SameNode[str, float, Literal["good", "bad"]]] = Grade
same_again: type[pocoflow.Node[str, float, Literal["good", "bad"]]] = Grade


@pocoflow.node(writes=A.summary)
def by_the_package(document: str) -> str:
    return document


# -- mistakes: references ---------------------------------------------------------------------

A.sumary  # type: ignore[attr-defined]  # ty: ignore[missing-attribute]
A.summary.scor  # type: ignore[attr-defined]  # ty: ignore[missing-attribute]
fields(Article(document="", summary=""))  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
fields(Client)  # type: ignore[type-var]  # ty: ignore[invalid-argument-type]
fields("Article")  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
key(5)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
resource(Client, "llm", open=Client)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
wrong_opening: Client = resource(Client, "llm", open=opened_text)  # type: ignore[assignment]  # ty: ignore[invalid-assignment]
resource(Client, "llm", open=opened, per="step")  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
resource(Client)  # type: ignore[call-arg]  # ty: ignore[missing-argument]
resource("llm", Client)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
context()[llm].aks("text")  # type: ignore[attr-defined]  # ty: ignore[missing-attribute]
no_client: str = context()[llm]  # type: ignore[assignment]  # ty: ignore[invalid-assignment]
A.score = "high"  # type: ignore[assignment]  # ty: ignore[invalid-assignment]

# -- mistakes: what a function writes ---------------------------------------------------------


@node(writes=A.summary)  # type: ignore[arg-type]  # ty: ignore[no-matching-overload]
def wrong_result(document: str) -> int:
    return 1


@node(writes=A.summary)  # type: ignore[arg-type]  # ty: ignore[no-matching-overload]
async def wrong_later(document: str) -> int:
    return 1


@node(writes=A.summary)  # type: ignore[arg-type]  # ty: ignore[no-matching-overload]
@traced
async def wrong_trace(document: str) -> int:
    return 1


@node(writes=A.summary)  # type: ignore[arg-type]  # ty: ignore[no-matching-overload]
def nothing(document: str) -> None:
    pass


@node(writes=A.summary)  # type: ignore[arg-type]  # ty: ignore[no-matching-overload]
def not_always(document: str) -> str | None:
    return None


@node(writes=A.tags)  # type: ignore[arg-type]  # ty: ignore[no-matching-overload]
def one_tag(document: str) -> str:
    return ""


@node(writes=(A.score, A.summary))  # type: ignore[arg-type]  # ty: ignore[no-matching-overload]
def wrong_second(document: str) -> tuple[float, float]:
    return 1.0, 2.0


@node(writes=(A.score, A.summary))  # type: ignore[arg-type]  # ty: ignore[no-matching-overload]
def too_many(document: str) -> tuple[float, str, str]:
    return 1.0, "", ""


@node(writes=(A.score, A.summary))  # type: ignore[arg-type]  # ty: ignore[no-matching-overload]
def no_tuple(document: str) -> str:
    return ""


@node(writes=A.sumary)  # type: ignore[attr-defined]  # ty: ignore[missing-attribute]
def unknown_field(document: str) -> str:
    return ""


# -- mistakes: defaults -----------------------------------------------------------------------


@node(writes=A.summary)
def wrong_default(document: int = A.document) -> str:  # type: ignore[assignment]  # ty: ignore[invalid-parameter-default]
    return ""


@node(writes=A.summary)
def unknown_default(document: str = A.documnt) -> str:  # type: ignore[attr-defined]  # ty: ignore[missing-attribute]
    return ""


@node(writes=A.summary)
def wrong_resource(client: Asks = llm, text: str = llm) -> str:  # type: ignore[assignment]  # ty: ignore[invalid-parameter-default]
    return ""


# -- mistakes: actions ------------------------------------------------------------------------


@node  # type: ignore[arg-type]  # ty: ignore[no-matching-overload]
def number(document: str) -> int:
    return 1


@node  # type: ignore[arg-type]  # ty: ignore[no-matching-overload]
def truth(document: str) -> bool:
    return True


@node(name="list")  # type: ignore[arg-type]  # ty: ignore[no-matching-overload]
async def several(document: str) -> list[str]:
    return []


decide.when("god")  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
decide.when("default")  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
decide_later.when("god")  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
perhaps.when("agian")  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
route.when("up")  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
route.when("sideways")  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
publish.when("done")  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
summarise.when("done")  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
Grade().when("god")  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
decide.then("god", publish)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
flow.then(decide, publish)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
flow.then(route, publish)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
flow.then(Grade(), publish)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
flow.then(decide.when("god"), publish)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]

# -- mistakes: edges --------------------------------------------------------------------------

flow.then(summarise, "grade")  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
flow.then(summarise, Classic)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
flow.then(Classic, summarise)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
flow.then(summarise, None)
flow.then(END, summarise)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
flow.then(5, summarise)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
flow.then(summarise)  # type: ignore[call-arg]  # ty: ignore[missing-argument]
flow.then(summarise.when("default"), decide.when("good"))  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
flow.then(lambda: "good", summarise)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]

# -- mistakes: calls and settings -------------------------------------------------------------

summarise(1)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
summarise()  # type: ignore[call-arg]  # ty: ignore[missing-argument]
summarise("one", "two")  # type: ignore[call-arg]  # ty: ignore[too-many-positional-arguments]
summarise(text="text")  # type: ignore[call-arg]  # ty: ignore[missing-argument, unknown-argument]
summarise("text").scor  # type: ignore[attr-defined]  # ty: ignore[missing-attribute]
publish("text")  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
wrong_call: int = summarise("text")  # type: ignore[assignment]  # ty: ignore[invalid-assignment]


@node(writes=A.score, max_retry=3)  # type: ignore[call-overload, untyped-decorator]  # ty: ignore[no-matching-overload]
def wrong_setting(document: str) -> float:
    return 1.0


@node(max_retries="3")  # type: ignore[call-overload, untyped-decorator]  # ty: ignore[invalid-argument-type]
def wrong_value(document: str) -> None:
    pass


node("summarise")  # type: ignore[call-overload]  # ty: ignore[no-matching-overload]
flow.run(resources=[llm])  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]


# -- factories ------------------------------------------------------------------------------------

# The type of a node that a factory returns can be written, by the types of the parameters alone.


def shortener(limit: int, target: str) -> FunctionNode[[str], str, str, Literal["default"]]:
    @node(writes=target, name=f"shorten_{limit}")
    def shorten(text: str) -> str:
        return text[:limit]

    return shorten


def decider(limit: int) -> FunctionNode[..., Any, Any, Literal["long", "short"]]:
    @node
    def decide(document: str) -> Literal["long", "short"]:
        return "long" if len(document) > limit else "short"

    return decide


def other_parameter(target: str) -> FunctionNode[[int], str, str, Literal["default"]]:
    @node(writes=target)
    def shorten(text: str) -> str:
        return text

    return shorten  # type: ignore[return-value]  # ty: ignore[invalid-explicit-return]


assert_type(shortener(3, A.summary)("text"), str)
decider(3).when("long")
decider(3).when("log")  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
