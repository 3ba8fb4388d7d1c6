"""What the definition of a node says of it: its actions, what is its own, and where it stands."""

from __future__ import annotations

import inspect
from functools import lru_cache
from types import CodeType, NoneType
from typing import Any

from pocoflow.nodes.annotations import actions_of, is_variable, plain, read_hints, type_arguments
from pocoflow.nodes.base import AnyNode, Composite, Node
from pocoflow.nodes.edges import DEFAULT_ACTION
from pocoflow.nodes.function import FunctionNode
from pocoflow.nodes.node_kinds import AskNode, AsyncNode, BatchNode
from pocoflow.nodes.parallel import Spread
from pocoflow.nodes.signature import definition_place
from pocoflow.values.callables import names_in


def declared_actions(node: AnyNode) -> tuple[str, ...] | None:
    """The actions that a node can return; ``None`` if its definition does not tell.

    A function node tells by its return annotation; a class by the annotation of ``post`` or by its
    ``Node[..., ..., Literal[...]]``, and by not overriding ``post`` at all.
    """
    if isinstance(node, (FunctionNode, Spread)):
        return node.actions
    kind: type = type(node)
    return None if _is_patched(node) else _class_actions(kind)[0]


def promised_actions(node: AnyNode) -> tuple[str, ...] | None:
    """The actions that a class names as a ``Literal`` or a ``StrEnum``, and must keep to.

    ``None`` if it names none, and for a function node, which looks at its actions itself.
    """
    if isinstance(node, (FunctionNode, Spread)) or _is_patched(node):
        return None
    kind: type = type(node)
    actions, is_named = _class_actions(kind)
    return actions if is_named else None


def names_actions(kind: Any) -> bool:
    """Whether a class names its actions in ``Node[..., ..., Literal[...]]``."""
    hint = type_arguments(kind, Node)[2]
    try:
        return plain(hint) not in (None, NoneType) and bool(actions_of(hint))
    except TypeError:
        return False  # a variable, or str: any action


def has_own_post(kind: Any) -> bool:
    """Whether a class overrides ``post``; else it returns the default action, whatever it says."""
    return kind.post not in (Node.post, AskNode.post, BatchNode.post)


def overrides(kind: type, phase: str) -> bool:
    """Whether a class has a phase that is none of the library's."""
    known = (vars(base).get(phase) for base in (Node, AsyncNode, BatchNode))
    return getattr(kind, phase, None) not in (None, *known)


def makes_calls(code: CodeType) -> bool:
    """Whether code makes journaled calls, by the names in it."""
    names = names_in(code)
    return "context" in names and not names.isdisjoint({"call", "calling"})


def _is_patched(node: AnyNode) -> bool:
    """Whether ``post`` was set on the node itself, so that its class does not tell."""
    return "post" in getattr(node, "__dict__", {})


@lru_cache(maxsize=1024)
def _class_actions(kind: Any) -> tuple[tuple[str, ...] | None, bool]:
    """The actions of a class, and whether it names them."""
    if not has_own_post(kind):
        return (DEFAULT_ACTION,), False
    for hint in (read_hints(kind.post).get("return"), type_arguments(kind, Node)[2]):
        if hint is None or is_variable(hint):
            continue
        try:
            found = actions_of(hint)
        except TypeError:
            continue  # str, for one: any action
        if found is not None:
            return found, bool(found) and plain(hint) not in (None, NoneType)
    return None, False


def place_of(node: AnyNode) -> tuple[str, int] | None:
    """File and line of the definition of a node's class or function; ``None`` if it has no source.

    For a flow, and what has branches, where it was made. A class is looked for in its source, which
    takes a moment.
    """
    if isinstance(node, Composite):
        return node.made_at
    if isinstance(node, FunctionNode):
        return definition_place(node.signature.function)
    kind: type = type(node)
    return class_place(kind)


@lru_cache(maxsize=1024)
def class_place(kind: Any) -> tuple[str, int] | None:
    """File and line of the definition of a class; ``None`` if its source is not at hand."""
    try:
        file = inspect.getsourcefile(kind)
        _, line = inspect.findsource(kind)
    except (OSError, TypeError):
        return None
    return None if file is None else (file, line + 1)
