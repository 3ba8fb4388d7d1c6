"""The phases of a synchronous node off the event loop: sequentially, in one thread."""

from __future__ import annotations

from types import CoroutineType

from pocoflow.engine.effects import Effects, Visit
from pocoflow.engine.line import Line
from pocoflow.engine.outcomes import Raised, close_unwanted, tried
from pocoflow.graph.graph import Vertex
from pocoflow.nodes.question import Question


class ThreadPhases:
    """The phases of a synchronous node, called sequentially in one thread off the event loop.

    They may be abandoned while ``exec`` is running, and then nothing follows it.

    Attributes:
        prepared: What ``prep`` returned.
        outcome: The outcome of ``exec``; empty if it was not called.
        action: What ``post`` returned, likewise.
    """

    def __init__(self, run: Line, vertex: Vertex) -> None:
        self._node, self._store, self._context = vertex.node, run.store, run.context
        journals = run.ledger.keeps and vertex.has_exec and vertex.node.journal
        self._stays = journals or vertex.is_answered
        self._may_follow = [True]
        self._is_left = False
        self.prepared: object = None
        self.outcome: list[object] = []
        self.action: list[object] = []

    def __call__(self) -> None:
        """Call the phases that can be called here: none that follows an await, answer or commit."""
        try:
            self._call()
        finally:
            if self._is_left:
                self.leave()

    def leave(self) -> None:
        """Discard the outcomes, including one that arrives at this moment."""
        self._is_left = True
        for outcome in (self.prepared, *self.outcome, *self.action):
            close_unwanted(outcome)

    def _call(self) -> None:
        node, context = self._node, self._context
        self.prepared = node.prep(self._store)
        if self.prepared.__class__ is CoroutineType:
            return
        context.phase = "exec"
        if not self._may_follow or context.cancellation.requested:
            return
        outcome = tried(node.exec, self.prepared)
        if outcome.__class__ in _STOPS_AFTER or self._stays:
            self.outcome.append(outcome)
        elif self.claim():
            self.outcome.append(outcome)
            context.phase = "post"
            self.action.append(node.post(self._store, self.prepared, outcome))

    def claim(self) -> bool:
        """Decide whether ``post`` follows ``exec``; the first caller decides."""
        try:
            return self._may_follow.pop()
        except IndexError:
            return False

    def give_up(self) -> bool:
        """Let nothing follow; returns whether only ``exec`` is running, which can be abandoned."""
        return self.claim() and self._context.phase == "exec"


_STOPS_AFTER = (CoroutineType, Question, Raised)


def phases_in_thread(run: Line, vertex: Vertex) -> Effects[ThreadPhases]:
    """The phases of a synchronous node, called sequentially off the event loop."""
    phases = ThreadPhases(run, vertex)
    try:
        yield Visit(phases, phases.give_up)
        if not phases.outcome:
            run.context.check_cancelled()
    except BaseException:
        phases.leave()
        raise
    return phases
