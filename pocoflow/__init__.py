"""Typed LLM workflows: small steps over a shared store, proved before they run and durable after.

Wire nodes (prep | exec | post) into a graph, run it over a :class:`Store`, and store every run in
one SQLite file.
"""

import importlib
import typing

from pocoflow._version import __version__
from pocoflow.errors import PocoflowError, Retry, RunCancelled, RunPaused
from pocoflow.flow import Flow
from pocoflow.node import AskNode, AsyncNode, BatchNode, Node
from pocoflow.nodes.context import RunContext, context
from pocoflow.nodes.edges import END
from pocoflow.nodes.question import Question
from pocoflow.nodes.resources import resource
from pocoflow.store import Store
from pocoflow.store.fields import fields, key

if typing.TYPE_CHECKING:
    from pocoflow import db as db, runner as runner
    from pocoflow.db import WorkflowDB
    from pocoflow.nodes.parallel import FanOut, Parallel
    from pocoflow.nodes.subflow import Subflow, bind
    from pocoflow.runner import RunHandle

# isort: split
# Last, as importing the module pocoflow.node makes it an attribute of this package.
from pocoflow.nodes.decorator import node

__all__ = [
    "END",
    "AskNode",
    "AsyncNode",
    "BatchNode",
    "FanOut",
    "Flow",
    "Node",
    "Parallel",
    "PocoflowError",
    "Question",
    "Retry",
    "RunCancelled",
    "RunContext",
    "RunHandle",
    "RunPaused",
    "Store",
    "Subflow",
    "WorkflowDB",
    "__version__",
    "bind",
    "context",
    "fields",
    "key",
    "node",
    "resource",
]


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})


if not typing.TYPE_CHECKING:  # else a type checker accepts any name of the package
    # The database, the engine and what not every flow needs are imported on first use.
    _LATER = {
        "FanOut": "nodes.parallel",
        "Parallel": "nodes.parallel",
        "RunHandle": "runner",
        "Subflow": "nodes.subflow",
        "WorkflowDB": "db",
        "bind": "nodes.subflow",
    }

    def __getattr__(name):
        if name in ("db", "runner"):
            return importlib.import_module(f"pocoflow.{name}")
        if name in _LATER:
            return getattr(importlib.import_module(f"pocoflow.{_LATER[name]}"), name)
        ours = importlib.import_module("pocoflow.nodes.porting").CLASSES_OF_POCKETFLOW.get(name)
        if ours is not None:  # the message of an AttributeError would be lost in an import
            message = f"{name} is PocketFlow's: here it is {ours}"
            raise ImportError(message, name=__name__, path=__file__)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
