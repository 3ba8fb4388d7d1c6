"""PF407: nodes that no executor can be given."""

from __future__ import annotations

from collections.abc import Iterator
from types import FunctionType

from pocoflow.check.call_rules import asked_for, exec_functions
from pocoflow.check.class_rules import hints_of
from pocoflow.check.findings import Finding, Severity
from pocoflow.check.storage_rules import exec_types, how_bad, not_storable
from pocoflow.check.subject import Subject
from pocoflow.graph.graph import GraphNode
from pocoflow.graph.references import refer
from pocoflow.messages import type_label
from pocoflow.nodes.annotations import awaited, is_variable, type_arguments
from pocoflow.nodes.base import Node
from pocoflow.nodes.function import FunctionNode
from pocoflow.nodes.node_kinds import BatchNode
from pocoflow.nodes.resources import declared, is_opened
from pocoflow.nodes.settings import where_to

EXECUTORS = "PF407"

_HERE = ", or call it in the process of the run: executor='here'"


def check_executors(subject: Subject) -> Iterator[Finding]:
    """What executors are to be given, and cannot be."""
    if not subject.sends:
        return
    files = () if subject.where is None else (subject.where[0],)
    for at in subject.nodes:
        node = at.place.node
        if not at.place.travels:
            found = _without_effect(node)
        elif where_to(node.executor, subject.executor) is None:
            continue
        else:
            found = _refused(at.place, files)
        for what, fix, severity in found:
            yield subject.finding(EXECUTORS, what, fix, at=at, severity=severity)


_Found = Iterator[tuple[str, str, Severity]]


def _without_effect(node: Node) -> _Found:
    if node.executor not in (None, "here"):
        what = "it has an executor, and no exec that could be called there"
        yield what, "leave executor out, or give it to the nodes inside", "error"


def _refused(place: GraphNode, files: tuple[str, ...]) -> _Found:
    node = place.node
    reference = refer(node, files)
    if isinstance(reference, str):
        what = f"an executor calls its exec, and cannot be told which node it is: {reference}"
        yield what, f"define it, or its flow, at the top of a module{_HERE}", "error"
    for said, hints in (("is called with", _taken(node)), ("returns", exec_types(place))):
        for hint in hints:
            if (bad := not_storable(hint)) is not None:
                what = f"an executor calls its exec, which {said} {type_label(bad)}: that cannot"
                yield f"{what} be sent", f"send values{_HERE}", how_bad(hint)
                break
    opened = [one for one in declared(node) if is_opened(one)]
    for key in dict.fromkeys(
        (*declared(node), *(key for key, _ in asked_for(exec_functions(place))))
    ):
        if key not in opened:
            what = f"an executor calls its exec, which needs {key!r}: no worker opens it"
            ways = [] if is_opened(key) else ["give the key open=..."]
            if key not in declared(node):
                is_function = isinstance(node, FunctionNode)
                way = "take it as a parameter, client: Client = <key>"
                ways.append(way if is_function else "name it in resources of the node's class")
            fix = ", and ".join(ways)
            yield what, f"{fix}{_HERE}", "error"


def _taken(node: Node) -> list[object]:
    """The types of what ``exec`` is called with, as far as the node says."""
    if isinstance(node, FunctionNode):
        hints = node.signature.hints
        fields = (one.name for one in node.signature.parameters if one.resource is None)
        return [hints[name] for name in fields if name in hints]
    kind = type(node)
    if isinstance(node, BatchNode):
        given = [type_arguments(kind, BatchNode)[0]]
    else:
        prep = kind.prep if isinstance(kind.prep, FunctionType) else None
        given = [hints_of(prep).get("return")] if prep is not None else []
        given.append(type_arguments(kind, Node)[0])
    return [awaited(one) for one in given if one is not None and not is_variable(one)]
