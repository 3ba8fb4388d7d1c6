"""Drawings of a graph as text: Mermaid and Graphviz DOT, deterministic."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from pocoflow.messages import escape

if TYPE_CHECKING:
    from pocoflow.graph.graph import Graph


class DrawnRule(NamedTuple):
    """A rule about the order of visits in a drawing: a dotted line between two nodes.

    Attributes:
        first: The path of the node that it begins at, including its own name.
        label: Its label.
        second: The path of the node that it ends at.
        forbids: Whether it ends with a cross.
    """

    first: tuple[str, ...]
    label: str
    second: tuple[str, ...]
    forbids: bool = False


def _rules_of(graph: Graph) -> Iterator[DrawnRule]:
    for rule in graph.rules:
        matches = (graph.find(node) for node in rule.drawn)
        ends = [(*match[0], match[1].name) for match in matches if match is not None]
        if len(ends) == 2:
            yield DrawnRule(ends[0], rule.label, ends[1], rule.kind == "never after")


# Fill and stroke of a marked node, by severity; any other severity is drawn as the last.
_COLOURS = {
    "error": ("#fde2e1", "#c62828"),
    "warning": ("#fff4d6", "#b26a00"),
    "note": ("#e3f0fd", "#1565c0"),
}


class _Box:
    """A node with an id that is unique in the drawing, and the levels inside of it."""

    def __init__(self, name: str, path: str, inside: Sequence[Graph]) -> None:
        self.name = name
        self.path = path
        self.id = ""
        self.levels = [_Level(graph, f"{path}/") for graph in inside]

    def first(self) -> _Box:
        """The innermost box that is visited first."""
        box = self
        while box.levels:
            box = box.levels[0].boxes[box.levels[0].start]
        return box


class _Level:
    """One of the graphs of a drawing; its boxes are added by ``_boxes_of``."""

    def __init__(self, graph: Graph, prefix: str) -> None:
        self.nodes, self.edges, self.rules = graph.nodes, graph.edges, [*_rules_of(graph)]
        self.prefix = prefix
        self.start = graph.start.name
        self.boxes: dict[str, _Box] = {}

    def box(self, names: tuple[str, ...]) -> _Box:
        """A node of this level, or nested in it."""
        level = self
        for name, inner in pairwise(names):
            level = next(below for below in level.boxes[name].levels if inner in below.boxes)
        return level.boxes[names[-1]]

    @property
    def suffix(self) -> str:
        """Distinguishes its begin and finish from those of the whole drawing."""
        first = next(iter(self.boxes.values()))
        return f"_{first.id}" if self.prefix else ""


def _boxes_of(graph: Graph) -> tuple[_Level, list[_Box]]:
    """The outermost level of a graph, and every box in it, numbered in the order of reading."""
    root = _Level(graph, "")
    every: list[_Box] = []
    waiting: list[_Level | _Box] = [root]
    while waiting:
        item = waiting.pop()
        if isinstance(item, _Box):
            item.id = f"n{len(every)}"
            every.append(item)
            waiting += reversed(item.levels)
        else:
            nodes = item.nodes.items()
            item.boxes = {name: _Box(name, item.prefix + name, node.within) for name, node in nodes}
            waiting += reversed(item.boxes.values())
    return root, every


_Lines: TypeAlias = "Iterator[str | _Lines]"
"""Lines of text, mixed with nested iterators of lines."""


def _in_order(lines: _Lines) -> Iterator[str]:
    """All lines, without recursion: a drawing may be nested deeper than Python's stack allows."""
    stack = [lines]
    while stack:
        item = next(stack[-1], None)
        if item is None:
            stack.pop()
        elif isinstance(item, str):
            yield item
        else:
            stack.append(item)


def to_mermaid(graph: Graph, marks: Mapping[str, str]) -> str:
    """A Mermaid flowchart; ``marks`` colours nodes by severity, by name and path."""
    level, every = _boxes_of(graph)
    lines = ["flowchart TD", *_in_order(_mermaid_level(level, "    "))]
    used = {box.id: _severity(marks[box.path]) for box in every if box.path in marks}
    for severity, (fill, stroke) in _COLOURS.items():
        marked = [box_id for box_id, value in used.items() if value == severity]
        if marked:
            lines.append(f"    classDef {severity} fill:{fill},stroke:{stroke},stroke-width:2px")
            lines.append(f"    class {','.join(marked)} {severity}")
    return "\n".join(lines) + "\n"


