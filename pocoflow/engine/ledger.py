"""The engine's port to storage: what a line of execution records, and when.

A ledger writes to a database (``db/recorder.py`` for a run, ``db/lines.py`` for a parallel branch),
or substitutes for one where a run has no database (``memory.py``). The engine does not know which
it has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from pocoflow.address import Address
from pocoflow.engine.effects import Storage
from pocoflow.graph.step_records import Bill, Called, Finished, Identity, Numbers, Tried
from pocoflow.graph.unfinished import Unfinished
from pocoflow.nodes.base import AnyNode
from pocoflow.nodes.context import RunContext
from pocoflow.nodes.question import Asked, NewQuestion
from pocoflow.nodes.spending import Amounts, Budget
from pocoflow.store.branch_view import BranchStore
from pocoflow.store.watch import Watch


class Ledger(Protocol):
    """The record of one line. What a method has written is durable once it returns.

    Every method that writes may raise a ``DatabaseError``: ``RunLostError`` if another process has
    claimed the run, or its file was replaced. Nothing is written then.
    """

    @property
    def storage(self) -> Storage | None:
        """Where it writes, which must not block an event loop; ``None`` if it writes nothing."""

    @property
    def keeps(self) -> bool:
        """Whether what is written is available to a resume."""

    @property
    def counts(self) -> bool:
        """Whether it must be notified of finished steps; if not, it ignores every call."""

    @property
    def emits(self) -> bool:
        """Whether it must be notified of what nodes emit."""

    @property
    def known(self) -> Watch | None:
        """The store of the line as last recorded; ``None`` if that is not remembered."""

    def emit(self, context: RunContext, value: object, /) -> None:
        """Record what a node emits, soon and before the step it belongs to; does not block.

        Raises:
            NotStorableError: It cannot be stored.
        """
        return

    def branch(
        self,
        context: RunContext,
        store: BranchStore,
        values: Watch,
        numbers: Numbers,
        unfinished: Unfinished | None,
        /,
    ) -> Ledger:
        """The ledger of a parallel branch that starts or resumes in the step of this line.

        Args:
            context: Its context, which says which branch it is.
            store: Its store.
            values: What the store held when the branch began.
            numbers: Numbers its steps.
            unfinished: What is recorded of it, if it resumes.
        """

    def begin_items(self, step: int, marks: Mapping[int, str], /) -> None:
        """Record the items of parallel branches, before the branches start."""
        return

    def take_input(self, prepared: object, /) -> None:
        """Remember what ``prep`` returned, as it is now, for the first row of the step."""
        return

    def journal(
        self, step: int, node: str, result: object, definition: AnyNode | None = None, /
    ) -> None:
        """Record the result of a finished ``exec``: it is not called again."""
        return

    def journal_item(
        self,
        step: int,
        node: str,
        result: object,
        item: Identity,
        definition: AnyNode | None = None,
        /,
    ) -> None:
        """Record the result of an item, batched with those of items that finish meanwhile."""
        return

    def write_items(self) -> None:
        """Record the pending items."""
        return

    def call(self, step: int, called: Called, /) -> None:
        """Record the result of a journaled call, batched with those that return meanwhile."""
        return

    def call_again(self, step: int, key: str, item: Identity | None, /) -> None:
        """Record that the result of a journaled call is no longer reused."""
        return

    def spend(self, step: int, bill: Bill, /) -> None:
        """Record what was spent with the next row of its attempt, or of the step."""
        return

    def share_budgets(
        self, flows: Sequence[str], of_thread: Amounts | None, of_labels: Mapping[str, Amounts], /
    ) -> Sequence[Budget]:
        """The budgets that the run shares with other runs.

        What other runs spend of a label's budget is read with each commit of this run; the runs of
        a run thread never run concurrently.

        Args:
            flows: The current and former names of its flow.
            of_thread: What the runs of a run thread of these flows may spend together.
            of_labels: What runs with the same value of a label may spend, by its key.
        """

    def retry(self, step: int, tried: Tried, /) -> None:
        """Record a failed attempt that is retried: a resume counts it."""
        return

    def ask(
        self,
        step: int,
        address: Address,
        question: NewQuestion,
        item: Identity | None,
        prepared: object,
        /,
    ) -> int:
        """Record a question, and what ``prep`` returned; returns the question's number."""

    def step(self, finished: Finished, /) -> tuple[int, bool]:
        """Record a finished step; returns its number, and whether the run was asked to stop.

        Raises:
            InvalidValueError: A value was changed in place into something that does not fit.
        """

    def remark(self, text: str, /) -> None:
        """Record a remark about the run, with the next row."""
        return

    def pause(self, node: str, /) -> Sequence[Asked] | None:
        """Record that the run waits for answers.

        Returns:
            The open questions; ``None`` if the run was asked to stop, and nothing is written.
        """

    def end(
        self,
        status: str,
        error: BaseException,
        step: int,
        node: Address | None,
        attempts: int,
        elapsed: float,
        /,
    ) -> bool:
        """Record how a run ended that did not complete; returns whether it ended so."""
