"""References, by which another process finds a node."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple, TypeAlias

from pocoflow import values as codec
from pocoflow.errors import DefinitionError, ExecutorError, NotStorableError
from pocoflow.graph.graph import Graph
from pocoflow.messages import main_name
from pocoflow.nodes.base import AnyNode, Node, NodeLike, made_of
from pocoflow.nodes.importing import importing_alone

_MAIN = "__main__"

State: TypeAlias = Mapping[str, object]
"""A node's own attributes."""

Kind: TypeAlias = Literal["node", "flow", "class", "variable"]


class Reference(NamedTuple):
    """Where another process finds a node.

    Attributes:
        kind: ``"node"``: it is an attribute of a module. ``"flow"``: it is in a flow that is one.
            ``"class"``: it is created from a class, and its own attributes travel along.
            ``"variable"``: it is not a node but a context variable.
        module: The name by which the module is imported.
        name: The qualified name of the attribute.
        is_main: Whether the module is the program that was started.
        path: In a flow, the name of the node, after those of the flows and branches around it.
        number: In a flow, the number among the nodes with these names, as branches may share them.
    """

    kind: Kind
    module: str
    name: str
    is_main: bool = False
    path: tuple[str, ...] = ()
    number: int = 0

    @property
    def text(self) -> str:
        """The reference for people."""
        return ", ".join((f"{self.module}:{self.name}", *self.path))

    def find(self, state: State) -> AnyNode:
        """The node, in this process.

        Args:
            state: Its own attributes, if it is created from a class.

        Raises:
            ExecutorError: Its module cannot be imported here, or does not have it.
        """
        module, value = self.attribute()
        if self.kind == "class" and isinstance(value, type) and issubclass(value, Node):
            created: AnyNode = value.__new__(value)
            vars(created).update(state)
            return created
        if self.kind == "flow" and isinstance(value, NodeLike) and value.is_flow:
            value = next(
                (node for path, n, node in _within(value) if (path, n) == (self.path, self.number)),
                None,
            )
        if not isinstance(value, Node) or value.is_flow:
            raise ExecutorError(
                f"a worker has no node {self.text} (its {self.module} is "
                f"{getattr(module, '__file__', None)}): does it have the same code?"
            )
        return value

    def attribute(self) -> tuple[ModuleType, object]:
        """The module in this process, and its attribute of that name; ``None`` if it has none.

        Raises:
            ExecutorError: It cannot be imported here.
        """
        module = self._import()
        return module, _attribute(module, self.name)

    def _import(self) -> ModuleType:
        main = sys.modules.get(_MAIN)
        if self.is_main and main is not None and main_name() == self.module:
            return main
        known = sys.modules.get(self.module)
        if known is not None and not _is_being_imported(known):
            return known
        try:
            with importing_alone(self.module):
                return importlib.import_module(self.module)
        except Exception as exc:
            raise ExecutorError(
                f"a worker cannot import {self.module}, the module of a node: "
                f"{type(exc).__name__}: {exc}; install it there, or put its folder on the "
                "PYTHONPATH of the worker"
            ) from exc


def _unsent(state: State) -> str:
    """Which attribute of a node cannot be sent; empty if all can."""
    for name, value in state.items():
        try:
            codec.dumps(value)
        except NotStorableError as exc:
            return f", whose attribute {name!r} cannot be sent: {exc}"
    return ""


def refer(node: AnyNode, files: Iterable[str]) -> Reference | str:
    """The reference of a node, or why there is none.

    Args:
        node: The node.
        files: Further files of modules in which it may be found, such as that of its flow.
    """
    definition = made_of(node)
    home = sys.modules.get(definition.__module__)
    attribute = _attribute(home, definition.__qualname__)
    what = f"{definition.__qualname__} of module {definition.__module__}"
    if attribute is node:
        return _named("node", home, definition.__qualname__)
    if attribute is type(node):
        problem = _unsent(state_of(node))
        if not problem:
            return _named("class", home, definition.__qualname__)
        what += problem
    wanted = set(files)
    others = [it for it in [*sys.modules.values()] if getattr(it, "__file__", None) in wanted]
    modules = dict.fromkeys(module for module in (home, *others) if module is not None)
    named = [(module, *pair) for module in modules for pair in [*vars(module).items()]]
    for module, name, value in named:
        if value is node:
            return _named("node", module, name)
    for module, name, value in named:
        if isinstance(value, NodeLike) and value.is_flow:
            for path, number, inner in _within(value):
                if inner is node:
                    return _named("flow", module, name, path=path, number=number)
    return (
        f"it is {what}, and neither it nor a flow that has it is an attribute of a module, so that "
        "no other process finds it"
    )


def refer_to_variable(variable: ContextVar[Any]) -> Reference | str:
    """The reference of a context variable, or why there is none."""
    for module in [*sys.modules.values()]:
        for name, value in [*getattr(module, "__dict__", {}).items()]:
            if value is variable:
                return _named("variable", module, name)
    return "it is no attribute of a module, so that no other process finds it"


def _named(kind: Kind, module: ModuleType | None, name: str, **inside: Any) -> Reference | str:
    assert module is not None  # it has the name
    home = module.__name__
    if home not in (_MAIN, "__mp_main__"):
        return Reference(kind, home, name, **inside)
    main, file = main_name(), getattr(module, "__file__", None)
    try:
        spec = find_spec(main) if file is not None else None
    except (ImportError, ValueError):
        spec = None
    if file is None or spec is None or not _is_at(file, spec.origin):
        what = "has no file" if file is None else f"({file}) is not found as module {main!r}"
        return f"its module is __main__, which {what}, so that no other process can import it"
    return Reference(kind, main, name, is_main=True, **inside)


def _is_at(file: str, origin: str | None) -> bool:
    """Whether the origin of a module, which may be ``built-in``, is a file."""
    try:
        return origin is not None and Path(origin).samefile(file)
    except OSError:  # not a file, or inside an archive
        return origin == file


_OWN = {
    *("_name", "_edges", "_replaced", "_in_graph"),
    *("made_at", "built", "is_part", "has_hooks", "executor", "retry_on"),
}


def state_of(node: AnyNode) -> State:
    """A node's own attributes, except for those of the graph."""
    attributes = getattr(node, "__dict__", {})
    return {name: value for name, value in attributes.items() if name not in _OWN}


def _within(flow: Any) -> Iterator[tuple[tuple[str, ...], int, AnyNode]]:
    """The nodes of a flow, each with its names and its number among the nodes of these names."""
    try:
        graph: Graph = flow.graph
    except DefinitionError:
        return  # an unrelated flow that is invalid
    counts: dict[tuple[str, ...], int] = {}
    for path, level in graph.levels():
        for vertex in level.nodes.values():
            names = (*path, vertex.name)
            number = counts.get(names, 0)
            counts[names] = number + 1
            yield names, number, vertex.node


def _is_being_imported(module: ModuleType) -> bool:
    """Whether another thread is importing it."""
    return bool(getattr(getattr(module, "__spec__", None), "_initializing", False))


def _attribute(module: ModuleType | None, name: str) -> object:
    """The attribute of a module by qualified name, without running code; ``None`` if missing."""
    value: object = module
    for part in name.split("."):
        value = getattr(value, "__dict__", {}).get(part)
        if value is None:
            return None
    return value
