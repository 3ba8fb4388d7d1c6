"""Runs on a PostgreSQL server: the same as in a file, whichever process or host they are on."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

import pocoflow
from pocoflow import (
    AskNode,
    Flow,
    Node,
    Parallel,
    Question,
    RunPaused,
    Store,
    WorkflowDB,
    cli,
    context,
)
from pocoflow.db import process_forks
from pocoflow.db.due import Limits, due_runs
from pocoflow.db.port import Transaction
from pocoflow.errors import (
    CheckpointNotFoundError,
    DatabaseBusyError,
    DatabaseError,
    DatabaseFileError,
    DatabaseLostError,
    DefinitionError,
    RunCancelled,
    RunExistsError,
    RunLostError,
)
from pocoflow.events import FlowEnded, NodeEnded
from pocoflow.flow.worker import Worker
from pocoflow.views.targets import page_arguments
from tests import commands
from tests.durability.outages import Cut, ImpossibleError
from tests.integration.programs import Act, three
from tests.rows import row_of, valid
from tests.servers import Server, running
from tests.unit.clocks import set_clock
from tests.waiting import wait_for

if TYPE_CHECKING:
    from tests.integration.conftest import Start

psycopg = pytest.importorskip("psycopg")

DEADLINE = 60.0


def poll(reached: Callable[[], bool]) -> None:
    """Wait until something is so."""
    wait_for(reached, "it was not so", DEADLINE)


def is_interrupted(db: WorkflowDB, run_id: str = "r") -> bool:
    """Whether a run reads as one whose process is gone."""
    return row_of(db, run_id)["error_type"] == "Interrupted"


class Count(Node[int, int, str]):
    """Counts to what the store says."""

    def prep(self, store: Store[Any]) -> int:
        return int(store["n"])

    def exec(self, n: int) -> int:
        return n + 1

    def post(self, store: Store[Any], n: int, more: int) -> str:
        store["n"] = more
        store["log"] = [*store["log"], f"step {n}"]
        return "again" if more < store["until"] else "done"


def counting(db: str | WorkflowDB, **facts: Any) -> Flow[Any]:
    """A flow that counts."""
    node = Count()
    flow: Flow[Any] = Flow(node, db_path=db, flow_name="counting", **facts)
    return flow.then(node.when("again"), node).then(node.when("done"), pocoflow.END)


# -- as in a file ---------------------------------------------------------------------------------


def test_the_documented_tables_are_there_for_sql(server: Server) -> None:
    """Runs, events and checkpoints have the columns and texts that they have in a file."""
    found = []
    url = server.url()
    for path in (url, ":memory:"):
        with WorkflowDB(path) as db:
            counting(db, run_id="r").run({"n": 0, "until": 3, "log": []})
            tables = {
                "pf_runs": "status, total_steps, current_node",
                "pf_events": "id, step, node_name, event, action, attempt, path",
            }
            rows: dict[str, list[Any]] = {
                name: [tuple(row) for row in db.connection.rows(f"SELECT {columns} FROM {name}")]
                for name, columns in tables.items()
            }
            rows["pf_checkpoints"] = [
                [row[name] for name in ("id", "step", "node_name", "store_json")]
                for row in db.get_checkpoints("r")
            ]
            found.append(rows)
    assert found[0] == found[1]
    with psycopg.connect(url) as connection:
        shown = connection.execute("SELECT step, store_json FROM pf_checkpoints ORDER BY step")
        texts = dict(shown.fetchall())
    assert json.loads(texts[1])["log"] == ["step 0", "step 1"]


class Talks(Node[None, str, str]):
    """Emits, makes a call that emits, and one that fails."""

    is_down = True

    def exec(self, prep_result: None) -> str:
        context().emit("begins")
        text = context().call(speak, "the tide turns")
        return context().call(self.publish, text)

    def publish(self, text: str) -> str:
        if self.is_down:
            raise ConnectionError("cut")
        return text


def speak(text: str) -> str:
    """A call that emits."""
    context().emit(text)
    return text


def test_what_was_emitted_before_a_resume_is_void_but_in_calls_on_record(server: Server) -> None:
    """A run goes on that emitted values in a step that is not finished."""
    node = Talks()
    with WorkflowDB(server.url()) as db:
        flow: Flow[Any] = Flow(node, db_path=db, record_emitted=True)
        with pytest.raises(ConnectionError, match="cut"):
            flow.run({}, run_id="r")
        node.is_down = False
        ended = list(flow.follow("r"))
        flow.resume("r")
        followed = [*ended, *flow.follow("r", after=ended[-1].number)]
        assert sorted(map(str, valid(followed))) == ["begins", "the tide turns"]


def test_runs_of_many_threads_are_kept_apart(server: Server) -> None:
    """Eight runs at once of one object, each with its own log."""
    with WorkflowDB(server.url()) as db:
        flow = counting(db)
        handles = [flow.run_background({"n": 0, "until": 10, "log": []}) for _ in range(8)]
        stores = [one.wait(DEADLINE) for one in handles]
        assert [store["n"] for store in stores] == [10] * 8
        for handle in handles:
            steps = [row["step"] for row in db.get_checkpoints(handle.run_id)]
            assert steps == list(range(10))


def test_what_cannot_be_stored_is_named(server: Server) -> None:
    """A character that the server has no room for is told as what it is."""
    with WorkflowDB(server.url()) as db:
        with pytest.raises(DefinitionError, match="NUL character"):
            db.create_run("a\0b")
        assert db.get_run("a\0b") is None
        db.create_run("a")
        with pytest.raises(RunExistsError):
            db.create_run("a")
        store = counting(db, run_id="r").run({"n": 0, "until": 1, "log": ["a\0b"]})
        assert db.load_checkpoint("r", 0)["log"] == store["log"]


@pytest.mark.parametrize(
    "labels", [{"user": "\ud800"}, {"user": "ann", "of": "a\0b"}, {"user": "ann", "\ud800": ""}]
)
def test_what_no_database_holds_is_found_in_none(server: Server, labels: dict[str, str]) -> None:
    """Labels and steps that cannot be there match nothing, on a server as in a file."""
    for path in (server.url(), ":memory:"):
        with WorkflowDB(path) as db:
            counting(db).run({"n": 0, "until": 1, "log": []}, run_id="r", labels={"user": "ann"})
            assert db.list_runs(labels=labels) == db.list_runs(labels=labels, thread="t") == []
            assert db.prune(keep=0, labels=labels) == 0
            with pytest.raises(CheckpointNotFoundError, match="it has steps 0 to 0"):
                db.load_checkpoint("r", 2**70)


def test_what_is_read_of_a_run_is_the_same_text_as_in_a_file(server: Server) -> None:
    """Labels have the order of their names, and what could not be stored has one form."""
    found = []
    for path in (server.url(), ":memory:"):
        with WorkflowDB(path) as db:
            labels = {"user": "ann", "kind": "letter", "z": "1", "a": "x"}
            flow = Flow(Node(), db_path=db)
            flow.run({"lock": threading.Lock()}, run_id="r", labels=labels)
            found.append((json.dumps(row_of(db, "r")["labels"]), db.store_json("r", 0)))
    assert found[0] == found[1]


def test_an_error_text_with_a_nul_character_is_on_record(server: Server) -> None:
    """It is written as its escape, as no text on the server can hold it."""

    def fail() -> None:
        raise ValueError("a\0b")

    with WorkflowDB(server.url()) as db, pytest.raises(ValueError, match="a"):
        three(db, Act(fail)).run({})
    with WorkflowDB(db.path) as db:
        assert row_of(db, "r")["error_msg"] == "a\\x00b"


def test_a_database_that_is_only_read_is_left_as_it_is(server: Server) -> None:
    """Nothing is made to look at it, and nothing is written."""
    url = server.url()
    with pytest.raises(DatabaseFileError, match="is empty"):
        WorkflowDB(url, read_only=True)
    with WorkflowDB(url) as db:
        counting(db, run_id="r").run({"n": 0, "until": 2, "log": []})
    with WorkflowDB(url, read_only=True) as db:
        assert row_of(db, "r")["status"] == "completed"
        assert [one.event for one in db.follow("r")][-1] == FlowEnded("r", "counting", 2)
        with pytest.raises(DatabaseFileError, match="read-only"):
            db.create_run("s")


def test_a_user_that_may_only_read_is_enough_to_look(server: Server) -> None:
    """With the rights that the documentation names."""
    url = server.url("%22Shown%22")
    with WorkflowDB(url) as db:
        counting(db, run_id="r").run({"n": 0, "until": 2, "log": []})
    server.execute(
        "CREATE ROLE reader LOGIN",
        'GRANT USAGE ON SCHEMA "Shown" TO reader',
        'GRANT SELECT ON ALL TABLES IN SCHEMA "Shown" TO reader',
    )
    with WorkflowDB(server.url("%22Shown%22", user="reader"), read_only=True) as db:
        assert db.load_checkpoint("r", 1)["n"] == 2
    with (
        WorkflowDB(server.url("%22Shown%22", user="reader")) as db,
        pytest.raises(
            DatabaseFileError,
            match=r'allow.*GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA "Shown"',
        ),
    ):
        db.create_run("s")


def test_who_may_not_use_the_schema_is_told_how_that_is_granted(server: Server) -> None:
    """The schema, the user and the statement are named, and the statement helps."""
    with WorkflowDB(server.url("closed")) as db:
        db.create_run("r")
    server.execute("CREATE ROLE outsider LOGIN")
    url, grant = server.url("closed", user="outsider"), "GRANT USAGE ON SCHEMA closed TO outsider"
    for read_only in (True, False):
        with pytest.raises(DatabaseFileError, match="user 'outsider'") as caught:
            WorkflowDB(url, read_only=read_only)
        assert grant.replace("closed", '"closed"').replace("outsider", '"outsider"') in str(
            caught.value
        )
    server.execute(grant, "GRANT SELECT ON ALL TABLES IN SCHEMA closed TO outsider")
    with WorkflowDB(url, read_only=True) as db:
        assert row_of(db, "r")["run_id"] == "r"


def test_a_schema_is_made_once_by_many_that_begin_at_once(server: Server) -> None:
    """Whoever comes second finds it."""
    url = server.url()
    found: list[str] = []

    def begin() -> None:
        with WorkflowDB(url) as db:
            found.append(counting(db).run_background({"n": 0, "until": 2, "log": []}).run_id)

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(DEADLINE)
    assert len(set(found)) == 8


@pytest.mark.parametrize(
    ("path", "schema"),
    [
        ("reports", "reports"),
        ("Reports, public", "reports"),
        ('"A,b", public', "A,b"),
        ('"a""b"', 'a"b'),
        ("select", "select"),
        ("a.b", "a.b"),
        ("n" * 70, "n" * 63),
        ("$user,public", "pocoflow"),
        ('"$user", team', "team"),
        ('"$user"', "tester"),
        ('"$user", team', "tester"),
    ],
)
def test_a_schema_is_named_as_the_server_reads_a_search_path(
    server: Server, path: str, schema: str
) -> None:
    """In quotes, with commas and dots, and by the user, whose own one counts if it is there."""
    url = server.url(quote(path.replace(" ", "\\ ")))
    for _ in range(2):
        with WorkflowDB(url) as db:
            counting(db).run({"n": 0, "until": 1, "log": []})
    there = f"SELECT 1 FROM pg_tables WHERE tablename = 'pf_run' AND schemaname = '{schema}'"
    assert server.execute(there) == [(1,)]


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("", "its search path is empty"),
        ("pg_temp", "names 'pg_temp' first, which is the server's own"),
        ("a b", "correct what options= of the URL says"),
    ],
)
def test_a_search_path_that_names_no_schema_is_refused(
    server: Server, path: str, told: str
) -> None:
    """With what is wrong in it."""
    with pytest.raises(DatabaseFileError, match=told):
        WorkflowDB(server.url(quote(path.replace(" ", "\\ "))))


# -- several processes ----------------------------------------------------------------------------


def test_a_run_of_a_killed_process_is_taken_over(server: Server, start: Start) -> None:
    """Its lease ends by itself; what it had finished is not executed again."""
    url = server.url()
    child = start("hang_with_lease", url, 0.5)
    assert child.line() == "in exec"
    with WorkflowDB(url) as db:
        assert row_of(db, "r")["status"] == "running"
        child.send(signal.SIGKILL)
        child.wait()
        poll(lambda: is_interrupted(db))
        assert three(db, Act(lambda: None)).resume("r")["n"] == 3
        events = [one.event for one in db.follow("r")]
        nodes = [one.node for one in events if isinstance(one, NodeEnded)]
        assert nodes == ["First", "Middle", "Last"]


def test_a_process_that_was_suspended_past_its_lease_writes_nothing(
    server: Server, start: Start
) -> None:
    """Another one has gone on with its run, to the end; it learns that, and ends."""
    url = server.url()
    child = start("hang_with_lease", url, 0.5)
    assert child.line() == "in exec"
    child.send(signal.SIGSTOP)
    with WorkflowDB(url) as db:
        poll(lambda: is_interrupted(db))
        three(db, Act(lambda: None)).resume("r")
        before = [tuple(row) for row in db.connection.rows("SELECT * FROM pf_log ORDER BY id")]
        child.send(signal.SIGCONT)
        child.tell()
        assert "raised RunLostError" in child.finish()[1]
        after = [tuple(row) for row in db.connection.rows("SELECT * FROM pf_log ORDER BY id")]
        assert after == before
        assert row_of(db, "r")["status"] == "completed"


def test_a_process_that_stands_still_in_a_transaction_holds_nobody_up(
    server: Server, start: Start
) -> None:
    """The server undoes it, so that others begin and resume runs; the process is told that."""
    url = server.url()
    with WorkflowDB(url, busy_timeout=DEADLINE) as db:
        db.create_run("r", "before")
        child = start("stand_in_transaction", url, 0.5)
        assert child.line() == "in transaction"
        child.send(signal.SIGSTOP)
        counting(db, run_id="s").run({"n": 0, "until": 1, "log": []})
        child.send(signal.SIGCONT)
        child.tell()
        assert child.line() == "raised DatabaseLostError"
        assert row_of(db, "r")["flow_name"] == "before"


@pytest.mark.slow
@pytest.mark.usefixtures("server")
def test_a_process_that_is_cut_off_in_a_transaction_holds_nobody_up_for_long(
    start: Start,
) -> None:
    """The server notices that it is not there, and undoes what it was writing."""
    with running() as one, ExitStack() as stack:
        cut = Cut(stack)
        try:
            near, far = cut.prepare(one)
        except ImpossibleError as exc:
            pytest.skip(str(exc))
        with WorkflowDB(near, busy_timeout=120) as db:
            db.create_run("r", "before")
            child = start("stand_in_transaction", far, 100, through=cut.command())
            assert child.line() == "in transaction"
            cut.begin([])
            began = time.monotonic()
            db.create_run("s")
            assert time.monotonic() - began < 60
            cut.end()
            child.tell()
            assert child.line() == "raised DatabaseLostError"


def test_a_living_process_keeps_its_run(server: Server, start: Start) -> None:
    """For many times its lease, as it says that it is there."""
    url = server.url()
    child = start("hang_with_lease", url, 3)
    assert child.line() == "in exec"
    with WorkflowDB(url) as db:
        until = time.monotonic() + 9
        poll(lambda: time.monotonic() > until or is_interrupted(db))
        assert row_of(db, "r")["status"] == "running"
        assert three(db, Act(lambda: None)).recover() == {}
    child.tell()
    assert child.line() == "hook flow_end"


def test_a_run_of_another_process_is_followed_and_cancelled(server: Server, start: Start) -> None:
    """Its events come as they are committed; a request to stop is heard after the step."""
    url = server.url()
    child = start("hang_with_lease", url, 15)
    assert child.line() == "in exec"
    with WorkflowDB(url) as db:
        seen: list[str] = []

        def follow() -> None:
            with WorkflowDB(url) as other:
                seen.extend(type(one.event).__name__ for one in other.follow("r"))

        thread = threading.Thread(target=follow)
        thread.start()
        assert db.request_cancel("r")
        child.tell()
        assert child.line() == "hook flow_cancelled"
        thread.join(DEADLINE)
        begun = ["FlowStarted", "NodeStarted", "NodeEnded", "NodeStarted"]
        assert seen == [*begun, "NodeEnded", "NodeStarted", "FlowCancelled"]
        assert row_of(db, "r")["status"] == "cancelled"


@pytest.mark.parametrize("is_set", ["before", "while"])
def test_clocks_of_hosts_do_not_matter(
    server: Server, monkeypatch: pytest.MonkeyPatch, is_set: str
) -> None:
    """What a host writes whose clock is wrong, or is set meanwhile, has the time of the server."""
    url = server.url()
    with monkeypatch.context() as wrong:
        if is_set == "before":
            set_clock(wrong, "2030-01-01T00:00:00+00:00")
        with WorkflowDB(url) as db:
            set_clock(wrong, "2031-01-01T00:00:00+00:00")
            counting(db).submit({"n": 0, "until": 1, "log": []}, run_id="queued", delay=0.01)
            counting(db, run_id="r").run({"n": 0, "until": 1, "log": []})
    with WorkflowDB(url) as db:
        times = [one["ts"] for one in db.get_events("r")]
        assert all(time < "2030" for time in times), times
        assert times == sorted(times)
        poll(lambda: bool(due_runs(db, ["counting"], Limits(), 10)))
        counting(db).carry_on("queued")
        assert row_of(db, "queued")["status"] == "completed"


def test_a_replica_is_a_server_that_is_not_there() -> None:
    """Until it is promoted; it is read all the same."""
    with running() as one:
        url = one.url()
        with WorkflowDB(url) as db:
            db.create_run("r")
        one.stop()
        (one.folder / "data" / "standby.signal").touch()
        one.start()
        with pytest.raises(DatabaseLostError, match=r"hot standby mode.*until it is promoted"):
            WorkflowDB(url)
        with WorkflowDB(url, read_only=True) as db:
            assert row_of(db, "r")["run_id"] == "r"
        one.execute("SELECT pg_promote()")
        with WorkflowDB(url) as db:
            db.create_run("s")


def test_a_role_that_begins_by_reading_only_may_write(server: Server) -> None:
    """What the library writes is told so: the default of a role is no replica."""
    with WorkflowDB(f"{server.url()}%20-cdefault_transaction_read_only%3Don") as db:
        db.create_run("r")


def test_a_role_that_begins_with_another_isolation_writes_as_any_other(server: Server) -> None:
    """Many at once make a schema, and give one run to one of them, whatever a role's default is."""
    url = f"{server.url()}%20-cdefault_transaction_isolation%3Dserializable"
    told: list[str] = []
    begun = threading.Barrier(8)

    def begin() -> None:
        begun.wait(DEADLINE)
        try:
            with WorkflowDB(url) as db:
                counting(db).run({"n": 0, "until": 3, "log": []}, run_id="r", if_exists="join")
        except Exception as exc:  # noqa: BLE001 - what was not to be
            told.append(repr(exc))

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(DEADLINE)
    assert told == []


