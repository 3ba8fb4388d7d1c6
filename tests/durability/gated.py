"""A flow in a process of its own that waits in each ``exec`` for the word of a test.

``python -m tests.durability.gated SHAPE FILE [resume|recover]`` prints ``at N`` in the ``exec`` of
step N and reads a line of its standard input: ``go`` lets it return, ``fail`` lets it raise, and
any other word is a deed that it does before it reads on. The last line that it prints is
``completed``, or the name and the text of the error that ended the run.
"""

from __future__ import annotations

import io
import os
import shutil
import signal
import sqlite3
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from pocoflow import (
    AskNode,
    AsyncNode,
    BatchNode,
    Flow,
    Node,
    Parallel,
    Question,
    Store,
    WorkflowDB,
)

LAST = 7
"""The last step."""


def say(word: str) -> None:
    """Print a line for the test."""
    print(word, flush=True)


# -- deeds ----------------------------------------------------------------------------------------


def read(path: Path) -> None:
    """Read every file of the folder, as a node does that ingests it."""
    for file in path.parent.rglob("*"):
        if file.is_file():
            file.read_bytes()


def read_in_thread(path: Path) -> None:
    """The same in another thread."""
    thread = threading.Thread(target=read, args=(path,))
    thread.start()
    thread.join()


def copy_folder(path: Path) -> None:
    """Back the folder up."""
    shutil.copytree(path.parent, path.parent.parent / "backup", dirs_exist_ok=True)


def pack(path: Path) -> None:
    """Put the folder into an archive."""
    with tarfile.open(fileobj=io.BytesIO(), mode="w") as archive:
        archive.add(path.parent)


def touch(path: Path) -> None:
    """Open and close each file for writing, without writing."""
    for file in path.parent.iterdir():
        os.close(os.open(file, os.O_RDWR))


def connect(path: Path) -> None:
    """Look into the database with plain sqlite3."""
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("SELECT count(*) FROM pf_runs").fetchone()


def open_again(path: Path) -> None:
    """Open and close the database a second time in the process of the run."""
    with WorkflowDB(path) as db:
        db.list_runs()


def fork(path: Path) -> None:
    """Leave a child behind that outlives this process."""
    if (child := os.fork()) == 0:
        os.close(0)
        os.close(1)
        os.close(2)
        time.sleep(60)
        os._exit(0)
    say(f"child {child}")


def fork_and_go_on(path: Path) -> None:
    """Let a child return from the node as well, as one does that forgets to exit."""
    child = os.fork()
    if child:
        assert os.waitpid(child, 0) == (child, 0)
    else:
        Gate.in_child = True


DEEDS: dict[str, Callable[[Path], None]] = {
    deed.__name__: deed
    for deed in (
        read, read_in_thread, copy_folder, pack, touch, connect, open_again, fork, fork_and_go_on
    )
}  # fmt: skip


# -- shapes ---------------------------------------------------------------------------------------


class Gate:
    """Where the flow waits.

    Attributes:
        path: The database.
        in_child: Whether this is a child that goes on, which the test does not speak to.
    """

    path = Path()
    in_child = False

    @classmethod
    def wait(cls, n: object) -> None:
        """Wait for the test's word."""
        say(f"at {n}")
        for line in sys.stdin:
            word = line.strip()
            if word == "go":
                return
            if word == "fail":
                raise ValueError("the test says so")
            DEEDS[word](cls.path)
            if cls.in_child:
                return
            say("done")
        os._exit(3)


class Step(Node[int, int, str]):
    """One step of many."""

    def prep(self, store: Store[Any]) -> int:
        return int(store["n"])

    def exec(self, n: int) -> int:
        Gate.wait(n)
        return n

    def post(self, store: Store[Any], n: int, got: int) -> str:
        store["n"] = n + 1
        store["log"].append(got)
        return "again" if n < LAST else "done"


class Unjournaled(Step):
    """A step whose result is not journaled."""

    journal = False


class Retried(Step):
    """A step that is tried twice."""

    max_retries = 2


class Async(AsyncNode[int, int, str]):
    """An asynchronous step."""

    async def prep(self, store: Store[Any]) -> int:
        return int(store["n"])

    async def exec(self, n: int) -> int:
        Gate.wait(n)
        return n

    async def post(self, store: Store[Any], n: int, got: int) -> str:
        return Step.post(Step(), store, n, got)


class Batch(BatchNode[int, int, str]):
    """Each item is paid for."""

    def prep(self, store: Store[Any]) -> Iterable[int]:
        return range(LAST + 1)

    def exec(self, n: int) -> int:
        Gate.wait(n)
        return n

    def post(self, store: Store[Any], items: Iterable[int], got: list[int]) -> str:
        store["log"].extend(got)
        return "done"


class Ask(AskNode[bool, str]):
    """Asks at its third step."""

    def prep(self, store: Store[Any]) -> Question:
        Gate.wait("ask")
        return Question("go on?")

    def post(self, store: Store[Any], question: Question, answer: bool) -> str:
        return "done"


def looping(node: Any) -> Any:
    """A node that comes again and again."""
    return node.then("again", node)


def flow(shape: str, path: Path) -> Flow[Any]:
    """The flow of a shape."""
    start: Any
    match shape:
        case "batch":
            start = Batch()
        case "ask":
            start = Ask()
        case "branches":
            start = Parallel(looping(Step()), name="both")
        case "nested":
            start = Flow(start=looping(Step()), flow_name="inner")
        case _:
            kinds = {"step": Step, "unjournaled": Unjournaled, "retried": Retried, "async": Async}
            start = looping(kinds[shape]())
    return Flow(start=start, flow_name=shape, db_path=path, max_steps=1000)


def main(shape: str, file: str, how: str = "run") -> None:
    """Run the flow, or go on with it; not for ever, if nobody says a word any more."""
    signal.alarm(60)
    Gate.path = Path(file)
    made = flow(shape, Gate.path)
    try:
        if how == "recover":
            say(f"found {len(made.recover())}")
        elif how == "resume":
            made.resume("r")
        else:
            made.run_id = "r"
            made.run({"n": 0, "log": []})
    except Exception as exc:  # noqa: BLE001 - the test looks at it
        text = f"{type(exc).__name__}: {exc}"
        if Gate.in_child:
            (Gate.path.parent / "child").write_text(text)
            os._exit(0)
        say(text)
    else:
        if Gate.in_child:
            os._exit(1)
        say("completed")


if __name__ == "__main__":
    main(*sys.argv[1:])
