"""The changes between the last stored form of a value and its current state.

``frozen`` is the interface: :func:`freeze` remembers a value, :func:`is_same` compares another one,
or the same one later, with it, including every type in it: it detects changes in place of a list or
model at any depth, and distinguishes ``1`` and ``True``, ``0.0`` and ``-0.0``, a text and a
``StrEnum`` that equals it, and the order of the keys of a dict. :func:`difference` returns the
changes, at any depth, and the new remembered value, at a cost in proportion to the changes;
:func:`assemble` applies changes to a stored value.

A remembered value is stored in columns: all parts on one level are in one list and compared by
type, so that 1,000 messages take a few operations on lists instead of 1,000 calls. Immutable parts
are shared with the value, the rest is copied; what is the same in all parts is stored once.
"""
