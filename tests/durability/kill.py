"""Kill runs with SIGKILL, and check that nothing is lost, repeated or wrong afterwards.

    python -m tests.durability.kill --kills 1000
    python -m tests.durability.kill --kills 300 --server

Each trial is a real process, forked from this one (which has everything imported, and never opens a
database), that runs a flow of ``flows.py`` and is killed: by itself right after it has written a
chosen line to its ledger, by itself right before it executes a chosen SQL statement, or by this
process at a random instant. Other processes then look at what it left behind and go on with it,
some of them to be killed again.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import select
import shutil
import signal
import sqlite3
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from pocoflow import RunPaused, WorkflowDB
from pocoflow.db.sql import INTERRUPTED
from tests.durability.flows import (
    CONCURRENT,
    LONG,
    SHAPES,
    Ledger,
    Line,
    Oracle,
    Shape,
    answer_to,
    oracle,
    same,
)
from tests.rows import row_of

__all__ = [
    "Cut",
    "Outcome",
    "Trial",
    "answer",
    "finish",
    "go_on",
    "in_child",
    "inspect",
    "look_at",
    "prepare",
    "process",
    "run_trial",
    "settle",
]

_RUN_ID = "durable-run"

_THREADED = ("async", *CONCURRENT)
"""Shapes whose runs leave threads behind, which wait for more to do."""

_SERVER = "POCOFLOW_KILL_SERVER"
_LEASE = 0.3


def opened(database: Path, synchronous: Any = "FULL") -> WorkflowDB:
    """The database of a trial: a file, or the schema of that name on a server."""
    url = os.environ.get(_SERVER)
    if not url:
        return WorkflowDB(database, synchronous=synchronous)
    schema = f"kill_{database.parent.name[-8:].lower()}"
    url = f"{url}&options=-csearch_path%3D{schema}"
    db = WorkflowDB(url, synchronous=synchronous, lease=_LEASE)
    row = db.get_run(_RUN_ID)
    # Of a process that was killed.
    while row is not None and db.locks.is_held(row["run_no"]):
        time.sleep(0.01)
    return db


@dataclass(frozen=True, slots=True)
class Cut:
    """When to kill a process.

    Attributes:
        line: Once it has written this line to the ledger, ``"paid 3"``.
        statement: Before it executes this SQL statement, counted from 1.
        after: So many seconds after it has begun.
    """

    line: str = ""
    statement: int = 0
    after: float | None = None


@dataclass(frozen=True, slots=True)
class Trial:
    """One run that is killed, once or several times, and then finished.

    Attributes:
        kind: Trials of one kind share a line of the table.
        shape: The flow.
        cuts: When its processes are killed.
        synchronous: How the database is opened.
        cost: Seconds that a paid call takes.
        lossy: Whether acknowledged steps may be lost: in a power cut with ``NORMAL``.
    """

    kind: str
    shape: str
    cuts: tuple[Cut, ...]
    synchronous: Any = "FULL"
    cost: float = 0.0
    lossy: bool = False


@dataclass(slots=True)
class Outcome:
    """What became of a trial."""

    trial: Trial
    problems: list[str] = field(default_factory=list)
    killed: int = 0
    repeated: int = 0
    lost: int = 0


@cache
def shape_of(name: str) -> Shape:
    """A shape by its name; ``long`` is 200 steps."""
    return LONG if name == "long" else SHAPES[name]


@cache
def expected(name: str) -> Oracle:
    """What an undisturbed run of a shape does."""
    return oracle(shape_of(name))


def prepare() -> None:
    """Do once, before processes are forked, what each of them would do before it begins.

    Modules are loaded, and classes read and proved: by runs in memory, of the shapes that leave no
    thread behind.
    """
    logging.disable()  # what they have to remark is told by the processes
    for name in SHAPES:
        if name not in _THREADED:
            expected(name)
    logging.disable(logging.NOTSET)
    assert threading.active_count() == 1


# -- processes ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child process ended.

    Attributes:
        killed: Whether it was killed by a signal.
        result: What it returned, if it did.
        error: Its traceback, if it raised.
    """

    killed: bool
    result: Any
    error: str


