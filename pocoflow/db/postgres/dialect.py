"""The statements of ``queries.sql`` in the dialect of PostgreSQL."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import NamedTuple

from pocoflow.db.port import Parameters
from pocoflow.db.sql import QUERIES, statements
from pocoflow.errors import DefinitionError

_OF_SERVER = statements("queries.sql", "postgres/queries.sql")
_TEXTS = {text: _OF_SERVER[name] for name, text in QUERIES.items()}

_TOKENS = re.compile(r"'(?:[^']|'')*'|::|\bIS \?|\?|:([a-z_]+)")

_KEYS = {"pf_run": "run_no", "pf_log": "id", "pf_blob": "id", "pf_questions": "question"}
_COMMENTS = re.compile(r"^--.*\n", re.M)
_INSERTS = re.compile(r"INSERT INTO (\w+)")


class Statement(NamedTuple):
    """A statement for the server.

    Attributes:
        text: Its text.
        names: The names of its parameters in order; empty if they are positional.
    """

    text: bytes
    names: Sequence[str]

    def encoded(self, parameters: Parameters) -> list[bytes | None]:
        """The parameters in the format of the server.

        Raises:
            DefinitionError: A text has a character that the server cannot store.
            UnicodeEncodeError: A text has a character that no database can store.
        """
        if isinstance(parameters, Mapping):
            parameters = [parameters[name] for name in self.names]
        return [
            value
            if value is None
            else b"%d" % value
            if type(value) is int
            else value.encode()
            if type(value) is str and "\0" not in value
            else _encoded(value)
            for value in parameters
        ]


MUST_WRITE = "MUST WRITE "
"""The prefix of a statement on the log that fails unless it writes a row with the id that follows
its parameters."""


@cache
def statement(sql: str) -> Statement:
    """The form of a statement for the server."""
    if sql.startswith(MUST_WRITE):
        inner = statement(sql.removeprefix(MUST_WRITE)).text
        returning = b"" if inner.startswith(b"INSERT") else b" RETURNING id"
        must = b"SELECT pf_must(count(*)) FROM done WHERE id = $%d" % (inner.count(b"$") + 1)
        return Statement(b"WITH done AS (%s%s) %s" % (inner, returning, must), ())
    names: dict[str, int] = {}
    count = 0

    def numbered(match: re.Match[str]) -> str:
        nonlocal count
        token, name = match[0], match[1]
        if name is not None:
            return f"${names.setdefault(name, len(names) + 1)}"
        if token.endswith("?"):
            count += 1
            return f"IS NOT DISTINCT FROM ${count}" if token.startswith("IS") else f"${count}"
        return token

    text = _TOKENS.sub(numbered, _COMMENTS.sub("", _TEXTS.get(sql, sql))).rstrip().rstrip(";")
    inserts = _INSERTS.match(text)
    if inserts is not None and inserts[1] in _KEYS:
        text += f" RETURNING {_KEYS[inserts[1]]}"
    return Statement(text.encode(), list(names))


def _encoded(value: object) -> bytes:
    """The format of a parameter of another type."""
    if isinstance(value, str) and "\0" in value:
        raise DefinitionError(
            f"{value!r:.60} has a NUL character, which PostgreSQL cannot store; leave it out"
        )
    return b"%d" % value if isinstance(value, int) else str(value).encode()
