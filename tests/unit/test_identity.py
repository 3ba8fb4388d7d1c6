"""A stored run is of its flow, whose name is part of what it is."""

from __future__ import annotations

import asyncio
import importlib
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pocoflow import Flow, Node, Question, RunPaused, Store, WorkflowDB, key, node
from pocoflow.cli import main
from pocoflow.db import RunRow
from pocoflow.errors import DefinitionError, OtherFlowError, RunNotFoundError

PAID: list[str] = []


class Grade(Node[None, None, str]):
    """Fails until the service is up."""

    up = False

    def exec(self, prepared: None) -> None:
        if not Grade.up:
            raise OSError("down")


class Pay(Node[None, None, str]):
    """What must not be done for the runs of another flow."""

    def exec(self, prepared: None) -> None:
        PAID.append("paid")


@node(writes=key("ok"))
def approve() -> Question[bool]:
    """Ask a person."""
    return Question("Publish?")


@pytest.fixture(autouse=True)
def down(monkeypatch: pytest.MonkeyPatch) -> None:
    """Grade fails, and nothing has been paid, when a test begins."""
    monkeypatch.setattr(Grade, "up", False)
    PAID.clear()


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A database that is not there yet."""
    return str(tmp_path / "runs.db")


def orders(path: str, name: str = "orders", **settings: Any) -> Flow[Any]:
    """A flow of one node."""
    return Flow(Grade(), flow_name=name, db_path=path, **settings)


def refunds(path: str, **settings: Any) -> Flow[Any]:
    """Another flow whose first node has the same name."""
    grade = Grade()
    return Flow(grade, flow_name="refunds", db_path=path, **settings).then(grade, Pay())


def failed(path: str) -> str:
    """The id of a run of the flow orders that has failed, and could go on."""
    with pytest.raises(OSError, match="down"):
        orders(path, run_id="o1").run({})
    Grade.up = True
    return "o1"


def facts(path: str) -> list[RunRow]:
    """The rows of all runs."""
    with WorkflowDB(path, read_only=True) as db:
        return db.list_runs()


ACTIONS: dict[str, Callable[[Flow[Any], str], object]] = {
    "resume": lambda flow, run_id: flow.resume(run_id),
    "resume_background": lambda flow, run_id: flow.resume_background(run_id),
    "check_owner": lambda flow, run_id: flow.check_owner(run_id),
    "fork": lambda flow, run_id: flow.fork(run_id, -1),
    "answer": lambda flow, run_id: flow.answer(run_id, approve.reply(True)),
    "answer_json": lambda flow, run_id: flow.answer_json(run_id, True),
}


@pytest.mark.parametrize("action", ACTIONS.values(), ids=list(ACTIONS))
def test_a_run_of_another_flow_is_refused_and_left_as_it_is(
    path: str, action: Callable[[Flow[Any], str], object]
) -> None:
    """Whatever acts on a stored run refuses one of another flow, and changes nothing."""
    run_id = failed(path)
    before = facts(path)
    with pytest.raises(OtherFlowError) as caught:
        action(refunds(path), run_id)
    assert (caught.value.run_id, caught.value.flow_name) == (run_id, "orders")
    assert "is of flow 'orders', and this is flow 'refunds'" in str(caught.value)
    assert facts(path) == before
    assert PAID == []


def test_resume_async_refuses_a_run_of_another_flow(path: str) -> None:
    """The asynchronous way refuses it as well."""
    run_id = failed(path)
    with pytest.raises(OtherFlowError):
        asyncio.run(refunds(path).resume_async(run_id))
    assert PAID == []


def test_what_the_refusal_names_works(path: str) -> None:
    """Each of the two remedies that the message names lets the run go on."""
    run_id = failed(path)
    refused = orders(path, "purchases").can_resume(run_id)
    assert not refused
    assert re.search("formerly=.*flow_was=", str(refused.refusal))
    assert orders(path, "purchases").can_resume(run_id, flow_was="orders")
    assert isinstance(orders(path, "purchases", formerly=("orders",)).resume(run_id), Store)
    assert facts(path)[0]["status"] == "completed"


@pytest.mark.parametrize("settings", [{"formerly": ("older", "orders")}, {}])
def test_a_renamed_flow_takes_its_runs_along(path: str, settings: dict[str, Any]) -> None:
    """A run of a renamed flow bears the new name once it has gone on, and needs no remedy then."""
    run_id = failed(path)
    Grade.up = False
    new = orders(path, "purchases", **settings)
    was = None if settings else "orders"
    with pytest.raises(OSError, match="down"):
        new.resume(run_id, flow_was=was)
    assert facts(path)[0]["flow_name"] == "purchases"
    Grade.up = True
    orders(path, "purchases").resume(run_id, flow_was=was)  # said again, it is no mistake
    assert facts(path)[0]["status"] == "completed"


def test_a_fork_is_of_the_flow_that_forked_it(path: str) -> None:
    """A fork by a renamed flow bears its new name."""
    run_id = failed(path)
    new = orders(path, "purchases").fork(run_id, -1, flow_was="orders")
    assert new.startswith("purchases-")
    orders(path, "purchases").resume(new)


def test_a_renamed_flow_is_not_every_flow(path: str) -> None:
    """A former name lets runs of that name in, and no others."""
    run_id = failed(path)
    with pytest.raises(OtherFlowError):
        orders(path, "purchases", formerly=("refunds",)).resume(run_id)
    with pytest.raises(OtherFlowError):
        orders(path, "purchases").resume(run_id, flow_was="refunds")


@pytest.mark.parametrize("formerly", ["orders", (1,), ("",), [None]])
def test_former_names_that_are_none_are_refused(formerly: Any) -> None:
    """``formerly`` takes names, and a text alone would be its letters."""
    with pytest.raises(DefinitionError, match="formerly="):
        Flow(Grade(), formerly=formerly)


def test_the_name_of_a_flow_without_one_is_renamed_with_its_start(path: str) -> None:
    """A flow that was given no name has that of its start: one renaming is enough for both."""
    with pytest.raises(OSError, match="down"):
        Flow(Grade(), db_path=path, run_id="g").run({})
    Grade.up = True
    flow: Flow[Any] = Flow(Grade(name="Mark"), db_path=path)
    with pytest.raises(OtherFlowError):
        flow.resume("g")
    flow.resume("g", rename={"Grade": "Mark"})
    assert facts(path)[0]["flow_name"] == "Mark"


def test_a_run_that_is_not_there_is_said_to_be_so(path: str) -> None:
    """A misspelt id is no run of another flow."""
    failed(path)
    with pytest.raises(RunNotFoundError, match="o2"):
        orders(path).check_owner("o2")


# -- recover --------------------------------------------------------------------------------------

DIE = """
import os, sys
from pocoflow import Flow, Node