def _mermaid_level(level: _Level, indent: str) -> _Lines:
    boxes = level.boxes
    yield f"{indent}begin{level.suffix}(( )) --> {boxes[level.start].id}"
    for box in boxes.values():
        if not box.levels:
            yield f'{indent}{box.id}["{_mermaid_label(box.name)}"]'
            continue
        yield f'{indent}subgraph {box.id}["{_mermaid_label(box.name)}"]'
        for inner in box.levels:
            yield _mermaid_level(inner, indent + "    ")
        yield f"{indent}end"
    ends = False
    for edge in level.edges:
        ends = ends or edge.target is None
        line = "-.->" if edge.is_error else "-->"
        arrow = f'{line}|"{_mermaid_label(edge.label)}"|' if edge.label else line
        target = f"finish{level.suffix}" if edge.target is None else boxes[edge.target].id
        yield f"{indent}{boxes[edge.source].id} {arrow} {target}"
    for rule in level.rules:
        line = "-.-x" if rule.forbids else "-.-o"
        first, second = level.box(rule.first), level.box(rule.second)
        yield f'{indent}{first.id} {line}|"{_mermaid_label(rule.label)}"| {second.id}'
    if ends:
        yield f"{indent}finish{level.suffix}((( )))"


def to_dot(graph: Graph, marks: Mapping[str, str]) -> str:
    """A Graphviz digraph; ``marks`` colours nodes by severity, by name and path."""
    level, every = _boxes_of(graph)
    lines = [
        "digraph flow {",
        '    node [shape=box, style="rounded,filled", fillcolor="#ffffff", fontname="sans-serif"]',
        '    edge [fontname="sans-serif"]',
    ]
    if any(box.levels for box in every):
        lines.append("    compound=true")
    return "\n".join([*lines, *_in_order(_dot_level(level, "    ", marks)), "}"]) + "\n"


def _dot_level(level: _Level, indent: str, marks: Mapping[str, str]) -> _Lines:
    begin, finish = f"begin{level.suffix}", f"finish{level.suffix}"
    yield (
        f'{indent}{begin} [shape=circle, style=filled, fillcolor="#000000", width=0.15, label=""]'
    )
    for box in level.boxes.values():
        yield _dot_box(box, indent, marks)
    yield f"{indent}{begin} -> {_dot_arrow(None, level.boxes[level.start])}"
    ends = False
    for edge in level.edges:
        ends = ends or edge.target is None
        source = level.boxes[edge.source]
        shown = [f'label="{_dot_label(edge.label)}"'] if edge.label else []
        shown += ["style=dashed"] if edge.is_error else []
        target = finish if edge.target is None else level.boxes[edge.target]
        yield f"{indent}{source.first().id} -> {_dot_arrow(source, target, shown)}"
    for rule in level.rules:
        first, second = level.box(rule.first), level.box(rule.second)
        look = [f'label="{_dot_label(rule.label)}"', "style=dotted", "constraint=false"]
        look.append(f"arrowhead={'tee' if rule.forbids else 'odot'}")
        yield f"{indent}{first.first().id} -> {_dot_arrow(first, second, look)}"
    if ends:
        yield f'{indent}{finish} [shape=doublecircle, width=0.15, label=""]'


def _dot_arrow(source: _Box | None, target: _Box | str, shown: Sequence[str] = ()) -> str:
    """The target of an edge with its attributes; one to or from a cluster ends at its border."""
    known = [*shown]
    if source is not None and source.levels:
        known.append(f"ltail=cluster_{source.id}")
    if isinstance(target, _Box) and target.levels:
        known.append(f"lhead=cluster_{target.id}")
    end = target if isinstance(target, str) else target.first().id
    return f"{end} [{', '.join(known)}]" if known else end


def _dot_box(box: _Box, indent: str, marks: Mapping[str, str]) -> _Lines:
    extra = ""
    if box.path in marks:
        fill, stroke = _COLOURS[_severity(marks[box.path])]
        extra = f', fillcolor="{fill}", color="{stroke}", penwidth=2'
    if not box.levels:
        yield f'{indent}{box.id} [label="{_dot_label(box.name)}"{extra}]'
        return
    yield f"{indent}subgraph cluster_{box.id} {{"
    look = f'style="rounded", fontname="sans-serif"{extra}'
    yield f'{indent}    graph [label="{_dot_label(box.name)}", {look}]'
    for inner in box.levels:
        yield _dot_level(inner, indent + "    ", marks)
    yield f"{indent}}}"


def _severity(given: str) -> str:
    return given if given in _COLOURS else "note"


def _mermaid_label(text: str) -> str:
    # Quotes, backticks, markup, entities and the markers of Markdown lists have a meaning to
    # Mermaid, so that they are replaced by character references.
    return "".join(
        char
        if char.isalnum() or (char in " _,:()=/!?-" and not (index == 0 and char == "-"))
        else f"#{ord(char)};"
        for index, char in enumerate(escape(text))
    )


def _dot_label(text: str) -> str:
    return escape(text).replace("\\", "\\\\").replace('"', '\\"')
