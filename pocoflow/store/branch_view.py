"""What a parallel branch sees of the store, and how the writes of several branches are merged."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any, NamedTuple

from pocoflow.errors import BranchError, StoreError
from pocoflow.messages import is_item_of, short
from pocoflow.store.increments import increments_between
from pocoflow.store.missing import Unsaved
from pocoflow.store.revalidating import take
from pocoflow.store.schema.cores import UNKNOWN
from pocoflow.store.store import Store
from pocoflow.store.watch import Watch
from pocoflow.values.changes.difference import Change
from pocoflow.values.copies import stored_copy

INCREMENTS: Any = None
"""The key under which the increments of a branch are recorded: no text, so no store has it."""


class BranchValues(NamedTuple):
    """Values as they were stored; a parallel branch has them on top of those at its fork."""

    values: dict[str, object]
    tails: dict[str, list[object]]
    deleted: list[str]
    unsaved: dict[str, Unsaved]
    under: Mapping[str, str] | None = None


class Writes(NamedTuple):
    """What a branch leaves to be merged."""

    values: Mapping[str, object]
    increments: Sequence[tuple[str, object]]
    deleted: Sequence[str]
    unsaved: Mapping[str, Unsaved]


class _Copies(MutableMapping[str, object]):
    """The values of another store, each copied when it is first asked for.

    Args:
        values: The values, which do not change while these are used. If they are copies, too, what
            nobody has asked for is not copied for this.
    """

    def __init__(self, values: Mapping[str, object]) -> None:
        self._values = values.latest() if isinstance(values, _Copies) else dict(values)
        self._own: set[str] = set()

    def latest(self) -> dict[str, object]:
        """The values, those that nobody has asked for as they are in the other store."""
        return dict(self._values)

    def complete(self) -> None:
        """Copy what nobody has asked for."""
        for key in self:
            self[key]

    def own(self) -> list[tuple[str, object]]:
        """Those that were copied or set, in their order."""
        return [pair for pair in self._values.items() if pair[0] in self._own]

    def is_own(self, key: str) -> bool:
        """Whether a value was copied or set."""
        return key in self._own

    def __getitem__(self, key: str) -> Any:
        value = self._values[key]
        if key not in self._own:
            value = self._values[key] = stored_copy(value)
            self._own.add(key)
        return value

    def __setitem__(self, key: str, value: object) -> None:
        self._values[key] = value
        self._own.add(key)

    def __delitem__(self, key: str) -> None:
        del self._values[key]
        self._own.discard(key)

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return repr(self._values)


class BranchStore(Store):
    """A branch's own view of the store: the values as they were at the fork.

    Each is copied when it is first read, so a branch costs what it touches.

    A field with a reducer takes increments here and nothing else, so that those of several branches
    can be put together. What cannot be stored, such as a client or an array, is shared.

    Args:
        parent: The store at the fork, which does not change while branches run.
        fork: The values of the parent, remembered.
        private: Values that only this branch has; they are not merged.
        origin: The field of which such a value is an item.
        hidden: Other keys whose values are not merged.
        merged: Whether it is put together with other branches. If it is not, a field with a reducer
            may be set as in any store.

    Attributes:
        increments: What fields with reducers were given, in order.
        migrated: Keys whose values, taken back, are not those that are stored.
    """

    _data: _Copies
    _refuses = True
    increments: list[tuple[str, object]]
    migrated: set[str]

    def __init__(
        self,
        parent: Store,
        fork: Watch,
        private: Mapping[str, object],
        hidden: frozenset[str] = frozenset(),
        merged: bool = True,
        origin: str | None = None,
    ) -> None:
        self._view(parent, _Copies)
        reducers = self._schema.reducers if self._schema is not None and merged else ()
        self._reducers = frozenset(reducers) - hidden
        self._fork = fork
        self._expected = fork.copy()
        self._private = hidden.union(private)
        self.increments = []
        self.migrated = set()
        self._shadowed = {key: self._data[key] for key in private if key in self._data}
        if private:
            made = {key: stored_copy(value) for key, value in private.items()}
            items = "" if origin is None else self.definitions.get(origin, "")
            own = {key: self.definitions.get(key, UNKNOWN) for key in private}
            self._write(made, {key for key, one in own.items() if is_item_of(one, items)})

    def own_items(self) -> Iterable[tuple[str, object]]:
        """The keys that the branch has read or written, with their values."""
        return self._data.own()

    def complete(self) -> None:
        """Copy what the branch has not read, before the store around it changes."""
        self._data.complete()

    def watch(self) -> Watch:
        """One that remembers the values as they are now."""
        return self._fork.now(self)

    def take_back(
        self,
        values: Mapping[str, Any],
        tails: Mapping[str, list[object]],
        deleted: Iterable[str],
        unsaved: Mapping[str, Unsaved],
        under: Mapping[str, str] | None,
    ) -> None:
        """Take back what the branch had of its own in a run that is resumed.

        Args:
            values: Values that it had set.
            tails: What it had appended to lists.
            deleted: Keys that it had deleted.
            unsaved: Keys whose values could not be stored.
            under: What defined each field then, if that is known.

        Raises:
            BranchError: A field that it had set has a reducer now, and no increment gives that; or
                what it had set does not fit the schema as it is now.
        """
        own = dict(values)
        for key, tail in tails.items():
            before = self.increments if key == INCREMENTS else self._data.get(key, [])
            # What is recorded as appended was so to the value at the fork, not to a private one.
            own[key] = [*self._shadowed.get(key, before), *tail]
        for key in own:
            self._shadowed.pop(key, None)
        for key in (*deleted, *unsaved):
            self._data.pop(key, None)
        increments = own.pop(INCREMENTS, self.increments)
        own = self._under_schema(own, under)
        self.increments = kept = [one for one in increments if one[0] in self._reducers]
        given = {key for key, _ in kept}
        for key in sorted(self._reducers.intersection(own) - given):
            self.increments = [*self.increments, *self._as_increments(key, own[key])]
        if not len(increments) == len(kept) == len(self.increments):
            self.migrated.add(INCREMENTS)
        self._data.update(own)
        self._unsaved = {**self._unsaved, **unsaved}
        self._set_plain()
        for key in self._reducers & own.keys():
            self._expected.remember(key, own[key])

    def _under_schema(
        self, own: dict[str, object], under: Mapping[str, str] | None
    ) -> dict[str, object]:
        """What the branch had set under the schema as it is now, migrated by it if need be."""
        if self._schema is None:
            return own
        here, stored = Watch.of(self._data), Watch.of(own)
        values = {**self._data, **own}
        before = dict.fromkeys(own, UNKNOWN) if under is None else under
        known = {key: before.get(key, "") if key in own else UNKNOWN for key in values}
        try:
            whole = take(self._schema, self._label, values, known, self._schema.names())
        except StoreError as exc:
            raise BranchError(
                f"{self._label}: what a parallel branch had set does not fit the schema as it is "
                f"now: {exc}; give the model a validator that reads the old values "
                "(mode='before'), or fork the run"
            ) from exc
        # Not with a default in the place of what the branch had deleted.
        fitting = {key: value for key, value in whole.items() if key in values}
        self.migrated.update(key for key in fitting if stored.differs(key, fitting[key]))
        return {
            key: value for key, value in fitting.items() if key in own or here.differs(key, value)
        }

    def _as_increments(self, key: str, value: object) -> list[tuple[str, object]]:
        """What the branch had set before the field had a reducer, as increments of it."""
        if key not in self._data or self._schema is None:
            return [(key, value)]  # the join says that there is nothing to reduce into
        found = increments_between(self._schema.reducers[key], self._data[key], value)
        if found is None:
            raise BranchError(
                f"{self._label}: field {key!r} has a reducer now, and a parallel branch had set "
                f"it before: no increment makes {short(value)} of {short(self._data[key])}; go on "
                "with the schema as it was, or fork the run"
            )
        return [(key, update) for update in found]

    # -- writing ------------------------------------------------------------------------------

    def apply(
        self,
        values: Mapping[str, object],
        increments: Iterable[tuple[str, object]],
        accepted: Collection[str] = (),
    ) -> None:
        """Write values and give increments, which are also kept for the merge.

        Raises:
            BranchError: A value is for a field with a reducer, or one was changed in place.
            InvalidValueError: A value does not fit.
        """
        self._refuse(values)
        copies = [(key, stored_copy(update)) for key, update in increments]
        for key, _ in copies:
            self._check_untouched(key)
        changes, given = self._reduced(values, copies, accepted)
        super()._write(changes, {*accepted, *(key for key, _ in given)})
        self.increments = [*self.increments, *given]
        for key, _ in given:
            self._expected.remember(key, self._data[key])

    def _write(self, changes: Mapping[str, object], accepted: Collection[str] = ()) -> None:
        self._refuse(changes)
        super()._write(changes, accepted)

    def __delitem__(self, key: str) -> None:
        self._refuse((key,))
        super().__delitem__(key)

    def recheck(self, key: str, changes: Iterable[Change] | None = None) -> bool:
        """Check a value that changed: against the schema, and that increments alone changed it.

        Raises:
            BranchError: A field with a reducer was changed in place.
            InvalidValueError: The value no longer fits.
        """
        self._check_untouched(key)
        return super().recheck(key, changes)

    def _refuse(self, keys: Iterable[str]) -> None:
        for key in keys:
            if key in self._reducers:
                raise BranchError(
                    f"{self._label}: field {key!r} has a reducer, so a parallel branch gives it "
                    f"increments: store.reduce({key!r}, update) or @node(writes=...), not an "
                    "assignment or deletion, which cannot be merged with those of other branches"
                )

    def _check_untouched(self, key: str) -> None:
        if not self._data.is_own(key):
            return  # nobody had it to change, or it has no value: whoever reduces into it says so
        if key in self._reducers and self._expected.differs(key, self._data.get(key)):
            raise BranchError(
                f"{self._label}: field {key!r} has a reducer and was changed in place in a "
                f"parallel branch; give it increments: store.reduce({key!r}, update)"
            )

    # -- the end ------------------------------------------------------------------------------

    def writes(self) -> Writes:
        """What is to be merged: the values that differ from those at the fork, and increments."""
        kept = self._reducers | self._private
        return Writes(
            {one.key: one.value for one in self._fork.changed(self) if one.key not in kept},
            [one for one in self.increments if one[0] not in self._private],
            [key for key in self._fork.gone(self) if key not in kept and key not in self._unsaved],
            {key: mark for key, mark in self._unsaved.items() if key not in kept},
        )


class BranchRecord:
    """A branch's store as it is recorded: its values, and its increments under a key of theirs."""

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
    """Write what the branches, given with their names, leave to be merged: all of it, or nothing.

    Raises:
        BranchError: Two branches changed one key that has no reducer; names it and them.
        InvalidValueError: What reducers made does not fit.
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
    # What a branch had set in an earlier process, and nobody could store, is missed by name.
    store.miss({key: mark for key, mark in unsaved.items() if key not in store})


def _a_few(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(map(repr, names[:3])) + more
