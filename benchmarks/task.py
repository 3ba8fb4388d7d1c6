"""What a worker is told to do, and the clock that it measures with.

A worker is a function of a contender: it takes a :class:`Task`, does the work once, checks what
came out, and returns what it measured. Workers run in environments that have nothing but the
contender, so this module needs the standard library alone.
"""

from __future__ import annotations

import gc
import math
import os
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from time import perf_counter, process_time
from typing import Literal, Self, TypeAlias

Synchronous: TypeAlias = Literal["NORMAL", "FULL"]
Measures: TypeAlias = dict[str, float]

KILOBYTE = "word " * 200
MEGABYTE = "word " * 200_000


@dataclass(frozen=True)
class Task:
    """One round of one work, for one contender.

    Attributes:
        folder: An empty folder, removed after the round.
        home: A folder that stays as long as the worker's process.
        sizes: How much there is to do.
        variant: How the contender does it, where it has several ways.
        synchronous: When SQLite waits for the disk.
    """

    folder: Path
    home: Path
    sizes: Mapping[str, int]
    variant: str = ""
    synchronous: Synchronous = "NORMAL"

    @property
    def path(self) -> Path:
        """A database file of this round."""
        return self.folder / "work.db"


Worker: TypeAlias = Callable[[Task], Measures]


@dataclass
class Clock:
    """Measures a ``with`` block, which begins without garbage."""

    wall: float = 0.0
    cpu: float = 0.0
    _began: tuple[float, float] = field(default=(0.0, 0.0), repr=False)

    def __enter__(self) -> Self:
        gc.collect()
        self._began = perf_counter(), process_time()
        return self

    def __exit__(self, *error: object) -> None:
        self.wall = perf_counter() - self._began[0]
        self.cpu = process_time() - self._began[1]

    def each(self, count: int, path: Path | None = None) -> Measures:
        """Microseconds of each of the things that were done, and what they left on disk."""
        found = {"us": self.wall / count * 1e6, "cpu_us": self.cpu / count * 1e6}
        if path is not None:
            found["mb"] = size_on_disk(path) / 1e6
        return found


def size_on_disk(path: Path) -> int:
    """The bytes of a database, its logs included."""
    return sum(file.stat().st_size for file in path.parent.glob(path.name + "*"))


def expect(found: object, wanted: object, what: str) -> None:
    """Refuse to measure work that was not done.

    Raises:
        RuntimeError: What was found is not what was wanted.
    """
    if found != wanted:
        raise RuntimeError(f"{what}: {found!r:.100}, not {wanted!r:.100}")


def message(number: int) -> dict[str, str]:
    """A message of about 1 kB."""
    return {"role": "assistant", "content": f"{number:06} " + "word " * 190}


@cache
def _letters(size: int) -> str:
    return "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz      ", k=size))


def text_of(number: int, size: int) -> str:
    """A text that begins with a number, of some bytes, which compresses as little as text does."""
    return f"{number:06} {_letters(size)}"[:size]


def growth(chat: Callable[[Path, int], object], task: Task) -> Measures:
    """Time a chat, and fit how its bytes grow: the exponent of a power of its steps."""
    steps = task.sizes["steps"]
    counts = [max(steps >> shift, 8) for shift in (3, 2, 1)]
    sizes = []
    for number, count in enumerate(counts):
        path = task.folder / f"growth-{number}.db"
        chat(path, count)
        sizes.append(size_on_disk(path))
    with Clock() as clock:
        chat(task.path, steps)
    found = clock.each(steps, task.path)
    counts.append(steps)
    sizes.append(size_on_disk(task.path))
    found["exponent"] = slope(counts, sizes)
    return found


def slope(counts: Sequence[float], sizes: Sequence[float]) -> float:
    """The exponent of the power that fits ``sizes`` over ``counts``."""
    return statistics.linear_regression(
        [math.log(count) for count in counts], [math.log(size) for size in sizes]
    ).slope


def timed(read: Callable[[], object], times: int = 30) -> float:
    """The median milliseconds of a read."""
    found = []
    for _ in range(times):
        began = perf_counter()
        read()
        found.append((perf_counter() - began) * 1e3)
    return statistics.median(found)


class Memory:
    """How far the memory of this process rises above where it was."""

    def __init__(self) -> None:
        gc.collect()
        try:
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins here
            self._before = _status("VmRSS")
        except OSError as error:
            raise RuntimeError("the peak of memory is read from Linux's /proc") from error

    def peak(self) -> float:
        """The peak since, in MB above the beginning."""
        return (_status("VmHWM") - self._before) / 1e6


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise OSError(f"no {name} in /proc/self/status")


def stalls(times: Sequence[float], task: Task) -> Measures:
    """What the slowest of many steps took, beside the others and beside a flush of the disk."""
    ordered = sorted(times)
    flushes = flush(task.folder / "flush", len(ordered))
    usual = statistics.median(flushes)
    middle, slowest = statistics.median(ordered), ordered[-1]
    return {
        "us": middle * 1e6,
        "p999_us": ordered[int(len(ordered) * 0.999)] * 1e6,
        "max_us": slowest * 1e6,
        "flush_us": usual * 1e6,
        "max_flush_us": max(flushes) * 1e6,
        "max_to_flush": slowest / usual,
        "max_to_us": slowest / middle,
    }


def flush(path: Path, times: int) -> list[float]:
    """The seconds of appending 4 kB to a file and flushing it to the disk, each time."""
    found = []
    with path.open("wb", buffering=0) as file:
        for _ in range(times):
            file.write(b"x" * 4096)
            began = perf_counter()
            os.fdatasync(file.fileno())
            found.append(perf_counter() - began)
    return found


def numbers(text: str) -> list[int]:
    """The numbers with commas of a command line."""
    return [int(one) for one in text.split(",")]
