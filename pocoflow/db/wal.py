"""The check that the write-ahead log next to a database file belongs to the file.

SQLite does not check this: if a file is replaced with an older copy, it applies the log of the
replaced file to the copy, and damages it.
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

_BUFFER = 1 << 20
"""Bytes of a log that are read at once; a reader that lasts long may let it grow to gigabytes."""


class _Log(NamedTuple):
    """The content of a log.

    Attributes:
        page_size: The size of a page.
        pages: The number of pages of the database with the log.
        logged: The pages in the log.
    """

    page_size: int
    pages: int
    logged: frozenset[int]


def refuse_other_log(file: Path, label: str) -> None:
    """Refuse a database file that lacks pages that its log assumes.

    Raises:
        DatabaseFileError: Pages are missing.
    """
    try:
        lacking = _lacking(file)
    except OSError:
        return  # opening it reports the error
    if lacking:
        raise DatabaseFileError(
            f"database {label} is older than its log, {file}-wal: {lacking} pages are in neither. "
            "A copy was put in the place of the file that the log is of, or both were copied while "
            "they were in use. Bring back the file that the log is of or, to have the copy as it "
            "is, end all programs that use it, and remove the log"
        )


def put_away(name: str, label: str) -> None:
    """Move away the log, or its index, of an earlier file from next to a new file."""
    if not name.endswith("-wal") or not os.stat(name).st_size:
        os.unlink(name)
        return
    new_name = next(path for path in _names(name) if not os.path.exists(path))
    os.rename(name, new_name)
    _log.warning(
        "database %s is new, and the log of a file that was there before it is kept as %s: that "
        "may have steps that are not in the file itself; it is opened with them where the log lies "
        "beside it as NAME-wal",
        label,
        new_name,
    )


def _names(log: str) -> Iterator[str]:
    yield f"{log}-left"
    for number in count(2):
        yield f"{log}-left.{number}"


def _lacking(file: Path) -> int:
    """The number of pages that a log assumes, and that neither the file nor the log has.

    If there are none, the log belongs to the file: pages that are not in the log were in the file
    when the log was started.
    """
    log = Path(f"{file}-wal")
    if not os.stat(log).st_size:
        return 0
    before, lacking = None, set[int]()
    while (now := _read(log, is_sure=before is not None)) is not None and now != before:
        # What is written meanwhile reaches the file only after the log.
        pages = os.stat(file).st_size // now.page_size
        locked = _LOCKED_AT // now.page_size + 1
        lacking = set(range(pages + 1, now.pages + 1)) - now.logged - {locked}
        if not lacking:
            return 0
        before = now
    return 0 if now is None else len(lacking)


def _read(log: Path, *, is_sure: bool) -> _Log | None:
    """The committed content of a log; ``is_sure`` verifies the checksum of each page, slowly."""
    with log.open("rb", buffering=_BUFFER) as file:
        header = file.read(_HEADER.size)
        if len(header) < _HEADER.size:
            return None
        magic, _, page_size, _, *salt, _, _ = _HEADER.unpack(header)
        if magic & ~1 != _MAGIC or not 512 <= page_size <= 65536:
            return None
        order = "big" if magic & 1 else "little"
        sums = _checksum(header[:24], (0, 0), order) if is_sure else (0, 0)
        pages, committed, logged = 0, 0, list[int]()
        while len(frame := file.read(_FRAME.size)) == _FRAME.size:
            content = file.read(page_size)
            page, size, *frame_salt, sum_1, sum_2 = _FRAME.unpack(frame)
            if len(content) < page_size or frame_salt != salt:
                break
            if is_sure:
                sums = _checksum(content, _checksum(frame[:8], sums, order), order)
                if sums != (sum_1, sum_2):
                    break
            logged.append(page)
            if size:
                pages, committed = size, len(logged)
    return _Log(page_size, pages, frozenset(logged[:committed]))


def _checksum(data: bytes, sums: tuple[int, int], order: str) -> tuple[int, int]:
    words = array("I", data)
    if order != sys.byteorder:
        words.byteswap()
    first, second = sums
    for number in range(0, len(words), 2):
        first = (first + words[number] + second) & 0xFFFFFFFF
        second = (second + words[number + 1] + first) & 0xFFFFFFFF
    return first, second
