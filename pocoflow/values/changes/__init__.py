"""What changed between the last stored form of a value and the value as it is now.

``frozen`` has what others call: :func:`freeze` remembers a value, :func:`is_same` tells whether
another one, or the same one later, is equal to it with every type in it the same: a list or model
that was changed in place at any depth is seen, and so are ``1`` and ``True``, ``0.0`` and ``-0.0``,
a text and a ``StrEnum`` that equals it, and another order of the keys of a dict. :func:`difference`
says what changed, at any depth, and remembers the value as it is now at the cost of that;
:func:`put_together` puts a stored value and its changes together.

A remembered value is kept in columns: all parts on one level are laid out in one list and compared
type by type, so that 1,000 messages take a few operations on lists and not 1,000 calls. Immutable
parts are shared with the value, the rest is copied; what is the same in all parts is kept once.
"""
