"""The formats of ``pocoflow check``: text, JSON, GitHub annotations, SARIF 2.1.0."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pocoflow._version import __version__
from pocoflow.check.findings import Finding
from pocoflow.check.rules import RULES
from pocoflow.messages import counted

Report = Mapping[str, Sequence[Finding]]
"""The findings by target, such as ``"app.flows:article"``."""

_SARIF = "https://json.schemastore.org/sarif-2.1.0.json"


def to_text(report: Report) -> str:
    """For people: each finding with its location and fix, and a summary line."""
    lines = []
    for target, findings in report.items():
        lines += [f"{target}: {_relative(finding, outside=True)}" for finding in findings]
    found = [finding for findings in report.values() for finding in findings]
    errors = sum(finding.severity == "error" for finding in found)
    lines.append(
        f"{counted(len(report), 'flow')} checked: {counted(errors, 'error')}, "
        f"{counted(len(found) - errors, 'warning')}"
    )
    return "\n".join(lines)


def to_json(report: Report) -> str:
    """For programs: one object with the findings and the targets."""
    found = [
        {"target": target, **_relative(finding).as_dict()}
        for target, findings in report.items()
        for finding in findings
    ]
    return json.dumps(
        {"version": __version__, "targets": list(report), "findings": found}, indent=2
    )


def to_github(report: Report) -> str:
    """For GitHub Actions: workflow commands that become annotations on the changed lines."""
    lines = []
    for target, findings in report.items():
        for finding in map(_relative, findings):
            titles = [RULES[finding.code].title] if finding.code in RULES else []
            facts = {"title": " ".join([finding.code, *titles])}
            if finding.file is not None:
                facts = {"file": finding.file, "line": str(finding.line or 1), **facts}
            about = ",".join(f"{name}={_property(value)}" for name, value in facts.items())
            text = f"{target}: {_about(finding)}{finding.message}. Fix: {finding.fix}"
            lines.append(f"::{finding.severity} {about}::{_data(text)}")
    return "\n".join(lines)


def to_sarif(report: Report) -> str:
    """For code scanning: one run with the rules and the results."""
    codes = list(RULES)
    results = [_result(target, found, codes) for target, every in report.items() for found in every]
    driver = {
        "name": "pocoflow",
        "version": __version__,
        "rules": [
            {
                "id": rule.code,
                "name": rule.title.title().replace(" ", ""),
                "shortDescription": {"text": rule.what},
                "fullDescription": {"text": rule.why},
                "defaultConfiguration": {"level": rule.severity},
                "help": {"text": f"Wrong:\n\n{rule.wrong}\nRight:\n\n{rule.right}"},
            }
            for rule in RULES.values()
        ],
    }
    run = {"tool": {"driver": driver}, "results": results, "columnKind": "unicodeCodePoints"}
    return json.dumps({"$schema": _SARIF, "version": "2.1.0", "runs": [run]}, indent=2)


FORMATS: dict[str, Callable[[Report], str]] = {
    "text": to_text,
    "json": to_json,
    "github": to_github,
    "sarif": to_sarif,
}
"""The formats by name."""


def _result(target: str, finding: Finding, codes: Sequence[str]) -> dict[str, object]:
    finding = _relative(finding)
    result: dict[str, object] = {
        "ruleId": finding.code,
        "level": finding.severity,
        "message": {"text": f"{target}: {_about(finding)}{finding.message}. Fix: {finding.fix}"},
    }
    if finding.code in codes:
        result["ruleIndex"] = codes.index(finding.code)
    name = f"{target}/{finding.node or ''}"
    logical = {"name": finding.node or finding.flow, "fullyQualifiedName": name}
    location: dict[str, object] = {"logicalLocations": [{**logical, "kind": "member"}]}
    if finding.file is not None:
        location["physicalLocation"] = {
            "artifactLocation": {"uri": Path(finding.file).as_posix()},
            "region": {"startLine": finding.line or 1},
        }
    result["locations"] = [location]
    return result


def _about(finding: Finding) -> str:
    return "" if finding.node is None else f"node {finding.node!r}: "


def _relative(finding: Finding, *, outside: bool = False) -> Finding:
    """The finding with its file relative to the current folder, if it is inside it, or shorter."""
    if finding.file is None or not os.path.isabs(finding.file):
        return finding
    try:
        file = Path(os.path.relpath(finding.file)).as_posix()
    except ValueError:  # on another drive
        return finding
    if file.startswith("../") and not (outside and len(file) < len(finding.file)):
        return finding
    import dataclasses

    return dataclasses.replace(finding, file=file)


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
