"""Workers of one database, one of them killed each second: the short form of a command.

``python -m tests.durability.worker --seconds 60`` does the same with 1,200 runs, and measures.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.durability.worker import Load, trial
from tests.servers import Server

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs fork and SIGKILL"),
]


def test_what_is_due_happens_once_though_workers_are_killed(tmp_path: Path) -> None:
    """Submitted, answered, late and scheduled runs are completed, and nothing is paid for twice."""
    outcome = trial(Load(seconds=5, queued=60, answers=8, deadlines=8), tmp_path)
    assert outcome.problems == []
    assert outcome.killed >= 4
    assert {kind: len(waits) for kind, waits in outcome.waits.items() if kind != "schedule"} == {
        "queued": 60,
        "answer": 8,
        "deadline": 8,
    }


def test_what_is_due_on_a_server_happens_once(tmp_path: Path, server: Server) -> None:
    """There with four workers, one of which is suspended for longer than its leases are."""
    load = Load(seconds=9, queued=60, answers=8, deadlines=8, workers=4)
    outcome = trial(load, tmp_path, server.url())
    assert outcome.problems == []
    assert outcome.killed >= 7
