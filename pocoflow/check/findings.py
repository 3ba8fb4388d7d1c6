"""Findings: the mistakes that validation reports, each a frozen object."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

Severity: TypeAlias = Literal["error", "warning"]
"""An error stops a run; a warning does not."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A mistake in a flow.

    Attributes:
        code: The code of the rule, such as ``"PF101"``.
        severity: ``"error"`` or ``"warning"``.
        flow: The name of the flow.
        node: The name of the node in the flow's graph, with the enclosing flows:
            ``"outer/inner"``; ``None`` if it is about the whole flow.
        edge: The edge that it is about, as (source, action, target); a target of ``None`` is
            ``END``.
        file: The file with the mistake; ``None`` if there is no source.
        line: The line in it.
        message: What is wrong, with the values named.
        fix: What to do.
    """

    code: str
    severity: Severity
    flow: str
    node: str | None = None
    edge: tuple[str, str, str | None] | None = None
    file: str | None = None
    line: int | None = None
    message: str = ""
    fix: str = ""

    @property
    def where(self) -> str:
        """``file:line``, or an empty string."""
        if self.file is None:
            return ""
        return self.file if self.line is None else f"{self.file}:{self.line}"

    def as_dict(self) -> dict[str, Any]:
        """The finding as plain JSON values."""
        drawn = self.edge and dict(zip(("source", "action", "target"), self.edge, strict=True))
        return {**asdict(self), "edge": drawn}

    def __str__(self) -> str:
        location = f"{self.where}: " if self.where else ""
        node = "" if self.node is None else f", node {self.node!r}"
        head = f"{location}{self.severity} {self.code}: flow {self.flow!r}{node}: {self.message}"
        return f"{head}\n    fix: {self.fix}"


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """Errors first, then by code and location; each finding once."""
    unique = dict.fromkeys(findings)
    return sorted(
        unique,
        key=lambda finding: (
            finding.severity != "error",
            finding.code,
            finding.file or "",
            finding.line or 0,
            finding.node or "",
            finding.message,
        ),
    )
