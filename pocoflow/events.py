"""The documented import path of the events of a run."""

from pocoflow.graph.event_types import (
    Emitted,
    EmittedVoid,
    Event,
    FlowCancelled,
    FlowEnded,
    FlowFailed,
    FlowPaused,
    FlowStarted,
    Followed,
    ItemEnded,
    NodeAsked,
    NodeEnded,
    NodeFailed,
    NodeRetried,
    NodeStarted,
)

__all__ = [
    "Emitted",
    "EmittedVoid",
    "Event",
    "FlowCancelled",
    "FlowEnded",
    "FlowFailed",
    "FlowPaused",
    "FlowStarted",
    "Followed",
    "ItemEnded",
    "NodeAsked",
    "NodeEnded",
    "NodeFailed",
    "NodeRetried",
    "NodeStarted",
]
