"""One file, one name: SQLite keeps its log beside the name, so a second name would have another."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from pocoflow.errors import DatabaseFileError

__all__ = ["refuse_second_name"]


def refuse_second_name(file: Path, label: str) -> None:
    """Refuse to write to a database file that has more than one name.

    Raises:
        DatabaseFileError: It has hard links, or is mounted at its path by itself.
    """
    try:
        links = os.stat(file).st_nlink
    except OSError:
        return  # whoever opens it says what is wrong
    if links > 1:
        raise DatabaseFileError(
            f"database {label} has {links} names (hard links): each would have a write-ahead log "
            f"and locks of its own, and what is written under one would damage the other. Keep one "
            f"name: copy the file (cp {file} copy.db), remove the other names and use the copy"
        )
    if _is_mounted(file):
        raise DatabaseFileError(
            f"database {label} is mounted at {file} as a single file: its write-ahead log and its "
            f"locks would not be those of the file that is mounted. Mount the folder that the file "
            f"is in instead"
        )


def _is_mounted(file: Path) -> bool:
    """Whether a path is a mount point of its own, as of ``docker run -v ./x.db:/data/x.db``."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mounts = Path("/proc/self/mountinfo").read_bytes()
    except OSError:
        return False
    name = re.sub(rb"[ \t\n\\]", lambda found: b"\\%03o" % found[0][0], os.fsencode(file))
    return any(line.split(b" ", 5)[4] == name for line in mounts.splitlines())
