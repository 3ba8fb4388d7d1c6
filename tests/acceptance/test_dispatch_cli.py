"""``pocoflow dispatch`` and ``pocoflow carry-on``: ids are delivered, runs are run once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pocoflow import Flow
from pocoflow.cli import main
from pocoflow.views.targets import load_flow
from tests.integration.clusters import ROOT, cluster, wait_for

PROGRAM = '''
"""Flows whose nodes say in which process they were called."""

import os
import time
from pathlib import Path

from pocoflow import Flow, Question, key, node


@node(writes=key("pid"))
def begin(number: int) -> int:
    with Path("calls").open("a") as file:
        file.write(f"{number}\\n")
    return os.getpid()


@node(writes=key("end"))
def wait(number: int) -> int:
    Path(f"began-{number}-{os.getpid()}").touch()
    while number < 0 and not Path("end").exists():
        time.sleep(0.01)
    return os.getpid()


@node(writes=key("fine"))
def ask(number: int) -> Question[bool]:
    return Question("Fine?")


@node
def leave(number: int) -> None:
    raise SystemExit(number)


flow = Flow(begin, db_path="runs.db", flow_name="delivered").then(begin, wait)
asking = Flow(ask, db_path="runs.db", flow_name="asking")
leaving = Flow(leave, db_path="runs.db", flow_name="leaving")
'''

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="has no SIGTERM to send"),
]


@pytest.fixture
def flow(here: Path) -> Flow:
    """A flow in a module of the current folder."""
    (here / "delivered.py").write_text(PROGRAM, encoding="utf-8")
    return load_flow("delivered.py:flow")


def program(*words: str) -> subprocess.Popen[str]:
    """A command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "pocoflow", *words],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextmanager
def dispatching(*words: str) -> Iterator[subprocess.Popen[str]]:
    """A dispatcher, which is killed at last if the test has failed: it would never end."""
    with program("dispatch", *words) as made:
        try:
            yield made
        finally:
            made.kill()


# -- carry-on -------------------------------------------------------------------------------------


def test_one_id_may_be_delivered_to_many_at_once(flow: Flow, here: Path) -> None:
    """Each of them ends with 0 and the status, and the run is run once."""
    ids = [flow.submit({"number": number}) for number in range(2)]
    ends = [program("carry-on", one, "delivered:flow") for one in ids * 3]
    for end in ends:
        out, error = end.communicate(timeout=300)
        assert (end.returncode, error) == (0, "")
        assert out.strip() in ("completed", "running", "queued")
    assert {flow.database.handle(one).status for one in ids} == {"completed"}
    assert sorted((here / "calls").read_text().split()) == ["0", "1"]


def test_carry_on_says_how_the_run_stands(flow: Flow, capsys: pytest.CaptureFixture[str]) -> None:
    """Late, paused and failed ones, too; an id that is none is to be looked at."""
    asking, leaving = load_flow("delivered.py:asking"), load_flow("delivered.py:leaving")
    paused = asking.submit({"number": 1})
    assert main(["carry-on", paused, "delivered.py:asking"]) == 0
    assert main(["carry-on", paused, "delivered.py:asking"]) == 0
    late = flow.submit({"number": 1})
    assert main(["carry-on", late, "delivered.py:flow"]) == 0
    assert main(["carry-on", late, "delivered.py:flow", "--db", "runs.db"]) == 0
    assert capsys.readouterr().out.split() == ["paused", "paused", "completed", "completed"]
    assert main(["carry-on", "none", "delivered.py:flow"]) == 2
    assert "no run 'none'" in capsys.readouterr().err
    assert leaving.flow_name == "leaving"


# -- dispatch -------------------------------------------------------------------------------------


def test_the_workers_of_a_cluster_carry_on_with_what_is_due(flow: Flow, here: Path) -> None:
    """Submitted and answered runs; a worker that is killed leaves its run to another one."""
    pytest.importorskip("distributed")
    asking, leaving = load_flow("delivered.py:asking"), load_flow("delivered.py:leaving")
    first = flow.submit({"number": 9})
    paused, left = asking.submit({"number": 1}), leaving.submit({"number": 3})
    targets = ["delivered.py:flow", "delivered.py:asking", "delivered.py:leaving"]
    with cluster(here, workers=2, threads=2, path=[here]) as around:
        pids = {one.pid for one in around.workers}
        words = ("--dask", around.address, *targets, "--grace", "60")
        with dispatching(*words, "--until-idle", "--db", "runs.db") as dispatcher:
            out, error = dispatcher.communicate(timeout=300)
        said = f"run {left!r} of flow 'leaving' failed: SystemExit: 3"
        assert (dispatcher.returncode, error.partition(" (")[0]) == (0, said)
        assert flow.database.handle(first).status == "completed"
        assert asking.database.handle(paused).status == "paused"
        assert leaving.database.handle(left).status == "failed"
        ids = [flow.submit({"number": number}) for number in range(8)]
        long = flow.submit({"number": -1})
        with dispatching(*words) as dispatcher:
            handles = [flow.database.handle(one) for one in ids]
            wait_for(lambda: {one.status for one in handles} == {"completed"}, "end of the runs")
            wait_for(lambda: list(here.glob("began--1-*")), "beginning")
            (begun,) = here.glob("began--1-*")
            pid = int(begun.name.rpartition("-")[2])
            os.kill(pid, signal.SIGKILL)
            wait_for(lambda: len(list(here.glob("began--1-*"))) == 2, "second beginning")
            (here / "end").touch()
            wait_for(lambda: flow.database.handle(long).status == "completed", "end")
            asking.answer_json(paused, True)
            wait_for(lambda: asking.database.handle(paused).status == "completed", "answer")
            dispatcher.send_signal(signal.SIGTERM)
            out, error = dispatcher.communicate(timeout=300)
    # Dask says that the worker is gone.
    assert [one for one in error.splitlines() if " distributed." not in one] == []
    assert dispatcher.returncode == 0
    assert "dispatcher of delivered, asking, leaving on" in out
    ended = [flow.database.load_checkpoint(one, step=1) for one in (*ids, long)]
    assert {one["end"] for one in ended} <= pids
    calls = (here / "calls").read_text().split()
    assert sorted(calls) == sorted(map(str, [-1, *range(8), 9]))