def test_schedules_go_by_the_clock_of_the_server(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker whose clock is wrong makes the runs that are due, and no others."""
    with monkeypatch.context() as wrong:
        set_clock(wrong, "2030-01-01T00:00:00+00:00")
        with WorkflowDB(server.url()) as db:
            flow = Flow(Node(), flow_name="tick", db_path=db).schedule("each", "* * * * * *")
            Worker(flow).run(until_idle=True)
            poll(lambda: bool(flow.submit_due()))
            assert all(run["run_id"] < "tick.each.2030" for run in db.list_runs())


class Confirm(AskNode[bool]):
    """Asks, and waits for an hour."""

    def prep(self, store: Store[Any]) -> Question[bool]:
        return Question("Sure?", deadline=3600)


def test_people_are_shown_what_is_so_by_the_clock_of_the_server(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A question that can be answered is not shown as one that cannot, whatever a host's clock."""
    monkeypatch.setenv("DATABASE", server.url())
    both = Parallel(Confirm(name="one"), Confirm(name="two"))
    with WorkflowDB(os.environ["DATABASE"]) as db, pytest.raises(RunPaused):
        Flow(both, db_path=db).run({}, run_id="r")
    set_clock(monkeypatch, "2099-01-01T00:00:00+00:00")
    assert cli.main(["questions", "--db-env", "DATABASE"]) == 0
    answer = ["answer", "r", "--question", "1", "--value", "true", "--db-env", "DATABASE"]
    assert cli.main(answer) == 0
    shown = capsys.readouterr().out
    assert "run r is paused: 1 question to be answered" in shown
    assert "too late" not in shown


def test_a_worker_takes_what_was_submitted(server: Server, tmp_path: Path) -> None:
    """The command works on a server as on a file."""
    url = server.url()
    (tmp_path / "counted.py").write_text(
        f"from tests.integration.test_server import counting\nflow = counting({url!r})\n"
    )
    with WorkflowDB(url) as db:
        ids = [counting(db).submit({"n": 0, "until": 3, "log": []}) for _ in range(20)]
        command = [sys.executable, "-m", "pocoflow", "worker", "counted.py:flow", "--until-idle"]
        roots = f"{Path(pocoflow.__file__).parents[1]}"
        workers = [
            subprocess.Popen(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": roots})
            for _ in range(2)
        ]
        assert [one.wait(DEADLINE) for one in workers] == [0, 0]
        assert {row_of(db, one)["status"] for one in ids} == {"completed"}
        assert {row_of(db, one)["total_steps"] for one in ids} == {3}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_uses_a_connection_of_its_own(server: Server) -> None:
    """It reads and writes, and its parent goes on as before."""
    with WorkflowDB(server.url()) as db:
        db.create_run("before")
        child = os.fork()
        if not child:
            try:
                db.create_run("in the child")
                gc.collect()
                os._exit(0 if db.get_run("before") else 1)
            except BaseException:  # noqa: BLE001 - told by its code
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        db.create_run("after")
        assert [run["run_id"] for run in db.list_runs()] == ["after", "in the child", "before"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("how", ["alone", "in a group"])
def test_a_child_that_was_forked_in_the_middle_of_a_commit_writes_its_own(
    server: Server, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """What a thread of the parent is at, for which no fork waits for ever, is not the child's."""
    monkeypatch.setattr(process_forks, "_PATIENCE", 0.0)
    holds, go = threading.Event(), threading.Event()

    def write(raw: Transaction, put: object) -> None:
        raw.execute("INSERT INTO pf_graphs (graph) VALUES (?)", ("g",))

    def wait() -> None:
        holds.set()
        assert go.wait(DEADLINE)

    def commit_alone() -> None:
        with db.connection.transaction(of=1) as raw:
            write(raw, None)
            wait()

    def commit_in_a_group() -> None:
        db.connection.together([partial(db.connection.commit, write, 1), wait])

    with WorkflowDB(server.url()) as db:
        commit = commit_alone if how == "alone" else commit_in_a_group
        thread = threading.Thread(target=commit)
        thread.start()
        assert holds.wait(DEADLINE)
        child = os.fork()
        if not child:
            code = 1
            try:
                counting(db, run_id="r").run({"n": 0, "until": 1, "log": []})
                run_no = row_of(db, "r")["run_no"]
                code = 2 * db.locks.is_held(run_no)
            finally:
                os._exit(code)
        go.set()
        thread.join(DEADLINE)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert row_of(db, "r")["status"] == "completed"


def test_a_lease_that_could_not_be_given_back_ends_by_itself() -> None:
    """Also while the process goes on with another run, whose lease is kept."""
    with running() as one, WorkflowDB(one.url(), lease=1) as db, WorkflowDB(one.url()) as other:
        owner = object()
        for name in ("left", "kept"):
            db.create_run(name)
        left, kept = db.number("left"), db.number("kept")
        assert db.locks.hold(left, owner)
        assert db.locks.hold(kept, owner)
        one.stop()
        db.locks.release(left, owner)
        one.start()
        poll(lambda: not other.locks.is_held(left))
        assert other.locks.hold(left, owner)
        assert db.locks.hold(kept, owner) is False


def test_a_lease_that_a_crash_of_the_server_lost_is_taken_again(server: Server) -> None:
    """Of a run that is at work, unless another process has it by now; nobody else comes between."""
    url = server.url()
    with WorkflowDB(url, lease=6) as db, WorkflowDB(url) as other:
        owner = object()
        for name in ("lost", "taken", "ended"):
            db.create_run(name)
        lost, taken, ended = (db.number(name) for name in ("lost", "taken", "ended"))
        for number in (lost, taken, ended):
            assert db.locks.hold(number, owner)
        db.update_run("ended", status="completed")
        with other.connection.transaction() as raw:
            raw.execute("DELETE FROM pf_leases")
        assert other.locks.hold(taken, owner)
        poll(lambda: not db.locks.has(taken, owner))
        assert db.locks.has(lost, owner)
        assert not db.locks.has(ended, owner)
        assert not other.locks.hold(lost, owner)


def test_the_lease_of_what_was_garbage_ends_with_its_database(server: Server) -> None:
    """It is given back as the database is closed, though nobody has waited for that."""
    url = server.url()
    with WorkflowDB(url) as other:
        for name in ("one", "two", "three"):
            other.create_run(name)
            number, owner = other.number(name), object()
            with WorkflowDB(url) as db:
                assert db.locks.hold(number, owner)
                db.locks.abandon(number, owner)
            assert not other.locks.is_held(number)


# -- what goes wrong ------------------------------------------------------------------------------


def test_a_run_whose_server_is_restarted_during_exec_notices_nothing() -> None:
    """Its next commit is made on a new connection, after all that it had committed."""
    with running() as one:

        def restart() -> None:
            one.stop()
            one.start()

        with WorkflowDB(one.url(), lease=0.5) as db:
            three(db, Act(restart)).run({})
            assert row_of(db, "r")["status"] == "completed"
            assert db.load_checkpoint("r", 2)["n"] == 3
            nodes = [one.event for one in db.follow("r") if isinstance(one.event, NodeEnded)]
            assert [one.node for one in nodes] == ["First", "Middle", "Last"]


def test_a_run_goes_on_after_its_server_was_away() -> None:
    """A run that could not reach it is interrupted, not failed, and nothing is lost."""
    with running() as one, WorkflowDB(one.url(), lease=0.5) as db:
        with pytest.raises(DatabaseLostError, match="cannot be reached"):
            three(db, Act(one.stop)).run({})
        with pytest.raises(DatabaseLostError, match="cannot be reached"):
            db.get_run("r")
        one.start()
        poll(lambda: is_interrupted(db))
        assert three(db, Act(lambda: None)).resume("r")["n"] == 3


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_a_database_that_cannot_hold_every_text_is_refused(server: Server, encoding: str) -> None:
    """When it is opened, with its encoding and what to do; not by the first text in a run."""
    name = f"of_{encoding.lower()}"
    server.execute(f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0")
    for read_only in (False, True):
        with pytest.raises(DatabaseFileError, match=f"encoding {encoding}.*ENCODING 'UTF8'"):
            WorkflowDB(server.url(database=name), read_only=read_only)


def test_a_pooler_that_mixes_sessions_up_is_told(server: Server) -> None:
    """What it does to prepared statements is an error, and never another statement."""
    url = server.url()
    prepared: dict[str, set[str]] = {}
    with WorkflowDB(url) as one, WorkflowDB(url) as two:
        one.create_run("r")
        counting(two).run({"n": 0, "until": 1, "log": []})
        for db in (one, two):
            for name, text in db.connection.rows(
                "SELECT name, statement FROM pg_prepared_statements"
            ):
                prepared.setdefault(name, set()).add(text)
        assert len(prepared) > 5
        assert all(len(texts) == 1 for texts in prepared.values())
        one.connection.rows("DEALLOCATE ALL")
        with pytest.raises(DatabaseFileError, match=r"behind a pooler.*pool_mode=session"):
            one.create_run("s")


def test_a_server_that_is_not_there_is_named() -> None:
    """Where it was looked for, and why that failed."""
    with pytest.raises(DatabaseLostError, match=r"ann@/runs\?host=/nowhere cannot be reached"):
        WorkflowDB("postgresql://ann:secret@/runs?host=/nowhere")


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("/none?", 'database "none" does not exist'),
        ("/postgres?options=-crole%3Dnobody_at_all&", "nobody_at_all"),
    ],
)
def test_what_a_server_refuses_is_told(server: Server, more: str, told: str) -> None:
    """In the words of the server, with the database."""
    with pytest.raises(DatabaseError, match=told):
        WorkflowDB(f"postgresql://tester@{more}host={server.folder}")


def test_a_writer_that_takes_too_long_is_told(server: Server) -> None:
    """Whoever waits for the busy timeout is told so, and may try again."""
    url = server.url()
    with WorkflowDB(url, busy_timeout=0.1) as db, psycopg.connect(url) as other:
        db.create_run("r")
        other.execute("SELECT 1 FROM pf_run FOR UPDATE")
        with pytest.raises(DatabaseBusyError, match=r"more than 0\.1 seconds"):
            db.save_event("r", "note")
        other.rollback()
        db.save_event("r", "note")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ann:s3cret@/runs?host=/nowhere",
        "postgresql:///runs?user=ann&password=s3cret&host=/nowhere",
        "postgresql://ann:s3cret@127.0.0.1:1/runs?sslpassword=s3cret",
        "postgresql://ann:s3cr/s3cret@[::1/runs",
        "postgresql://ann:s3cret@127.0.0.1:s3cret/runs",
        "postgresql://ann:x@s3cret@127.0.0.1:1/runs",
        "postgresql://ann:x/s3cret@127.0.0.1:1/runs",
        "postgresql://ann:1?a=s3cret@127.0.0.1:1/runs",
        "postgresql://ann:s3cret%@127.0.0.1:1/runs",
        "postgresql://ann@127.0.0.1:1/runs?password=x&s3cret",
        "postgresql://ann@127.0.0.1:1/runs?pass%77ord=s3cret",
        "postgresql://ann:s3cret@127.0.0.1:1/runs?sslmod=x",
    ],
)
def test_a_password_is_shown_nowhere(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """Not in an error, its causes and traceback, a flow, or the log."""
    caplog.set_level(logging.DEBUG)
    flow = counting(url)
    shown = [repr(flow), repr(flow.db_path), repr(vars(flow))]
    for act in (lambda: WorkflowDB(url), lambda: flow.run({}), lambda: flow.resume("r")):
        with pytest.raises(DatabaseError) as caught:
            act()
        shown += traceback.format_exception(caught.value)
        shown += [repr(caught.value), str(caught.value)]
    told = "\n".join([*shown, caplog.text])
    assert "s3cret" not in told.replace(url, ""), told


def test_a_database_with_a_password_is_found_by_what_is_shown(server: Server) -> None:
    """In a process that has opened it, its path names it as before."""
    url = server.url().replace("tester@", "tester:s3cret@")
    with WorkflowDB(url) as db:
        assert "s3cret" not in repr(db) + db.path
        db.create_run("r")
        with WorkflowDB(db.path) as again:
            assert row_of(again, "r")["run_id"] == "r"


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("postgresql://ann:x@y@h/runs", "the user or the password is wrong.*%40 for @"),
        ("postgresql://ann:x/y@h/runs", "the user or the password is wrong.*%2F for /"),
        ("postgresql://ann@h:abc/runs", "the host or the port is wrong"),
        ("postgresql://ann@h/50%", "the name of the database is wrong.*%25 for %"),
        ("postgresql://ann@h/runs?sslmod=x", "the parameter 'sslmod', which.*'sslmode'"),
        ("postgresql://h/runs?options=-csearch_path=a", "the parameter 'options' is.*%3D for ="),
    ],
)
def test_the_part_of_a_url_that_cannot_be_read_is_named(url: str, told: str) -> None:
    """With how its special characters are written."""
    with pytest.raises(DatabaseError, match=told):
        WorkflowDB(url)


