"""Planted mistakes, and who finds each: type checkers, ``pocoflow check``, or only the run.

The table in docs/explanation/who-catches-what.md is what this finds. To write it anew:
``POCOFLOW_WRITE_DOCS=1 pytest tests/integration/test_mistakes.py``.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.integration.mistakes import MISTAKES, PRELUDE

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "explanation" / "who-catches-what.md"
CHECKERS = ("mypy", "pyright", "ty")

# What one process does with all programs: import, validate, run, each in a folder of its own.
TRIAL = """
import importlib, json, logging, os, sys, traceback
from pocoflow.errors import FlowValidationError, MissingInputError
found, logged = {}, []
class Keeps(logging.Handler):
    def emit(self, record):
        logged.append(record.getMessage())
logging.getLogger("pocoflow").addHandler(Keeps("WARNING"))
sys.path.insert(0, os.getcwd())
for name in sys.argv[1:]:
    told = found[name] = {"check": "", "run": ""}
    try:
        module = importlib.import_module(name)
    except Exception as exc:
        told["check"], told["error"] = "on import", str(exc)
        continue
    findings = module.flow.validate()
    told["check"] = ", ".join(dict.fromkeys(one.code for one in findings))
    logged.clear()
    os.mkdir(f"{name}.run")
    os.chdir(f"{name}.run")
    try:
        module.flow.max_steps = 20
        module.flow.run(module.given)
    except (FlowValidationError, MissingInputError) as exc:
        told["run"] = "before it begins"
    except Exception as exc:
        told["run"] = "in a node"
    else:
        told["run"] = "in the log" if any(": PF" in one for one in logged) else ""
    os.chdir("..")
print(json.dumps(found))
"""


def execute(folder: Path, *command: str) -> str:
    """What a module prints."""
    environment = {k: v for k, v in os.environ.items() if k not in ("MYPYPATH", "PYTHONPATH")}
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(ROOT), "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.stdout


def mypy(folder: Path) -> set[str]:
    """The programs in which mypy finds an error."""
    printed = execute(folder, "mypy", "--strict", "--output", "json", "--cache-dir", ".mypy", ".")
    lines = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    return {Path(one["file"]).stem for one in lines if one["severity"] == "error"}


def pyright(folder: Path) -> set[str]:
    """The programs in which pyright finds an error."""
    printed = execute(folder, "pyright", "--outputjson", "--pythonpath", sys.executable, ".")
    found = json.loads(printed)["generalDiagnostics"]
    return {Path(one["file"]).stem for one in found if one["severity"] == "error"}


def ty(folder: Path) -> set[str]:
    """The programs in which ty finds an error."""
    options = ("--python", sys.prefix, "--output-format", "concise")
    printed = execute(folder, "ty", "check", "--extra-search-path", str(ROOT), *options, ".")
    return {Path(one).stem for one in re.findall(r"^(\S+?):\d+:\d+: error", printed, re.MULTILINE)}


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a program for each mistake, and one without."""
    folder = tmp_path_factory.mktemp("mistakes")
    (folder / "right.py").write_text(PRELUDE + "flow.then(summarise, publish)\n", encoding="utf-8")
    for number, mistake in enumerate(MISTAKES):
        text = PRELUDE + mistake.program
        (folder / f"m{number:02}.py").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def found(programs: Path) -> dict[str, dict[str, str]]:
    """Who found what: checker or step, by program."""
    names = sorted(path.stem for path in programs.glob("*.py"))
    with ThreadPoolExecutor() as pool:
        readers: tuple[Callable[[Path], set[str]], ...] = (mypy, pyright, ty)
        running = [pool.submit(reader, programs) for reader in readers]
        checked = [one.result() for one in running]
    done = subprocess.run(
        [sys.executable, "-c", TRIAL, *names],
        cwd=programs,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    tried: dict[str, dict[str, str]] = json.loads(done.stdout.splitlines()[-1])
    for name in names:
        for checker, those in zip(CHECKERS, checked, strict=True):
            tried[name][checker] = "yes" if name in those else ""
    return tried


def table(found: dict[str, dict[str, str]]) -> str:
    """The rows of the page."""
    rows = []
    for number, mistake in enumerate(MISTAKES):
        told = found[f"m{number:02}"]
        cells = [told[one] or "-" for one in (*CHECKERS, "check", "run")]
        rows.append(f"| {mistake.title} | {' | '.join(cells)} |\n")
    return "".join(rows)


def test_at_least_40_mistakes_are_planted() -> None:
    """There are at least 40 mistakes, and no two are the same."""
    assert len({one.program for one in MISTAKES}) == len(MISTAKES) >= 40


def test_nobody_complains_of_the_program_without_a_mistake(
    found: dict[str, dict[str, str]],
) -> None:
    """What is found is the mistake, not the program around it."""
    assert set(found["right"].values()) == {""}


def test_every_mistake_is_found_before_the_run(found: dict[str, dict[str, str]]) -> None:
    """No mistake waits for the run: a checker or ``pocoflow check`` finds each."""
    late = [
        one.title
        for number, one in enumerate(MISTAKES)
        if not any(found[f"m{number:02}"][who] for who in (*CHECKERS, "check"))
        and found[f"m{number:02}"]["run"] != "before it begins"
    ]
    assert late == []


@pytest.mark.parametrize("checker", CHECKERS)
def test_what_annotations_can_say_is_found_by_every_checker(
    checker: str, found: dict[str, dict[str, str]]
) -> None:
    """A mistake that types express is found by each type checker, without a plugin."""
    missed = [
        one.title
        for number, one in enumerate(MISTAKES)
        if one.typed and not found[f"m{number:02}"][checker]
    ]
    assert missed == []


def test_the_page_has_the_table(found: dict[str, dict[str, str]]) -> None:
    """docs/explanation/who-catches-what.md says what is found, and nothing else."""
    text = PAGE.read_text("utf-8")
    head, rows, tail = re.split(r"(?<=\| --- \|\n)((?:\|.*\n)+)", text, maxsplit=1)
    if os.environ.get("POCOFLOW_WRITE_DOCS"):
        PAGE.write_text(head + table(found) + tail, encoding="utf-8")
        rows = table(found)
    assert rows == table(found)
