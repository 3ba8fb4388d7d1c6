"""The reference names everything that there is, and nothing that there is not."""

import dataclasses
import inspect
import json
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pocoflow
from pocoflow import Flow, Node, cli, errors, events
from pocoflow.db import STATUSES, WorkflowDB
from pocoflow.views.targets import load_flow

DOCS = Path(__file__).parents[2] / "docs"


def page(name: str) -> str:
    """A page of the reference."""
    return (DOCS / "reference" / name).read_text("utf-8")


def named(text: str) -> set[str]:
    """The words that a text sets as code."""
    return set(re.findall(r"\w+", " ".join(re.findall(r"`([^`\n]+)`", text))))


def rows(text: str) -> dict[str, str]:
    """The rows of the tables in a text: the first cell, and the rest."""
    found = re.findall(r"^\| `(\w+)` \|(.*)\|$", text, flags=re.MULTILINE)
    return dict(found)


def first_cells(text: str) -> list[str]:
    """The first cell of each row of the tables in a text."""
    return re.findall(r"^\| (.*?) \|", text, flags=re.MULTILINE)


@pytest.mark.parametrize(
    ("owner", "where"),
    [
        ("Store", "store.md"),
        ("Node", "node.md"),
        ("AsyncNode", "node.md"),
        ("RunContext", "node.md"),
        ("Flow", "flow.md"),
        ("RunHandle", "flow.md"),
        ("WorkflowDB", "database.md"),
    ],
)
def test_every_public_member_is_in_the_reference(owner: str, where: str) -> None:
    """What a public class offers can be found on its page."""
    kind = getattr(pocoflow, owner)
    # Names of PocketFlow are there to say what they are here; hasattr says no.
    members = {name for name in vars(kind) if not name.startswith("_") and hasattr(kind, name)}
    assert members <= named(page(where)), members - named(page(where))


@pytest.mark.parametrize(
    ("owner", "where"),
    [
        ("Store", "store.md"),
        ("Flow", "flow.md"),
        ("WorkflowDB", "database.md"),
    ],
)
def test_every_argument_is_in_the_reference(owner: str, where: str) -> None:
    """What a public class can be given can be found on its page."""
    arguments = set(inspect.signature(getattr(pocoflow, owner).__init__).parameters) - {"self"}
    assert arguments <= named(page(where)), arguments - named(page(where))


def test_every_public_name_is_in_the_reference() -> None:
    """Whatever can be imported from pocoflow can be looked up."""
    pages = [page(path.name) for path in (DOCS / "reference").glob("*.md")]
    imported = re.findall(r"^from pocoflow import (.+)$", "\n".join(pages), flags=re.MULTILINE)
    found = set(re.findall(r"\w+", " ".join(imported))).union(*map(named, pages))
    assert set(pocoflow.__all__) - {"__version__"} <= found


def test_the_tree_of_errors_is_that_of_the_code() -> None:
    """The errors are drawn in the reference as in the code, and the code is as it is drawn."""
    assert errors.__doc__ is not None
    drawn = inspect.cleandoc(errors.__doc__).partition("::\n\n")[2]
    tree = inspect.cleandoc(drawn)
    assert tree in page("errors.md")
    parents: dict[int, str] = {}
    for line in tree.splitlines():
        name, *builtins = re.findall(r"\w+", line)
        depth = line.index(name) // 4
        parents[depth] = name
        bases = [base.__name__ for base in getattr(errors, name).__bases__]
        assert bases == [*([parents[depth - 1]] if depth else ["Exception"]), *builtins], name


def test_every_error_has_its_row() -> None:
    """Each exception that can be caught is explained in the reference, and no other."""
    raised = {one for one in errors.__all__ if issubclass(getattr(errors, one), Exception)}
    assert set(rows(page("errors.md"))) == raised - {"PocoflowError"}


def test_every_event_has_its_row() -> None:
    """Each event class is in the reference with its kind and its fields."""
    text = page("events-and-hooks.md").partition("## Event classes")[2]
    kinds = {name: named(cells) for name, cells in rows(text).items()}
    for name in set(events.__all__) - {"Event", "Followed"}:
        event = getattr(events, name)
        fields = {field.name for field in dataclasses.fields(event)} - {"run_id"}
        assert kinds.pop(name) == {event.kind, *fields}, name
    assert not kinds


