"""What ``post`` returns, as an action; and the report of an action that has no edge."""

from __future__ import annotations

from pocoflow.engine.line import Line
from pocoflow.errors import ActionError, UnhandledActionError
from pocoflow.graph.graph import Vertex
from pocoflow.graph.routing import is_expected
from pocoflow.messages import closest, short
from pocoflow.nodes.edges import DEFAULT_ACTION


def action_of(vertex: Vertex, action: object) -> str:
    """What ``post`` of a node, or middleware around it, returned, as an action.

    Raises:
        ActionError: It is not an action, or not one that the node declares.
    """
    if action is None or isinstance(action, str):
        name = DEFAULT_ACTION if action is None else str.__str__(action)
        promised = vertex.promised
        if name and (promised is None or name in promised):
            return name
        if promised is not None:
            hint = "; is a 'return' missing?" if action is None else closest(name, promised)
            raise ActionError(
                f"post of node {vertex.name!r} returned {short(action)}, which is not among its "
                f"actions ({', '.join(map(repr, promised))}){hint}"
            )
    is_text = isinstance(action, str)
    what = "an empty string" if is_text else f"{type(action).__name__} {short(action)}"
    raise ActionError(
        f"post of node {vertex.name!r} returned {what}: an action is a non-empty string "
        f"(edges: {', '.join(vertex.actions) or 'none'}), or None for {DEFAULT_ACTION!r}"
    )


def report_unhandled(run: Line, vertex: Vertex, action: str, successor: Vertex | None) -> None:
    """Report an action that has no edge, unless that is expected.

    Args:
        run: The run.
        vertex: The node that returned it.
        action: The action.
        successor: The next node, if there is one nevertheless.

    Raises:
        UnhandledActionError: The flow is strict.
    """
    what = "run" if run.parent is None else "branch"
    after = f"the {what} ends here" if successor is None else f"{successor.name!r} comes next"
    text = (
        f"flow {run.context.flow_name!r}: node {vertex.name!r} returned action {action!r}, "
        f"which has no edge{closest(action, vertex.actions)}; {after} "
        f"(edges: {', '.join(vertex.actions) or 'none'})"
    )
    around = (frame.inner for frame in run.frames)
    if run.strict or any(graph is not None and graph.is_strict for graph in around):
        raise UnhandledActionError(text)
    if not is_expected(run.frames, action):
        run.remark(text)
