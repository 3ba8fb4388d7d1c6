"""From values to text: one function for each kind of value, selected by its exact type."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from math import isfinite
from typing import Any

from pocoflow.errors import NotStorableError
from pocoflow.messages import describe
from pocoflow.values.classes import NO_SHAPES, Shape, is_found, name_of, without_modules
from pocoflow.values.failures import escaped
from pocoflow.values.kinds import KINDS, Kind, Parts, Splitter, kind_of
from pocoflow.values.marks import MARK, NotSaved, mark_of
from pocoflow.values.objects import family_of, field_defaults
from pocoflow.values.refusal import Refusal, Step, TooDeep, reason_for, type_name

TAG = "$type"
"""The reserved key for the type of an object."""

MAX_DEPTH = 200
"""The maximum depth of nested containers of any kind."""

_EXACT = 1 << 53
"""Whole numbers below it are exact for every reader of JSON."""

_SIMPLE = frozenset({bool, type(None)})
_OPTIMISTIC = _SIMPLE | {str, float}

_PIECE = 1_000
"""The approximate number of parts of a value that are encoded at once."""

_LONG = 4_000_000
"""The number of characters of a text that are encoded at once."""

_NESTED = frozenset({list, dict})

to_json = json.JSONEncoder(
    ensure_ascii=False, check_circular=False, allow_nan=False, separators=(",", ":")
).encode


def dumps(value: object, strangers: set[type] | None = None, depth: int = 0) -> str:
    """Return the text of a value, compact and valid as UTF-8.

    Args:
        value: The value.
        strangers: Collects written classes that cannot be found by their names.
        depth: The number of containers around it.

    Raises:
        NotStorableError: It would not come back equal; the error says which part and why.
    """
    if type(value) is int and -_EXACT < value < _EXACT:
        return int.__repr__(value)
    # Surrogates and non-finite floats are rare, and expensive to check for one by one: write as if
    # there were none, and again with checks if the text shows that there are some.
    try:
        return _text(value, _Writer(False, strangers), depth)
    except ValueError:
        return _text(value, _Writer(True, strangers), depth)


def identity(value: object, shapes: Mapping[type, Shape] = NO_SHAPES) -> str:
    """Return a text that identifies a value, in every process.

    It is that of :func:`dumps` without what depends on the process: the order of sets, and the
    modules of classes, as the module of a script is ``__main__`` when it is started, but not when
    it is imported. Nor does it say which fields of a model were set, as models that only differ in
    this are equal.

    Args:
        value: The value.
        shapes: Classes whose instances are written in their stored form: under the stored name,
            and without new fields, as long as these have their defaults.

    Raises:
        NotStorableError: As for :func:`dumps`.
    """
    # With checks at once, as the members of a set are encoded before the whole.
    return _text(value, _Writer(True, None, identifying=True, shapes=shapes))


def encode(value: object) -> object:
    """Return the tree of plain JSON values whose text :func:`dumps` would return.

    Raises:
        NotStorableError: As for :func:`dumps`.
    """
    return _tree(value, _Writer(True, None))


def keep(
    value: object, name: str, strangers: set[type] | None = None, first: int = 0
) -> tuple[str, list[tuple[str, str]]]:
    """Return the text of a value without the parts that cannot be stored, and a list of these.

    Args:
        value: The value.
        name: Its name in the marks of such parts.
        strangers: As for :func:`dumps`.
        first: The index of its first element, if it is a part of a list.

    Returns:
        The text, and for each such part its type, and its location with the reason.

    Raises:
        NotStorableError: The value itself cannot be stored.
    """
    try:
        return dumps(value, strangers), []
    except NotStorableError as exc:
        if not exc.path:
            raise
    tree = _tree(value, _Writer(True, strangers, lossy=True))
    marks = list(_named_marks(tree, name, first))
    return _json(tree), marks


def has_marks(value: object) -> bool:
    """Whether a value that was read back contains a part that could not be stored."""
    if not NotSaved.is_known:
        return False
    try:
        # No string value can contain this: its quotes would be escaped.
        return f'{{"{TAG}":"{MARK}"' in dumps(value)
    except NotStorableError:
        return False


class _Writer(dict[type, "_Write"]):
    """The functions for the types seen so far, and the types that need none."""

    def __init__(
        self,
        careful: bool,
        strangers: set[type] | None,
        lossy: bool = False,
        identifying: bool = False,
        shapes: Mapping[type, Shape] = NO_SHAPES,
    ) -> None:
        self.careful = careful
        self.strangers = strangers
        self.lossy = lossy
        self.identifying, self.shapes = identifying, shapes
        self.plain = _SIMPLE if careful else _OPTIMISTIC

    def __missing__(self, kind: type) -> _Write:
        write = _JSON_TYPES.get(kind) or self._choose(kind)
        if self.lossy:
            write = _marking(write)
        self[kind] = write
        return write

    def _choose(self, kind: type) -> _Write:
        standard = kind_of(kind)
        if standard is not None:
            return _write_standard(standard)
        family = family_of(kind)
        if family is None:
            return _refuse
        if self.strangers is not None and not is_found(kind):
            self.strangers.add(kind)
        if self.identifying:
            shape = self.shapes.get(kind) or Shape(without_modules(name_of(kind)), None)
            split = _split_as(kind, family.prepare(kind), shape.fields)
            return _write_parts({TAG: family.tag, "class": shape.name}, split, Step.ATTRIBUTE)
        head = {TAG: family.tag, "class": name_of(kind)}
        return _write_parts(head, family.prepare(kind), Step.ATTRIBUTE)


def _marking(write: _Write) -> _Write:
    """Wrap a function to write a mark for a value that it refuses."""

    def marked(writer: _Writer, value: object, depth: int) -> object:
        try:
            return write(writer, value, depth)
        except (TooDeep, RecursionError):
            raise  # includes cycles, which have no finite form
        except Refusal as refusal:
            return _Mark(type_name(type(value)), refusal.reason)
        except Exception as exc:  # noqa: BLE001 - its own code failed
            return _Mark(type_name(type(value)), _failed(exc))

    return marked


class _Mark(Parts):
    """The tree of a part that cannot be stored; its location is added in the complete tree."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__({TAG: MARK, "value": [kind, reason]})


