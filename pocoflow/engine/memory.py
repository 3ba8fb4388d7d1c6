"""The ledgers of runs without a database: one keeps nothing, one counts the steps of branches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

from pocoflow.graph.step_records import Bill, Called, Finished, Identity, Numbers, Tried
from pocoflow.graph.unfinished import Unfinished
from pocoflow.nodes.base import AnyNode
from pocoflow.nodes.context import RunContext
from pocoflow.store.branch_view import BranchStore
from pocoflow.store.in_place import check_in_place
from pocoflow.store.watch import Watch


class NullLedger:
    """Keeps nothing."""

    storage = None
    keeps = False
    counts = False
    emits = False
    known: Watch | None = None

    def emit(self, context: RunContext, value: object) -> None:
        """Keep nothing."""

    def branch(
        self,
        context: RunContext,
        store: BranchStore,
        values: Watch,
        numbers: Numbers,
        unfinished: Unfinished | None,
    ) -> MemoryLedger:
        """That of a branch, whose steps are counted."""
        return MemoryLedger(context, store, values, numbers)

    def begin_items(self, step: int, marks: Mapping[int, str]) -> None:
        """Keep nothing."""

    def take_input(self, prepared: object) -> None:
        """Keep nothing."""

    def journal(
        self, step: int, node: str, result: object, definition: AnyNode | None = None
    ) -> None:
        """Keep nothing."""

    def journal_item(
        self,
        step: int,
        node: str,
        result: object,
        item: Identity,
        definition: AnyNode | None = None,
    ) -> None:
        """Keep nothing."""

    def write_items(self) -> None:
        """Keep nothing."""

    def call(self, step: int, called: Called) -> None:
        """Keep nothing."""

    def call_again(self, step: int, key: str, item: Identity | None) -> None:
        """Keep nothing."""

    def spend(self, step: int, bill: Bill) -> None:
        """Keep nothing."""

    def share_budgets(self, *facts: object) -> NoReturn:
        """Refuse: what others have spent is not kept."""
        raise NotImplementedError("a budget that runs share needs a ledger that keeps it")

    def retry(self, step: int, tried: Tried) -> None:
        """Keep nothing."""

    def ask(self, *facts: object) -> NoReturn:
        """Refuse: nobody could answer what is not kept."""
        raise NotImplementedError("a question needs a ledger that keeps it")

    def remark(self, text: str) -> None:
        """Keep nothing."""

    def pause(self, node: str) -> NoReturn:
        """Refuse: a run that has asked nothing waits for nothing."""
        raise NotImplementedError("a pause needs a ledger that keeps it")

    def step(self, finished: Finished) -> tuple[int, bool]:
        """The number of the step, and ``False``: nobody asked for the end of the run."""
        return finished.step, False

    def end(self, *facts: object) -> bool:
        """The run has ended so."""
        return True


NULL = NullLedger()


class MemoryLedger(NullLedger):
    """Gives the steps of a branch their numbers and checks what they changed in place."""

    counts = True

    def __init__(
        self, context: RunContext, store: BranchStore, values: Watch, numbers: Numbers
    ) -> None:
        self._context = context
        self._store = store
        self._values = values
        self._numbers = numbers

    def step(self, finished: Finished) -> tuple[int, bool]:
        """End a step; its number, and ``False``: nobody asked for the end of the run."""
        if self._store.schema is not None:
            check_in_place(self._store, self._values)
        self._context.count += 1
        with self._numbers.next() as number:
            return number, False
