"""The builtin and standard types that are not JSON: how each is split and rebuilt.

One row for each type. ``split`` returns the parts to write, each of them a storable value; ``join``
gets the class and the parts, and may raise any error for parts that do not fit. The modules are
loaded when a value needs them, so that importing this one stays cheap.
"""

from __future__ import annotations

import binascii
import importlib
import re
import sys
from collections import ChainMap, defaultdict
from collections.abc import Callable, Sized
from datetime import datetime, time, timedelta, timezone, tzinfo
from itertools import chain
from operator import attrgetter
from typing import TYPE_CHECKING, Any, AnyStr, NamedTuple, TypeVar

from pocoflow.values.refusal import Refusal

if TYPE_CHECKING:
    from uuid import UUID

Parts = dict[str, Any]
Splitter = Callable[[Any], Parts]
T = TypeVar("T")
ClockT = TypeVar("ClockT", datetime, time)


class Kind(NamedTuple):
    """A standard type: its own name is its tag in the text.

    Attributes:
        tag: Its name in the text.
        module: The module of its class.
        split: Splits a value into parts.
        join: Builds a value from the class and the parts.
        attribute: The name of the class, if that is not its tag.
        is_container: Whether values contain others, or can be changed in place: then they are
            compared and copied part by part. A change in place of any other is not detected.
    """

    tag: str
    module: str
    split: Splitter
    join: Callable[..., object]
    attribute: str = ""
    is_container: bool = False

    def load(self) -> object:
        """The class, after importing its module, which is from this table, not from the text."""
        return getattr(importlib.import_module(self.module), self.attribute or self.tag)

    def is_kind(self, kind: type) -> bool:
        """Whether a class is the one of this row, not only one of the same name."""
        module = sys.modules.get(self.module)
        return getattr(module, self.attribute or self.tag, None) is kind


def kind_of(kind: type) -> Kind | None:
    """The row of a class."""
    row = KINDS.get(kind.__name__)
    if row is not None and row.is_kind(kind):
        return row
    return KINDS["numpy"] if _is_scalar(kind) else None


def _is_scalar(kind: type) -> bool:
    """Whether it is a scalar type of NumPy, if NumPy is loaded."""
    numpy: Any = sys.modules.get("numpy")
    generic = getattr(numpy, "generic", None)
    if generic is None or kind.__module__ != "numpy" or not issubclass(kind, generic):
        return False
    return kind is not generic and not issubclass(kind, (numpy.void, numpy.object_))


def required(kind: type[T], value: object) -> T:
    """Return a part, or raise if it is not exactly of a type."""
    if type(value) is not kind:
        raise TypeError(f"{kind.__name__} expected, not {type(value).__name__}")
    return value


def _value(split: Callable[[Any], object]) -> Splitter:
    return lambda value: {"value": split(value)}


def _distinct(container: Sized, count: int) -> object:
    if len(container) != count:
        raise ValueError("it holds equal elements")
    return container


def _join_dict(cls: object, value: object) -> object:
    flat = required(list, value)
    return _distinct(dict(zip(flat[::2], flat[1::2], strict=True)), len(flat) // 2)


def _join_float(cls: object, value: object) -> float:
    if value not in ("nan", "inf", "-inf"):
        raise ValueError(f"{value!r} is not one of nan, inf and -inf")
    return float(required(str, value))


def _join_int(cls: object, value: object) -> int:
    number = int(required(str, value), 16)
    if hex(number) != value:
        raise ValueError("it is not hexadecimal")
    return number


def _to_base64(value: bytes) -> str:
    return binascii.b2a_base64(value, newline=False).decode("ascii")


def _from_base64(value: object) -> bytes:
    return binascii.a2b_base64(required(str, value), strict_mode=True)


def _refuse_attributes(value: object, expected: str = "") -> None:
    # Counter[str]() has the attribute __orig_class__, set by typing.
    extra = [name for name in value.__dict__ if name not in (expected, "__orig_class__")]
    if extra:
        raise Refusal(value, f"it has attributes of its own: {', '.join(extra)}")


def _bare(value: dict[object, object]) -> object:
    _refuse_attributes(value)
    return dict(value)


_FACTORIES: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        *(bool, int, float, complex, str, bytes, bytearray),
        *(dict, list, tuple, set, frozenset),
    )
}


def _split_defaultdict(value: defaultdict[object, object]) -> Parts:
    factory = value.default_factory
    name = None if factory is None else getattr(factory, "__name__", "")
    if name is not None and _FACTORIES.get(name) is not factory:
        raise Refusal(value, "its default_factory is not a builtin type such as list or int")
    return {"value": dict(value), "factory": name}


def _join_defaultdict(
    cls: type[defaultdict[object, object]], value: object, factory: str | None
) -> object:
    return cls(None if factory is None else _FACTORIES[factory], required(dict, value))


def _split_chainmap(value: ChainMap[object, object]) -> Parts:
    _refuse_attributes(value, "maps")
    return {"value": value.maps}


