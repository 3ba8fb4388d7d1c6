"""The programs that the tests of this folder start: ``python programs.py NAME ARGUMENTS``.

A program prints a line when it is where the test wants it, and reads a line to go on.
"""

from __future__ import annotations

import asyncio
import ctypes
import multiprocessing
import os
import resource
import signal
import sqlite3
import sys
import threading
import warnings
from collections.abc import Callable
from contextlib import closing
from typing import Any

from pocoflow import Flow, Node, Store, WorkflowDB
from pocoflow.errors import PocoflowError


def say(*words: object) -> None:
    """Tell the test, in one piece: threads of the program tell it things at once."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def hear() -> str:
    """Wait for the test; an empty string at the end of the input.

    Not through sys.stdin: an interpreter that leaves while a thread reads it is aborted.
    """
    line = b""
    while not line.endswith(b"\n"):
        some = os.read(0, 1)
        if not some:
            break
        line += some
    return line.decode().strip()


class Count(Node[None, None, str]):
    """Counts a step in the store and goes on."""

    def post(self, store: Store[Any], prep: None, result: None) -> str:
        store["n"] = store.get("n", 0) + 1
        return "go"


class Act(Node[None, None, str]):
    """Calls a function in exec."""

    def __init__(self, act: Callable[[], object]) -> None:
        super().__init__(name="Middle")
        self.act = act

    def exec(self, prep: None) -> None:
        self.act()

    def post(self, store: Store[Any], prep: None, result: None) -> str:
        store["n"] += 1
        return "go"


class AsyncAct(Node[None, None, str]):
    """Awaits for ever in exec, once it has told the test that it does."""

    def __init__(self) -> None:
        super().__init__(name="Middle")

    async def exec(self, prep: None) -> None:
        say("in exec")
        await asyncio.Event().wait()


def three(
    path: str | WorkflowDB | None, middle: Node[Any, Any, Any], run_id: str = "r"
) -> Flow[Any]:
    """First, what the test wants, Last; told is what the hooks print."""
    first, last = Count(name="First"), Count(name="Last")
    first.then("go", middle)
    middle.then("*", last)
    flow: Flow[Any] = Flow(start=first, db_path=path, flow_name="three", run_id=run_id)
    flow.on("node_error", lambda name, exc, store: say("hook node_error"))
    flow.on("flow_error", lambda exc, store: say("hook flow_error"))
    flow.on("flow_end", lambda steps, store: say("hook flow_end"))
    flow.on("flow_cancelled", lambda steps, store: say("hook flow_cancelled"))
    return flow


def outcome(run: Callable[[], object]) -> None:
    """Run, and print what the caller gets."""
    try:
        run()
    except BaseException as exc:  # noqa: BLE001 - printed
        say("raised", type(exc).__name__)
    else:
        say("returned")


def wait_in_exec() -> None:
    """Tell the test, and wait for it."""
    say("in exec")
    hear()


def hang(path: str) -> None:
    """A run that waits in exec of its second node."""
    outcome(lambda: three(path, Act(wait_in_exec)).run({}))


def hang_beside_a_fork_of_c(path: str) -> None:
    """The same, once a process was forked that Python does not know of."""

    def fork_and_wait() -> None:
        pid = ctypes.CDLL(None).fork()
        if not pid:
            while True:
                signal.pause()
        say("forked", pid)
        hear()

    outcome(lambda: three(path, Act(fork_and_wait)).run({}))


def hang_with_lease(url: str, seconds: str) -> None:
    """The same on a server, under a lease of so many seconds."""
    with WorkflowDB(url, lease=float(seconds)) as db:
        outcome(lambda: three(db, Act(wait_in_exec)).run({}))


def stand_in_transaction(url: str, seconds: str) -> None:
    """Waits in a transaction that locks the schema, and would write."""

    def write() -> None:
        with WorkflowDB(url, lease=float(seconds)) as db, db.connection.transaction() as raw:
            raw.execute("UPDATE pf_run SET flow_name = 'stood'").fetchall()
            say("in transaction")
            hear()

    outcome(write)


def hang_async(path: str) -> None:
    """An asynchronous run that awaits in exec of its second node, under asyncio.run."""
    outcome(lambda: asyncio.run(three(path, AsyncAct()).run_async({})))


def hang_in_retry(path: str) -> None:
    """A run that waits between two attempts, for an hour."""

    def fail() -> None:
        raise OSError("not yet")

    node = Act(fail)
    node.max_retries, node.retry_delay = 2, 3600.0
    flow = three(path, node)
    flow.on("node_retry", lambda name, attempt, exc, store: say("in retry"))
    outcome(lambda: flow.run({}))


def hang_in_await(path: str) -> None:
    """A synchronous run that awaits in exec of its second node."""
    outcome(lambda: three(path, AsyncAct()).run({}))


def hang_in_background(path: str) -> None:
    """A run in the background, and a main thread that waits for it."""
    handle = three(path, Act(wait_in_exec)).run_background({})

    def wait() -> None:
        say("in wait")
        handle.wait()

    outcome(wait)


def leave(path: str, how: str) -> None:
    """A run in the background of an interpreter that leaves."""
    inside = threading.Event()

    def block() -> None:
        inside.set()
        threading.Event().wait()

    handle = three(path, Act(block)).run_background({})
    inside.wait()
    say(handle.status)
    if how == "exit":
        sys.exit(3)
    if how == "raise":
        raise PocoflowError("the main thread fails")


def die(path: str, how: str) -> None:
    """A run whose node ends the process without a word."""

    def end() -> None:
        say("in exec")
        if how == "_exit":
            os._exit(7)
        os.kill(os.getpid(), signal.SIGSEGV if how == "crash" else signal.SIGTERM)

    three(path, Act(end)).run({})


def fork(path: str, how: str) -> None:
    """A run whose node starts a process that lives on; it ends when the test closes its input."""
    descriptor = os.dup(0)

    def live_on() -> None:
        say("child", os.getpid())
        os.read(descriptor, 1)
        os._exit(0)

    def start() -> None:
        if how == "multiprocessing":
            multiprocessing.get_context("fork").Process(target=live_on).start()
        elif os.fork() == 0:
            live_on()
        signal.pause()

    three(path, Act(start)).run({})


def fork_and_use(path: str) -> None:
    """A forked child reads and writes the database that its parent has open, then the parent."""
    flow = three(path, Act(lambda: None), "parent-1")
    flow.run({})
    asyncio.run(three(path, Act(lambda: None), "parent-2").run_async({}))
    with WorkflowDB(path) as db:
        with warnings.catch_warnings():
            # Newer Pythons warn of what this program is about: threads and fork.
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            flow.run_id = "child-1"
            flow.run({})
            asyncio.run(three(path, Act(lambda: None), "child-2").run_async({}))
            say("child sees", len(db.list_runs()))
            del flow, db
            sys.exit(0)
        _, status = os.waitpid(child, 0)
        say("child ended", status)
        flow.run_id = "parent-3"
        flow.run({})
        say("parent sees", len(db.list_runs()))


class AwaitAndFork(Node[None, None, str]):
    """Awaits, forks, and waits for the child, which leaves in some way or goes on; then awaits."""

    def __init__(self, how: str) -> None:
        super().__init__(name="Middle")
        self.how = how

    async def prep(self, store: Store[Any]) -> None:
        """Begins the loop."""

    def exec(self, prep: None) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child:
            say("child ended", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        elif self.how == "exit":
            sys.exit(3)
        elif self.how == "raise":
            raise PocoflowError("in the child")

    async def post(self, store: Store[Any], prep: None, result: None) -> str:
        return "go"


class ForkOnLoop(Node[None, None, str]):
    """Forks in the thread of the loop, and waits for the child."""

    def __init__(self, how: str) -> None:
        super().__init__(name="Middle")
        self.fork = AwaitAndFork(how)

    async def exec(self, prep: None) -> None:
        self.fork.exec(prep)

    def post(self, store: Store[Any], prep: None, result: None) -> str:
        return "go"


def fork_on_the_loop(path: str, how: str) -> None:
    """A run that forks where it awaits: nobody in the child waits for what comes of it."""
    outcome(lambda: three(path, ForkOnLoop(how)).run({}))


def fork_in_a_node(path: str, how: str) -> None:
    """A run that forks after it has awaited; both sides tell how it ends for them."""
    outcome(lambda: three(path or None, AwaitAndFork(how)).run({}))


def looks(path: str) -> None:
    """Another program that looks at the runs."""
    with WorkflowDB(path) as db:
        for run in db.list_runs():
            say(run["run_id"], run["status"])


def lock(path: str) -> None:
    """Another program that keeps the database locked until it is told to stop."""
    hear()
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("BEGIN IMMEDIATE")
        say("locked")
        hear()
        raw.execute("ROLLBACK")
        say("unlocked")


def full(path: str) -> None:
    """A run for whose second step there is no room: no file of this process may grow any more."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (os.path.getsize(path + "-wal"), before[1]))

    outcome(lambda: three(path, Act(limit)).run({}))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


class Loop(Count):
    """Counts until the store says that it is enough."""

    def post(self, store: Store[Any], prep: None, result: None) -> str:
        super().post(store, prep, result)
        store["seen"].append(store["n"])
        return "go" if store["n"] < store["steps"] else "done"


def work(path: str, worker: str, runs: str, steps: str, synchronous: Any) -> None:
    """Many runs into one file, each of a flow of its own."""
    say("ready")
    hear()
    for number in range(int(runs)):
        with WorkflowDB(path, synchronous=synchronous) as db:
            node = Loop(name="Step")
            node.then("go", node).then("done", Count(name="End"))
            flow: Flow[Any] = Flow(node, db_path=db, flow_name=worker, run_id=f"{worker}-{number}")
            flow.run({"n": 0, "steps": int(steps) - 1, "worker": worker, "seen": []})
    say("done")


if __name__ == "__main__":
    # A shell that runs the tests in the background has it ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    globals()[sys.argv[1]](*sys.argv[2:])
