"""What the engine asks of storage: what a line of execution puts on record, and when.

There is one in a database (``db/recorder.py`` for a run, ``db/lines.py`` for a parallel branch),
and what stands in where a run has no database (``memory.py``). The engine does not know which it
has.
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
    """What one line has on record. What a method has returned from is there after a crash.

    Every method that writes may raise a ``DatabaseError``: ``RunLostError`` where another process
    has the run now, or its file is not the one that it was. Nothing is written then.
    """

    @property
    def storage(self) -> Storage | None:
        """Where it writes, which must be kept off an event loop; ``None`` if it writes nothing."""

    @property
    def keeps(self) -> bool:
        """Whether what is written is there for a resume."""

    @property
    def counts(self) -> bool:
        """Whether it has to be told of finished steps; if not, nothing that it is told matters."""

    @property
    def emits(self) -> bool:
        """Whether it has to be told what nodes emit."""

    @property
    def known(self) -> Watch | None:
        """The store of the line as it is on record; ``None`` if that is not remembered."""

    def emit(self, context: RunContext, value: object, /) -> None:
        """Record what a node emits, soon and before what it belongs to; waits for nothing.

        Raises:
            NotStorableError: It cannot be stored.
        """

    def branch(
        self,
        context: RunContext,
        store: BranchStore,
        values: Watch,
        numbers: Numbers,
        unfinished: Unfinished | None,
        /,
    ) -> Ledger:
        """The ledger of a parallel branch that begins in the step of this line, or goes on there.

        Args:
            context: Its context, which says which branch it is.
            store: Its store.
            values: What that held when the branch began, remembered.
            numbers: Gives its steps their numbers.
            unfinished: What is on record of it, if it goes on.
        """

    def begin_items(self, step: int, marks: Mapping[int, str], /) -> None:
        """Record what the items of parallel branches are, before these begin."""

    def take_input(self, prepared: object, /) -> None:
        """Remember what ``prep`` gave, as it is now, for the first row of the step."""

    def journal(
        self, step: int, node: str, result: object, definition: AnyNode | None = None, /
    ) -> None:
        """Record the result of a finished ``exec``: it is not called again."""

    def journal_item(
        self,
        step: int,
        node: str,
        result: object,
        item: Identity,
        definition: AnyNode | None = None,
        /,
    ) -> None:
        """Record the result of an item, together with those of others that finish meanwhile."""

    def write_items(self) -> None:
        """Record the items that wait for it."""

    def call(self, step: int, called: Called, /) -> None:
        """Record what a journaled call returned, together with what others return meanwhile."""

    def call_again(self, step: int, key: str, item: Identity | None, /) -> None:
        """Record that what a journaled call returned is not given any more."""

    def spend(self, step: int, bill: Bill, /) -> None:
        """Record what was spent with the next row of its attempt, or of the step."""

    def share_budgets(
        self, flows: Sequence[str], of_thread: Amounts | None, of_labels: Mapping[str, Amounts], /
    ) -> Sequence[Budget]:
        """The budgets that the run shares with others.

        What others spend of one of a label is known with each commit of this run; those of a run
        thread are not at work at the same time.

        Args:
            flows: The names that its flow has and had.
            of_thread: What the runs of a run thread of these flows may spend together.
            of_labels: What runs with the same value of a label may, by its key.
        """

    def retry(self, step: int, tried: Tried, /) -> None:
        """Record a failed attempt that another one follows: a resume counts it."""

    def ask(
        self,
        step: int,
        address: Address,
        question: NewQuestion,
        item: Identity | None,
        prepared: object,
        /,
    ) -> int:
        """Record a question, and what ``prep`` had given; the question's number."""

    def step(self, finished: Finished, /) -> tuple[int, bool]:
        """Record a finished step; its number, and whether somebody asked the run to stop.

        Raises:
            InvalidValueError: A value was changed in place into something that does not fit.
        """

    def remark(self, text: str, /) -> None:
        """Keep what people should know, with the next row."""

    def pause(self, node: str, /) -> Sequence[Asked] | None:
        """Record that the run waits for answers.

        Returns:
            The open questions; ``None`` if somebody asked the run to stop, and nothing is written.
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
        """Record how the run ended if it did not complete; whether it did end so."""
