"""A PostgreSQL server for tests: ``initdb`` and ``pg_ctl`` of the system, not as root."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import psycopg

__all__ = ["Server", "found", "running"]

_FAST = "-c fsync=off -c full_page_writes=off -c synchronous_commit=off -c max_connections=300"
_WAIT = 120
_numbers = count(1)


def found() -> Path | None:
    """The folder of ``initdb`` and ``pg_ctl``, the newest that is here."""
    on_path = shutil.which("initdb")
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    there = Path(on_path) if on_path else versions[-1] if versions else None
    return there.resolve().parent if there is not None else None


class Server:
    """A server that listens at a socket in a folder of its own.

    Args:
        folder: The folder.
        options: More options of ``postgres``.
    """

    def __init__(self, folder: Path, options: str = _FAST) -> None:
        binaries = found()
        assert binaries is not None
        self._binaries, self.folder, self._options = binaries, folder, options
        self._user: dict[str, Any] = {}
        if os.geteuid() == 0:
            names = {one.pw_name for one in pwd.getpwall()}
            owner = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
            self._user = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
            os.chown(folder, owner.pw_uid, owner.pw_gid)
        self._do("initdb", "-D", "data", "-U", "tester", "-A", "trust", "--no-sync", "-E", "UTF8")
        self.start()

    def _do(self, program: str, *arguments: str, through: Sequence[str] = ()) -> None:
        words, user = [str(self._binaries / program), *arguments], self._user
        if through and user:  # for what goes before may need the rights that the server has not
            owner = (f"--reuid={user['user']}", f"--regid={user['group']}", "--clear-groups")
            words, user = ["setpriv", *owner, *words], {}
        with (self.folder / f"{program}.log").open("ab") as log:
            subprocess.run(
                [*through, *words],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                timeout=_WAIT,
                check=True,
                **user,
            )

    def start(self, more: str = "", through: Sequence[str] = ()) -> None:
        """Start it, with more options, by a command that goes before."""
        options = f"-k {self.folder} -c listen_addresses= {self._options} {more}"
        self._do(
            "pg_ctl",
            "-D",
            "data",
            "-w",
            "-l",
            "server.log",
            "-o",
            options,
            "start",
            through=through,
        )

    def stop(self, mode: str = "immediate") -> None:
        """Stop it; at once, as a crash would: commits that were flushed are there afterwards."""
        self._do("pg_ctl", "-D", "data", "-m", mode, "stop")

    def url(
        self,
        schema: str | None = None,
        *,
        user: str = "tester",
        database: str = "postgres",
        host: str = "",
        more: str = "",
    ) -> str:
        """A database there; a schema that nobody has used by default."""
        schema = f"test_{next(_numbers)}" if schema is None else schema
        path = f"options=-csearch_path%3D{schema}"
        where = host or self.folder
        return f"postgresql://{user}@/{database}?host={where}&{path}{more}"

    def let_in(self, network: str) -> None:
        """Let users in that come from a network."""
        with (self.folder / "data" / "pg_hba.conf").open("a") as rules:
            rules.write(f"host all all {network} trust\n")
        self.execute("SELECT pg_reload_conf()")

    def own(self, folder: Path) -> None:
        """Make a folder that of the user of the server."""
        if self._user:
            os.chown(folder, self._user["user"], self._user["group"])

    def execute(self, *statements: str) -> list[tuple[Any, ...]]:
        """Execute statements beside the library; the rows of the last one."""
        rows: list[tuple[Any, ...]] = []
        with psycopg.connect(self.url("public"), autocommit=True) as connection:
            for one in statements:
                cursor = connection.execute(one.encode())
                rows = cursor.fetchall() if cursor.description else []
        return rows


@contextmanager
def running(options: str = _FAST, within: Path | None = None) -> Iterator[Server]:
    """A server, which is stopped in the end; its data are in a folder of temporary files."""
    folder = Path(tempfile.mkdtemp(prefix="pf-", dir=within))
    try:
        server = Server(folder, options)
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
