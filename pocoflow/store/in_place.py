"""Checking changes in place in a store with a schema, if no database compares its values."""

from __future__ import annotations

from pocoflow.store.store import Store
from pocoflow.store.watch import Changed, Watch
from pocoflow.values.changes.frozen import freeze_parts
from pocoflow.values.changes.groups import SIMPLE
from pocoflow.values.copies import IMMUTABLE

_FULL_CHECK_EVERY = 50
_PARTS_PER_STEP = 16


class InPlace:
    """Checks the store of a run for changes in place: before the run, and after each of its steps.

    Values that a step did not touch may have changed, too, through another reference. They are
    checked every 50 steps, and less often if they have so many parts that a full check costs more
    than a step: in memory nothing is lost in between. Values are remembered at the beginning, as
    the first full check would otherwise take as long as a thousand steps.

    Attributes:
        watch: The values at the last check.

    Raises:
        InvalidValueError: A list, dict or model was changed into something that does not fit.
    """

    __slots__ = ("_steps_left", "_store", "watch")

    def __init__(self, store: Store) -> None:
        self._store = store
        self.watch = Watch()
        for key, value in store.own_items():
            if type(value) in IMMUTABLE and type(value) not in SIMPLE:
                continue  # it was checked when it was written
            if type(value) not in SIMPLE:
                store.recheck(key)
            self.watch.remember(key, value)
        self._steps_left = self._steps_to_full_check()
        store.forget_touched()

    def _steps_to_full_check(self) -> int:
        return max(_FULL_CHECK_EVERY, self.watch.weight // _PARTS_PER_STEP)

    def check(self, full: bool) -> None:
        """Check what a step changed; if requested, or due, also untouched values.

        Args:
            full: Whether a full check is requested.

        Raises:
            InvalidValueError: A list, dict or model was changed into something that does not fit.
        """
        store, watch = self._store, self.watch
        self._steps_left -= 1
        if self._steps_left == 0:
            self._steps_left = self._steps_to_full_check()
            full = True
        if full:
            check_in_place(store, watch)
            return
        # A simple value was checked when it was written, and cannot be changed in place. But the
        # remembered parts of the value that it replaced must be dropped.
        if touched := store.take_touched(SIMPLE, watch.in_parts):
            for change in watch.changed_among(touched):
                if change.key not in store:
                    watch.forget(change.key)
                elif type(change.value) in SIMPLE:
                    watch.remember(change.key, change.value)
                else:
                    _recheck(store, watch, change)

    def end(self) -> None:
        """Check all changes since the last step; no later check needs them remembered.

        Raises:
            InvalidValueError: A list, dict or model was changed into something that does not fit.
        """
        for change in list(self.watch.changed(self._store)):
            self._store.recheck(change.key, change.found and change.found[0])


def check_in_place(store: Store, watch: Watch) -> None:
    """Check all changes since the last step against the schema, and remember them.

    Raises:
        InvalidValueError: A list, dict or model was changed into something that does not fit.
    """
    for change in list(watch.changed(store)):
        _recheck(store, watch, change)
    for key in watch.gone(store):
        watch.forget(key)
    store.forget_touched()


def _recheck(store: Store, watch: Watch, change: Changed) -> None:
    # Remembered before the check, so that changes during the check are found the next time.
    changes, frozen = change.found or (None, freeze_parts(change.value))
    store.recheck(change.key, changes)
    watch.remember(change.key, change.value, frozen)
