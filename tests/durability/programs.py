"""Random programs of all kinds of nodes and flows, killed on their way, and an interpreter.

    python -m tests.durability.programs 1000

A program is a tree of pieces. Each says how it is built as nodes and edges, and what it does, in
plain Python. Processes carry a run of it out, and are killed where they are about to go on. The end
must be that of the interpreter: the store after each step, the steps of each line of execution in
their order, what was spent; and no ``exec`` is called again once its result is on record.
"""

from __future__ import annotations

import argparse
import asyncio
import copy
import json
import logging
import os
import signal
import sys
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from random import Random
from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel

from pocoflow import (
    END,
    AskNode,
    BatchNode,
    FanOut,
    Flow,
    Node,
    Parallel,
    Question,
    RunPaused,
    Store,
    Subflow,
    WorkflowDB,
    bind,
    context,
    key,
)
from pocoflow.reducers import add, append
from tests.durability.kill import in_child, prepare

__all__ = ["Trial", "main", "trial"]

NUMBERS, LISTS = ("a", "b", "c", "d", "e", "f"), ("p", "q")


class Board(BaseModel):
    """The store of each flow."""

    a: int = 1
    b: int = 2
    c: int = 3
    d: int = 4
    e: int = 5
    f: int = 6
    p: list[int] = [7, 8, 9]
    q: list[int] = [3]
    item: int = 0
    total: Annotated[int, add] = 0
    trail: Annotated[list[str], append] = []


class Trouble(Exception):
    """What exec raises."""


# -- what is outside of a run ----------------------------------------------------------------------


class Ledger:
    """A file with a line for what nodes do, and the line with which the process is killed."""

    _file, _left = -1, 0

    def open(self, path: Path, left: int) -> None:
        """Begin to write, and die with so manieth a line; 0 is none."""
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._left = left

    def write(self, what: str) -> None:
        """Append a line of where the calling code is."""
        own = context()
        line = {"what": what, "key": own.idempotency_key, "node": own.node, "item": own.item}
        os.write(self._file, json.dumps(line).encode() + b"\n")
        self._left -= 1
        if not self._left:
            os.kill(os.getpid(), signal.SIGKILL)


LEDGER = Ledger()


def mixed(*parts: object) -> int:
    """A number that depends on all parts."""
    return zlib.crc32(repr(parts).encode()) % 997


def paid(*parts: object) -> int:
    """A journaled call."""
    LEDGER.write("call")
    context().spend(calls=1)
    return mixed(*parts)


# -- what a run does, in plain Python --------------------------------------------------------------

Names: TypeAlias = tuple[str, ...]


class Failed(Exception):
    """A step has failed for good: the names of its node."""


@dataclass
class Played:
    """What a run is to do.

    Attributes:
        stores: The store of the run before it, and after each of its own steps.
        ends: The steps of each line of execution: the names of the node, and the action.
        line_of: In which line a node is.
        spent: The account at the end.
        steps: How many there are in all lines.
    """

    stores: list[dict[str, Any]] = field(default_factory=list)
    ends: dict[Names, list[tuple[Names, str]]] = field(default_factory=dict)
    line_of: dict[Names, Names] = field(default_factory=dict)
    spent: Counter[str] = field(default_factory=Counter)
    steps: int = 0


@dataclass
class Line:
    """A line of execution, in one of its flows.

    Attributes:
        played: What the run does.
        data: The store.
        name: Which line it is; that of the run is empty.
        path: The names of the flows and branches around.
        increments: What reducers are given in a branch, for the join.
        taken: How often edges with limits were taken in this flow.
    """

    played: Played
    data: dict[str, Any]
    name: Names = ()
    path: Names = ()
    increments: list[tuple[int, list[str]]] = field(default_factory=list)
    taken: Counter[str] = field(default_factory=Counter)

    def give(self, amount: int, notes: list[str]) -> None:
        """Reduce."""
        self.data["total"] += amount
        self.data["trail"] = [*self.data["trail"], *notes]
        self.increments.append((amount, notes))

    def within(self, name: str) -> Line:
        """The line in a nested flow."""
        return Line(self.played, self.data, self.name, (*self.path, name), self.increments)

    def branch(self, number: int, name: str, data: Mapping[str, Any]) -> Line:
        """A line that branches off."""
        path = (*self.path, name)
        return Line(self.played, copy.deepcopy({**data}), (*path, str(number)), path)

    def end(self, names: Names, action: str) -> str:
        """Finish a step."""
        played = self.played
        played.line_of[names] = self.name
        played.ends.setdefault(self.name, []).append((names, action))
        played.steps += 1
        if not self.name:
            played.stores.append(copy.deepcopy(self.data))
        return action


