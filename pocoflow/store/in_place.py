"""Checking what was changed in place in a store with a schema, where no database looks at it."""

from __future__ import annotations

from pocoflow.store.store import Store
from pocoflow.store.watch import Changed, Watch
from pocoflow.values.changes.frozen import freeze_parts
from pocoflow.values.changes.groups import SIMPLE
from pocoflow.values.copies import IMMUTABLE

_LOOK_EVERY = 50
_PARTS_A_STEP = 16


class InPlace:
    """Checks the store of a run: what was changed before it, and after each of its steps.

    What a step did not touch may have changed, too, through another reference. It is looked at
    every 50 steps, and less often where the values have so many parts that a look costs more than
    a step: in memory nothing is lost in between. Values are remembered at the beginning, as the
    first look would otherwise take as long as a thousand steps.

    Attributes:
        watch: The values as they were last checked.

    Raises:
        InvalidValueError: A list, dict or model was changed into something that does not fit.
    """

    __slots__ = ("_left", "_store", "watch")

    def __init__(self, store: Store) -> None:
        self._store = store
        self.watch = Watch()
        for key, value in store.own_items():
            if type(value) in IMMUTABLE and type(value) not in SIMPLE:
                continue  # it was checked as it was written
            if type(value) not in SIMPLE:
                store.recheck(key)
            self.watch.remember(key, value)
        self._left = self._looks_after()
        store.forget_touched()

    def _looks_after(self) -> int:
        return max(_LOOK_EVERY, self.watch.weight // _PARTS_A_STEP)

    def check(self, whole: bool) -> None:
        """Check what a step changed; if that is asked for, or due, also what nobody touched.

        Args:
            whole: Whether it is asked for.

        Raises:
            InvalidValueError: A list, dict or model was changed into something that does not fit.
        """
        store, watch = self._store, self.watch
        self._left -= 1
        if self._left == 0:
            self._left = self._looks_after()
            whole = True
        if whole:
            check_in_place(store, watch)
            return
        # What is compared by itself was checked as it was written, and cannot be changed in place.
        # But the remembered parts of the value that it replaced are dropped.
        if touched := store.take_touched(SIMPLE, watch.in_parts):
            for one in watch.changed_among(touched):
                if one.key not in store:
                    watch.forget(one.key)
                elif type(one.value) in SIMPLE:
                    watch.remember(one.key, one.value)
                else:
                    _recheck(store, watch, one)

    def end(self) -> None:
        """Check all that was changed since the last step; no later look needs it remembered.

        Raises:
            InvalidValueError: A list, dict or model was changed into something that does not fit.
        """
        for one in list(self.watch.changed(self._store)):
            self._store.recheck(one.key, one.found and one.found[0])


def check_in_place(store: Store, watch: Watch) -> None:
    """Check all that was changed since the last step against the schema, and remember it.

    Raises:
        InvalidValueError: A list, dict or model was changed into something that does not fit.
    """
    for one in list(watch.changed(store)):
        _recheck(store, watch, one)
    for key in watch.gone(store):
        watch.forget(key)
    store.forget_touched()


def _recheck(store: Store, watch: Watch, one: Changed) -> None:
    # Remembered as it is before the check: what changes meanwhile is checked the next time.
    changes, frozen = one.found or (None, freeze_parts(one.value))
    store.recheck(one.key, changes)
    watch.remember(one.key, one.value, frozen)
