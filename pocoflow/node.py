"""The documented import path of nodes and what they are made of."""

from pocoflow.nodes.base import (
    AskNode,
    AsyncNode,
    BatchNode,
    Node,
    NodeLike,
    check_target,
    note_part,
)

__all__ = [
    "AskNode",
    "AsyncNode",
    "BatchNode",
    "Node",
    "NodeLike",
    "check_target",
    "note_part",
]
