"""The SQL of this package: ``schema.sql``, and ``queries.sql`` by name."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

VERSION = 2
"""The version of the layout, stored in ``PRAGMA user_version``."""

INTERRUPTED = (
    "interrupted: its process ended, or lost the database, before the end of the run was on record"
)

_HERE = Path(__file__).parent


def _named(text: str, mark: str) -> Iterator[tuple[str, str]]:
    for block in text.split(mark)[1:]:
        name, _, content = block.partition("\n")
        yield name.strip(), content.strip()


def statements(*files: str) -> dict[str, str]:
    """The statements of files by name, with the parts that the files define first filled in.

    Later files override earlier ones.
    """
    parts: dict[str, str] = {}
    templates: dict[str, str] = {}
    for file in files:
        text = (_HERE / file).read_text(encoding="utf-8")
        head, mark, rest = text.partition("-- name: ")
        parts |= _named(head, "-- part: ")
        templates |= _named(mark + rest, mark)
    return {name: statement.format_map(parts) for name, statement in templates.items()}


QUERIES: dict[str, str] = statements("queries.sql")


def row_ids(run_no: int) -> tuple[int, int]:
    """The range of the row ids of a run: the first one, and the first one after it."""
    return run_no << 32, run_no + 1 << 32


def number_in_run(row_id: int) -> int:
    """The position of a row in its run, which is the same in each database with the run."""
    return row_id & (1 << 32) - 1


def schema_statements() -> Iterator[str]:
    """The statements of ``schema.sql``, one at a time (``executescript`` would commit)."""
    statement = ""
    for line in (_HERE / "schema.sql").read_text(encoding="utf-8").splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement.strip()
            statement = ""
