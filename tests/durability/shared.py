"""Runs that several processes share: started at once, in one thread, followed while they die.

    python -m tests.durability.shared --starts 1000 --tries 10000 --kills 1000

Starts: two processes start the same ids at once, in every way there is; each id is one run, done
once, and every caller gets what belongs to it. Tries: two processes write to one run thread at
once; no message is lost. Kills: a writer that emits tokens is killed at a random one, and somebody
goes on with its run; a follower in another process gets every committed event once and in order,
and in the end the tokens that count are those of the attempts that count.
"""

from __future__ import annotations

import argparse
import asyncio
import inspect
import logging
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel

from pocoflow import Flow, Node, Store, WorkflowDB, context, fields, node
from pocoflow.events import FlowEnded
from pocoflow.reducers import extend
from tests.rows import valid

__all__ = ["WAYS", "kills", "starts", "tries"]

_PATIENCE = 300.0
"""So many seconds a run may take, or a process beside what it does one after the other."""

_fork = multiprocessing.get_context("fork")


def _call(work: Callable[[], Any], pipe: Connection) -> None:
    pipe.send(work())


@contextmanager
def _processes(*works: Callable[[], Any]) -> Iterator[list[Connection]]:
    """Call functions at once, each in a process of its own; where their results come."""
    begun = []
    for work in works:
        here, there = _fork.Pipe(duplex=False)
        process = _fork.Process(target=_call, args=(work, there), daemon=True)
        process.start()
        there.close()
        begun.append((process, here))
    try:
        yield [here for _, here in begun]
    finally:
        for process, here in begun:
            here.close()
            process.kill()
            process.join()


def _result(pipe: Connection, patience: float = _PATIENCE) -> Any:
    if not pipe.poll(patience):
        raise TimeoutError(f"a process has said nothing for {patience:g} seconds")
    return pipe.recv()


# -- starts ---------------------------------------------------------------------------------------


class Request(BaseModel):
    """What a caller asks, and gets."""

    question: str
    answer: str = ""


R = fields(Request)


