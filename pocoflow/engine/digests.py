"""Digests of values, by which items and calls are identified in every process."""

from __future__ import annotations

from pocoflow import values as codec
from pocoflow.errors import NotStorableError

_DIGEST_BYTES = 12


def digest_of(item: object, classes: codec.Classes | None = None) -> str:
    """The digest of an item, the same in every process; empty if it cannot be stored.

    Args:
        item: The item.
        classes: The classes of the stored items, to get the digest of the stored form.
    """
    if type(item) is str:
        return digest(f"str {item}")  # the codec writes nothing that begins so
    try:
        return digest(codec.identity(item, codec.NO_SHAPES if classes is None else classes.shapes))
    except NotStorableError:
        return ""


def digest(text: str) -> str:
    """The digest of a text: 24 characters."""
    from hashlib import blake2b

    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).hexdigest()
