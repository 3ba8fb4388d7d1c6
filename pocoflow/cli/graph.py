"""``pocoflow graph``: draw a flow as Mermaid or DOT."""

from __future__ import annotations

import argparse

from pocoflow.cli.target import TARGET_HELP, load_flow
from pocoflow.findings import Finding

__all__ = ["register"]


def register(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``pocoflow graph``."""
    parser.description = "Draw a flow. Its module is imported, no node is run."
    parser.add_argument("flow", metavar="FLOW", help=TARGET_HELP)
    parser.add_argument(
        "--format", choices=("mermaid", "dot"), default="mermaid", help="the language (mermaid)"
    )
    parser.add_argument(
        "--findings", action="store_true", help="colour the nodes that the check finds mistakes in"
    )
    parser.set_defaults(execute=draw)


def draw(args: argparse.Namespace) -> int:
    """Print the picture."""
    flow = load_flow(args.flow)
    marks = _marks(flow.validate()) if args.findings else {}
    graph = flow.graph
    print(graph.to_dot(marks) if args.format == "dot" else graph.to_mermaid(marks), end="")
    return 0


def _marks(findings: list[Finding]) -> dict[str, str]:
    """Severity by node; one with others inside has that of the worst of them."""
    marks: dict[str, str] = {}
    for one in findings:
        if one.node is not None:
            parts = one.node.split("/")
            for depth in range(1, len(parts) + 1):
                name = "/".join(parts[:depth])
                marks[name] = "error" if "error" in (marks.get(name), one.severity) else "warning"
    return marks
