"""The application of ``examples/letter_app_web.py``, while its workers and its server are killed.

    python -m tests.durability.application --users 20 --seconds 60
    python -m tests.durability.application --users 20 --seconds 60 --server

Users start letters, follow them word by word, load their page again in the middle, approve or edit,
and look at the result; each does so again and again. Meanwhile two processes of ``pocoflow worker``
and the server are killed with SIGKILL at random moments, and started anew. Every user has to get
every event once and in order, the tokens that count have to be those of the letter, the letter has
to be what was decided, and no ``exec`` whose result was on record is called again.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import datetime
from http.client import HTTPException
from pathlib import Path
from typing import Any, Self, TypeVar

from examples.letter_app import flow as letters, words
from pocoflow import Flow, WorkflowDB, context
from pocoflow.middleware import Attempt, Visit
from tests.serving import LATER, ROOT, Client, Served, Service

__all__ = ["Outcome", "trial"]

_LEDGER = "LETTER_LEDGER"
_PATIENCE = 600.0
_ENDS = ("flow_end", "flow_error", "flow_cancelled")

T = TypeVar("T")


# -- the flow, as a worker imports it -------------------------------------------------------------


def _note(what: str, node: str, step: int) -> None:
    """Write a line to the ledger."""
    line = f"{what} {context().run_id} {step} {node}\n"
    with open(os.environ[_LEDGER], "ab", buffering=0) as ledger:
        ledger.write(line.encode())


def _attempts(attempt: Attempt) -> Generator[Any, Any, Any]:
    _note("exec", attempt.name, attempt.step)
    return (yield)


def _visits(visit: Visit) -> Generator[Any, Any, Any]:
    action = yield
    _note("done", visit.name, visit.step)
    return action


def flow() -> Flow[Any]:
    """The flow of the example; what it does is in the ledger."""
    return letters.using().use(visit=_visits, attempt=_attempts)


# -- a user ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class Outcome:
    """What became of a trial.

    Attributes:
        problems: What must not be.
        letters: How many letters were written.
        edited: How many of them were edited.
        reloads: How many times a user loaded the page again.
        breaks: How many times a request or a stream broke off.
        voids: How many tokens were shown that did not count in the end.
        workers: How many workers were killed.
        servers: How many times the server was killed.
        delays: Seconds from the commit of a token until its user had it.
    """

    problems: list[str] = field(default_factory=list)
    letters: int = 0
    edited: int = 0
    reloads: int = 0
    breaks: int = 0
    voids: int = 0
    workers: int = 0
    servers: int = 0
    delays: list[float] = field(default_factory=list)


class User:
    """Somebody with a browser: requests are sent again until they are answered.

    Args:
        client: How they are sent.
        name: Who it is.
        outcome: Where is noted what happens, by all users.
        seed: Where the choices of this user begin.
    """

    def __init__(self, client: Client, name: str, outcome: Outcome, seed: int) -> None:
        self._client, self._name, self._outcome = client, name, outcome
        self._choose = random.Random(seed)

    def _again(self, call: Callable[[], T]) -> T:
        until = time.monotonic() + _PATIENCE
        while True:
            try:
                return call()
            except (OSError, HTTPException):
                self._outcome.breaks += 1
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)

    def _send(self, method: str, path: str, body: object = None) -> Served:
        def send() -> Served:
            if method == "GET":
                served = self._client.get(path)
            else:
                served = self._client.post(path, body)
            if served.status in LATER:
                raise ConnectionError(served.text)
            assert served.status < 500, served
            return served

        return self._again(send)

    def write(self, number: int) -> None:
        """Have a letter written, from its start to its end."""
        run_id, to, about = f"letter-{number}", f"{self._name} {number}", "the tide"
        path = f"/letters/runs/{run_id}"
        body = {"id": run_id, "inputs": {"to": to, "about": about}, "labels": {"to": to}}
        started = self._send("POST", "/letters/runs", body)
        if started.status not in (200, 202):
            self._wrong(run_id, f"it was not started: {started}")
            return
        draft = "".join(words(to, about)).strip()
        wanted = f"Dear {to}, no." if self._choose.random() < 0.5 else draft
        events = self._follow(path, run_id, draft, wanted)
        run = self._send("GET", path).json
        if run["status"] != "completed" or run["result"] != {"letter": wanted}:
            self._wrong(run_id, f"it ended as {run}")
        whole = self._again(lambda: self._whole(path))
        if events != whole:
            others = [one for one in events if one not in whole]
            lost = [one for one in whole if one not in events]
            self._wrong(run_id, f"{others} came, and {lost} did not")
        shown: dict[int, str] = {}
        for event in events:
            if event["kind"] == "emit":
                shown[event["number"]] = event["value"]
            for gone in event.get("numbers", ()):
                del shown[gone]
                self._outcome.voids += 1
        if list(shown.values()) != words(to, about):
            self._wrong(run_id, f"the tokens that count are {''.join(shown.values())!r}")
        self._outcome.letters += 1
        self._outcome.edited += wanted != draft

    def _whole(self, path: str) -> list[dict[str, Any]]:
        found = list(self._client.events(f"{path}/events"))
        if not found or found[-1]["kind"] not in _ENDS:
            raise ConnectionError("the stream broke off")
        return found

    def _follow(self, path: str, run_id: str, draft: str, wanted: str) -> list[dict[str, Any]]:
        """Everything that comes, whatever breaks off, until the end; what is asked is answered."""
        seen: list[dict[str, Any]] = []
        reload_at = self._choose.randrange(1, len(words("", "")))
        until = time.monotonic() + _PATIENCE
        while not (seen and seen[-1]["kind"] in _ENDS):
            if time.monotonic() > until:
                self._wrong(run_id, f"it does not end: {seen[-1:]}")
                return seen
            last = {"Last_Event_ID": str(seen[-1]["number"])} if seen else {}
            try:
                with closing(self._client.events(f"{path}/events", **last)) as events:
                    for event in events:
                        now = time.time()
                        if seen and event["number"] <= seen[-1]["number"]:
                            self._wrong(run_id, f"{event} came after {seen[-1]}")
                        seen.append(event)
                        if event["kind"] == "emit":
                            at = datetime.fromisoformat(event["at"]).timestamp()
                            self._outcome.delays.append(now - at)
                        if event["kind"] == "node_ask":
                            self._answer(path, run_id, event, draft, wanted)
                        if len(seen) == reload_at:
                            self._outcome.reloads += 1
                            break
            except (OSError, HTTPException):
                self._outcome.breaks += 1
                time.sleep(0.05)
        return seen

    def _answer(
        self, path: str, run_id: str, asked: dict[str, Any], draft: str, wanted: str
    ) -> None:
        if asked["context"] != {"draft": draft}:
            self._wrong(run_id, f"it asked about {asked['context']}")
        answer = {"verdict": "send"} if wanted == draft else {"verdict": "edit", "text": wanted}
        served = self._send("POST", f"{path}/questions/{asked['question']}", {"answer": answer})
        # Answered already: of a request whose answer has not come back.
        if served.status not in (200, 409):
            self._wrong(run_id, f"the answer was refused: {served}")

    def _wrong(self, run_id: str, told: str) -> None:
        self._outcome.problems.append(f"{self._name}, {run_id}: {told}")


# -- a trial --------------------------------------------------------------------------------------


class _Killed:
    """Two workers and a server, one of which is killed now and then."""

    def __init__(self, folder: Path, database: str, pace: float, outcome: Outcome) -> None:
        self._folder, self._outcome = folder, outcome
        self._variables = {
            "LETTER_DB": database,
            "LETTER_PACE": str(pace),
            _LEDGER: str(folder / "ledger"),
        }
        self.service = Service("examples.letter_app_web:app", folder, self._variables)
        self._workers = [self._start() for _ in range(2)]

    def _start(self) -> subprocess.Popen[bytes]:
        target = "tests.durability.application:flow"
        command = [sys.executable, "-m", "pocoflow", "worker", target, "--concurrency", "12"]
        environment = {**os.environ, **self._variables, "PYTHONPATH": str(ROOT)}
        with (self._folder / "worker.log").open("ab") as log:
            return subprocess.Popen(
                command, cwd=self._folder, env=environment, stdout=log, stderr=log
            )

    def kill(self, choose: random.Random) -> None:
        """Kill one of them, every third time the server, and start it anew."""
        if (self._outcome.workers + self._outcome.servers) % 3 == 1:
            self.service.kill()
            self._outcome.servers += 1
            return
        one = self._workers.pop(choose.randrange(2))
        one.kill()
        one.wait(_PATIENCE)
        self._outcome.workers += 1
        self._workers.append(self._start())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for one in self._workers:
            one.terminate()
        for one in self._workers:
            one.wait(_PATIENCE)
        self.service.__exit__()


def trial(
    folder: Path,
    users: int = 20,
    seconds: float = 60.0,
    pace: float = 0.02,
    seed: int = 0,
    database: str = "",
) -> Outcome:
    """Let users have letters written while processes are killed; look at what came of it."""
    outcome, choose = Outcome(), random.Random(seed)
    (folder / "ledger").touch()
    database = database or str(folder / "letters.db")
    over = threading.Event()

    def use(number: int) -> None:
        user = User(
            there.service.client(f"user-{number}"), f"user-{number}", outcome, seed + number
        )
        count = 0
        while not (over.is_set() and count):
            user.write(count)
            count += 1

    with (
        _Killed(folder, database, pace, outcome) as there,
        ThreadPoolExecutor(users) as pool,
    ):
        try:
            used = [pool.submit(use, number) for number in range(users)]
            until = time.monotonic() + seconds
            while (left := until - time.monotonic()) > 0 or not outcome.servers:
                over.wait(min(max(left, 0.0), choose.uniform(0.5, 3.0)))
                there.kill(choose)
        finally:
            over.set()
        for one in used:
            one.result()
    _inspect(folder, database, outcome)
    return outcome


def _inspect(folder: Path, database: str, outcome: Outcome) -> None:
    ledger: dict[tuple[str, str], list[str]] = defaultdict(list)
    for line in (folder / "ledger").read_text().splitlines():
        what, run_id, step, node = line.split(" ", 3)
        ledger[run_id, f"{step} {node}"].append(what)
    for (run_id, step), said in ledger.items():
        if "done" in said and "exec" in said[said.index("done") :]:
            outcome.problems.append(f"{run_id}, step {step}: called after it was done: {said}")
    for log in sorted(folder.glob("*.log")):
        _, error, text = log.read_text().partition("Traceback")
        if error:
            outcome.problems.append(f"{log.name}: {error}{text}")
    with WorkflowDB(database, read_only=True) as db:
        runs = db.list_runs(1_000_000)
        stands = Counter(run["status"] for run in runs)
        if stands != {"completed": outcome.letters}:
            outcome.problems.append(f"{outcome.letters} letters, and runs {dict(stands)}")
        for run in runs:
            told = Counter(event["event"] for event in db.get_events(run["run_id"]))
            if (told["flow_start"], told["flow_end"], told["node_end"]) != (1, 1, 3):
                outcome.problems.append(f"{run['run_id']}: {dict(told)}")


def main(arguments: list[str] | None = None) -> int:
    """Print what came of a trial; 1 if something was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.durability.application")
    parser.add_argument("--users", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--pace", type=float, default=0.02, help="seconds between two tokens")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--server", action="store_true", help="on a PostgreSQL server")
    given = parser.parse_args(arguments)
    with ExitStack() as stack:
        database = ""
        if given.server:
            from tests.servers import running

            database = stack.enter_context(running()).url()
        return _report(given, database)


def _report(given: argparse.Namespace, database: str) -> int:
    folder = Path(tempfile.mkdtemp(prefix="pocoflow-application-"))
    outcome = trial(folder, given.users, given.seconds, given.pace, given.seed, database)
    cuts = statistics.quantiles(outcome.delays, n=100, method="inclusive")
    print(
        f"{given.users} users, {outcome.letters} letters ({outcome.edited} edited), "
        f"{outcome.workers} workers and {outcome.servers} servers killed, "
        f"{outcome.reloads} reloads, {outcome.breaks} requests or streams broken off, "
        f"{outcome.voids} tokens void\n"
        f"{len(outcome.delays)} tokens came {cuts[49] * 1000:.0f} ms (median), "
        f"{cuts[94] * 1000:.0f} ms (p95) after their commit\n{len(outcome.problems)} wrong"
    )
    print(*outcome.problems[:50], sep="\n", end="")
    if outcome.problems:
        print(f"kept in {folder}")
    else:
        shutil.rmtree(folder)
    return bool(outcome.problems)


if __name__ == "__main__":
    sys.exit(main())