def _starting(path: Path) -> Flow[Request]:
    calls = os.open(f"{path}.calls", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    @node(writes=R.answer)
    async def answer(question: str = R.question) -> str:
        os.write(calls, f"{context().run_id}\n".encode())
        await asyncio.sleep(0.001)
        return f"{context().run_id} answers {question}"

    return Flow(answer, flow_name="answers", schema=Request, db_path=path)


def _last(events: Sequence[Any]) -> bool:
    return bool(events) and isinstance(events[-1], FlowEnded)


def _run(flow: Flow[Request], run_id: str) -> bool:
    store = flow.run({"question": run_id}, run_id=run_id, if_exists="join")
    return bool(store.state.answer == f"{run_id} answers {run_id}")


def _background(flow: Flow[Request], run_id: str) -> bool:
    handle = flow.run_background({"question": run_id}, run_id=run_id, if_exists="join")
    return bool(handle.wait(_PATIENCE).state.answer == f"{run_id} answers {run_id}")


def _stream(flow: Flow[Request], run_id: str) -> bool:
    return _last(list(flow.stream({"question": run_id}, run_id=run_id, if_exists="join")))


async def _run_async(flow: Flow[Request], run_id: str) -> bool:
    store = await flow.run_async({"question": run_id}, run_id=run_id, if_exists="join")
    return bool(store.state.answer == f"{run_id} answers {run_id}")


async def _stream_async(flow: Flow[Request], run_id: str) -> bool:
    events = flow.stream_async({"question": run_id}, run_id=run_id, if_exists="join")
    return _last([event async for event in events])


WAYS: dict[str, Any] = {
    "run": _run,
    "run_async": _run_async,
    "run_background": _background,
    "stream": _stream,
    "stream_async": _stream_async,
}


def _start_all(path: Path, way: str, ids: Sequence[str]) -> list[str]:
    """Start all of them at once; what went wrong."""
    logging.disable()
    flow, start = _starting(path), WAYS[way]

    async def all_at_once() -> list[Any]:
        calls = (start(flow, run_id) for run_id in ids)
        return await asyncio.gather(*calls, return_exceptions=True)

    if inspect.iscoroutinefunction(start):
        found = asyncio.run(all_at_once())
    else:
        with ThreadPoolExecutor(len(ids)) as pool:
            found = [_outcome(one) for one in [pool.submit(start, flow, one) for one in ids]]
    return [f"{run_id}: {one!r}" for run_id, one in zip(ids, found, strict=True) if one is not True]


def _outcome(call: Any) -> Any:
    error = call.exception(_PATIENCE)
    return call.result() if error is None else error


def starts(folder: Path, way: str, count: int) -> list[str]:
    """Start half as many ids from two processes at once; what was wrong."""
    path = folder / f"{way}.db"
    ids = [f"request-{number}" for number in range(count // 2)]
    WorkflowDB(path).close()
    orders = [random.sample(ids, len(ids)) for _ in range(2)]
    with _processes(*(partial(_start_all, path, way, order) for order in orders)) as pipes:
        wrong = [told for pipe in pipes for told in _result(pipe)]
    calls = Path(f"{path}.calls").read_text(encoding="utf-8").split()
    if sorted(calls) != sorted(ids):
        wrong.append(f"{len(calls)} calls of exec for {len(ids)} ids")
    with WorkflowDB(path, read_only=True) as db:
        runs = db.list_runs(2 * count)
        if sorted(run["run_id"] for run in runs) != sorted(ids):
            wrong.append(f"{len(runs)} runs for {len(ids)} ids")
        for run in runs:
            store = db.load_checkpoint(run["run_id"], 0)
            if store["answer"] != f"{run['run_id']} answers {store['question']}":
                wrong.append(f"{run['run_id']}: its store is that of another")
    return wrong


# -- tries ----------------------------------------------------------------------------------------


class Chat(BaseModel):
    """A conversation."""

    messages: Annotated[list[str], extend] = []


class Reply(Node):
    """Answers the last message."""

    def post(self, store: Store[Chat], prep_result: Any, exec_result: Any) -> str:
        store.reduce("messages", [f"re: {store['messages'][-1]}"])
        return "done"


_A_THREAD = 10
"""So many tries write to one thread."""


def _write(path: Path, writer: str, count: int, barrier: Any) -> list[str]:
    logging.disable()
    flow = Flow(Reply(), flow_name="chat", schema=Chat, db_path=path)
    for number in range(count):
        barrier.wait(_PATIENCE)
        thread = f"thread {number // _A_THREAD}"
        flow.run({"messages": [f"{writer}{number}"]}, thread=thread, if_busy="wait")
    return []


def tries(folder: Path, count: int) -> list[str]:
    """Let two processes write to one run thread at once, again and again; what was wrong."""
    path = folder / "threads.db"
    WorkflowDB(path).close()
    barrier = _fork.Barrier(2)
    works = [partial(_write, path, writer, count, barrier) for writer in "ab"]
    with _processes(*works) as pipes:
        wrong = [told for pipe in pipes for told in _result(pipe, _PATIENCE + count)]
    with WorkflowDB(path, read_only=True) as db:
        for first in range(0, count, _A_THREAD):
            thread = f"thread {first // _A_THREAD}"
            (run,) = db.list_runs(1, thread=thread)
            messages = db.load_checkpoint(run["run_id"], 0)["messages"]
            numbers = range(first, min(first + _A_THREAD, count))
            sent = [f"{writer}{number}" for number in numbers for writer in "ab"]
            if sorted(messages[::2]) != sorted(sent):
                wrong.append(f"{thread}: {messages}")
            if messages[1::2] != [f"re: {one}" for one in messages[::2]]:
                wrong.append(f"{thread}: answers are not behind their messages")
    return wrong


# -- kills ----------------------------------------------------------------------------------------

_STEPS, _TOKENS = 3, 20


class Talk(Node):
    """Emits tokens, and kills its process at one of them."""

    def __init__(self, number: int, cut: int | None) -> None:
        super().__init__()
        self.name, self.cut = f"talk {number}", cut
        self.number = number

    def exec(self, prep_result: Any) -> None:
        for number in range(_TOKENS):
            context().emit(f"{self.number}.{number}")
            time.sleep(0.001)
            if self.number * _TOKENS + number == self.cut:
                os.kill(os.getpid(), signal.SIGKILL)


def _talking(path: Path, cut: int | None) -> Flow[Any]:
    nodes = [Talk(number, cut) for number in range(_STEPS)]
    flow: Flow[Any] = Flow(nodes[0], flow_name="talk", db_path=path, record_emitted=True)
    for one, successor in pairwise(nodes):
        flow.then(one, successor)
    return flow


def _go_on(path: Path, cut: int | None) -> str:
    """Start the run, or go on with it, perhaps to be killed."""
    logging.disable()
    flow = _talking(path, cut)
    if flow.database.get_run("run") is None:
        flow.run({}, run_id="run")
    else:
        flow.resume("run")
    return "completed"


_Seen = tuple[int, str, float]
"""The number of an event, what it says, and how many seconds after its commit it came."""


def _follow(path: Path) -> list[_Seen]:
    """Everything of the run, from its beginning to its end, as it comes."""
    logging.disable()
    with WorkflowDB(path, read_only=True) as db:
        while db.get_run("run") is None:
            time.sleep(0.001)
        return [
            (one.number, repr(one.event), time.time() - datetime.fromisoformat(one.at).timestamp())
            for one in db.follow("run")
        ]


def kills(folder: Path, seed: int) -> tuple[list[str], list[float]]:
    """Kill a writer at a random token, perhaps again, and follow it; what was wrong, and delays."""
    path, choose = folder / f"talk-{seed}.db", random.Random(seed)
    WorkflowDB(path).close()
    cuts: list[int | None] = [choose.randrange(_STEPS * _TOKENS)]
    if choose.random() < 0.3:
        cuts.append(choose.randrange(_STEPS * _TOKENS))
    wrong, ended = [], ""
    with _processes(partial(_follow, path)) as (successor,):
        for cut in (*cuts, None):
            with _processes(partial(_go_on, path, cut)) as (writer,):
                try:
                    ended = _result(writer)
                except EOFError:
                    ended = "killed"
            if ended == "completed":
                break  # the second cut may be in a step that is finished already
        else:
            wrong.append(f"the run has not ended: {ended}")
        seen: list[_Seen] = _result(successor)
    with WorkflowDB(path, read_only=True) as db:
        whole = list(db.follow("run"))
    if [(number, told) for number, told, _ in seen] != [(o.number, repr(o.event)) for o in whole]:
        wrong.append("the follower has seen something else than what is on record")
    numbers = [one.number for one in whole]
    if numbers != sorted(set(numbers)):
        wrong.append("numbers do not only grow")
    tokens = [f"{step}.{number}" for step in range(_STEPS) for number in range(_TOKENS)]
    if valid(whole) != tokens:
        wrong.append(f"the tokens that count are {valid(whole)}")
    path.unlink()
    return [f"cuts {cuts}: {told}" for told in wrong], [late for _, _, late in seen]


# -- the command ----------------------------------------------------------------------------------


def _main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--starts", type=int, default=100, help="starts in each of the five ways")
    parser.add_argument("--tries", type=int, default=100, help="messages of each of two writers")
    parser.add_argument("--kills", type=int, default=20, help="runs that are killed and followed")
    parser.add_argument("--seed", type=int, default=0, help="where the random tokens begin")
    given = parser.parse_args()
    wrong: list[str] = []
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as name:
        folder = Path(name)
        for way in WAYS:
            began = time.monotonic()
            found = starts(folder, way, given.starts)
            wrong += [f"{way}: {told}" for told in found]
            took = time.monotonic() - began
            print(f"{way:15} {given.starts:6} starts, {len(found)} wrong, {took:.1f} s", flush=True)
        began = time.monotonic()
        found = tries(folder, given.tries)
        wrong += found
        took = time.monotonic() - began
        print(f"{'thread':15} {given.tries:6} tries, {len(found)} wrong, {took:.1f} s", flush=True)
        delays: list[float] = []
        bad = 0
        for seed in range(given.seed, given.seed + given.kills):
            told, late = kills(folder, seed)
            wrong += told
            delays += late
            bad += bool(told)
        delays.sort()
        delays = delays or [0.0]
        middle, slow = (delays[int(len(delays) * part)] * 1000 for part in (0.5, 0.95))
        print(
            f"{'follow':15} {given.kills:6} kills, {bad} wrong; from commit to follower: median "
            f"{middle:.1f} ms, p95 {slow:.1f} ms of {len(delays)} events"
        )
    print(*wrong[:50], sep="\n", end="")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(_main())