@pytest.mark.parametrize(
    "name",
    [
        "postgress://ann:s3cret@db/work",
        "POSTGRESQL://ann:s3cret@db/work",
        "postgresql+psycopg://ann:s3cret@db/work",
        "mysql://ann:s3cret@db/work",
        "sqlite://ann:s3cret@db/work",
        " postgresql://ann:s3cret@db/work",
        "DATABASE=postgresql://ann:s3cret@db/work",
        Path("postgresql://ann:s3cret@db/work"),
        "host=127.0.0.1 user=ann password=s3cret dbname=work",
        "dbname = work password = s3cret",
        "work password='s3cret'",
    ],
)
def test_what_names_no_database_is_refused_and_not_shown(
    name: str | Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other URLs, and pairs as libpq takes them, make no file; the URL of a server is shown."""
    monkeypatch.chdir(tmp_path)
    acts: list[Callable[[], object]] = [
        lambda: WorkflowDB(name),
        lambda: Flow(Node(), db_path=name),
        lambda: Flow(Node()).using(db_path=name),
    ]
    for act in acts:
        with pytest.raises(DefinitionError, match="postgresql://user@host:port/database") as caught:
            act()
        assert "s3cret" not in "".join(traceback.format_exception_only(caught.value))
    ran = commands.execute("-m", "pocoflow", "runs", "list", "--db", str(name), folder=tmp_path)
    assert ran.returncode == 2
    assert "postgresql://user@host" in ran.stderr
    assert "s3cret" not in ran.stderr + ran.stdout
    assert list(tmp_path.iterdir()) == []


def test_what_has_to_be_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without psycopg, the extra is named that brings it."""
    for name in [one for one in sys.modules if one.startswith("pocoflow.db.postgres.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(DefinitionError, match=r"pip install 'pocoflow\[postgres\]'"):
        WorkflowDB("postgresql://ann:s3cret@/runs")


def test_a_lease_is_of_a_server(tmp_path: Path) -> None:
    """On a file it has no meaning, and is refused."""
    with pytest.raises(DefinitionError, match="for a PostgreSQL server"):
        WorkflowDB(tmp_path / "runs.db", lease=5)
    wrong: Any
    for wrong in (0, "60", True):
        with pytest.raises(DefinitionError, match=r"at least 0\.1"):
            WorkflowDB("postgresql:///runs", lease=wrong)


def end_connections(server: Server) -> None:
    """End those of pocoflow, as a restart does, or a firewall."""
    ended = server.execute(
        "SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE application_name = 'pocoflow'"
    )
    poll(lambda: not any(Path(f"/proc/{pid}").exists() for pid, _ in ended))


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux")
def test_a_connection_that_the_server_has_ended_fails_no_call(server: Server) -> None:
    """Whoever looks, begins, submits or goes on next has a new one, and notices nothing."""
    with WorkflowDB(server.url()) as db:
        flow = three(db, Act(lambda: end_connections(server)))
        flow.run({})
        acts: list[Callable[[], object]] = [
            lambda: row_of(db, "r"),
            lambda: db.locks.is_held(1),
            lambda: counting(db, run_id="s").run({"n": 0, "until": 1, "log": []}),
            lambda: counting(db).submit({"n": 0, "until": 1, "log": []}),
            lambda: db.save_event("r", "note"),
            db.list_runs,
        ]
        for act in acts:
            end_connections(server)
            act()
        assert [row["status"] for row in db.list_runs()] == ["queued", "completed", "completed"]


def lost_in_the_middle(db: WorkflowDB, server: Server, go_on: Callable[[Any], object]) -> None:
    """A transaction that has written when its connection ends, and then does something else."""
    with db.connection.transaction() as raw:
        raw.execute("UPDATE pf_run SET flow_name = 'lost'").fetchall()
        end_connections(server)
        go_on(raw)


def test_what_a_lost_transaction_had_written_is_not_taken_for_committed(server: Server) -> None:
    """A connection that ends in the middle undoes it: no part of it goes on by another one."""
    with WorkflowDB(server.url()) as db:
        db.create_run("r")

        def read(raw: Any) -> None:
            with pytest.raises(DatabaseLostError):
                row_of(db, "r")

        with pytest.raises(DatabaseLostError, match="cannot be reached"):
            lost_in_the_middle(db, server, read)
        assert row_of(db, "r")["flow_name"] == ""


def test_why_the_server_has_ended_a_transaction_is_told(server: Server) -> None:
    """In its words, such as those for a process that stood still in the middle of one."""
    more = "UPDATE pf_run SET flow_name = 'more'"
    with WorkflowDB(server.url()) as db:
        db.create_run("r")
        with pytest.raises(DatabaseLostError, match="administrator command"):
            lost_in_the_middle(db, server, lambda raw: raw.execute(more).fetchall())


def test_a_key_whose_commit_was_undone_is_there_after_the_next_one(server: Server) -> None:
    """A request to stop, which a step learns as it is committed, loses no key that is new."""

    class Cancelled(Act):
        def post(self, store: Store[Any], prep: None, result: None) -> str:
            store["new"] = "there"
            return super().post(store, prep, result)

    with WorkflowDB(server.url()) as db:

        def cancel() -> None:
            assert db.request_cancel("r")

        node = Cancelled(cancel)
        with pytest.raises(RunCancelled):
            three(db, node).run({})
        assert db.load_checkpoint("r", 1)["new"] == "there"


# -- many runs at once ----------------------------------------------------------------------------


class Meet(Node[int, int, str]):
    """Counts; at the second step all runs wait for each other, and for ``meeting``."""

    def __init__(self, runs: int, meeting: Callable[[], None]) -> None:
        super().__init__()
        self.runs, self.meeting, self.everybody = runs, meeting, asyncio.Event()

    async def prep(self, store: Store[Any]) -> int:
        return int(store["n"])

    async def exec(self, n: int) -> int:
        if n == 1:
            self.runs -= 1
            if not self.runs:
                self.meeting()
                self.everybody.set()
            await self.everybody.wait()
        return n + 1

    async def post(self, store: Store[Any], n: int, more: int) -> str:
        store["n"], store["text"] = more, f"{n} " * 1000
        return "again" if more < 5 else "done"


def many(db: WorkflowDB, runs: int, meeting: Callable[[], None]) -> list[Any]:
    """The outcomes of runs at once."""
    node = Meet(runs, meeting)
    flow: Flow[Any] = Flow(node, db_path=db, flow_name="meeting")
    flow.then(node.when("again"), node).then(node.when("done"), pocoflow.END)

    async def main() -> list[Any]:
        begun = [flow.run_async({"n": 0}, run_id=f"r{number}") for number in range(runs)]
        return list(await asyncio.gather(*begun, return_exceptions=True))

    return asyncio.run(main())


def test_runs_at_once_share_transactions(server: Server) -> None:
    """Thirty runs of five steps take far fewer than three hundred transactions."""
    with WorkflowDB(server.url()) as db:
        ((before,),) = server.execute("SELECT txid_current()")
        outcomes = many(db, 30, lambda: None)
        ((after,),) = server.execute("SELECT txid_current()")
        assert all(isinstance(one, Store) for one in outcomes), outcomes
        assert after - before < 200  # 60 of them for the leases
        for number in range(30):
            rows = db.get_checkpoints(f"r{number}")
            assert [row["step"] for row in rows] == list(range(5))
            assert db.load_checkpoint(f"r{number}", 3)["text"] == "3 " * 1000


def test_a_run_that_is_lost_or_cancelled_does_not_hold_up_those_at_once(server: Server) -> None:
    """What it cannot commit is undone alone; a row of somebody else only gives other numbers."""
    with WorkflowDB(server.url("disturbed")) as db:

        def disturb() -> None:
            server.execute("UPDATE disturbed.pf_run SET fence = fence + 1 WHERE run_id = 'r4'")
            assert db.request_cancel("r9")
            db.save_event("r11", "seen")

        outcomes = dict(enumerate(many(db, 20, disturb)))
        assert isinstance(outcomes.pop(4), RunLostError)
        assert isinstance(outcomes.pop(9), RunCancelled)
        assert all(isinstance(one, Store) for one in outcomes.values()), outcomes
        assert row_of(db, "r9")["status"] == "cancelled"
        assert [row["event"] for row in db.get_events("r11")].count("seen") == 1
        for number in outcomes:
            assert row_of(db, f"r{number}")["total_steps"] == 5
            assert db.load_checkpoint(f"r{number}", 4)["n"] == 5


def test_commits_of_which_nobody_knows_are_not_tried_again(server: Server) -> None:
    """The connection is lost as they are committed: each ends with that, and is called once."""
    with WorkflowDB(server.url()) as db:
        called = []

        def write(run_id: str) -> None:
            called.append(run_id)
            db.create_run(run_id)

        def cut() -> None:
            called.append("cut")
            server.execute(
                "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity "
                "WHERE application_name = 'pocoflow' AND pid <> pg_backend_pid()"
            )

        with pytest.raises(DatabaseLostError, match="cannot be reached"):
            db.connection.together([partial(write, "a"), partial(write, "b"), cut])
        assert called == ["a", "b", "cut"]
        assert db.list_runs() == []


# -- passwords ------------------------------------------------------------------------------------


@pytest.fixture
def guarded(server: Server) -> str:
    """A schema of a user who needs a password: its URL without that."""
    rules = server.folder / "data" / "pg_hba.conf"
    rule = "local all ann scram-sha-256\n"
    if rule not in rules.read_text():
        rules.write_text(rule + rules.read_text())
        server.execute(
            "CREATE ROLE ann LOGIN PASSWORD 's3cret'",
            "GRANT CREATE ON DATABASE postgres TO ann",
            "SELECT pg_reload_conf()",
        )
    return server.url(user="ann")


def test_a_password_is_found_where_libpq_looks(
    guarded: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the URL, in a passfile, or in the environment; a service names all of it."""
    with pytest.raises(DatabaseFileError, match="no password supplied"):
        WorkflowDB(guarded)
    with WorkflowDB(guarded.replace("ann@", "ann:s3cret@")) as db:
        db.create_run("r")
    passfile = tmp_path / "passfile"
    passfile.write_text("*:*:*:ann:s3cret\n")
    passfile.chmod(0o600)
    for url in (f"{guarded}&passfile={passfile}", "postgresql:///?service=runs"):
        services = tmp_path / "services"
        folder, options = guarded.partition("host=")[2].split("&options=")
        services.write_text(
            f"[runs]\nhost={folder}\nuser=ann\ndbname=postgres\npassfile={passfile}\n"
            f"options={options.replace('%3D', '=')}\n"
        )
        monkeypatch.setenv("PGSERVICEFILE", str(services))
        with WorkflowDB(url) as db:
            assert row_of(db, "r")["run_id"] == "r"
    wrong = guarded.replace("ann@", "ann:wr0ng@")
    with pytest.raises(DatabaseFileError, match="correct the user or the password") as caught:
        WorkflowDB(wrong)
    assert "wr0ng" not in "".join(traceback.format_exception(caught.value))
    with WorkflowDB(guarded) as db:  # the wrong one has not taken the place of the right one
        assert row_of(db, "r")["run_id"] == "r"


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs Linux")
def test_commands_show_no_password(
    guarded: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither in what they print nor in the list of processes, where they take a variable."""
    url = guarded.replace("ann@", "ann:s3cret@")
    (tmp_path / "counted.py").write_text(
        "from tests.integration.test_server import counting\nflow = counting(None)\n"
    )
    monkeypatch.setenv("RUNS", url)
    monkeypatch.setenv("PYTHONPATH", f"{Path(pocoflow.__file__).parents[1]}")
    with WorkflowDB(url) as db:
        counting(db).submit({"n": 0, "until": 2, "log": []}, run_id="queued")
        db.create_run("failed", "counting")
        db.update_run("failed", status="failed", error_msg="no", error_type="Bug")

    def call(*words: str) -> str:
        process = subprocess.Popen(
            [sys.executable, "-m", "pocoflow", *words, "--db-env", "RUNS"],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        seen = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        told = process.communicate(timeout=DEADLINE)[0]
        return told + seen.decode()

    told = [
        call("worker", "counted.py:flow", "--until-idle"),
        call("runs", "list"),
        call("runs", "show", "failed"),
        call("runs", "show", "nothing"),
        call("resume", "failed", "counted.py:flow"),
        call("questions"),
        call("prune", "--keep", "0", "--dry-run"),
    ]
    assert "queued" in told[1]
    assert "completed" in told[1]
    assert "--db-env RUNS" in told[3], told[3]
    assert "s3cret" not in "".join(told)


def test_the_monitor_is_given_a_password_by_its_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What its process is started with names a variable, by which the page finds the database."""
    url = "postgresql://ann:s3cret@db.example.com/runs"
    monkeypatch.setenv("POCOFLOW_DATABASE", "")
    started: list[str] = []

    def become(_: str, command: list[str]) -> None:
        started.extend(command)
        raise KeyboardInterrupt

    monkeypatch.setattr("os.execv", become)
    cli.main(["monitor", url])
    assert "s3cret" not in " ".join(started)
    assert os.environ["POCOFLOW_DATABASE"] == url
    assert page_arguments(started[5:])[0] == "postgresql://ann@db.example.com/runs"
