"""The house keeps its form: rooms, names, and what its own design says of it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests import house


def test_there_are_twelve_rooms_a_ground_floor_and_the_documented_paths() -> None:
    """Whatever is new has its place in a room."""
    files = {file.stem for file in house.PACKAGE.glob("*.py")} - {"__init__", "__main__"}
    assert files == {*house.GROUND, *house.FACES}
    folders = {one.parent.name for one in house.PACKAGE.glob("*/__init__.py")}
    assert len(folders) == 12


def test_the_house_is_no_larger_than_was_decided() -> None:
    """More lines, untyped values, long signatures or private uses are a decision of their own."""
    assert [what for what, now in house.measures().items() if now > house.MOST[what]] == []


def test_a_documented_path_is_a_few_lines() -> None:
    """What lives in a room is only named where its documented path is."""
    for face in house.FACES:
        assert house.code_lines(house.PACKAGE / f"{face}.py") <= 40


def test_no_two_modules_have_one_name() -> None:
    """A module is found by its name; commands of the command line are named after themselves."""
    assert [name for name, count in house.names().items() if count > 1] == []


def test_a_package_that_is_imported_late_imports_none_of_its_modules() -> None:
    """Else two threads of a server that need both at once have each what the other waits for."""
    at_once = {"", "flow", "store", "store/schema", "values"}  # with ``import pocoflow``
    programs = {"cli", "cli/demo", "ext/web"}  # by one thread
    found = []
    for file in house.PACKAGE.rglob("__init__.py"):
        folder = file.parent.relative_to(house.PACKAGE)
        own = ".".join(("pocoflow", *folder.parts, ""))
        if any(one.startswith(own) for one in _imported(file)):
            found.append(folder.as_posix().removeprefix("."))
    assert {*found} == at_once | programs


def _imported(file: Path) -> set[str]:
    """The modules that a module imports as it is imported itself."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    body = [
        one for node in tree.body for one in (node.body if isinstance(node, ast.Try) else [node])
    ]
    return {one.module or "" for one in body if isinstance(one, ast.ImportFrom)}


def test_what_begins_with_an_underscore_stays_in_its_module() -> None:
    """Whoever changes it looks at one file."""
    found = [
        f"{file.relative_to(house.PACKAGE)}: {one.name}"
        for file in house.modules()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pocoflow")
        for one in node.names
        if one.name.startswith("_") and not one.name.startswith("__")
    ]
    assert [one for one in found if not one.endswith(": _version")] == []


def test_the_pages_about_the_code_name_files_that_are_there() -> None:
    """Every path in CONTRIBUTING.md and docs/design.md leads somewhere."""
    root = house.PACKAGE.parent
    missing = [
        f"{page}: {path}"
        for page in ("CONTRIBUTING.md", "docs/design.md")
        for path in re.findall(
            r"`([\w.*/-]+(?:/|\.py|\.sql|\.md))`", (root / page).read_text("utf-8")
        )
        if path not in ("test_named_runs.py", "test_issue_12.py", "NNNN-short-title.md")
        and not any(next(one, None) for one in (root.glob(path), house.PACKAGE.rglob(path)))
    ]
    assert missing == []
