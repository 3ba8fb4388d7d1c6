"""Pictures of a graph as text: Mermaid and Graphviz DOT, the same for the same graph."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

__all__ = ["DrawnEdge", "to_dot", "to_mermaid"]

DrawnEdge: TypeAlias = tuple[str, str, str | None]
"""Source, label (may be empty) and target of an edge; ``None`` is the end of the run."""

# Fill and stroke of a marked node, by severity; any other severity is drawn as the last.
_COLOURS = {
    "error": ("#fde2e1", "#c62828"),
    "warning": ("#fff4d6", "#b26a00"),
    "note": ("#e3f0fd", "#1565c0"),
}


def to_mermaid(
    start: str, nodes: Sequence[str], edges: Iterable[DrawnEdge], marks: Mapping[str, str]
) -> str:
    """A Mermaid flowchart; ``marks`` colours nodes by severity."""
    ids = {name: f"n{number}" for number, name in enumerate(nodes)}
    lines = ["flowchart TD", "    begin(( )) --> " + ids[start]]
    lines += [f'    {ids[name]}["{_mermaid_label(name)}"]' for name in nodes]
    ends = False
    for source, label, target in edges:
        ends = ends or target is None
        arrow = f'-->|"{_mermaid_label(label)}"|' if label else "-->"
        lines.append(f"    {ids[source]} {arrow} {'finish' if target is None else ids[target]}")
    if ends:
        lines.append("    finish((( )))")
    used = {name: _severity(marks[name]) for name in nodes if name in marks}
    for severity, (fill, stroke) in _COLOURS.items():
        marked = [ids[name] for name in nodes if used.get(name) == severity]
        if marked:
            lines.append(f"    classDef {severity} fill:{fill},stroke:{stroke},stroke-width:2px")
            lines.append(f"    class {','.join(marked)} {severity}")
    return "\n".join(lines) + "\n"


def to_dot(
    start: str, nodes: Sequence[str], edges: Iterable[DrawnEdge], marks: Mapping[str, str]
) -> str:
    """A Graphviz digraph; ``marks`` colours nodes by severity."""
    ids = {name: f"n{number}" for number, name in enumerate(nodes)}
    lines = [
        "digraph flow {",
        '    node [shape=box, style="rounded,filled", fillcolor="#ffffff", fontname="sans-serif"]',
        '    edge [fontname="sans-serif"]',
        '    begin [shape=circle, style=filled, fillcolor="#000000", width=0.15, label=""]',
    ]
    for name in nodes:
        extra = ""
        if name in marks:
            fill, stroke = _COLOURS[_severity(marks[name])]
            extra = f', fillcolor="{fill}", color="{stroke}", penwidth=2'
        lines.append(f'    {ids[name]} [label="{_dot_label(name)}"{extra}]')
    lines.append(f"    begin -> {ids[start]}")
    ends = False
    for source, label, target in edges:
        ends = ends or target is None
        shown = f' [label="{_dot_label(label)}"]' if label else ""
        lines.append(f"    {ids[source]} -> {'finish' if target is None else ids[target]}{shown}")
    if ends:
        lines.append('    finish [shape=doublecircle, width=0.15, label=""]')
    return "\n".join([*lines, "}"]) + "\n"


def _severity(given: str) -> str:
    return given if given in _COLOURS else "note"


def _visible(text: str) -> str:
    """The text with control characters written as escapes, so that none can end a line."""
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )


def _mermaid_label(text: str) -> str:
    # Quotes, backticks, markup, entities and what begins a Markdown list would be read as such; a
    # number stands for each.
    return "".join(
        one
        if one.isalnum() or (one in " _,:()=/!?-" and not (place == 0 and one == "-"))
        else f"#{ord(one)};"
        for place, one in enumerate(_visible(text))
    )


def _dot_label(text: str) -> str:
    return _visible(text).replace("\\", "\\\\").replace('"', '\\"')
