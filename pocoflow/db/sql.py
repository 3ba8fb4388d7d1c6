"""The SQL of this package: ``schema.sql``, and ``queries.sql`` by name."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

VERSION = 2
"""The layout's version, kept in ``PRAGMA user_version``."""

INTERRUPTED = (
    "interrupted: its process ended, or lost the database, before the end of the run was on record"
)

_HERE = Path(__file__).parent


def _named(text: str, mark: str) -> Iterator[tuple[str, str]]:
    for block in text.split(mark)[1:]:
        name, _, content = block.partition("\n")
        yield name.strip(), content.strip()


def statements(*files: str) -> dict[str, str]:
    """The statements of files that begin with parts of them, by name; each with its parts.

    What a later file has takes the place of what an earlier one has.
    """
    parts: dict[str, str] = {}
    found: dict[str, str] = {}
    for file in files:
        text = (_HERE / file).read_text(encoding="utf-8")
        head, mark, rest = text.partition("-- name: ")
        parts |= _named(head, "-- part: ")
        found |= _named(mark + rest, mark)
    return {name: statement.format_map(parts) for name, statement in found.items()}


QUERIES: dict[str, str] = statements("queries.sql")


def row_ids(run_no: int) -> tuple[int, int]:
    """The first number that a row of a run may have, and the first of the run that follows."""
    return run_no << 32, run_no + 1 << 32


def number_in_run(row_id: int) -> int:
    """Where a row is among those of its run: the same in each database that has the run."""
    return row_id & (1 << 32) - 1


def schema_statements() -> Iterator[str]:
    """The statements of ``schema.sql``, one at a time (``executescript`` would commit)."""
    statement = ""
    for line in (_HERE / "schema.sql").read_text(encoding="utf-8").splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement.strip()
            statement = ""


def _without_view(statement: str) -> str:
    # A file's schema may call no JSON function (PRAGMA trusted_schema = OFF), a query of ours may.
    begin = "CREATE VIEW pf_checkpoints AS"
    view = next(text for text in schema_statements() if begin in text)
    return statement.replace("pf_checkpoints", f"({view.partition(begin)[2].rstrip(';')})")


QUERIES["store_json"] = _without_view(QUERIES["store_json"])
