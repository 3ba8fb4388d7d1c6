"""What the unit tests share: folders that need no disk."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

_MEMORY = Path("/dev/shm")
_ROOM = 1 << 30


@pytest.fixture(scope="session")
def _beside_no_disk() -> Path | None:
    """A file system in memory, where there is one with room: a commit need not wait for a disk.

    What a disk does to a database is for the tests of other folders.
    """
    is_there = os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > _ROOM
    return _MEMORY if is_there else None


@pytest.fixture
def tmp_path(_beside_no_disk: Path | None) -> Iterator[Path]:
    """A folder for one test."""
    with tempfile.TemporaryDirectory(
        prefix="pocoflow-test-", dir=_beside_no_disk, ignore_cleanup_errors=True
    ) as folder:
        yield Path(folder)
