"""pocoflow: values that grow, and what costs less than they do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from time import process_time
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Discriminator

from benchmarks import growing
from benchmarks.growing import LAST, WAYS, Said
from benchmarks.task import Clock, Measures, Task, expect, text_of
from pocoflow import END, BatchNode, FanOut, Flow, Node, Store, WorkflowDB, fields, node, values
from pocoflow.reducers import extend


class Message(BaseModel):
    """An element of a list in a model."""

    content: str = ""


class Talk(BaseModel):
    """A model with a list of models."""

    messages: list[Message] = []


class State(BaseModel):
    """A typed store."""

    it: Talk = Talk()
    n: int = 0
    steps: int = 0
    dicts: list[dict[str, str]] = []
    models: list[Message] = []
    numbers: list[int] = []
    number: int = 0
    results: Annotated[list[int], extend] = []


class Turn(Node[None, None, str]):
    """Changes something in each step, and notes when each begins."""

    def __init__(self, change: Callable[[Store[Any]], object]) -> None:
        super().__init__()
        self.change = change
        self.begun: list[float] = []

    def prep(self, store: Store[Any]) -> None:
        self.begun.append(process_time())

    def post(self, store: Store[Any], prepared: None, result: None) -> str:
        self.change(store)
        store["n"] += 1
        return "again" if store["n"] < store["steps"] else "done"


def loop(one: Node[Any, Any, Any], store: Any, schema: Any, db: WorkflowDB | None) -> Store[Any]:
    """A run of a node that goes back to itself."""
    one.then("again", one).then("done", END)
    flow: Flow[Any] = Flow(one, schema=schema, db_path=db, run_id="r", max_steps=10**9)
    return flow.run(store)


def loop_in(
    task: Task, path: Path, one: Node[Any, Any, Any], store: Any, schema: Any = None
) -> Any:
    with WorkflowDB(path, synchronous=task.synchronous) as db:
        return loop(one, store, schema, db)


# -- ways to grow ---------------------------------------------------------------------------------


def _set(change: Callable[[Any, str], Any]) -> Callable[[Store[Any], str], None]:
    """Puts what a change makes of the value in its place."""

    def of(store: Store[Any], text: str) -> None:
        store["it"] = change(store["it"], text)

    return of


def _extend_last(store: Store[Any], text: str) -> None:
    store["it"][-1] += text


CHANGES: dict[str, Callable[[Store[Any], str], object]] = {
    "list": lambda store, text: store["it"].append(text),
    "longer": _set(lambda it, text: [*it, text]),
    "dict": lambda store, text: store["it"].update({f"key {len(store['it'])}": text}),
    "inner": lambda store, text: store["it"]["list"].append(text),
    "model": lambda store, text: store["it"].messages.append(Message(content=text)),
    "text": _set(lambda it, text: it + text),
    "last": _extend_last,
    "window": _set(lambda it, text: [*it, text][-LAST:]),
}


class Grow(Node[int, str, str]):
    """Writes a text, and puts it where it belongs."""

    def __init__(self, way: str, characters: int) -> None:
        super().__init__()
        self.change, self.characters = CHANGES[way], characters

    def prep(self, store: Store[Any]) -> int:
        n: int = store["n"]
        return n

    def exec(self, n: int) -> str:
        return text_of(n, self.characters)

    def post(self, store: Store[Any], n: int, text: str) -> str:
        self.change(store, text)
        store["n"] = n + 1
        return "again" if n + 1 < store["steps"] else "done"


def ways(name: str, task: Task) -> Measures:
    schema = State if name == "model" else None

    def grow(path: Path, steps: int, characters: int) -> tuple[Clock, Any]:
        initial = Talk() if schema else WAYS[name].initial()
        store = {"it": initial, "n": 0, "steps": steps}
        with Clock() as clock:
            done = loop_in(task, path, Grow(name, characters), store, schema)
        return clock, done["it"]

    return growing.ways(WAYS[name], task, grow)


# -- beside what nobody touches -------------------------------------------------------------------


def elements(kind: str, count: int) -> list[Any]:
    made = growing.elements(kind, count)
    return made if kind == "dicts" else [Message(content=one.content) for one in made]


def untouched(task: Task, *, on_disk: bool = True) -> Measures:
    steps, schema = task.sizes["steps"], State if task.variant == "typed" else None

    def run(path: Path, kind: str, count: int, append: bool) -> Sequence[float]:
        def change(store: Store[Any]) -> None:
            if append:
                store[kind].append(*elements(kind, 1))

        turn, store = Turn(change), {"n": 0, "steps": steps, kind: elements(kind, count)}
        done = (
            loop_in(task, path, turn, store, schema) if on_disk else loop(turn, store, schema, None)
        )
        expect((done["n"], len(done[kind])), (steps, count + steps * append), "steps, elements")
        return turn.begun

    return growing.untouched(task, run)


# -- branches -------------------------------------------------------------------------------------

_S = fields(State)


@node(writes=_S.results)
def work(number: int) -> list[int]:
    return [number + 1]


@node(writes=_S.results)
async def wait(number: int) -> list[int]:
    await asyncio.sleep(growing.WAITS)
    return [number + 1]


def branches(task: Task, *, on_disk: bool = True) -> Measures:
    """The store has accepted the dicts before: what comes from outside is copied once."""
    items = task.sizes["items"]

    def spread(path: Path, many: int, at_once: int, measured: AbstractContextManager[Any]) -> Any:
        given = {"numbers": list(range(items)), "dicts": growing.elements("dicts", many)}
        store = Store(given, schema=State)
        one = work if at_once == 1 else wait
        fan = FanOut(one, each=_S.numbers, as_=_S.number, concurrency=at_once)

        async def main(flow: Flow[Any]) -> None:
            with measured:
                await flow.run_async(store)

        with WorkflowDB(path, synchronous=task.synchronous) as db:
            flow: Flow[Any] = Flow(
                fan, schema=State, db_path=db if on_disk else None, max_steps=items + 10
            )
            if at_once > 1:
                asyncio.run(main(flow))
            else:
                with measured:
                    flow.run(store)
        return store["results"]

    return growing.branches(task, spread)


# -- a batch, and a conversation ------------------------------------------------------------------


class Batch(BatchNode[int, str, str]):
    """Writes a text for each item."""

    def __init__(self, items: Sequence[int], characters: int) -> None:
        super().__init__()
        self.items, self.characters = items, characters

    def prep(self, store: Store[Any]) -> Sequence[int]:
        return self.items

    def exec(self, item: int) -> str:
        return text_of(item, self.characters)

    def post(self, store: Store[Any], items: Any, results: list[str]) -> str:
        store["results"] = results
        return "done"


def batch(task: Task) -> Measures:
    def run(items: Sequence[int]) -> Sequence[str]:
        one = Batch(items, task.sizes["characters"])
        results: list[str] = loop_in(task, task.path, one, {})["results"]
        return results

    return growing.batch(task, run)


class Asked(BaseModel):
    """What a person said."""

    kind: Literal["user"] = "user"
    content: str = ""


class Answered(BaseModel):
    """What a model said, and the tools that it called."""

    kind: Literal["assistant"] = "assistant"
    content: str = ""
    calls: list[dict[str, str]] = []


class Found(BaseModel):
    """What a tool gave."""

    kind: Literal["tool"] = "tool"
    call_id: str = ""
    content: str = ""


class Conversation(BaseModel):
    """A conversation as people keep it."""

    title: str = ""
    messages: list[Annotated[Asked | Answered | Found, Discriminator("kind")]] = []


class Agent(BaseModel):
    """The store of an agent."""

    conversation: Conversation = Conversation()
    n: int = 0
    steps: int = 0


MESSAGES: dict[str, type[Asked | Answered | Found]] = {
    "user": Asked,
    "assistant": Answered,
    "tool": Found,
}


def conversation(task: Task) -> Measures:
    def tell(store: Store[Any]) -> None:
        change: Said | str = growing.said(store["n"], task.sizes)
        messages = store["conversation"].messages
        if isinstance(change, str):
            messages[-1].content += change
        else:
            messages.append(MESSAGES[change["kind"]](**change))

    def talk(turns: int) -> tuple[Sequence[float], Sequence[Any]]:
        turn, store = Turn(tell), {"conversation": Conversation(), "n": 0, "steps": turns}
        done = loop_in(task, task.path, turn, store, Agent)
        return turn.begun, done["conversation"].messages

    return growing.conversation(task, talk)


# -- restoring ------------------------------------------------------------------------------------


def restoring(task: Task) -> Measures:
    """Restore steps of a nested value that grows, beside decoding what is restored.

    What it takes to find the last step of a run is left out: it is the same for each.
    """

    def grow(store: Store[Any]) -> None:
        tree, n = store["it"], store["n"]
        tree["turns"].append({"said": f"said in {n} " * 4, "tools": [n]})
        tree["by name"][f"{n % 50}"] = n

    steps = task.sizes["steps"]
    initial = {"turns": [], "by name": {}, "notes": "a note " * 100}
    loop_in(task, task.path, Turn(grow), {"it": initial, "n": 0, "steps": steps})
    found = []
    with WorkflowDB(task.path, read_only=True) as db:
        finding = least(partial(db.load_checkpoint, "r", -1))
        for step in (steps // 10, steps // 4, steps // 2, steps * 3 // 4, steps - 1):
            value = db.load_checkpoint("r", step)["it"]
            expect(len(value["turns"]), step + 1, "turns")
            decoding = least(partial(values.loads, values.dumps(value)))
            took = least(partial(db.load_checkpoint, "r", step))
            found.append(((took - finding) / decoding, took, decoding))
    times, took, decoding = max(found)
    return {"times": times, "ms": took, "decode_ms": decoding, "find_ms": finding}


def least(call: Callable[[], object]) -> float:
    """The least milliseconds of the processor."""
    took = []
    for _ in range(7):
        began = process_time()
        call()
        took.append(process_time() - began)
    return min(took) * 1e3


WORKERS = {
    **growing.workers(
        ways,
        untouched=untouched,
        branches=branches,
        batch=batch,
        conversation=conversation,
    ),
    "restoring": restoring,
}
