"""Runs on a PostgreSQL server: what needs psycopg is imported when one is opened."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pocoflow.errors import DefinitionError

if TYPE_CHECKING:
    from pocoflow.db.connection import Connection
    from pocoflow.db.port import Locks

LEASE = 15.0
"""Seconds after which others take the runs of a process that is not heard of."""

UNREADABLE = "postgresql://..."
"""What is shown of a URL that cannot be read."""

_SERVER = re.compile(r"postgres(ql)?://")


_HOST = r"(\[[^]]*]|[^:/@?,]*)(:\d*)?"
_READABLE = re.compile(rf"([^@?:/]*@)?{_HOST}(,{_HOST})*(/[^@?]*)?")
_SECRETS = re.compile(r"(?i)(^|&)(password|sslpassword)=[^&]*")

_urls: dict[str, str] = {}


def is_server(path: object) -> bool:
    """Whether what names a database is the URL of a server."""
    return isinstance(path, str) and _SERVER.match(path) is not None


def without_password(url: str) -> str:
    """The URL of a server as it may be shown; in this process it names the server as before."""
    scheme, _, rest = url.partition("://")
    main, mark, query = rest.partition("?")
    who, at, where = main.rpartition("@")
    shown = f"{who.partition(':')[0]}{at}{where}"
    kept = _SECRETS.sub("", query).lstrip("&")
    shown = f"{scheme}://{shown}{mark if kept else ''}{kept}"
    if not _READABLE.fullmatch(shown.partition("://")[2].partition("?")[0]):
        shown = UNREADABLE  # nobody knows what of it is secret
    if shown != url:
        _urls[shown] = url
    return shown


def url_of(shown: str) -> str:
    """The URL of a server, with its password if that is known in this process."""
    return _urls.get(shown, shown)


def open_server(
    url: str, *, synchronous: str, busy_timeout: float, read_only: bool, lease: float | None
) -> tuple[Connection, Locks]:
    """Connect to a server.

    Raises:
        DefinitionError: psycopg is not installed, or the lease is no time.
        DatabaseFileError: It is not there, or refuses this user.
        DatabaseError: The server cannot be reached, or refuses it.
    """
    seconds = LEASE if lease is None else lease
    if not 0.1 <= seconds < float("inf"):
        raise DefinitionError(f"WorkflowDB(lease={lease!r}): seconds, at least 0.1")
    try:
        import psycopg  # noqa: F401 - to say so if it is not there
    except ImportError as exc:
        raise DefinitionError(
            "a database on a PostgreSQL server needs psycopg, which is not installed: "
            f"pip install 'pocoflow[postgres]' ({exc})"
        ) from exc
    from pocoflow.db.postgres.leases import Leases
    from pocoflow.db.postgres.server import ServerConnection

    shown = without_password(url)
    connection = ServerConnection(
        (url_of(url), shown),
        synchronous=synchronous,
        busy_timeout=busy_timeout,
        read_only=read_only,
    )
    return connection, Leases(connection, seconds)