def _named_marks(tree: object, name: str, first: int = 0) -> Iterator[tuple[str, str]]:
    """Add the locations to the marks in a tree; yields their types and reasons."""
    if type(tree) is _Mark:
        kind, reason = tree["value"]
        tree["value"] = (kind, escaped(f"{name}: {kind} cannot be stored: {reason}"))
        yield tree["value"]
    elif type(tree) is list:
        for index, part in enumerate(tree, first):
            yield from _named_marks(part, f"{name}[{index}]")
    elif type(tree) is dict:
        for below, part in _parts(tree, name):
            yield from _named_marks(part, below)


def _parts(tree: Parts, name: str) -> Iterator[tuple[str, object]]:
    """The parts of an object with their expressions in Python."""
    tag, value = tree.get(TAG), tree.get("value")
    if tag is None:
        yield from ((f"{name}[{key!r}]", part) for key, part in tree.items())
    elif tag == "dict":
        for key, part in zip(tree["value"][::2], tree["value"][1::2], strict=True):
            shown = repr(key) if type(key) in (str, int, float, bool) else "..."
            yield from ((f"{name}.keys()", key), (f"{name}[{shown}]", part))
    else:
        fields = "class" in tree and type(value) is dict
        if fields:
            yield from ((f"{name}.{key}", part) for key, part in tree["value"].items())
        for key, part in tree.items():
            if not (key == "value" and fields):
                yield name if key == "value" else f"{name}.{key}", part


_Write = Callable[[_Writer, Any, int], object]


