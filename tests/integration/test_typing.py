"""mypy, pyright and ty agree on ``tests/typing``: what is right passes, every mistake is found.

The files there are never executed. A line with a planted mistake carries the two comments
``# type: ignore[code]  # ty: ignore[rule]``: a checker that no longer finds the mistake reports the
comment as unused. The tests do not rely on that alone: they also take the comments away, in a copy,
and look for an error on each of those lines.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path("tests", "typing")
BARE = "without_comments"
CHECKERS = ("mypy", "pyright", "ty")

CODES = r"\[[a-z-]+(?:, [a-z-]+)*\]"
COMMENTS = re.compile(rf"  # type: ignore{CODES}  # ty: ignore{CODES}$")
# What pyright adds in strict mode to a line that it does not understand, or that does nothing: it
# comes along with a mistake, and is not the finding of one.
SIDE_EFFECTS = ("reportUnknown", "reportUnused", "reportMissing")

Place: TypeAlias = tuple[str, int]


@dataclass(frozen=True)
class Report:
    """What one checker said of the files as they are, and without comments, by file and line."""

    commented: dict[Place, list[str]]
    bare: dict[Place, list[str]]

    @classmethod
    def of(cls, entries: Iterable[tuple[str, int, str]]) -> Report:
        report = cls({}, {})
        for file, line, message in entries:
            path = Path(file)
            # mypy reports what it follows into as well.
            parts = {FOLDER.name: report.commented, BARE: report.bare}
            part = parts.get(path.parent.name, {})
            part.setdefault((path.name, line), []).append(message)
        return report


def execute(project: Path, *command: str | Path) -> str:
    """Run a module in the project and return what it printed."""
    environment = {k: v for k, v in os.environ.items() if k not in ("MYPYPATH", "PYTHONPATH")}
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=project,
        env={**environment, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode in (0, 1), f"{command[0]} did not work:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def mypy(project: Path) -> Report:
    """Run mypy on the folder."""
    output = execute(project, "mypy", "--output", "json", FOLDER)
    found: list[dict[str, Any]] = [json.loads(line) for line in output.splitlines() if line]
    errors = [one for one in found if one["severity"] == "error"]
    return Report.of((one["file"], one["line"], one["message"]) for one in errors)


def pyright(project: Path) -> Report:
    """Run pyright on the folder."""
    output = execute(project, "pyright", "--outputjson", "--pythonpath", sys.executable, FOLDER)
    found: list[dict[str, Any]] = json.loads(output)["generalDiagnostics"]
    return Report.of(
        (one["file"], one["range"]["start"]["line"] + 1, one["message"])
        for one in found
        if BARE not in one["file"] or not one.get("rule", "").startswith(SIDE_EFFECTS)
    )


def ty(project: Path) -> Report:
    """Run ty on the folder."""
    output = execute(
        project, "ty", "check", "--python", sys.prefix, "--output-format", "concise", FOLDER
    )
    entries = re.findall(r"^(\S+?):(\d+):\d+: \w+\[\S+\] (.*)$", output, re.MULTILINE)
    return Report.of((file, int(line), message) for file, line, message in entries)


def marked_lines() -> dict[Place, str]:
    """The planted mistakes: the source of each marked line, without its comments."""
    found: dict[Place, str] = {}
    for path in sorted((ROOT / FOLDER).glob("*.py")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if ": ignore" in line:
                assert COMMENTS.search(line), f"{path.name}:{number}: {line.strip()}"
                found[path.name, number] = COMMENTS.sub("", line).strip()
    return found


MISTAKES = marked_lines()


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Report]:
    """What each checker says of a copy of the files and, beside it, one without the comments."""
    project = tmp_path_factory.mktemp("project")
    for name in ("pyproject.toml", "mypy.ini"):
        shutil.copy(ROOT / name, project)
    for name in ("pocoflow", "stubs"):
        shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
    (project / FOLDER / BARE).mkdir(parents=True)
    for path in (ROOT / FOLDER).glob("*.py"):
        shutil.copy(path, project / FOLDER)
        lines = [COMMENTS.sub("", line) for line in path.read_text(encoding="utf-8").splitlines()]
        bare = project / FOLDER / BARE / path.name
        bare.write_text("\n".join([*lines, ""]), encoding="utf-8")
    with ThreadPoolExecutor() as pool:
        running = [pool.submit(run, project) for run in (mypy, pyright, ty)]
        return {c: one.result() for c, one in zip(CHECKERS, running, strict=True)}


def table(reports: dict[str, Report]) -> str:
    """Mistake by checker, for the mistakes that not all of them found."""
    rows = []
    for place, source in MISTAKES.items():
        cells = ["yes" if place in reports[checker].bare else "MISSED" for checker in CHECKERS]
        if "MISSED" in cells:
            name = f"{place[0]}:{place[1]}"
            rows.append(f"{name:<18}" + "".join(f"{cell:<9}" for cell in cells) + source)
    heading = f"{'':<18}" + "".join(f"{checker:<9}" for checker in CHECKERS) + "mistake"
    return "\n".join([f"{len(rows)} of {len(MISTAKES)} mistakes missed", heading, *rows])


def test_at_least_25_mistakes_are_planted() -> None:
    """The files plant at least 25 mistakes, in every part of the library that has types."""
    assert len(MISTAKES) >= 25
    files = {file for file, _ in MISTAKES}
    assert files >= {"actions.py", "flow.py", "hooks.py", "overrides.py", "runs.py", "store.py"}


@pytest.mark.parametrize("checker", CHECKERS)
def test_a_checker_reports_nothing(checker: str, reports: dict[str, Report]) -> None:
    """Good uses pass under strict settings, and no comment on a mistake is unused."""
    found = reports[checker].commented
    lines = [f"{file}:{line}: {'; '.join(told)}" for (file, line), told in sorted(found.items())]
    assert not found, "\n".join([*lines, table(reports)])


def test_every_checker_reports_every_mistake_once_its_comments_are_gone(
    reports: dict[str, Report],
) -> None:
    """Without the comments, mypy, pyright and ty each report an error on every marked line."""
    assert all(place in reports[c].bare for place in MISTAKES for c in CHECKERS), table(reports)


@pytest.mark.parametrize("checker", CHECKERS)
def test_only_mistakes_are_reported(checker: str, reports: dict[str, Report]) -> None:
    """Without the comments, a checker reports the marked lines and no others."""
    assert reports[checker].bare.keys() <= MISTAKES.keys()


@pytest.mark.parametrize("checker", CHECKERS)
@pytest.mark.parametrize(
    ("source", "told"),
    [
        ('grade.then("god", publish)', ("god", "good", "bad")),
        ("Flow(start=Summarise)", ("Summarise", "Node")),
        ('typed.state.score = "high"', ("float",)),
        ("typed.state.sumary", ("sumary", "Article")),
        ('flow.run(Comment(text=""))', ("Comment", "Article")),
    ],
)
def test_the_message_of_a_common_mistake_is_precise(
    checker: str, source: str, told: tuple[str, ...], reports: dict[str, Report]
) -> None:
    """For a common mistake each checker names what was given and what would have been right."""
    place = next(place for place, text in MISTAKES.items() if text == source)
    message = "\n".join(reports[checker].bare[place])
    assert all(word in message for word in told), message
