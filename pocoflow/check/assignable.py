"""Whether a value of one annotated type may go where another is expected.

Only what is provably wrong is refused: unresolved types, type variables, protocols, types with
their own validation and containers without arguments fit everything. Simple forms are decided here;
the rest, generic classes of different shapes, by ``beartype.door``, which is imported on first use.
"""

from __future__ import annotations

import collections.abc
import re
from collections.abc import Callable, Iterable
from dataclasses import is_dataclass
from types import NoneType, UnionType
from typing import (
    Any,
    ForwardRef,
    Literal,
    LiteralString,
    Never,
    NewType,
    NoReturn,
    TypeAlias,
    Union,
    get_args,
    get_origin,
)

from pydantic import AfterValidator, BaseModel, PlainSerializer, WrapSerializer
from typing_extensions import is_typeddict

from pocoflow.check.findings import Severity
from pocoflow.nodes.annotations import Unknown, is_variable, plain
from pocoflow.store.reducing import metadata_of
from pocoflow.store.schema.cores import is_machine_number
from pocoflow.values.remembering import remembered

_Relation: TypeAlias = Callable[[object, object], bool]
_NUMBERS: dict[object, tuple[type, ...]] = {float: (int,), complex: (float, int)}


def fits(given: object, wanted: object) -> bool:
    """Whether some value of the type ``given`` may go where ``wanted`` is expected.

    It is false only if it is proved that no value fits; a value that is narrower than its
    annotation fits. An ``int`` fits a ``float``. Containers are treated as covariant, as in the
    check of a store.
    """
    return given is wanted or _some(given, wanted, _fits)


def fits_field(given: object, wanted: object) -> bool:
    """As :func:`fits`, for a value that is written to a field, by the rules of a store.

    There, a ``bool`` is not a number, a NumPy number is a ``float``, a model may be given as a
    mapping and a pattern as its text.
    """
    return _some(given, wanted, _field_fits)


def clash(given: object, wanted: object) -> Severity:
    """The severity of a misfit: an empty container may fit nevertheless."""
    return "warning" if _some(_empty(given), _empty(wanted), _fits) else "error"


def _some(given: object, wanted: object, fit: _Relation) -> bool:
    ours, theirs = members(given), members(wanted)
    return not ours or any(fit(our, their) for our in ours for their in theirs)


def _empty(annotation: object) -> object:
    """The type of an empty container of a type."""
    parts = [_outer(member) for member in members(annotation)]
    return Union[tuple(parts)] if parts else Never  # noqa: UP007 - of parts


def _outer(kind: object) -> object:
    origin, arguments = get_origin(kind), get_args(kind)
    is_fixed = origin is tuple and arguments[1:] != (...,)
    if not isinstance(origin, type) or is_fixed:
        return kind
    return origin if issubclass(origin, collections.abc.Iterable) else kind


def _field_fits(given: object, wanted: object) -> bool:
    if wanted in (int, float, complex) and given in (bool, *_BOOLS):
        return False
    kind = get_origin(given) or given
    if kind is Literal:
        value = get_args(given)[0]
        if get_origin(wanted) is Literal:
            return bool(value == get_args(wanted)[0])
        kind = type(value)
    return _made_of(wanted, kind) or _fits(given, wanted, fits_field)


_BOOLS = (Literal[True], Literal[False])
_LAZY: tuple[object, ...] = tuple(
    vars(collections.abc)[name]
    for name in ("Iterable", "Iterator", "Generator", "Collection", "Container", "Reversible")
)
"""Types whose elements are not inspected when a value is checked."""


def _made_of(wanted: object, given: object) -> bool:
    """Whether a store may convert a value of another class to the type of a field."""
    kind = get_origin(wanted) or wanted
    if kind is Literal:
        value = get_args(wanted)[0]
        return _is_number(type(value)) and _is_number(given)  # 1.0 is 1
    if not isinstance(kind, type):
        return False
    if issubclass(kind, BaseModel) and (
        _is_a(given, collections.abc.Mapping) or _roots(kind, given)
    ):
        return True
    if issubclass(kind, BaseModel) or is_dataclass(kind):
        return given in (Any, object, dict) or _reads_anything(kind)
    if kind is float:
        return isinstance(given, type) and is_machine_number(given)
    if kind is re.Pattern:
        return _is_a(given, (str, bytes))
    if kind in _LAZY or (issubclass(kind, tuple) and hasattr(kind, "_fields")):
        return _is_a(given, collections.abc.Iterable)
    return False


def _roots(model: type[BaseModel], given: object) -> bool:
    # Not by RootModel: importing it builds a model, with all that Pydantic needs for that.
    root = model.model_fields.get("root") if model.__pydantic_root_model__ else None
    return root is not None and fits_field(given, root.annotation)


def _is_a(kind: object, of: type | tuple[type, ...]) -> bool:
    return isinstance(kind, type) and issubclass(kind, of)


def _is_number(kind: object) -> bool:
    """Whether ``float``, and therefore a store, accepts its values."""
    return isinstance(kind, type) and (hasattr(kind, "__float__") or hasattr(kind, "__index__"))


def _reads_anything(kind: type) -> bool:
    """Whether a model has a validator that sees the raw input, or reads attributes of objects."""
    if issubclass(kind, BaseModel) and kind.model_config.get("from_attributes"):
        return True
    decorators = getattr(kind, "__pydantic_decorators__", None)
    validators = () if decorators is None else decorators.model_validators.values()
    return any(validator.info.mode in ("before", "wrap") for validator in validators)


