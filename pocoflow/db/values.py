"""The store of a run in the database: what each step changed, and how to put it together again."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from pocoflow import codec
from pocoflow.changes import Frozen, appended, extend, freeze, is_same
from pocoflow.db.sql import QUERIES
from pocoflow.errors import DecodeError, NotStorableError, UnknownClassError
from pocoflow.logging import get_logger
from pocoflow.store import Store, Unsaved

__all__ = ["APPENDED", "DELETED", "UNSAVED", "WHOLE", "Change", "ValueWriter", "read_store"]

WHOLE, APPENDED, DELETED, UNSAVED = 0, 1, 2, 3

_log = get_logger("db")


class Change(NamedTuple):
    """One key that a step changed: what is written, and what is remembered once it is committed."""

    key: str
    op: int
    text: str | None
    frozen: Frozen | Unsaved | None


class ValueWriter:
    """Remembers the store as it was last committed and writes only what differs from it.

    What counts as changed is the value, not the assignment: a list or model that was changed in
    place is found by comparing it with its last stored form.
    """

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._stored: dict[str, Frozen | Unsaved] = {}
        self._keys: dict[str, int] = {}
        self._told: set[str] = set()

    def changes(self, store: Mapping[str, Any], unsaved: Mapping[str, Unsaved]) -> list[Change]:
        """What the next commit has to write."""
        found = []
        stored = self._stored
        for key, value in store.items():
            known = stored.get(key)
            if known is None or isinstance(known, Unsaved) or not is_same(known, value):
                change = self._change(key, known, value)
                if change is not None:
                    found.append(change)
        for key, mark in unsaved.items():
            if key not in store and not _same_mark(stored.get(key), mark):
                found.append(_unsaved(key, mark))
        if len(stored) > len(store):
            gone = [key for key in stored if key not in store and key not in unsaved]
            found += [Change(key, DELETED, None, None) for key in gone]
        return found

    def _change(self, key: str, known: Frozen | Unsaved | None, value: Any) -> Change | None:
        try:
            if known is not None and not isinstance(known, Unsaved):
                start = appended(known, value)
                if start is not None:
                    return Change(
                        key, APPENDED, codec.dumps(value[start:]), extend(known, value, start)
                    )
            return Change(key, WHOLE, codec.dumps(value), freeze(value))
        except NotStorableError as exc:
            mark = Unsaved.because(exc)
            if _same_mark(known, mark):
                return None
            if key not in self._told:
                self._told.add(key)
                _log.warning("%s: store key %r is not saved: %s", self._owner, key, mark.reason)
            return _unsaved(key, mark)

    def write(
        self, raw: sqlite3.Connection, run_no: int, step: int, changes: Iterable[Change]
    ) -> None:
        """Write the changes of a step inside the caller's transaction."""
        for change in changes:
            key_no = self._keys.get(change.key)
            if key_no is None:
                key_no = self._keys[change.key] = len(self._keys)
                raw.execute(QUERIES["insert_key"], (run_no, key_no, change.key))
            raw.execute(QUERIES["insert_value"], (run_no, key_no, step, change.op, change.text))

    def accept(self, changes: Iterable[Change]) -> None:
        """Remember the changes as stored; called once their transaction is committed."""
        for change in changes:
            if change.frozen is None:
                self._stored.pop(change.key, None)
            else:
                self._stored[change.key] = change.frozen

    def load(self, raw: sqlite3.Connection, run_no: int, store: Store[Any]) -> None:
        """Begin from a store that was read from the database and has not been changed since."""
        self._keys = {row[0]: row[1] for row in raw.execute(QUERIES["keys_of_run"], (run_no,))}
        self._stored = {key: freeze(value) for key, value in store.items()}
        self._stored.update(store.unsaved)


def _unsaved(key: str, mark: Unsaved) -> Change:
    return Change(key, UNSAVED, json.dumps([mark.type_name, mark.reason]), mark)


def _same_mark(known: object, mark: Unsaved) -> bool:
    return (
        isinstance(known, Unsaved)
        and known.type_name == mark.type_name
        and known.reason == mark.reason
    )


def read_store(
    rows: Iterable[sqlite3.Row], label: str, name: str, schema: object, classes: codec.Classes
) -> Store[Any]:
    """Put a store together from the rows of ``values_at``.

    Raises:
        DecodeError: A stored value is damaged, or names a class that is not known here; the
            message names the key.
    """
    values: dict[str, Any] = {}
    marks: dict[str, Unsaved] = {}
    for key, op, text in rows:
        try:
            if op == WHOLE:
                values[key] = codec.loads(text, classes)
            elif op == APPENDED:
                values[key].extend(codec.loads(text, classes))
            elif op == UNSAVED:
                marks[key] = Unsaved(*json.loads(text))
        except UnknownClassError as exc:
            raise UnknownClassError(f"{label}: key {key!r}: {exc}") from exc
        except (DecodeError, ValueError, TypeError, KeyError, AttributeError) as exc:
            raise DecodeError(f"{label}: key {key!r} cannot be read: {exc}") from exc
    return Store.rebuild(values, marks, name, schema)
