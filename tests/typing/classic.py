"""Classes as people write them without types, and halfway there: all of it legal. Never executed."""

import asyncio
from typing import Any, assert_type

from pydantic import BaseModel
from typing_extensions import TypeVar

from pocoflow import AsyncNode, Flow, Node, Store, WorkflowDB


class Article(BaseModel):
    document: str
    summary: str = ""


# -- annotated with Any -----------------------------------------------------------------------


class Summarise(Node):
    max_retries = 3
    retry_delay = 1.0

    def prep(self, store: Any) -> Any:
        return store["document"]

    def exec(self, text: Any) -> Any:
        return text.upper()

    def post(self, store: Any, prep: Any, summary: Any) -> Any:
        store["summary"] = summary
        return "done"


class Fetch(AsyncNode):
    def prep(self, store: Any) -> Any:
        return store["urls"]

    async def exec_async(self, urls: Any) -> Any:
        return await asyncio.gather(*[asyncio.sleep(0, url) for url in urls])

    def post(self, store: Any, prep: Any, results: Any) -> str:
        store["pages"] = results
        return "done"


# -- annotated without type arguments ---------------------------------------------------------


class Titled(Node):
    def prep(self, store: Store) -> str:
        return str(store["document"])

    def exec(self, text: str) -> int:
        return len(text)

    def post(self, store: Store, text: str, size: int) -> str:
        store["size"] = size
        return "done"

    def exec_fallback(self, text: str, exc: Exception) -> int:
        return 0


class ReturnsNothing(Node):
    def prep(self, store: Store[Any]) -> None:
        pass

    def exec(self, nothing: None) -> None:
        pass

    def post(self, store: Store[Any], prep: None, result: None) -> None:
        pass


class MayReturnNothing(Node):
    def post(self, store: Store[Any], prep: str, result: str) -> str | None:
        return result or None


class ReturnsNothingAsync(Node):
    async def post(self, store: Store, prep: Any, result: Any) -> None:
        pass


class OnlyPrep(Node):
    def prep(self, store: Store[Article]) -> str:
        return store.state.document


class OnlyPost(Node[Any, Any]):
    def post(self, store: Store[Article], _: object, __: object) -> str:
        store.state.summary = ""
        return "default"


class Nothing(Node):
    pass


# -- one, two, three type arguments -----------------------------------------------------------


class One(Node[str]):
    def prep(self, s: Store[Article]) -> str:
        return s.state.document

    def exec(self, t: str) -> dict[str, int]:
        return {t: 1}

    def post(self, s: Store[Article], t: str, r: dict[str, int]) -> None:
        s["counts"] = r


class Two(Node[str, list[str]]):
    def prep(self, s: Store[Article]) -> str:
        return s.state.document

    def exec(self, t: str) -> list[str]:
        return t.split()

    def post(self, s: Store[Article], t: str, r: list[str]) -> None:
        s["words"] = r


class TwoWithAction(Node[str, list[str]]):
    def post(self, s: Store[Article], t: str, r: list[str]) -> str:
        return "done"


class Three(Node[str, list[str], str]):
    def post(self, s: Store[Article], t: str, r: list[str]) -> str:
        return "done"


# -- bases of one's own -----------------------------------------------------------------------

InT = TypeVar("InT", default=Any)
OutT = TypeVar("OutT", default=Any)


class LLMNode(Node[InT, OutT]):
    """A base for other nodes, generic or not."""

    max_retries = 3

    def __init__(self, model: str = "small") -> None:
        super().__init__()
        self.model = model

    def ask(self, prompt: str) -> str:
        return prompt


class Rewrite(LLMNode[str, str]):
    def exec(self, text: str) -> str:
        return self.ask(text)


class RewriteClassic(LLMNode):
    def exec(self, text: Any) -> Any:
        return self.ask(text)


class Logged:
    def log(self, text: str) -> None:
        pass


class WithMixin(Logged, Node[str, str]):
    def exec(self, text: str) -> str:
        self.log(text)
        return text


# -- all of it together -----------------------------------------------------------------------

a, b, c, fallback = Summarise(), Fetch(), ReturnsNothing(), Nothing()
a.then("ok", b)
a.then("error", c)
a.then("*", fallback)
a.then("ok", b).then("error", c).then("default", Titled())
Rewrite("large").then("done", RewriteClassic()).then("*", WithMixin())

store = Store({"document": "...", "summary": ""})
Flow(start=Summarise(), db_path="pocoflow.db", flow_name="summarise").run(store)
print(store["summary"])

flow = Flow(start=a, flow_name="my_pipeline", checkpoint_dir="/tmp/ckpt", max_steps=50)
flow.on("node_start", lambda name, store: print(f"> {name}"))
flow.on("node_end", lambda name, action, elapsed, store: print(f"{name} {action} {elapsed:.2f}"))
flow.on("node_error", lambda name, exc, store: print(name, exc))
flow.on("flow_end", lambda steps, store: print(f"Done in {steps} steps"))
assert_type(flow.run(store), Store[Any])
assert_type(flow.run({"document": "..."})["summary"], Any)
handle = flow.run_background(store)
assert_type(handle.wait(timeout=300), Store[Any])
flow.run(WorkflowDB("pocoflow.db").load_checkpoint("run-1", step=2), resume_from=b)

anything: Any = {"document": "..."}
assert_type(flow.run(anything), Store[Any])
assert_type(Summarise().exec("text"), Any)
assert_type(Rewrite().model, str)