def in_child(
    work: Callable[[], Any], cut: tuple[float, Callable[[], object]] | None = None
) -> Ended:
    """Call a function in a process of its own and return its result, which JSON must hold.

    Args:
        work: The function.
        cut: After so many seconds, call this and then kill the process.
    """
    begun, begin = os.pipe()
    outcome, report = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.write(begin, b"!")
            os.write(report, json.dumps({"result": work()}).encode())
            code = 0
        except BaseException:  # noqa: BLE001 - reported to the parent process
            os.write(report, json.dumps({"error": traceback.format_exc()}).encode())
        finally:
            os._exit(code)
    os.close(begin)
    os.close(report)
    try:
        os.read(begun, 1)
        if cut is not None:
            after, strike = cut
            select.select([outcome], [], [], after)
            strike()
            os.kill(pid, signal.SIGKILL)
        said = b"".join(iter(lambda: os.read(outcome, 65536), b""))
    finally:
        os.close(begun)
        os.close(outcome)
        _, status = os.waitpid(pid, 0)
    answer = json.loads(said) if said else {}
    return Ended(os.WIFSIGNALED(status), answer.get("result"), answer.get("error", ""))


def _die_before(number: int) -> None:
    """Kill this process when it is about to execute its n-th SQL statement."""
    count = 0

    def trace(statement: str) -> None:
        nonlocal count
        count += 1
        if count == number:
            os.kill(os.getpid(), signal.SIGKILL)

    _trace(trace)


def _trace(trace: Callable[[str], None]) -> None:
    """Have a function called with every SQL statement before it is executed."""
    if os.environ.get(_SERVER):
        from pocoflow.db.postgres.pipeline import Pipeline

        execute, sync = Pipeline.execute, Pipeline.sync

        def executing(self: Any, sql: str, *parameters: Any) -> Any:
            trace(sql)
            return execute(self, sql, *parameters)

        def syncing(self: Any) -> None:
            trace("")
            sync(self)

        Pipeline.execute, Pipeline.sync = executing, syncing  # type: ignore[method-assign]
        return
    connect = sqlite3.connect

    def connecting(*args: Any, **settings: Any) -> sqlite3.Connection:
        made: sqlite3.Connection = connect(*args, **settings)
        made.set_trace_callback(trace)
        return made

    sqlite3.connect = connecting  # type: ignore[assignment]


def go_on(trial: Trial, cut: Cut, database: Path, ledger: Path) -> str:
    """Run, or go on with what is there: the work of a process that may be killed."""
    if cut.statement:
        _die_before(cut.statement)
    if trial.kind == "random":
        # Threads are switched at every chance, so that a race of two branches shows.
        sys.setswitchinterval(1e-6)
    book = Ledger(ledger, cut=cut.line, cost=trial.cost)
    book.write("process", "-", str(os.getpid()))
    shape = shape_of(trial.shape)
    db = opened(database, trial.synchronous)
    flow = shape.flow(book, db)
    flow.run_id = _RUN_ID
    row = db.get_run(_RUN_ID)
    try:
        if row is None:
            flow.run(shape.initial())
        elif trial.kind == "random" and row["status"] not in ("completed", "paused"):
            ended = flow.recover()
            if list(ended) != [_RUN_ID]:
                raise AssertionError(f"recover() gave {ended}")
            if (error := ended[_RUN_ID]) is not None:
                raise error
        elif row["status"] != "completed":
            flow.resume(_RUN_ID)
    except RunPaused:
        return "paused"
    finally:
        db.close()
    return "ran"


def answer(database: Path) -> None:
    """Answer every open question: the work of a person at another process."""
    with opened(database) as db:
        for asked in db.pending():
            db.answer_json(asked.run_id, answer_to(asked), question=asked.question)


def process(trial: Trial, cut: Cut, database: Path, ledger: Path) -> Ended:
    """A process that runs and may be killed; if it pauses and ends, another one after an answer."""
    while True:
        after = None if cut.after is None else (cut.after, lambda: None)
        ended = in_child(partial(go_on, trial, cut, database, ledger), after)
        if ended.result != "paused":
            return ended
        answered = in_child(partial(answer, database))
        if answered.error:
            return answered


