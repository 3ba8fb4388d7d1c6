"""What is on record of a step that is not finished, and of the lines of the branches in it."""

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


class Begun(NamedTuple):
    """What is known of an item of which something is on record.

    Attributes:
        mark: What tells it from others; empty if it cannot be stored.
        attempts: How many attempts of ``exec`` have failed on it.
        errors: What they raised.
    """

    mark: str
    attempts: int
    errors: tuple[Failure, ...] = ()


_NO_VALUES = BranchValues({}, {}, [], {})


@dataclass(frozen=True, slots=True)
class Unfinished:
    """The step that a line has begun, and the lines of the branches in it.

    The log gives it with values as text. A resume reads these under the code as it is now, and then
    it also has ``vertices``, ``own`` and ``pending``.

    Attributes:
        line: The number of the line in the log; 0 is the run itself.
        count: How many steps the line has finished; of the run, the number under which its step
            began.
        began: Of a branch, its first node, after the names of the flows and branches around it.
        names: The node that comes next, after the names of the flows around it; empty for the first
            one of a branch, ``None`` at the end of the line.
        action: The action of the last step.
        taken: How often edges with limits were taken, in the flows where the line is.
        row: The row of the log after which the step began.
        results: Results of its ``exec`` that are finished, by item.
        items: What is known of its items, by number.
        asked: Its questions, by item.
        calls: What its journaled calls have returned, as text, by item and key. The text of what
            was awaited begins with ``~``.
        classes: The classes of that.
        prepared: What ``prep`` gave, as the only element, if that is on record.
        changes: What differed by then from the last step, as ``prep`` had changed it: key,
            operation, text.
        changed_at: The row of the log that says so.
        given: Of that, what whoever resumed the run has set.
        keys: The numbers of the keys that a branch has of its own.
        rows: The values of these as they are stored: key, operation, text.
        branches: The branches that have begun in the step, by number.
        templates: Which branch of its node each of these is now; ``None`` if that was removed.
        spent: Of the run itself, what it has spent.
        steps: How many steps of the run are committed.
        read_at: When it was read; deadlines are held against this one time.
        vertices: The flows around the node that comes next, and the node.
        own: What a branch has of its own.
        pending: What ``prep`` had changed, if that is on record.
    """

    line: int = 0
    count: int = 0
    began: tuple[str, ...] = ()
    names: tuple[str, ...] | None = ()
    action: str = DEFAULT_ACTION
    taken: Sequence[TakenEdge] = ()
    row: int = 0
    results: Mapping[int, Any] = field(default_factory=dict)
    items: Mapping[int, Begun] = field(default_factory=dict)
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
        """Whether something of the step is on record."""
        return bool(
            self.prepared or self.results or self.items or self.asked or self.calls or self.branches
        )

    def lines(self) -> Iterator[Unfinished]:
        """This line and, in their order, those of its branches, and of the branches in these."""
        yield self
        for branch in self.branches.values():
            yield from branch.lines()

    def questions(self) -> list[Asked]:
        """Every question that the line waits for, those of its branches included."""
        return [one for line in self.lines() for one in line.asked.values()]

    def without_inputs(self) -> Unfinished:
        """The same without what ``prep`` gave, so that it runs again, where nothing was asked.

        What was asked stays as it was asked, and so does what was given to whoever asked it.
        """
        branches = {number: one.without_inputs() for number, one in self.branches.items()}
        if self.asked:
            return replace(self, branches=branches)
        return replace(self, branches=branches, prepared=(), changes=self.given)


NOTHING = Unfinished()
"""That of a line that begins."""
