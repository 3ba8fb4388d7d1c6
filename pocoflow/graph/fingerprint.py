"""The fingerprint of a flow when a run was started, and its differences from the current one."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from types import CodeType
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from pocoflow.address import Address
from pocoflow.graph.graph import Graph
from pocoflow.nodes.base import AnyNode, made_of
from pocoflow.store.schema import make_schema
from pocoflow.values.callables import python_code

if TYPE_CHECKING:
    from _hashlib import HASH

Fingerprint: TypeAlias = Mapping[str, Any]
"""``{"start": name, "nodes": [{"path", "class", "code"}], "edges": [[...]], "schema": {...}}``

``path`` holds the names of the flows around a node, and its own; an edge is the path of its source,
the action, and the path of its target, ``null`` for the end. A flow that has edges with limits also
has ``"limits"``: the path of the source, the action, how often it is taken, and the path of the
target after that, which is among the edges, too. A run that was resumed in a program where its
script has another name has that in ``"modules"``, ``{"__main__": "app"}``. One that was resumed
under another schema while branches were unfinished has the earlier definitions of its fields in
``"older"``, each time with the number in the run of the last row of the log at that time.
``"python"`` is the version of Python, with which digests of code differ.
"""

ThingT = TypeVar("ThingT")

Names = tuple[str, ...]
"""The names of the flows around a node, and its own."""


def describe(graph: Graph, schema: object) -> str:
    """The fingerprint of a flow as JSON text, the same for the same flow in any process."""
    nodes, edges, limits = [], [], []
    for path, level in graph.levels():
        for vertex in level.nodes.values():
            names = [*path, vertex.name]
            label, code = class_label(vertex.node), code_of(vertex.node)
            nodes.append({"path": names, "class": label, "code": code})
        for edge in level.edges:
            source = [*path, edge.source]
            target = None if edge.target is None else [*path, edge.target]
            edges.append([source, edge.action, target])
            if edge.is_after:
                limits.append([source, edge.action, edge.at_most, target])
    document: dict[str, object] = {
        "start": graph.start.name,
        "nodes": nodes,
        "edges": sorted(edges, key=json.dumps),
        "schema": fields_of(schema),
        "python": "{}.{}".format(*sys.version_info),
    }
    if limits:
        document["limits"] = sorted(limits, key=json.dumps)
    return json.dumps(document, sort_keys=True)


def class_label(node: AnyNode) -> str:
    """What defines a node: its class, or the function it was made from."""
    definition = made_of(node)
    return f"{definition.__module__}:{definition.__qualname__}"


def differences(before: Fingerprint, now: Fingerprint) -> list[str]:
    """What changed between two fingerprints, one line each, empty if nothing did.

    Lines that begin with ``code of`` are advice: the definition is the same, its code is not.
    """
    lines = []
    old, new = nodes_of(before), nodes_of(now)
    was, is_now = before.get("python"), now.get("python")
    is_other = was is not None and was != is_now
    if is_other:
        lines.append(f"Python was {was}, is {is_now}")
    lines += _gone_and_new(old, new, lambda name: f"node {_text(name)!r}")
    for name in old:
        if name in new and not _is_found_there(old[name]["class"], new[name]["class"]):
            lines.append(f"node {_text(name)!r} was {old[name]['class']}, is {new[name]['class']}")
        elif name in new and not is_other and old[name]["code"] != new[name]["code"]:
            lines.append(f"code of node {_text(name)!r} changed")
    if before["start"] != now["start"]:
        lines.append(f"the start was {before['start']!r}, is {now['start']!r}")
    lines += _gone_and_new(edges_of(before), edges_of(now), _edge_text)
    old_limits, new_limits = limits_of(before), limits_of(now)
    lines += [
        f"edge {_text(edge[0])!r} - {edge[1]!r} has {_said(new_limits, edge)}, had "
        f"{_said(old_limits, edge)}"
        for edge in {**old_limits, **new_limits}
        if old_limits.get(edge, (0,))[0] != new_limits.get(edge, (0,))[0]
    ]
    lines += _field_lines(before["schema"], now["schema"])
    return lines


def moved_modules(before: Fingerprint, now: Fingerprint) -> dict[str, str]:
    """The current names of modules, by their names when the run was started or resumed."""
    moved, new = dict(before.get("modules", {})), nodes_of(now)
    for names, node in nodes_of(before).items():
        is_now = new.get(names, node)
        module, current = (version["class"].partition(":")[0] for version in (node, is_now))
        if current != module and is_same_definition(node, is_now):
            moved = {was: current if to == module else to for was, to in moved.items()}
            moved[module] = current
            moved.pop(current, None)
    return moved


def is_same_definition(before: Mapping[str, str], now: Mapping[str, str]) -> bool:
    """Whether two nodes have the same definition, possibly in a renamed module."""
    names = [version["class"].partition(":")[2] for version in (before, now)]
    is_moved = names[0] == names[1] and before["code"] == now["code"]
    return is_moved or _is_found_there(before["class"], now["class"])


def _is_found_there(before: str, now: str) -> bool:
    """Whether two labels mean the same definition; a script's own module is ``__main__``."""
    modules, names = zip(*(label.split(":", 1) for label in (before, now)), strict=True)
    return before == now or ("__main__" in modules and names[0] == names[1])


