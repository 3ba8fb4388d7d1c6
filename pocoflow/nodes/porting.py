"""Hints for programs written for PocketFlow: how they are written here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from pocoflow.errors import DefinitionError
from pocoflow.nodes.phase_checks import is_used, own_bases

RENAMED = {"max_retry": "max_retries", "retries": "max_retries", "wait": "retry_delay"}
"""The names of settings elsewhere, and here."""


class NotHereError(DefinitionError, AttributeError):
    """An attribute of PocketFlow's nodes was read, which ours do not have."""


class Elsewhere:
    """Stands for an attribute of PocketFlow's nodes, and raises an error that explains it.

    A descriptor, since a class with a ``__getattr__`` is slower in every attribute. It has no
    ``__set__``, so that an attribute of a subclass or of a node overrides it, and so does one of a
    later base.
    """

    def __init__(self, advice: str) -> None:
        self._advice = advice

    def __set_name__(self, owner: type, name: str) -> None:
        self._owner, self._name = owner, name

    def __get__(self, node: Any, kind: type) -> Any:
        bases = kind.__mro__
        if any(self._name in vars(base) for base in bases[bases.index(self._owner) + 1 :]):
            parent = super(self._owner, kind if node is None else node)
            return getattr(parent, self._name)
        owner = kind.__name__ if node is None else node.name
        raise NotHereError(f"{owner}.{self._name} is PocketFlow's: {self._advice}")


def _refuse_arrow(node: Any, target: object) -> NoReturn:
    raise TypeError(
        f"{node.name} >> ... is PocketFlow's way to wire: here it is "
        f"{node.name}.then('default', target)"
    )


def _refuse_minus(node: Any, action: object) -> NoReturn:
    raise TypeError(
        f"{node.name} - {action!r} >> ... is PocketFlow's way to wire: here it is "
        f"{node.name}.then({action!r}, target)"
    )


_THEN, _VALUES = "edges are written node.then('default', target)", "put the values into the store"

OF_POCKETFLOW: Mapping[str, object] = {
    "__rshift__": _refuse_arrow,
    "__sub__": _refuse_minus,
    "next": Elsewhere(_THEN),
    "add_successor": Elsewhere(_THEN),
    "successors": Elsewhere("the edges of a node are in node.edges"),
    "params": Elsewhere(f"{_VALUES}, or give them to __init__"),
    "set_params": Elsewhere(f"{_VALUES}, or give them to __init__"),
    "run": Elsewhere("a node runs in a flow, Flow(start=node).run(store)"),
    "run_async": Elsewhere("a node runs in a flow, await Flow(start=node).run_async(store)"),
    "cur_retry": Elsewhere("pocoflow.context().attempt counts the attempts, from 1"),
    "start_node": Elsewhere("the first node of a flow is flow.graph.start.node"),
}
"""PocketFlow's attributes, for the class of nodes: each explains how it is written here."""

_FAN_OUT = "FanOut(flow, each=..., as_=...), a node that runs a flow for each item"

CLASSES_OF_POCKETFLOW = {
    "BaseNode": "Node",
    "AsyncFlow": "Flow, which has run_async",
    "AsyncBatchNode": "BatchNode, whose exec may be async def",
    "AsyncParallelBatchNode": "BatchNode, whose exec may be async def, with concurrency = 10",
    **dict.fromkeys(("BatchFlow", "AsyncBatchFlow", "AsyncParallelBatchFlow"), _FAN_OUT),
}
"""The replacements of classes that only PocketFlow has, by their names."""

_WRAP = "what wraps each visit of a node is a middleware, flow.use(visit=...)"

NEVER_CALLED = {
    "_run": _WRAP,
    "_run_async": _WRAP,
    "_exec": "what wraps each attempt of exec is a middleware, flow.use(attempt=...)",
    "_exec_async": "what wraps each attempt of exec is a middleware, flow.use(attempt=...)",
    "_orch": _WRAP,
    "_orch_async": _WRAP,
    "next_node": "post returns the action, and edges say where it leads, node.then(action, target)",
    "get_next_node": "post returns the action, and edges say where it leads",
    "_next_node": "post returns the action, and edges say where it leads",
    "_successors": "edges are written node.then(action, target), and read as node.edges",
}
"""Methods that PocketFlow, or an earlier version, would call, and what to write instead."""

_READ = frozenset({"edges", "replaced", "is_batch"})
"""Attributes that the library reads of nodes and flows, and that users must not define."""


def refuse_dead(kind: type) -> None:
    """Refuse a class that overrides what an earlier version, or PocketFlow, would have called.

    A method that another method of the class uses is the class's own, and accepted. Also refused is
    what hides an attribute that the library reads.

    Raises:
        DefinitionError: Names it, and how it is written here.
    """
    bases = own_bases(kind)
    if kind not in bases:
        return
    for name in (*sorted(_READ), "name"):
        first = next((base for base in kind.__mro__ if name in vars(base)), None)
        if first in bases and (name in _READ or _is_method(vars(first)[name])):
            raise DefinitionError(
                f"{first.__qualname__}.{name} hides what a run reads there: give it another name"
            )
    mixins = [base for base in bases if not hasattr(base, "is_flow")]  # not checked by themselves
    for base in (kind, *mixins):
        for name in NEVER_CALLED.keys() & vars(base).keys():
            is_value = not (callable(vars(base)[name]) or hasattr(vars(base)[name], "__get__"))
            if is_value or is_used(name, bases):
                continue
            raise DefinitionError(
                f"{base.__qualname__}.{name} is never called: {NEVER_CALLED[name]}"
            )


def _is_method(value: object) -> bool:
    return callable(value) or isinstance(value, classmethod)