# -- the pieces of a program -----------------------------------------------------------------------

Todo: TypeAlias = list[Callable[[Flow[Any]], object]]
Outlet: TypeAlias = Callable[[Any], None]
Built: TypeAlias = tuple[Any, list[Outlet]]


class Piece:
    """A part of a program."""

    name: str

    def node(self) -> Any:
        """It as one node."""
        raise NotImplementedError

    def build(self, todo: Todo) -> Built:
        """Its first node, and what the next piece is to be connected to."""
        node = self.node()
        return node, [outlet(todo, node.when("*"))]

    def play(self, line: Line) -> str:
        """Do what it does; the action with which it ends."""
        raise NotImplementedError


def outlet(todo: Todo, source: Any, **limit: Any) -> Outlet:
    """What writes an edge, once there is a flow; ``to`` is where one with a limit leads."""
    start = limit.pop("to", None)

    def connect(target: Any) -> None:
        if start is None:
            todo.append(lambda flow: flow.then(source, target))
        else:
            todo.append(lambda flow: flow.then(source, start, then=target, **limit))

    return connect


def build_all(pieces: Sequence[Piece], todo: Todo) -> Built:
    """Connect one to the other."""
    first, outlets = pieces[0].build(todo)
    for piece in pieces[1:]:
        following, more = piece.build(todo)
        for connect in outlets:
            connect(following)
        outlets = more
    return first, outlets


def flow_of(pieces: Sequence[Piece], name: str, **settings: Any) -> Flow[Any]:
    """A flow of these."""
    todo: Todo = []
    first, outlets = build_all(pieces, todo)
    for connect in outlets:
        connect(END)
    flow: Flow[Any] = Flow(first, flow_name=name, **settings)
    for write in todo:
        write(flow)
    return flow


def play_all(pieces: Sequence[Piece], line: Line) -> str:
    """Do one after the other; the last action."""
    return [piece.play(line) for piece in pieces][-1]


@dataclass(frozen=True)
class Step(Piece):
    """A node that calculates.

    Attributes:
        kind: ``plain``, ``awaits``, ``items`` or ``asks``.
        reads: The keys that it reads.
        slot: The key that it writes.
        attempts: How many it has.
        fails: How many of them fail; of items, of the odd ones.
        falls: Whether it falls back then.
        calls: How many journaled calls an attempt makes.
        journal: Whether its result is put on record.
        actions: Those from which it chooses.
    """

    name: str
    kind: str
    reads: Names
    slot: str
    attempts: int = 1
    fails: int = 0
    falls: bool = False
    calls: int = 0
    journal: bool = True
    actions: Names = ("default",)

    def node(self) -> Any:
        kinds = {"plain": Work, "awaits": Awaits, "items": Items, "asks": Asks}
        node: Any = kinds[self.kind](name=self.name)
        node.step, node.max_retries, node.journal = self, self.attempts, self.journal
        if self.kind == "items":
            node.concurrency = 1 + self.calls
        return node

    def build(self, todo: Todo) -> Built:
        node = self.node()
        return node, [outlet(todo, node.when(action)) for action in self.actions]

    def has_failed(self, attempt: int, given: object) -> bool:
        """Whether this attempt fails."""
        return attempt <= self.fails and (not isinstance(given, int) or given % 2 == 1)

    def made(self, given: object, called: Sequence[int]) -> int:
        """The result of exec, and of its calls."""
        return mixed(self.name, given, *called)

    def change(self, store: Any, result: Any) -> str:
        """Write the result; the action."""
        if self.slot in LISTS:
            store[self.slot].extend(result if isinstance(result, list) else [result])
            del store[self.slot][:-4]
        else:
            store[self.slot] = mixed(result)
        return self.actions[mixed(result, "action") % len(self.actions)]

    def play(self, line: Line) -> str:
        data, names = line.data, (*line.path, self.name)
        line.played.line_of[names] = line.name
        given = [data[one] for one in self.reads]
        result: Any = (
            [self._try(line, item) for item in data[self.reads[0]]]
            if self.kind == "items"
            else self._try(line, given)
        )
        action = self.change(data, result)
        line.give(mixed(result), [self.name])
        return line.end(names, action)

    def _try(self, line: Line, given: object) -> int:
        spent, known = line.played.spent, 0
        for attempt in range(1, self.attempts + 1):
            spent["attempts"] += 1
            spent["calls"] += self.calls - known
            if not self.has_failed(attempt, given):
                result = self.made(given, [mixed(given, one) for one in range(self.calls)])
                is_asked = self.kind == "asks" and result % 2
                return mixed("answer", result) if is_asked else result
            known = max(0, self.calls - 1)  # the last one is made again
        if self.falls:
            return mixed(self.name, "fallback")
        raise Failed((*line.path, self.name))


