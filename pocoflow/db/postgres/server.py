"""A connection to a PostgreSQL server: its URL, its layout, its transactions and its errors."""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import psycopg
from psycopg import conninfo, errors, sql as composed

from pocoflow.db import process_forks
from pocoflow.db.clock import ticks
from pocoflow.db.connection import Connection
from pocoflow.db.port import Parameters, PutsOne, Record, Transaction, UnwrittenError
from pocoflow.db.postgres import wrong_part
from pocoflow.db.postgres.dialect import MUST_WRITE
from pocoflow.db.postgres.listener import Listener, channel_of
from pocoflow.db.postgres.pipeline import Pipeline
from pocoflow.db.sql import VERSION
from pocoflow.errors import (
    DatabaseBusyError,
    DatabaseError,
    DatabaseFileError,
    DatabaseLostError,
    DefinitionError,
)
from pocoflow.messages import closest

T = TypeVar("T")

_abandoned: list[Pipeline] = []

_SCHEMA = "pocoflow"
"""The schema, if no search path is given."""

_DEFAULTS = {
    "application_name": "pocoflow",
    "connect_timeout": "10",
    # Detects a server that is gone while waiting for an answer.
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}

_SERVER_NOTICES = {
    # Detects a process that is gone, and whose locks others wait for.
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "10000",
}

_SEARCH_PATH = """
SELECT current_setting('search_path'), current_user, EXISTS (
    SELECT 1 FROM pg_namespace WHERE nspname = current_user
)
"""
_NAMES = re.compile(r'\s*(?:"((?:[^"]|"")*)"|([^\s",]+))\s*,?')
_LONGEST_NAME = 63

_LOCK_ALL = "SELECT pg_advisory_xact_lock(hashtextextended(?, 0))"
_LOCK_RUN = """
SELECT CASE WHEN EXISTS (
    SELECT 1 FROM pf_followers AS f WHERE f.run_no = r.run_no AND f.until > clock_timestamp()
) THEN pg_notify(?, r.run_no::text) END
FROM pf_run AS r WHERE r.run_no = ? FOR NO KEY UPDATE
"""
_CLOCK = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
_LAYOUT = """
SELECT EXISTS (SELECT 1 FROM pg_class WHERE relnamespace = n.oid AND relname = 'pf_layout'),
    has_schema_privilege(n.oid, 'USAGE'), current_user
FROM pg_namespace AS n WHERE n.nspname = %s
"""


