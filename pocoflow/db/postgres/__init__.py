"""Runs on a PostgreSQL server; psycopg is only imported when a server is opened."""

from __future__ import annotations

import os
import re
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import unquote

from pocoflow.errors import DatabaseFileError, DefinitionError
from pocoflow.nodes.setting_checks import is_time

if TYPE_CHECKING:
    from pocoflow.db.connection import Connection
    from pocoflow.db.port import Locks

LEASE = 15.0
"""Seconds after which others may take the runs of a process that has not renewed its leases."""

_IDLE = 2.0, 10.0
"""The minimum and maximum seconds for which a suspended process may keep a transaction open."""

UNREADABLE = "postgresql://..."
"""The text shown for a URL that cannot be parsed."""

_SERVER = re.compile(r"postgres(ql)?://")
_URL = re.compile(r"\W*[a-zA-Z][\w+.-]+:/|.*?://", re.DOTALL)
_OF_FILES = ("file", "sqlite", "sqlite3")

_SECRETS = {"password", "sslpassword", "scram_client_key", "scram_server_key"} | {
    "oauth_client_secret"
}
_WORDS = (
    "host|hostaddr|port|dbname|user|password|passfile|service|servicefile|options|"
    "application_name|connect_timeout|channel_binding|require_auth|target_session_attrs|"
    "client_encoding|gss\\w+|krbsrvname|ssl\\w+|requiressl|keepalives\\w*|tcp_user_timeout"
)
_PAIRS = re.compile(rf"(?i)\s*({_WORDS})\s*=|.*\bpassword\s*=", re.DOTALL)
"""A connection string of libpq in the form ``key=value``."""

_HOST = r"(\[[^]]*]|[^:/@?,]*)(:\d*)?"
_HOSTS = re.compile(rf"{_HOST}(,{_HOST})*")
_NOT_ENCODED = re.compile("%(?![0-9a-fA-F]{2})|%00")

_urls: dict[str, str] = {}
_opened: dict[str, str] = {}


def is_server(path: object) -> bool:
    """Whether the name of a database is the URL of a server."""
    return isinstance(path, str) and _SERVER.match(path) is not None


def refuse_other_names(path: object) -> None:
    """Refuse a name that is neither a path nor the URL of a server; shows no secret.

    Raises:
        DefinitionError: It is another URL, a connection string of libpq, or a path in which a
            shell would expand a home folder.
    """
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else ""
    if not isinstance(text, str) or is_server(path):
        return
    if path == "":
        raise DefinitionError("'' names no database: write the path of its file, such as runs.db")
    if text.startswith("~") and (home := os.path.expanduser(text)) != text:
        raise DefinitionError(
            f"{text!r} is no path from the home folder, as Python does not read it like a shell: "
            f"write {home!r}, or Path({text!r}).expanduser()"
        )
    if (begin := _URL.match(text)) is not None:
        scheme, rest = text[: begin.end()].rstrip("/"), text[begin.end() :].lstrip("/")
        of_file = scheme.lower().partition(":")[0].partition("+")[0] in _OF_FILES
        if of_file and not set(rest) & set("@?"):
            raise DefinitionError(
                "a database is named by the path of its file, not by a URL such as "
                f"{text!r}: write {rest!r}"
            )
        shown = f"{scheme}//" if not set(scheme) & set("@=") else "..."
        raise DefinitionError(
            "a database is named by the path of its file, or by the URL of a PostgreSQL server, "
            f"postgresql://user@host:port/database; {shown!r} is the beginning of neither"
        )
    if _PAIRS.match(text):
        raise DefinitionError(
            "a PostgreSQL server is named by a URL, not by key=value: write "
            "postgresql://user@host:port/database?key=value; a file of such a name is given with "
            "its folder, as in ./user=ann"
        )


def without_password(url: str) -> str:
    """The URL of a server without secrets; :func:`url_of` restores it in this process."""
    if wrong_part(url):
        shown = UNREADABLE  # any part of it may be secret
    else:
        scheme, _, rest = url.partition("://")
        main, mark, query = rest.partition("?")
        user, at, location = main.rpartition("@")
        public = "&".join(pair for pair in query.split("&") if _key(pair) not in _SECRETS)
        shown = f"{scheme}://{user.partition(':')[0]}{at}{location}{mark if public else ''}{public}"
    if shown != url:
        _urls[shown] = url
    return shown


def wrong_part(url: str) -> str:
    """The part of the URL of a server that cannot be parsed, or ``""``; without secrets."""
    main, _, query = url.partition("://")[2].partition("?")
    user, at, location = main.rpartition("@")
    hosts, _, name = location.partition("/")
    is_cut = "@" in query and hosts != "" and not at and name == ""  # by a ? of the password
    if is_cut or set(user) & set("@/") or _NOT_ENCODED.search(user):
        return "the user or the password"
    if not _HOSTS.fullmatch(hosts) or _NOT_ENCODED.search(hosts):
        return "the host or the port"
    if "@" in name or _NOT_ENCODED.search(name):
        return "the name of the database"
    for pair in query.split("&") if query else ():
        if pair.count("=") != 1 or _NOT_ENCODED.search(pair):
            is_known = re.fullmatch(_WORDS, _key(pair)) is not None
            return f"the parameter {_key(pair)!r}" if is_known else "a parameter"
    return ""


def _key(parameter: str) -> str:
    return unquote(parameter.partition("=")[0]).lower()


def url_of(shown: str) -> str:
    """The URL of a server, with its password if this process knows it."""
    return _urls.get(shown, shown)


def open_server(
    url: str, *, synchronous: str, busy_timeout: float, read_only: bool, lease: float | None
) -> tuple[Connection, Locks]:
    """Connect to a server.

    Raises:
        DefinitionError: psycopg is not installed, or the lease is not a time.
        DatabaseFileError: The database does not exist, or refuses this user.
        DatabaseError: The server cannot be reached, or refuses the connection.
    """
    seconds = LEASE if lease is None else lease
    if not is_time(seconds) or seconds < 0.1:
        raise DefinitionError(f"WorkflowDB(lease={lease!r}): seconds, at least 0.1")
    try:
        import psycopg  # noqa: F401 - to report it if it is missing
    except ImportError as exc:
        raise DefinitionError(
            "a database on a PostgreSQL server needs psycopg, which is not installed: "
            f"pip install 'pocoflow[postgres]' ({exc})"
        ) from exc
    from pocoflow.db.postgres.leases import Leases
    from pocoflow.db.postgres.server import ServerConnection

    shown = without_password(url)
    whole = url_of(url)
    connect = partial(
        ServerConnection,
        (whole, shown),
        busy_timeout=busy_timeout,
        read_only=read_only,
        idle=min(max(seconds, _IDLE[0]), _IDLE[1]),
    )
    try:
        connection = connect(synchronous=synchronous)
    except DatabaseFileError:
        if shown in _opened:  # a wrong password must not replace a right one
            _urls[shown] = _opened[shown]
        raise
    _opened[shown] = whole
    return connection, Leases(partial(connect, synchronous="NORMAL"), seconds)
