"""``pocoflow graph``: draw a flow as Mermaid or DOT."""

from __future__ import annotations

import argparse
import sys
from contextlib import redirect_stdout

from pocoflow.address import Address
from pocoflow.check.findings import Finding
from pocoflow.graph.graph import Graph
from pocoflow.views.targets import TARGET_HELP, load_flow


def register(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``pocoflow graph``."""
    parser.add_argument("flow", metavar="FLOW", help=TARGET_HELP)
    parser.add_argument(
        "--format", choices=("mermaid", "dot"), default="mermaid", help="the language (mermaid)"
    )
    parser.add_argument(
        "--findings", action="store_true", help="colour the nodes that the check finds mistakes in"
    )
    parser.set_defaults(execute=draw)


def draw(args: argparse.Namespace) -> int:
    """Draw a flow. Its module is imported, no node is run."""
    with redirect_stdout(sys.stderr):  # what modules print is not part of the picture
        flow = load_flow(args.flow)
        graph = flow.graph
        marks = _marks(graph, flow.validate()) if args.findings else {}
    print(graph.to_dot(marks) if args.format == "dot" else graph.to_mermaid(marks), end="")
    return 0


def _marks(graph: Graph, findings: list[Finding], path: tuple[str, ...] = ()) -> dict[str, str]:
    """Severity by node; a node with inner nodes has the worst severity of these."""
    marks: dict[str, str] = {}
    for name, vertex in graph.nodes.items():
        text = Address(path, name).text
        inside: dict[str, str] = {}
        for inner in vertex.within:
            inside |= _marks(inner, findings, (*path, name))
        severities = {*inside.values(), *(it.severity for it in findings if it.node == text)}
        if severities:
            inside[text] = "error" if "error" in severities else "warning"
        marks |= inside
    return marks
