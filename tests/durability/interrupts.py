"""Interrupt runs by a Ctrl-C at every place where Python would notice one.

    python -m tests.durability.interrupts --stride 1

Wherever it strikes, the run has ended afterwards or reads as interrupted, its steps and checkpoints
agree, the end is on record once, and the database goes on working.
"""

from __future__ import annotations

import argparse
import asyncio
import dis
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias, get_args

import pocoflow
from pocoflow import Flow, Node, WorkflowDB

Way: TypeAlias = Literal["run", "background", "awaiting"]

ENDED = {"completed": "flow_end", "failed": "flow_error", "cancelled": "flow_cancelled"}


class Step(Node):
    """Counts, in each of its phases."""

    def prep(self, store: Any) -> int:
        return int(store.get("n", 0))

    def exec(self, prepared: int) -> int:
        return prepared + 1

    def post(self, store: Any, prepared: int, result: int) -> str:
        store["n"] = result
        return "go"


class Waits(Node):
    """Waits until it is cancelled."""

    async def exec(self, prepared: None) -> None:
        await asyncio.Event().wait()


class Interrupt:
    """Raises KeyboardInterrupt at the Nth place where Python would notice a signal.

    Those are the ends of calls, the beginnings of functions and the ends of loops, in the
    library, or where a function says so of a frame. A ``with`` is safe between them.
    """

    def __init__(self, at: int, where: Callable[[Any], bool] | None = None) -> None:
        self._where = is_ours if where is None else where
        self.left = at if at else sys.maxsize
        self.places = 0
        self.struck = "nowhere"
        self._before = sys.gettrace()

    def __enter__(self) -> Self:
        sys.settrace(self._enter)
        return self

    def __exit__(self, *exc_info: object) -> None:
        sys.settrace(self._before)

    def _enter(self, frame: Any, event: str, argument: object) -> Any:
        # A finalizer has nobody to raise to.
        if not self._where(frame) or is_below(frame, "__del__"):
            return None
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        code = frame.f_code.co_code
        notices = False

        def follow(frame: Any, event: str, argument: object) -> Any:
            nonlocal notices
            if event == "opcode":
                if notices:
                    self._strike(frame)
                notices = dis.opname[code[frame.f_lasti]].startswith(NOTICES)
            return follow

        return follow

    def _strike(self, frame: Any) -> None:
        self.places += 1
        self.left -= 1
        if self.left == 0:
            self.struck = f"{frame.f_code.co_filename}:{frame.f_lineno}"
            raise KeyboardInterrupt


HOME = str(Path(pocoflow.__file__).parent)
NOTICES = ("CALL", "RESUME", "JUMP_BACKWARD")


def is_ours(frame: Any) -> bool:
    """Whether it executes code of the library."""
    return bool(frame.f_code.co_filename.startswith(HOME))


def is_below(frame: Any, name: str) -> bool:
    """Whether a function of that name is among those that called it, or is it itself."""
    while frame is not None and frame.f_code.co_name != name:
        frame = frame.f_back
    return frame is not None


def interrupted_run(db: WorkflowDB, run_id: str, at: int, way: Way) -> Interrupt:
    """Run a flow of two steps under a Ctrl-C at a place; where it struck."""
    if way == "awaiting":
        return _interrupted_stream(db, run_id, at)
    last = Step(name="Last")
    first = Step(name="First")
    first.then("go", last)
    flow: Flow[Any] = Flow(start=first, db_path=db, run_id=run_id)
    with Interrupt(at) as interrupt:
        try:
            if way == "run":
                flow.run({})
            else:
                _ = flow.run_background({})
        except KeyboardInterrupt:
            assert at > 0
    for thread in threading.enumerate():
        if thread.name == f"pocoflow-{run_id}":
            thread.join(60)
    return interrupt


def _interrupted_stream(db: WorkflowDB, run_id: str, at: int) -> Interrupt:
    """Begin to read the events of a run that would wait for ever; to leave it cancels it."""
    events: object = None
    flow: Flow[Any] = Flow(Waits(), db_path=db, run_id=run_id, flow_name="waits")
    with Interrupt(at) as interrupt, suppress(KeyboardInterrupt):
        events = flow.stream({})
        next(events)
    events = None
    until = time.monotonic() + 60
    while (run := db.get_run(run_id)) is not None and run["status"] == "running":
        assert time.monotonic() < until, f"{interrupt.struck} left it running"
        time.sleep(0.001)
    return interrupt


def interrupt_everywhere(folder: Path, way: Way, first: int, stride: int) -> int:
    """Interrupt a run at every place, or at one of each so many; how often it was interrupted."""
    taken = 0
    with WorkflowDB(folder / f"{way}.db", synchronous="NORMAL") as db:
        interrupted_run(db, "warm", 0, way)
        total = interrupted_run(db, "count", 0, way).places
        assert total > 200
        for at in range(first, total, stride):
            struck, taken = interrupted_run(db, f"r{at}", at, way), taken + 1
            run = db.get_run(f"r{at}")
            if run is None:
                continue  # it struck before the run was on record
            events = [event["event"] for event in db.get_events(f"r{at}")]
            place = f"{struck.struck}, {at} of {total}: {run}, {events}"
            assert run["status"] in ENDED, place
            steps = [row["step"] for row in db.get_checkpoints(f"r{at}")]
            assert steps == list(range(run["total_steps"])), place
            ended = [event for event in events if event in ENDED.values()]
            if run["error_type"] == "Interrupted":
                assert ended == [], place
            else:
                assert ended == [ENDED[run["status"]]] == events[-1:], place
        interrupted_run(db, "last", 0, way)
        status = "cancelled" if way == "awaiting" else "completed"
        assert db.list_runs(1)[0]["status"] == status
    return taken


def main(arguments: Sequence[str] | None = None) -> int:
    """Interrupt runs in all ways; 0 if all was well."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stride", type=int, default=1, help="every so many places (default: 1)")
    args = parser.parse_args(arguments)
    for way in get_args(Way):
        with tempfile.TemporaryDirectory() as folder:
            taken = interrupt_everywhere(Path(folder), way, 1, args.stride)
        print(f"{way}: interrupted at {taken} places, nothing wrong")
    return 0


if __name__ == "__main__":
    sys.exit(main())
