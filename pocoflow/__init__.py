"""Typed LLM workflows: small steps over a shared store, proved before they run and durable after.

Wire nodes (prep | exec | post) into a graph, run it over a :class:`Store`, and keep every run in
one SQLite file.
"""

from pocoflow._version import __version__
from pocoflow.context import RunContext, context
from pocoflow.db import WorkflowDB
from pocoflow.errors import PocoflowError, RunCancelled
from pocoflow.flow import Flow
from pocoflow.node import AsyncNode, Node
from pocoflow.runner import RunHandle
from pocoflow.store import Store

__all__ = [
    "AsyncNode",
    "Flow",
    "Node",
    "PocoflowError",
    "RunCancelled",
    "RunContext",
    "RunHandle",
    "Store",
    "WorkflowDB",
    "__version__",
    "context",
]