def _split_pattern(value: re.Pattern[AnyStr]) -> Parts:
    if value.flags & re.DEBUG:
        raise Refusal(value, "compiling it with re.DEBUG prints; compile it without")
    return {"value": value.pattern, "flags": value.flags}


def _join_pattern(cls: object, value: AnyStr, flags: object) -> re.Pattern[AnyStr]:
    pattern = re.compile(value, required(int, flags) & ~re.DEBUG)
    if pattern.flags != flags:
        raise ValueError("its flags do not fit the pattern")
    return pattern


def _named_or_odd(offset: timedelta, name: str | None = None) -> bool:
    return name is not None or offset.microseconds != 0


def _split_clock(value: datetime | time) -> Parts:
    zone = value.tzinfo
    # An offset without a name is in the text; any other zone is a separate value. So is one with
    # microseconds, which fromisoformat does not restore.
    inline = type(zone) is timezone and not _named_or_odd(*zone.__reduce__()[1])
    text = value.isoformat() if inline else value.replace(tzinfo=None).isoformat()
    parts: Parts = {"value": text}
    if not inline and zone is not None:
        parts["tzinfo"] = zone
    if value.fold:
        parts["fold"] = value.fold
    return parts


def _join_clock(
    cls: type[ClockT], value: object, tzinfo: tzinfo | None = None, fold: int = 0
) -> ClockT:
    clock = cls.fromisoformat(required(str, value))
    return clock.replace(tzinfo=clock.tzinfo if tzinfo is None else tzinfo, fold=fold)


def _split_timezone(value: timezone) -> Parts:
    return dict(zip(("value", "name"), value.__reduce__()[1], strict=False))


def _join_timezone(cls: type[timezone], value: timedelta, name: str | None = None) -> timezone:
    return cls(value) if name is None else cls(value, name)


def _split_zoneinfo(value: Any) -> Parts:
    if value.key is None:
        raise Refusal(value, "it was read from a file and has no key to find it by")
    return {"value": value.key}


def _split_uuid(value: UUID) -> Parts:
    is_safe = value.is_safe.value
    return {"value": str(value)} | ({} if is_safe is None else {"is_safe": is_safe})


def _join_uuid(cls: type[UUID], value: object, is_safe: object = None) -> UUID:
    uuid = cls(required(str, value))
    return cls(int=uuid.int, is_safe=type(uuid.is_safe)(is_safe))


def _split_url(value: Any) -> Parts:
    text = str(value)
    if str(type(value)(text)) != text:
        raise Refusal(value, "its text does not give the same URL again")
    return {"value": text}


def _split_scalar(value: Any) -> Parts:
    """The exact value of a NumPy scalar, with its type and unit."""
    dtype = value.dtype
    if dtype.kind in "mM":
        plain: Any = int(value.view("i8"))
    elif dtype.kind == "S" or (dtype.kind in "fc" and dtype.str not in _EXACT):
        plain = _to_base64(bytes(value) if dtype.kind == "S" else value.tobytes())
    elif dtype.kind == "U":
        plain = str.__str__(value)
    elif dtype.kind == "c":
        plain = [float(value.real), float(value.imag)]
    else:
        plain = value.item()
    parts = {"value": plain, "dtype": dtype.str}
    # Two types may have the same size, such as longlong and int64.
    is_usual = sys.modules["numpy"].dtype(dtype.str).type is type(value)
    return parts if is_usual else {**parts, "name": type(value).__name__}


def _join_scalar(generic: type, value: Any, dtype: object, name: object = None) -> object:
    numpy = sys.modules[generic.__module__]
    code = required(str, dtype)
    if not _DTYPE.fullmatch(code):
        raise ValueError(f"{code!r} is not the type of a scalar")
    kind = code[1]
    if kind == "S":
        return numpy.bytes_(_from_base64(value))
    if kind == "U":
        return numpy.str_(required(str, value))
    if kind in "mM":
        return numpy.array(required(int, value), "i8").view(code)[()]
    if type(value) is str:
        return numpy.frombuffer(_from_base64(value), code)[0]
    number = complex(*value) if kind == "c" else value
    usual = numpy.dtype(code).type
    scalar = (usual if name is None else getattr(numpy, required(str, name)))(number)
    if scalar.dtype.str != code or (scalar != number and number == number):
        raise ValueError(f"{value!r} is not a value of the type {code}")
    return scalar


_EXACT = frozenset(f"{order}{name}" for order in "<>" for name in ("f2", "f4", "f8", "c8", "c16"))
_DTYPE = re.compile(r"[<>|=](?:b1|[iuf][1248]|f1[26]|c8|c16|c24|c32|[SU]\d+|[mM]8(?:\[\d*\w+\])?)")


def _from(kind: type) -> Callable[..., object]:
    """A ``join`` that calls the class with its only part, which must be of that type."""
    return lambda cls, value: cls(required(kind, value))


_from_text = _from(str)
_to_text = _value(str)


def _by_text(module: str, *names: str, split: Splitter = _to_text) -> tuple[Kind, ...]:
    return tuple(Kind(name, module, split, _from_text) for name in names)


