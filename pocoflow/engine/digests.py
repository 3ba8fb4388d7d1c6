"""Short texts that stand for values: what items and calls are known by, in every process."""

from __future__ import annotations

from pocoflow import values as codec
from pocoflow.errors import NotStorableError

_DIGEST_BYTES = 12


def digest_of(item: object, classes: codec.Classes | None = None) -> str:
    """What tells an item from others, the same in every process; empty if it cannot be stored.

    Args:
        item: The item.
        classes: What has read the stored items, if the digest is to be that of the stored form.
    """
    if type(item) is str:
        return digest(f"str {item}")  # nothing that the codec writes begins so
    try:
        return digest(codec.identity(item, codec.NO_SHAPES if classes is None else classes.shapes))
    except NotStorableError:
        return ""


def digest(text: str) -> str:
    """A text of 24 characters that stands for another one."""
    from hashlib import blake2b

    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).hexdigest()
