"""The store of a run in the database: the changes of each step, and how to assemble it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set as AbstractSet
from contextlib import suppress
from itertools import count
from typing import Any, NamedTuple, Protocol, TypeAlias

from pocoflow import values as codec
from pocoflow.db.port import Transaction
from pocoflow.db.rows import checked, is_mark, read_json
from pocoflow.db.sql import QUERIES, row_ids
from pocoflow.errors import DecodeError, NotStorableError, UnknownClassError
from pocoflow.logging import OwnLogger
from pocoflow.store.branch_view import BranchValues
from pocoflow.store.missing import Unsaved
from pocoflow.store.store import Store
from pocoflow.store.watch import Changed, Watch
from pocoflow.values.changes.difference import Change as Edit
from pocoflow.values.changes.frozen import Frozen, difference, freeze, freeze_parts, is_same
from pocoflow.values.changes.together import assemble, tree_of
from pocoflow.values.encoding import TAG, is_utf8, to_json
from pocoflow.values.failures import escaped

WHOLE, APPENDED, DELETED, UNSAVED, CHANGED = 0, 1, 2, 3, 4

INITIAL = -1
"""The step of the store before the first node."""

_FITS = 900
"""The maximum size in bytes of a value in ``pf_value``; a page holds 1,002 bytes of a row."""

_SMALL = 400
"""Values up to this length are always written as a whole, which keeps the table readable."""

_FEW = 50
_ROW = 300
"""About the number of characters that are read in the time of reading one more change."""

_log = OwnLogger("db")


Stored: TypeAlias = Sequence[Any]
"""A row, or the equivalent: a stored key, an operation and a text."""


class Size(NamedTuple):
    """The stored size, in characters, of a value all of whose parts could be stored.

    Attributes:
        whole: The size of the last whole value, and of what was appended to it.
        since: The size of other changes since. A new whole value is written before it is twice as
            large.
        rows: The number of changes. A new whole value is written before reading the changes takes
            much longer than reading the value.
    """

    whole: int
    since: int = 0
    rows: int = 0

    @property
    def has_room(self) -> bool:
        """Whether another change may be written after the last whole value."""
        return self.rows < _FEW or _ROW * self.rows <= self.whole

    def takes(self, text: str) -> bool:
        """Whether a change is written, instead of the whole value."""
        most = 2 * self.whole
        fits = self.whole > max(_SMALL, len(text)) and self.since + len(text) <= most
        return fits and self.has_room

    def grown(self, by: int, since: int = 0) -> Size:
        """The size after another change that appends and changes these numbers of characters."""
        return Size(self.whole + by, self.since + since, self.rows + 1)


class Change(NamedTuple):
    """A key that a step changed: what to write, and what to remember after the commit."""

    key: str
    op: int
    text: str | None
    value: object = None
    frozen: Frozen | None = None
    size: Size | None = None

    @property
    def stored_key(self) -> str:
        """The key in its stored form."""
        return _key_text(self.key)

    def unsure(self) -> Change:
        """The same change, after another thread changed the value while it was encoded.

        Its text may be inconsistent: the value is written as a whole with the next commit.
        """
        return self._replace(frozen=freeze(object()), size=None)


class Recorded(Protocol):
    """What can be recorded: a store, or the own values of a parallel branch."""

    def own_items(self) -> Iterable[tuple[str, object]]:
        """The keys whose values may have changed since its start, with their values."""

    def __iter__(self) -> Iterator[str]: ...

    @property
    def unsaved(self) -> Mapping[str, Unsaved]:
        """Keys whose values could not be stored."""

    def __contains__(self, key: object, /) -> bool: ...

    def recheck(self, key: str, changes: Iterable[Edit] | None = None, /) -> bool:
        """Check a value that was changed in place, or the changes in it.

        Returns:
            Whether validators saw all values, and may have changed them in place.
        """


class ValueWriter:
    """Remembers the last committed store, and writes only the differences from it.

    Values are compared, not assignments: a list or model that was changed in place is found by
    comparing it with its last stored form.

    Attributes:
        watch: The store as it was last committed.
    """

    def __init__(
        self,
        owner: str,
        numbers: Iterator[int] | None = None,
        watch: Watch | None = None,
        unsaved: Mapping[str, Unsaved] | None = None,
    ) -> None:
        self._owner = owner
        self.line = 0
        self.numbers = count() if numbers is None else numbers
        self.watch = Watch() if watch is None else watch
        self._unsaved = dict(unsaved or {})
        self._keys: dict[str, int] = {}
        self._new_keys: set[str] = set()  # of a transaction that is not committed yet
        self._sizes: dict[str, Size] = {}
        self.remarked: set[str] = set()
        self.remarks: list[str] = []
        self.classes = codec.Classes()

    def changes(self, store: Recorded, touched: Store | None = None) -> list[Change]:
        """The changes that the next commit has to write.

        Args:
            store: The values.
            touched: That store, to compare only values that were touched in it.

        Raises:
            InvalidValueError: A value was changed in place into one that does not fit.
        """
        changes: list[Change] = []
        items: Iterable[tuple[str, object]]
        if touched is None:
            items, removed = store.own_items(), self.watch.gone(store)
        else:
            items, removed = touched.touched()
        changed = [*self.watch.changed_among(items)]
        rechecked = [self._recheck(store, entry) for entry in changed]
        if any(rechecked):  # validators may have changed any value in place
            changed = [*self.watch.changed_among(store.own_items())]
        for key, value, known, is_long, found in changed:
            before = None if key in self._unsaved else known
            if before is not None and not is_long:
                found = difference(before, value)
            change = self._change(key, value, before, found)
            if change is not None:
                changes.append(change)
        for key, mark in store.unsaved.items():
            if self._unsaved.get(key) != mark:
                changes.append(_unsaved(key, mark))
        if removed or self._unsaved:
            deleted = {key: None for key in removed if key in self.watch}
            deleted |= {key: None for key in self._unsaved if key not in store}
            changes += [Change(key, DELETED, None) for key in deleted if key not in store.unsaved]
        return changes

    def _recheck(self, store: Recorded, changed: Changed) -> bool:
        edits = changed.found[0] if changed.found and changed.key not in self._unsaved else None
        return store.recheck(changed.key, edits)

    def _change(
        self,
        key: str,
        value: object,
        before: Frozen | str | None = None,
        diff: tuple[Sequence[Edit], Frozen] | None = None,
    ) -> Change | None:
        frozen = None
        try:
            if before is not None:
                change = self._changed(key, value, before, diff)
                if change is not None:
                    return change
            frozen = freeze_parts(value)
            text, is_whole = self._encoded(key, value, key)
            size = Size(len(text)) if is_whole else None
            change = Change(key, WHOLE, text, value, frozen, size)
            return change if frozen is None or is_same(frozen, value) else change.unsure()
        except NotStorableError as exc:
            mark = Unsaved.because(exc)
            if self._unsaved.get(key) == mark:
                return None
            self._report(key, "", mark.reason)
            return _unsaved(key, mark, frozen or freeze(value))

    def _changed(
        self,
        key: str,
        value: Any,
        before: Frozen | str,
        diff: tuple[Sequence[Edit], Frozen] | None,
    ) -> Change | None:
        """The change of a value, or ``None`` if it is to be written as a whole."""
        size = self._sizes.get(key)
        if isinstance(before, str):
            is_short = size is None or size.whole <= _SMALL or not size.has_room
            if size is None or is_short or not _continues(before, value):
                return None
            tail = codec.dumps(value[len(before) :])
            return Change(key, APPENDED, tail, value, None, size.grown(len(tail)))
        if diff is None:
            return None
        edits, frozen = diff
        if [(edit.path, edit.operation) for edit in edits] == [((), "append")]:
            if size is not None and not size.has_room:
                return None
            tail = edits[0].value
            tail, is_whole = self._encoded(key, tail, key, len(value) - len(tail))
            size = size.grown(len(tail)) if size is not None and is_whole else None
            change = Change(key, APPENDED, tail, value, frozen, size)
            return change if edits[0].is_still() else change.unsure()
        if size is None or size.whole <= _SMALL:
            return None
        strangers: set[type] = set()
        try:
            texts = [_text_of(edit, strangers) for edit in edits]
        except NotStorableError:
            return None
        text = f"[{','.join(texts)}]"
        if not size.takes(text):
            return None
        self.report_strangers(strangers, f"store key {key!r}", self.classes.of_field(key))
        grown = sum(len(part) for part, edit in zip(texts, edits, strict=True) if edit.grows)
        change = Change(key, CHANGED, text, value, frozen, size.grown(grown, len(text) - grown))
        return change if all(edit.is_still() for edit in edits) else change.unsure()

    def _encoded(self, key: str, value: object, name: str, first: int = 0) -> tuple[str, bool]:
        """The text of a value, and whether all of it could be stored."""
        strangers: set[type] = set()
        text, marks = codec.keep(value, name, strangers, first)
        if strangers:
            self.report_strangers(strangers, f"store key {key!r}", self.classes.of_field(key))
        if marks:
            self._report(key, "a part of ", "; ".join(reason for _, reason in marks[:3]))
        return text, not marks

    def _report(self, key: str, part: str, reason: str) -> None:
        self.remark(f"key {key}", f"{part}store key {key!r} is not saved: {reason}")

    def remark(self, about: str, text: str) -> None:
        """Log a remark, once per run, and record it with the next row."""
        if about not in self.remarked:
            self.remarked.add(about)
            _log.warning("%s: %s", self._owner, text)
            self.remarks.append(text)

    @property
    def note(self) -> str | None:
        """The remarks that are not recorded yet; :meth:`accept` clears them."""
        return escaped("\n".join(self.remarks)) if self.remarks else None

    def report_strangers(self, strangers: set[type], what: str, classes: codec.Classes) -> None:
        """Report, once each, the classes in a value that readers will not find."""
        for name in sorted(codec.strange_names(strangers, classes)):
            self.remark(
                f"class {name}",
                f"{what} holds an instance of {name}, which cannot be found by that name when it "
                "is read back: define the class at the top level of a module, or name it, as in "
                f"Flow(..., aliases={{{name!r}: <class>}})",
            )

    def write(self, raw: Transaction, run_no: int, step: int, changes: Iterable[Change]) -> None:
        """Write the changes of a step in the caller's transaction."""
        for change in changes:
            key_no = self._keys.get(change.key)
            if key_no is None or change.key in self._new_keys:
                if key_no is None:
                    key_no = self._keys[change.key] = next(self.numbers)
                    self._new_keys.add(change.key)
                row = (run_no, key_no, self.line, _key_text(change.key))
                raw.execute(QUERIES["insert_key"], row)
            op, text = change.op, change.text
            if text is None or _fits(text):
                raw.execute(QUERIES["insert_value"], (run_no, key_no, step, op, text))
            else:
                first, end = row_ids(run_no)
                raw.execute(QUERIES["insert_blob"], {"first": first, "end": end, "value": text})
                raw.execute(QUERIES["insert_value_of_blob"], (run_no, key_no, step, op))

    def amend(
        self,
        raw: Transaction,
        run_no: int,
        step: int,
        store: Store,
        keys: Iterable[str],
    ) -> list[Change]:
        """Write again, as values of a step, stored values that validators have converted."""
        changes = []
        for key in keys:
            if key in self._keys and key in store and self.watch.differs(key, store[key]):
                raw.execute(QUERIES["delete_value"], (run_no, self._keys[key], step))
                change = self._change(key, store[key])
                changes += [] if change is None else [change]
        self.write(raw, run_no, step, changes)
        return changes

    def accept(self, changes: Iterable[Change]) -> None:
        """Remember the changes as stored; called once their transaction is committed."""
        self.remarks.clear()
        self._new_keys.clear()
        for change in changes:
            self._unsaved.pop(change.key, None)
            self._sizes.pop(change.key, None)
            if change.size is not None:
                self._sizes[change.key] = change.size
            if change.op == DELETED:
                self.watch.forget(change.key)
            elif isinstance(change.value, Unsaved):
                self._unsaved[change.key] = change.value
                if change.frozen is None:
                    self.watch.forget(change.key)
                else:
                    self.watch.remember(change.key, None, change.frozen)
            else:
                self.watch.remember(change.key, change.value, change.frozen)

    def load(self, raw: Transaction, run_no: int, stored: Store, step: int) -> None:
        """Start from a store as it was after a step, unchanged since."""
        rows = checked(raw.execute(QUERIES["keys_of_run"], (run_no,)).fetchall(), self._owner)
        self._keys = {key_of(row[0]): row[1] for row in rows if row[2] == self.line}
        self.numbers = count(rows[-1][1] + 1 if rows else 0)
        for key, value in stored.items():
            self.watch.remember(key, value)
        self._unsaved = dict(stored.unsaved)
        rows = raw.execute(QUERIES["values_at"], {"run_no": run_no, "step": step}).fetchall()
        self._load_sizes(rows, stored)

    def _load_sizes(self, rows: Iterable[Stored], store: Recorded) -> None:
        """Determine the sizes of values whose stored form is what would be written now.

        Others, as of a class with new fields, are written as a whole when they change.
        """
        stored = pieces_of(rows)
        for key, value in store.own_items():
            pieces = stored.get(_key_text(key))
            if pieces is None or pieces[0][0] != WHOLE:
                continue
            with suppress(NotStorableError, DecodeError):
                if codec.dumps(value) == whole_text(pieces):
                    since = sum(len(text) for op, text in pieces if op == CHANGED)
                    whole = sum(len(text) for _, text in pieces) - since
                    self._sizes[key] = Size(whole, since, len(pieces) - 1)

    def load_branch(
        self,
        keys: Mapping[str, int],
        store: Recorded,
        rows: Iterable[Stored],
        migrated: AbstractSet[str] = frozenset(),
    ) -> None:
        """Start from a branch as it was last committed; it has set these keys."""
        self._keys = dict(keys)
        for key, value in store.own_items():
            if key in keys:
                self.watch.remember(key, value)
        for key in keys:
            if key not in store and key in migrated:
                self.watch.remember(key, None)  # so that it is deleted
            elif key not in store or key in migrated:
                self.watch.forget(key)  # so that it is written as a whole
        self._unsaved.update(store.unsaved)
        self._load_sizes(rows, store)