def _by_fields(module: str, name: str, *fields: str) -> Kind:
    """A type that is built from these attributes, in order."""
    get = attrgetter(*fields)
    return Kind(
        name,
        module,
        _value(lambda value: list(get(value))),
        lambda cls, value: cls(*required(list, value)),
    )


_BUILTINS = (
    Kind("int", "builtins", _value(hex), _join_int),
    Kind("float", "builtins", _value(repr), _join_float),
    Kind(
        "str",
        "builtins",
        _value(lambda value: _to_base64(value.encode("utf-8", "surrogatepass"))),
        lambda cls, value: _from_base64(value).decode("utf-8", "surrogatepass"),
    ),
    Kind(
        "dict",
        "builtins",
        _value(lambda value: list(chain.from_iterable(value.items()))),
        _join_dict,
    ),
    Kind("bytes", "builtins", _value(_to_base64), lambda cls, value: _from_base64(value)),
    Kind(
        "bytearray",
        "builtins",
        _value(_to_base64),
        lambda cls, value: bytearray(_from_base64(value)),
        is_container=True,
    ),
    Kind(
        "tuple",
        "builtins",
        _value(list),
        lambda cls, value: tuple(required(list, value)),
        is_container=True,
    ),
    *(
        Kind(
            name,
            "builtins",
            _value(list),
            lambda cls, value: _distinct(cls(required(list, value)), len(value)),
            is_container=True,
        )
        for name in ("set", "frozenset")
    ),
    _by_fields("builtins", "complex", "real", "imag"),
    _by_fields("builtins", "range", "start", "stop", "step"),
    _by_fields("builtins", "slice", "start", "stop", "step"),
    Kind("ellipsis", "types", lambda value: {}, lambda cls: ..., "EllipsisType"),
)

_COLLECTIONS = (
    Kind(
        "deque",
        "collections",
        lambda value: {"value": list(value), "maxlen": value.maxlen},
        lambda cls, value, maxlen: cls(required(list, value), maxlen),
    ),
    *(Kind(name, "collections", _value(_bare), _from(dict)) for name in ("OrderedDict", "Counter")),
    Kind("defaultdict", "collections", _split_defaultdict, _join_defaultdict),
    Kind("ChainMap", "collections", _split_chainmap, lambda cls, value: ChainMap(*value)),
    Kind(
        "array",
        "array",
        lambda value: {"value": value.tolist(), "typecode": value.typecode},
        lambda cls, value, typecode: cls(typecode, required(list, value)),
    ),
)

_TIMES = (
    Kind(
        "date",
        "datetime",
        _value(lambda value: value.isoformat()),
        lambda cls, value: cls.fromisoformat(required(str, value)),
    ),
    Kind("datetime", "datetime", _split_clock, _join_clock),
    Kind("time", "datetime", _split_clock, _join_clock),
    Kind(
        "timedelta",
        "datetime",
        _value(lambda value: [value.days, value.seconds, value.microseconds]),
        lambda cls, value: cls(*(required(int, part) for part in required(list, value))),
    ),
    Kind("timezone", "datetime", _split_timezone, _join_timezone),
    Kind("ZoneInfo", "zoneinfo", _split_zoneinfo, _from_text),
    # The time zone of Pydantic for a text with an offset.
    Kind("TzInfo", "pydantic_core", _value(lambda value: value.__reduce__()[1][0]), _from(int)),
)

_URLS = (
    "AnyUrl AnyHttpUrl FileUrl FtpUrl HttpUrl WebsocketUrl AnyWebsocketUrl PostgresDsn "
    "CockroachDsn AmqpDsn RedisDsn MongoDsn KafkaDsn NatsDsn MySQLDsn MariaDBDsn ClickHouseDsn "
    "SnowflakeDsn"
)

KINDS: dict[str, Kind] = {
    kind.tag: kind
    for kind in (
        *_BUILTINS,
        *(kind._replace(is_container=True) for kind in _COLLECTIONS),
        Kind("Pattern", "re", _split_pattern, _join_pattern),
        *_TIMES,
        *_by_text("decimal", "Decimal"),
        _by_fields("fractions", "Fraction", "numerator", "denominator"),
        Kind("UUID", "uuid", _split_uuid, _join_uuid),
        *_by_text("pathlib", "PurePosixPath", "PureWindowsPath", "PosixPath", "WindowsPath"),
        *_by_text("ipaddress", "IPv4Address", "IPv4Network", "IPv4Interface"),
        *_by_text("ipaddress", "IPv6Address", "IPv6Network", "IPv6Interface"),
        Kind("numpy", "numpy", _split_scalar, _join_scalar, "generic"),
        *_by_text("pydantic.networks", *_URLS.split(), split=_split_url),
        *_by_text("pydantic_core", "Url", "MultiHostUrl", split=_split_url),
        _by_fields("pydantic.networks", "NameEmail", "name", "email"),
        Kind("ByteSize", "pydantic.types", _value(int), _from(int)),
    )
}
"""The rows by tag."""
