"""The graph of a run in the DOT language of Graphviz: states, visits, edges taken."""

from __future__ import annotations

from collections.abc import Mapping

from pocoflow.graph.fingerprint import Fingerprint, Names, edges_of, levels_of, limits_of, nodes_of
from pocoflow.messages import counted
from pocoflow.ui.steps import Walk
from pocoflow.ui.text import cut

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


def draw_graph(graph: Fingerprint, walk: Walk, *, dark: bool = False) -> str:
    """Draw the recorded graph of a run with the path of the run.

    Args:
        graph: The result of ``WorkflowDB.get_graph``.
        walk: The path of the run.
        dark: Whether it is shown on a dark page.
    """
    return _Drawing(graph, walk, _DARK if dark else _LIGHT).text()


class _Drawing:
    """One drawing."""

    def __init__(
        self,
        graph: Fingerprint,
        walk: Walk,
        colours: Mapping[str, tuple[str, str, str]],
    ) -> None:
        self._graph, self._walk, self._colours = graph, walk, colours
        self._limits = limits_of(graph)
        self._ids = {name: f"n{number}" for number, name in enumerate(nodes_of(graph))}
        self._levels = levels_of(graph)

    def text(self) -> str:
        ink = self._colours[""][2]
        lines = [
            "digraph run {",
            '    bgcolor="transparent"; compound=true; rankdir=TB; nodesep=0.35; ranksep=0.45',
            '    node [shape=box, style="rounded,filled", fontname="sans-serif", fontsize=12]',
            f'    edge [fontname="sans-serif", fontsize=10, color="{ink}", fontcolor="{ink}"]',
            f'    begin [shape=circle, width=0.14, label="", fillcolor="{ink}", color="{ink}"]',
        ]
        lines += self._boxes(())
        start = (self._graph["start"],)
        box = f" [{self._box('lhead', start)}]" if start in self._levels else ""
        lines.append(f"    begin -> {self._at(start)}{box}")
        ends = False
        for source, action, target in edges_of(self._graph):
            if source not in self._ids or (target is not None and target not in self._ids):
                continue
            if target is None and source[:-1] in self._ids:
                continue  # the flow around it continues with its own edge
            ends = ends or target is None
            lines.append(self._edge(source, action, target))
        if ends:
            lines.append(f'    finish [shape=doublecircle, width=0.12, label="", color="{ink}"]')
        return "\n".join([*lines, "}"]) + "\n"

    def _at(self, name: Names) -> str:
        """The node to which an edge is drawn: of a nested flow, the first one inside."""
        while name in self._levels:
            name = self._levels[name][0]
        return self._ids[name]

    def _box(self, end: str, flow: Names) -> str:
        return f"{end}=cluster_{self._ids[flow]}"

    def _boxes(self, flow: Names) -> list[str]:
        lines: list[str] = []
        for name in self._levels[flow]:
            node_id = self._ids[name]
            if name not in self._levels:
                lines.append(f"    {node_id} [{self._look(name)}]")
                continue
            look = f'{self._look(name)}, style=rounded, fontname="sans-serif", fontsize=11'
            lines += [f"    subgraph cluster_{node_id} {{", f"    graph [{look}]"]
            lines += self._boxes(name)
            lines.append("    }")
        return lines

    def _look(self, name: Names) -> str:
        """The attributes of a node, or of the box of a nested flow."""
        title, walk = _quoted(name[-1]), self._walk
        status = walk.status.get(name, "")
        fill, line, ink = self._colours.get(status, self._colours[""])
        visits = walk.visits[name]
        is_current = name == walk.current
        about = [_SIGNS.get(status, ""), status, f"×{visits}" if visits > 1 else ""]
        about += ["·" if status else "", "here"] if is_current else []
        questions = walk.questions[name]
        lines = [title, " ".join(filter(None, about))]
        lines.append(counted(questions, "question") if questions else "")
        label = "\\n".join(filter(None, lines))
        pen = ", penwidth=3" if is_current else ""
        dashed = "" if visits or is_current else ', style="rounded,filled,dashed"'
        return (
            f'label="{label}", fillcolor="{fill}", color="{line}", fontcolor="{ink}"{pen}{dashed}'
        )

    def _edge(self, source: Names, action: str, target: Names | None) -> str:
        count = self._walk.taken[source, action, target]
        parts = [] if action == "default" else [_quoted(action)]
        if (source, action) in self._limits:
            at_most, then = self._limits[source, action]
            parts.append(f"{'after' if target == then else 'at most'} {at_most}")
        label = ", ".join(parts)
        if count:
            label = f"{label} ×{count}".strip()
        settings = [f'label=" {label} "'] if label else []
        if count:
            settings += [f'color="{self._colours["completed"][1]}"', "penwidth=2"]
        else:
            settings.append("style=dashed")
        if source in self._levels:
            settings.append(self._box("ltail", source))
        if target in self._levels:
            settings.append(self._box("lhead", target))
        head = "finish" if target is None else self._at(target)
        return f"    {self._at(source)} -> {head} [{', '.join(settings)}]"


def _quoted(text: str) -> str:
    """A label between quotes: one line, with everything escaped that DOT would interpret."""
    line = cut(" ".join(text.split()), _WIDEST) if len(text) > _WIDEST else cut(text)
    line = line.replace("\\", "\\\\").replace("&", "&amp;").replace("\n", " ")
    return line.replace('"', '\\"')