def nodes_of(document: Fingerprint) -> dict[Names, Mapping[str, str]]:
    """The nodes of a fingerprint by their names."""
    return {tuple(node["path"]): node for node in document["nodes"]}


def levels_of(document: Fingerprint) -> dict[Names, list[Names]]:
    """The nodes by the node around them, ``()`` for none; a flow begins at the first of its own."""
    nodes, levels = nodes_of(document), dict[Names, list[Names]]()
    for name in nodes:
        levels.setdefault(name[:-1] if name[:-1] in nodes else (), []).append(name)
    return levels


def edges_of(document: Fingerprint) -> list[tuple[Names, str, Names | None]]:
    """The edges of a fingerprint: source, action, target; a target of ``None`` is the end."""
    return [
        (tuple(source), action, None if target is None else tuple(target))
        for source, action, target in document["edges"]
    ]


def limits_of(document: Fingerprint) -> dict[tuple[Names, str], tuple[int, Names | None]]:
    """The limits of a fingerprint, by source and action: how often, and the target after that."""
    return {
        (tuple(source), action): (at_most, None if target is None else tuple(target))
        for source, action, at_most, target in document.get("limits", ())
    }


def _said(
    limits: Mapping[tuple[Names, str], tuple[int, Names | None]], edge: tuple[Names, str]
) -> str:
    return f"a limit of {limits[edge][0]}" if edge in limits else "no limit"


def _text(names: Names) -> str:
    return Address(names[:-1], names[-1]).text


def _edge_text(edge: tuple[Names, str, Names | None]) -> str:
    source, action, target = edge
    return f"edge {_text(source)!r} - {action!r} -> {'END' if target is None else _text(target)!r}"


def _gone_and_new(
    old: Iterable[ThingT], new: Iterable[ThingT], text: Callable[[ThingT], str]
) -> list[str]:
    before, now = dict.fromkeys(old), dict.fromkeys(new)
    gone = [f"{text(thing)} is gone" for thing in before if thing not in now]
    return [*gone, *(f"{text(thing)} is new" for thing in now if thing not in before)]


def _field_lines(old: Mapping[str, str] | None, new: Mapping[str, str] | None) -> list[str]:
    if old is None or new is None:
        return [] if old is new else [f"the flow has {'no' if new is None else 'a'} schema now"]
    return [
        *_gone_and_new(old, new, lambda name: f"field {name!r}"),
        *(
            f"field {name!r} was {old[name]}, is {new[name]}: its stored value is checked again"
            for name in old
            if name in new and old[name] != new[name]
        ),
    ]


def fields_of(schema: object) -> dict[str, str] | None:
    """The definition of each field of a schema; ``None`` without one."""
    parsed = make_schema(schema)
    return None if parsed is None else dict(parsed.definitions)


def code_of(node: AnyNode) -> str:
    """A digest of the code of the phases; differs between Python versions, so it is only advice."""
    import hashlib

    digest = hashlib.sha256()
    definition, kind = made_of(node), type(node)
    phases = ("prep", "exec", "exec_async", "exec_fallback", "post")
    is_class = definition is kind
    functions = [getattr(kind, name, None) for name in phases] if is_class else [definition]
    for function in functions:
        code = python_code(function)
        if code is not None:
            _digest_code(digest, code)
    return digest.hexdigest()[:16]


def _digest_code(digest: HASH, code: CodeType) -> None:
    digest.update(code.co_code)
    digest.update(repr((code.co_names, code.co_varnames)).encode())
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            _digest_code(digest, constant)
        elif isinstance(constant, frozenset):
            digest.update(repr(sorted(map(repr, constant))).encode())
        else:
            digest.update(repr(constant).encode())
