"""Bringing a database file to the layout of this version."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from typing import Any

from pocoflow import codec
from pocoflow.db.sql import QUERIES, VERSION, schema_statements
from pocoflow.errors import DatabaseFileError, NotStorableError

__all__ = ["migrate"]

_OLD_TABLES = ("pf_checkpoints", "pf_events", "pf_runs")
_NEWEST = {"pf_items", "pf_pauses", "pf_questions"}
_OLD_UNSAVED = re.compile(r"<non-serialisable: (.+)>")


def migrate(raw: sqlite3.Connection, label: str, *, read_only: bool) -> sqlite3.Connection:
    """Give the connection to use: the same one, migrated in place inside one transaction.

    A read-only connection is never written to: an older layout is copied to memory and migrated
    there, and that connection is returned instead.

    Raises:
        DatabaseFileError: The file was written by a later version, or is not a database of ours.
    """
    version, tables = _inspect(raw)
    if tables and "pf_runs" not in tables:
        raise DatabaseFileError(
            f"{label} is a SQLite database, but not of pocoflow (its tables: "
            f"{', '.join(sorted(tables))})"
        )
    if version > VERSION:
        raise DatabaseFileError(
            f"database {label} has layout {version}, this pocoflow reads up to {VERSION}: "
            "upgrade pocoflow"
        )
    if tables and version == VERSION:
        if lacking := sorted(_NEWEST - tables):
            raise DatabaseFileError(
                f"database {label} was written by a version between 0.2.1 and 0.3 that was never "
                f"published, and lacks {', '.join(lacking)}: use another file, or the version that "
                "wrote it"
            )
        return raw
    if read_only:
        if not tables:
            raise DatabaseFileError(f"database {label} is empty: no flow has written to it yet")
        copy = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        copy.row_factory = sqlite3.Row
        try:
            raw.backup(copy)
            _bring_up(copy, label, old=True)
        except BaseException:
            copy.close()
            raise
        raw.close()
        return copy
    _bring_up(raw, label, old=bool(tables))
    return raw


def _inspect(raw: sqlite3.Connection) -> tuple[int, set[str]]:
    """The layout's version and the names of the tables, as of one instant."""
    raw.execute("BEGIN")
    try:
        version = raw.execute("PRAGMA user_version").fetchone()[0]
        rows = raw.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    finally:
        if raw.in_transaction:
            raw.execute("COMMIT")
    return version, {row[0] for row in rows}


def _bring_up(raw: sqlite3.Connection, label: str, *, old: bool) -> None:
    try:
        raw.execute("BEGIN IMMEDIATE")
        # Another process may have migrated between our look and our lock.
        if raw.execute("PRAGMA user_version").fetchone()[0] != VERSION:
            _create(raw, label, old=old)
        raw.execute("COMMIT")
    except BaseException:
        if raw.in_transaction:
            raw.execute("ROLLBACK")
        raise


def _create(raw: sqlite3.Connection, label: str, *, old: bool) -> None:
    if old:
        for table in _OLD_TABLES:
            raw.execute(f"ALTER TABLE {table} RENAME TO old_{table}")
        for (index,) in raw.execute(
            "SELECT name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
        ).fetchall():
            raw.execute(f'DROP INDEX "{index}"')
    for statement in schema_statements():
        raw.execute(statement)
    if old:
        _copy_runs(raw)
        _copy_events(raw)
        _copy_checkpoints(raw, label)
        for table in _OLD_TABLES:
            raw.execute(f"DROP TABLE old_{table}")
    raw.execute(f"PRAGMA user_version = {VERSION}")


def _copy_runs(raw: sqlite3.Connection) -> None:
    raw.execute(
        "INSERT INTO pf_runs (run_id, flow_name, status, started_at, completed_at, total_steps, "
        "current_node, error_msg) SELECT run_id, coalesce(flow_name, ''), status, started_at, "
        "completed_at, coalesce(total_steps, 0), current_node, error_msg FROM old_pf_runs "
        "ORDER BY started_at, rowid"
    )


def _copy_events(raw: sqlite3.Connection) -> None:
    raw.execute(
        "INSERT INTO pf_events (id, run_id, step, node_name, event, action, elapsed_ms, error_msg, "
        "ts) SELECT (r.run_no << 32) + row_number() OVER (PARTITION BY e.run_id ORDER BY e.id), "
        "e.run_id, e.step, e.node_name, e.event, e.action, e.elapsed_ms, e.error_msg, "
        "coalesce(e.ts, '') FROM old_pf_events AS e JOIN pf_runs AS r ON r.run_id = e.run_id"
    )


def _copy_checkpoints(raw: sqlite3.Connection, label: str) -> None:
    """Write each old full copy of a store as what changed since the copy before it."""
    rows = raw.execute(
        "SELECT r.run_no, r.run_id, c.step, c.node_name, c.store_json, c.created_at "
        "FROM old_pf_checkpoints AS c JOIN pf_runs AS r ON r.run_id = c.run_id "
        "ORDER BY r.run_no, c.step"
    )
    run_no, keys, before = 0, {}, {}  # type: int, dict[str, int], dict[str, tuple[int, str]]
    for row in rows:
        if row["run_no"] != run_no:
            run_no, keys, before = row["run_no"], {}, {}
        raw.execute(
            QUERIES["insert_step"],
            (run_no, row["step"], row["node_name"] or "", row["created_at"] or ""),
        )
        try:
            values = json.loads(row["store_json"]).items()
        except (ValueError, TypeError, AttributeError, RecursionError) as exc:
            raise DatabaseFileError(
                f"database {label}: the checkpoint of step {row['step']} of run "
                f"{row['run_id']!r} cannot be read ({exc}), so the file is left as it is"
            ) from exc
        after = {key: _old_value(value) for key, value in values}
        for key, op, text in _old_changes(before, after):
            if key not in keys:
                keys[key] = len(keys)
                raw.execute(QUERIES["insert_key"], (run_no, keys[key], key, ""))
            raw.execute(QUERIES["insert_value"], (run_no, keys[key], row["step"], op, text))
        before = after


def _old_changes(
    before: dict[str, tuple[int, str]], after: dict[str, tuple[int, str]]
) -> Iterator[tuple[str, int, str | None]]:
    for key, stored in after.items():
        if before.get(key) != stored:
            yield key, *stored
    for key in before.keys() - after.keys():
        yield key, 2, None


def _old_value(value: Any) -> tuple[int, str]:
    """A value of 0.2.1 as (op, text); a place-holder in it means that it was never saved."""
    lost = _find_place_holder(value)
    if lost is not None:
        return 3, json.dumps([lost, f"{lost} could not be stored by the version that wrote it"])
    try:
        return 0, codec.dumps(value)
    except NotStorableError as exc:
        return 3, json.dumps([exc.type_name, str(exc)])


def _find_place_holder(value: Any) -> str | None:
    if isinstance(value, str):
        match = _OLD_UNSAVED.fullmatch(value)
        return match[1] if match else None
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return next(filter(None, map(_find_place_holder, inner)), None)
