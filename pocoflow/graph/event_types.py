"""What happens in a run, as immutable facts.

One frozen dataclass per kind of event. The engine builds an event only if its kind has listeners,
and notifies them after the commit that made it true. ``kind`` is the name that the database
(``pf_events.event``), the log and ``Flow.on`` use for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias, get_args

from pocoflow.nodes.context import Phase
from pocoflow.nodes.question import Question


@dataclass(frozen=True, slots=True)
class FlowStarted:
    """A run started, or was resumed."""

    kind: ClassVar[Literal["flow_start"]] = "flow_start"
    run_id: str
    flow_name: str
    step: int


@dataclass(frozen=True, slots=True)
class NodeEvent:
    """The fields of every event of a step: the run, the node's name, and the step's number.

    The names of the flows and branches around the node are its ``path``.
    """

    run_id: str
    node: str
    step: int


@dataclass(frozen=True, slots=True)
class NodeStarted(NodeEvent):
    """A step began: ``prep`` of the node comes next."""

    kind: ClassVar[Literal["node_start"]] = "node_start"
    path: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NodeRetried(NodeEvent):
    """An attempt of ``exec`` failed and is retried after ``delay`` seconds.

    ``delay`` is ``None`` where it is not recorded: in the events of a followed run.
    """

    kind: ClassVar[Literal["node_retry"]] = "node_retry"
    attempt: int
    delay: float | None
    error: Exception
    path: tuple[str, ...] = ()
    item: int | None = None


@dataclass(frozen=True, slots=True)
class ItemEnded(NodeEvent):
    """An item of a batch has its result (or, where the node collects, its exception)."""

    kind: ClassVar[Literal["item_end"]] = "item_end"
    item: int
    attempts: int
    path: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Emitted(NodeEvent):
    """A node has shown progress: the value that it passed to ``context().emit(value)``."""

    kind: ClassVar[Literal["emit"]] = "emit"
    value: object
    item: int | None = None
    path: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EmittedVoid:
    """What an attempt has emitted is void: it was abandoned, and another one follows.

    ``numbers`` are those of the events; only in a followed run, as they are not known elsewhere.
    """

    kind: ClassVar[Literal["emit_void"]] = "emit_void"
    run_id: str
    numbers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class NodeAsked(NodeEvent):
    """A node has asked a question; the run pauses once there is nothing else to do.

    ``number`` is the question's, as in the database.
    """

    kind: ClassVar[Literal["node_ask"]] = "node_ask"
    number: int
    question: Question[object]
    item: int | None = None
    path: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NodeEnded(NodeEvent):
    """A step finished: its writes are in the store and, with a database, committed.

    ``elapsed`` is the time of the three phases with all attempts and delays, in seconds.
    """

    kind: ClassVar[Literal["node_end"]] = "node_end"
    action: str
    elapsed: float
    attempts: int
    path: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NodeFailed(NodeEvent):
    """A step failed, after all attempts, in ``phase``: ``prep``, ``exec``, ``post`` or ``commit``.

    ``commit`` is the check, after ``post``, of what was changed in place. ``is_caught``: an edge
    catches this error, so that the step is finished and the run has not failed. ``is_told``: the
    failure of a node inside, in a parallel branch, was already reported with it. ``phase`` is
    ``None`` where it is not recorded: in the events of a followed run.
    """

    kind: ClassVar[Literal["node_error"]] = "node_error"
    phase: Phase | None
    attempts: int
    elapsed: float
    error: BaseException
    path: tuple[str, ...] = ()
    is_caught: bool = False
    is_told: bool = False


@dataclass(frozen=True, slots=True)
class FlowStopped:
    """The fields of every event by which a run ends or pauses, after ``steps`` finished steps."""

    run_id: str
    flow_name: str
    steps: int


@dataclass(frozen=True, slots=True)
class FlowEnded(FlowStopped):
    """A run completed after ``steps`` steps."""

    kind: ClassVar[Literal["flow_end"]] = "flow_end"


@dataclass(frozen=True, slots=True)
class FlowFailed(FlowStopped):
    """A run ended with an exception after ``steps`` finished steps."""

    kind: ClassVar[Literal["flow_error"]] = "flow_error"
    error: BaseException


@dataclass(frozen=True, slots=True)
class FlowCancelled(FlowStopped):
    """A run was cancelled after ``steps`` finished steps."""

    kind: ClassVar[Literal["flow_cancelled"]] = "flow_cancelled"


@dataclass(frozen=True, slots=True)
class FlowPaused(FlowStopped):
    """A run waits for the answers to its open ``questions``, after ``steps`` finished steps."""

    kind: ClassVar[Literal["flow_pause"]] = "flow_pause"
    questions: tuple[int, ...]


Event: TypeAlias = (
    FlowStarted
    | NodeStarted
    | NodeRetried
    | Emitted
    | EmittedVoid
    | ItemEnded
    | NodeAsked
    | NodeEnded
    | NodeFailed
    | FlowEnded
    | FlowFailed
    | FlowCancelled
    | FlowPaused
)


@dataclass(frozen=True, slots=True)
class Followed:
    """A committed event of a run that is followed.

    Attributes:
        number: Its number in the run, from which following can be continued; it only grows.
        at: When it happened, as ISO-8601 text in UTC.
        event: What happened. An exception in it is a ``RunFailedError`` with what is recorded.
    """

    number: int
    at: str
    event: Event


KINDS: Mapping[str, type[Event]] = {kind.kind: kind for kind in get_args(Event)}
"""The classes by kind."""