class Grade(Node):
    def exec(self, prepared):
        os._exit(9)

path, *names = sys.argv[1:]
for name in names:
    if not (child := os.fork()):
        Flow(Grade(), flow_name=name, db_path=path, run_id=name).run({})
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
"""


def test_recover_takes_the_runs_of_the_flow_and_of_its_former_names(
    path: str, tmp_path: Path
) -> None:
    """Interrupted runs of other flows in the same file are left alone."""
    program = [sys.executable, "-c", DIE, path, "orders", "older", "oldest", "refunds"]
    subprocess.run(program, cwd=tmp_path, check=True)
    Grade.up = True
    flow = orders(path, formerly=("older",))
    assert flow.recover(flow_was="oldest") == {"orders": None, "older": None, "oldest": None}
    assert flow.recover() == {}
    left = {run["run_id"]: run["status"] for run in facts(path)}
    assert left["refunds"] == "failed"


# -- the command line -----------------------------------------------------------------------------

PROGRAM = """
from pathlib import Path
from pocoflow import Flow, Node, Question, key, node

class Grade(Node):
    def exec(self, prepared):
        if not Path("up").exists():
            raise OSError("down")

@node(writes=key("ok"))
def approve() -> Question[bool]:
    return Question("Publish?")

def flow_of(name):
    return Flow(Grade(), flow_name=name, db_path="runs.db")

def asking(name):
    return Flow(approve, flow_name=name, db_path="runs.db")

refunds, purchases = flow_of("refunds"), flow_of("purchases")
asks_now = asking("asks_now")
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A file with flows, in the current folder."""
    monkeypatch.chdir(tmp_path)
    Path("renamed_flows.py").write_text(PROGRAM)
    monkeypatch.delitem(sys.modules, "renamed_flows", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "renamed_flows.py"


def test_the_command_line_refuses_a_run_of_another_flow_and_names_what_works(
    program: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """``pocoflow resume`` refuses it, and the command that it prints goes on with the run."""
    with pytest.raises(OSError, match="down"):
        importlib.import_module("renamed_flows").flow_of("orders").run({})
    run_id = facts("runs.db")[0]["run_id"]
    Path("up").touch()
    assert main(["resume", run_id, f"{program}:refunds", "--db", "runs.db"]) == 1
    said = capsys.readouterr().err
    assert "is of flow 'orders', and this is flow 'refunds'" in said
    command = next(line for line in said.splitlines() if "--flow-was" in line)
    words = command.rpartition("pocoflow ")[2].replace("refunds", "purchases").split()
    assert main(words) == 0
    assert facts("runs.db")[0]["flow_name"] == "purchases"


def test_answer_with_another_flow_is_refused_and_with_the_renamed_one_taken(
    program: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """``pocoflow answer --flow`` answers for the flow of the run alone, whatever it is called."""
    asking = importlib.import_module("renamed_flows").asking("asks")
    asking.run_id = "a1"
    with pytest.raises(RunPaused):
        asking.run({})
    words = ["answer", "a1", "--flow", f"{program}:asks_now", "--db", "runs.db", "--value", "true"]
    assert main(words) == 1
    assert "is of flow 'asks', and this is flow 'asks_now'" in capsys.readouterr().err
    with WorkflowDB("runs.db", read_only=True) as db:
        assert [one.is_open for one in db.get_questions("a1")] == [True]
    assert main([*words, "--flow-was", "asks"]) == 0
    assert facts("runs.db")[0]["status"] == "completed"


def test_recover_takes_former_names(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    """``pocoflow recover --flow-was`` recovers the runs of the former name, too."""
    subprocess.run([sys.executable, "-c", DIE, "runs.db", "orders"], check=True)
    Path("up").touch()
    target = f"{program}:purchases"
    assert main(["recover", target]) == 0
    assert "no interrupted runs" in capsys.readouterr().out
    assert main(["recover", target, "--flow-was", "orders"]) == 0
    assert "orders  completed" in capsys.readouterr().out