# -- looking at what is left ----------------------------------------------------------------------


def inspect(trial: Trial, database: Path, ledger: Path) -> tuple[list[str], int]:
    """What is wrong with a database after a crash, and how many acknowledged steps it has lost."""
    lines = list(Ledger.read(ledger))
    acknowledged = sum(line.what == "done" for line in lines)
    ended = not trial.lossy and any(line.what == "end" for line in lines)
    shape = shape_of(trial.shape)
    if not os.environ.get(_SERVER) and not database.exists():
        return [], acknowledged
    problems = _integrity(database)
    with opened(database) as db:
        runs = db.list_runs()
        if not runs:
            return problems, acknowledged
        run = row_of(db, _RUN_ID)
        if ended and run["status"] != "completed":
            problems.append(f"was told to be completed, reads {run['status']}")
        if run["status"] != "completed" and not (shape.asks and run["status"] == "paused"):
            found = [r["run_id"] for r in db.list_runs() if r["status"] == "failed"]
            if found != [_RUN_ID] or run["error_msg"] != INTERRUPTED:
                problems.append(f"reads {run['status']}: {run['error_msg']}")
        stores = expected(trial.shape).stores
        steps = [row["step"] for row in db.get_checkpoints(_RUN_ID)]
        if steps != list(range(len(steps))):
            problems.append(f"checkpoints of steps {steps}")
        if run["total_steps"] != len(steps):
            problems.append(f"total_steps is {run['total_steps']}, {len(steps)} are there")
        chosen = [-1, *steps] if len(steps) < 50 else [-1, 0, len(steps) // 2, steps[-1]]
        for step in chosen:
            store = db.load_checkpoint(_RUN_ID, step, schema=shape.schema)
            if shape.ordered and not _same_store(store.as_dict(), stores[step]):
                problems.append(f"step {step} is {store.as_dict()}, not {stores[step]}")
    return problems, max(0, acknowledged - len(steps))


def _integrity(database: Path) -> list[str]:
    if os.environ.get(_SERVER):
        return []
    raw = sqlite3.connect(database)
    try:
        answers = [row[0] for row in raw.execute("PRAGMA integrity_check")]
        answers += [str(tuple(row)) for row in raw.execute("PRAGMA foreign_key_check")]
    finally:
        raw.close()
    return [] if answers == ["ok"] else [f"integrity: {answers}"]


def _same_store(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)


def settle(trial: Trial, database: Path, ledger: Path) -> tuple[list[str], int]:
    """Compare a finished run with what it should have done; how many paid calls were repeated."""
    wanted = expected(trial.shape)
    problems = _integrity(database)
    with opened(database) as db:
        run = row_of(db, _RUN_ID)
        if run["status"] != "completed" or run["total_steps"] != wanted.steps:
            problems.append(f"is {run['status']} after {run['total_steps']} steps")
        store = db.load_checkpoint(
            _RUN_ID, wanted.steps - 1, schema=shape_of(trial.shape).schema
        ).as_dict()
        if not _same_store(store, wanted.stores[wanted.steps - 1]):
            problems.append(f"the result is {store}")
        ends = ("node_end", "node_error")  # the errors here are caught
        events = Counter(e["step"] for e in db.get_events(_RUN_ID) if e["event"] in ends)
        if events != Counter(range(wanted.steps)):
            problems.append(f"ends of steps {list(events.elements())}")
        left = db.connection.rows("SELECT count(*) FROM pf_log WHERE kind IN (3, 4, 5, 6)")[0][0]
        if left:
            problems.append(f"{left} rows are left in the journal")
    lines = list(Ledger.read(ledger))
    repeated = 0
    for place in wanted.paid:
        paid = [n for n, line in enumerate(lines) if (line.what, line.place) == ("paid", place)]
        if not paid:
            problems.append(f"the paid call of {place} was skipped")
            continue
        repeated += len(paid) - 1
        if trial.lossy:
            continue
        if len({lines[n].detail for n in paid}) != 1:
            problems.append(f"{place} was paid under several keys")
        posted = _first(lines, "post", {place, place.rpartition("-")[0]})
        if posted is not None and paid[-1] > posted:
            problems.append(f"{place} was paid again after its result was acknowledged")
    keys = {line.detail for line in lines if line.what == "paid"}
    if len(keys) != len(wanted.paid) and not trial.lossy:
        problems.append(f"{len(keys)} idempotency keys for {len(wanted.paid)} paid calls")
    return problems, repeated


def _first(lines: Sequence[Line], what: str, places: set[str]) -> int | None:
    found = (n for n, line in enumerate(lines) if line.what == what and line.place in places)
    return next(found, None)


# -- trials ---------------------------------------------------------------------------------------


def run_trial(trial: Trial) -> Outcome:
    """Run, kill, look, go on, look again."""
    outcome = Outcome(trial)
    folder = Path(tempfile.mkdtemp(prefix="pocoflow-kill-"))
    database, ledger = folder / "runs.db", folder / "ledger"
    try:
        for cut in trial.cuts:
            ended = process(trial, cut, database, ledger)
            outcome.killed += ended.killed
            _note(outcome, ended)
            look_at(outcome, database, ledger)
        finish(outcome, database, ledger)
    finally:
        if outcome.problems:
            outcome.problems.append(f"kept in {folder}")
        else:
            shutil.rmtree(folder)
    return outcome


def look_at(outcome: Outcome, database: Path, ledger: Path) -> None:
    """Look at a database after a crash, in a process of its own."""
    found = in_child(lambda: inspect(outcome.trial, database, ledger))
    _note(outcome, found)
    if found.result is not None:
        problems, lost = found.result
        outcome.problems += problems
        outcome.lost += lost
        if lost and not outcome.trial.lossy:
            outcome.problems.append(f"{lost} acknowledged steps are lost")


def finish(outcome: Outcome, database: Path, ledger: Path) -> None:
    """Go on with a run to its end, and look at the whole of it."""
    trial = outcome.trial
    _note(outcome, process(trial, Cut(), database, ledger))
    last = in_child(lambda: settle(trial, database, ledger))
    _note(outcome, last)
    if last.result is not None:
        problems, outcome.repeated = last.result
        outcome.problems += problems


def _note(outcome: Outcome, ended: Ended) -> None:
    if ended.error:
        outcome.problems.append(ended.error)


def line_trials(shapes: Sequence[str] = tuple(SHAPES)) -> Iterator[Trial]:
    """A kill at every line of the ledger, in every step of every shape."""
    for shape in shapes:
        beside = ", others beside it" if shape in CONCURRENT else ""
        for line in expected(shape).lines:
            yield Trial(f"line: {line.split()[0]}{beside}", shape, (Cut(line=line),))


def statement_trials(shape: str, last: int, every: int = 1) -> Iterator[Trial]:
    """A kill before every SQL statement of a run, and of the run that goes on with it."""
    for number in range(1, last, every):
        cuts = (Cut(statement=number), Cut(statement=1 + number * 7 % 40))
        yield Trial("statement", shape, cuts)


def random_trials(count: int, seed: int, shapes: Sequence[str] = tuple(SHAPES)) -> Iterator[Trial]:
    """Kills at random instants, one to three of them in a run, over the shapes."""
    chance = random.Random(seed)
    for number in range(count):
        shape = shapes[number % len(shapes)]
        spent = duration(Trial("random", shape, ()))
        cuts = [Cut(after=chance.uniform(0, spent)) for _ in range(chance.choice((1, 1, 2, 3)))]
        yield Trial("random", shape, tuple(cuts))


def long_trials(count: int, seed: int, synchronous: str = "FULL") -> Iterator[Trial]:
    """Kills at random instants in a run of 200 steps whose calls take 1 ms."""
    chance = random.Random(seed)
    kind = f"random, 200 steps of 1 ms, {synchronous}"
    trial = Trial(kind, "long", (), synchronous, cost=0.001)
    spent = duration(trial)
    for _ in range(count):
        yield replace(trial, cuts=(Cut(after=chance.uniform(0, spent)),))


@cache
def duration(trial: Trial) -> float:
    """How long an undisturbed run takes, opening the database included; the shortest of three."""
    times = []
    for _ in range(3):
        folder = Path(tempfile.mkdtemp(prefix="pocoflow-kill-"))
        began = time.perf_counter()
        process(trial, Cut(), folder / "runs.db", folder / "ledger")
        times.append(time.perf_counter() - began)
        shutil.rmtree(folder)
    return min(times)


def statements(shape: str) -> int:
    """How many SQL statements an undisturbed run of a shape executes."""

    def count() -> int:
        executed = 0

        def trace(statement: str) -> None:
            nonlocal executed
            executed += 1

        _trace(trace)
        with tempfile.TemporaryDirectory(prefix="pocoflow-kill-") as folder:
            go_on(Trial("", shape, ()), Cut(), Path(folder, "runs.db"), Path(folder, "ledger"))
        return executed

    return int(in_child(count).result)


# -- the script -----------------------------------------------------------------------------------


def serve() -> None:
    """Carry out the trials that come in, one JSON line each, until there are no more."""
    prepare()
    for line in sys.stdin:
        asked = json.loads(line)
        if "statements" in asked:
            answer: Any = statements(asked["statements"])
        elif "random" in asked:
            answer = [_report(run_trial(one)) for one in random_trials(*asked["random"])]
        elif "long" in asked:
            answer = [_report(run_trial(one)) for one in long_trials(*asked["long"])]
        else:
            cuts = tuple(Cut(**cut) for cut in asked["cuts"])
            answer = _report(run_trial(Trial(asked["kind"], asked["shape"], cuts)))
        print(json.dumps(answer), flush=True)


def _report(outcome: Outcome) -> dict[str, Any]:
    return {
        "trial": repr(outcome.trial),
        "killed": outcome.killed,
        "repeated": outcome.repeated,
        "problems": outcome.problems,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out many trials and print what became of them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=1000, help="trials in all (1000)")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument(
        "--shape", choices=SHAPES, action="append", help="only flows of this shape (all of them)"
    )
    parser.add_argument("--serve", action="store_true", help="read trials from the standard input")
    parser.add_argument("--server", action="store_true", help="on a PostgreSQL server")
    args = parser.parse_args(arguments)
    if args.serve:
        serve()
        return 0
    if not args.server:
        return _many(args)
    from tests.servers import running

    with running() as server:
        os.environ[_SERVER] = f"postgresql://tester@/postgres?host={server.folder}"
        return _many(args)


def _many(args: argparse.Namespace) -> int:
    print(f"seed {args.seed}")
    prepare()
    shapes = args.shape or list(SHAPES)
    trials = list(line_trials(shapes))
    for shape in shapes:
        trials += statement_trials(shape, statements(shape), every=3)
    rest = max(args.kills - len(trials), args.kills // 2)
    trials = trials[: max(args.kills - rest, 0)] if args.kills < len(trials) else trials
    trials += random_trials(rest - rest // 3, args.seed, shapes)
    trials += long_trials(rest // 6, args.seed)
    trials += long_trials(rest // 3 - rest // 6, args.seed, "NORMAL")
    return _table(trials)


def _table(trials: Sequence[Trial]) -> int:
    began = time.monotonic()
    outcomes: dict[str, list[Outcome]] = {}
    bad = []
    for number, trial in enumerate(trials, 1):
        outcome = run_trial(trial)
        outcomes.setdefault(trial.kind, []).append(outcome)
        if outcome.problems:
            bad.append(outcome)
            print(f"\n{trial}", *outcome.problems, sep="\n  ", flush=True)
        if sys.stderr.isatty():
            print(f"\r{number} of {len(trials)}", end="", file=sys.stderr, flush=True)
    print(f"{'kill':<34}{'trials':>8}{'kills':>8}{'ok':>8}{'repeated paid calls':>22}")
    for kind, those in [
        *outcomes.items(),
        ("all", [o for all_ in outcomes.values() for o in all_]),
    ]:
        kills = sum(o.killed for o in those)
        repeated = sum(o.repeated for o in those)
        share = f"{repeated} ({100 * repeated / max(kills, 1):.1f} per 100)"
        ok = sum(not o.problems for o in those)
        print(f"{kind:<34}{len(those):>8}{kills:>8}{ok:>8}{share:>22}")
    print(f"{len(bad)} bad, {time.monotonic() - began:.0f} s")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
