"""What type checkers know about actions and edges. Never executed."""

from enum import StrEnum
from typing import Any, Generic, Literal, assert_type

from typing_extensions import TypeVar

from pocoflow import AsyncNode, Flow, Node, Store
from pocoflow.nodes.base import NodeLike
from pocoflow.nodes.edges import END, End, Outlet

Verdict = Literal["good", "bad"]


class Grade(Node[str, float, Literal["good", "bad"]]):
    def post(self, store: Store, summary: str, score: float) -> Literal["good", "bad"]:
        return "good" if score > 0.8 else "bad"


class Fetch(AsyncNode[str, bytes, Literal["fetched", "gone"]]):
    async def exec_async(self, url: str) -> bytes:
        return url.encode()

    def post(self, store: Store, url: str, page: bytes) -> Literal["fetched", "gone"]:
        return "fetched" if page else "gone"


class Aliased(Node[str, str, Verdict]):
    async def post(self, store: Store, prep: str, result: str) -> Verdict:
        return "good"


class Publish(Node[str, str, None]):
    """Never routes: ``post`` returns nothing, which counts as ``"default"``."""

    def post(self, store: Store, prep: str, result: str) -> None:
        store["published"] = result


class Maybe(Node[str, str, Literal["again"] | None]):
    def post(self, store: Store, prep: str, result: str) -> Literal["again"] | None:
        return "again" if result else None


class Mood(StrEnum):
    HAPPY = "happy"
    SAD = "sad"


class Feel(Node[str, str, Mood]):
    def post(self, store: Store, prep: str, result: str) -> Mood:
        return Mood.HAPPY


class Classic(Node):
    """No type argument: any action."""


ActionT = TypeVar("ActionT", bound=str)


class Router(Node[str, str, ActionT], Generic[ActionT]):
    """Generic over its actions."""

    def __init__(self, action: ActionT) -> None:
        super().__init__()
        self.action = action

    def post(self, store: Store, prep: str, result: str) -> ActionT:
        return self.action


grade = Grade()
fetch = Fetch()
publish = Publish()
classic = Classic()
router: Router[Literal["left", "right"]] = Router("left")

# -- edges chain, and keep the class ----------------------------------------------------------

assert_type(grade.then("good", publish), Grade)
assert_type(grade.then("good", publish).then("bad", fetch).then("*", classic), Grade)
assert_type(grade.then("default", publish), Grade)
assert_type(fetch.then("fetched", grade), Fetch)
assert_type(Aliased().then("good", publish), Aliased)
assert_type(publish.then("default", grade).then("*", grade), Publish)
assert_type(Maybe().then("again", grade).then("default", grade), Maybe)
assert_type(Feel().then(Mood.HAPPY, grade).then(Mood.SAD, grade), Feel)
assert_type(classic.then("whatever", grade).then("ok", fetch).then("*", classic), Classic)
assert_type(router.then("left", grade).then("right", grade), Router[Literal["left", "right"]])
assert_type(grade.then("good", END), Grade)
assert_type(grade.then("good", Flow(start=publish)), Grade)
assert_type(Flow(start=publish).then("done", grade).then("*", END), Flow[Any])
assert_type(grade.when("good"), Outlet)
assert_type(grade.when("*"), Outlet)
assert_type(grade.edges["good"].target, NodeLike[Any] | End)
assert_type(grade.edges["good"].action, str)
any_node: Node[Any, Any, Any] = grade
no_type_argument: Node[Any, Any, Any] = classic
action: Verdict = "good"
grade.then(action, publish)

# -- mistakes ---------------------------------------------------------------------------------

grade.then("god", publish)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
grade.then("good", publish).then("god", publish)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
grade.when("god")  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
grade.when(publish)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
grade.then(5, publish)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
grade.then(None, publish)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
grade.then(classic.name, publish)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
fetch.then("god", publish)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
Aliased().then("god", publish)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
publish.then("good", grade)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
Maybe().then("agian", grade)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
Feel().then("happy", grade)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
router.then("up", grade)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
classic.then(5, grade)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
grade.then("good", Publish)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
grade.then("good", "publish")  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
grade.then("good", "END")  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
grade.then("good", End)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
grade.then("god", END)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
grade.then("good", None)
grade.then("good")  # type: ignore[call-arg]  # ty: ignore[missing-argument]
grade.then(publish)  # type: ignore[call-arg, arg-type]  # ty: ignore[invalid-argument-type, missing-argument]
grade.then(publish, "good")  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
Grade.then("good", publish)  # type: ignore[call-arg, arg-type, type-var]  # ty: ignore[invalid-argument-type, missing-argument]
grade.edges["good"] = publish  # type: ignore[index]  # ty: ignore[invalid-assignment]
grade.edges["good"].action = "bad"  # type: ignore[misc]  # ty: ignore[invalid-assignment]


class NumberedActions(Node[str, str, int]):  # type: ignore[type-var]  # ty: ignore[invalid-type-arguments]
    pass


class ByteActions(AsyncNode[str, str, bytes]):  # type: ignore[type-var]  # ty: ignore[invalid-type-arguments]
    pass


class FourArguments(Node[str, str, str, str]):  # type: ignore[type-arg]  # ty: ignore[invalid-type-arguments]
    pass
