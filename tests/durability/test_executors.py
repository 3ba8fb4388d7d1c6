"""A flow of many items on Dask, two of whose workers are killed: the short form of a command.

``python -m tests.durability.executors`` does the same with 10,000 items, and compares.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("distributed")

from tests.durability.executors import trial

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL"),
]


def test_every_item_has_one_result_though_workers_are_killed(tmp_path: Path) -> None:
    """Dask gives their calls to the others, and the flow has each result once and in its order."""
    outcome = trial(items=200, workers=3, kills=2, folder=tmp_path)
    assert outcome.problems == []
    assert outcome.killed == 2