def _text(value: object, writer: _Writer, depth: int = 0) -> str:
    tree = _tree(value, writer, depth)
    try:
        text = _json(tree)
    except RecursionError:
        raise _no_stack_left(value) from None
    if not text.isascii():
        text.encode()  # UnicodeEncodeError is a ValueError, like the error for NaN
    return text


def _json(tree: Any) -> str:
    """The text of a tree; a long one in pieces, as other threads cannot run meanwhile."""
    if type(tree) not in _NESTED or _weight(tree) < _PIECE:
        return _quoted(tree) if type(tree) is str else to_json(tree)
    if type(tree) is list:
        return f"[{','.join(_pieces(tree, tree, list))}]"
    return f"{{{','.join(_pieces(tree.items(), tree.values(), dict))}}}"


def _quoted(text: str) -> str:
    if len(text) <= _LONG:
        return to_json(text)
    pieces = [to_json(text[at : at + _LONG])[1:-1] for at in range(0, len(text), _LONG)]
    return "".join(['"', *pieces, '"'])


def _weight(tree: object) -> int:
    """The number of parts of a tree, counted up to the size of a piece."""
    count, pending = 0, [tree]
    while pending and count < _PIECE:
        part = pending.pop()
        if type(part) is dict:
            part = part.values()
        elif type(part) is not list:
            continue
        count += len(part)
        if count < _PIECE:
            pending += [below for below in part if type(below) in _NESTED]
    return count


def _pieces(
    entries: Iterable[Any], parts: Iterable[Any], make: Callable[[list[Any]], object]
) -> Iterator[str]:
    """The texts of the entries of a list or dict, with many entries in each text."""
    pending: list[object] = []
    weight = 0
    for entry, part in zip(entries, parts, strict=True):
        size = 1 + _weight(part) if type(part) in _NESTED else 1
        if pending and weight + size > _PIECE:
            yield to_json(make(pending))[1:-1]
            pending, weight = [], 0
        if size <= _PIECE:
            pending.append(entry)
            weight += size
        elif make is dict:
            yield f"{to_json(entry[0])}:{_json(part)}"
        else:
            yield _json(part)
    if pending:
        yield to_json(make(pending))[1:-1]


def _tree(value: object, writer: _Writer, depth: int = 0) -> object:
    kind = type(value)
    try:
        return value if kind in writer.plain else writer[kind](writer, value, depth + 1)
    except Refusal as refusal:
        raise refusal.error() from None
    except RecursionError:
        raise _no_stack_left(value) from None
    except Exception as exc:
        # Its own code failed, or another thread is changing it.
        raise Refusal(value, _failed(exc)).error() from exc


def _failed(exc: Exception) -> str:
    return f"taking it apart failed ({describe(exc)})"


def _no_stack_left(value: object) -> NotStorableError:
    reason = "it is nested deeper than what is left of the interpreter's stack"
    return Refusal(value, reason).error()


