"""Web apps in processes of their own, over real sockets, and clients of them."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any, NamedTuple, Self

import pocoflow

__all__ = ["LATER", "Client", "Served", "Service"]

ROOT = Path(__file__).parents[1]
DEADLINE = 120.0
LATER = (429, 503)
"""What a request is answered with that may be sent again."""


class Served(NamedTuple):
    """What a request is answered with."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> Any:
        """The JSON value of the body."""
        return json.loads(self.text)


class Service:
    """uvicorn in a process, on a socket that stays when the process is killed and started anew.

    Args:
        target: The application, ``module:name``.
        folder: Where its log is, and its current folder.
        variables: More of its environment.
        options: More options of uvicorn.
    """

    def __init__(
        self, target: str, folder: Path, variables: dict[str, str] | None = None, *options: str
    ) -> None:
        self.log = folder / "uvicorn.log"
        self._target, self._folder, self._options = target, folder, options
        paths = [str(Path(pocoflow.__file__).parents[1]), str(ROOT)]
        self._environment = {
            **os.environ,
            **(variables or {}),
            "PYTHONPATH": os.pathsep.join(paths),
        }
        # It listens already, so that a request may come before the server is up.
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-W", "error", "-m", "uvicorn", self._target]
        command += ["--fd", str(self._listener.fileno()), "--log-level", "warning"]
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [*command, *self._options],
                env=self._environment,
                cwd=self._folder,
                pass_fds=[self._listener.fileno()],
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def kill(self) -> None:
        """Kill it, and start it anew."""
        self.process.kill()
        self.process.wait(DEADLINE)
        self.process = self._start()

    def stop(self) -> int:
        """End it as a process manager does; its exit code."""
        self.process.terminate()
        return self.process.wait(DEADLINE)

    def client(self, user: str | None = None) -> Client:
        """A client that is a user, or a stranger."""
        return Client(self.port, user)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.wait(DEADLINE)
        self._listener.close()


class Client:
    """Somebody who sends requests, each on a connection of its own."""

    def __init__(self, port: int, user: str | None) -> None:
        self._port = port
        self._own = {} if user is None else {"X-User": user, "Cookie": f"visitor={user}"}

    def ask(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> http.client.HTTPResponse:
        """Send a request; the response as it begins."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=DEADLINE)
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, {**self._own, "Connection": "close", **given})
        return connection.getresponse()

    def send(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Served:
        """Send a request; the whole response."""
        with self.ask(method, path, body, **headers) as response:
            told = {name.lower(): value for name, value in response.getheaders()}
            return Served(response.status, told, response.read().decode())

    def get(self, path: str) -> Served:
        """Get something."""
        return self.send("GET", path)

    def post(self, path: str, body: object) -> Served:
        """Send a JSON value."""
        return self.send("POST", path, json.dumps(body).encode(), Content_Type="application/json")

    def events(self, path: str, **headers: str) -> Generator[dict[str, Any], None, None]:
        """The events of a run as they come; closing it leaves the connection.

        Raises:
            ConnectionError: There is no stream now, or it breaks off.
        """
        with self.ask("GET", path, None, **headers) as response:
            if response.status == 204:
                return
            if response.status in LATER:
                raise ConnectionError(response.status, response.read())
            assert response.status == 200, (response.status, response.read())
            number = None
            while line := response.readline():
                if not line.endswith(b"\n"):
                    raise ConnectionError(f"the stream broke off after {line!r}")
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name == "id":
                    number = int(value)
                elif name == "data":
                    event = json.loads(value)
                    assert event["number"] == number
                    yield event
