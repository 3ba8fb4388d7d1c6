"""Every rule: its code, what it finds and why that matters, an example, and the example repaired.

``pocoflow rule PF101`` prints one; ``docs/reference/rules.md`` has them all.
"""

from __future__ import annotations

from pocoflow.check.rules import data, graph, internal, storage, types
from pocoflow.check.rules.entry import PRELUDE, Rule, show_rule

__all__ = ["PRELUDE", "RULES", "Rule", "rules_page", "show_rule"]

RULES: dict[str, Rule] = {
    rule.code: rule for rules in (internal, graph, types, data, storage) for rule in rules.RULES
}
"""The rules by code."""

_FAMILIES = {
    "PF0": "the validation itself",
    "PF1": "the graph",
    "PF2": "types",
    "PF3": "the way of the data",
    "PF4": "what a database keeps",
}

_HEAD = """\
# Rules

What [`flow.validate()`](flow.md) and [`pocoflow check`](cli.md) find. An error stops a run before
its first node; a warning does not, and makes the check fail only with `--strict`.
[Validation](../explanation/validation.md) says what is proved, and from what. This page is made
from the rules themselves: `pocoflow rule PF101` prints the same.

| code | | severity | finds |
| --- | --- | --- | --- |
"""


def rules_page() -> str:
    """The page of the reference that has every rule."""
    parts = [_HEAD]
    for rule in RULES.values():
        link = f"#{rule.code.lower()}-{rule.title.replace(' ', '-')}"
        parts.append(
            f"| [{rule.code}]({link}) | {rule.title} | {rule.severities} | {rule.what} |\n"
        )
    parts.append(f"\nThe examples begin with this:\n\n```python\n{PRELUDE}```\n")
    family = ""
    for rule in RULES.values():
        if rule.code[:3] != family:
            family = rule.code[:3]
            parts.append(f"\n## {family}: {_FAMILIES[family]}\n")
        parts.append(f"\n### {rule.code}: {rule.title}\n\n{rule.what} ({rule.severities})\n")
        parts.append(f"\n{rule.why}\n")
        parts.append(f"\nWrong:\n\n```python\n{rule.wrong}```\n")
        parts.append(f"\nRight:\n\n```python\n{rule.right}```\n")
    return "".join(parts)
