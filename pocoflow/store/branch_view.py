"""The view that a parallel branch has of the store, and the merge of the writes of branches."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pocoflow.errors import BranchError, StoreError
from pocoflow.messages import is_item_of, short
from pocoflow.store.increments import increments_between
from pocoflow.store.missing import Unsaved
from pocoflow.store.revalidating import revalidate
from pocoflow.store.schema.cores import UNKNOWN
from pocoflow.store.store import Store
from pocoflow.store.watch import Watch
from pocoflow.values.changes.difference import Change
from pocoflow.values.copies import stored_copy

INCREMENTS: Any = None
"""The key under which the increments of a branch are recorded: not a text, so no store has it."""


class BranchValues(NamedTuple):
    """Stored values; those of a parallel branch override the values at the split."""

    values: dict[str, object]
    tails: dict[str, list[object]]
    deleted: list[str]
    unsaved: dict[str, Unsaved]
    under: Mapping[str, str] | None = None


class Writes(NamedTuple):
    """The writes of a branch, to be merged."""

    values: Mapping[str, object]
    increments: Sequence[tuple[str, object]]
    deleted: Sequence[str]
    unsaved: Mapping[str, Unsaved]


class _Copies(UserDict[str, Any]):
    """The values of another store, each copied on first access.

    Args:
        values: The values, which do not change while these are used. If they are copies, too,
            values that were not accessed are not copied for this.

    Attributes:
        copied: The keys of the values that were copied or set.
    """

    def __init__(self, values: Mapping[str, object]) -> None:
        self.data = dict(values.data if isinstance(values, _Copies) else values)
        self.copied: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        value = self.data[key]
        if key not in self.copied:
            value = self[key] = stored_copy(value)
        return value

    def __setitem__(self, key: str, value: object) -> None:
        self.data[key] = value
        self.copied.add(key)

    def __delitem__(self, key: str) -> None:
        del self.data[key]
        self.copied.discard(key)


class BranchStore(Store):
    """A branch's own view of the store: the values as they were at the split.

    Each is copied when it is first read, so a branch costs what it touches.

    A field with a reducer accepts only increments here, so that those of several branches can be
    merged. What cannot be stored, such as a client or an array, is shared.

    Args:
        parent: The store at the split, which does not change while branches run.
        at_split: The values of the parent, remembered.
        private: Values that only this branch has; they are not merged.
        origin: The field of which such a value is an item.
        hidden: Other keys whose values are not merged.
        merged: Whether it is merged with other branches. If not, a field with a reducer may be set
            as in any store.

    Attributes:
        increments: The increments of fields with reducers, in order.
        migrated: Keys whose restored values differ from the stored ones.
    """

    _data: _Copies
    _refuses = True
    increments: list[tuple[str, object]]
    migrated: set[str]

    def __init__(
        self,
        parent: Store,
        at_split: Watch,
        private: Mapping[str, object],
        hidden: frozenset[str] = frozenset(),
        merged: bool = True,
        origin: str | None = None,
    ) -> None:
        self._view(parent, _Copies)
        reducers = self._schema.reducers if self._schema is not None and merged else ()
        self._reducers = frozenset(reducers) - hidden
        self._at_split = at_split
        self._expected = at_split.copy()
        self._private = hidden.union(private)
        self.increments = []
        self.migrated = set()
        self._shadowed = {key: self._data[key] for key in private if key in self._data}
        if private:
            copies = {key: stored_copy(value) for key, value in private.items()}
            items = "" if origin is None else self.definitions.get(origin, "")
            known = {key: self.definitions.get(key, UNKNOWN) for key in private}
            same = {key for key in known if is_item_of(known[key], items)}
            self.apply(copies, accepted=same)

    def own_items(self) -> Iterable[tuple[str, object]]:
        """The keys that the branch has read or written, with their values."""
        data, copied = self._data.data, self._data.copied
        return [(key, value) for key, value in data.items() if key in copied]

    def complete(self) -> None:
        """Copy what the branch has not read, before the store around it changes."""
        for key in self._data:
            self._data[key]

    def watch(self) -> Watch:
        """A watch that remembers the current values."""
        return self._at_split.now(self)

    def take_back(
        self,
        values: Mapping[str, Any],
        tails: Mapping[str, list[object]],
        deleted: Iterable[str],
        unsaved: Mapping[str, Unsaved],
        under: Mapping[str, str] | None,
    ) -> None:
        """Restore the changes of the branch in a run that is resumed.

        Args:
            values: Values that it had set.
            tails: Items that it had appended to lists.
            deleted: Keys that it had deleted.
            unsaved: Keys whose values could not be stored.
            under: The definition of each field at that time, if known.

        Raises:
            BranchError: A field that it had set has a reducer now, and no increment results in that
                value; or a value that it had set does not fit the current schema.
        """
        restored = dict(values)
        for key, tail in tails.items():
            before = self.increments if key == INCREMENTS else self._data.get(key, [])
            # Recorded items were appended to the value at the split, not to a private one.
            restored[key] = [*self._shadowed.get(key, before), *tail]
        for key in restored:
            self._shadowed.pop(key, None)
        for key in (*deleted, *unsaved):
            self._data.pop(key, None)
        increments = restored.pop(INCREMENTS, self.increments)
        restored = self._under_schema(restored, under)
        self.increments = reduced = [pair for pair in increments if pair[0] in self._reducers]
        given = {key for key, _ in reduced}
        for key in sorted(self._reducers.intersection(restored) - given):
            self.increments = [*self.increments, *self._as_increments(key, restored[key])]
        if not len(increments) == len(reduced) == len(self.increments):
            self.migrated.add(INCREMENTS)
        self._data.update(restored)
        self._unsaved = {**self._unsaved, **unsaved}
        self._set_plain()
        for key in self._reducers & restored.keys():
            self._expected.remember(key, restored[key])

    def _under_schema(
        self, restored: dict[str, object], under: Mapping[str, str] | None
    ) -> dict[str, object]:
        """The restored values under the current schema, migrated by it if need be."""
        if self._schema is None:
            return restored
        now, stored = Watch.of(self._data), Watch.of(restored)
        values = {**self._data, **restored}
        previous = dict.fromkeys(restored, UNKNOWN) if under is None else under
        definitions = {key: previous.get(key, "") if key in restored else UNKNOWN for key in values}
        try:
            whole = revalidate(self._schema, self._label, values, definitions, self._schema.names())
        except StoreError as exc:
            raise BranchError(
                f"{self._label}: what a parallel branch had set does not fit the schema as it is "
                f"now: {exc}; give the model a validator that reads the old values "
                "(mode='before'), or fork the run"
            ) from exc
        # Without defaults for what the branch had deleted.
        fitting = {key: value for key, value in whole.items() if key in values}
        self.migrated.update(key for key in fitting if stored.differs(key, fitting[key]))
        return {
            key: value
            for key, value in fitting.items()
            if key in restored or now.differs(key, value)
        }

    def _as_increments(self, key: str, value: object) -> list[tuple[str, object]]:
        """A value set before the field had a reducer, as increments of it."""
        if key not in self._data or self._schema is None:
            return [(key, value)]  # the merge reports that there is no value to reduce into
        updates = increments_between(self._schema.reducers[key], self._data[key], value)
        if updates is None:
            raise BranchError(
                f"{self._label}: field {key!r} has a reducer now, and a parallel branch had set "
                f"it before: no increment makes {short(value)} of {short(self._data[key])}; go on "
                "with the schema as it was, or fork the run"
            )
        return [(key, update) for update in updates]

    # -- writing ------------------------------------------------------------------------------

    def apply(
        self,
        values: Mapping[str, object],
        increments: Iterable[tuple[str, object]] = (),
        accepted: Collection[str] = (),
    ) -> list[tuple[str, object]]:
        """Write values and apply increments, which are also stored for the merge.

        Raises:
            BranchError: A value is for a field with a reducer, or one was changed in place.
            InvalidValueError: A value does not fit.
        """
        self._refuse(values)
        copies = [(key, stored_copy(update)) for key, update in increments]
        for key, _ in copies:
            self._check_reduced(key)
        given = super().apply(values, copies, accepted)
        if given:
            self.increments = [*self.increments, *given]
        for key, _ in given:
            self._expected.remember(key, self._data[key])
        return given

    def __delitem__(self, key: str) -> None:
        self._refuse((key,))
        super().__delitem__(key)

    def recheck(self, key: str, changes: Iterable[Change] | None = None) -> bool:
        """Check a changed value: against the schema, and that only increments changed it.

        Raises:
            BranchError: A field with a reducer was changed in place.
            InvalidValueError: The value no longer fits.
        """
        self._check_reduced(key)
        return super().recheck(key, changes)

    def _refuse(self, keys: Iterable[str]) -> None:
        for key in keys:
            if key in self._reducers:
                raise BranchError(
                    f"{self._label}: field {key!r} has a reducer, so a parallel branch gives it "
                    f"increments: store.reduce({key!r}, update) or @node(writes=...), not an "
                    "assignment or deletion, which cannot be merged with those of other branches"
                )

    def _check_reduced(self, key: str) -> None:
        if key not in self._data.copied:
            return  # it was not accessed, or has no value, which the reduction reports
        if key in self._reducers and self._expected.differs(key, self._data.get(key)):
            raise BranchError(
                f"{self._label}: field {key!r} has a reducer and was changed in place in a "
                f"parallel branch; give it increments: store.reduce({key!r}, update)"
            )

    # -- the end ------------------------------------------------------------------------------

    def writes(self) -> Writes:
        """What is to be merged: the values that differ from those at the split, and increments."""
        local = self._reducers | self._private
        return Writes(
            {c.key: c.value for c in self._at_split.changed(self) if c.key not in local},
            [increment for increment in self.increments if increment[0] not in self._private],
            [k for k in self._at_split.gone(self) if k not in local and k not in self._unsaved],
            {key: mark for key, mark in self._unsaved.items() if key not in local},
        )


class BranchRecord:
    """A branch's store as it is recorded: its values, and its increments under a separate key."""

    def __init__(self, store: BranchStore) -> None:
        self._store = store

    @property
    def unsaved(self) -> Mapping[str, Unsaved]:
        """Keys whose values could not be stored."""
        return self._store.unsaved

    def own_items(self) -> Iterator[tuple[str, object]]:
        """The keys that the branch has read or written, with their values."""
        yield from self._store.own_items()
        if self._store.increments:
            yield INCREMENTS, self._store.increments

    def __iter__(self) -> Iterator[str]:
        yield from self._store
        if self._store.increments:
            yield INCREMENTS

    def __contains__(self, key: object) -> bool:
        return key in self._store or (key == INCREMENTS and bool(self._store.increments))

    def recheck(self, key: str, changes: Iterable[Change] | None = None) -> bool:
        """Check a value that was changed in place."""
        return key != INCREMENTS and self._store.recheck(key, changes)


