"""Log files: private, in their folder, and with lines that nobody can forge."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pocoflow import Flow, Node, Parallel, Subflow
from pocoflow.events import NodeFailed
from pocoflow.logging import disable_logging, get_logger, setup_logging

BREAKS = ("\n", "\r", "\r\n", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029", "\n\n")
FORGED = "12:00:00  CRITICAL pocoflow.flow  flow 'pay' completed: run 'pay-1', 3 steps"


class Fails(Node):
    """Raises an error with a text that was given."""

    def __init__(self, text: str) -> None:
        super().__init__(name="Fails")
        self.text = text

    def exec(self, prep_result: Any) -> Any:
        raise ValueError(self.text)


class Odd(Node):
    """Returns an action that has no edge."""

    def post(self, store: Any, prep_result: Any, exec_result: Any) -> str:
        return "odd"


@pytest.fixture(autouse=True)
def silent_again() -> Iterator[None]:
    """Logging is as it was, after each test."""
    logger = logging.getLogger("pocoflow")
    level, propagates = logger.level, logger.propagate
    yield
    disable_logging()
    logger.setLevel(level)
    logger.propagate = propagates


@pytest.mark.parametrize("between", BREAKS, ids=ascii)
@pytest.mark.parametrize("log_format", ["text", "jsonl", "both"])
def test_an_error_cannot_forge_a_line(tmp_path: Path, log_format: str, between: str) -> None:
    """However a text breaks its lines, only what pocoflow logs begins a line as its logs do."""
    setup_logging("x", log_dir=tmp_path, log_format=log_format)
    with pytest.raises(ValueError, match="bad"):
        Flow(start=Fails(f"bad{between}{FORGED}"), flow_name="l").run({})
    get_logger("own").error("own%s%s", between, FORGED)

    for path in tmp_path.iterdir():
        text = path.read_bytes().decode("utf-8")
        assert "12:00:00" in text
        for line in text.splitlines():
            assert not line.startswith(("12:00:00", FORGED))
            if path.suffix == ".jsonl":
                assert json.loads(line)["level"] in logging.getLevelNamesMapping()


@pytest.mark.parametrize("log_format", ["text", "jsonl"])
def test_what_a_terminal_obeys_is_escaped(tmp_path: Path, log_format: str) -> None:
    """Neither colours, nor a title of the window, nor a reversed direction get into a log."""
    path = setup_logging("x", log_dir=tmp_path, log_format=log_format)
    with pytest.raises(ValueError, match="bad"):
        Flow(start=Fails("bad\x1b[2J\x1b]0;t\x07\u202e\x9b\udc80\ttab"), flow_name="l").run({})
    text = path.read_text("utf-8")
    assert "bad" in text
    assert all(char.isprintable() or char == "\n" for char in text)


def test_an_object_of_jsonl_is_the_message_as_it_was(tmp_path: Path) -> None:
    """What is escaped in a file of JSON lines comes back when it is read."""
    path = setup_logging("x", log_dir=tmp_path, log_format="jsonl")
    message = "a\nb\x85c\u2028d\u202e\U000e0001\x1b ü"
    get_logger("own").info("%s", message)
    assert [json.loads(line)["msg"] for line in path.read_text("utf-8").splitlines()] == [message]


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
@pytest.mark.parametrize("log_format", ["text", "both"])
def test_a_log_is_private(tmp_path: Path, log_format: str) -> None:
    """A log has what databases have in it, so nobody else may read it, whatever the umask."""
    before = os.umask(0)
    try:
        setup_logging("x", log_dir=tmp_path / "logs", log_format=log_format)
    finally:
        os.umask(before)
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "logs").iterdir()]
    assert set(modes) == {0o600}
    assert len(modes) == (2 if log_format == "both" else 1)


@pytest.mark.parametrize("name", ["../escape", "/etc/x", "a/b/c", "..", "a\\b", "a\nb", "a\0b"])
@pytest.mark.parametrize("part", ["run_name", "adapter", "model"])
def test_a_log_is_in_its_folder(tmp_path: Path, name: str, part: str) -> None:
    """No part of its name leads out of the folder."""
    names = {"run_name": "x", part: name}
    path = setup_logging(**names, log_dir=tmp_path / "logs")  # type: ignore[arg-type]
    assert path.parent == tmp_path / "logs"
    assert [one.name for one in tmp_path.iterdir()] == ["logs"]


def test_a_second_call_replaces_the_first(tmp_path: Path) -> None:
    """Each call has the records after it in its own file, once."""
    first = setup_logging("a", log_dir=tmp_path, console=True)
    second = setup_logging("b", log_dir=tmp_path)
    get_logger("own").info("once")
    assert first.read_text() == ""
    assert second.read_text().count("once") == 1
    assert sum(isinstance(one, logging.FileHandler) for one in get_logger().handlers) == 1


def test_a_wrong_format_is_named(tmp_path: Path) -> None:
    """A format that there is not is told with those that there are."""
    with pytest.raises(ValueError, match=r"text, jsonl, both.*'xml'"):
        setup_logging("x", log_dir=tmp_path, log_format="xml")


@pytest.mark.parametrize("closed", [True, False], ids=["closed", "fails"])
def test_a_log_that_cannot_be_written_ends_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed: bool
) -> None:
    """A run completes, with its remark on record, where no remark of it can be logged."""

    class Fails(logging.Handler):
        def handle(self, record: logging.LogRecord) -> bool:
            raise OSError("no room")

    handler = logging.StreamHandler(io.StringIO()) if closed else Fails()
    if isinstance(handler, logging.StreamHandler):
        handler.stream.close()
        monkeypatch.setattr("sys.stderr", handler.stream)
    node = Odd(name="a")
    node.then("expected", Node(name="b"))
    flow = Flow(node, db_path=tmp_path / "runs.db", flow_name="l", run_id="r")
    get_logger().addHandler(handler)
    try:
        flow.run({})
    finally:
        get_logger().removeHandler(handler)

    assert flow.database.list_runs()[0]["status"] == "completed"
    assert any("has no edge" in (one["note"] or "") for one in flow.database.get_events("r"))


def test_a_remark_is_logged_as_of_the_line_that_made_it(caplog: pytest.LogCaptureFixture) -> None:
    """A record names the module that logs, not the one that protects runs from handlers."""
    node = Odd(name="a")
    node.then("expected", Node(name="b"))
    Flow(node).run({})

    assert [record.module for record in caplog.records] == ["line"]


def test_the_traceback_of_an_error_in_a_branch_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """At the innermost node; what is around it says that it has failed, too, and so do events."""
    told: list[NodeFailed] = []

    def listen(event: object, store: object) -> None:
        if isinstance(event, NodeFailed):
            told.append(event)

    inner = Parallel(Fails("no"), Node(name="other"), name="inner")
    middle = Flow(inner, flow_name="middle")
    outer = Parallel(Subflow(middle, name="sub"), Node(name="beside"), name="outer")
    flow = Flow(outer).subscribe(listen)
    ways: list[Callable[[], object]] = [
        lambda: flow.run({}),
        lambda: asyncio.run(flow.run_async({})),
    ]
    for run in ways:
        caplog.clear()
        told.clear()
        with pytest.raises(ValueError, match="no"):
            run()
        errors = [one for one in caplog.records if one.levelno == logging.ERROR]
        assert [bool(one.exc_info) for one in errors] == [True, *[False] * (len(errors) - 1)]
        assert [one.is_told for one in told] == [not one.exc_info for one in errors]
        assert len(errors) == 4


def test_the_same_error_in_another_run_is_logged_with_its_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An exception that a program raises again and again is told in full by each run."""
    error = ValueError("kept")

    class Raises(Node):
        def exec(self, prep_result: Any) -> Any:
            raise error

    for _ in range(2):
        caplog.clear()
        with pytest.raises(ValueError, match="kept"):
            Flow(Parallel(Raises(), Node(name="other"), name="p")).run({})
        assert [bool(one.exc_info) for one in caplog.records if one.levelno == logging.ERROR] == [
            True,
            False,
        ]
