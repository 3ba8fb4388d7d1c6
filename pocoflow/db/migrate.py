"""The layout of a database file, and the migration of files of version 0.2.1."""

from __future__ import annotations

import json
import os
import re
import shlex
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from functools import cache
from itertools import chain, count
from pathlib import Path
from typing import Literal, TypeAlias

from pocoflow.db.log import Kind, append_foreign
from pocoflow.db.sql import INTERRUPTED, QUERIES, VERSION, schema_statements
from pocoflow.db.values import ValueWriter
from pocoflow.errors import DatabaseFileError, Remedy
from pocoflow.store.missing import Unsaved
from pocoflow.store.store import Store

_OLD_COLUMNS = {
    "pf_runs": (
        *("run_id", "flow_name", "status", "started_at", "completed_at", "total_steps"),
        *("current_node", "error_msg"),
    ),
    "pf_checkpoints": ("id", "run_id", "step", "node_name", "store_json", "created_at"),
    "pf_events": (
        *("id", "run_id", "step", "node_name", "event", "action", "elapsed_ms", "error_msg", "ts"),
    ),
}
_OLD_UNSAVED = re.compile(r"<non-serialisable: (.+)>")
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)

_Object: TypeAlias = tuple[str, str, str, str | None]
"""Type, name, table and SQL text."""

# Everything with a name of ours, or on a table with one.
_OBJECTS = r"""
SELECT type, name, tbl_name, sql FROM sqlite_master
WHERE name LIKE 'pf\_%' ESCAPE '\' OR tbl_name LIKE 'pf\_%' ESCAPE '\'
"""


Layout: TypeAlias = Literal["empty", "0.2.1", "current"]
"""The layout of a file."""


def protect(raw: sqlite3.Connection) -> None:
    """Keep the schema of a file from calling functions with side effects; detect damaged pages."""
    raw.execute("PRAGMA trusted_schema = OFF")
    raw.execute("PRAGMA cell_size_check = ON")
    if hasattr(raw, "setconfig"):  # since Python 3.12
        raw.setconfig(getattr(sqlite3, "SQLITE_DBCONFIG_DEFENSIVE"), True)  # noqa: B009


def layout_of(raw: sqlite3.Connection, label: str) -> Layout:
    """The layout of a file, whose objects named ``pf_*`` must be exactly those of that layout.

    Users' own tables, and views and indexes on them, are ignored.

    Raises:
        DatabaseFileError: It is not our database, is of a later version, or was changed.
    """
    version, tables, objects = _inspect(raw)
    if not tables and not objects:
        return "empty"
    if not any(name == "pf_runs" for _, name, _, _ in objects):
        raise DatabaseFileError(
            f"{label} is a SQLite database, but not of pocoflow (its tables: "
            f"{', '.join(sorted(tables)[:20])})"
        )
    if version > VERSION:
        raise DatabaseFileError(
            f"database {label} has layout {version}, this pocoflow reads up to {VERSION}: "
            "upgrade pocoflow"
        )
    if 0 < version < VERSION:
        raise DatabaseFileError(
            f"database {label} was written by a version between 0.2.1 and 0.3 that was never "
            f"published (layout {version}): use another file, or the version that wrote it"
        )
    if version == VERSION:
        _refuse_unknown(objects - _objects_of_this_version(), label)
        if lacking := _objects_of_this_version() - objects:
            gone = frozenset(o for o in lacking if o[:2] not in {known[:2] for known in objects})
            what = f"it lacks {_names(gone)}" if gone else f"{_names(lacking)} is not as it was"
            raise DatabaseFileError(f"database {label} was changed: {what}; use another file")
        return "current"
    _check_old(raw, objects, label)
    return "0.2.1"


def _inspect(raw: sqlite3.Connection) -> tuple[int, set[str], set[_Object]]:
    """The version of the layout, the names of the tables, and our objects, read atomically."""
    begins = not raw.in_transaction
    if begins:
        raw.execute("BEGIN")
    try:
        version = raw.execute("PRAGMA user_version").fetchone()[0]
        rows = raw.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        objects = {tuple(row) for row in raw.execute(_OBJECTS)}
    finally:
        if begins and raw.in_transaction:
            raw.execute("COMMIT")
    return version, {str(row[0]) for row in rows}, objects


@cache
def _objects_of_this_version() -> frozenset[_Object]:
    with closing(sqlite3.connect(":memory:")) as raw:
        for statement in schema_statements():
            raw.execute(statement)
        return frozenset(raw.execute(_OBJECTS))


def _refuse_unknown(objects: set[_Object], label: str) -> None:
    known = {name for _, name, _, _ in _objects_of_this_version()}
    for kind, name, table, _ in sorted(objects, key=str):
        if name not in known:
            about = "" if name == table else f" on {table}"
            raise DatabaseFileError(
                f"database {label} has a {kind} {name!r}{about} that is not pocoflow's and could "
                f"change what is read and written: if you know it, remove it with DROP "
                f"{kind.upper()}; if not, do not trust the file"
            )


def _names(objects: frozenset[_Object]) -> str:
    return ", ".join(sorted({name for _, name, _, _ in objects}))