@dataclass(frozen=True)
class Chain(Piece):
    """A nested flow."""

    name: str
    pieces: Sequence[Piece]

    def node(self) -> Any:
        return flow_of(self.pieces, self.name)

    def play(self, line: Line) -> str:
        return play_all(self.pieces, line.within(self.name))


@dataclass(frozen=True)
class Apart(Piece):
    """A flow on a store of its own; ``links`` are the keys that it hands back, and from which."""

    name: str
    pieces: Sequence[Piece]
    inputs: Names
    links: Sequence[tuple[str, str]]

    def node(self) -> Any:
        return Subflow(
            flow_of(self.pieces, self.name, schema=Board),
            inputs=[bind(key(one)).to(key(one)) for one in self.inputs],
            outputs=[bind(key(target)).to(key(source)) for target, source in self.links],
        )

    def play(self, line: Line) -> str:
        given = {one: line.data[one] for one in self.inputs}
        inside = line.branch(0, self.name, Board().model_dump() | given)
        action = play_all(self.pieces, inside)
        for target, source in self.links:
            if target == "total":
                line.give(inside.data[source], [])
            else:
                line.data[target] = copy.deepcopy(inside.data[source])
        return line.end((*line.path, self.name), action)


@dataclass(frozen=True)
class Both(Piece):
    """Parallel branches, whose failures may be collected."""

    name: str
    branches: Sequence[Piece]
    collects: bool

    def node(self) -> Any:
        how = "collect" if self.collects else "stop"
        return Parallel(*(one.node() for one in self.branches), name=self.name, on_error=how)  # type: ignore[arg-type]

    def play(self, line: Line) -> str:
        lines = [line.branch(n, self.name, line.data) for n in range(len(self.branches))]
        return _join(line, self.name, self.branches, lines, ())


@dataclass(frozen=True)
class Each(Piece):
    """A branch for each item of a list."""

    name: str
    branch: Piece
    source: str
    private: Names

    def node(self) -> Any:
        private = [key(one) for one in self.private]
        names = {"each": key(self.source), "as_": key("item"), "name": self.name}
        return FanOut(self.branch.node(), **names, private=private, concurrency=2)

    def play(self, line: Line) -> str:
        lines = [
            line.branch(n, f"{self.name}[{n}]", {**line.data, "item": item})
            for n, item in enumerate(line.data[self.source])
        ]
        branches = [self.branch] * len(lines)
        return _join(line, self.name, branches, lines, (*self.private, "item"))


def _join(
    line: Line, name: str, branches: Sequence[Piece], lines: list[Line], private: Names
) -> str:
    """Play branches, and merge what they wrote."""
    before, action = copy.deepcopy(line.data), "default"
    for branch, inside in zip(branches, lines, strict=True):
        try:
            branch.play(inside)
        except Failed:
            action = "failed"
            continue
        for one in (*NUMBERS, *LISTS):
            if one not in private and inside.data[one] != before[one]:
                line.data[one] = inside.data[one]
        for increment in inside.increments:
            line.give(*increment)
    return line.end((*line.path, name), action)


@dataclass(frozen=True)
class Choice(Piece):
    """A step whose action says what comes next."""

    step: Step
    ways: Mapping[str, Sequence[Piece]]

    def build(self, todo: Todo) -> Built:
        node, outlets = self.step.node(), []
        for action, pieces in self.ways.items():
            connect = outlet(todo, node.when(action))
            if not pieces:
                outlets.append(connect)
                continue
            first, more = build_all(pieces, todo)
            connect(first)
            outlets += more
        return node, outlets

    def play(self, line: Line) -> str:
        action = self.step.play(line)
        return play_all(self.ways[action], line) if self.ways[action] else action


