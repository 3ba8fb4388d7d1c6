"""Workers on one database, one of them killed each second: what is due happens, and once.

    python -m tests.durability.worker --seconds 60
    python -m tests.durability.worker --seconds 60 --workers 4 --server

Runs are submitted, answered, left until the deadline of their question, and begun by a schedule of
each second, while real processes of ``pocoflow worker`` are killed with SIGKILL and started again.
Afterwards every run is completed, none was done twice, and no ``exec`` was called again once its
result was on record. How long what is due waits for a worker is measured, and what a worker costs
that has nothing to do. On a server, a worker is also suspended every ten seconds, for longer than
its leases are, and goes on.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

from pocoflow import AskNode, Flow, Node, Question, Store, WorkflowDB, cli, context
from pocoflow.db import EventRow, RunRow

__all__ = ["TARGETS", "Load", "Outcome", "idle_cost", "trial"]

ROOT = Path(__file__).parents[2]

TARGETS = [f"tests.durability.worker:{name}" for name in ("plain", "asking", "late", "each_second")]

_FOLDER = "POCOFLOW_WORKER_TEST"
_SERVER = "POCOFLOW_WORKER_SERVER"
_PATIENCE = 120.0

LEASE = 2.0
"""Seconds of a lease on a server."""


def database() -> WorkflowDB | Path:
    """Where the runs are."""
    if os.environ.get(_SERVER):
        return WorkflowDB(os.environ[_SERVER], lease=LEASE)
    return Path(os.environ[_FOLDER]) / "runs.db"


# -- the flows, as a worker imports them ----------------------------------------------------------


def note(what: str) -> None:
    """Write a line to the ledger: what happened, in which run, and when."""
    line = f"{what} {context().run_id} {time.time()}\n"
    with open(Path(os.environ[_FOLDER]) / "ledger", "ab", buffering=0) as ledger:
        ledger.write(line.encode())


class Pay(Node):
    """A call that costs something."""

    def exec(self, prepared: object) -> float:
        note("paid")
        time.sleep(0.02)
        return time.time()

    def post(self, store: Store[Any], prepared: object, result: float) -> str:
        note("kept")
        store["at"] = result
        return "done"


class End(Node):
    """The last step."""

    def post(self, store: Store[Any], prepared: object, result: object) -> str:
        note("done")
        return "done"


class Ask(AskNode[bool, str]):
    """Asks a person; after a while, if there is a deadline, its default counts."""

    deadline: float | None = None

    def exec(self, prepared: object) -> Question[bool]:
        if self.deadline is None:
            return Question("Go on?")
        return Question("Go on?", deadline=self.deadline, default=True)

    def post(self, store: Store[Any], prepared: object, answer: bool) -> str:
        note("taken")
        return "default"


def _flow(start: Any, name: str) -> Flow[Any]:
    pay, end = Pay(), End()
    if start is not None:
        start.then("default", pay)
    pay.then("done", end)
    return Flow(pay if start is None else start, flow_name=name, db_path=database())


def plain() -> Flow[Any]:
    """A paid call."""
    return _flow(None, "plain")


def asking() -> Flow[Any]:
    """A question, and a paid call after its answer."""
    return _flow(Ask(), "asking")


def late() -> Flow[Any]:
    """A question that nobody answers."""
    ask = Ask()
    ask.deadline = 2.0
    return _flow(ask, "late")


def each_second() -> Flow[Any]:
    """A paid call at every second."""
    return _flow(None, "each_second").schedule("tick", "* * * * * *")


# -- the processes --------------------------------------------------------------------------------


def work(folder: str, server: str) -> None:
    """What the process of a worker does: the command, with its arguments."""
    os.environ[_FOLDER], os.environ[_SERVER] = folder, server
    log = os.open(Path(folder) / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.path.insert(0, str(ROOT))
    sys.exit(cli.main(["worker", *TARGETS, "--concurrency", "4"]))


class Workers:
    """Processes of ``pocoflow worker``, of which one is killed now and then.

    They are forked from a process that has everything imported and opens no database, so that it is
    not the imports what is measured.
    """

    def __init__(self, folder: Path, count: int) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(
            [
                *("pocoflow.cli.worker", "pocoflow.check.proof", "pocoflow.flow.resume.stored_run"),
                *("pocoflow.nodes.answer_types", "cronsim", "importlib.metadata"),
            ]
        )
        self._folder = folder
        self._all = [self._start() for _ in range(count)]
        self.killed: list[int | None] = []
        self._suspended: Any = None

    def _start(self) -> Any:
        made = self._context.Process(
            target=work, args=(str(self._folder), os.environ.get(_SERVER, ""))
        )
        made.start()
        return made

    def kill_one(self) -> None:
        """Kill the one that has worked longest, note its exit code, and start another one."""
        oldest = self._all.pop(0)
        oldest.kill()
        oldest.join()
        self.killed.append(oldest.exitcode)
        self._all.append(self._start())

    def suspend_one(self) -> None:
        """Suspend the one that has begun last, and have one more work meanwhile."""
        self._suspended = self._all.pop()
        os.kill(self._suspended.pid, signal.SIGSTOP)
        self._all.append(self._start())

    def continue_one(self) -> None:
        """Have the one go on that was suspended."""
        if self._suspended is not None:
            os.kill(self._suspended.pid, signal.SIGCONT)
            self._all.append(self._suspended)
            self._suspended = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        # Those that are there yet, as the trial has failed: their parent waits for them at its end.
        self.continue_one()
        for one in self._all:
            one.kill()
            one.join()

    def end(self) -> list[int | None]:
        """Tell all of them to end; their exit codes."""
        self.continue_one()
        for one in self._all:
            one.terminate()
        for one in self._all:
            one.join(_PATIENCE)
        return [one.exitcode for one in self._all]


@contextmanager
def _environment(folder: Path, server: str = "") -> Iterator[None]:
    before = {name: os.environ.get(name, "") for name in (_FOLDER, _SERVER)}
    os.environ.update({_FOLDER: str(folder), _SERVER: server})
    try:
        yield
    finally:
        os.environ.update(before)


# -- a trial --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Load:
    """What is to be done in a trial.

    Attributes:
        seconds: How long runs are submitted, and workers killed.
        queued: Runs that are submitted.
        answers: Runs that ask, and are answered.
        deadlines: Runs that ask, and are not.
        workers: Processes.
    """

    seconds: int = 60
    queued: int = 1000
    answers: int = 100
    deadlines: int = 100
    workers: int = 2


@dataclass(slots=True)
class Outcome:
    """What became of a trial.

    Attributes:
        problems: What must not be.
        waits: Seconds from when a run was due to when a worker took it, by what made it due.
        runs: How many runs there were.
        killed: How many workers were killed.
        interrupted: How many times a run was interrupted.
        unfinished: How many calls were repeated because they had not finished.
    """

    problems: list[str] = field(default_factory=list)
    waits: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    runs: int = 0
    killed: int = 0
    interrupted: int = 0
    unfinished: int = 0


def trial(load: Load, folder: Path, server: str = "") -> Outcome:
    """Submit and answer while workers are killed, let them finish, and look.

    Args:
        load: What is to be done.
        folder: Where the file is, and what the nodes tell.
        server: The database, if it is no file.
    """
    outcome = Outcome()
    with (
        _environment(folder, server),
        WorkflowDB(server or folder / "runs.db") as db,
        Workers(folder, load.workers) as workers,
    ):
        answered = _submit(load, db, workers)
        last = _settle(db)
        codes = workers.end()
        outcome.killed = len(workers.killed)
        if not {*workers.killed} <= {-signal.SIGKILL}:
            outcome.problems.append(f"workers ended before they were killed: {workers.killed}")
        if not {*codes} <= {0, -signal.SIGTERM}:  # the second of one that has only just begun
            outcome.problems.append(f"workers that were told to end did so with {codes}")
        _inspect(outcome, db, folder, answered, last)
    return outcome


def _submit(load: Load, db: WorkflowDB, workers: Workers) -> dict[str, float]:
    """Spread the load over the time, and kill a worker each second; when which run was answered."""
    flows = {one().flow_name: one().using(db_path=db) for one in (plain, asking, late)}
    order = _mixed(load)
    begin, kills = time.monotonic(), 0
    answered: dict[str, float] = {}
    for number, name in enumerate(order):
        flows[name].submit()
        while True:
            spent = time.monotonic() - begin
            if spent >= kills + 1:
                kills += 1
                workers.kill_one()
                if os.environ[_SERVER] and kills % 10 == 3:
                    workers.suspend_one()
                elif kills % 10 == 3 + 2 * LEASE:
                    workers.continue_one()
                _answer(db, answered)
            if spent >= load.seconds * (number + 1) / len(order):
                break
            time.sleep(0.01)
    while len(answered) < load.answers and time.monotonic() - begin < load.seconds + _PATIENCE:
        _answer(db, answered)
        time.sleep(0.1)
    return answered


def _mixed(load: Load) -> list[str]:
    """The names of the flows, one after the other, each spread over the time."""
    counts = {"plain": load.queued, "asking": load.answers, "late": load.deadlines}
    places = [((n + 0.5) / count, name) for name, count in counts.items() for n in range(count)]
    return [name for _, name in sorted(places)]


def _answer(db: WorkflowDB, answered: dict[str, float]) -> None:
    for asked in db.pending():
        if asked.flow_name == "asking" and asked.run_id not in answered:
            answered[asked.run_id] = time.time()  # before a worker can see the answer
            db.answer_json(asked.run_id, True)


def _settle(db: WorkflowDB) -> str:
    """Wait until all has ended that was due by now; the last occurrence that was.

    The schedule goes on: what is due later may be queued still when the workers are told to end.
    """
    last, until = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}", time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        rows = db.connection.rows("SELECT run_id, flow_name, status FROM pf_run")
        ticks = sorted(_tick(run_id) for run_id, name, _ in rows if name == "each_second")
        is_open = any(
            status not in ("completed", "cancelled")
            for run_id, name, status in rows
            if name != "each_second" or _tick(run_id) <= last
        )
        if not is_open and ticks and ticks[-1] >= last and not any(_gaps(ticks)):
            break
        time.sleep(0.1)
    return last


def _tick(run_id: str) -> str:
    """Which occurrence of the schedule a run is."""
    return run_id.rpartition(".")[2]


def _inspect(
    outcome: Outcome, db: WorkflowDB, folder: Path, answered: dict[str, float], last: str
) -> None:
    lines = (folder / "ledger").read_text().splitlines()
    ledger: dict[str, list[tuple[str, float]]] = defaultdict(list)
    for what, run_id, at in (line.split() for line in lines):
        ledger[run_id].append((what, float(at)))
    runs = db.list_runs(1_000_000)
    outcome.runs = len(runs)
    ticks = []
    for run in runs:
        run_id, name = run["run_id"], run["flow_name"]
        if name == "each_second" and _tick(run_id) > last:
            continue
        if run["status"] != "completed":
            outcome.problems.append(f"{run_id} is {run['status']}: {run['error_msg']}")
            continue
        events = db.get_events(run_id)
        told = Counter(event["event"] for event in events)
        outcome.interrupted += told["flow_resume"] - (name in ("asking", "late"))
        if told["flow_end"] != 1 or told["flow_start"] != 1:
            outcome.problems.append(f"{run_id} began {told['flow_start']} times")
        outcome.problems += _repeated(run_id, [what for what, _ in ledger[run_id]])
        outcome.unfinished += [what for what, _ in ledger[run_id]].count("paid") - 1
        _measure(outcome, db, run, events, answered)
        if name == "each_second":
            ticks.append(_tick(run_id))
    outcome.problems += _gaps(sorted(ticks))


def _repeated(run_id: str, said: list[str]) -> Iterator[str]:
    """A call that was repeated although its result was on record; a step that was done twice."""
    if "done" not in said or "paid" not in said:
        yield f"{run_id} did not do everything: {said}"
        return
    last_paid = len(said) - 1 - said[::-1].index("paid")
    if said.index("kept") < last_paid:
        yield f"{run_id} was paid again after its result was on record: {said}"


def _gaps(ticks: list[str]) -> Iterator[str]:
    """Seconds between the first and the last of a schedule that have no run."""
    times = [datetime.strptime(one, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC) for one in ticks]
    for one, other in pairwise(times):
        if other - one != timedelta(seconds=1):
            yield f"no occurrence between {one} and {other}"
    if not times:
        yield "the schedule has no run"


def _measure(
    outcome: Outcome,
    db: WorkflowDB,
    run: RunRow,
    events: list[EventRow],
    answered: dict[str, float],
) -> None:
    """How long it took from when a run was due until a worker had it."""
    began = [_seconds(one["ts"]) for one in events if one["event"] == "flow_start"]
    resumed = [_seconds(one["ts"]) for one in events if one["event"] == "flow_resume"]
    name = run["flow_name"]
    if name in ("plain", "each_second"):
        kind = "queued" if name == "plain" else "schedule"
        outcome.waits[kind].append(began[0] - _seconds(str(run["due_at"])))
        return
    (asked,) = db.get_questions(run["run_id"])
    due = answered[run["run_id"]] if name == "asking" else _seconds(str(asked.deadline))
    after = [at for at in resumed if at >= due - 0.001]
    if after:
        outcome.waits["answer" if name == "asking" else "deadline"].append(after[0] - due)


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


# -- what a worker costs that has nothing to do ---------------------------------------------------


def idle_cost(folder: Path, server: str = "", seconds: float = 20.0) -> float:
    """The share of a processor that a worker uses while nothing is due, on Linux."""
    command = [sys.executable, "-m", "pocoflow", "worker", *TARGETS[:3]]
    with _environment(folder, server):
        worker = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
    assert worker.stdout is not None
    worker.stdout.readline()
    time.sleep(2.0)
    before = _cpu(worker.pid)
    time.sleep(seconds)
    spent = _cpu(worker.pid) - before
    worker.send_signal(signal.SIGTERM)
    worker.wait(_PATIENCE)
    worker.stdout.close()
    return spent / seconds


def _cpu(pid: int) -> float:
    # The name of the program, which may hold blanks, is in brackets before.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _row(name: str, waits: Iterable[float]) -> str:
    found = sorted(waits)
    cuts = statistics.quantiles(found, n=100, method="inclusive") if len(found) > 1 else found * 99
    return (
        f"{name:<10} {len(found):>6} {cuts[49] * 1000:>9.0f} ms {cuts[94] * 1000:>9.0f} ms "
        f"{found[-1] * 1000:>9.0f} ms"
    )


def main(arguments: list[str] | None = None) -> int:
    """Print what came of a trial; 1 if something was lost or done twice."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m tests.durability.worker")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--queued", type=int, default=1000)
    parser.add_argument("--answers", type=int, default=100)
    parser.add_argument("--deadlines", type=int, default=100)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--server", action="store_true", help="on a PostgreSQL server")
    given = parser.parse_args(arguments)
    with ExitStack() as stack:
        url = ""
        if given.server:
            from tests.servers import running

            url = stack.enter_context(running("-c max_connections=300")).url()
        return _report(given, url)


def _report(given: argparse.Namespace, url: str) -> int:
    folder = Path(tempfile.mkdtemp(prefix="pocoflow-worker-"))
    load = Load(given.seconds, given.queued, given.answers, given.deadlines, given.workers)
    outcome = trial(load, folder, url)
    print(
        f"{outcome.runs} runs, {outcome.killed} workers killed, runs interrupted "
        f"{outcome.interrupted} times, {outcome.unfinished} unfinished calls repeated"
    )
    print(f"{'due by':<10} {'runs':>6} {'median':>12} {'p95':>12} {'most':>12}")
    for name, waits in outcome.waits.items():
        print(_row(name, waits))
    print(f"idle worker: {idle_cost(folder, url):.2%} of a processor")
    for problem in outcome.problems:
        print(problem)
    if outcome.problems:
        print(f"kept in {folder}")
    else:
        shutil.rmtree(folder)
    return bool(outcome.problems)


if __name__ == "__main__":
    sys.exit(main())
