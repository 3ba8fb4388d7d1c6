"""The name under which another process finds a node, and how it finds it there."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, Literal, NamedTuple, TypeAlias

from pocoflow import values as codec
from pocoflow.errors import DefinitionError, ExecutorError, NotStorableError
from pocoflow.graph.graph import Graph
from pocoflow.messages import main_name
from pocoflow.nodes.base import AnyNode, Node, NodeLike, made_of
from pocoflow.nodes.importing import importing_alone

_MAIN = "__main__"

State: TypeAlias = Mapping[str, object]
"""What a node has of its own, by attribute."""

Kind: TypeAlias = Literal["node", "flow", "class", "variable"]


class Reference(NamedTuple):
    """Where another process finds a node.

    Attributes:
        kind: ``"node"``: it is an attribute of a module. ``"flow"``: it is in a flow that is one.
            ``"class"``: it is made of a class, and what it has of its own travels along. It may
            also be a context variable.
        module: The name by which the module is imported.
        name: The name of the attribute, with those around it.
        is_main: Whether the module is the program that was started.
        path: In a flow, the names of the flows and branches around the node, and its own.
        number: In a flow, which of the nodes that have these names, as branches may.
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
            state: What it has of its own, if it is made of a class.

        Raises:
            ExecutorError: Its module cannot be imported here, or does not have it.
        """
        module, found = self.attribute()
        if self.kind == "class" and isinstance(found, type) and issubclass(found, Node):
            made: AnyNode = found.__new__(found)
            vars(made).update(state)
            return made
        if self.kind == "flow" and isinstance(found, NodeLike) and found.is_flow:
            found = next(
                (one for names, n, one in _within(found) if (names, n) == (self.path, self.number)),
                None,
            )
        if not isinstance(found, Node) or found.is_flow:
            raise ExecutorError(
                f"a worker has no node {self.text} (its {self.module} is "
                f"{getattr(module, '__file__', None)}): does it have the same code?"
            )
        return found

    def attribute(self) -> tuple[ModuleType, object]:
        """The module in this process, and what it has under the name; ``None`` if nothing.

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


def refer(node: AnyNode, files: Iterable[str]) -> tuple[Reference, State] | str:
    """The reference of a node, and what it has of its own; or why there is none.

    Args:
        node: The node.
        files: The files of the modules in which it may be found, beside its own: that of its flow.
    """
    definition = made_of(node)
    home = sys.modules.get(definition.__module__)
    found = _attribute(home, definition.__qualname__)
    said = f"{definition.__qualname__} of module {definition.__module__}"
    if found is node:
        return _named("node", home, definition.__qualname__)
    if found is type(node):
        state = state_of(node)
        problem = _unsent(state)
        if not problem:
            return _named("class", home, definition.__qualname__, state)
        said += problem
    wanted = set(files)
    others = [one for one in [*sys.modules.values()] if getattr(one, "__file__", None) in wanted]
    modules = dict.fromkeys(one for one in (home, *others) if one is not None)
    named = [(one, *pair) for one in modules for pair in [*vars(one).items()]]
    for module, name, value in named:
        if value is node:
            return _named("node", module, name)
    for module, name, value in named:
        if isinstance(value, NodeLike) and value.is_flow:
            for path, number, one in _within(value):
                if one is node:
                    return _named("flow", module, name, path=path, number=number)
    return (
        f"it is {said}, and neither it nor a flow that has it is an attribute of a module, so that "
        "no other process finds it"
    )


def refer_to_variable(variable: ContextVar[Any]) -> Reference | str:
    """The reference of a context variable, or why there is none."""
    for module in [*sys.modules.values()]:
        for name, value in [*getattr(module, "__dict__", {}).items()]:
            if value is variable:
                found = _named("variable", module, name)
                return found if isinstance(found, str) else found[0]
    return "it is no attribute of a module, so that no other process finds it"


def _named(
    kind: Kind,
    module: ModuleType | None,
    name: str,
    state: State = MappingProxyType({}),
    **inside: Any,
) -> tuple[Reference, State] | str:
    assert module is not None  # it has the name
    home = module.__name__
    if home not in (_MAIN, "__mp_main__"):
        return Reference(kind, home, name, **inside), state
    main, file = main_name(), getattr(module, "__file__", None)
    try:
        spec = find_spec(main) if file is not None else None
    except (ImportError, ValueError):
        spec = None
    if file is None or spec is None or not _is_at(file, spec.origin):
        what = "has no file" if file is None else f"({file}) is not found as module {main!r}"
        return f"its module is __main__, which {what}, so that no other process can import it"
    return Reference(kind, main, name, is_main=True, **inside), state


def _is_at(file: str, origin: str | None) -> bool:
    """Whether the origin of a module, which may be ``built-in``, is a file."""
    try:
        return origin is not None and Path(origin).samefile(file)
    except OSError:  # it is none, or in an archive
        return origin == file


_OWN = {
    *("_name", "_edges", "_replaced", "_is_drawn"),
    *("made_at", "drawn", "is_part", "has_hooks", "executor", "retry_on"),
}


def state_of(node: AnyNode) -> State:
    """What a node has of its own, and is not for the graph."""
    own = getattr(node, "__dict__", {})
    return {name: one for name, one in own.items() if name not in _OWN}


def _within(flow: Any) -> Iterator[tuple[tuple[str, ...], int, AnyNode]]:
    """The nodes of a flow, each with its names and its number among those that have them."""
    try:
        graph: Graph = flow.graph
    except DefinitionError:
        return  # it is another flow, and has mistakes
    counts: dict[tuple[str, ...], int] = {}
    for path, level in graph.levels():
        for vertex in level.nodes.values():
            names = (*path, vertex.name)
            number = counts.get(names, 0)
            counts[names] = number + 1
            yield names, number, vertex.node


def _is_being_imported(module: ModuleType) -> bool:
    """Whether another thread imports it at the moment."""
    return bool(getattr(getattr(module, "__spec__", None), "_initializing", False))


def _attribute(module: ModuleType | None, name: str) -> object:
    """What a module has under a name; ``None`` if nothing. Nothing is run to find out."""
    found: object = module
    for part in name.split("."):
        found = getattr(found, "__dict__", {}).get(part)
        if found is None:
            return None
    return found
