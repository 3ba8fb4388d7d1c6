"""The page of the reference that has every rule: ``python -m tests.unit.check.rules_page``."""

from __future__ import annotations

import sys
from pathlib import Path

from pocoflow.check.rules import RULES

_FAMILIES = {
    "PF0": "the validation itself",
    "PF1": "the graph",
    "PF2": "types",
    "PF3": "data flow",
    "PF4": "storage",
}
_PAGE = Path(__file__).with_suffix(".md").read_text("utf-8")

PRELUDE = _PAGE.split("```python\n")[1].split("```")[0]
"""What every example begins with."""


def rules_page() -> str:
    """The page, made of those of the rules."""
    rows, parts, family = [], [], ""
    for rule in RULES.values():
        link = f"[{rule.code}](#{rule.code.lower()}-{rule.title.replace(' ', '-')})"
        rows.append(f"| {link} | {rule.title} | {rule.severities} | {rule.what} |\n")
        if rule.code[:3] != family:
            family = rule.code[:3]
            parts.append(f"\n## {family}: {_FAMILIES[family]}\n")
        parts.append(f"\n##{rule.text}")
    return _PAGE.replace("{rules}\n", "".join(rows)) + "".join(parts)


if __name__ == "__main__":
    sys.stdout.write(rules_page())
