"""Programs that are started as a user starts them, in processes that have imported the library.

A process that has imported pocoflow, and does nothing, forks one for each program. So each has a
process, a folder, an environment and an exit code of its own, and lacks only what Python takes to
start, which is most of the time of a command.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import subprocess
import sys
import tempfile
import threading
import types
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

DEADLINE = 300


def execute(
    *arguments: str,
    folder: Path,
    typed: str = "",
    environment: Mapping[str, str] | None = None,
    joined: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run ``python`` with warnings as errors, and wait for its end.

    Args:
        arguments: ``"-m", "pocoflow"``, or ``"-c"`` and code, or a script; and what follows it.
        folder: The current folder.
        typed: What stands in its standard input.
        environment: What is added to that of this process.
        joined: Whether what it writes to standard error is in its output.
    """
    with tempfile.TemporaryDirectory() as name:
        files = [Path(name, which) for which in ("in", "out", "out" if joined else "error")]
        files[0].write_text(typed, encoding="utf-8")
        asked = {
            "arguments": arguments,
            "folder": os.fspath(folder),
            "environment": {**os.environ, **(environment or {})},
            "files": [os.fspath(file) for file in files],
        }
        code = _ask(_server(os.getpid(), threading.get_ident()), asked)
        output, errors = (file.read_text(encoding="utf-8") for file in files[1:])
        return subprocess.CompletedProcess(arguments, code, output, "" if joined else errors)


@cache
def _server(pid: int, thread: int) -> subprocess.Popen[str]:
    """The process that forks, of a thread of the tests; it ends when their process does."""
    server = subprocess.Popen(
        [sys.executable, "-X", "utf8", "-W", "error", "-m", "tests.commands"],
        cwd=Path(__file__).parents[1],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    atexit.register(_end, server, pid)
    return server


def _end(server: subprocess.Popen[str], pid: int) -> None:
    if pid == os.getpid():
        server.communicate()


def _ask(server: subprocess.Popen[str], asked: dict[str, Any]) -> int:
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write(json.dumps(asked) + "\n")
    server.stdin.flush()
    assert select.select([server.stdout], [], [], DEADLINE)[0], f"{asked['arguments']} hangs"
    return cast(int, json.loads(server.stdout.readline()))


def _serve() -> dict[str, Any] | None:
    """Fork for each request; in the child, what it is to do."""
    while line := sys.stdin.readline():
        child = os.fork()
        if not child:
            return cast("dict[str, Any]", json.loads(line))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os.write(1, f"{code}\n".encode())
    return None


def _become(asked: dict[str, Any]) -> None:
    """Be the program, from its first line on."""
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    for number, file in enumerate(asked["files"]):
        opened = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - open to the end
    first, *rest = asked["arguments"]
    main = types.ModuleType("__main__")
    sys.modules["__main__"] = main
    sys.path[0], source = asked["folder"], None
    if first == "-c":
        file, (source, *rest) = "<string>", rest
    elif first == "-m":
        main.__spec__ = spec = find_spec(f"{rest.pop(0)}.__main__")
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
    program = _serve()
    if program is not None:
        _become(program)
