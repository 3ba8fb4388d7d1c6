"""The process of one contender: does rounds of a work as it is told, line by line.

    python -m benchmarks.worker CONTENDER WORK

It answers in JSON lines: first with the versions of what is installed, then with what each round
measured. What libraries print goes to the standard error.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import sqlite3
import sys
import tempfile
import traceback
from importlib import import_module
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, TextIO

from benchmarks.task import Task, Worker


def main() -> None:
    contender, work = sys.argv[1:]
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    try:
        worker, absent = find(contender, work)
    except ModuleNotFoundError as error:
        answer(answers, {"missing": f"not installed: {error}"})
        return
    if worker is None:
        answer(answers, {"absent": absent})
        return
    answer(answers, {"versions": versions()})
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCHMARKS_FOLDER")) as home:
        for line in sys.stdin:
            answer(answers, one_round(worker, Path(home), json.loads(line)))


def find(contender: str, work: str) -> tuple[Worker | None, str]:
    """The function that does a work, or why the contender has none."""
    module = import_module(f"benchmarks.contenders.{contender}")
    absent: dict[str, str] = getattr(module, "ABSENT", {})
    return module.WORKERS.get(work), absent.get(work, "has nothing for it")


def one_round(worker: Worker, home: Path, request: dict[str, Any]) -> dict[str, Any]:
    folder = Path(tempfile.mkdtemp(dir=home))
    try:
        return {"measures": worker(Task(folder=folder, home=home, **request))}
    except Exception as error:  # noqa: BLE001 - whatever it is, the table has to tell
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {error}"[:300]}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def versions() -> dict[str, str]:
    installed = {one.metadata["Name"]: one.version for one in distributions()}
    return {
        **dict(sorted(installed.items(), key=lambda item: item[0].lower())),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "sqlite": sqlite3.sqlite_version,
    }


def answer(answers: TextIO, what: dict[str, Any]) -> None:
    answers.write(json.dumps(what) + "\n")
    answers.flush()


if __name__ == "__main__":
    main()
