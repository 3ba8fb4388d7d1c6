"""What the phases of a node return, as far as annotations tell: they vouch for classes."""

from __future__ import annotations

from collections.abc import Iterable

from pocoflow.nodes.annotations import read_hints, type_arguments
from pocoflow.nodes.base import AnyNode, Node
from pocoflow.nodes.function import FunctionNode


def prep_types(node: AnyNode) -> list[object]:
    """What ``prep`` gives and ``exec`` makes a question of, as far as annotations tell."""
    if isinstance(node, FunctionNode):
        return [hint for name, hint in node.signature.hints.items() if name != "return"]
    return _returned(node, ("prep", "exec"), 0)


def exec_types(node: AnyNode) -> list[object]:
    """What ``exec`` returns, as far as annotations tell."""
    if isinstance(node, FunctionNode):
        read = node.signature
        return [*(hint for name, hint in read.hints.items() if name == "return"), read.choice]
    return _returned(node, ("exec", "exec_async"), 1)


def _returned(node: AnyNode, phases: Iterable[str], argument: int) -> list[object]:
    """What phases of a class return, and a type argument of the node."""
    kind: type = type(node)
    found = [
        read_hints(getattr(kind, name)).get("return") for name in phases if hasattr(kind, name)
    ]
    found.append(type_arguments(kind, Node)[argument])
    return [hint for hint in found if hint is not None]
