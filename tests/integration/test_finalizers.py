"""Garbage collection and signal handlers wait for nothing, whatever they interrupt."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

import pocoflow
from pocoflow import Flow, Node, WorkflowDB
from pocoflow.cleanup import finish
from pocoflow.db.connection import Connection
from pocoflow.nodes.context import Cancellation

GARBAGE = """
import faulthandler, gc, os, sys, threading
from pocoflow import Flow, Node, WorkflowDB
faulthandler.dump_traceback_later(100, exit=True)


class Request:
    pass


class Step(Node):
    def post(self, store, prepared, result):
        store["n"] += 1
        return "again" if store["n"] < 40 else "done"


def flow(path):
    step = Step()
    step.then("again", step)
    return Flow(step, db_path=path)


def in_a_cycle(**things):
    request = Request()
    request.me, request.things = request, things


def leave_garbage():
    in_a_cycle(db=WorkflowDB("old.db"))
"""


def run(code: str, folder: Path) -> str:
    """What a program prints."""
    done = subprocess.run(
        [sys.executable, "-c", GARBAGE + textwrap.dedent(code)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(pocoflow.__file__).parents[1])},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    "garbage",
    [
        "in_a_cycle(db=WorkflowDB('old.db'))",
        "in_a_cycle(db=WorkflowDB('new.db'))",
        "in_a_cycle(db=WorkflowDB('new.db', read_only=True))",
        "in_a_cycle(flow=flow('new.db'))",
        "s = flow('old.db').stream({'n': 30}); next(s); in_a_cycle(stream=s); del s",
        "h = flow('old.db').run_background({'n': 39}); in_a_cycle(handle=h); h.wait(); del h",
    ],
)
def test_a_collection_at_any_instant_ends(tmp_path: Path, garbage: str) -> None:
    """A collection in the middle of what holds locks finalizes databases, streams and handles."""
    code = f"""
    WorkflowDB("new.db").close()
    gc.disable()

    def leave_garbage():
        {garbage}

    def collecting(owner, name):
        real, busy = getattr(owner, name), []

        def collect(*arguments):
            if not busy:
                busy.append(1)
                gc.collect()
                busy.clear()
            return real(*arguments)

        setattr(owner, name, collect)

    class Now(Step):
        def exec(self, prepared):
            if len(left) < 3:
                left.append(1)
                leave_garbage()

    left, now = [], Now()
    now.then("again", now)
    leave_garbage()
    collecting(threading.Thread, "_bootstrap_inner")
    collecting(sys.modules["pocoflow.db.sqlite"].SQLiteConnection, "_check_files")
    collecting(sys.modules["pocoflow.db.locks"]._LockFile, "renew")
    print(Flow(now, db_path="new.db").run({{"n": 0}})["n"])
    """
    assert run(code, tmp_path) == "40"


def test_a_program_that_collects_all_the_time_ends(tmp_path: Path) -> None:
    """With a collection every few allocations, runs that leave databases behind go on."""
    code = """
    def work():
        leave_garbage()
        flow("new.db").run({"n": 30})

    gc.set_threshold(50, 2, 2)
    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gc.set_threshold(700, 10, 10)
    with WorkflowDB("new.db") as db:
        print([run["status"] for run in db.list_runs()])
    """
    assert run(code, tmp_path) == "['completed', 'completed', 'completed']"


def test_what_is_garbage_is_closed(tmp_path: Path) -> None:
    """A database that nobody has any more is closed before long, its log and lock file with it."""
    path = tmp_path / "runs.db"
    flow: Flow = Flow(Node(), db_path=path)
    flow.run()
    assert path.with_name("runs.db-wal").exists()
    del flow
    gc.collect()
    finish()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["runs.db", "runs.db-lock"]


def test_a_program_that_ends_closes_its_databases(tmp_path: Path) -> None:
    """Databases that were never closed are closed at the end of the program."""
    code = """
    kept = flow("new.db")
    kept.run({"n": 39})
    gc.disable()
    in_a_cycle(flow=kept)
    """
    run(code, tmp_path)
    names = {file.name for file in tmp_path.iterdir()}
    assert not any(name.endswith(("-wal", "-shm")) for name in names), names


def test_a_finalizer_takes_no_lock(tmp_path: Path) -> None:
    """A database is collected while another thread is in a transaction of it."""
    db = WorkflowDB(tmp_path / "runs.db")
    inside, go = threading.Event(), threading.Event()

    def write(connection: Connection = db.connection) -> None:
        with db_transaction(connection):
            inside.set()
            assert go.wait(60)

    thread = threading.Thread(target=write)
    thread.start()
    assert inside.wait(60)
    del db
    gc.collect()  # returns, although the transaction is open
    go.set()
    thread.join()
    finish()


def db_transaction(connection: Connection) -> AbstractContextManager[object]:
    """The transaction of a connection."""
    return connection.transaction()


def test_a_request_to_cancel_may_come_in_the_middle_of_another(tmp_path: Path) -> None:
    """A signal handler asks a run to stop while its thread registers what ends a wait."""
    code = """
    import signal
    from pocoflow.nodes.context import Cancellation

    asked = []
    signal.signal(signal.SIGALRM, lambda *_: asked.append(current.request()))
    signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
    while len(asked) < 300:
        current = Cancellation()
        called = []
        for number in range(20):
            one = lambda: called.append(1)
            current.add_callback(one)
            current.remove_callback(one)
    signal.setitimer(signal.ITIMER_REAL, 0)
    print("ended")
    """
    assert run(code, tmp_path) == "ended"


def test_a_write_in_the_middle_of_a_commit_leaves_it_alone(tmp_path: Path) -> None:
    """What interrupts a run, wherever that is in SQLite, writes an event or is told otherwise."""
    code = """
    from pocoflow.errors import DatabaseError

    def interrupt(frame, event, function):
        if event == "c_return" and function.__name__ == "execute":
            sys.setprofile(None)
            try:
                db.save_event("log", "tick")
            except DatabaseError as exc:
                assert "in the middle of a commit" in str(exc), exc
                refused.append(1)
            else:
                written.append(1)
            sys.setprofile(interrupt)

    def work():
        sys.setprofile(interrupt)
        one.run({"n": 20})
        sys.setprofile(None)

    written, refused = [], []
    db = WorkflowDB("new.db")
    db.create_run("log")
    one = flow(db)
    work()
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert written and refused
    assert len(db.get_events("log")) == len(written)
    print([(run["status"], run["total_steps"]) for run in db.list_runs()][:2])
    """
    assert run(code, tmp_path) == "[('completed', 20), ('completed', 20)]"


@pytest.mark.parametrize("first", ["add", "request"])
def test_what_ends_a_wait_is_called_once(first: str) -> None:
    """Whether it is registered before or after the request, a callback is called once."""
    cancellation, called = Cancellation(), list[int]()
    steps: list[Callable[[], object]] = [
        lambda: cancellation.add_callback(lambda: called.append(1)),
        cancellation.request,
    ]
    for step in steps if first == "add" else reversed(steps):
        step()
    cancellation.request()
    assert called == [1]
