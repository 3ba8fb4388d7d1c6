"""The statements of ``queries.sql`` as PostgreSQL has them."""

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
        names: The names of its parameters in their order; none if they are given in order.
    """

    text: bytes
    names: Sequence[str]

    def encoded(self, given: Parameters) -> list[bytes | None]:
        """The parameters as the server takes them.

        Raises:
            DefinitionError: A text has a character that it cannot store.
            UnicodeEncodeError: Likewise, one that no database can.
        """
        if isinstance(given, Mapping):
            given = [given[name] for name in self.names]
        return [
            one
            if one is None
            else b"%d" % one
            if type(one) is int
            else one.encode()
            if type(one) is str and "\0" not in one
            else _encoded(one)
            for one in given
        ]


MUST_WRITE = "MUST WRITE "
"""Before a statement on the log: it fails if it writes no row of the number that follows its
parameters."""


@cache
def statement(sql: str) -> Statement:
    """What a statement is for the server."""
    if sql.startswith(MUST_WRITE):
        inner = statement(sql.removeprefix(MUST_WRITE)).text
        returning = b"" if inner.startswith(b"INSERT") else b" RETURNING id"
        must = b"SELECT pf_must(count(*)) FROM done WHERE id = $%d" % (inner.count(b"$") + 1)
        return Statement(b"WITH done AS (%s%s) %s" % (inner, returning, must), ())
    names: dict[str, int] = {}
    count = 0

    def numbered(found: re.Match[str]) -> str:
        nonlocal count
        token, name = found[0], found[1]
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
    """A parameter of another kind."""
    if isinstance(value, str) and "\0" in value:
        raise DefinitionError(
            f"{value!r:.60} has a NUL character, which PostgreSQL cannot store; leave it out"
        )
    return b"%d" % value if isinstance(value, int) else str(value).encode()
