"""``pocoflow rule``: explain a rule of the check."""

from __future__ import annotations

import argparse

from pocoflow.check.rules import RULES, show_rule
from pocoflow.cli.output import CommandError, table
from pocoflow.messages import closest


def register(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``pocoflow rule``."""
    parser.add_argument("code", metavar="CODE", nargs="?", help="the code, such as PF301")
    parser.set_defaults(execute=explain)


def explain(args: argparse.Namespace) -> int:
    """Explain a rule: what it finds, why, and an example. All rules by default."""
    if args.code is None:
        rows = [(rule.code, rule.severities, rule.what) for rule in RULES.values()]
        print(*table(rows), sep="\n")
        return 0
    code = args.code.upper()
    if code not in RULES:
        raise CommandError(
            f"there is no rule {args.code!r}{closest(code, RULES)} (rules: {', '.join(RULES)})"
        )
    print(show_rule(RULES[code]), end="")
    return 0