class ServerConnection(Connection):
    """A connection to a schema on a PostgreSQL server, shared by the threads of this process.

    A transaction that appends to the log of a run locks the row of that run, any other waits for a
    lock of the schema: so each sees what earlier ones have written.

    Args:
        urls: Its URL for libpq, and the URL without secrets for messages.
        synchronous: Whether a commit waits for the disk of the server.
        busy_timeout: Seconds to wait for another writer.
        read_only: Whether nothing is written.
        idle: Seconds after which the server rolls back the transaction of a suspended process.
    """

    _errors: ClassVar[tuple[type[Exception], ...]] = (psycopg.Error,)
    _in_no_database = (
        UnicodeEncodeError,
        DefinitionError,
        errors.NumericValueOutOfRange,
        errors.UntranslatableCharacter,
    )

    def __init__(
        self,
        urls: tuple[str, str],
        *,
        synchronous: str,
        busy_timeout: float,
        read_only: bool,
        idle: float,
    ) -> None:
        url, label = urls
        wrong = wrong_part(url)
        if not wrong:
            try:
                writes = {} if read_only else {"target_session_attrs": "primary"}
                self._info = {**_DEFAULTS, **writes, **conninfo.conninfo_to_dict(url)}
            except psycopg.ProgrammingError:
                # Its text shows the wrong part, which may be a password.
                wrong = _unknown_parameter(label)
        if wrong:
            raise DatabaseError(
                f"the URL of the PostgreSQL server cannot be read: {wrong} is wrong. Write "
                "postgresql://user@host:port/database?parameter=value, with special characters "
                "percent-encoded: %40 for @, %2F for /, %3A for :, %3F for ?, %3D for =, %25 for %"
            )
        self.label = label
        self.read_only = read_only
        self.alone, self.waiting = threading.RLock(), deque()
        self._busy_timeout = busy_timeout
        self._synchronous = synchronous
        self._idle = idle
        self._schema, self._channel, self._ahead = "", "", 0
        self._pipeline: Pipeline | None = None
        self._is_closed = False
        self._is_in = False
        with self.alone:
            self._open()
        self._listener = Listener(self.connect, self._channel)
        process_forks.register(self)

    # -- opening and closing ----------------------------------------------------------------------

    def reset_after_fork(self, *, at_rest: bool) -> None:  # noqa: D102 - see the base class
        super().reset_after_fork(at_rest=at_rest)
        self._listener = Listener(self.connect, self._channel)
        if self._pipeline is not None:
            _abandoned.append(self._pipeline)  # it belongs to the parent process
            self._pipeline = None

    def connect(self) -> psycopg.Connection:
        """Another connection to the same schema.

        Raises:
            psycopg.Error: The server cannot be reached, or refuses it.
        """
        connection = psycopg.connect(conninfo.make_conninfo("", **self._info), autocommit=True)
        try:
            self._set_up(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _set_up(self, connection: psycopg.Connection) -> None:
        encoding = connection.info.parameter_status("server_encoding")
        if encoding != "UTF8":
            raise DatabaseFileError(
                f"database {self.label} has the encoding {encoding}, which cannot hold every text; "
                "use one that was made with CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0"
            )
        path, user, has_user_schema = _one(connection.execute(_SEARCH_PATH))
        schema = self._chosen(path, user, has_user_schema)
        self._schema, self._channel = schema, channel_of(schema)
        info = connection.info
        self.home = (info.host, info.port, info.dbname, schema)
        before = ticks()
        (server_time,) = _one(connection.execute(_CLOCK))
        self._ahead = server_time - (before + ticks()) // 2
        settings = {
            **_SERVER_NOTICES,
            "search_path": composed.Identifier(schema).as_string(connection),
            "lock_timeout": f"{max(1, round(self._busy_timeout * 1000))}",
            "idle_in_transaction_session_timeout": f"{round(self._idle * 1000)}",
            "synchronous_commit": "on" if self._synchronous == "FULL" else "off",
            "default_transaction_read_only": "on" if self.read_only else "off",
            # Each statement sees earlier commits, also after waiting for a lock.
            "default_transaction_isolation": "read committed",
            "client_encoding": "UTF8",
            "DateStyle": "ISO",
        }
        calls = ", ".join(["set_config(%s, %s, false)"] * len(settings))
        facts = [part for setting in settings.items() for part in setting]
        connection.execute(f"SELECT {calls}".encode(), facts)

    def micros(self) -> int:  # noqa: D102 - see the base class
        return ticks() + self._ahead

    def now(self) -> str:  # noqa: D102 - see the base class
        return (_EPOCH + timedelta(microseconds=self.micros())).isoformat()

    def _chosen(self, path: str, user: str, has_user_schema: bool) -> str:
        """The first schema of a search path; that of the user if it exists, or is the only one."""
        names = _names(path)
        if names == ["$user", "public"]:
            return _SCHEMA  # the default search path
        if names[1:] and names[0] == "$user" and not has_user_schema:
            names.pop(0)
        schema = names[0] if names else ""
        schema = user if schema == "$user" else schema
        if not schema or schema.startswith("pg_") or schema == "information_schema":
            problem = f"names {schema!r} first, which is the server's own" if schema else "is empty"
            raise DatabaseFileError(
                f"database {self.label} cannot be used: its search path {problem}; name another "
                "schema, as in ?options=-csearch_path%3Dreports"
            )
        return schema

    def _open(self) -> Pipeline:
        try:
            connection = self.connect()
        except psycopg.Error as exc:
            raise self.explain(exc) from None
        try:
            self._check_layout(connection)
            pipeline = Pipeline(connection)
        except BaseException as exc:
            connection.close()
            if isinstance(exc, psycopg.Error):
                raise self.explain(exc) from None
            raise
        self._pipeline, self._is_in = pipeline, False
        return pipeline

    def _check_layout(self, connection: psycopg.Connection) -> None:
        """Check the layout, and create it if it does not exist."""
        if connection.info.server_version < _OLDEST:
            version = connection.info.server_version // 10000
            raise DatabaseFileError(
                f"database {self.label} is of PostgreSQL {version}; 14 or newer is needed"
            )
        row = connection.execute(_LAYOUT, (self._schema,)).fetchone()
        has_layout, is_allowed, user = row or (False, True, "")
        if not is_allowed:
            name = composed.Identifier(self._schema).as_string(connection)
            raise DatabaseFileError(
                f"database {self.label} does not allow user {user!r} to use its schema "
                f"{self._schema!r}; who owns it executes GRANT USAGE ON SCHEMA {name} TO "
                f"{composed.Identifier(user).as_string(connection)}, and grants the tables likewise"
            )
        if not has_layout:
            if self.read_only:
                raise DatabaseFileError(
                    f"database {self.label} is empty: no flow has written to it yet"
                )
            self._create(connection)
        (version,) = _one(connection.execute("SELECT max(version) FROM pf_layout"))
        if version != VERSION:
            raise DatabaseFileError(
                f"database {self.label} has the layout {version} of another version of pocoflow; "
                f"this one knows {VERSION}"
            )

    def _create(self, connection: psycopg.Connection) -> None:
        lock = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))"
        with connection.transaction():
            connection.execute(lock, (f"pocoflow {self._schema}",))
            row = connection.execute(_LAYOUT, (self._schema,)).fetchone()
            if row is not None and row[0]:
                return  # another process has created it meanwhile
            self.is_new = True
            if row is None:
                name = composed.Identifier(self._schema)
                connection.execute(composed.SQL("CREATE SCHEMA {}").format(name))
            text = Path(__file__).with_name("schema.sql").read_text(encoding="utf-8")
            connection.execute(text.encode())
            connection.execute("INSERT INTO pf_layout VALUES (%s)", (VERSION,))

    def close(self) -> None:
        """Close the connection; using it again raises :class:`DatabaseError`."""
        with self.alone:
            self._is_closed = True
            self._listener.close()
            pipeline, self._pipeline = self._pipeline, None
            if pipeline is not None:
                pipeline.close()

    def _current(self) -> Pipeline:
        if self._is_closed:
            raise DatabaseError(f"database {self.label} is closed")
        if self._pipeline is not None and self._is_in:
            return self._pipeline  # the transaction is open on this connection
        if self._pipeline is not None:
            self._pipeline.check()
        if self._pipeline is None or self._pipeline.is_lost:
            return self._open()
        return self._pipeline

    # -- statements -------------------------------------------------------------------------------

    def _read(self, sql: str, parameters: Parameters) -> list[Record]:
        pipeline = self._current()
        try:
            return self._read_from(pipeline, sql, parameters)
        except psycopg.OperationalError:
            if self._is_in or not pipeline.is_lost:
                raise
            return self._read_from(self._open(), sql, parameters)  # a read may be retried

    def _read_from(self, pipeline: Pipeline, sql: str, parameters: Parameters) -> list[Record]:
        outcome = pipeline.execute(sql, parameters)
        if not self._is_in:
            pipeline.sync()
        return outcome.fetchall()

    def version(self, run_no: int) -> Hashable:
        """A token that every commit of a run changes; never blocks."""
        if self.read_only:
            return int(time.monotonic() * _LOOKS)
        return self._listener.version(run_no)

    def vacuum(self) -> None:
        """Have the server reuse the space of what was removed."""
        with self.alone, self._translated(), self.connect() as connection:
            connection.execute("VACUUM")

    # -- transactions -----------------------------------------------------------------------------

    def _to_write(self) -> Pipeline:
        return self._current()

    def _begin(self, *, patient: bool, of: int) -> None:
        pipeline = self._pipeline
        assert pipeline is not None
        self._is_in = True
        pipeline.execute("BEGIN")
        if not patient:
            pipeline.execute("SET LOCAL lock_timeout = 1")
        self._join(of)
        if not patient:
            pipeline.sync()

    def _begin_statement(self, of: int) -> None:
        self._join(of)

    def _end_statement(self) -> None:
        assert self._pipeline is not None
        self._pipeline.sync()

    def _commit(self) -> None:
        assert self._pipeline is not None
        self._pipeline.execute("COMMIT")
        self._pipeline.sync()
        self._is_in = False

    def _undo(self) -> bool:
        was_in, self._is_in = self._is_in, False
        pipeline = self._pipeline
        if was_in and pipeline is not None and not pipeline.is_lost:
            with suppress(psycopg.Error):
                pipeline.sync()
            if pipeline.is_idle:
                return False  # it was committed before a Ctrl-C
            with suppress(psycopg.Error):
                pipeline.execute("ROLLBACK")
                pipeline.sync()
        return was_in

    def _join(self, of: int) -> None:
        assert self._pipeline is not None
        if of:
            self._pipeline.execute(_LOCK_RUN, (self._channel, of))
        else:
            self._pipeline.execute(_LOCK_ALL, (f"pocoflow {self._schema}",))

    def _carry_out(
        self,
        write: Callable[[Transaction, PutsOne], T],
        of: int,
        put: PutsOne,
        *,
        is_statement: bool = False,
    ) -> T:
        """Commit what a function writes; ids of rows are assumed, and awaited if they differ."""
        with suppress(UnwrittenError):
            return super()._carry_out(write, of, _must_put, is_statement=is_statement)
        return super()._carry_out(write, of, put)

    def _be_patient(self) -> None:
        """Nothing to do: ``SET LOCAL`` ends with its transaction."""

    def explain(self, exc: Exception) -> DatabaseError:
        """Our error for an error of psycopg."""
        text = " ".join(str(exc).split())
        if isinstance(exc, errors.LockNotAvailable | errors.DeadlockDetected):
            return DatabaseBusyError(
                f"database {self.label} was locked by another writer for more than "
                f"{self._busy_timeout:g} seconds"
            )
        if isinstance(exc, psycopg.Error) and exc.sqlstate == "PF001":
            return UnwrittenError(f"database {self.label}: {text}")
        for kind, meaning in _MEANINGS.items():
            if isinstance(exc, kind):
                return DatabaseFileError(f"database {self.label} {meaning} ({text})")
        if isinstance(exc, errors.InsufficientPrivilege):
            return DatabaseFileError(
                f"database {self.label} does not allow that to this user ({text}); "
                f"who owns it executes {self._grant(text)}"
            )
        if isinstance(exc, psycopg.OperationalError):
            for phrase, advice in _REFUSALS.items():
                if phrase in text:
                    return DatabaseFileError(
                        f"database {self.label}: the server refuses the connection ({text}); "
                        f"{advice}"
                    )
            tips = "".join(f"; {tip}" for phrase, tip in _ADVICE.items() if phrase in text)
            return DatabaseLostError(f"database {self.label} cannot be reached ({text}){tips}")
        return DatabaseError(f"database {self.label}: {text}")

    def _grant(self, text: str) -> str:
        """The statement that grants what was refused; ``ROLE`` is the user."""
        schema = composed.Identifier(self._schema).as_string()
        if "for database" in text:
            return "GRANT CREATE ON DATABASE ... TO ROLE, or makes the schema for it"
        if "for schema" in text:
            return f"GRANT USAGE, CREATE ON SCHEMA {schema} TO ROLE"
        if "for function" in text:
            return f"GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA {schema} TO ROLE"
        rights = "SELECT" if self.read_only else "SELECT, INSERT, UPDATE, DELETE"
        return f"GRANT {rights} ON ALL TABLES IN SCHEMA {schema} TO ROLE"


