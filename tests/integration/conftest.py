"""Processes for the tests of this folder: real ones, that are waited for by what they print."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import pytest

import pocoflow

PROGRAMS = Path(__file__).with_name("programs.py")
DEADLINE = 300.0


class Child:
    """A program of ``programs.py`` that runs in a process of its own."""

    def __init__(self, name: str, *arguments: object, through: Sequence[str] = ()) -> None:
        self._process = subprocess.Popen(
            [*through, sys.executable, "-W", "error", str(PROGRAMS), name, *map(str, arguments)],
            env={**os.environ, "PYTHONPATH": str(Path(pocoflow.__file__).parents[1])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.pid = self._process.pid
        self._buffer = b""

    def line(self) -> str:
        """The next line that the program prints.

        Raises:
            AssertionError: It ended, or printed nothing for a minute.
        """
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                assert selector.select(DEADLINE), f"{self!r} printed nothing for {DEADLINE} s"
                some = os.read(self._process.stdout.fileno(), 65536)
                assert some, f"{self!r} ended, and wrote: {self.finish()}"
                self._buffer += some
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode()

    def tell(self, text: str = "go") -> None:
        """Send a line to the program."""
        assert self._process.stdin is not None
        self._process.stdin.write(text.encode() + b"\n")
        self._process.stdin.flush()

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the program."""
        self._process.send_signal(number)

    def wait(self) -> int:
        """Wait until the process is gone and return its exit code, without reading its pipes."""
        return self._process.wait(DEADLINE)

    def finish(self) -> tuple[int, str, str]:
        """Close its input, wait for its end; its exit code, and what else it wrote."""
        output, errors = self._process.communicate(timeout=DEADLINE)
        return self._process.returncode, (self._buffer + output).decode(), errors.decode()

    def close(self) -> None:
        """End it if it still runs, and give the pipes back."""
        if self._process.poll() is None:
            self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()
        self._process.wait(DEADLINE)

    def __repr__(self) -> str:
        return f"<program {' '.join(map(str, self._process.args[4:]))}>"  # type: ignore[index]


Start: TypeAlias = Callable[..., Child]


@pytest.fixture
def start() -> Iterator[Start]:
    """A function that starts a program of ``programs.py``; at the end of the test it is ended."""
    children: list[Child] = []

    def begin(name: str, *arguments: object, through: Sequence[str] = ()) -> Child:
        child = Child(name, *arguments, through=through)
        children.append(child)
        return child

    yield begin
    for child in children:
        child.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a database can be made."""
    return tmp_path / "runs.db"


@pytest.fixture
def keep_main(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give ``__main__`` back: Streamlit's test runner leaves its script in the place of it.

    Every process that ``multiprocessing`` starts afterwards would begin by executing that script.
    """
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
