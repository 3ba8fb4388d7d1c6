"""A run that a script has started goes on in a program that imports the script, and the reverse.

The classes of the script are those of ``__main__`` in the one process and those of its module in
the other. No item, branch, call or value is another one for that.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pocoflow import WorkflowDB

PROGRAM = '''
import os
import signal
import sys
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Generic, NamedTuple, TypeVar

from pydantic import AfterValidator, BaseModel

from pocoflow import (
    BatchNode, FanOut, Flow, Node, Parallel, Store, Subflow, bind, context, fields, node
)
from pocoflow.reducers import append, item


class Source(BaseModel):
    name: str


@dataclass
class Data:
    name: str
    inner: Source


class Colour(Enum):
    RED = 1
    BLUE = 2


class Pair(NamedTuple):
    name: str
    colour: Colour


class Name(str):
    pass


T = TypeVar("T")


class Box(BaseModel, Generic[T]):
    inside: T


class Strict:
    def __call__(self, items):
        note("validated")
        return items


Item = Source | Data | Pair | Box[Source] | list[Source] | dict[str, Data] | set[Colour] | Colour


class State(BaseModel):
    items: Annotated[list[Item], AfterValidator(Strict())] = []
    item: Item = Colour.RED
    texts: Annotated[list[str], append] = []
    results: list[str] = []


F = fields(State)
ITEMS = [
    Source(name="a"),
    Data("b", Source(name="b")),
    Pair("c", Colour.BLUE),
    Box[Source](inside=Source(name="d")),
    [Source(name="e")],
    {"f": Data("f", Source(name="f"))},
    {Colour.RED, Colour.BLUE},
    Colour.RED,
    Source(name="last"),
    Source(name="not begun"),
]


def note(text):
    with Path("notes").open("a") as file:
        print(text, file=file)


def pay(item):
    shown = sorted(one.name for one in item) if isinstance(item, set) else item
    note(f"{shown} {context().idempotency_key}")
    if getattr(item, "name", "") == "last" and not Path("go on").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return str(shown)


@node(each=F.items, writes=F.results)
def each(item: Item) -> str:
    return pay(item)


class Batch(BatchNode[Item, str, str]):
    def prep(self, store: Store[State]) -> list[Item]:
        return list(store.state.items)

    def exec(self, item: Item) -> str:
        return pay(item)

    def post(self, store: Store[State], prepared: object, results: list[str]) -> str:
        store.state.results = results
        return "default"


class Lazy(Batch):
    """Gives items that cannot be put on record, so that prep runs again."""

    def prep(self, store):
        yield from store.state.items


@node(writes=item(F.texts))
def one(item: Item) -> str:
    return pay(item)


def fan():
    return FanOut(one, each=F.items, as_=F.item, concurrency=1, name="fan")


def inside():
    flow = Flow(fan(), schema=State, flow_name="inner")
    return Subflow(flow, inputs=[bind(F.items).to(F.items)], outputs=[bind(F.results).to(F.texts)])


def paid_call(item: Item) -> str:
    return pay(item)


class Calls(Node):
    """Pays for its items by calls inside of one exec."""

    prep = Batch.prep
    post = Batch.post

    def exec(self, items):
        return [context().call(paid_call, item) for item in items]


def parallel():
    return Parallel(Flow(each, flow_name="one"), name="both")


SHAPES = {
    "each": lambda: each,
    "batch": Batch,
    "lazy": Lazy,
    "fan": fan,
    "subflow": inside,
    "parallel": parallel,
    "calls": Calls,
}


def make(shape):
    return Flow(SHAPES[shape](), schema=State, flow_name="f", db_path="runs.db")


def main(shape):
    flow = make(shape)
    if Path("go on").exists():
        flow.resume("r")
    else:
        flow.run({"items": ITEMS}, run_id="r")


if __name__ == "__main__":
    main(sys.argv[1])
'''

SCRIPT = ("tools/program.py",)
MODULE = ("-c", "import sys, tools.program; tools.program.main(sys.argv[1])")
WAYS = {"script first": (SCRIPT, MODULE), "module first": (MODULE, SCRIPT)}


def start(folder: Path, way: tuple[str, ...], shape: str) -> subprocess.CompletedProcess[str]:
    """Run the program to its end."""
    command = [sys.executable, "-W", "error", *way, shape]
    environment = os.environ | {"PYTHONHASHSEED": "random", "PYTHONDONTWRITEBYTECODE": "1"}
    found = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment["PYTHONPATH"] = os.pathsep.join(found)
    return subprocess.run(
        command,
        check=False,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("ways", WAYS.values(), ids=list(WAYS))
@pytest.mark.parametrize("shape", ["each", "batch", "lazy", "fan", "subflow", "parallel", "calls"])
def test_each_item_is_paid_once_and_keeps_its_idempotency_key(
    tmp_path: Path, shape: str, ways: tuple[tuple[str, ...], tuple[str, ...]]
) -> None:
    """What was finished is not called again, what was at work has its key, nothing is remarked."""
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "program.py").write_text(PROGRAM)
    first, second = ways
    assert start(tmp_path, first, shape).returncode == -9
    before = (tmp_path / "notes").read_text().splitlines()
    assert len([line for line in before if line != "validated"]) == 9, before
    (tmp_path / "go on").touch()
    ended = start(tmp_path, second, shape)
    assert ended.returncode == 0, ended.stderr
    after = (tmp_path / "notes").read_text().splitlines()[len(before) :]
    assert after[0] == before[-1]
    assert len(after) == 2, after
    assert ended.stderr == ""
    with WorkflowDB(tmp_path / "runs.db", read_only=True) as db:
        (run,) = db.list_runs()
    assert run["status"] == "completed"
