"""The README and every page of docs/ are executed as they stand.

How a page is read, fence by fence, in a folder and a module of its own:

- ``python``: run; a fence may build on the ones before it. A hidden set-up is written as
  ``<!-- invisible-code: python ... -->``.
- ``python title="NAME"``: saved as a file of that name, which a later ``console`` fence must run.
- ``text``: what the ``python`` fence before it has printed.
- ``console``: the lines after ``$`` are commands, the others what they print. A command that fails
  on purpose is in a fence of its own, ``console exit=2``.

In what is printed, ``...`` stands for anything. All other languages are left alone.
"""

import contextlib
import doctest
import io
import os
import re
import shlex
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
from sybil import Document, Example, Region
from sybil.parsers.abstract.lexers import LexerCollection
from sybil.parsers.markdown.lexers import DirectiveInHTMLCommentLexer, FencedCodeBlockLexer

from pocoflow.logging import disable_logging
from tests import commands

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINKED = [
    *PAGES,
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    ROOT / "benchmarks" / "README.md",
]

FENCES = LexerCollection(
    [
        FencedCodeBlockLexer(r".+", mapping={"language": "info", "source": "source"}),
        DirectiveInHTMLCommentLexer(
            "invisible-code", ".+", mapping={"arguments": "info", "source": "source"}
        ),
    ]
)


def fences(document: Document) -> Iterator[Region]:
    """The fences of a page, each with its info string and its source."""
    for region in FENCES(document):
        region.parsed = region.lexemes["info"].strip(), region.lexemes["source"]
        yield region


class Page:
    """One page while it is executed, in the current folder."""

    def __init__(self, path: Path, module: types.ModuleType) -> None:
        self.path = path
        self.module = module
        self.printed = ""
        self.files: set[str] = set()

    def run(self) -> None:
        """Execute every fence in its order."""
        for fence in Document.parse(str(self.path), fences):
            info, source = fence.parsed
            language, _, rest = info.partition(" ")
            if language == "python" and rest.startswith("title="):
                self.save(rest.removeprefix("title=").strip('"'), source)
            elif language == "python":
                self.python(source, fence)
            elif language == "text":
                self.compare(source, self.printed, fence)
            elif language == "console":
                self.console(source, int(rest.removeprefix("exit=") or 0), fence)

    def save(self, name: str, source: str) -> None:
        Path(name).write_text(source, encoding="utf-8")
        self.files.add(name)

    def python(self, source: str, fence: Example) -> None:
        # Padded, so that a traceback and inspect.getsource() find the lines of the page.
        padding = "\n" * (fence.line + source.line_offset)  # type: ignore[attr-defined]
        code = compile(padding + source, str(self.path), "exec", dont_inherit=True)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code, self.module.__dict__)  # noqa: S102 - that is what this is for
        self.printed = printed.getvalue()

    def console(self, source: str, code: int, fence: Example) -> None:
        for part in re.split(r"^\$ ", source, flags=re.MULTILINE)[1:]:
            command, _, wanted = part.partition("\n")
            self.files -= {word.partition(":")[0] for word in shlex.split(command)}
            printed, ended = execute(command)
            self.compare(wanted, printed, fence)
            assert ended == code, f"{self.path.name}:{fence.line}: {command} ended with {ended}"

    def compare(self, wanted: str, printed: str, fence: Example) -> None:
        wanted, printed = trimmed(wanted), trimmed(printed)
        if not doctest.OutputChecker().check_output(wanted, printed, doctest.ELLIPSIS):
            pytest.fail(
                f"{self.path.name}:{fence.line} says\n\n{wanted}\nbut it is\n\n{printed}",
                pytrace=False,
            )


def trimmed(text: str) -> str:
    """The lines without the space at their ends, and without empty ones around them."""
    return "\n".join(line.rstrip() for line in text.strip("\n").splitlines()) + "\n"


def execute(command: str) -> tuple[str, int]:
    """Run ``python``, ``pocoflow`` or ``mypy``: what it prints, and its exit code."""
    program, *arguments = shlex.split(command)
    programs = {
        "python": [],
        "pocoflow": ["-m", "pocoflow"],
        "mypy": ["-m", "mypy", "--follow-imports=silent"],
    }
    done = commands.execute(
        *programs[program],
        *arguments,
        folder=Path.cwd(),
        joined=True,
        environment={
            "COLUMNS": "100",
            "MYPYPATH": os.pathsep.join([str(ROOT), str(ROOT / "stubs")]),
            "NO_COLOR": "1",
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
            "PYTHONUTF8": "1",
            "PYTHONWARNINGS": "error",
        },
    )
    return done.stdout, done.returncode


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What mypy knows of the library when a page has asked it."""
    return tmp_path_factory.mktemp("mypy")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_example_runs_as_printed(
    path: Path, tmp_path: Path, checked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a page shows is what happens: its code runs, and prints what the page says."""
    monkeypatch.setenv("MYPY_CACHE_DIR", str(checked))
    module = types.ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", module)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    try:
        page = Page(path, module)
        page.run()
        assert not page.files, f"{path.name}: nothing runs {', '.join(page.files)}"
    finally:
        disable_logging()
        for name in [file.stem for file in tmp_path.glob("*.py")]:
            sys.modules.pop(name, None)


@pytest.mark.parametrize("path", LINKED, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(path: Path) -> None:
    """A link to a file of the project, or to a heading in one, has its target."""
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(path)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, heading = target.partition("#")
        file = (path.parent / name) if name else path
        assert file.exists(), f"{target}: there is no {file}"
        assert not heading or heading in headings(file), f"{target}: no such heading"


@pytest.mark.parametrize("path", LINKED, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_row_of_a_table_has_its_cells(path: Path) -> None:
    """No row is cut or shifted: a bar inside of a cell, also in code, would begin another one."""
    for table in re.findall(r"(?:^\|.*\n)+", prose(path), flags=re.MULTILINE):
        counts = [len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()]
        assert len(set(counts)) == 1, table


def prose(path: Path) -> str:
    """The text of a page without its fences."""
    return re.sub(r"^```.*?^```", "", path.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


def headings(path: Path) -> set[str]:
    """The anchors of a page, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", prose(path), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_page_can_be_reached_from_the_index() -> None:
    """Nobody has to guess that a page exists: the index leads to each of them."""
    found, queue = set[Path](), [ROOT / "docs" / "index.md"]
    while queue:
        page = queue.pop()
        if page in found or not page.is_file():
            continue
        found.add(page)
        for target in re.findall(r"\]\(([^)\s#]+\.md)", page.read_text("utf-8")):
            queue.append((page.parent / target).resolve())
    assert {page for page in PAGES if page.parent != ROOT} <= found


def test_every_example_is_in_the_index() -> None:
    """Each program in examples/ is linked from the index, with a line that says what it shows."""
    index = (ROOT / "docs" / "index.md").read_text("utf-8")
    rows = re.findall(r"^\| \[([\w.]+)\]\(\.\./examples/\1\) \| \S.* \|$", index, re.MULTILINE)
    assert sorted(rows) == sorted(path.name for path in (ROOT / "examples").glob("*.py"))


def test_the_readme_has_the_two_commands() -> None:
    """The README says how to run the demo and how to run the tests, where CI looks for it."""
    text = (ROOT / "README.md").read_text("utf-8")
    commands = dict(re.findall(r"<!-- command: (\w+) -->\n```bash\n(.*?)```", text, re.DOTALL))
    assert set(commands) == {"run", "test"}
    assert "pocoflow demo" in commands["run"]
    assert "pytest" in commands["test"]
