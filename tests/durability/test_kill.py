"""SIGKILL at chosen lines, before chosen SQL statements and at random instants.

The short form of ``python -m tests.durability.kill --kills 1000``, which prints a table.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.durability.flows import CONCURRENT, SHAPES, oracle
from tests.servers import Server

ROOT = Path(__file__).parents[2]

Ask = Callable[..., Any]


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """A process that forks the processes which are killed; it has everything imported."""
    # In memory if possible: the disk is as fast as it is, and a killed process does not need it.
    memory = Path("/dev/shm")
    folder = memory if os.access(memory, os.W_OK) else tmp_path_factory.mktemp("kill")
    with _asking({"TMPDIR": str(folder)}) as answer:
        yield answer


@contextmanager
def _asking(environment: dict[str, str]) -> Iterator[Ask]:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.durability.kill", "--serve"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, **environment},
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def answer(**question: Any) -> Any:
            stdin.write(json.dumps(question) + "\n")
            stdin.flush()
            return json.loads(stdout.readline())

        yield answer
        stdin.close()
    assert process.returncode == 0


pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")


def middle(shape: str, what: str) -> str:
    """The line of a kind that is written in the middle of a run."""
    lines = [line for line in oracle(SHAPES[shape]).lines if line.startswith(f"{what} ")]
    return lines[len(lines) // 2]


LINES = ("start", "prep", "call", "post", "posted", "done")
# Two lines of each flow, and each line in every third flow: the script kills at all of them.
CHOSEN = [
    (line, shape)
    for number, shape in enumerate(SHAPES)
    for place, line in enumerate(LINES)
    if (place - number) % 3 == 0
]


@pytest.mark.parametrize(("line", "shape"), CHOSEN)
def test_a_kill_outside_the_paid_call_repeats_nothing(ask: Ask, shape: str, line: str) -> None:
    """Killed in a hook, in prep, before the paid call or in post, a run repeats no paid call."""
    told = ask(kind=line, shape=shape, cuts=[{"line": middle(shape, line)}])
    assert (told["killed"], told["problems"]) == (1, [])
    if shape not in CONCURRENT:
        assert told["repeated"] == 0


@pytest.mark.parametrize("shape", SHAPES)
def test_a_kill_between_the_paid_call_and_its_commit_repeats_that_call_only(
    ask: Ask, shape: str
) -> None:
    """Killed inside exec after it paid, a run repeats that one call, under the same key."""
    told = ask(kind="paid", shape=shape, cuts=[{"line": middle(shape, "paid")}])
    assert (told["killed"], told["problems"]) == (1, [])
    if shape not in CONCURRENT:
        assert told["repeated"] == 1


def test_a_kill_after_the_end_leaves_a_completed_run(ask: Ask) -> None:
    """Killed in the hook flow_end, a run is completed and stays so."""
    told = ask(kind="end", shape="chain", cuts=[{"line": "end 6"}])
    assert told == {**told, "killed": 1, "repeated": 0, "problems": []}


def test_a_run_that_is_killed_at_every_step_comes_to_its_end(ask: Ask) -> None:
    """A run that is resumed and killed over and over loses nothing and repeats nothing."""
    cuts = [{"line": f"post {step}"} for step in range(6) for _ in range(2)]
    told = ask(kind="post", shape="growing list", cuts=cuts)
    assert told == {**told, "killed": 12, "repeated": 0, "problems": []}


def test_a_kill_before_any_sql_statement_loses_nothing(ask: Ask) -> None:
    """There is no statement between two of which a killed run, or a resumed one, is not whole."""
    count = ask(statements="loop")
    assert count > 50
    for number in range(1, count, 13):
        cuts = [{"statement": number}, {"statement": 1 + number % 40}]
        told = ask(kind="statement", shape="loop", cuts=cuts)
        assert told["problems"] == [], number
        assert told["killed"] >= 1


def test_kills_at_random_instants_lose_nothing(ask: Ask) -> None:
    """At whatever instant a run is killed, its acknowledged steps are there and it can go on."""
    told = ask(random=[len(SHAPES), 1])
    assert [(one["trial"], one["problems"]) for one in told if one["problems"]] == []


def test_kills_of_runs_on_a_server_lose_nothing(server: Server, tmp_path: Path) -> None:
    """There, too, in the middle of each phase, before statements, and at random instants."""
    url = f"postgresql://tester@/postgres?host={server.folder}"
    with _asking({"TMPDIR": str(tmp_path), "POCOFLOW_KILL_SERVER": url}) as ask:
        told = [
            ask(kind=line, shape="chain", cuts=[{"line": middle("chain", line)}])
            for line in ("prep", "call", "paid", "post", "posted", "done")
        ]
        told += [
            ask(kind="statement", shape="loop", cuts=[{"statement": number}])
            for number in range(1, ask(statements="loop"), 40)
        ]
        told += ask(random=[6, 1])
    assert [(one["trial"], one["problems"]) for one in told if one["problems"]] == []
    assert sum(one["killed"] for one in told) > 10