def _check_old(raw: sqlite3.Connection, objects: set[_Object], label: str) -> None:
    for kind, name, table, sql in sorted(objects, key=str):
        # Its indexes go away with its tables.
        is_old = kind == "table" and name in _OLD_COLUMNS and (sql or "").startswith("CREATE TABLE")
        if not is_old and (kind != "index" or name.startswith("pf_")):
            raise DatabaseFileError(
                f"database {label} has a {kind} {name!r} (of {table}), which neither 0.2.1 nor "
                "this version has made: use another file"
            )
    for table, columns in _OLD_COLUMNS.items():
        rows = raw.execute(f"PRAGMA table_xinfo({table})").fetchall()
        present = {row["name"] for row in rows if not row["hidden"]}
        if lacking := [column for column in columns if column not in present]:
            raise DatabaseFileError(
                f"database {label} has a table {table} without {', '.join(lacking)}, so it is "
                "neither of 0.2.1 nor of this version: use another file"
            )


def create(raw: sqlite3.Connection, label: str) -> None:
    """Create the layout in an empty file, unless another process has just done so."""
    with _locked(raw):
        if layout_of(raw, label) == "empty":
            _create_layout(raw)


def copy_of_old(raw: sqlite3.Connection, label: str) -> sqlite3.Connection:
    """A copy of a file of 0.2.1 in the current layout, in memory; the file is only read.

    A checkpoint that cannot be read is empty in the copy, so that the others can be read.
    """
    copy = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    copy.row_factory = sqlite3.Row
    try:
        protect(copy)
        raw.backup(copy)
        with _locked(copy):
            _transform(copy, label, strict=False)
    except BaseException:
        copy.close()
        raise
    return copy


def migrate(raw: sqlite3.Connection, label: str, file: Path, *, close_running: bool) -> Path | None:
    """Migrate a file of 0.2.1 to the current layout in one transaction, after copying it.

    Args:
        raw: A connection to it without any settings yet.
        label: The name of the file in messages.
        file: The path of the file.
        close_running: Whether to record runs with the status running as interrupted.

    Returns:
        The path of the copy; ``None`` if another process has migrated the file.

    Raises:
        DatabaseFileError: A run has the status running, or a row cannot be read, or no copy can be
            made; the file is unchanged.
    """
    copy = None
    raw.execute("PRAGMA foreign_keys = OFF")
    try:
        with _locked(raw):
            # Another process may have migrated it after our check, before our lock.
            if layout_of(raw, label) != "0.2.1":
                return None
            if not close_running:
                _refuse_running(raw, label)
            copy = _store_copy(label, file)
            _transform(raw, label, strict=True)
            if close_running:
                raw.execute(QUERIES["close_running"], (INTERRUPTED,))
    except BaseException:
        if copy is not None:
            copy.unlink()
        raise
    return copy


@contextmanager
def _locked(raw: sqlite3.Connection) -> Iterator[None]:
    try:
        raw.execute("BEGIN IMMEDIATE")
        yield
        raw.execute("COMMIT")
    except BaseException:
        if raw.in_transaction:
            raw.execute("ROLLBACK")
        raise


def _refuse_running(raw: sqlite3.Connection, label: str) -> None:
    rows = raw.execute("SELECT run_id FROM pf_runs WHERE status = 'running' LIMIT 4").fetchall()
    if not rows:
        return
    shown = ", ".join(f"{row[0]!r:.80}" for row in rows[:3]) + (", ..." if rows[3:] else "")
    command = shlex.join(["pocoflow", "migrate-db", "--close-running", label])
    raise DatabaseFileError(
        f"database {label} was written by pocoflow 0.2.1, and a run of it reads as running "
        f"({shown}): a process of 0.2.1 could not go on once the file has the layout of this "
        f"version. If none is at work any more, '{command}' records such runs as interrupted and "
        "migrates the file; until then it is only read",
        remedies=[
            Remedy(
                "if none is at work any more",
                f"WorkflowDB({label!r}).migrate(close_running=True)",
                ("migrate-db", "--close-running", label),
            )
        ],
    )


def _store_copy(label: str, file: Path) -> Path:
    """Copy the file to a new file in the same folder that only its owner can read."""
    first = file.with_name(f"{file.name}-0.2.1")
    names = chain([first], (first.with_name(f"{first.name}.{number}") for number in count(2)))
    try:
        copy = next(filter(_is_new, names))
    except OSError as exc:
        raise DatabaseFileError(
            f"database {label} was written by pocoflow 0.2.1 and is not migrated, as no copy of "
            f"it can be kept in {file.parent}: {exc.strerror}"
        ) from exc
    try:
        # Through a separate connection, as the one with the lock cannot be the source.
        source = sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)
        with closing(source), closing(sqlite3.connect(copy)) as target:
            source.backup(target)
    except BaseException:
        copy.unlink()
        raise
    return copy


def _is_new(path: Path) -> bool:
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | _NOFOLLOW, 0o600))
    except FileExistsError:
        return False
    return True