@dataclass(frozen=True)
class Loop(Piece):
    """Pieces that are done again, at most so often in their flow."""

    pieces: Sequence[Piece]
    step: Step
    limit: int

    def build(self, todo: Todo) -> Built:
        first, outlets = build_all(self.pieces, todo)
        node = self.step.node()
        for connect in outlets:
            connect(node)
        again = outlet(todo, node.when("again"), to=first, at_most=self.limit)
        return first, [again, outlet(todo, node.when("done"))]

    def play(self, line: Line) -> str:
        while True:
            play_all(self.pieces, line)
            action = self.step.play(line)
            if action == "done" or line.taken[self.step.name] == self.limit:
                return action
            line.taken[self.step.name] += 1


@dataclass(frozen=True)
class Caught(Piece):
    """A piece whose error an edge catches."""

    piece: Piece
    slot: str

    def build(self, todo: Todo) -> Built:
        node, outlets = self.piece.build(todo)
        caught = node.catch(Trouble, writes=key(self.slot), value=length)
        return node, [*outlets, outlet(todo, caught)]

    def play(self, line: Line) -> str:
        try:
            return self.piece.play(line)
        except Failed as failed:
            (names,) = failed.args
            line.data[self.slot] = len(names[-1])
            return line.end(names, "except Trouble")


def length(error: BaseException) -> int:
    """What an edge writes of an error."""
    return len(str(error))


# -- the nodes -------------------------------------------------------------------------------------


class Work(Node[Any, Any, str]):
    """A plain one."""

    step: Step

    def prep(self, store: Store[Any]) -> Any:
        LEDGER.write("prep")
        given = [copy.copy(store[one]) for one in self.step.reads]
        return given[0] if self.step.kind == "items" else given

    def begin(self, given: object) -> list[Any]:
        """What an attempt begins with: what its calls are made with."""
        LEDGER.write("exec")
        context().spend(attempts=1)
        return [(given, number) for number in range(self.step.calls)]

    def finish(self, given: object, called: Sequence[int]) -> int:
        """What it ends with."""
        if self.step.has_failed(context().attempt, given):
            raise Trouble(self.step.name)
        return self.step.made(given, called)

    def exec(self, given: Any) -> Any:
        return self.finish(given, [context().call(paid, *one) for one in self.begin(given)])

    def exec_fallback(self, given: Any, exc: Exception) -> Any:
        if not self.step.falls:
            raise exc
        return mixed(self.step.name, "fallback")

    def post(self, store: Store[Any], given: Any, result: Any) -> str:
        LEDGER.write("kept" if self.step.journal else "post")
        action = self.step.change(store, result)
        store.reduce("total", mixed(result))
        store.reduce("trail", self.step.name)
        LEDGER.write("posted")
        return action


class Awaits(Work):
    """An asynchronous one."""

    async def exec(self, given: Any) -> Any:
        calls = [asyncio.to_thread(context().call, paid, *one) for one in self.begin(given)]
        return self.finish(given, [await one for one in calls])


class Items(Work, BatchNode[Any, Any, str]):
    """One that works on items."""


class Asks(Work, AskNode[int, str]):
    """One that may ask."""

    def exec(self, given: Any) -> Any:
        result = super().exec(given)
        return Question[int]("?", {"result": result}) if result % 2 else result


# -- making programs -------------------------------------------------------------------------------


