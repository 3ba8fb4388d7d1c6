"""Values to JSON text and back: equal with every type in it the same, or refused.

:func:`dumps` and :func:`loads` work on text, :func:`encode` and :func:`decode` on the tree of plain
JSON values that such a text holds. A value that cannot come back equal raises
:class:`~pocoflow.errors.NotStorableError`, which says where in the value it is and why; text that
cannot be read raises :class:`~pocoflow.errors.DecodeError`.

``None``, booleans, text, finite floats, whole numbers of 64 bits, lists and dicts with text keys
are written as themselves. Everything else is an object that says what it is under the one reserved
key, ``$type``::

    {"role": "user", "tags": ["a", 1.5]}                    {"role": "user", "tags": ["a", 1.5]}
    (1, 2)                                                  {"$type": "tuple", "value": [1, 2]}
    {1: "one", None: "none"}             {"$type": "dict", "value": [1, "one", null, "none"]}
    Decimal("1.50")                                     {"$type": "Decimal", "value": "1.50"}
    Color.RED                       {"$type": "enum", "class": "app.types:Color", "value": "RED"}
    Point(x=1)               {"$type": "dataclass", "class": "app:Point", "value": {"x": 1}}

A dict that has ``$type`` among its keys is written as pairs too, so that nothing is ambiguous.

A class is looked up, never imported: among the classes that :class:`Classes` was given, those it
finds from them, and the modules that are loaded. Only enums, dataclasses, named tuples, Pydantic
models and subclasses of builtin values are rebuilt, without ``__init__``, validators or any other
code of theirs, unless the fields of a model have changed since: then its own validation migrates
it.

:func:`keep` writes a value of which a part cannot be stored: that part is named as not saved, what
is around it is kept, and where it is read back a :class:`NotSaved` stands in its place.

What is not kept: that two places of a value held one and the same object (both come back, equal),
and the values of ``functools.cached_property``, which are computed again.
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
