"""Drawings of a graph as text: Mermaid and Graphviz DOT, deterministic."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from pocoflow.messages import escape

if TYPE_CHECKING:
    from pocoflow.graph.graph import Graph, Vertex

# Fill and stroke of a marked node, by severity; any other severity is drawn as the last.
_COLOURS = {
    "error": ("#fde2e1", "#c62828"),
    "warning": ("#fff4d6", "#b26a00"),
    "note": ("#e3f0fd", "#1565c0"),
}


class _Box(NamedTuple):
    """A node in a drawing.

    Attributes:
        number: Its number in the order of reading, in which a node precedes those inside of it.
        vertex: The node.
        severity: The severity that colours it; ``None`` without a mark.
    """

    number: int
    vertex: Vertex
    severity: str | None

    def __str__(self) -> str:
        return f"n{self.number}"

    @property
    def first(self) -> str:
        """The innermost node that is visited first."""
        number, vertex = self.number, self.vertex
        while vertex.within:  # the first node of a graph is its start
            number, vertex = number + 1, vertex.within[0].start
        return f"n{number}"


_End: TypeAlias = _Box | str
"""The end of an arrow: a node, or the name of the point where a graph begins or ends."""


class _Mermaid:
    closed, begins_after_nodes = "end", False

    def begin(self, name: str, first: int) -> str:
        return f"{name}(( )) --> n{first}"

    def finish(self, name: str) -> str:
        return f"{name}((( )))"

    def node(self, box: _Box) -> Iterator[str]:
        kind = "subgraph " if box.vertex.within else ""
        yield f'{kind}{box}["{_mermaid_label(box.vertex.name)}"]'

    def arrow(self, source: _End, target: _End, look: str, label: str) -> str:
        line = {"error": "-.->", "require": "-.-o", "forbid": "-.-x"}.get(look, "-->")
        shown = f'|"{_mermaid_label(label)}"|' if label else ""
        return f"{source} {line}{shown} {target}"


class _Dot:
    closed, begins_after_nodes = "}", True

    def begin(self, name: str, first: int) -> str:
        return f'{name} [shape=circle, style=filled, fillcolor="#000000", width=0.15, label=""]'

    def finish(self, name: str) -> str:
        return f'{name} [shape=doublecircle, width=0.15, label=""]'

    def node(self, box: _Box) -> Iterator[str]:
        look = f'label="{_dot_label(box.vertex.name)}"'
        if box.vertex.within:
            yield f"subgraph cluster_{box} {{"
            look += ', style="rounded", fontname="sans-serif"'
        if box.severity is not None:
            fill, stroke = _COLOURS[box.severity]
            look += f', fillcolor="{fill}", color="{stroke}", penwidth=2'
        yield f"    graph [{look}]" if box.vertex.within else f"{box} [{look}]"

    def arrow(self, source: _End, target: _End, look: str, label: str) -> str:
        """An arrow, which ends at the border of a node that contains others."""
        shown = [f'label="{_dot_label(label)}"'] if label else []
        if look == "error":
            shown.append("style=dashed")
        elif look != "edge":
            head = "tee" if look == "forbid" else "odot"
            shown += ["style=dotted", "constraint=false", f"arrowhead={head}"]
        ends = []
        for end, key in ((source, "ltail"), (target, "lhead")):
            if isinstance(end, _Box) and end.vertex.within:
                shown.append(f"{key}=cluster_{end}")
            ends.append(end if isinstance(end, str) else end.first)
        attributes = f" [{', '.join(shown)}]" if shown else ""
        return f"{' -> '.join(ends)}{attributes}"


_Lines: TypeAlias = "Iterator[str | _Lines]"
"""Lines of text, mixed with nested iterators of lines."""


class _Drawing:
    """The lines of a drawing, in the order in which both languages have them."""

    def __init__(self, language: _Mermaid | _Dot, marks: Mapping[str, str]) -> None:
        self.language, self.marks = language, marks
        self.boxes: list[_Box] = []

    def lines(self, graph: Graph) -> Iterator[str]:
        """All lines, without recursion: a drawing may be nested deeper than Python's stack."""
        stack = [self._level(graph, "", "    ")]
        while stack:
            item = next(stack[-1], None)
            if item is None:
                stack.pop()
            elif isinstance(item, str):
                yield item
            else:
                stack.append(item)

    def _level(self, graph: Graph, prefix: str, indent: str) -> _Lines:
        language, first = self.language, len(self.boxes)
        suffix = f"_n{first}" if prefix else ""
        begin, finish = f"begin{suffix}", f"finish{suffix}"
        yield indent + language.begin(begin, first)
        own: dict[str, _Box] = {}
        for name, vertex in graph.nodes.items():
            severity = self.marks.get(prefix + name)
            known = severity if severity in _COLOURS or severity is None else "note"
            own[name] = box = _Box(len(self.boxes), vertex, known)
            self.boxes.append(box)
            for line in language.node(box):
                yield indent + line
            for inner in vertex.within:
                yield self._level(inner, f"{prefix}{name}/", indent + "    ")
            if vertex.within:
                yield indent + language.closed
        if language.begins_after_nodes:
            yield indent + language.arrow(begin, own[graph.start.name], "edge", "")
        for edge in graph.edges:
            target = finish if edge.target is None else own[edge.target]
            look = "error" if edge.is_error else "edge"
            yield indent + language.arrow(own[edge.source], target, look, edge.label)
        for rule in graph.rules:
            drawn = (*own.values(), *self.boxes[first:])
            ends = [[box for box in drawn if box.vertex.node is node] for node in rule.drawn]
            if ends and all(ends):
                look = "forbid" if rule.kind == "never after" else "require"
                yield indent + language.arrow(ends[0][0], ends[1][0], look, rule.label)
        if any(edge.target is None for edge in graph.edges):
            yield indent + language.finish(finish)


def to_mermaid(graph: Graph, marks: Mapping[str, str]) -> str:
    """A Mermaid flowchart; ``marks`` colours nodes by severity, by name and path."""
    drawing = _Drawing(_Mermaid(), marks)
    lines = ["flowchart TD", *drawing.lines(graph)]
    for severity, (fill, stroke) in _COLOURS.items():
        marked = [str(box) for box in drawing.boxes if box.severity == severity]
        if marked:
            lines.append(f"    classDef {severity} fill:{fill},stroke:{stroke},stroke-width:2px")
            lines.append(f"    class {','.join(marked)} {severity}")
    return "\n".join(lines) + "\n"


def to_dot(graph: Graph, marks: Mapping[str, str]) -> str:
    """A Graphviz digraph; ``marks`` colours nodes by severity, by name and path."""
    lines = [
        "digraph flow {",
        '    node [shape=box, style="rounded,filled", fillcolor="#ffffff", fontname="sans-serif"]',
        '    edge [fontname="sans-serif"]',
    ]
    if any(vertex.within for vertex in graph.nodes.values()):
        lines.append("    compound=true")
    return "\n".join([*lines, *_Drawing(_Dot(), marks).lines(graph), "}"]) + "\n"


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
