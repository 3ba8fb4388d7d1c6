"""Whether the write-ahead log beside a database file is that of the file.

SQLite does not look: after an older copy was put in the place of a file, it takes pages of the log
of the file before for those of the copy, and damages that.
"""

from __future__ import annotations

import os
import struct
import sys
from array import array
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import NamedTuple

from pocoflow.errors import DatabaseFileError
from pocoflow.logging import OwnLogger

_log = OwnLogger("db")

_HEADER, _FRAME = struct.Struct(">8I"), struct.Struct(">6I")
_MAGIC = 0x377F0682
_LOCKED_AT = 0x40000000
"""The page with this byte has no content."""


class _Log(NamedTuple):
    """What a log has.

    Attributes:
        page_size: The size of a page.
        pages: The pages that the database has with it.
        found: Those that are in the log.
    """

    page_size: int
    pages: int
    found: frozenset[int]


def refuse_other_log(file: Path, label: str) -> None:
    """Refuse a database file that lacks pages on which the log beside it counts.

    Raises:
        DatabaseFileError: It does.
    """
    try:
        lacking = _lacking(file)
    except OSError:
        return  # whoever opens it says what is wrong
    if lacking:
        raise DatabaseFileError(
            f"database {label} is older than its log, {file}-wal: {lacking} pages are in neither. "
            "A copy was put in the place of the file that the log is of, or both were copied while "
            "they were in use. Bring back the file that the log is of or, to have the copy as it "
            "is, end all programs that use it, and remove the log"
        )


def put_away(name: str, label: str) -> None:
    """Take away what lies beside a file that is new: the log of one before it, or its index."""
    if not name.endswith("-wal") or not os.stat(name).st_size:
        os.unlink(name)
        return
    kept = next(one for one in _names(name) if not os.path.exists(one))
    os.rename(name, kept)
    _log.warning(
        "database %s is new, and the log of a file that was there before it is kept as %s: that "
        "may have steps that are not in the file itself; it is opened with them where the log lies "
        "beside it as NAME-wal",
        label,
        kept,
    )


def _names(log: str) -> Iterator[str]:
    yield f"{log}-left"
    for number in count(2):
        yield f"{log}-left.{number}"


def _lacking(file: Path) -> int:
    """How many pages are neither in a file nor in its log, though that counts on them.

    A log is of its file if there are none: what it does not have itself was in the file when it
    began.
    """
    log = Path(f"{file}-wal")
    if not os.stat(log).st_size:
        return 0
    before, lacking = None, set[int]()
    while (now := _read(log, is_sure=before is not None)) is not None and now != before:
        # What somebody writes meanwhile is in the file only after it was in the log.
        there = os.stat(file).st_size // now.page_size
        locked = _LOCKED_AT // now.page_size + 1
        lacking = set(range(there + 1, now.pages + 1)) - now.found - {locked}
        if not lacking:
            return 0
        before = now
    return 0 if now is None else len(lacking)


def _read(log: Path, *, is_sure: bool) -> _Log | None:
    """What is committed in a log; to be sure of each page takes long."""
    data = log.read_bytes()
    if len(data) < _HEADER.size:
        return None
    magic, _, page_size, _, *salt, _, _ = _HEADER.unpack_from(data)
    if magic & ~1 != _MAGIC or not page_size:
        return None
    order = "big" if magic & 1 else "little"
    sums = _summed(data[:24], (0, 0), order) if is_sure else (0, 0)
    pages, committed, found = 0, 0, list[int]()
    whole = _FRAME.size + page_size
    for at in range(_HEADER.size, len(data) - whole + 1, whole):
        page, size, *mark, one, other = _FRAME.unpack_from(data, at)
        if mark != salt:
            break
        if is_sure:
            sums = _summed(data[at : at + 8], sums, order)
            sums = _summed(data[at + _FRAME.size : at + whole], sums, order)
            if sums != (one, other):
                break
        found.append(page)
        if size:
            pages, committed = size, len(found)
    return _Log(page_size, pages, frozenset(found[:committed]))


def _summed(data: bytes, sums: tuple[int, int], order: str) -> tuple[int, int]:
    words = array("I", data)
    if order != sys.byteorder:
        words.byteswap()
    one, other = sums
    for number in range(0, len(words), 2):
        one = (one + words[number] + other) & 0xFFFFFFFF
        other = (other + words[number + 1] + one) & 0xFFFFFFFF
    return one, other
