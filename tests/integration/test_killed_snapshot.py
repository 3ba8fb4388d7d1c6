"""A snapshot that a killed process wrote."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pocoflow import Store

_WRITER = """
import sys
from pocoflow import Store

number = 0
while True:
    number += 1
    Store({"first": number, "filler": "x" * 300_000, "last": number}).snapshot(sys.argv[1])
    if number == 1:
        print("written", flush=True)
"""


@pytest.mark.parametrize("reads", [0, 1, 7])
def test_a_process_killed_while_it_writes_leaves_a_readable_snapshot(
    tmp_path: Path, reads: int
) -> None:
    """``kill -9`` in the middle of a snapshot leaves the old file or the new one, whole."""
    path = tmp_path / "s.json"
    writer = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "written\n"
        for _ in range(reads):
            store = Store.restore(path)
            assert store["first"] == store["last"]
        writer.send_signal(signal.SIGKILL)
    finally:
        writer.kill()
        writer.communicate()
    store = Store.restore(path)
    assert store["first"] == store["last"] >= 1
