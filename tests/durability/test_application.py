"""The example application, in short, and how little its service is."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.durability.application import trial
from tests.house import code_lines
from tests.servers import Server
from tests.serving import ROOT


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs SIGKILL and passed sockets")
def test_no_user_notices_that_processes_are_killed(tmp_path: Path) -> None:
    """Users whose workers and server are killed get every token once and in order, and a letter."""
    outcome = trial(tmp_path, users=20, seconds=8.0, pace=0.01, seed=3)
    assert outcome.problems == []
    assert outcome.workers > 0
    assert outcome.servers > 0
    assert outcome.reloads >= 20
    assert 0 < outcome.edited < outcome.letters


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs SIGKILL and passed sockets")
def test_nor_where_the_runs_are_on_a_database_server(tmp_path: Path, server: Server) -> None:
    """There a run of a killed worker is carried on with once its lease has ended."""
    outcome = trial(tmp_path, users=10, seconds=4.0, pace=0.01, seed=3, database=server.url())
    assert outcome.problems == []
    assert outcome.workers > 0
    assert outcome.servers > 0


def test_the_service_is_fifteen_lines() -> None:
    """The code that a user writes for the service of many users, imports included."""
    assert code_lines(ROOT / "examples" / "letter_app_web.py") <= 15
