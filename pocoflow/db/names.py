"""One file, one name: SQLite keeps its log beside the name, so a second name would have another."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from pocoflow.db.shield import is_open_somewhere
from pocoflow.errors import DatabaseFileError


def refuse_companion(file: Path, label: str) -> None:
    """Refuse a file that lies beside a database and is named after it.

    Raises:
        DatabaseFileError: It is one.
    """
    for suffix in ("-wal", "-shm", "-journal", "-lock"):
        main = file.with_name(file.name.removesuffix(suffix) or file.name)
        if main != file and main.is_file():
            raise DatabaseFileError(
                f"{label} is not a database but a file of one, of {main}: open that one"
            )


def refuse_second_name(file: Path, label: str, *, read_only: bool) -> None:
    """Refuse a database file that has more than one name.

    To read it is refused only while somebody has it open under the other name.

    Raises:
        DatabaseFileError: It has hard links, or is mounted at its path by itself.
    """
    try:
        links = os.stat(file).st_nlink
    except OSError:
        return  # whoever opens it says what is wrong
    if links > 1:
        why = f"has {links} names (hard links), and SQLite keeps a log for each"
        cure = (
            f"Remove all but the one with {file.name}-lock beside it; find FOLDER -samefile {file} "
            "shows them"
        )
    elif _is_mounted(file):
        why = f"is mounted at {file} as a single file, without its log and its locks"
        cure = "Mount the folder that it is in instead"
    else:
        return
    if not read_only:
        raise DatabaseFileError(
            f"database {label} {why}: what is written under one name would damage what is written "
            f"under another. {cure}"
        )
    if not os.path.exists(f"{file}-wal") and is_open_somewhere(file):
        raise DatabaseFileError(
            f"database {label} {why}: a process has it open under another name, so what is "
            f"on record cannot be read here. {cure}"
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
