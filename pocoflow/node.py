"""The documented import path of nodes and what they are made of."""

from pocoflow.nodes.base import Node, NodeLike, check_target, note_part
from pocoflow.nodes.node_kinds import AskNode, AsyncNode, BatchNode

__all__ = [
    "AskNode",
    "AsyncNode",
    "BatchNode",
    "Node",
    "NodeLike",
    "check_target",
    "note_part",
]
