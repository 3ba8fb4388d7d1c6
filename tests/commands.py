"""Programs that are started as a user starts them, in processes that have imported the library.

A process that has imported pocoflow, and does nothing more, forks one for each program. So each
has a process, a folder, an environment and an exit code of its own, and lacks only what Python
takes to start, which is most of the time of a command.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import types
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn, cast

from pocoflow import Flow, Node

DEADLINE = 300

_FILES = 4
"""Standard input, output and error of a program, and where its id and its exit code are told."""

_asking = threading.Lock()


class Program:
    """A program that runs, ``python`` with warnings as errors.

    Args:
        arguments: ``"-m", "pocoflow"``, or ``"-c"`` and code, or a script; and what follows it.
        folder: The current folder.
        files: Its standard input, output and error.
        environment: What is added to that of this process.
    """

    def __init__(
        self,
        *arguments: str,
        folder: Path,
        files: Sequence[int],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.arguments = arguments
        self._code: int | None = None
        asked = {
            "arguments": arguments,
            "folder": os.fspath(folder),
            "environment": {**os.environ, **(environment or {})},
        }
        reading, writing = os.pipe()
        self._told = os.fdopen(reading, encoding="ascii")
        text = json.dumps(asked).encode()
        with _asking:
            server = _server(os.getpid())
            socket.send_fds(server, [len(text).to_bytes(4, "big")], [*files, writing])
            server.sendall(text)
        os.close(writing)
        self.pid = int(self._told.readline())

    def wait(self) -> int:
        """Wait for its end; its exit code."""
        assert self._ends(DEADLINE), f"{self.arguments} hangs"
        assert self._code is not None
        return self._code

    def kill(self) -> None:
        """End it in this instant, if it runs yet."""
        if not self._ends(0):
            os.kill(self.pid, signal.SIGKILL)
            self.wait()

    def _ends(self, within: float) -> bool:
        if self._code is None and select.select([self._told], [], [], within)[0]:
            with self._told:
                self._code = int(self._told.readline())
        return self._code is not None


def execute(
    *arguments: str,
    folder: Path,
    typed: str = "",
    environment: Mapping[str, str] | None = None,
    joined: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run a program, and wait for its end.

    Args:
        arguments: As those of :class:`Program`.
        folder: The current folder.
        typed: What stands in its standard input.
        environment: What is added to that of this process.
        joined: Whether what it writes to standard error is in its output.
    """
    with ExitStack() as stack:
        given, output, errors = (
            stack.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8")) for _ in range(3)
        )
        given.write(typed)
        given.seek(0)
        files = [one.fileno() for one in (given, output, output if joined else errors)]
        code = Program(*arguments, folder=folder, files=files, environment=environment).wait()
        output.seek(0)
        errors.seek(0)
        return subprocess.CompletedProcess(arguments, code, output.read(), errors.read())


@cache
def _server(pid: int) -> socket.socket:
    """A way to the process that forks, which ends when the process of the tests does."""
    ours, its = socket.socketpair()
    with its:
        server = subprocess.Popen(
            [sys.executable, "-X", "utf8", "-W", "error", "-m", "tests.commands"],
            cwd=Path(__file__).parents[1],
            stdin=its.fileno(),
        )
    atexit.register(_end, server, ours, pid)
    return ours


def _end(server: subprocess.Popen[bytes], asking: socket.socket, pid: int) -> None:
    asking.close()
    if pid == os.getpid():
        server.wait()


def _serve(asked: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """Fork for each request; in the program, what it is to do, and its files."""
    while True:
        size, files, _, _ = socket.recv_fds(asked, 4, _FILES)
        if not size:
            return None
        text = asked.recv(int.from_bytes(size, "big"), socket.MSG_WAITALL)
        if not os.fork():
            asked.close()
            if not (program := os.fork()):
                return json.loads(text), files
            _watch(program, files)
        for one in files:
            os.close(one)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _watch(program: int, files: Sequence[int]) -> NoReturn:
    """Tell of a program that it runs, and how it ends."""
    *others, tell = files
    for one in others:
        os.close(one)
    os.write(tell, f"{program}\n".encode())
    code = os.waitstatus_to_exitcode(os.waitpid(program, 0)[1])
    with suppress(BrokenPipeError):
        os.write(tell, f"{code}\n".encode())
    os._exit(0)


def _become(asked: dict[str, Any], files: Sequence[int]) -> None:
    """Be the program, from its first line on."""
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    for number, one in enumerate(files):
        if number < _FILES - 1:
            os.dup2(one, number)
        os.close(one)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - open to the end
    first, *rest = asked["arguments"]
    main = types.ModuleType("__main__")
    sys.modules["__main__"] = main
    sys.path[0], source = asked["folder"], None
    if first == "-c":
        file, (source, *rest) = "<string>", rest
    elif first == "-m":
        spec = find_spec(name := rest.pop(0))
        if spec is not None and spec.submodule_search_locations is not None:
            spec = find_spec(f"{name}.__main__")
        main.__spec__ = spec
        assert spec is not None
        assert spec.origin is not None
        first = file = spec.origin
    else:
        file, sys.path[0] = first, os.path.dirname(os.path.abspath(first))
    if source is None:
        main.__file__, source = file, Path(file).read_text(encoding="utf-8")
    sys.argv = [first, *rest]
    code = compile(source, file, "exec", dont_inherit=True)
    try:
        exec(code, main.__dict__)  # noqa: S102 - it is the program
    except Exception as exc:  # noqa: BLE001 - told as Python tells it, without the frame above
        above = cast(types.TracebackType, exc.__traceback__)
        sys.excepthook(type(exc), exc, above.tb_next)
        sys.exit(1)


if __name__ == "__main__":
    for command in ("answer", "asked", "check", "runs", "show"):
        import_module(f"pocoflow.cli.{command}")
    Flow(Node()).run({})  # which loads what runs need
    program = _serve(socket.socket(fileno=0))
    if program is not None:
        _become(*program)
