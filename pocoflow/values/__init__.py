"""Values to JSON text and back: equal, with every type in them the same, or refused.

:func:`dumps` and :func:`loads` work on text, :func:`encode` and :func:`decode` on the equivalent
tree of plain JSON values. A value that would not come back equal raises
:class:`~pocoflow.errors.NotStorableError`, which says which part of it and why; text that cannot be
read raises :class:`~pocoflow.errors.DecodeError`.

``None``, booleans, text, finite floats, whole numbers of 64 bits, lists and dicts with text keys
are written as themselves. Everything else is an object with its type under the one reserved key,
``$type``::

    {"role": "user", "tags": ["a", 1.5]}                    {"role": "user", "tags": ["a", 1.5]}
    (1, 2)                                                  {"$type": "tuple", "value": [1, 2]}
    {1: "one", None: "none"}             {"$type": "dict", "value": [1, "one", null, "none"]}
    Decimal("1.50")                                     {"$type": "Decimal", "value": "1.50"}
    Color.RED                       {"$type": "enum", "class": "app.types:Color", "value": "RED"}
    Point(x=1)               {"$type": "dataclass", "class": "app:Point", "value": {"x": 1}}

A dict that has ``$type`` among its keys is also written as pairs, to be unambiguous.

A class is looked up, never imported: among the classes that :class:`Classes` was given, those
reachable from them, and the loaded modules. Only enums, dataclasses, named tuples, Pydantic models
and subclasses of builtin values are rebuilt, without running ``__init__``, validators or any other
code of theirs, unless the fields of a model have changed: then its own validation migrates it.

:func:`keep` writes a value of which a part cannot be stored: that part is marked as not saved, the
rest is stored, and a reader finds a :class:`NotSaved` in place of the part.

Not preserved are the identity of an object that occurs twice in a value (it comes back as two equal
objects), and the values of ``functools.cached_property``, which are computed again.
"""

from __future__ import annotations

from pocoflow.values.classes import NO_ALIASES, NO_SHAPES, Classes, Shape, strange_names
from pocoflow.values.decoding import decode, loads
from pocoflow.values.encoding import MAX_DEPTH, dumps, encode, has_marks, identity, keep
from pocoflow.values.marks import NotSaved

__all__ = [
    "MAX_DEPTH",
    "NO_ALIASES",
    "NO_SHAPES",
    "Classes",
    "NotSaved",
    "Shape",
    "decode",
    "dumps",
    "encode",
    "has_marks",
    "identity",
    "keep",
    "loads",
    "strange_names",
]
