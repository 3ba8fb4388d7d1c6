"""What the phases of a node return, by their annotations, which vouch for classes."""

from __future__ import annotations

from pocoflow.nodes.annotations import read_hints, type_arguments
from pocoflow.nodes.base import AnyNode, Node
from pocoflow.nodes.function import FunctionNode
from pocoflow.values.remembering import remembered


def prep_types(node: AnyNode) -> list[object]:
    """What ``prep`` returns, and ``exec`` may turn into a question, by their annotations."""
    if isinstance(node, FunctionNode):
        return [hint for name, hint in node.signature.hints.items() if name != "return"]
    return _returned(type(node), ("prep", "exec"), 0)


def exec_types(node: AnyNode) -> list[object]:
    """What ``exec`` returns, by its annotations."""
    if isinstance(node, FunctionNode):
        hints, choice = node.signature.hints, node.signature.choice
        return [hints["return"], choice] if "return" in hints else [choice]
    return _returned(type(node), ("exec", "exec_async"), 1)


@remembered
def _returned(kind: type, phases: tuple[str, ...], argument: int) -> list[object]:
    """What phases of a class return, and a type argument of its nodes."""
    hints = [
        read_hints(getattr(kind, name)).get("return") for name in phases if hasattr(kind, name)
    ]
    hints.append(type_arguments(kind, Node)[argument])
    return [hint for hint in hints if hint is not None]
