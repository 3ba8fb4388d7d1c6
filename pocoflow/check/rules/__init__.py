"""Every rule: its code, what it finds and why that matters, an example, and the example repaired.

Each has a file beside this one. ``pocoflow rule PF101`` prints it; ``docs/reference/rules.md`` has
them all.
"""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import fill, indent
from typing import Any, NamedTuple

from pocoflow.check.findings import Severity

_FORM = re.compile(
    r"# (?P<code>PF\d+): (?P<title>.+)\n\n"
    r"(?P<what>.+) \((?P<severities>(?P<severity>error|warning).*)\)\n\n"
    r"(?P<why>(?s:.+?))\n\n"
    r"Wrong:\n\n```python\n(?P<wrong>(?s:.+?))```\n\n"
    r"Right:\n\n```python\n(?P<right>(?s:.+?))```\n"
)


class Rule(NamedTuple):
    """A rule.

    Attributes:
        code: ``PF`` and a number; its first digit is the family.
        title: Its name in a few words.
        severity: How bad it is, unless a finding says otherwise.
        severities: How bad its findings are, as text.
        what: What it finds, in one sentence.
        why: Why that matters.
        wrong: A program, behind what the page begins with, whose ``flow`` it finds something in.
        right: The same without the mistake.
        text: All of it, as it is written.
    """

    code: str
    title: str
    severity: Severity
    severities: str
    what: str
    why: str
    wrong: str
    right: str
    text: str


def _read(text: str) -> Rule:
    found = _FORM.fullmatch(text)
    assert found is not None, text
    parts: dict[str, Any] = found.groupdict()
    return Rule(**{**parts, "why": " ".join(parts["why"].split()), "text": text})


RULES: dict[str, Rule] = {
    one.stem: _read(one.read_text("utf-8")) for one in sorted(Path(__file__).parent.glob("PF*.md"))
}
"""The rules by code."""


def show_rule(shown: Rule) -> str:
    """A rule as text for a terminal."""
    return (
        f"{shown.code}: {shown.title} ({shown.severities})\n\n"
        f"{fill(shown.what, 88)}\n\n{fill(shown.why, 88)}\n\n"
        f"Wrong:\n\n{indent(shown.wrong, '    ')}\nRight:\n\n{indent(shown.right, '    ')}\n"
        f"Where it is meant: a comment at the line of the finding, "
        f'# pocoflow: ignore[{shown.code}],\nor Flow(ignore=("{shown.code}",)).\n'
    )
