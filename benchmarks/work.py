"""What a work is: what is done, by whom, how much of it, what is measured and what is aimed at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from benchmarks.task import Measures, Synchronous


@dataclass(frozen=True)
class Entry:
    """A contender, and how it does the work where it has several ways.

    Attributes:
        contender: The name of its module, and of its environment.
        variant: Which way, as the worker knows it.
        base: The variant of the limit that it is compared to, if not that of the first entry.
    """

    contender: str
    variant: str = ""
    base: str | None = None

    @property
    def label(self) -> str:
        name = LABELS[self.contender]
        return f"{name}, {self.variant}" if self.variant else name


LABELS = {
    "by_hand": "by hand",
    "by_pocoflow": "pocoflow",
    "by_pocketflow": "PocketFlow",
    "by_langgraph": "LangGraph",
    "by_burr": "Burr",
    "by_pydantic_graph": "pydantic-graph",
    "by_workflows": "LlamaIndex Workflows",
    "by_dbos": "DBOS",
    "by_monitor": "pocoflow",
}
PEERS = tuple(name for name in LABELS if name not in ("by_hand", "by_pocoflow", "by_monitor"))


@dataclass(frozen=True)
class Metric:
    """Something that every round measures; the less, the better."""

    name: str
    title: str
    digits: int = 1
    compared: bool = True


@dataclass(frozen=True)
class Goal:
    """What is aimed at.

    Attributes:
        what: In words.
        metric: What is measured.
        most: The bound, included.
        variant: Of pocoflow.
        kind: Of the ``ratio`` to the base, the ``difference`` to it, or the ``value`` itself.
        base: The variant of the base.
        to: A metric of pocoflow's own that it is compared to instead.
    """

    what: str
    metric: str
    most: float
    variant: str = ""
    kind: Literal["ratio", "difference", "value"] = "ratio"
    base: str | None = None
    to: str = ""


@dataclass(frozen=True)
class Work:
    """One work.

    Attributes:
        name: As ``--only`` takes it.
        title: The heading of its table.
        what: What is done, in a sentence or two.
        sizes: How much of it; what ``--scale`` and ``--size`` change.
        metrics: What is measured, the one that the plot shows first.
        entries: Who does it. The first is the limit, unless there is an ``ideal``.
        goals: What is aimed at.
        rounds: How often each does it.
        function: The name of the workers, if several works share them.
        synchronous: Of SQLite; ``None`` if there is no file.
        counted: The size that fsyncs are counted by, and for how many; ``None`` counts none.
        counted_per_one: Whether the fsyncs of one of them are told, or of all.
        ideal: What would be measured if nothing cost anything.
        fresh: Whether each round has a process of its own, for the memory.
        fixed: Sizes that ``--scale`` leaves alone.
        patience: What the limit of a round is multiplied by.
        warms: Whether a small unmeasured round goes before the first one of a process.
        by_name: Whether it is done only if it is asked for by its name.
    """

    name: str
    title: str
    what: str
    sizes: Mapping[str, int]
    metrics: tuple[Metric, ...]
    entries: tuple[Entry, ...]
    goals: tuple[Goal, ...] = ()
    rounds: int = 5
    function: str = ""
    synchronous: Synchronous | None = None
    counted: tuple[str, int] | None = None
    counted_per_one: bool = True
    ideal: Callable[[Mapping[str, int]], Measures] | None = None
    fresh: bool = False
    fixed: frozenset[str] = field(default_factory=frozenset)
    patience: float = 1.0
    warms: bool = True
    by_name: bool = False

    def scaled(self, scale: float) -> Work:
        """The same work, with sizes multiplied."""
        sizes = {
            name: size if name in self.fixed else max(round(size * scale), 2)
            for name, size in self.sizes.items()
        }
        return replace(self, sizes=sizes)

    def sized(self, name: str, size: int) -> Work:
        """The same work, with one other size."""
        return replace(self, sizes={**self.sizes, name: size})


def peers(*but: str) -> tuple[Entry, ...]:
    return tuple(Entry(name) for name in PEERS if name not in but)


HAND, POCOFLOW = Entry("by_hand"), Entry("by_pocoflow")
US = Metric("us", "us per step", 2)
CPU = Metric("cpu_us", "us of the processor", 2)
MB = Metric("mb", "MB on disk", 2)
