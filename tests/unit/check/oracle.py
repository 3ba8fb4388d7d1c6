"""Generated functions, executed in every way, against what the proof says of them.

``python -m tests.unit.check.oracle 3000`` tries that many and reports the figures.
"""

import linecache
import random
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from pydantic import BaseModel

from pocoflow import Flow, Node, Store, key
from pocoflow.check.findings import Finding
from pocoflow.errors import StoreError

KEYS = ("alpha", "beta", "gamma", "delta")
RUNS, FLIPS, ROUNDS = 400, 9, 50

HEAD = """\
from contextlib import nullcontext, suppress

from pocoflow import Node

ALPHA = "alpha"


def opaque(value=None):
    if flip():
        raise ValueError("opaque")
    return value


def passes(value):
    return flip()


def reads(store, name):
    return store[name]


def writes(store):
    store["beta"] = 7
    return "from writes"


def asks(store):
    if "gamma" in store:
        return store["gamma"]
    return None


class Base(Node):
    BETA = "beta"

    def post(self, store, prep, result):
        return store["alpha"]

    def removes(self, store):
        store.pop("delta", None)
        if flip():
            return "early"
        store.state.alpha = 3


class Made(Base):
    def post(self, store, prep, result):
        s, state = store, store.state
"""


class Schema(BaseModel):
    alpha: int
    beta: int
    gamma: int = 0
    delta: int = 0


class OutOfFlips(BaseException):
    """An execution that goes on and on is no example of anything."""


