"""The benchmarks run, and what they compare stays in proportion.

What a step may cost is counted in calls of functions, which no busy machine changes; its time is
measured by the benchmarks alone.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pocoflow
from benchmarks import executors, listing, scale
from benchmarks.contenders import by_hand, by_pocoflow, growing
from benchmarks.contest import Result
from benchmarks.growing import WAYS
from benchmarks.growing_works import SOME_PEERS
from benchmarks.report import goals, table
from benchmarks.task import KILOBYTE, Measures, Task
from benchmarks.work import PEERS
from benchmarks.works import all_works
from pocoflow import Flow, WorkflowDB
from tests.counting import calls

ROOT = Path(__file__).parents[2]


# -- the suite ------------------------------------------------------------------------------------


def run_suite(out: Path, *options: str) -> tuple[str, dict[str, Any]]:
    """What it prints, and its results."""
    done = subprocess.run(
        [
            *(sys.executable, "-W", "error", "-m", "benchmarks", "--no-envs", "--no-plot"),
            *(*options, "--rounds", "1", "--out", str(out), "--folder", str(out)),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(file.name for file in out.iterdir()) == ["results.json", "results.md"]
    return done.stdout, json.loads((out / "results.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "works",
    [
        "memory,chain,short-10,typed,awaited,async-node,beside,limited",
        "stored-full,large-normal,chat-normal,awaits,journaled",
        "blocking,import,processes-full,lists,check,validation",
        "peak,slowest,many,long,big,waits",
        ",".join(f"grow-{way}" for way in WAYS),
        "untouched-memory,untouched-normal,branches-memory,branches-normal",
        "batch,conversation,restoring",
    ],
)
def test_every_work_is_done_and_shown(tmp_path: Path, works: str) -> None:
    """Each work is measured for pocoflow and by hand, with versions, machine and goals."""
    text, results = run_suite(tmp_path, "--only", works, "--peers", "none", "--scale", "0.01")
    assert [work["name"] for work in results["works"]] == works.split(",")
    for work in results["works"]:
        assert f"## {work['title']}" in text
        for row in work["rows"]:
            assert row["failure"] == ""
            assert all(row["medians"][metric] is not None for metric in row["ratios"])
        assert all(goal["reached"] is not None for goal in work["goals"])
    assert pocoflow.__version__ in results["machine"]["pocoflow"]
    assert results["versions"]["pocoflow"]["sqlite"]


def test_the_tests_know_every_work() -> None:
    """The test above leaves out the monitor, and the works that another setting is tested of."""
    known = all_works()
    assert {name for name, work in known.items() if work.by_name} == {"monitor"}
    twice = ["short", "stored", "large", "chat", "processes", "untouched"]
    assert len(known) == 40 + len(twice) + len(["monitor"])


def test_a_peer_that_cannot_take_part_is_reported(tmp_path: Path) -> None:
    """A contender that is not installed, or has nothing for a work, has a row that says so."""
    text, results = run_suite(
        tmp_path, "--only", "stored-normal", "--peers", "pocketflow,dbos", "--scale", "0.01"
    )
    rows = {row["contender"]: row for row in results["works"][0]["rows"]}
    assert rows["pocketflow"]["failure"] == "keeps nothing on disk"
    assert rows["dbos"]["failure"].startswith("not installed: No module named ")
    assert "- DBOS: not installed" in text
    assert "- PocketFlow: keeps nothing on disk" in text


def test_every_comparison_has_every_peer() -> None:
    """A work that is compared names every peer, or says why not, so none is dropped in silence."""
    compared = [work for work in all_works().values() if len(work.entries) > 3]
    assert len(compared) == 15 + len(WAYS) + len(["untouched"]) * 3 + len(["branches"]) * 2 + 2
    for work in compared:
        there = {entry.contender for entry in work.entries}
        assert set(PEERS) <= there or work.what.endswith(SOME_PEERS), work.name


def test_a_missed_goal_is_called_missed() -> None:
    """The verdict on a goal follows from the medians, and a failure leaves it open."""
    work = all_works()["memory"]
    hand, ours = (Result(work.entries[number]) for number in (0, 1))
    hand.measures = [{"us": 1.0, "cpu_us": cost} for cost in (1.0, 2.0, 30.0)]
    ours.measures = [{"us": 1.0, "cpu_us": cost} for cost in (10.0, 9.0, 11.0)]
    found = list(goals(work, [hand, ours]))
    assert (found[0]["reached"], found[0]["met"]) == (5.0, True)
    ours.measures[1]["cpu_us"] = ours.measures[0]["cpu_us"] = 10.1
    assert next(goals(work, [hand, ours]))["met"] is False
    ours.measures, ours.failure = [], "ended"
    assert next(goals(work, [hand, ours]))["met"] is None
    assert "- pocoflow: ended" in list(table(work, [hand, ours]))


# -- what a step may cost -------------------------------------------------------------------------


def calls_a_step(folder: Path, worker: Callable[[Task], Measures], variant: str = "") -> float:
    """How many functions a step calls, without what begins and ends a run."""
    files = iter(range(100))

    def of(steps: int) -> int:
        own = folder / str(next(files))
        own.mkdir(parents=True)
        return calls(lambda: worker(a_task(own, variant, steps=steps)))

    of(100)
    return (of(400) - of(100)) / 300


def a_task(folder: Path, variant: str = "", **sizes: int) -> Task:
    """A round of its own folder, for a worker that is called here."""
    return Task(folder=folder, home=folder, sizes=sizes, variant=variant)


def test_a_step_in_memory_stays_near_a_loop_by_hand(tmp_path: Path) -> None:
    """Nothing is built or timed in a step that nobody listens to.

    Today it calls 8 functions, of which a loop by hand calls 4; with a hook, for which an event is
    built, 18.
    """
    assert calls_a_step(tmp_path / "hand", by_hand.memory) == 4
    assert calls_a_step(tmp_path / "alone", by_pocoflow.memory) < 11
    assert calls_a_step(tmp_path / "heard", by_pocoflow.memory, "one hook") < 24


def test_a_persisted_step_stays_near_sqlite_by_hand(tmp_path: Path) -> None:
    """A step on disk calls few functions more than the same two commits by hand.

    Today it calls 152; by hand they are 30.
    """
    assert calls_a_step(tmp_path / "hand", by_hand.stored) == 30
    assert calls_a_step(tmp_path / "ours", by_pocoflow.stored) < 180


# -- how often a step commits ---------------------------------------------------------------------


def commits(database: Path) -> int:
    """How many transactions a write-ahead log holds: their last frames tell the file's new size."""
    log = Path(f"{database}-wal").read_bytes()
    page = struct.unpack(">I", log[8:12])[0]
    salt = log[16:24]
    count = 0
    for start in range(32, len(log), 24 + page):
        frame = log[start : start + 24]
        if frame[8:16] == salt and struct.unpack(">I", frame[4:8])[0]:
            count += 1
    return count