def _must_put(raw: Transaction, sql: str, parameters: Parameters, expected: int) -> int:
    """Execute a statement that writes one row with an id, or fails the transaction."""
    raw.execute(f"{MUST_WRITE}{sql}", (*parameters, expected))
    return expected


_OLDEST = 140000

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_LOOKS = 20
"""How often per second a read-only follower polls, as it cannot register for notifications."""

_MIXED = (
    "is behind a pooler that gives a session now this connection and now that: it needs one of its "
    "own, as with pool_mode=session of PgBouncer"
)

_MEANINGS: dict[type[Exception], str] = {
    errors.DiskFull: "cannot grow: the disk of the server is full",
    errors.ReadOnlySqlTransaction: "is read-only",
    errors.DuplicatePreparedStatement: _MIXED,
    errors.InvalidSqlStatementName: _MIXED,
}

_REFUSALS = {
    "password authentication failed": "correct the user or the password",
    "no password supplied": "give a password: in ~/.pgpass, in PGPASSWORD or in the URL",
    "pg_hba.conf": "pg_hba.conf of the server says which users may come from which hosts, and how",
    "does not exist": "correct the name, or make it on the server",
    "is not permitted to log in": "ALTER ROLE ... LOGIN allows it",
    "invalid value for parameter": "correct what options= of the URL says of it",
    "permission denied for database": "GRANT CONNECT ON DATABASE ... TO ROLE allows it",
}
"""Phrases of errors without a code with which a server refuses a connection, and remedies."""


