"""What all tests share."""

from __future__ import annotations

import gc
import os
import unittest
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from tests.servers import Server

# ``pytest --hypothesis-profile=long`` tries thousands where a whole test run tries some.
_HOW = settings(deadline=None, suppress_health_check=list(HealthCheck))
settings.register_profile("long", _HOW, max_examples=2000)
settings.register_profile("short", _HOW, max_examples=25)
settings.load_profile("short")

_ORDER = {"durability": -4, "browser": -3, "integration": -2, "acceptance": -1, "unit": 1}
"""Folders that come before and after the others."""


def pytest_xdist_auto_num_workers() -> int:
    """More processes than processors, as many tests wait for a child, a server or a browser."""
    return (os.cpu_count() or 1) * 3 // 2


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A PostgreSQL server."""
    pytest.importorskip("psycopg")
    from tests.servers import found, running

    if found() is None:
        pytest.skip("there is no PostgreSQL server here (Debian: apt-get install postgresql)")
    with running() as one:
        yield one


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the folders whose modules take long, so that at the end no process has only one.

    What is left then are the many short modules of the unit tests.
    """

    def place(item: pytest.Item) -> int:
        return _ORDER.get(item.nodeid.removeprefix("tests/").partition("/")[0], 0)

    items.sort(key=place)


def pytest_collection_finish() -> None:
    """Have the garbage collector leave alone what is there for all tests: it is looked at often."""
    gc.collect()
    gc.freeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Empty the garbage before a state machine.

    Hypothesis parses its source, and CPython 3.11 fails with "AST constructor recursion depth
    mismatch" if a finalizer that runs meanwhile parses something, too, as a traceback does.
    """
    kind: Any = getattr(item, "cls", None)
    if kind is not None and issubclass(kind, unittest.TestCase):
        gc.collect()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Escape a lone surrogate: xdist cannot send one, and would tell no failure at all."""
    report = yield
    report.sections = [(name, _sendable(text)) for name, text in report.sections]
    if report.longrepr is not None and not _is_sendable(report.longreprtext):
        report.longrepr = _sendable(report.longreprtext)
    return report


def _sendable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _is_sendable(text: str) -> bool:
    return _sendable(text) == text
