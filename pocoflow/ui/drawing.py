"""The graph of a run in the DOT language of Graphviz: states, visits, edges taken."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pocoflow.graph.fingerprint import Names, edges_of, nodes_of
from pocoflow.ui.steps import Walk
from pocoflow.ui.text import cut

__all__ = ["draw_graph"]

_WIDEST = 40

# Fill, line and text by state; dark pages get dark fills.
_LIGHT = {
    "completed": ("#f1fbf6", "#079464", "#0c5a44"),
    "running": ("#edf5ff", "#3b82f6", "#244fb4"),
    "retried": ("#fff6ed", "#e0682b", "#9b4519"),
    "failed": ("#fff1f2", "#d94a57", "#9e303b"),
    "cancelled": ("#f5f4f2", "#6b7280", "#4b5563"),
    "paused": ("#fff9d6", "#b98900", "#6b5000"),
    "": ("#ffffff", "#b6b1ab", "#686255"),
}
_DARK = {
    "completed": ("#0d2f24", "#21c38a", "#9bf0cf"),
    "running": ("#132a4d", "#60a5fa", "#c3dcff"),
    "retried": ("#40230f", "#fb923c", "#fed7aa"),
    "failed": ("#421a20", "#f87171", "#fecaca"),
    "cancelled": ("#2b2d33", "#9ca3af", "#d1d5db"),
    "paused": ("#3b3108", "#eab308", "#fde68a"),
    "": ("#16181d", "#5b5f68", "#a3a8b4"),
}
_SIGNS = {
    "completed": "✓",
    "running": "▶",
    "retried": "↻",
    "failed": "✗",
    "cancelled": "■",
    "paused": "‖",
}


def draw_graph(graph: Mapping[str, Any], walk: Walk, *, dark: bool = False) -> str:
    """Draw the recorded graph of a run as it has been walked.

    Args:
        graph: What ``WorkflowDB.get_graph`` returned.
        walk: Where the run has been.
        dark: Whether it is shown on a dark page.
    """
    colours = _DARK if dark else _LIGHT
    names, edges = _in_order(graph), edges_of(graph)
    ids = {name: f"n{number}" for number, name in enumerate(names)}
    flows = {_flow_of(name, ids) for name in names} - {()}
    ink = colours[""][2]
    lines = [
        "digraph run {",
        '    bgcolor="transparent"; compound=true; rankdir=TB; nodesep=0.35; ranksep=0.45',
        '    node [shape=box, style="rounded,filled", fontname="sans-serif", fontsize=12]',
        f'    edge [fontname="sans-serif", fontsize=10, color="{ink}", fontcolor="{ink}"]',
        f'    begin [shape=circle, width=0.14, label="", fillcolor="{ink}", color="{ink}"]',
    ]
    lines += _boxes(names, flows, ids, walk, colours)
    entry = _Entry(names, flows, walk)
    lines.append(f"    begin -> {entry.arrow(ids, (graph['start'],))}")
    ends = False
    for source, action, target in edges:
        if source not in ids or (target is not None and target not in ids):
            continue
        if target is None and _flow_of(source, ids):
            continue  # the flow around it goes on with its own edge
        ends = ends or target is None
        count = walk.taken.get((source, action, target), 0)
        lines.append(_edge(source, action, target, count, ids, entry, colours))
    if ends:
        lines.append(f'    finish [shape=doublecircle, width=0.12, label="", color="{ink}"]')
    return "\n".join([*lines, "}"]) + "\n"


def _in_order(graph: Mapping[str, Any]) -> list[Names]:
    """The nodes as they are reached from the start, the others after them, nested ones too."""
    nodes = nodes_of(graph)
    ahead: dict[Names, list[Names]] = {}
    for source, _, target in edges_of(graph):
        ahead.setdefault(source, []).extend([] if target is None else [target])
    found: dict[Names, None] = {}
    queue: list[Names] = [(graph["start"],)]
    while queue:
        name = queue.pop(0)
        if name not in found and name in nodes:
            found[name] = None
            queue += ahead.get(name, [])
    return [*found, *(name for name in nodes if name not in found)]


def _flow_of(name: Names, known: Iterable[Names]) -> Names:
    """The nested flow around a node; ``()`` if there is none."""
    return name[:-1] if name[:-1] in known else ()


class _Entry:
    """Where an edge to or from a nested flow is drawn: its box, and a node inside."""

    def __init__(self, names: list[Names], flows: set[Names], walk: Walk) -> None:
        self._inside: dict[Names, Names] = {}
        for flow in sorted(flows, key=len, reverse=True):
            inner = [name for name in names if name[: len(flow)] == flow != name]
            first = walk.first_inside.get(flow, inner[0])
            self._inside[flow] = self._inside.get(first, first)

    def node(self, name: Names) -> Names:
        return self._inside.get(name, name)

    def arrow(self, ids: Mapping[Names, str], name: Names) -> str:
        box = f" [lhead=cluster_{ids[name]}]" if name in self._inside else ""
        return ids[self.node(name)] + box


def _boxes(
    names: list[Names],
    flows: set[Names],
    ids: Mapping[Names, str],
    walk: Walk,
    colours: Mapping[str, tuple[str, str, str]],
    inside: Names = (),
) -> list[str]:
    lines: list[str] = []
    for name in names:
        if _flow_of(name, ids) != inside:
            continue
        title = _quoted(name[-1])
        if name not in flows:
            lines.append(f"    {ids[name]} [{_node(name, title, walk, colours)}]")
            continue
        status = walk.status.get(name, "")
        _, line, ink = colours.get(status, colours[""])
        about = f" {_SIGNS.get(status, '')} {status}" if status else ""
        lines.append(f"    subgraph cluster_{ids[name]} {{")
        lines.append(
            f'    label="{title}{about}"; style=rounded; color="{line}"; fontcolor="{ink}"; '
            'fontname="sans-serif"; fontsize=11'
        )
        lines += _boxes(names, flows, ids, walk, colours, name)
        lines.append("    }")
    return lines


def _node(name: Names, title: str, walk: Walk, colours: Mapping[str, tuple[str, str, str]]) -> str:
    status = walk.status.get(name, "")
    fill, line, ink = colours.get(status, colours[""])
    visits = walk.visits.get(name, 0)
    sign = _SIGNS.get(status, "")
    about = " ".join(filter(None, [sign, status, f"×{visits}" if visits > 1 else ""]))
    is_current = name == walk.current
    if is_current:
        about = f"{about} · here" if about else "here"
    questions = walk.questions.get(name, 0)
    if questions:
        about += f"\\n{questions} question{'' if questions == 1 else 's'}"
    label = f"{title}\\n{about}" if about else title
    pen = ", penwidth=3" if is_current else ""
    dashed = "" if visits or is_current else ', style="rounded,filled,dashed"'
    return f'label="{label}", fillcolor="{fill}", color="{line}", fontcolor="{ink}"{pen}{dashed}'


def _edge(
    source: Names,
    action: str,
    target: Names | None,
    count: int,
    ids: Mapping[Names, str],
    entry: _Entry,
    colours: Mapping[str, tuple[str, str, str]],
) -> str:
    label = "" if action == "default" else _quoted(action)
    if count:
        label = f"{label} ×{count}".strip()
    settings = [f'label=" {label} "'] if label else []
    if count:
        line = colours["completed"][1]
        settings += [f'color="{line}"', "penwidth=2"]
    else:
        settings.append("style=dashed")
    if entry.node(source) != source:
        settings.append(f"ltail=cluster_{ids[source]}")
    head = "finish"
    if target is not None:
        head = ids[entry.node(target)]
        if entry.node(target) != target:
            settings.append(f"lhead=cluster_{ids[target]}")
    return f"    {ids[entry.node(source)]} -> {head} [{', '.join(settings)}]"


def _quoted(text: str) -> str:
    """A label between quotes: one line, and nothing in it that DOT would obey."""
    line = cut(" ".join(text.split()), _WIDEST) if len(text) > _WIDEST else cut(text)
    line = line.replace("\\", "\\\\").replace("&", "&amp;").replace("\n", " ")
    return line.replace('"', '\\"')
