"""Notifies followers of commits of runs, by ``LISTEN`` and ``NOTIFY`` of the server."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from hashlib import sha256
from uuid import uuid4

import psycopg

from pocoflow.logging import OwnLogger

_log = OwnLogger("db")

_FOLLOW = """
INSERT INTO pf_followers (run_no, listener, until)
SELECT run_no, %(listener)s, clock_timestamp() + interval '30 seconds'
FROM unnest(%(runs)s::bigint[]) AS run_no ORDER BY run_no
ON CONFLICT (run_no, listener) DO UPDATE SET until = excluded.until
"""
_LEAVE = "DELETE FROM pf_followers WHERE listener = %s OR until < clock_timestamp()"

_AGAIN = 10.0
"""Seconds after which a follower is recorded again, or dropped if its run was not polled."""

_TURN = 0.2

_SAFE, _UNSURE = 4, 20
"""How often per second to assume an unnoticed commit: while the server notifies, and otherwise."""


def channel_of(schema: str) -> str:
    """The channel for commits in a schema."""
    return f"pocoflow_{sha256(schema.encode()).hexdigest()[:16]}"


class Listener:
    """Listens, in a thread, as long as followers poll.

    Args:
        connect: Opens a connection.
        channel: The channel for commits.
    """

    def __init__(self, connect: Callable[[], psycopg.Connection], channel: str) -> None:
        self._connect, self._channel = connect, channel
        self._name = uuid4().hex
        self._polled: dict[int, float] = {}
        self._commits: dict[int, int] = {}
        self._guard = threading.Lock()
        self._ends = threading.Event()
        self._is_at_work = False

    def version(self, run_no: int) -> Hashable:
        """A token that every commit of a run changes; never blocks."""
        now = time.monotonic()
        with self._guard:
            self._polled[run_no] = now
            starts = not self._is_at_work and not self._ends.is_set()
            self._is_at_work |= starts
            commits = self._commits.get(run_no)
        if starts:
            threading.Thread(target=self._work, name="pocoflow-listener", daemon=True).start()
        return commits, int(now * (_UNSURE if commits is None else _SAFE))

    def close(self) -> None:
        """Stop listening."""
        self._ends.set()

    def _work(self) -> None:
        while not self._ends.is_set():
            try:
                with self._connect() as connection:
                    self._listen(connection)
            except psycopg.Error as exc:
                _log.debug("followers look by themselves for a while: %s", exc)
            with self._guard:
                self._commits.clear()
                if not self._polled or self._ends.is_set():
                    self._is_at_work = False
                    return
            self._ends.wait(_AGAIN)
        self._is_at_work = False

    def _listen(self, connection: psycopg.Connection) -> None:
        """Listen until no follower has polled for a while."""
        connection.execute(f"LISTEN {self._channel}".encode())
        recorded = 0.0
        while not self._ends.is_set():
            now = time.monotonic()
            with self._guard:
                for run_no, polled_at in list(self._polled.items()):
                    if polled_at < now - _AGAIN:
                        del self._polled[run_no]
                        self._commits.pop(run_no, None)
                runs = list(self._polled)
                is_new = bool(self._polled.keys() - self._commits.keys())
            if not runs:
                break
            if is_new or recorded < now - _AGAIN:
                connection.execute(_FOLLOW, {"listener": self._name, "runs": runs})
                recorded = now
                with self._guard:
                    for run_no in runs:
                        self._commits[run_no] = self._commits.get(run_no, 0) + 1
            for notify in connection.notifies(timeout=_TURN, stop_after=1):
                run_no = int(notify.payload)
                with self._guard:
                    if run_no in self._commits:
                        self._commits[run_no] += 1
        connection.execute(_LEAVE, (self._name,))
