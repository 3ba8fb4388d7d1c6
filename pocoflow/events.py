"""The documented import path of the events of a run."""

from pocoflow.engine.event_types import (
    Emitted,
    Event,
    FlowCancelled,
    FlowEnded,
    FlowFailed,
    FlowPaused,
    FlowStarted,
    ItemEnded,
    NodeAsked,
    NodeEnded,
    NodeFailed,
    NodeRetried,
    NodeStarted,
)

__all__ = [
    "Emitted",
    "Event",
    "FlowCancelled",
    "FlowEnded",
    "FlowFailed",
    "FlowPaused",
    "FlowStarted",
    "ItemEnded",
    "NodeAsked",
    "NodeEnded",
    "NodeFailed",
    "NodeRetried",
    "NodeStarted",
]
