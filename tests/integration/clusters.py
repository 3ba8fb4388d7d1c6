"""A scheduler and workers of Dask, in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests import waiting

ROOT = Path(__file__).parents[2]

DEADLINE = 300.0


class Cluster:
    """A cluster on this machine.

    Attributes:
        address: Where its scheduler listens.
        workers: The processes of its workers.
    """

    def __init__(self, folder: Path, workers: int, threads: int, path: Sequence[Path]) -> None:
        self.folder = folder
        self._file, self._threads = folder / "scheduler.json", threads
        paths = os.pathsep.join(map(str, (*path, ROOT)))
        self._environment = {**os.environ, "PYTHONPATH": paths, "PYTHONUNBUFFERED": "1"}
        options = ("--port", "0", "--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0")
        self._scheduler = self._start("dask_scheduler", *options)
        wait_for(lambda: self._file.exists() and "tcp://" in self._file.read_text(), "a scheduler")
        self.workers = [self.add_worker() for _ in range(workers)]

    @property
    def address(self) -> str:
        """Where the scheduler listens."""
        text = self._file.read_text()
        return text[text.index("tcp://") :].partition('"')[0]

    def add_worker(self) -> subprocess.Popen[bytes]:
        """Start another worker."""
        threads = ("--nthreads", str(self._threads), "--no-nanny", "--no-dashboard")
        return self._start("dask_worker", *threads, "--death-timeout", "60")

    def _start(self, name: str, *options: str) -> subprocess.Popen[bytes]:
        words = ("-m", f"distributed.cli.{name}", "--scheduler-file", str(self._file), *options)
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, *words],
                env=self._environment,
                cwd=self.folder,
                stdout=log,
                stderr=log,
            )

    def close(self) -> None:
        """End all of it."""
        for one in (*self.workers, self._scheduler):
            one.kill()
        for one in (*self.workers, self._scheduler):
            one.wait(DEADLINE)


def wait_for(condition: Callable[[], object], what: str, seconds: float = DEADLINE) -> None:
    """Wait until something is so.

    Raises:
        AssertionError: It is not so after so many seconds.
    """
    waiting.wait_for(condition, f"no {what}", seconds)


@contextmanager
def cluster(
    folder: Path, *, workers: int = 2, threads: int = 1, path: Sequence[Path] = ()
) -> Iterator[Cluster]:
    """A cluster, as long as it is needed."""
    made = Cluster(folder, workers, threads, path)
    try:
        yield made
    finally:
        made.close()