def members(annotation: object) -> list[object]:
    """The members of a union, each in its simplest form; of any other type, itself.

    ``Any`` stands for an unknown type. ``Never`` has no members.
    """
    return list(_members(annotation))


@remembered
def _members(annotation: object) -> tuple[object, ...]:
    annotation = Any if converts(metadata_of(annotation)) else plain(annotation)
    origin = get_origin(annotation)
    if annotation is None:
        return (NoneType,)
    if annotation is Never or annotation is NoReturn:
        return ()
    if origin is Union or origin is UnionType:
        return tuple(member for part in get_args(annotation) for member in members(part))
    if origin is Literal:
        return tuple(Literal[value] for value in get_args(annotation))
    if isinstance(annotation, NewType):
        return tuple(members(annotation.__supertype__))
    if isinstance(annotation, tuple):  # in a schema of types
        return tuple(member for part in annotation for member in members(part))
    if annotation is LiteralString:
        return (str,)
    if _is_open(annotation) or _is_open(origin):
        return (Any,)
    if is_typeddict(annotation):
        return (dict,)
    if origin is collections.abc.Callable:
        return (origin,)
    if isinstance(annotation, type) or origin is not None:
        return (annotation,)
    return (Any,)


def converts(metadata: Iterable[object]) -> bool:
    """Whether the metadata of a type may convert values of other types to it."""
    return any(
        getattr(m, "strict", None) is False
        or (hasattr(m, "__get_pydantic_core_schema__") and not isinstance(m, _CONVERT_NOTHING))
        for m in metadata
    )


_CONVERT_NOTHING = (AfterValidator, PlainSerializer, WrapSerializer)


def _is_open(kind: object) -> bool:
    """Whether nothing can be proved about it."""
    if isinstance(kind, (Unknown, ForwardRef, str)) or is_variable(kind):
        return True
    if not isinstance(kind, type):
        return False
    if getattr(kind, "_is_protocol", False) and kind.__module__ != "collections.abc":
        return True
    names = ("__get_pydantic_core_schema__", "__get_validators__")
    return any(hasattr(kind, name) for name in names) and not issubclass(kind, BaseModel)


def _fits(given: Any, wanted: Any, within: _Relation = fits) -> bool:
    """Whether some value fits, its parts by the relation ``within``."""
    if given in (Any, object) or wanted in (Any, object) or given == wanted:
        return True
    if get_origin(given) is Literal:
        return _literal_fits(get_args(given)[0], wanted)
    if get_origin(wanted) is Literal:
        value, kind = get_args(wanted)[0], get_origin(given) or given
        return isinstance(value, kind) or _is_a(kind, type(value))
    return _class_fits(given, wanted, within) or _is_narrower(wanted, given)


def _literal_fits(value: object, wanted: object) -> bool:
    if get_origin(wanted) is Literal:
        expected = get_args(wanted)[0]
        return type(value) is type(expected) and value == expected
    return _class_fits(type(value), wanted)


def _is_narrower(wanted: Any, given: Any) -> bool:
    """Whether a value that is annotated with one class may also be an instance of the expected one.

    That holds for a base class, and for two classes with a common subclass.
    """
    ours, theirs = get_origin(given) or given, get_origin(wanted) or wanted
    try:
        if ours is theirs or issubclass(theirs, ours):
            return ours is not theirs
        subclasses = [] if ours.__module__ == "builtins" else type.__subclasses__(ours)
        for child in subclasses:  # grows during iteration
            if issubclass(child, theirs):
                return True
            subclasses += type.__subclasses__(child)
    except TypeError:
        return True
    return False


def _class_fits(given: object, wanted: object, within: _Relation = fits) -> bool:
    ours, theirs = get_origin(given) or given, get_origin(wanted) or wanted
    if not (isinstance(ours, type) and isinstance(theirs, type)):
        return True
    if _same_model(ours, theirs):
        return True
    try:
        related = issubclass(ours, theirs) or ours in _NUMBERS.get(theirs, ())
    except TypeError:
        return True
    if not related or given is ours or wanted is theirs:
        return related
    return _arguments_fit(given, wanted, within)


def _same_model(ours: type, theirs: type) -> bool:
    """Whether both are parametrisations of one generic model."""
    infos = [getattr(kind, "__pydantic_generic_metadata__", None) for kind in (ours, theirs)]
    origins = [
        info["origin"] or kind for info, kind in zip(infos, (ours, theirs), strict=True) if info
    ]
    return len(origins) == 2 and origins[0] is origins[1]


def _arguments_fit(given: object, wanted: object, within: _Relation) -> bool:
    ours, theirs = get_args(given), get_args(wanted)
    if get_origin(given) is tuple:
        return _tuple_fits(ours, wanted, within)
    if len(ours) == len(theirs) and ... not in (*ours, *theirs):
        return all(within(our, their) for our, their in zip(ours, theirs, strict=True))
    return _by_the_library(given, wanted)


def _tuple_fits(ours: tuple[object, ...], wanted: object, within: _Relation) -> bool:
    theirs = get_args(wanted)
    is_homogeneous = get_origin(wanted) is not tuple
    if not theirs:
        return True
    if is_homogeneous or theirs[1:] == (...,):
        return all(within(our, theirs[0]) for our in ours if our is not ...)
    if ours[1:] == (...,):
        return all(within(ours[0], their) for their in theirs)
    return len(ours) == len(theirs) and all(map(within, ours, theirs))


def _by_the_library(given: object, wanted: object) -> bool:
    from beartype.door import is_subhint

    try:
        return bool(is_subhint(given, wanted))
    except Exception:  # noqa: BLE001 - a form that the library does not know proves nothing
        return True
