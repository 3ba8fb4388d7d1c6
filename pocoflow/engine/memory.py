"""What stands in for the database in a parallel branch of a run that has none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pocoflow.nodes.context import RunContext
from pocoflow.nodes.counting import Numbers
from pocoflow.store.branch_view import BranchStore
from pocoflow.store.watch import Watch, check_in_place

__all__ = ["MemoryRecorder"]


class MemoryRecorder:
    """Gives the steps of a branch their numbers and checks what they changed in place."""

    ledger = None
    keeps = False

    def __init__(
        self, context: RunContext, store: BranchStore, values: Watch, numbers: Numbers
    ) -> None:
        self._context = context
        self._store = store
        self._values = values
        self._numbers = numbers

    def journal(self, step: int, node: str, result: Any) -> None:
        """Keep nothing."""

    def journal_item(self, step: int, node: str, result: Any, item: int, mark: str) -> None:
        """Keep nothing."""

    def begin_items(self, step: int, marks: Mapping[int, str]) -> None:
        """Keep nothing."""

    def write_items(self) -> None:
        """Write nothing."""

    def ask(self, *facts: Any) -> int:
        """Never called: it keeps nothing."""
        raise NotImplementedError

    def take_input(self, prepared: Any) -> None:
        """Keep nothing."""

    def retry(self, *facts: Any) -> None:
        """Write nothing."""

    def step(self, *facts: Any) -> tuple[int, bool]:
        """End a step; its number, and ``False``: nobody asked for the end of the run."""
        if self._store.schema is not None:
            check_in_place(self._store, self._values)
        self._context.count += 1
        with self._numbers.next() as number:
            return number, False
