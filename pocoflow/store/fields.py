"""References to the fields of a store, checked by an unaided type checker.

``A = fields(Article)`` is an ``Article`` to a type checker, so ``A.summary`` is a ``str``, and a
misspelt field, a default of the wrong type and a function that returns another type than the
field has are ordinary type errors. At run time ``A.summary`` is a reference that names the field.
"""

from __future__ import annotations

from typing import Any, NamedTuple, NoReturn, Self, TypeAlias, TypeVar, cast

from pydantic import BaseModel

from pocoflow.errors import DefinitionError, ReferenceMisuseError
from pocoflow.messages import closest, short

ModelT = TypeVar("ModelT", bound=BaseModel)

References: TypeAlias = tuple[Any, ...] | list[Any]
"""Several references. Not any iterable: a type checker may see a single reference as a ``str``."""


class StoreField(NamedTuple):
    """A field of a store, by name.

    Attributes:
        name: The key in the store: a field name, never an alias.
        model: The model that the reference was taken from; ``None`` for ``key(...)`` and for a
            field that a parameter of a function names.
    """

    name: str
    model: type[BaseModel] | None = None

    def __str__(self) -> str:
        return f"{self.name!r}" if self.model is None else f"{self.model.__name__}.{self.name}"


class Reference:
    """A placeholder for a value that exists only in a run; using it as the value is refused."""

    __slots__ = ()

    def _misused(self, how: str) -> NoReturn:
        raise ReferenceMisuseError(
            f"{self!r} {how}: it stands for a value that only a run has, and gives to the "
            "parameter whose default it is"
        )

    def __bool__(self) -> NoReturn:  # noqa: PLE0304 - it never returns
        self._misused("has no truth value")

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)  # the protocols of copy, inspect, typing and others
        self._misused(f"has no attribute {name!r}")

    def __iter__(self) -> NoReturn:
        self._misused("cannot be iterated")

    def __len__(self) -> NoReturn:  # noqa: PLE0303 - it never returns
        self._misused("has no length")

    def __getitem__(self, item: object) -> NoReturn:
        self._misused("has no items")

    def __contains__(self, item: object) -> NoReturn:
        self._misused("has no items")

    def __call__(self, *args: object, **kwargs: object) -> NoReturn:
        """Refused, like all other uses."""
        self._misused("cannot be called")

    def __format__(self, spec: str) -> NoReturn:
        """Refused: a prompt would contain the name of the field. ``str`` is for logs."""
        self._misused("cannot be put into a text")

    def _compare(self, other: object) -> NoReturn:
        self._misused("cannot be compared")

    def _compute(self, other: object = None) -> NoReturn:
        self._misused("cannot be computed with")

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = _compute
    __rtruediv__ = __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __pow__ = __rpow__ = _compute
    __and__ = __rand__ = __or__ = __ror__ = __neg__ = __abs__ = __int__ = __float__ = _compute

    __lt__ = __le__ = __gt__ = __ge__ = _compare

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self


class FieldRef(Reference):
    """A reference to a field: a default of a parameter, or what a function node writes."""

    # Its own names start with underscores, unlike fields: A.address.name must not work.
    __slots__ = ("__field__",)
    __field__: StoreField

    def __init__(self, field: StoreField) -> None:
        object.__setattr__(self, "__field__", field)

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> NoReturn:
        self._compare(other)

    def __ne__(self, other: object) -> NoReturn:
        self._compare(other)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        self._misused("cannot be written to")

    def __repr__(self) -> str:
        return f"<field {self.__field__}>"

    def __reduce__(self) -> tuple[type[FieldRef], tuple[StoreField]]:
        return type(self), (self.__field__,)


def field_of(reference: FieldRef) -> StoreField:
    """The field that a reference names."""
    return reference.__field__


def reference_of(argument: str, given: object) -> StoreField:
    """The field that a reference names.

    Raises:
        DefinitionError: It is not a reference; the message names the argument.
    """
    if isinstance(given, FieldRef):
        return field_of(given)
    if isinstance(given, str):
        raise DefinitionError(
            f"{argument}={given!r} is a string, which no type checker can check; write a "
            f"reference: fields(Model).{given}, or key({given!r}) for a store without a model"
        )
    raise DefinitionError(
        f"{argument}={short(given)}: it takes a field reference such as fields(Model).name, or "
        "key('name') for a store without a model"
    )


class _Fields:
    """The fields of a model as attributes; each is a :class:`FieldRef`."""

    __slots__ = ("_model",)
    _model: type[BaseModel]

    def __init__(self, model: type[BaseModel]) -> None:
        object.__setattr__(self, "_model", model)

    def __getattr__(self, name: str) -> FieldRef:
        if name.startswith("__"):
            raise AttributeError(name)
        model = self._model
        known = model.model_fields
        if name in known:
            return FieldRef(StoreField(name, model))
        owner = f"fields({model.__name__})"
        for field, info in known.items():
            if name in (info.alias, info.validation_alias, info.serialization_alias):
                raise ReferenceMisuseError(
                    f"{owner}.{name}: {name!r} is an alias; a store knows the field as {field!r}"
                )
        if hasattr(model, name) or name in model.model_computed_fields:
            raise ReferenceMisuseError(
                f"{owner}.{name}: {name!r} is no field of {model.__name__} but a method, property "
                "or class attribute; a store holds fields alone"
            )
        raise ReferenceMisuseError(
            f"{owner}.{name}: {model.__name__} has no field {name!r}{closest(name, known)} "
            f"(fields: {', '.join(known)})"
        )

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise ReferenceMisuseError(
            f"fields({self._model.__name__}) holds references, it takes no values"
        )

    def __dir__(self) -> list[str]:
        return sorted(self._model.model_fields)

    def __repr__(self) -> str:
        return f"fields({self._model.__name__})"


def fields(model: type[ModelT], /) -> ModelT:
    """References to the fields of a store's schema, as attributes: ``fields(Article).summary``.

    Returns:
        To a type checker an instance of the model, at run time an object whose attributes are
        references. A name that is not a field raises :class:`ReferenceMisuseError`.

    Raises:
        DefinitionError: ``model`` is not a Pydantic model class.
    """
    given: object = model
    if not (isinstance(given, type) and issubclass(given, BaseModel)):
        raise DefinitionError(
            f"fields(...) takes a Pydantic model class, not {short(model)}; for a store without a "
            "model use key('name')"
        )
    return cast(ModelT, _Fields(model))


def key(name: str, /) -> Any:
    """A reference to a key of a store without a model; fits every type.

    Raises:
        DefinitionError: ``name`` is not a non-empty string.
    """
    given: object = name
    if not isinstance(given, str) or not given:
        raise DefinitionError(f"key(...) takes the name of a key of the store, not {short(name)}")
    return FieldRef(StoreField(str.__str__(name)))


def is_fields(value: object) -> bool:
    """Whether it is what ``fields(...)`` returned, rather than one of its attributes."""
    return isinstance(value, _Fields)
