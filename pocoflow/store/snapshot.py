"""Snapshots: the values of a store in one JSON file, which is replaced as a whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from pocoflow import values as codec
from pocoflow.errors import DecodeError, NotStorableError, UnknownClassError
from pocoflow.store.missing import Unsaved

ENCODING = 1
"""The version of the encoding of values; a snapshot without one is of 0.2.1."""


class Snapshot(NamedTuple):
    """The contents of a snapshot.

    Attributes:
        name: The name of the store.
        values: Its values.
        unsaved: The marks of values that could not be stored.
        under: The definition of each field when its value was accepted, if known.
    """

    name: str
    values: dict[str, object]
    unsaved: dict[str, Unsaved]
    under: dict[str, str] | None = None


def write_snapshot(
    path: Path,
    name: str,
    data: Mapping[str, object],
    unsaved: Mapping[str, Unsaved],
    under: Mapping[str, str],
) -> Path:
    """Write a snapshot and return its path; what cannot be stored is recorded as not saved.

    Raises:
        OSError: The file cannot be written.
    """
    values: dict[str, object] = {}
    marks = {}
    for key, mark in unsaved.items():
        if mark.text is None:
            marks[key] = mark[:2]
        else:
            values[key] = json.loads(mark.text)
    for key, value in data.items():
        try:
            text, _ = codec.keep(value, key)
            values[key] = json.loads(text)
        except NotStorableError as exc:
            marks[key] = Unsaved.because(exc)[:2]
    document = {"name": name, "encoding": ENCODING, "data": values}
    document |= {"unsaved": marks} if marks else {}
    document |= {"fields": under} if under else {}
    _write_atomically(path, json.dumps(document, indent=2))
    return path


def read_snapshot(path: Path, classes: codec.Classes) -> Snapshot:
    """Read a snapshot.

    Args:
        path: The file.
        classes: Classes that its values may be of. An unknown class affects only its own key.

    Raises:
        FileNotFoundError: There is no such file.
        DecodeError: The file is truncated or is not a snapshot; the message names it.
    """
    try:
        document = json.loads(path.read_bytes())
        trees, name = dict(document["data"]), str(document.get("name") or "")
        marks = document.get("unsaved", {}).items()
        unsaved = {key: Unsaved(kind, reason) for key, (kind, reason) in marks}
        encoding, under = document.get("encoding"), document.get("fields")
        under = None if under is None else {key: str(text) for key, text in under.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise DecodeError(f"{path} is not a snapshot of a store, or is damaged: {exc}") from exc
    if encoding is None:
        return Snapshot(name, trees, unsaved)  # of 0.2.1, whose values are plain JSON
    if encoding != ENCODING:
        raise DecodeError(
            f"{path} is in encoding {encoding!r} of snapshots, which this version of pocoflow does "
            "not know: read it with the version that wrote it, or a later one"
        )
    values = {}
    for key, tree in trees.items():
        try:
            values[key] = codec.decode(tree, classes.of_field(key))
        except UnknownClassError as exc:
            unsaved[key] = Unsaved.unreadable(exc, json.dumps(tree))
        except DecodeError as exc:
            raise exc.about(f"{path}: key {key!r}") from exc
    return Snapshot(name, values, unsaved, under)


def _write_atomically(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(
        dir=path.parent, prefix=f".{path.name[:80]}.", suffix=".tmp"
    )
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