def _create_layout(raw: sqlite3.Connection) -> None:
    for statement in schema_statements():
        raw.execute(statement)
    raw.execute(f"PRAGMA user_version = {VERSION}")


def _transform(raw: sqlite3.Connection, label: str, *, strict: bool) -> None:
    """Convert the tables of 0.2.1 to the current layout, in the caller's transaction."""
    # With it, views and foreign keys of users' own tables refer to the new tables.
    raw.execute("PRAGMA legacy_alter_table = ON")
    try:
        for table in _OLD_COLUMNS:
            _move_away(raw, table)
        _create_layout(raw)
        _copy_runs(raw)
        _copy_checkpoints(raw, label, strict=strict)
        _copy_events(raw)
        for table in _OLD_COLUMNS:
            raw.execute(f"DROP TABLE old_{table}")
    except sqlite3.IntegrityError as exc:
        raise DatabaseFileError(
            f"database {label} was written by pocoflow 0.2.1 and has a row that it cannot have "
            f"written ({exc}), so the file is left as it is"
        ) from exc


def _move_away(raw: sqlite3.Connection, table: str) -> None:
    for row in raw.execute(f"PRAGMA index_list({table})").fetchall():
        if row["origin"] == "c":
            raw.execute('DROP INDEX "{}"'.format(row["name"].replace('"', '""')))
    raw.execute(f"ALTER TABLE {table} RENAME TO old_{table}")


def _copy_runs(raw: sqlite3.Connection) -> None:
    raw.execute(
        "INSERT INTO pf_run (run_id, flow_name, status, started_at, completed_at, total_steps, "
        "current_node, error_msg) SELECT run_id, coalesce(flow_name, ''), status, started_at, "
        "completed_at, coalesce(total_steps, 0), current_node, error_msg FROM old_pf_runs "
        "ORDER BY started_at, rowid"
    )


def _copy_events(raw: sqlite3.Connection) -> None:
    rows = raw.execute(
        "SELECT r.run_no, e.step, e.node_name, e.event, e.action, e.elapsed_ms, e.error_msg, e.ts "
        "FROM old_pf_events AS e JOIN pf_run AS r ON r.run_id = e.run_id ORDER BY e.id"
    ).fetchall()
    for run_no, step, node, event, action, elapsed, message, ts in rows:
        facts = {"node": node, "event": event, "action": action, "message": message}
        length = None if elapsed is None else round(elapsed * 1000)
        append_foreign(raw, run_no, Kind.EVENT, step, at=_micros(ts), elapsed=length, **facts)


def _micros(text: object) -> int:
    """A time of 0.2.1, which is ISO-8601 text, in UTC unless it has an offset."""
    try:
        time = datetime.fromisoformat(str(text))
    except ValueError:
        return 0
    time = time if time.tzinfo is not None else time.replace(tzinfo=UTC)
    return int(time.timestamp() * 1_000_000)


def _copy_checkpoints(raw: sqlite3.Connection, label: str, *, strict: bool) -> None:
    """Write each old full copy of a store as its changes to the previous copy."""
    rows = raw.execute(
        "SELECT r.run_no, r.run_id, c.step, c.node_name, c.store_json, c.created_at "
        "FROM old_pf_checkpoints AS c JOIN pf_run AS r ON r.run_id = c.run_id "
        "ORDER BY r.run_no, c.step"
    )
    run_no, writer, before = 0, ValueWriter(""), dict[str, object]()
    for row in rows:
        if row["run_no"] != run_no:
            run_no, before = row["run_no"], {}
            writer = ValueWriter(f"run {row['run_id']!r} of database {label}")
        facts = {"node": row["node_name"] or "", "at": _micros(row["created_at"])}
        append_foreign(raw, run_no, Kind.CHECKPOINT, row["step"], **facts)
        try:
            after = dict[str, object](json.loads(row["store_json"]).items())
            lost = {key: _lost(value) for key, value in after.items()}
        except (ValueError, TypeError, AttributeError, RecursionError) as exc:
            reason = (
                f"the checkpoint of step {row['step']} of run {row['run_id']!r} cannot be read "
                f"({exc})"
            )
            if strict:
                raise DatabaseFileError(
                    f"database {label}: {reason}, so the file is left as it is"
                ) from exc
            after = before or {"store_json": None}
            lost = dict.fromkeys(after, Unsaved("damaged", reason))
        unsaved = {key: mark for key, mark in lost.items() if mark is not None}
        whole = {key: value for key, value in after.items() if key not in unsaved}
        changes = writer.changes(Store.rebuild(whole, unsaved))
        writer.write(raw, run_no, row["step"], changes)
        writer.accept(changes)
        before = after


def _lost(value: object) -> Unsaved | None:
    """Why a value of 0.2.1 was never saved, if it contains a placeholder."""
    name = _find_placeholder(value)
    why = f"{name} could not be stored by the version that wrote it"
    return None if name is None else Unsaved(name, why)


def _find_placeholder(value: object) -> str | None:
    if isinstance(value, str):
        match = _OLD_UNSAVED.fullmatch(value)
        return match[1] if match else None
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return next(filter(None, map(_find_placeholder, inner)), None)
