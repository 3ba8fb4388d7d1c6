"""What is recorded of a step that is not finished, and of the branches in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from pocoflow.graph.graph import Vertex
from pocoflow.graph.routing import TakenEdge
from pocoflow.nodes.edges import DEFAULT_ACTION
from pocoflow.nodes.question import Asked
from pocoflow.nodes.spending import Spent
from pocoflow.store.branch_view import BranchValues
from pocoflow.values import Classes
from pocoflow.values.failures import Failure


class StartedItem(NamedTuple):
    """What is recorded of an item that was started.

    Attributes:
        mark: What distinguishes it from others; empty if it cannot be stored.
        attempts: How many attempts of ``exec`` have failed on it.
        errors: What they raised.
    """

    mark: str
    attempts: int
    errors: tuple[Failure, ...] = ()


_NO_VALUES = BranchValues({}, {}, [], {})


@dataclass(frozen=True, slots=True)
class Unfinished:
    """The step that a line has started, and the lines of the branches in it.

    The log provides it with values as text. A resume decodes these with the current code, and then
    also sets ``vertices``, ``own`` and ``pending``.

    Attributes:
        line: The number of the line in the log; 0 is the run itself.
        count: How many steps the line has finished; of the run, the number under which its step
            began.
        began: Of a branch, its first node, after the names of the flows and branches around it.
        names: The next node, after the names of the flows around it; empty for the first node of a
            branch, ``None`` at the end of the line.
        action: The action of the last step.
        taken: How often edges with limits were taken, in the flows where the line is.
        row: The row of the log after which the step began.
        results: The results of its finished ``exec`` calls, by item.
        items: What is recorded of its items, by number.
        asked: Its questions, by item.
        calls: What its journaled calls have returned, as text, by item and key. The text of what
            was awaited begins with ``~``.
        classes: The classes of these results.
        prepared: What ``prep`` returned, as the only element, if that is recorded.
        changes: What ``prep`` had changed since the last step: key, operation, text.
        changed_at: The row of the log that records these changes.
        given: Those of the changes that were set by a resume.
        keys: The numbers of a branch's own keys.
        rows: The stored values of these keys: key, operation, text.
        branches: The branches that were started in the step, by number.
        templates: Which branch of its node each of these is now; ``None`` if that was removed.
        spent: Of the run itself, what it has spent.
        steps: How many steps of the run are committed.
        read_at: When it was read; all deadlines are compared with this time.
        vertices: The next node, after the flows around it.
        own: A branch's own values.
        pending: What ``prep`` had changed, if that is recorded.
    """

    line: int = 0
    count: int = 0
    began: tuple[str, ...] = ()
    names: tuple[str, ...] | None = ()
    action: str = DEFAULT_ACTION
    taken: Sequence[TakenEdge] = ()
    row: int = 0
    results: Mapping[int, Any] = field(default_factory=dict)
    items: Mapping[int, StartedItem] = field(default_factory=dict)
    asked: Mapping[int, Asked] = field(default_factory=dict)
    calls: Mapping[int, Mapping[str, str]] = field(default_factory=dict)
    classes: Classes | None = None
    prepared: tuple[Any, ...] = ()
    changes: Sequence[tuple[str, int, str | None]] = ()
    changed_at: int = 0
    given: Sequence[tuple[str, int, str | None]] = ()
    keys: Mapping[str, int] = field(default_factory=dict)
    rows: Sequence[tuple[str, int, str | None]] = ()
    branches: Mapping[int, Unfinished] = field(default_factory=dict)
    templates: Mapping[int, int | None] = field(default_factory=dict)
    spent: Sequence[Spent] = ()
    steps: int = 0
    read_at: str = ""
    vertices: tuple[Vertex, ...] = ()
    own: BranchValues = _NO_VALUES
    pending: BranchValues | None = None

    @property
    def is_started(self) -> bool:
        """Whether anything of the step is recorded."""
        return bool(
            self.prepared or self.results or self.items or self.asked or self.calls or self.branches
        )

    def lines(self) -> Iterator[Unfinished]:
        """This line, then those of its branches, in pre-order."""
        yield self
        for branch in self.branches.values():
            yield from branch.lines()

    def questions(self) -> list[Asked]:
        """Every question that the line waits for, including those of its branches."""
        return [asked for line in self.lines() for asked in line.asked.values()]

    def without_inputs(self) -> Unfinished:
        """The same without what ``prep`` returned, so that it runs again, unless it has questions.

        Questions remain as they were asked, as does the input of the node that asked them.
        """
        branches = {number: branch.without_inputs() for number, branch in self.branches.items()}
        if self.asked:
            return replace(self, branches=branches)
        return replace(self, branches=branches, prepared=(), changes=self.given)


NOTHING = Unfinished()
"""The state of a line that has just started."""
