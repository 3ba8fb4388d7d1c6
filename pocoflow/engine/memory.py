"""The ledgers of runs without a database: one stores nothing, one counts steps of branches."""

from __future__ import annotations

from typing import NoReturn

from pocoflow.engine.ledger import Ledger
from pocoflow.graph.step_records import Finished, Numbers
from pocoflow.graph.unfinished import Unfinished
from pocoflow.nodes.context import RunContext
from pocoflow.store.branch_view import BranchStore
from pocoflow.store.in_place import check_in_place
from pocoflow.store.watch import Watch


class NullLedger(Ledger):
    """Stores nothing: what it does not define here does nothing."""

    storage = None
    keeps = False
    counts = False
    emits = False
    known = None

    def branch(
        self,
        context: RunContext,
        store: BranchStore,
        values: Watch,
        numbers: Numbers,
        unfinished: Unfinished | None,
    ) -> Ledger:
        """The ledger of a branch, whose steps are counted."""
        return MemoryLedger(context, store, values, numbers)

    def share_budgets(self, *facts: object) -> NoReturn:
        """Refuse: what other runs spend is not stored."""
        raise NotImplementedError("a budget that runs share needs a ledger that keeps it")

    def ask(self, *facts: object) -> NoReturn:
        """Refuse: a question that is not stored cannot be answered."""
        raise NotImplementedError("a question needs a ledger that keeps it")

    def pause(self, node: str) -> NoReturn:
        """Refuse: a run without questions has nothing to wait for."""
        raise NotImplementedError("a pause needs a ledger that keeps it")

    def step(self, finished: Finished) -> tuple[int, bool]:
        """The number of the step, and ``False``: the run was not asked to stop."""
        return finished.step, False

    def end(self, *facts: object) -> bool:
        """Accept the end of the run."""
        return True


NULL = NullLedger()


class MemoryLedger(NullLedger):
    """Numbers the steps of a branch and checks what they changed in place."""

    counts = True

    def __init__(
        self, context: RunContext, store: BranchStore, values: Watch, numbers: Numbers
    ) -> None:
        self._context = context
        self._store = store
        self._values = values
        self._numbers = numbers

    def step(self, finished: Finished) -> tuple[int, bool]:
        """End a step; returns its number, and ``False``: the run was not asked to stop."""
        if self._store.schema is not None:
            check_in_place(self._store, self._values)
        self._context.count += 1
        with self._numbers.next() as number:
            return number, False
