"""The phases of a synchronous node beside an event loop: one after the other, in one thread."""

from __future__ import annotations

from types import CoroutineType

from pocoflow.engine.effects import Effects, Visit
from pocoflow.engine.line import Line
from pocoflow.engine.outcomes import Raised, close_unwanted, tried
from pocoflow.graph.graph import Vertex
from pocoflow.nodes.question import Question


class ThreadPhases:
    """The phases of a synchronous node, one after the other in one thread off the event loop.

    Whoever waits for them may give them up while ``exec`` is at work, and then nothing follows it.

    Attributes:
        prepared: What ``prep`` gave.
        outcome: What came of ``exec``; nothing if it has not been called.
        action: What ``post`` returned, likewise.
    """

    __slots__ = (
        "_context",
        "_is_left",
        "_may_follow",
        "_node",
        "_stays",
        "_store",
        "action",
        "outcome",
        "prepared",
    )

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
        """Call what can be called here: not what follows an await, an answer or a commit."""
        try:
            self._call()
        finally:
            if self._is_left:
                self.leave()

    def leave(self) -> None:
        """Want nothing any more of what comes of them, or has come in this instant."""
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
        if outcome.__class__ in _NOT_GONE_ON_WITH or self._stays:
            self.outcome.append(outcome)
        elif self.claim():
            self.outcome.append(outcome)
            context.phase = "post"
            self.action.append(node.post(self._store, self.prepared, outcome))

    def claim(self) -> bool:
        """Decide what comes after ``exec``: nothing, or ``post``. Whoever is first decides."""
        try:
            return self._may_follow.pop()
        except IndexError:
            return False

    def give_up(self) -> bool:
        """Let nothing follow; whether ``exec`` alone is at work, for which nobody has to wait."""
        return self.claim() and self._context.phase == "exec"


_NOT_GONE_ON_WITH = (CoroutineType, Question, Raised)


def phases_in_thread(run: Line, vertex: Vertex) -> Effects[ThreadPhases]:
    """The phases of a synchronous node, called one after the other off the event loop."""
    phases = ThreadPhases(run, vertex)
    try:
        yield Visit(phases, phases.give_up)
        if not phases.outcome:
            run.context.check_cancelled()
    except BaseException:
        phases.leave()
        raise
    return phases
