"""The form of a rule."""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import dedent, fill

from pocoflow.check.findings import Severity

__all__ = ["PRELUDE", "Rule", "rule", "show_rule"]

PRELUDE = """\
from typing import Literal

from pydantic import BaseModel

from pocoflow import END, Flow, Node, Store, fields, key, node


class Article(BaseModel):
    document: str
    summary: str
    score: float = 0.0


A = fields(Article)
"""
"""What every example begins with."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule.

    Attributes:
        code: ``PF`` and a number; its first digit is the family.
        title: Its name in a few words.
        severity: How bad it is, unless a finding says otherwise.
        also: How bad some findings of it are, if that is different.
        what: What it finds, in one sentence.
        why: Why that matters.
        wrong: A program, after :data:`PRELUDE`, whose ``flow`` it finds something in.
        right: The same without the mistake.
    """

    code: str
    title: str
    severity: Severity
    what: str
    why: str
    wrong: str
    right: str
    also: Severity | None = None

    @property
    def severities(self) -> str:
        """How bad its findings are, as text."""
        return self.severity if self.also is None else f"{self.severity} or {self.also}"


def rule(
    code: str,
    title: str,
    severity: Severity,
    what: str,
    why: str,
    wrong: str,
    right: str,
    also: Severity | None = None,
) -> Rule:
    """A rule from texts as they are written in the source."""
    texts = (dedent(text).lstrip("\n") for text in (wrong, right))
    wrong, right = texts
    return Rule(code, title, severity, what, " ".join(why.split()), wrong, right, also)


def show_rule(shown: Rule) -> str:
    """A rule as text for a terminal."""

    def indented(text: str) -> str:
        return "\n".join(f"    {line}".rstrip() for line in text.splitlines())

    return (
        f"{shown.code}: {shown.title} ({shown.severities})\n\n"
        f"{fill(shown.what, 88)}\n\n{fill(shown.why, 88)}\n\n"
        f"Wrong:\n\n{indented(shown.wrong)}\n\nRight:\n\n{indented(shown.right)}\n\n"
        f"Where it is meant: a comment at the line of the finding, "
        f'# pocoflow: ignore[{shown.code}],\nor Flow(ignore=("{shown.code}",)).\n'
    )