def merge(store: Store, branches: Iterable[tuple[str, Writes]]) -> None:
    """Merge the writes of the named branches, all or nothing.

    Raises:
        BranchError: Two branches changed one key that has no reducer; names it and them.
        InvalidValueError: The result of a reducer does not fit.
    """
    values: dict[str, object] = {}
    increments: list[tuple[str, object]] = []
    deleted: list[str] = []
    unsaved: dict[str, Unsaved] = {}
    writers: dict[str, list[str]] = {}
    for name, writes in branches:
        for key in (*writes.values, *writes.deleted):
            writers.setdefault(key, []).append(name)
        values |= writes.values
        increments += writes.increments
        deleted += writes.deleted
        unsaved |= writes.unsaved
    clashes = [
        f"key {key!r} was changed by the branches {_a_few(names)}"
        for key, names in writers.items()
        if len(names) > 1
    ]
    if clashes:
        raise BranchError(
            f"{'; '.join(clashes)}: let one branch write it, name it in private= if only the nodes "
            "of one branch use it, or declare in the schema how the writes are put together, as in "
            "Annotated[list[str], extend]"
        )
    store.apply(values, increments, {*values, *(key for key, _ in increments)})
    for key in deleted:
        del store[key]
    # Values that a branch had set in an earlier process, and that could not be stored.
    store.miss({key: mark for key, mark in unsaved.items() if key not in store})


def _a_few(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(map(repr, names[:3])) + more
