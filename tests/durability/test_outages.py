"""A server that is away for a while, in whichever way: the short form of a command.

``python -m tests.durability.outages --seconds 20`` does the same for longer, and measures.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.durability.outages import OUTAGES, ImpossibleError, trial

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux"),
]


@pytest.mark.parametrize("name", OUTAGES)
@pytest.mark.usefixtures("server")
def test_everything_goes_on_after_an_outage(name: str, tmp_path: Path) -> None:
    """Workers say what happened, all runs are completed, and what was on record was done once."""
    try:
        outcome = trial(name, tmp_path, seconds=2, runs=30)
    except ImpossibleError as exc:
        pytest.skip(str(exc))
    assert outcome.problems == []
