"""What command line and monitor show alike: tracebacks of the user's own frames."""

from __future__ import annotations

import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from pocoflow import Flow, Node, Store, WorkflowDB
from pocoflow.cli import main
from pocoflow.views.runs import users_frames
from tests.rows import row_of


class Chained(Node):
    """Fails because something else did."""

    def exec(self, prep_result: Any) -> None:
        try:
            raise KeyError("inner")
        except KeyError as exc:
            raise OSError("down") from exc


class Grouped(Node):
    """Fails with several errors."""

    def exec(self, prep_result: Any) -> None:
        raise ExceptionGroup("several", [ValueError("a"), TypeError("b")])


class Misused(Node):
    """Fails inside of the library."""

    def post(self, store: Store[Any], prep_result: Any, exec_result: Any) -> None:
        store.put(5)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]


@pytest.mark.parametrize("kind", [Chained, Grouped, Misused])
def test_a_traceback_is_shown_without_our_frames(
    kind: type[Node], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is left are the user's lines, the errors and the notes; the record keeps the whole."""
    path = str(tmp_path / "x.db")
    with suppress(Exception):
        Flow(kind(), db_path=path).run({}, run_id="r")
    with WorkflowDB(path, read_only=True) as db:
        whole = row_of(db, "r")["traceback"] or ""
    assert "loop.py" in whole
    shown = users_frames(whole)
    assert "pocoflow/engine" not in shown.replace("\\", "/")
    assert "pocoflow/store" not in shown.replace("\\", "/")
    assert "frames of pocoflow left out):" in shown
    files = [line for line in shown.splitlines() if 'File "' in line]
    assert files
    assert all(__file__ in line for line in files)
    assert "pocoflow: in " in shown  # the note, which says where that was
    if kind is Chained:
        assert "The above exception was the direct cause" in shown
        assert len(files) == 2
    assert main(["runs", "show", "r", "--db", path]) == 0
    assert "loop.py" not in capsys.readouterr().out


def test_a_traceback_of_our_frames_alone_is_shown_as_it_is() -> None:
    """So is one that has none of them, and what is no traceback."""
    ours = f'Traceback (most recent call last):\n  File "{Path(main.__code__.co_filename)}", line 1'
    for text in ("", "no traceback", ours):
        assert users_frames(text) == text
    try:
        raise ValueError("x")
    except ValueError:
        trace = traceback.format_exc()
    assert users_frames(trace) == trace


def test_a_remark_is_not_in_the_line_of_its_event(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The line says that there is one; it stands below, whole."""
    path = str(tmp_path / "x.db")
    chooses = Chooses()
    Flow(chooses, db_path=path).then(chooses.when("ok"), Node(name="next")).run({}, run_id="r")
    capsys.readouterr()
    assert main(["runs", "show", "r", "--db", path]) == 0
    shown = capsys.readouterr().out
    (line,) = [one for one in shown.splitlines() if "node_end" in one and " s  " in one]
    assert "-> nowhere, remark: see below" in line
    assert shown.count("returned action 'nowhere', which has no edge") == 1


class Chooses(Node):
    """Returns an action without an edge."""

    def post(self, store: Store[Any], prep_result: Any, exec_result: Any) -> str:
        return "nowhere"
