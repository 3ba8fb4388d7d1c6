"""What is imported by the first run can be imported by many threads at once, as a server does."""

from __future__ import annotations

import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import pocoflow

_PROGRAM = """
import importlib, random, sys, threading

import pocoflow

names = sys.argv[2:]
random.Random(int(sys.argv[1])).shuffle(names)
sys.setswitchinterval(1e-6)
all_there, wrong = threading.Barrier(len(names)), []


def load(name):
    all_there.wait()
    try:
        importlib.import_module(name)
    except BaseException as exc:
        wrong.append(f"{name}: {exc!r}")


threads = [threading.Thread(target=load, args=(name,)) for name in names]
for one in threads:
    one.start()
for one in threads:
    one.join()
print(*wrong, sep="\\n", end="")
"""
_PROGRAMS = {"cli", "ext", "pocketflow", "ui", "__main__"}


def _modules() -> list[str]:
    names = [one.name for one in pkgutil.walk_packages(pocoflow.__path__, "pocoflow.")]
    return [name for name in names if name.split(".")[1] not in _PROGRAMS]


@pytest.mark.parametrize("seed", range(4))
def test_threads_import_all_modules_at_once(seed: int, tmp_path: Path) -> None:
    """None finds half a module of another one, or waits for what waits for it."""
    names = _modules()
    assert len(names) > 150
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _PROGRAM, str(seed), *names],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(pocoflow.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