_MORE_ROOM = (
    "a process takes up to three connections: raise max_connections of the server, or have fewer "
    "processes"
)
_ADVICE = {
    "too many clients": _MORE_ROOM,
    "too many connections": _MORE_ROOM,
    "connection slots are reserved": _MORE_ROOM,
    "server is in hot standby mode": (
        "a replica takes no writes until it is promoted: name its primary, too, as in "
        "postgresql://ann@db1,db2/work, or open it with read_only=True"
    ),
    "statement timeout": "ALTER ROLE ... SET statement_timeout allows the user more",
}
"""Phrases of temporary errors of a server, and remedies."""


def _unknown_parameter(shown: str) -> str:
    """The first parameter of a URL without its password that libpq does not know."""
    known = [option.keyword.decode() for option in psycopg.pq.Conninfo.get_defaults()]
    for pair in shown.partition("?")[2].split("&"):
        key = pair.partition("=")[0]
        if key and key not in known:
            return f"the parameter {key!r}, which libpq does not know{closest(key, known)},"
    return "a part of it"


def _names(path: str) -> list[str]:
    """The schemas of a search path, as the server reads them."""
    names = [
        quoted.replace('""', '"').encode() or plain.encode().lower()
        for quoted, plain in _NAMES.findall(path)
    ]
    return [name[:_LONGEST_NAME].decode(errors="ignore") for name in names]


def _one(cursor: psycopg.Cursor) -> tuple[Any, ...]:
    """The only row of a query."""
    row = cursor.fetchone()
    assert row is not None
    return tuple(row)
