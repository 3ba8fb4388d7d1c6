"""The documented import path of nodes."""

from pocoflow.nodes.base import Node, NodeLike
from pocoflow.nodes.node_kinds import AskNode, AsyncNode, BatchNode

__all__ = ["AskNode", "AsyncNode", "BatchNode", "Node", "NodeLike"]