def is_utf8(text: str) -> bool:
    """Whether a text is written unescaped."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _write_list(writer: _Writer, value: list[object], depth: int) -> list[object]:
    if depth > MAX_DEPTH:
        raise TooDeep(value, MAX_DEPTH)
    plain = writer.plain
    depth += 1
    tree: list[object] = []
    try:
        for item in value:
            kind = type(item)
            tree.append(item if kind in plain else writer[kind](writer, item, depth))
    except Refusal as refusal:
        refusal.came_from(value, Step.ITEM, len(tree))
        raise
    return tree


def _write_dict(writer: _Writer, value: dict[object, object], depth: int) -> dict[str, object]:
    if depth > MAX_DEPTH:
        raise TooDeep(value, MAX_DEPTH)
    if TAG in value:
        return _write_pairs(writer, value, depth)
    plain, careful = writer.plain, writer.careful
    tree: dict[str, object] = {}
    key: object = None
    try:
        for key, item in value.items():
            if type(key) is not str or (careful and not is_utf8(key)):
                break
            kind = type(item)
            tree[key] = item if kind in plain else writer[kind](writer, item, depth + 1)
        else:
            return tree
    except Refusal as refusal:
        refusal.came_from(value, Step.ITEM, key)
        raise
    return _write_pairs(writer, value, depth)


def _write_pairs(writer: _Writer, value: dict[object, object], depth: int) -> dict[str, object]:
    """Write a dict with keys that are not text, or the reserved key: keys and values in turn."""
    try:
        return {
            TAG: "dict",
            **{
                name: _write_list(writer, part, depth)
                for name, part in KINDS["dict"].split(value).items()
            },
        }
    except Refusal as refusal:
        flat, _, index = refusal.trail.pop()
        assert isinstance(flat, list)
        assert isinstance(index, int)
        step = Step.ITEM if index % 2 else Step.KEY
        refusal.came_from(value, step, flat[index - 1])
        raise


def _write_int(writer: _Writer, value: int, depth: int) -> object:
    return value if -(2**63) <= value < 2**63 else {TAG: "int", **KINDS["int"].split(value)}


def _write_if(is_plain: Callable[[Any], bool], kind: Kind) -> _Write:
    """Return a function that writes a value as itself, or as an object if JSON cannot hold it."""
    return lambda writer, value, depth: (
        value if is_plain(value) else {TAG: kind.tag, **kind.split(value)}
    )


def _write_itself(writer: _Writer, value: object, depth: int) -> object:
    return value


def _write_mark(writer: _Writer, value: NotSaved, depth: int) -> object:
    return {TAG: MARK, "value": list(mark_of(value))}


_JSON_TYPES: dict[type, _Write] = {
    NotSaved: _write_mark,
    type(None): _write_itself,
    bool: _write_itself,
    dict: _write_dict,
    float: _write_if(isfinite, KINDS["float"]),
    int: _write_int,
    list: _write_list,
    str: _write_if(is_utf8, KINDS["str"]),
}


def _refuse(writer: _Writer, value: object, depth: int) -> object:
    raise Refusal(value, reason_for(value, lambda kind: kind is list or kind_of(kind) is not None))


def _write_standard(kind: Kind) -> _Write:
    unordered = kind.tag in ("set", "frozenset")
    return _write_parts({TAG: kind.tag}, kind.split, Step.MEMBER if unordered else None)


def _split_as(kind: type, split: Splitter, old: frozenset[str] | None) -> Splitter:
    """Return a function that splits instances without new fields, if these have their defaults."""
    defaults = field_defaults(kind) or {}
    new = {} if old is None else {name: defaults[name] for name in defaults.keys() - old}

    def split_again(value: object) -> Parts:
        parts = split(value)
        parts.pop("set", None)
        fields = parts["value"]
        if new and type(fields) is dict and all(_is_default(fields, *n) for n in new.items()):
            parts["value"] = {name: part for name, part in fields.items() if name not in new}
        return parts

    return split_again


def _is_default(fields: Parts, name: str, default: Callable[[], object] | None) -> bool:
    if name not in fields or default is None:
        return name not in fields
    try:
        value = default()
        return type(fields[name]) is type(value) and bool(fields[name] == value)
    except Exception:  # noqa: BLE001 - code of the user's
        return False


def _write_parts(head: Parts, split: Splitter, step: Step | None) -> _Write:
    """Return a function that writes the parts of a value; ``step`` leads to their content."""

    def write(writer: _Writer, value: object, depth: int) -> object:
        tree, name, part = dict(head), "", None
        try:
            for name, part in split(value).items():
                tree[name] = writer[type(part)](writer, part, depth)
        except Refusal as refusal:
            refusal.came_through(value, part, step)
            if step is not Step.ATTRIBUTE and name not in ("", "value"):
                refusal.came_from(value, Step.ATTRIBUTE, name)
            raise
        if step is Step.MEMBER and writer.identifying:
            tree["value"].sort(key=to_json)
        return tree

    return write
