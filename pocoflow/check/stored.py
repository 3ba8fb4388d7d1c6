"""PF403: what is said of a stored run that could not go on, or not to its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pocoflow.check.findings import Finding
from pocoflow.errors import FlowValidationError


def cannot_go_on(flow_name: str, run: Mapping[str, Any], exc: Exception) -> Finding:
    """The finding on a run whose rehearsal raised ``exc``."""
    first = exc.findings[0] if isinstance(exc, FlowValidationError) else None
    lines = str(exc).splitlines() if first is None else [f"{first.code}: {first.message}"]
    parts = [line for line in lines if not line.startswith("  - ")]
    changes = "; ".join(line.removeprefix("  - ") for line in lines if line.startswith("  - "))
    parts[:-1] = [line if line[-1:] in ".:?" else f"{line}." for line in parts[:-1]]
    why = " ".join([*parts, changes]).strip() or type(exc).__name__
    return Finding(
        "PF403",
        "error",
        flow_name,
        run["current_node"],
        file=None if first is None else first.file,
        line=None if first is None else first.line,
        message=f"run {run['run_id']!r} ({run['status']}) could not go on: {why}",
        fix="finish it under the code that it was started with, keep the name of its node, or "
        "resume it with rename=",
    )


def lacks(flow_name: str, run: Mapping[str, Any], keys: Sequence[str]) -> Finding:
    """The finding on a run that goes on without the values of some keys."""
    shown = ", ".join(map(repr, keys))
    return Finding(
        "PF403",
        "warning",
        flow_name,
        run["current_node"],
        message=f"run {run['run_id']!r} ({run['status']}) would go on without {shown}, which "
        f"{'was' if len(keys) == 1 else 'were'} not saved, or cannot be read: a node that reads "
        "such a key fails",
        fix=f"resume it with changes={{{keys[0]!r}: ...}}, or pass what cannot be stored as a "
        "resource",
    )