@pytest.mark.parametrize(
    ("node", "each"), [(by_pocoflow.Add, 2), (by_pocoflow.AddWithoutJournal, 1)]
)
def test_a_step_commits_as_often_as_documented(
    tmp_path: Path, node: type[by_pocoflow.Add], each: int
) -> None:
    """The result of ``exec`` and the step are two commits, and one with ``journal = False``."""
    found = []
    for steps in (10, 40):
        path = tmp_path / f"{steps}.db"
        with WorkflowDB(path, synchronous="NORMAL") as db:
            one = node()
            one.then("again", one)
            Flow(one, db_path=db).run({"n": 0, "steps": steps, "text": KILOBYTE})
            found.append(commits(path))
    assert found[1] - found[0] == 30 * each


def test_the_benchmark_of_listings_finds_what_it_looks_for(tmp_path: Path) -> None:
    """Each of its listings gives the runs that it is to measure."""
    listing.fill(tmp_path / "runs.db", 200)
    found = {what: count for what, (count, _) in listing.measure(tmp_path / "runs.db").items()}
    assert found == {
        "by thread": 1,
        "by label": 1,
        "by a common label": 10,
        "by two labels": 1,
        "by thread and status": 1,
        "the newest": 10,
    }


def test_steps_on_a_server_are_measured_and_modelled(
    server: object, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each cell has a line, and the model says of each of them how many steps there are."""
    options = ["--rounds", "1", "--steps", "4", "--seconds", "1", "--workers", "1"]
    assert scale.main([*options, "--databases", "1", "--peers", "none"]) == 0
    told = capsys.readouterr().out
    assert "1 x 100                 pocoflow" in told
    assert told.count("server, 1 x ") == told.count("file, 1 x ") == 8
    assert "\n100 million steps a day are 1,157 a second" in told


def test_the_model_of_steps_is_bounded_by_waits_and_by_processors() -> None:
    """Steps per second grow with the workers until processors are busy."""
    costs = scale.Cost(100, 100, 10), scale.Cost(100, 50, 0)
    model = scale.Model(*costs, trips=2, flush_us=500)
    assert model.rate(1, 1, 0, 1_000) == pytest.approx(1e6 / (200 + 150 + 3_000))
    assert model.rate(4, 1, 0, 1_000) == pytest.approx(4 * model.rate(1, 1, 0, 1_000))
    assert model.rate(1, 100, 1_000) == pytest.approx(1e6 / (111 + 100.5 + 10))
    assert model.rate(50, 100, 0, cores=2) == pytest.approx(2e6 / 201.5)
    assert model.rate(50, 100, 0, of_server=2) == pytest.approx(2e6 / 100.5)


def test_calls_by_executors_are_measured(capsys: pytest.CaptureFixture[str]) -> None:
    """A line for each executor, by hand and as items of a flow."""
    options = ["--calls", "4", "--rounds", "1", "--only", "here,threads"]
    assert executors.main(options) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["here", "threads"]
    assert len(lines[-1].split()) == 6


@pytest.mark.parametrize("way", WAYS)
def test_a_value_that_grows_is_written_by_what_it_grows(tmp_path: Path, way: str) -> None:
    """At most twice what is added and 400 bytes a step, in proportion to the steps."""
    found = growing.ways(way, a_task(tmp_path, steps=120))
    assert found["to_allowed"] <= 1
    assert found["exponent"] <= 1.05