class Maker:
    """Makes a program of a seed."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.numbers = count(1)
        self.asks = self.random.random() < 0.3  # what is collected is tried again at each resume

    def name(self, kind: str) -> str:
        """A name that no other node has."""
        return f"{kind}{next(self.numbers)}"

    def pieces(self, own: Names, depth: int) -> list[Piece]:
        """A few pieces that write to some keys."""
        return [self.piece(own, depth) for _ in range(self.random.randint(1, 4 - depth))]

    def piece(self, own: Names, depth: int) -> Piece:
        """One piece."""
        makes = [self.chain, self.apart, self.both, self.each, self.choice, self.loop, self.caught]
        if depth > 2 or self.random.random() < 0.5:
            return self.step(own)
        return self.random.choice(makes)(own, depth + 1)

    def step(self, own: Names, **settings: Any) -> Step:
        """A step."""
        random = self.random
        kind = random.choice(
            ["plain", "plain", "awaits", "items", "asks" if self.asks else "plain"]
        )
        reads = (random.choice(LISTS), *random.sample((*NUMBERS, "item", "trail"), 2))
        made: dict[str, Any] = {"kind": kind, "calls": random.choice([0, 0, 1, 3])}
        # Without a journal, what exec did is done again after a kill in post.
        made["journal"] = made["calls"] > 0 or random.random() < 0.9
        if random.random() < 0.4:
            made["attempts"] = attempts = random.randint(2, 3)
            made["falls"] = random.random() < 0.3
            made["fails"] = attempts if made["falls"] else random.randint(1, attempts - 1)
        made |= {"name": self.name("step"), "reads": reads, "slot": random.choice(own)}
        return Step(**{**made, **settings})

    def chain(self, own: Names, depth: int) -> Piece:
        """A nested flow."""
        return Chain(self.name("flow"), self.pieces(own, depth))

    def apart(self, own: Names, depth: int) -> Piece:
        """A flow on a store of its own."""
        pieces = self.pieces((*NUMBERS, *LISTS), depth)
        inputs = tuple(self.random.sample((*NUMBERS, *LISTS), 4))
        links = [
            (one, self.random.choice(LISTS if one in LISTS else NUMBERS)) for one in own[:3]
        ] + [("total", self.random.choice((*NUMBERS, "total")))]
        return Apart(self.name("sub"), pieces, inputs, links)

    def both(self, own: Names, depth: int) -> Piece:
        """Parallel branches, each with keys of its own."""
        if len(own) < 2:
            return self.step(own)
        collects = not self.asks and self.random.random() < 0.4
        mixed_up = self.random.sample(own, len(own))
        branches: list[Piece] = []
        for number in range(2):
            mine = tuple(mixed_up[number::2])
            pieces = self.pieces(mine, depth)
            if collects and self.random.random() < 0.5:
                pieces.append(self.failing(mine))
            branches.append(Chain(self.name("branch"), pieces))
        return Both(self.name("both"), branches, collects)

    def each(self, own: Names, depth: int) -> Piece:
        """Branches for items."""
        branch = Chain(self.name("branch"), self.pieces(own, depth))
        return Each(self.name("each"), branch, self.random.choice(LISTS), own)

    def choice(self, own: Names, depth: int) -> Piece:
        """Ways to go."""
        ways = {"left": self.pieces(own, depth), "right": [], "up": self.pieces(own, depth)}
        return Choice(self.step(own, kind="plain", actions=tuple(ways)), ways)

    def loop(self, own: Names, depth: int) -> Piece:
        """A loop."""
        step = self.step(own, kind="plain", actions=("again", "done"))
        return Loop(self.pieces(own, depth), step, self.random.randint(1, 3))

    def failing(self, own: Names) -> Step:
        """A step that fails for good."""
        attempts = self.random.randint(1, 3)
        made = {"kind": "plain", "attempts": attempts, "fails": attempts, "falls": False}
        return self.step(own, **made)

    def caught(self, own: Names, depth: int) -> Piece:
        """An error that an edge catches."""
        numbers = [one for one in own if one in NUMBERS]
        if not numbers:
            return self.step(own)
        piece: Piece = self.failing(own)
        if self.random.random() < 0.5:
            piece = Chain(self.name("flow"), [*self.pieces(own, depth), piece, self.step(own)])
        return Caught(piece, self.random.choice(numbers))


# -- a trial ---------------------------------------------------------------------------------------


@dataclass
class Trial:
    """What came of a program.

    Attributes:
        steps: How many it has.
        kills: How often a process of it was killed.
        wrong: What was not as it is to be.
    """

    steps: int
    kills: int = 0
    wrong: list[str] = field(default_factory=list)


def carry_on(pieces: Sequence[Piece], folder: Path, left: int, in_async: bool) -> str:
    """Begin the run, or go on with it: the work of one process."""
    LEDGER.open(folder / "ledger", left)
    with WorkflowDB(folder / "runs.db", synchronous="NORMAL") as db:
        flow = flow_of(pieces, "program", schema=Board, db_path=db)
        begun = db.get_run("r") is not None
        try:
            if in_async:
                asyncio.run(flow.resume_async("r") if begun else _begin(flow))
            elif begun:
                flow.resume("r")
            else:
                flow.run(Board(), run_id="r")
        except RunPaused:
            for asked in db.pending():
                answer = mixed("answer", asked.context["result"])
                db.answer_json("r", answer, question=asked.question)
            return "paused"
    return "completed"


async def _begin(flow: Flow[Any]) -> Store[Any]:
    return await flow.run_async(Board(), run_id="r")


def in_memory(pieces: Sequence[Piece], folder: Path) -> dict[str, Any]:
    """The store at the end of a run that is not kept."""
    LEDGER.open(folder / "aside", 0)
    return flow_of(pieces, "program", schema=Board).run(Board()).as_dict()


def look(folder: Path) -> dict[str, Any]:
    """What a reader sees of the run."""
    with WorkflowDB(folder / "runs.db", read_only=True) as db:
        row = db.get_run("r")
        assert row is not None
        ends = []
        for event in db.get_events("r"):
            if event["action"] is not None:
                parts = json.loads(event["path"] or "null") or [event["node_name"]]
                names = [one if isinstance(one, str) else f"{one[0]}[{one[1]}]" for one in parts]
                ends.append((event["step"], names, event["action"]))
        return {
            "status": row["status"],
            "ends": ends,
            "stores": [
                db.load_checkpoint("r", step, schema=Board).as_dict()
                for step in range(-1, row["total_steps"])
            ],
            "account": {name: int(one) for name, one in db.get_account("r").items()},
            "open": len(db.pending()),
        }


def compared(found: Mapping[str, Any], played: Played, kills: int) -> list[str]:
    """What a reader should not see."""
    wrong = [] if found["status"] == "completed" else [f"it is {found['status']}"]
    if [step for step, _, _ in found["ends"]] != list(range(played.steps)):
        wrong.append(f"not {played.steps} steps: {found['ends']}")
    ends: dict[Names, list[tuple[Names, str]]] = {}
    stores = played.stores[:1]
    for _, parts, action in found["ends"]:
        names = tuple(parts)
        line = played.line_of.get(names, ("no line",))
        ends.setdefault(line, []).append((names, action))
        own = len(ends.get((), ()))
        stores.append(played.stores[min(own, len(played.stores) - 1)])
    if ends != played.ends:
        wrong.append(f"steps {ends}, not {played.ends}")
    if found["stores"] != stores:
        wrong.append(f"stores {found['stores']}, not {stores}")
    spent = Counter(found["account"])
    # A kill between the last attempt and what comes of its failure: its last call is made again.
    more = spent["calls"] - played.spent["calls"]
    if spent - Counter(calls=max(more, 0)) != +played.spent or more > kills:
        wrong.append(f"spent {found['account']}, not {dict(played.spent)}")
    if found["open"]:
        wrong.append("a question is open")
    return wrong


def repeated(ledger: Path) -> list[str]:
    """Calls of exec that came after their result was on record."""
    finished, wrong = set(), []
    for text in ledger.read_text(encoding="utf-8").splitlines():
        line = json.loads(text)
        of_step = line["key"] if line["item"] is None else line["key"].rpartition("-")[0]
        if line["what"] == "kept":
            finished.add(of_step)
        elif line["what"] == "exec" and of_step in finished:
            wrong.append(f"exec again: {line}")
    return wrong


def trial(seed: int, folder: Path) -> Trial:
    """Make a program, carry it out with kills on the way, and compare."""
    maker, random = Maker(seed), Random(-seed - 1)
    pieces = maker.pieces((*NUMBERS, *LISTS), 0)
    played = Played([Board().model_dump()])
    play_all(pieces, Line(played, Board().model_dump()))
    tried = Trial(played.steps)
    if not maker.asks:
        aside = in_child(partial(in_memory, pieces, folder))
        if aside.result != played.stores[-1]:
            tried.wrong.append(f"in memory {aside}, not {played.stores[-1]}")
    for number in count():
        left = random.randint(1, 5 * played.steps) if number < 4 else 0
        ended = in_child(partial(carry_on, pieces, folder, left, random.random() < 0.5))
        tried.kills += ended.killed
        if ended.error or number > 50:
            tried.wrong.append(ended.error or "it does not end")
            return tried
        if ended.result == "completed":
            break
    found = in_child(partial(look, folder))
    tried.wrong += [found.error] if found.error else compared(found.result, played, tried.kills)
    tried.wrong += repeated(folder / "ledger")
    return tried


def main(arguments: Sequence[str] | None = None) -> int:
    """Try many; 1 if something was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.durability.programs")
    parser.add_argument("programs", type=int, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="of the first one")
    asked = parser.parse_args(arguments)
    prepare()
    logging.disable(logging.CRITICAL)  # remarks on programs that nobody would write
    steps = kills = wrong = 0
    for seed in range(asked.seed, asked.seed + asked.programs):
        with tempfile.TemporaryDirectory(prefix="pocoflow-programs-") as folder:
            tried = trial(seed, Path(folder))
        steps, kills, wrong = steps + tried.steps, kills + tried.kills, wrong + bool(tried.wrong)
        for one in tried.wrong:
            print(f"program {seed}: {one}")
    print(f"{asked.programs} programs of {steps} steps, killed {kills} times; {wrong} were wrong")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
