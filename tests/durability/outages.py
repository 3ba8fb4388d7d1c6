"""Workers at a PostgreSQL server that is away for a while: in whichever way, everything goes on.

    python -m tests.durability.outages --seconds 20
    python -m tests.durability.outages --seconds 20 cut --runs 500

Runs of three paid calls are submitted at a steady rate to real processes of ``pocoflow worker``.
After a third of the time something happens that lasts for another third, longer than a lease:

cut
    The network between two network namespaces: half of the workers are beyond it (needs root).
crash, restart
    The server is stopped, at once as in a crash or in order, and started again.
connections
    The workers lose their connections, and somebody else has all that the server gives.
disk
    The disk of the server is full: a small file system in memory (needs root).
suspended
    A worker is stopped by SIGSTOP, and continued.

Afterwards every run is completed, by a worker or, if it failed, by a resume, no call was made again
whose result was on record, and the workers have said what happened. A worker that others took runs
from may be about to make one more call of each, until it comes to know that. How many calls were
made again, and how soon everything went on, is measured.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeAlias, TypeVar

import psycopg

from pocoflow import Flow, Node, Store, WorkflowDB, context
from pocoflow.errors import DatabaseError
from tests.servers import Server, running

__all__ = ["OUTAGES", "ImpossibleError", "Outcome", "trial"]

T = TypeVar("T")

Workers: TypeAlias = Sequence[subprocess.Popen[bytes]]

ROOT = Path(__file__).parents[2]

LEASE = 1.0

_FOLDER, _URL = "POCOFLOW_OUTAGES_FOLDER", "POCOFLOW_OUTAGES_URL"
_DEADLINE = 120.0


class ImpossibleError(Exception):
    """This machine does not let that happen, and why."""


# -- the flow, as a worker imports it -------------------------------------------------------------


class Noted(NamedTuple):
    """A line of the ledger: what happened to which call, in which run, when, and in which process.

    ``paid`` stands for a call, and ``kept`` for its result, which is on record then.
    """

    what: str
    node: str
    run_id: str
    at: float
    pid: int


def noted(folder: Path) -> list[Noted]:
    """The lines that are there."""
    path = folder / "ledger"
    lines = (line.split() for line in path.read_text().splitlines()) if path.exists() else ()
    return [Noted(what, node, run_id, float(at), int(pid)) for what, node, run_id, at, pid in lines]


def note(what: str) -> None:
    """Write one."""
    line = f"{what} {context().node} {context().run_id} {time.time()} {os.getpid()}\n"
    with open(Path(os.environ[_FOLDER]) / "ledger", "ab", buffering=0) as ledger:
        ledger.write(line.encode())


class Pay(Node):
    """A call that costs something."""

    def exec(self, prepared: object) -> str:
        note("paid")
        time.sleep(0.4)
        return os.urandom(2000).hex()

    def post(self, store: Store[Any], prepared: object, result: str) -> str:
        note("kept")
        store[context().node] = result
        return "default"


CALLS = ("first", "second", "third")


def paying() -> Flow[Any]:
    """Three calls."""
    nodes = [Pay(name=name) for name in CALLS]
    db = WorkflowDB(os.environ[_URL], lease=LEASE)
    flow: Flow[Any] = Flow(nodes[0], flow_name="paying", db_path=db)
    for one, other in pairwise(nodes):
        flow.then(one, other)
    return flow


# -- what happens ---------------------------------------------------------------------------------


class Outage(ABC):
    """What happens to a server, or on the way to it.

    Attributes:
        told: What a worker says of it.
        options: Of the server.
        takes_runs: Whether others take the runs of some of the workers.
    """

    told: ClassVar[str]
    options: ClassVar[str] = ""
    takes_runs: ClassVar[bool] = False

    def __init__(self, stack: ExitStack) -> None:
        self.stack = stack

    def prepare(self, server: Server) -> tuple[str, str]:
        """The URLs of the database, as workers nearby and workers far away have it."""
        self.server = server
        url = server.url()
        return url, url

    def command(self) -> list[str]:
        """What a worker far away is started with."""
        return []

    def concerned(self, workers: Workers) -> Workers:
        """The workers to which it happens."""
        return workers

    @abstractmethod
    def begin(self, workers: Workers) -> None:
        """Let it happen."""

    @abstractmethod
    def end(self) -> None:
        """Let it be over."""


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ImpossibleError(f"no network namespace can be made here: {done.stderr.strip()}")


_NEAR, _FAR = "10.213.0.1", "10.213.0.2"
"""The addresses of the two ends of a network."""


class Cut(Outage):
    """The network is cut: what is sent does not come, and nobody says so."""

    told = "is not this process's"
    takes_runs = True

    def prepare(self, server: Server) -> tuple[str, str]:
        """A network of two, each in a namespace of its own."""
        if os.geteuid() != 0 or shutil.which("ip") is None:
            raise ImpossibleError("needs root on Linux, and ip (Debian: apt-get install iproute2)")
        # Each end is in a namespace: that of the machine stays as it is, as Chromium gives up
        # whatever it loads when an address comes or goes there, also from the machine itself.
        home, self._space = (f"pf-{os.getpid()}-{end}" for end in ("server", "far"))
        for space in (home, self._space):
            _ip("netns", "add", space)
            self.stack.callback(_ip, "netns", "del", space)
        there = ("peer", "name", "far", "netns", self._space)
        _ip("-n", home, "link", "add", "near", "type", "veth", *there)
        for space, link, address in ((home, "near", _NEAR), (self._space, "far", _FAR)):
            _ip("-n", space, "addr", "add", f"{address}/24", "dev", link)
            _ip("-n", space, "link", "set", link, "up")
        server.stop("fast")
        server.start(f"-c listen_addresses={_NEAR}", through=["ip", "netns", "exec", home])
        server.let_in(f"{_FAR}/32")
        return server.url("cut"), server.url("cut", host=_NEAR)

    def command(self) -> list[str]:
        """A worker is beyond the network."""
        return ["ip", "netns", "exec", self._space]

    def concerned(self, workers: Workers) -> Workers:
        """Those that are beyond it."""
        return workers[::2]

    def begin(self, workers: Workers) -> None:
        """Cut it."""
        _ip("-n", self._space, "link", "set", "far", "down")

    def end(self) -> None:
        """Mend it."""
        _ip("-n", self._space, "link", "set", "far", "up")


class Crash(Outage):
    """The server crashes, and is started again."""

    told = "cannot be reached"
    mode = "immediate"

    def begin(self, workers: Workers) -> None:
        """Stop it."""
        self.server.stop(self.mode)

    def end(self) -> None:
        """Start it."""
        self.server.start()


class Restart(Crash):
    """The server is stopped in order, and started again."""

    mode = "fast"


class Connections(Outage):
    """Somebody else has all connections that the server gives."""

    told = "too many clients already"
    options = "-c max_connections=24"

    def begin(self, workers: Workers) -> None:
        """Take them, those of the workers as well."""
        self._taken: list[psycopg.Connection[Any]] = []
        connect = self.server.url("public", more="&application_name=other")
        with psycopg.connect(connect, autocommit=True) as first:
            while True:
                with suppress(psycopg.OperationalError):
                    while True:
                        self._taken.append(psycopg.connect(connect))
                ended = first.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE application_name = 'pocoflow'"
                ).fetchall()
                if not ended:
                    break

    def end(self) -> None:
        """Give them back."""
        for one in self._taken:
            one.close()


class Disk(Outage):
    """The disk of the server is full."""

    told = "the disk of the server is full"

    def prepare(self, server: Server) -> tuple[str, str]:
        """A database on a small disk."""
        folder = server.folder / "small"
        folder.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)]
        if os.geteuid() != 0 or shutil.which("mount") is None:
            raise ImpossibleError("needs root on Linux")
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ImpossibleError(f"no file system can be mounted: {done.stderr.strip()}")
        self.stack.callback(subprocess.run, ["umount", "-l", str(folder)], check=True)
        self._filler = folder / "filler"
        server.own(folder)
        server.execute(
            f"CREATE TABLESPACE small LOCATION '{folder}'", "CREATE DATABASE small TABLESPACE small"
        )
        url = server.url(database="small")
        return url, url

    def begin(self, workers: Workers) -> None:
        """Fill it."""
        with self._filler.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(b"x" * 4096)

    def end(self) -> None:
        """Make room."""
        self._filler.unlink()


class Suspended(Outage):
    """A worker stands still for longer than its leases are."""

    told = "is not this process's"
    takes_runs = True

    def concerned(self, workers: Workers) -> Workers:
        """One of them."""
        return workers[:1]

    def begin(self, workers: Workers) -> None:
        """Stop it."""
        (self._worker,) = workers
        self._worker.send_signal(signal.SIGSTOP)

    def end(self) -> None:
        """Let it go on."""
        self._worker.send_signal(signal.SIGCONT)


OUTAGES: dict[str, type[Outage]] = {
    "cut": Cut,
    "crash": Crash,
    "restart": Restart,
    "connections": Connections,
    "disk": Disk,
    "suspended": Suspended,
}


# -- a trial --------------------------------------------------------------------------------------


@dataclass(slots=True)
class Outcome:
    """What became of a trial.

    Attributes:
        problems: What must not be.
        runs: How many runs there were.
        interrupted: How many times a run was interrupted, and gone on with.
        failed: How many runs failed, and were resumed by hand.
        repeated: How many calls were made again, as their results were not on record or not known.
        silence: The longest time without a result during the outage.
        late: Seconds from the end of the outage until all was done that was submitted before that.
    """

    problems: list[str] = field(default_factory=list)
    runs: int = 0
    interrupted: int = 0
    failed: int = 0
    repeated: int = 0
    silence: float = 0.0
    late: float = 0.0


class Times(NamedTuple):
    """When an outage was.

    Attributes:
        began: Its beginning.
        ended: Its end.
        before: The runs that were submitted before its end.
        unaware: The processes that others took runs from, which they do not know at first.
    """

    began: float
    ended: float
    before: set[str]
    unaware: set[int]


def trial(name: str, folder: Path, *, seconds: float, runs: int, workers: int = 4) -> Outcome:
    """Have an outage while workers are at work, let them finish, and look.

    Args:
        name: Which outage.
        folder: Where workers tell what they do.
        seconds: How long the outage is, and how long runs are submitted before and after it.
        runs: How many are submitted.
        workers: How many processes work; half of them are far away.

    Raises:
        ImpossibleError: The machine does not let that happen.
    """
    kind, outcome = OUTAGES[name], Outcome(runs=runs)
    with running(f"-c max_connections=100 {kind.options}") as server, ExitStack() as stack:
        outage = kind(stack)
        near, far = outage.prepare(server)
        with WorkflowDB(f"{near}&application_name=watcher", lease=LEASE) as db:
            processes = [
                stack.enter_context(_worker(folder, far, outage.command(), number))
                if number % 2 == 0
                else stack.enter_context(_worker(folder, near, [], number))
                for number in range(workers)
            ]
            flow = _flow(db, folder)
            times = _submit(outage, processes, flow, folder, (seconds, runs))
            _settle(flow, outcome)
            for one in processes:
                one.send_signal(signal.SIGTERM)
            codes = [one.wait(_DEADLINE) for one in processes]
            if {*codes} != {0}:
                outcome.problems.append(f"workers ended with {codes}")
            _inspect(outcome, db, folder, times)
    log = "".join((folder / f"log-{number}").read_text() for number in range(workers))
    if outage.told not in log:
        outcome.problems.append(f"no worker has said {outage.told!r}")
    return outcome


def _flow(db: WorkflowDB, folder: Path) -> Flow[Any]:
    os.environ.update({_FOLDER: str(folder), _URL: db.path})
    return paying().using(db_path=db)


@contextmanager
def _worker(
    folder: Path, url: str, command: list[str], number: int
) -> Iterator[subprocess.Popen[bytes]]:
    words = ["-m", "pocoflow", "worker", "tests.durability.outages:paying", "--concurrency", "4"]
    environment = {**os.environ, _FOLDER: str(folder), _URL: url, "PYTHONUNBUFFERED": "1"}
    told = folder / f"log-{number}"
    with told.open("wb") as log:
        process = subprocess.Popen(
            [*command, sys.executable, *words], cwd=ROOT, env=environment, stdout=log, stderr=log
        )
    try:
        until = time.monotonic() + _DEADLINE
        while "worker of" not in told.read_text():
            assert time.monotonic() < until
            assert process.poll() is None, told.read_text()
            time.sleep(0.05)
        yield process
    finally:
        process.kill()
        process.wait()


def _submit(
    outage: Outage, workers: Workers, flow: Flow[Any], folder: Path, load: tuple[float, int]
) -> Times:
    """Spread the runs over the time, with the outage in its middle."""
    seconds, runs = load
    begin, times, before = time.time(), list[float](), set[str]()
    concerned, at_work = outage.concerned(workers), set[str]()
    waiting = list(range(runs))
    while waiting or len(times) < 2:
        spent = time.time() - begin
        assert spent < 3 * seconds + _DEADLINE
        if not times and spent > seconds and (at_work := _at_work(folder, concerned)):
            outage.begin(concerned)
            if outage.takes_runs and not _running(flow, at_work):
                outage.end()  # they have ended meanwhile: nobody would take one
            else:
                times.append(time.time())
        elif (
            len(times) == 1
            and time.time() > times[0] + seconds
            and (
                not outage.takes_runs
                or _taken(folder, concerned, at_work)
                or not _running(flow, at_work)  # taken, and no call was left to make
            )
        ):
            outage.end()
            times.append(time.time())
        with suppress(DatabaseError):  # as somebody who tries again
            for one in [one for one in waiting if one * 3 * seconds / runs <= spent]:
                flow.submit({}, run_id=f"run-{one}", if_exists="join")
                waiting.remove(one)
                if len(times) < 2:
                    before.add(f"run-{one}")
        time.sleep(0.02)
    unaware = {one.pid for one in concerned if outage.takes_runs}
    return Times(times[0], times[1], before, unaware)


def _at_work(folder: Path, workers: Workers) -> set[str]:
    """The runs that workers have just begun a call of."""
    pids, now = [one.pid for one in workers], time.time()
    lines = noted(folder)
    return {one.run_id for one in lines if one.pid in pids and one.at > now - 0.2} - {
        one.run_id for one in lines if one.what == "kept" and one.at > now - 0.2
    }


def _running(flow: Flow[Any], runs: set[str]) -> bool:
    """Whether one of these runs has not ended, also one that nobody has at this time."""
    rows = [row for one in runs if (row := flow.database.get_run(one)) is not None]
    return any(row["status"] == "running" or row["error_type"] == "Interrupted" for row in rows)


def _taken(folder: Path, workers: Workers, runs: set[str]) -> bool:
    """Whether one of these runs is at work in another process."""
    pids = [one.pid for one in workers]
    return any(one.run_id in runs and one.pid not in pids for one in noted(folder))


def _patiently(call: Callable[[], T]) -> T:
    until = time.monotonic() + _DEADLINE
    while True:
        try:
            return call()
        except DatabaseError:
            assert time.monotonic() < until
            time.sleep(0.1)


def _settle(flow: Flow[Any], outcome: Outcome) -> None:
    """Wait until all runs are completed; a failed one is resumed by hand."""
    until = time.monotonic() + _DEADLINE
    while time.monotonic() < until:
        rows = _patiently(lambda: flow.database.list_runs(1_000_000))
        if all(row["status"] == "completed" for row in rows):
            return
        for row in rows:
            if row["status"] == "failed" and row["error_type"] != "Interrupted":
                outcome.failed += 1
                with suppress(DatabaseError):
                    flow.resume(row["run_id"])
        time.sleep(0.1)
    outcome.problems.append("not all runs are completed")


def _inspect(outcome: Outcome, db: WorkflowDB, folder: Path, times: Times) -> None:
    told: dict[tuple[str, str], list[Noted]] = defaultdict(list)
    for line in noted(folder):
        told[line.run_id, line.node].append(line)
    kept = sorted(one.at for lines in told.values() for one in lines if one.what == "kept")
    during = [times.began, *(at for at in kept if times.began < at < times.ended), times.ended]
    outcome.silence = max(b - a for a, b in pairwise(during))
    for row in db.list_runs(1_000_000):
        run_id = row["run_id"]
        events = Counter(event["event"] for event in db.get_events(run_id))
        outcome.interrupted += events["flow_resume"]
        if events["flow_end"] != 1 or events["flow_start"] != 1:
            outcome.problems.append(f"{run_id} began or ended not once: {dict(events)}")
        for node in CALLS:
            lines = told[run_id, node]
            outcome.repeated += sum(one.what == "paid" for one in lines) - 1
            said = [one.what for one in lines if one.what == "kept" or one.pid not in times.unaware]
            if "kept" not in said or "paid" in said[said.index("kept") :]:
                outcome.problems.append(f"{run_id} made call {node} again, or never: {said}")
        if run_id in times.before:
            last = max((one.at for node in CALLS for one in told[run_id, node]), default=0.0)
            outcome.late = max(outcome.late, last - times.ended)


def main(arguments: list[str] | None = None) -> int:
    """Print what came of outages; 1 if something was lost or done twice."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m tests.durability.outages")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(OUTAGES)}; all")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--workers", type=int, default=4)
    given = parser.parse_args(arguments)
    found = 0
    for name in given.names or OUTAGES:
        folder = Path(tempfile.mkdtemp(prefix="pocoflow-outage-"))
        facts = {"seconds": given.seconds, "runs": given.runs, "workers": given.workers}
        try:
            outcome = trial(name, folder, **facts)
        except ImpossibleError as exc:
            print(f"{name:<12} left out: {exc}")
            continue
        print(
            f"{name:<12} {outcome.runs} runs, interrupted {outcome.interrupted} times, "
            f"{outcome.failed} failed and resumed, {outcome.repeated} calls made again; "
            f"no result for {outcome.silence:.1f} s, all done {outcome.late:.1f} s after its end"
        )
        for problem in outcome.problems:
            print(f"    {problem}")
        if outcome.problems:
            found = 1
            print(f"    kept in {folder}")
        else:
            shutil.rmtree(folder)
    return found


if __name__ == "__main__":
    sys.exit(main())
