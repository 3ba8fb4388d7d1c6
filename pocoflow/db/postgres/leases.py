"""Liveness: a lease for each running run, by the clock of the server.

A process renews the leases of all of its runs at once, three times per lease period. Once a lease
has expired, others may claim the run; if the process comes back, the fence of the run keeps it from
writing.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from uuid import uuid4

from pocoflow.db.connection import Connection
from pocoflow.db.port import Locks, Record
from pocoflow.errors import DatabaseError
from pocoflow.logging import OwnLogger

_log = OwnLogger("db")

_HOLD = """
INSERT INTO pf_leases (run_no, holder, until)
VALUES (?, ?, clock_timestamp() + ? * interval '1 second')
ON CONFLICT (run_no) DO UPDATE SET holder = excluded.holder, until = excluded.until
WHERE pf_leases.until <= clock_timestamp() OR pf_leases.holder = excluded.holder
RETURNING run_no
"""
_RELEASE = "DELETE FROM pf_leases WHERE run_no = ? AND holder = ?"
_IS_HELD = "SELECT 1 FROM pf_leases WHERE run_no = ? AND until > clock_timestamp()"
_RENEW = """
UPDATE pf_leases SET until = clock_timestamp() + ? * interval '1 second'
WHERE holder = ? AND run_no = ANY(?::bigint[]) RETURNING run_no
"""
_REACQUIRE = """
INSERT INTO pf_leases (run_no, holder, until)
SELECT run_no, ?, clock_timestamp() + ? * interval '1 second' FROM pf_run
WHERE run_no = ANY(?::bigint[]) AND status = 'running'
ON CONFLICT DO NOTHING RETURNING run_no
"""
_LEAVE = "DELETE FROM pf_leases WHERE holder = ?"


class Leases(Locks):
    """The leases of this process on the runs of one database.

    Args:
        connect: Opens a connection of its own. It need not wait for the disk of the server: leases
            that are lost in a crash are acquired again.
        seconds: The duration of a lease.
    """

    def __init__(self, connect: Callable[[], Connection], seconds: float) -> None:
        self._connect, self._seconds = connect, seconds
        self._is_closed = False
        self._start()

    def _start(self) -> None:
        """Start without leases: a forked child holds none of those of its parent."""
        self._pid, self._holder = os.getpid(), uuid4().hex
        self._held: dict[int, object] = {}
        self._connection: Connection | None = None
        self._alone, self._ends = threading.RLock(), threading.Event()
        self._thread: threading.Thread | None = None

    def _execute(self, sql: str, *parameters: object) -> list[Record]:
        """The rows of a statement; it is retried once if the connection was lost."""
        with self._guard:
            if self._is_closed:
                raise DatabaseError("the database is closed")
            if self._connection is None:
                self._connection = self._connect()
            return self._connection.rows(sql, parameters)

    @property
    def _guard(self) -> threading.RLock:
        if self._pid != os.getpid():
            self._start()
        return self._alone

    def _lock(self, run_no: int, owner: object) -> bool:
        is_acquired = bool(self._execute(_HOLD, run_no, self._holder, self._seconds))
        if is_acquired and self._thread is None:
            work = partial(_renew, weakref.ref(self), self._ends, self._seconds / 3)
            self._thread = threading.Thread(target=work, name="pocoflow-leases", daemon=True)
            self._thread.start()
        return is_acquired

    def _unlock(self, run_no: int) -> None:
        try:
            self._execute(_RELEASE, run_no, self._holder)
        except DatabaseError as exc:
            _log.debug("the lease of run %d was not released, and expires: %s", run_no, exc)

    def renew(self) -> None:
        """Renew the leases of this process; those that another process has acquired are lost.

        A lease that vanished, as in a crash of the server, is acquired again if its run is at work.
        """
        with self._guard:
            if not self._held:
                return
            # Not those that could not be released, which expire.
            renewed = self._numbers(_RENEW, self._seconds, self._holder, self._held)
            if lost := self._held.keys() - renewed:
                renewed |= self._numbers(_REACQUIRE, self._holder, self._seconds, lost)
            for run_no in self._held.keys() - renewed:
                self._held.pop(run_no, None)  # a finalizer may have released it

    def _numbers(self, sql: str, first: object, second: object, of: Iterable[int]) -> set[int]:
        listed = f"{{{','.join(map(str, of))}}}"
        return {row[0] for row in self._execute(sql, first, second, listed)}

    def has(self, run_no: int, owner: object) -> bool:
        """Whether this owner acquired the lease of a run, in this process, and still holds it."""
        return super().has(run_no, owner) and self._pid == os.getpid()

    def is_held(self, run_no: int) -> bool:
        """Whether a process holds an unexpired lease of a run.

        Raises:
            DatabaseError: The server cannot be reached.
        """
        return bool(self._execute(_IS_HELD, run_no))

    def close(self) -> None:
        """Release all leases that were acquired through this object."""
        self._ends.set()
        with self._guard:
            if self._is_closed:
                return
            with suppress(DatabaseError):
                if self._thread is not None:
                    self._execute(_LEAVE, self._holder)
            self._held.clear()
            self._is_closed = True
            if self._connection is not None:
                self._connection.close()


def _renew(leases: weakref.ref[Leases], ends: threading.Event, period: float) -> None:
    """Renew leases until they are released."""
    while not ends.wait(period):
        owner = leases()
        if owner is None:
            return
        try:
            owner.renew()
        except DatabaseError as exc:
            _log.warning("the leases of the runs of this process could not be renewed: %s", exc)
        del owner
