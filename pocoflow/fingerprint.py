"""What a flow looked like when a run was started, and how it differs from what it is now."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from types import CodeType
from typing import Any

from pocoflow.graph import Graph, label
from pocoflow.node import Node
from pocoflow.schema import make_schema

__all__ = ["Fingerprint", "describe", "differences", "fields_of", "is_same_definition"]

Fingerprint = dict[str, Any]
"""``{"start": name, "nodes": {name: {"class", "code"}}, "edges": [[...]], "schema": {...}}``"""


def describe(graph: Graph, schema: object) -> str:
    """The fingerprint of a flow as JSON text, the same for the same flow in any process."""
    document: Fingerprint = {
        "start": graph.start.name,
        "nodes": {
            label(place.name, path): {"class": class_label(place.node), "code": _code(place.node)}
            for path, level in graph.levels()
            for place in level.nodes.values()
        },
        "edges": sorted(
            [
                label(edge.source, path),
                edge.action,
                "END" if edge.target is None else label(edge.target, path),
            ]
            for path, level in graph.levels()
            for edge in level.edges
        ),
        "schema": fields_of(schema),
    }
    return json.dumps(document, sort_keys=True)


def class_label(node: Node[Any, Any, Any]) -> str:
    """What defines a node: its class, or the function it was made from."""
    definition: Any = getattr(node, "__wrapped__", type(node))
    return f"{definition.__module__}:{definition.__qualname__}"


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What changed between two fingerprints, one line each, empty if nothing did.

    Lines that begin with ``code of`` are advice: the definition is the same, its code is not.
    """
    lines = []
    old, new = before["nodes"], now["nodes"]
    lines += [f"node {name!r} is gone" for name in old if name not in new]
    lines += [f"node {name!r} is new" for name in new if name not in old]
    for name in old:
        if name in new and not _is_found_there(old[name]["class"], new[name]["class"]):
            lines.append(f"node {name!r} was {old[name]['class']}, is {new[name]['class']}")
        elif name in new and old[name]["code"] != new[name]["code"]:
            lines.append(f"code of node {name!r} changed")
    if before["start"] != now["start"]:
        lines.append(f"the start was {before['start']!r}, is {now['start']!r}")
    lines += _edge_lines("is gone", before["edges"], now["edges"])
    lines += _edge_lines("is new", now["edges"], before["edges"])
    lines += _field_lines(before["schema"], now["schema"])
    return lines


def is_same_definition(before: Mapping[str, str], now: Mapping[str, str]) -> bool:
    """Whether two nodes have one definition; in a module that was renamed its code is the same."""
    names = [one["class"].partition(":")[2] for one in (before, now)]
    is_moved = names[0] == names[1] and before["code"] == now["code"]
    return is_moved or _is_found_there(before["class"], now["class"])


def _is_found_there(before: str, now: str) -> bool:
    """Whether two labels mean one definition; the module of a script is ``__main__`` to itself."""
    modules, names = zip(*(label.split(":", 1) for label in (before, now)), strict=True)
    return before == now or ("__main__" in modules and names[0] == names[1])


def _edge_lines(what: str, these: Iterable[list[str]], those: Iterable[list[str]]) -> list[str]:
    known = {tuple(edge) for edge in those}
    return [
        f"edge {source!r} - {action!r} -> {target!r} {what}"
        for source, action, target in these
        if (source, action, target) not in known
    ]


def _field_lines(old: Mapping[str, str] | None, new: Mapping[str, str] | None) -> list[str]:
    old, new = old or {}, new or {}
    return [
        *(f"field {name!r} is gone" for name in old if name not in new),
        *(f"field {name!r} is new" for name in new if name not in old),
        *(
            f"field {name!r} was {old[name]}, is {new[name]}: its stored value is checked again"
            for name in old
            if name in new and old[name] != new[name]
        ),
    ]


def fields_of(schema: object) -> dict[str, str] | None:
    """What defines each field of a schema; ``None`` without one."""
    made = make_schema(schema)
    return None if made is None else dict(made.definitions)


def _code(node: Node[Any, Any, Any]) -> str:
    """A digest of the code of the phases; differs between Python versions, so it is only advice."""
    import hashlib

    digest = hashlib.sha256()
    wrapped = getattr(node, "__wrapped__", None)
    phases = ("prep", "exec", "exec_async", "exec_fallback", "post")
    functions = [wrapped] if wrapped else [getattr(type(node), name, None) for name in phases]
    for function in functions:
        code = getattr(function, "__code__", None)
        if code is not None:
            _digest_code(digest, code)
    return digest.hexdigest()[:16]


def _digest_code(digest: Any, code: CodeType) -> None:
    digest.update(code.co_code)
    digest.update(repr((code.co_names, code.co_varnames)).encode())
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            _digest_code(digest, constant)
        elif isinstance(constant, frozenset):
            digest.update(repr(sorted(map(repr, constant))).encode())
        else:
            digest.update(repr(constant).encode())