def _fits(text: str) -> bool:
    """Whether a value fits into ``pf_value``; its bytes are only counted if that may matter."""
    size = len(text)
    return size <= _FITS and (4 * size <= _FITS or len(text.encode()) <= _FITS)


def _text_of(change: Edit, strangers: set[type]) -> str:
    """The text of a change.

    Raises:
        NotStorableError: A part of it cannot be stored.
    """
    path, operation, value = change[:3]
    if operation == "splice":
        start, count, inserted = value
        text = f"[{start},{count},{codec.dumps(inserted, strangers, len(path))}]"
    else:
        text = codec.dumps(value, strangers, len(path))
    return f'[{to_json(path)},"{operation}",{text}]'


def _continues(before: str, value: object) -> bool:
    """Whether a value is the text with more appended, and both are stored unescaped."""
    return type(value) is str and value.startswith(before) and is_utf8(value) and is_utf8(before)


def _unsaved(key: str, mark: Unsaved, frozen: Frozen | None = None) -> Change:
    if mark.text is not None:
        return Change(key, WHOLE, mark.text, mark)
    text = json.dumps([mark.type_name, mark.reason], separators=(",", ":"))
    return Change(key, UNSAVED, text, mark, frozen)


# A key is stored as text. One that SQLite cannot hold as text, such as a number in the dict of an
# untyped flow, is stored in its encoded form, after a prefix.
CODED = "$key:"


