"""A short form of the trial of runs that are interrupted anywhere."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tests.durability.interrupts import Way, interrupt_everywhere


@pytest.mark.parametrize("way", ["run", "background", "awaiting"])
@pytest.mark.parametrize("first", [1, 4])
def test_ctrl_c_at_any_instant_leaves_a_run_that_has_ended(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, way: Way, first: int
) -> None:
    """Wherever a Ctrl-C strikes: not running, steps and checkpoints agree, the database works."""
    caplog.set_level(logging.CRITICAL, "pocoflow")
    assert interrupt_everywhere(tmp_path, way, first, 7) > 30
