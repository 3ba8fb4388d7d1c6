"""The progress output of the demo."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import TextIO

from pocoflow import Flow, Store
from pocoflow.cli.demo.card import ReadingCard
from pocoflow.cli.output import duration, one_line, printable

_CLEAR = "\r\x1b[K"


class Progress:
    """A line for each step on a terminal or in a log; on a terminal, also the current step."""

    def __init__(self, stream: TextIO) -> None:
        self.live = stream.isatty()
        self.has_started = False
        self._stream = stream
        self._current_line = ""

    def attach(self, flow: Flow[ReadingCard]) -> None:
        """Listen to a flow."""
        flow.on("node_start", self.start).on("node_retry", self.retry).on("node_end", self.end)

    def start(self, name: str, store: Store[ReadingCard]) -> None:
        """A step begins."""
        self.has_started = True
        self._show(f"{'':9}  {_position(store):>5}  {name}: ")

    def token(self, piece: str) -> None:
        """The model has written a little more."""
        self._show(self._current_line + piece)

    def retry(self, name: str, attempt: int, exc: Exception, store: Store[ReadingCard]) -> None:
        """An answer was refused."""
        self._step(f"{'':9}  {_position(store):>5}  {name}: refused, {exc}")
        self.start(name, store)

    def end(self, name: str, action: str, elapsed: float, store: Store[ReadingCard]) -> None:
        """A step has ended."""
        state = store.state
        results: dict[str, Callable[[], str]] = {
            "Split": lambda: f"{len(state.passages)} passages",
            "ChooseLine": lambda: state.line,
            "Rewrite": lambda: state.sentence.text,
            "Heading": lambda: state.entries[-1].heading.text,
            "Title": lambda: state.title.text,
        }
        result = results[name]() if name in results else ""
        position = _position(store, -1 if name == "Heading" else 0)
        self._step(
            f"{duration(elapsed):>9}  {position:>5}  {name} -> {action}{result and f': {result}'}"
        )

    def say(self, text: str) -> None:
        """Write whole lines."""
        if self.live:
            self._stream.write(_CLEAR)
        print(*map(printable, text.split("\n")), sep="\n", file=self._stream, flush=True)

    def _step(self, line: str) -> None:
        self.say(one_line(line, _width() if self.live else 120))

    def _show(self, line: str) -> None:
        self._current_line = line
        if self.live:
            print(f"{_CLEAR}{one_line(line, _width())}", end="", file=self._stream, flush=True)


def _width() -> int:
    return shutil.get_terminal_size().columns - 1


def _position(store: Store[ReadingCard], shift: int = 0) -> str:
    state = store.state
    number = state.position + 1 + shift
    return f"{number}/{len(state.passages)}" if number <= len(state.passages) else ""