def _key_text(key: object) -> str:
    if type(key) is str and not key.startswith(CODED) and key.isprintable():
        return key
    return CODED + codec.dumps(key)


def stored_text(text: str) -> str:
    """A form of a text that any database can hold; :func:`key_of` restores the text."""
    if text.startswith(CODED) or "\0" in text:
        return CODED + codec.dumps(text)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return CODED + codec.dumps(text)
    return text


def key_of(text: str) -> Any:
    """The key, or the text, of a stored form."""
    return codec.loads(text[len(CODED) :]) if text.startswith(CODED) else text


def read_values(rows: Iterable[Stored], label: str, classes: codec.Classes) -> BranchValues:
    """Assemble values from rows of key, operation and text.

    The key of a value of an unknown class is marked as unreadable.

    Raises:
        DecodeError: A stored value is damaged; the message names the key.
    """
    read = BranchValues({}, {}, [], {})
    for stored_key, pieces in pieces_of(rows).items():
        key, (op, text) = key_of(stored_key), pieces[0]
        if op == DELETED:
            read.deleted.append(key)
        elif op == UNSAVED:
            read.unsaved[key] = Unsaved(*read_mark(text, f"{label}: key {key!r}"))
        else:
            _read_value(read, key, pieces, label, classes)
    return read