def test_every_hook_has_its_row() -> None:
    """Each event that a hook can be told of is in the table of hooks, with what it passes."""
    on: Any = Flow(start=Node()).on
    events_known = message(on, "?", print).partition("(events: ")[2].rstrip(")")
    passes = {
        name: message(on, name, None).partition("calls callback(")[2].partition(")")[0]
        for name in events_known.split(", ")
    }
    text = page("events-and-hooks.md").partition("## In the database")[0]
    assert {name: cells.split("`")[1] for name, cells in rows(text).items()} == passes


def message(call: Callable[..., object], *arguments: object) -> str:
    """What a call that is refused says."""
    with pytest.raises(TypeError) as refused:
        call(*arguments)
    return str(refused.value)


def test_every_column_is_in_the_reference(tmp_path: Path) -> None:
    """Who reads the database with other tools finds each table and column explained."""
    WorkflowDB(tmp_path / "runs.db").close()
    raw = sqlite3.connect(tmp_path / "runs.db")
    names = raw.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')").fetchall()
    tables = {
        name: {row[1] for row in raw.execute(f"PRAGMA table_info({name})")}
        for (name,) in names
        if not name.startswith("sqlite_")
    }
    raw.close()
    text = page("database.md").partition("\n## Tables")[2].partition("\n## ")[0]
    sections = dict(re.findall(r"^### (\w+)\n(.*?)(?=^### |\Z)", text, re.DOTALL | re.MULTILINE))
    cells = {
        name: set(
            re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (`.*?) \|", part, re.MULTILINE)))
        )
        for name, part in sections.items()
    }
    assert cells == tables


def test_every_status_is_in_the_reference() -> None:
    """Each status that a run can have is explained, and no other."""
    text = page("database.md").partition("## Statuses")[2].partition("## ")[0]
    assert set(rows(text)) == set(STATUSES)


def test_every_command_has_its_section() -> None:
    """Each command is in the reference; its help is executed there."""
    titles = re.findall(r"^## pocoflow ([\w-]+)$", page("cli.md"), flags=re.MULTILINE)
    assert titles == list(cli.COMMANDS)


def test_every_field_that_a_command_prints_for_programs_is_in_the_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who reads what ``--format json`` prints finds each field at the command, and no other."""
    monkeypatch.chdir(tmp_path)
    Path("asking.py").write_text(
        "from pocoflow import Flow, Question, key, node\n"
        "@node(writes=key('answer'))\n"
        "def ask() -> Question[str]: return Question('Why?')\n"
        "flow = Flow(ask, db_path='runs.db', run_id='asked', budget={'usd': 1})\n"
    )
    with pytest.raises(pocoflow.RunPaused):
        load_flow("asking.py:flow").run({})

    def printed(command: str, *arguments: str) -> set[str]:
        assert cli.main([*command.split(), *arguments, "--format", "json"]) == 0
        told = json.loads(capsys.readouterr().out)
        told = told[0] if isinstance(told, list) else told
        return set(told) | {field for one in told.get("findings", ()) for field in one}

    def said(command: str) -> set[str]:
        section = page("cli.md").partition(f"# pocoflow {command}\n")[2].partition("\n#")[0]
        return named(section.partition("`--format json` prints ")[2].partition("\n\n")[0])

    assert printed("check", "asking.py:flow") == said("check")
    runs = printed("runs list", "--db", "runs.db")
    assert runs == said("runs list")
    assert printed("runs show", "asked", "--db", "runs.db") - runs == said("runs show") - {
        *("runs", "list")
    }
    assert printed("questions", "--db", "runs.db") == said("questions")


def test_every_module_has_its_room() -> None:
    """The design names each module and package of the library, and no other."""
    folder = Path(pocoflow.__file__).parent
    modules = {
        f"{path.name}/" if path.is_dir() else path.name
        for path in folder.iterdir()
        if (path.suffix == ".py" or (path / "__init__.py").exists())
        and not path.name.startswith("_")
    }
    text = (DOCS / "design.md").read_text("utf-8").partition("## Rooms")[2].partition("## ")[0]
    assert set(re.findall(r"`([\w.]+/?)`", " ".join(first_cells(text)))) == modules


def test_every_decision_is_in_the_index_and_has_its_parts() -> None:
    """A decision can be found, and says what forced it, what was chosen, and what that costs."""
    folder = DOCS / "decisions"
    index = (folder / "index.md").read_text("utf-8")
    records = sorted(folder.glob("[0-9]*.md"))
    assert re.findall(r"\(([\d]{4}-[\w-]+\.md)\)", index) == [path.name for path in records]
    for path in records:
        titles = re.findall(r"^## (.+)$", path.read_text("utf-8"), flags=re.MULTILINE)
        assert titles == ["Context", "Decision", "Consequences", "Instead of"], path.name
