"""What the definition of a node tells: its actions, what it overrides, and its location."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from inspect import iscoroutinefunction, unwrap
from types import CodeType, FunctionType, NoneType
from typing import Any, TypeAlias

from pocoflow.nodes.annotations import actions_of, is_variable, plain, read_hints, type_arguments
from pocoflow.nodes.base import AnyNode, Composite, Node
from pocoflow.nodes.edges import DEFAULT_ACTION
from pocoflow.nodes.function import FunctionNode
from pocoflow.nodes.node_kinds import AskNode, AsyncNode, BatchNode
from pocoflow.nodes.parallel import SplitNode
from pocoflow.nodes.phase_checks import check_class, check_phases, class_phases
from pocoflow.nodes.signature import definition_location
from pocoflow.values.callables import names_in, python_code
from pocoflow.values.remembering import remembered

_NO_FALLBACK = (Node.exec_fallback, BatchNode.exec_fallback)

_QUICK = ("pocoflow.nodes.base", "pocoflow.nodes.node_kinds", "pocoflow.nodes.function")


@dataclass(frozen=True, slots=True, eq=False)
class Phases:
    """What is known of the phases of a node before they are called; often shared by a class.

    Attributes:
        promised: The actions that the class names, of which ``post`` must return one; ``None`` if
            it names none.
        is_batch: Whether ``exec`` is called for each item that ``prep`` returns.
        has_exec: Whether the class overrides ``exec``, so that there is a result to journal.
        is_bare: Whether there is neither a fallback for a failed ``exec`` nor code that makes
            journaled calls, so that the input need not be preserved as ``prep`` returned it.
        prep_on_loop: Whether ``prep`` may be called on an event loop: it is ``async def``, or it is
            not user code; likewise ``post_on_loop``.
        exec_async: Whether ``exec`` is ``async def``.
        is_own: Whether they are the phases of one node, and not of its class.
    """

    promised: tuple[str, ...] | None
    is_batch: bool
    has_exec: bool
    is_bare: bool
    prep_on_loop: bool
    exec_async: bool
    post_on_loop: bool
    is_own: bool


OfFunction: TypeAlias = tuple[Callable[..., object] | None, bool]
"""The function of a function node, and whether it takes the whole store."""


def phases_of(node: AnyNode) -> Phases:
    """What is known of the phases of a node.

    Raises:
        DefinitionError: One of them cannot be called as it is.
    """
    facts: OfFunction = (None, False)
    if isinstance(node, FunctionNode):
        facts = node.signature.function, node.signature.takes_store
    kind: Any = type(node)
    if (functions := class_phases(node)) is not None:
        known = _phases_of_class(kind, facts, *functions)
        if known is not None:
            return known
    check_phases(node)
    methods = (getattr(node, name) for name in ("prep", "exec", "post", "exec_fallback"))
    phases = _read_phases(kind, facts, *(getattr(phase, "__func__", phase) for phase in methods))
    promised = None if _is_patched(node) else phases.promised
    return replace(phases, promised=promised, is_own=True)


def _read_phases(
    kind: Any,
    facts: OfFunction,
    prep: object,
    exec_: object,
    post: object,
    fallback: object,
    *_: object,
) -> Phases:
    function, takes_store = facts
    works: list[Any] = [getattr(kind, name, None) for name in ("exec", "exec_async")]
    works = works if function is None else [function]
    codes = [python_code(unwrap(phase)) for phase in works if phase is not None]
    calls = any(makes_calls(code) for code in codes if code is not None)
    # A synchronous phase must not block an event loop, an asynchronous one is called on it.
    of_exec, of_post = exec_, post
    if function is not None:  # called in one of the two phases
        of_exec, of_post = (exec_, function) if takes_store else (function, post)
    on_loop = [
        iscoroutinefunction(part) or (not takes_store and getattr(part, "__module__", "") in _QUICK)
        for part in (prep, of_post)
    ]
    return Phases(
        _promised(kind),
        kind.is_batch,
        kind.exec is not Node.exec,
        fallback in _NO_FALLBACK and not calls,
        on_loop[0],
        iscoroutinefunction(of_exec),
        on_loop[1],
        is_own=False,
    )


@remembered
def _phases_of_class(kind: Any, facts: OfFunction, *functions: FunctionType) -> Phases | None:
    return _read_phases(kind, facts, *functions) if check_class(kind, *functions) else None


def declared_actions(node: AnyNode) -> tuple[str, ...] | None:
    """The actions that a node can return; ``None`` if its definition leaves them open.

    A function node declares them by its return annotation; a class by the annotation of ``post``,
    by its ``Node[..., ..., Literal[...]]``, or by not overriding ``post`` at all.
    """
    if isinstance(node, (FunctionNode, SplitNode)):
        return node.actions
    kind: type = type(node)
    return None if _is_patched(node) else _class_actions(kind)[0]


def _promised(kind: Any) -> tuple[str, ...] | None:
    """The actions that a class names as a ``Literal`` or a ``StrEnum``, and must not deviate from.

    ``None`` if it names none, and for a function node, which checks its actions itself.
    """
    if issubclass(kind, (FunctionNode, SplitNode)):
        return None
    actions, is_named = _class_actions(kind)
    return actions if is_named else None


def names_actions(kind: type) -> bool:
    """Whether a class names its actions in ``Node[..., ..., Literal[...]]``."""
    hint = type_arguments(kind, Node)[2]
    try:
        return plain(hint) not in (None, NoneType) and bool(actions_of(hint))
    except TypeError:
        return False  # a variable, or str: any action


def has_own_post(kind: Any) -> bool:
    """Whether a class overrides ``post``; otherwise it can only return the default action."""
    return kind.post not in (Node.post, AskNode.post, BatchNode.post)


def overrides(kind: type, phase: str) -> bool:
    """Whether a class has a phase that is not the library's."""
    known = (vars(base).get(phase) for base in (Node, AsyncNode, BatchNode))
    return getattr(kind, phase, None) not in (None, *known)


def makes_calls(code: CodeType) -> bool:
    """Whether code makes journaled calls, by the names in it."""
    names = names_in(code)
    return "context" in names and not names.isdisjoint({"call", "calling"})


def _is_patched(node: AnyNode) -> bool:
    """Whether ``post`` was set on the node itself, so that its class does not matter."""
    return "post" in getattr(node, "__dict__", {})


@remembered
def _class_actions(kind: Any) -> tuple[tuple[str, ...] | None, bool]:
    """The actions of a class, and whether it names them."""
    if not has_own_post(kind):
        return (DEFAULT_ACTION,), False
    for hint in (read_hints(kind.post).get("return"), type_arguments(kind, Node)[2]):
        if hint is None or is_variable(hint):
            continue
        try:
            actions = actions_of(hint)
        except TypeError:
            continue  # str, for one: any action
        if actions is not None:
            return actions, bool(actions) and plain(hint) not in (None, NoneType)
    return None, False


def location_of(node: AnyNode) -> tuple[str, int] | None:
    """File and line of the definition of a node's class or function; ``None`` if it has no source.

    For a flow, and a node with branches, where it was created. Finding a class in its source is
    slow.
    """
    if isinstance(node, Composite):
        return node.made_at
    if isinstance(node, FunctionNode):
        return definition_location(node.signature.function)
    kind: type = type(node)
    return class_location(kind)


@remembered
def class_location(kind: type) -> tuple[str, int] | None:
    """File and line of the definition of a class; ``None`` if its source is not available."""
    try:
        file = inspect.getsourcefile(kind)
        _, line = inspect.findsource(kind)
    except (OSError, TypeError):
        return None
    return None if file is None else (file, line + 1)