def pieces_of(rows: Iterable[Stored]) -> dict[str, list[tuple[int, str]]]:
    """The pieces of each stored key, operations and texts, from the last whole value on."""
    by_key: dict[str, list[tuple[int, str]]] = {}
    last, pieces = None, list[tuple[int, str]]()
    for key, op, text, *_ in rows:
        is_change = op in (APPENDED, CHANGED)
        if key != last or not is_change:
            last, before = key, by_key.pop(key, [])
            pieces = by_key[key] = before if is_change else []
        pieces.append((op, text))
    return by_key


def store_text(rows: Iterable[Stored]) -> str:
    """The JSON text of a store, assembled from the rows of ``values_at``."""
    fields = []
    for key, pieces in pieces_of(rows).items():
        op, text = pieces[0]
        if op != DELETED:
            mark = f'{{"{TAG}":"not saved","value":{text}}}'
            fields.append(f"{to_json(key)}:{mark if op == UNSAVED else whole_text(pieces)}")
    return f"{{{','.join(fields)}}}"


def _read_value(
    read: BranchValues,
    key: str,
    pieces: Sequence[tuple[int, str]],
    label: str,
    classes: codec.Classes,
) -> None:
    classes, has_whole = classes.of_field(key), pieces[0][0] == WHOLE
    value: Any
    try:
        if any(op == CHANGED for op, _ in pieces):
            value = tree_of(*_in_order(pieces))
            if any(TAG in text for _, text in pieces):
                value = codec.decode(value, classes)
        else:
            value, *tails = (codec.loads(text, classes) for _, text in pieces)
            if type(value) is str:
                value += "".join(tails)
            else:
                for tail in tails:
                    value.extend(tail)
        (read.values if has_whole else read.tails)[key] = value
    except UnknownClassError as exc:
        if not has_whole:
            raise exc.about(f"{label}: key {key!r}") from exc
        read.unsaved[key] = Unsaved.unreadable(exc, whole_text(pieces))
    except (DecodeError, ValueError, TypeError, KeyError, AttributeError) as exc:
        raise DecodeError(f"{label}: key {key!r} cannot be read: {exc}") from exc


def whole_text(pieces: Sequence[tuple[int, str]]) -> str:
    """The text of a value, assembled from stored operations and texts.

    Raises:
        DecodeError: They do not fit together.
    """
    if len(pieces) == 1 and pieces[0][0] == WHOLE:
        return pieces[0][1]
    return assemble(*_in_order(pieces))


def _in_order(pieces: Sequence[tuple[int, str]]) -> tuple[str, list[str]]:
    (op, whole), *changes = pieces
    if op not in (WHOLE, APPENDED):
        raise DecodeError("something was changed in it before it was there")
    return whole, [f'[[[],"append",{text}]]' if op == APPENDED else text for op, text in changes]


def read_mark(text: object, what: str) -> tuple[str, str]:
    """Type and reason of a value that was not saved.

    Raises:
        DecodeError: The text is damaged.
    """
    type_name, reason = read_json(text, is_mark, what)
    return type_name, reason