class Writer:
    """Writes one function."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.lines: list[str] = []
        self.left = self.random.randint(3, 14)

    def source(self) -> str:
        """The source of a module with the function in it."""
        self.block(2, in_loop=False)
        return HEAD + "\n".join(self.lines) + "\n"

    def add(self, depth: int, text: str) -> None:
        self.lines.append("    " * depth + text)

    def one(self, *choices: str) -> str:
        return self.random.choice(choices)

    def key(self) -> str:
        return self.random.choice(KEYS)

    def block(self, depth: int, *, in_loop: bool) -> None:
        start = len(self.lines)
        for _ in range(self.random.randint(1, 4)):
            if self.left > 0:
                self.left -= 1
                self.statement(depth, in_loop)
        if len(self.lines) == start:
            self.simple(depth)

    def statement(self, depth: int, in_loop: bool) -> None:
        compound = self.random.random() < (0.5 if depth < 6 else 0.0)
        if compound:
            kinds = (self.branch, self.branch, self.loop, self.attempt, self.within, self.match)
            self.random.choice(kinds)(depth, in_loop)
        elif self.random.random() < 0.15:
            self.leave(depth, in_loop)
        else:
            self.simple(depth)

    def read(self) -> str:
        name = self.key()
        return self.one(
            f'store["{name}"]',
            f"state.{name}",
            f's["{name}"]',
            f"store.state.{name}",
            "store[ALPHA]",
            "store[self.BETA]",
            f'getattr(state, "{name}")',
        )

    def simple(self, depth: int) -> None:
        name = self.key()
        self.add(
            depth,
            self.one(
                self.read(),
                self.read(),
                f'store["{name}"] = 1',
                f"state.{name} = 1",
                f'del store["{name}"]',
                f'store.pop("{name}")',
                f'store.pop("{name}", None)',
                f"del store.state.{name}",
                f'store.update({{"{name}": 2}}, {self.key()}=3)',
                f'store.setdefault("{name}", 4)',
                f'store["{name}"] += 1',
                f'store.get("{name}")',
                f"x = {self.read()} if flip() else {self.read()}",
                f"x = flip() and {self.read()}",
                f"x = {self.read()} or {self.read()}",
                f"x = [{self.read()} for _ in range(2) if flip()]",
                f"x = opaque({self.read()})",
                "opaque()",
                "pass",
                "store.clear()",
                f'reads(store, "{name}")',
                "writes(s)",
                "asks(store)",
                "self.removes(store)",
                f'store["{name}"] = opaque(5)',
                f'store["{name}"] = "text"',
                'store["alpah"] = 1',
                f'if (found := store.get("{name}")) is not None: {self.read()}',
                "super().post(store, prep, result)",
            ),
        )

    def test(self) -> str:
        name = self.key()
        return self.one(
            "flip()",
            "flip()",
            f'"{name}" in store',
            f'"{name}" not in s',
            f'store.get("{name}") is not None',
            f'store.get("{name}") is None',
            f'hasattr(state, "{name}")',
            f'flip() and "{name}" in store',
            f'not ("{name}" in store or flip())',
            f"passes({self.read()})",
        )

    def branch(self, depth: int, in_loop: bool) -> None:
        self.add(depth, f"if {self.test()}:")
        self.block(depth + 1, in_loop=in_loop)
        if self.random.random() < 0.3:
            self.add(depth, f"elif {self.test()}:")
            self.block(depth + 1, in_loop=in_loop)
        if self.random.random() < 0.6:
            self.add(depth, "else:")
            self.block(depth + 1, in_loop=in_loop)

    def loop(self, depth: int, in_loop: bool) -> None:
        self.add(
            depth,
            self.one("for _ in range(2):", f"while {self.test()}:", "while True:", "while flip():"),
        )
        if self.lines[-1].endswith("while True:"):
            self.add(depth + 1, f"if flip(): {self.one('break', 'return', 'break')}")
        self.add(depth + 1, "tick()")
        self.block(depth + 1, in_loop=True)
        if self.random.random() < 0.4:
            self.add(depth, "else:")
            self.block(depth + 1, in_loop=in_loop)

    def attempt(self, depth: int, in_loop: bool) -> None:
        self.add(depth, "try:")
        self.block(depth + 1, in_loop=in_loop)
        handlers = self.random.randint(0, 2)
        for number in range(handlers):
            last = ("except Exception:",) if number else ()
            self.add(
                depth,
                self.one(
                    "except KeyError:", "except ValueError:", "except (KeyError, OSError):", *last
                ),
            )
            self.block(depth + 1, in_loop=in_loop)
        if handlers and self.random.random() < 0.4:
            self.add(depth, "else:")
            self.block(depth + 1, in_loop=in_loop)
        if not handlers or self.random.random() < 0.4:
            self.add(depth, "finally:")
            self.block(depth + 1, in_loop=False)

    def within(self, depth: int, in_loop: bool) -> None:
        self.add(
            depth,
            self.one(
                "with suppress(KeyError):", "with nullcontext():", "with suppress(ValueError):"
            ),
        )
        self.block(depth + 1, in_loop=in_loop)

    def match(self, depth: int, in_loop: bool) -> None:
        self.add(depth, "match flip():")
        self.add(depth + 1, f"case True if {self.test()}:")
        self.block(depth + 2, in_loop=in_loop)
        if self.random.random() < 0.7:
            self.add(depth + 1, "case _:")
            self.block(depth + 2, in_loop=in_loop)

    def leave(self, depth: int, in_loop: bool) -> None:
        ways = ["return", 'return "done"', 'raise ValueError("meant")', "return writes(store)"]
        ways += ["break", "continue"] if in_loop else []
        self.add(depth, self.one(*ways))


@dataclass
class Outcome:
    """What happened in the executions of a function."""

    ended: int = 0
    failed: int = 0
    raised: int = 0
    is_whole: bool = True
    errors: set[str] = field(default_factory=set)


class Case:
    """A generated function, the keys that it is given, and what is found in it."""

    def __init__(self, seed: int) -> None:
        chance = random.Random(-seed)
        self.given = [name for name in ("alpha", "beta") if chance.random() < 0.5]
        self.source = Writer(seed).source()
        name = f"<generated {seed}>"
        linecache.cache[name] = (len(self.source), None, self.source.splitlines(True), name)
        self.names: dict[str, Any] = {
            "__name__": f"generated_{seed}",
            "flip": self.flip,
            "tick": self.tick,
        }
        exec(compile(self.source, name, "exec"), self.names)  # noqa: S102
        self.kind: Any = self.names["Made"]
        self.chosen: list[bool] = []
        self.asked = self.rounds = 0

    def flip(self) -> bool:
        """The next choice that this execution takes."""
        if self.asked >= FLIPS:
            raise OutOfFlips
        if self.asked == len(self.chosen):
            self.chosen.append(False)
        self.asked += 1
        return self.chosen[self.asked - 1]

    def tick(self) -> None:
        """One more round of a loop."""
        self.rounds += 1
        if self.rounds > ROUNDS:
            raise OutOfFlips

    def findings(self) -> list[Finding]:
        """What the proof says, of what a store refuses."""
        inputs = tuple(key(name) for name in self.given)
        found = Flow(self.kind(), schema=Schema, inputs=inputs, outputs=()).validate()
        assert not [one for one in found if one.code == "PF001"], found
        return [one for one in found if one.code in ("PF201", "PF203", "PF301")]

    def outcome(self, given: Iterable[str]) -> Outcome:
        """What happens, for every row of choices, in a store that has these keys."""
        found = Outcome()
        node: Node = self.kind()
        for _ in range(RUNS):
            self.asked = self.rounds = 0
            try:
                store = Store(dict.fromkeys(given, 1), schema=Schema)
                for name in KEYS:
                    if name not in given:
                        store.pop(name, None)
                node.post(store, None, None)
                found.ended += 1
            except OutOfFlips:
                found.is_whole = False
            except StoreError as exc:
                found.failed += 1
                found.errors.add(str(exc))
            except ValueError:
                found.raised += 1
            del self.chosen[self.asked :]
            while self.chosen and self.chosen[-1]:
                self.chosen.pop()
            if not self.chosen:
                return found
            self.chosen[-1] = True
        found.is_whole = False
        return found

    def may_fail(self, given: Iterable[str]) -> bool:
        """Whether some execution fails, or not all were tried."""
        found = self.outcome(given)
        return bool(found.failed) or not found.is_whole


def subsets() -> Iterator[tuple[str, ...]]:
    """What a node before may have left in the store."""
    for size in range(len(KEYS), -1, -1):
        yield from combinations(KEYS, size)


def judge(seed: int) -> str:
    """``agrees``, ``missed``, or what the disagreement is."""
    case = Case(seed)
    findings, outcome = case.findings(), case.outcome([*case.given, "gamma", "delta"])
    errors = [one for one in findings if one.severity == "error"]
    if errors and outcome.ended:
        return f"error, and {outcome.ended} executions end well: {errors[0].message}"
    if errors and not outcome.failed and outcome.is_whole:
        return f"error, and no execution fails: {errors[0].message}"
    if findings and not errors and not any(map(case.may_fail, subsets())):
        return f"finding, and no execution fails: {findings[0].message}"
    if not errors and outcome.failed and outcome.is_whole and not (outcome.ended or outcome.raised):
        return "missed"
    return "found" if errors else "agrees"


def main(count: int, first: int = 0) -> int:
    """Try many functions and print what came of it."""
    told: dict[str, list[int]] = {}
    for seed in range(first, first + count):
        said = judge(seed)
        is_wrong = said not in ("agrees", "found", "missed")
        told.setdefault("disagrees" if is_wrong else said, []).append(seed)
        if is_wrong:
            print(f"{seed}: {said}")
    for said, seeds in sorted(told.items()):
        print(
            f"{said}: {len(seeds)}" + (f" {seeds[:40]}" if said in ("missed", "disagrees") else "")
        )
    return len(told.get("disagrees", ()))


if __name__ == "__main__":
    sys.exit(bool(main(*map(int, sys.argv[1:] or ["3000"]))))
