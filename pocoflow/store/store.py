"""The shared state of a run: a mapping that can be typed, observed, saved and restored."""

from __future__ import annotations

import os
from collections.abc import (
    Callable,
    Collection,
    Container,
    Iterable,
    Iterator,
    Mapping,
    MutableMapping,
)
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeAlias, cast, overload

from pydantic import BaseModel
from typing_extensions import TypeVar

from pocoflow.errors import (
    InvalidValueError,
    MissingKeyError,
    StoreError,
    UnknownFieldError,
)
from pocoflow.logging import OwnLogger
from pocoflow.messages import is_same_field, short
from pocoflow.store.fields import Reference
from pocoflow.store.missing import (
    Unsaved,
    attributes_of,
    check_complete,
    check_name,
    missing_key,
    no_attribute,
)
from pocoflow.store.reducing import reduced
from pocoflow.store.revalidating import revalidate
from pocoflow.store.schema import Schema, make_schema
from pocoflow.store.schema.cores import UNKNOWN
from pocoflow.store.schema.model_facts import definitions_of, model_values
from pocoflow.store.state import State
from pocoflow.values.callables import UNSET, check_callback, check_called
from pocoflow.values.copies import IMMUTABLE, stored_copy

if TYPE_CHECKING:
    from _typeshed import SupportsKeysAndGetItem

    from pocoflow.values.changes.difference import Change

_log = OwnLogger("store")

StateT = TypeVar("StateT", bound=BaseModel, default=Any)
ModelT = TypeVar("ModelT", bound=BaseModel, default=Any)
# A function that takes a store of a base class of a schema takes a store of the schema, too.
SchemaT_co = TypeVar("SchemaT_co", bound=BaseModel, default=Any, covariant=True)

Observer: TypeAlias = Callable[[str, Any, Any], object]
"""Called as ``observer(key, old, new)`` after every write; ``None`` means absent."""


class Store(MutableMapping[str, Any], Generic[SchemaT_co]):
    """Shared, optionally typed, observable state.

    A complete ``MutableMapping``. With a schema, every write is checked first: a write that does
    not fit raises an error and changes nothing. ``Store[Model].state`` is the same data, typed as
    the model for editors and type checkers.

    Args:
        data: Initial values, as a mapping or as an instance of the schema's model. Copied (the
            mapping, not the values in it).
        schema: A Pydantic model class, or a dict ``{"key": type}``; a model instance as ``data``
            brings its own.
        name: Shown in error messages and stored in snapshots.

    Raises:
        UnknownFieldError: ``data`` has a key that the model does not have.
        InvalidValueError: A value does not fit the schema, or ``name`` is not a text.
        DefinitionError: ``schema`` is neither a model class nor a dict of types.
    """

    name: str
    _data: MutableMapping[str, Any]
    _touched: set[str]
    # The values if reads and writes need no checks and no notification; else None. One attribute
    # for both, as attributes of a class with __getattr__ are slow in CPython.
    _plain: MutableMapping[str, object] | None
    # Checks and writes a value if its type is all there is to check; else None.
    _assign: Callable[[MutableMapping[str, object], str, object], bool] | None = None
    _observers: tuple[Observer, ...] = ()
    _unsaved: Mapping[str, Unsaved] = MappingProxyType({})
    _accepted: Mapping[str, str] = MappingProxyType({})
    _schema: Schema | None = None
    _tracked: bool = False
    _refuses: bool = False  # whether writes are refused for reasons other than the schema

    @overload
    def __init__(self, data: SchemaT_co, schema: None = None, name: str = "") -> None: ...
    @overload
    def __init__(
        self,
        data: Mapping[str, object] | None = None,
        schema: type[SchemaT_co] | Mapping[str, object] | None = None,
        name: str = "",
    ) -> None: ...
    @overload
    def __init__(
        self, data: BaseModel, schema: type[SchemaT_co] | Mapping[str, object], name: str = ""
    ) -> None: ...
    def __init__(self, data: Any = None, schema: object = None, name: str = "") -> None:
        self.name = name
        under: Mapping[str, str] = {}
        if isinstance(data, BaseModel):
            schema = type(data) if schema is None else schema
            data, under = model_values(data), definitions_of(type(data))
        elif isinstance(data, Store):
            schema = data.schema if schema is None else schema
            under = data.definitions
        elif type(data) is not dict and isinstance(data, (type, str)):
            raise InvalidValueError(
                f"Store({short(data)}): the values come first, as a dict or an instance of the "
                "schema: Store(values, schema=Model)"
            )
        self._setup({}, name, dict(data or {}), make_schema(schema), under)

    @classmethod
    def over(
        cls,
        data: dict[str, object],
        schema: object = None,
        name: str = "",
        under: Mapping[str, str] | None = None,
    ) -> Store:
        """A store whose values are ``data`` itself, so that its owner sees each write.

        Args:
            data: The values.
            schema: The schema.
            name: The name of the store.
            under: The definitions of fields under which another store has accepted values.

        Raises:
            UnknownFieldError: ``data`` has a key that the schema's model does not have.
            InvalidValueError: A value does not fit; ``data`` is unchanged.
        """
        made: Store = cls.__new__(cls)
        # A copy, as other threads, such as those of other runs, may write to the dict meanwhile.
        made._setup(data, name, dict(data), make_schema(schema), under)
        return made

    def _setup(
        self,
        data: MutableMapping[str, object],
        name: str,
        initial: dict[str, object],
        schema: Schema | None,
        under: Mapping[str, str] | None = None,
    ) -> None:
        set_attribute = object.__setattr__  # bypasses __setattr__, and needs no __dict__
        set_attribute(self, "name", name)
        set_attribute(self, "_data", data)
        set_attribute(self, "_touched", set())
        set_attribute(self, "_plain", data)
        if under:
            self._accepted = dict(under)
        if schema is not None or under:
            self._set_initial(initial, schema)
            return
        self._check(initial)
        if not data:
            data.update(initial)

    def _set_initial(self, initial: dict[str, object], schema: Schema | None) -> None:
        """Check ``initial`` against ``schema`` and, if it fits, store both."""
        self._check(initial)
        if schema is not None:
            if self._accepted:
                # A default must not replace a value that could not be stored.
                initial = revalidate(schema, self._label, initial, self._accepted, self._unsaved)
            else:
                initial = schema.enter(self._label, initial, self._unsaved)
        self._accept(initial, schema)

    def _accept(self, values: Mapping[str, object], schema: Schema | None) -> None:
        self._data.update(values)
        self._touched.update(values)
        if schema is not self._schema:
            self._schema = schema
        if schema is not None and self._accepted:
            self._accepted = {}
        self._set_plain()

    def _view(
        self,
        other: Store,
        values_of: Callable[[Mapping[str, object]], MutableMapping[str, object]],
    ) -> None:
        """Initialise as a view of another store, which has accepted the values."""
        self._setup(values_of(other._data), other.name, {}, None)
        self._unsaved = dict(other.unsaved)
        self._schema = other._schema
        self._set_plain()

    def _set_plain(self) -> None:
        """Record whether writes need no checks and no notification."""
        schema = self._schema
        watched = bool(self._observers or self._unsaved or self._accepted)
        plain = None if watched or self._tracked or schema is not None else self._data
        if plain is not self._plain:
            self._plain = plain
        assign = None if watched or schema is None or self._refuses else schema.assign
        if assign is not self._assign:
            self._assign = assign

    @property
    def definitions(self) -> Mapping[str, str]:
        """The definition of each field when its value was accepted, if a schema had one."""
        return self._accepted if self._schema is None else self._schema.definitions

    # -- reading ------------------------------------------------------------------------------

    def __getitem__(self, key: str) -> Any:
        plain = self._plain
        try:
            value = self._data[key] if plain is None else plain[key]
        except KeyError:
            raise self._missing(key) from None
        if plain is None and type(value) not in IMMUTABLE:
            self._touched.add(key)
        return value

    def get(self, key: str, default: object = None, /) -> Any:
        """The value of a key, or ``default`` if it is absent.

        Raises:
            NotSavedError: It could not be saved: a default would hide that.
            UnreadableKeyError: It is stored, but of a class that is unknown here.
        """
        plain = self._plain
        if plain is not None:
            return plain.get(key, default)
        if key in self._unsaved:
            raise self._missing(key)
        self._touched.add(key)
        return self._data.get(key, default)

    def __iter__(self) -> Iterator[str]:
        return iter(self._data)

    def __len__(self) -> int:
        return len(self._data)

    def __contains__(self, key: object) -> bool:
        return key in self._data

    def __repr__(self) -> str:
        name = f"{self.name!r}, " if self.name else ""
        return f"Store({name}{self._data!r})"

    @property
    def schema(self) -> Any:
        """The schema as it was given: a model class, a dict of types, or ``None``."""
        schema = self._schema
        return None if schema is None else schema.source

    @property
    def state(self) -> SchemaT_co:
        """A view typed as the schema's model; reads and writes through it are checked and observed.

        A field that is not set yet raises :class:`MissingKeyError`, which is also an
        ``AttributeError``. Methods and properties of the model work on the view.
        """
        return cast(SchemaT_co, State(self, self._data))

    def as_dict(self) -> dict[str, Any]:
        """The values as a new dict (the values themselves are not copied)."""
        self._touched.update(self._data)
        return dict(self._data)

    @property
    def unsaved(self) -> Mapping[str, Unsaved]:
        """Keys of a restored checkpoint whose values could not be stored, with the reason."""
        return self._unsaved

    def track(self) -> None:
        """Record from now on which keys are read, also without a schema."""
        self._tracked = True
        self._set_plain()

    def own_items(self) -> Iterable[tuple[str, object]]:
        """The keys whose values may have changed since the store was created, with their values."""
        # A copy, as other threads, such as those of other runs, may write meanwhile. So below.
        return dict(self._data).items()

    def touched(self) -> tuple[list[tuple[str, object]], list[str]]:
        """The keys that were written, or read and may change, since :meth:`forget_touched`.

        Returns:
            Those that are present, with their values, and, in any order, those that are absent.
        """
        data, touched = self._data, frozenset(self._touched)
        present = [
            (key, data[key])
            for key in (touched if len(touched) == 1 else [*data])
            if key in touched and key in data
        ]
        absent = [key for key in touched if key not in data] if len(present) < len(touched) else []
        return present, absent

    def forget_touched(self) -> None:
        """Restart the record of keys that are written, or read and may change."""
        self._touched.clear()

    def take_touched(
        self, apart: Container[object], kept: Container[str]
    ) -> list[tuple[str, object]]:
        """The keys whose values were written since the last call, or read and may change in place.

        Args:
            apart: Values of these classes are left out.
            kept: Keys that are always included; the value of an absent one is ``None``.
        """
        data, items = self._data, []
        for key in tuple(self._touched):
            self._touched.discard(key)
            value = data.get(key)
            if (type(value) not in apart and key in data) or key in kept:
                items.append((key, value))
        return items

    # -- writing ------------------------------------------------------------------------------

    def __setitem__(self, key: str, value: object) -> None:
        plain = self._plain
        if type(key) is not str or issubclass(type(value), Reference):
            self.apply({key: value})
        elif plain is not None:
            plain[key] = value
        elif (assign := self._assign) is not None and assign(self._data, key, value):
            self._touched.add(key)
        else:
            self.apply({key: value})

    def pop(self, key: str, default: Any = UNSET, /) -> Any:
        """Remove a key and return its value, or ``default``, if one is given, if it is absent.

        Raises:
            MissingKeyError: It is absent; also with a default, if its value could not be saved or
                cannot be read, as of :meth:`get`.
        """
        if default is not UNSET and key not in self._data:
            return self.get(key, default)
        return super().pop(key)

    def setdefault(self, key: str, default: Any = None, /) -> Any:
        """The value of a key, which is set to ``default`` first if it has none.

        Raises:
            UnreadableKeyError: It has one, of a class that is not known here.
        """
        lost = self._unsaved.get(key)
        if lost is not None and lost.text is not None:
            raise self._missing(key)
        return super().setdefault(key, default)

    def popitem(self) -> tuple[str, Any]:
        """Remove the last key, as a dict does, and return it with its value.

        Raises:
            MissingKeyError: The store is empty.
        """
        key = next(reversed([*self._data]), None)
        if key is None:
            raise MissingKeyError(f"{self._label} is empty")
        return key, self.pop(key)

    def __delitem__(self, key: str) -> None:
        if self._schema is not None and key in self._schema.frozen and key in self._data:
            raise InvalidValueError(f"{self._label}: field {key!r} is frozen: it is not deleted")
        try:
            old = self._data.pop(key)
        except KeyError:
            raise self._missing(key) from None
        self._touched.add(key)
        self._notify(key, old, None)

    def update(
        self,
        values: SupportsKeysAndGetItem[str, object] | Iterable[tuple[str, object]] = (),
        /,
        **named: object,
    ) -> None:
        """Write several keys, all or nothing: if one value does not fit, none is written."""
        self.apply(dict(values, **named))

    def __ior__(
        self, values: SupportsKeysAndGetItem[str, object] | Iterable[tuple[str, object]], /
    ) -> Self:
        """``store |= values`` is ``store.update(values)``, as for a dict."""
        self.update(values)
        return self

    def reduce(self, key: str, update: object) -> None:
        """Apply an increment to a field that declares a reducer.

        Raises:
            StoreError: The field has no reducer, or no value yet to reduce into.
            InvalidValueError: The result of the reducer does not fit.
        """
        if self._schema is None or key not in self._schema.reducers:
            raise StoreError(
                f"{self._label}: key {key!r} has no reducer: declare one in the schema, as in "
                f"{key}: Annotated[list[str], append] = []"
            )
        self.apply({}, ((key, update),))

    def give(self, key: str, value: object) -> None:
        """Write a value, as ``writes=`` does: as an increment if the field has a reducer.

        Raises:
            StoreError: A field with a reducer has no value yet.
            InvalidValueError: The value does not fit.
        """
        schema = self._schema
        if schema is not None and key in schema.reducers:
            self.apply({}, ((key, value),))
        else:
            self[key] = value

    def put(self, results: Mapping[str, object], under: Mapping[str, str] | None = None) -> None:
        """Write several results in the same way, all or nothing.

        Args:
            results: The values by key.
            under: The definitions under which another store has accepted some of them, by key: if
                the definition here is the same, the value is not validated again.

        Raises:
            StoreError: A field with a reducer has no value yet.
            InvalidValueError: A value does not fit.
        """
        schema = self._schema
        reducers = schema.reducers if schema is not None else ()
        if not reducers and not under:
            self.apply(results)
            return
        definitions, known = schema.definitions if schema is not None else {}, under or {}
        self.apply(
            {key: value for key, value in results.items() if key not in reducers},
            [(key, value) for key, value in results.items() if key in reducers],
            {key for key in known if is_same_field(known[key], definitions.get(key))},
        )

    def apply(
        self,
        values: Mapping[str, object],
        increments: Iterable[tuple[str, object]] = (),
        accepted: Collection[str] = (),
    ) -> list[tuple[str, object]]:
        """Write values and apply increments, all or nothing.

        Args:
            values: The values.
            increments: Keys with the updates for their reducers.
            accepted: Keys whose values and increments are already validated.

        Returns:
            The validated increments.

        Raises:
            StoreError: A field with a reducer has no value yet.
            InvalidValueError: A value does not fit.
        """
        schema, data = self._schema, self._data
        changes, given = values, [*increments]
        if given and schema is not None:
            given = [
                (key, update if key in accepted else schema.increment(self._label, key, update))
                for key, update in given
            ]
            changes = reduced(self._label, data, values, given, schema.reducers)
            accepted = {*accepted, *(key for key, _ in given)}
        self._check(changes)
        if schema is not None:
            validated = [key for key in accepted if key in changes] if accepted else ()
            changes = schema.check(self._label, data, changes, validated)
        old = {key: data.get(key) for key in changes} if self._observers else {}
        data.update(changes)
        self._touched.update(changes)
        if self._unsaved or self._accepted:
            self._unsaved = {k: v for k, v in self._unsaved.items() if k not in changes}
            self._accepted = {k: v for k, v in self._accepted.items() if k not in changes}
        for key, before in old.items():
            self._notify(key, before, changes[key])
        return given

    def _check(self, changes: Mapping[str, object]) -> None:
        for key, value in changes.items():
            if not isinstance(key, str):
                raise InvalidValueError(
                    f"{self._label}: a key is a string, not {type(key).__name__}: {short(key)}"
                )
            if issubclass(type(value), Reference):
                raise InvalidValueError(
                    f"{self._label}: key {key!r}: {value!r} is no value: it stands for one that "
                    "only a run has"
                )

    def _notify(self, key: str, old: object, new: object) -> None:
        for observer in self._observers:
            try:
                check_called(observer(key, old, new))
            except Exception:  # noqa: BLE001 - an observer must not break a write
                _log.exception(
                    "%s: observer %r failed on key %r; the write stands", self._label, observer, key
                )

    # -- attributes ---------------------------------------------------------------------------

    if not TYPE_CHECKING:  # a type checker refuses undeclared attributes by itself

        def __setattr__(self, name, value):
            if name[:1] != "_" and name not in attributes_of(type(self)):
                set_to = f" = {short(value)}"
                raise UnknownFieldError(no_attribute(self._label, self, self.schema, name, set_to))
            if name == "name":
                check_name(self._schema, value)
            object.__setattr__(self, name, value)

        def __getattr__(self, name):
            if name.startswith("_"):
                raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
            raise UnknownFieldError(no_attribute(self._label, self, self.schema, name))

        def __delattr__(self, name):
            if name == "name" or (name[:1] != "_" and name not in attributes_of(type(self))):
                raise UnknownFieldError(no_attribute(self._label, self, self.schema, name))
            object.__delattr__(self, name)

    # -- observing and validating -------------------------------------------------------------

    @property
    def is_observed(self) -> bool:
        """Whether the store has observers."""
        return bool(self._observers)

    def add_observer(self, observer: Observer) -> None:
        """Call ``observer(key, old, new)`` after every write and deletion.

        An ``Exception`` that it raises is logged with its traceback; the write stands.

        Raises:
            HookError: It does not take these arguments, or calling it has no effect: it is
                ``async``, or it yields.
        """
        wanted = "store.add_observer(observer) calls observer(key, old, new)"
        check_callback(wanted, observer, "key", "old", "new")
        self._observers = (*self._observers, observer)
        self._set_plain()

    def remove_observer(self, observer: Observer) -> None:
        """Stop calling an observer.

        Raises:
            ValueError: It was not added.
        """
        observers = [*self._observers]
        if observer not in observers:
            raise ValueError(f"{self._label}: {short(observer)} is not among its observers")
        observers.remove(observer)
        self._observers = tuple(observers)
        self._set_plain()

    def recheck(self, key: str, changes: Iterable[Change] | None = None) -> bool:
        """Check a value against the schema again, at every depth, after a change in place.

        Args:
            key: Its key.
            changes: What changed in it since it was accepted, if that is known: then only this is
                checked, if the schema allows it.

        Returns:
            Whether validators of the model were called, and may have changed values in place.

        Raises:
            InvalidValueError: It no longer fits.
        """
        if self._schema is None:
            return False
        if changes is None or not self._schema.fits_parts(key, self._data[key], changes):
            self._schema.check_accepted(self._label, self._data, (key,))
        return self._schema.together(self._label, self._data)

    def bind(self, schema: type[BaseModel] | Mapping[str, object]) -> None:
        """Validate the values against a schema and check every write from now on.

        Values of fields that the previous schema defined in the same way are not validated again.

        Raises:
            UnknownFieldError: A key that the model does not have.
            InvalidValueError: A value does not fit; the store is unchanged.
        """
        new_schema, before = make_schema(schema), self._accepted
        self._accepted = dict(self.definitions)
        try:
            self._set_initial(dict(self._data), new_schema)
        except BaseException:
            self._accepted = before
            raise

    def validate(self) -> None:
        """Check that all that the schema requires is set and fits, by model validators, too.

        Raises:
            IncompleteStoreError: Names what is missing (a ``ValueError``).
            InvalidValueError: Names what does not fit.
        """
        schema = self._complete()
        if schema is not None:
            schema.check_accepted(self._label, self._data, self._data)
            schema.together(self._label, self._data)

    def to_model(self) -> SchemaT_co:
        """The complete model, independent of the store; the values are not validated again.

        Raises:
            IncompleteStoreError: Names the fields that are not set.
            InvalidValueError: Names the fields that do not fit.
            StoreError: The store has no model schema.
        """
        schema = self._complete(is_whole=True)
        model = None
        if schema is not None:
            copies = {key: stored_copy(value) for key, value in self._data.items()}
            model = schema.instance(self._label, copies)
        if model is None:
            raise StoreError(f"{self._label} has no model schema: Store(..., schema=Model)")
        return cast(SchemaT_co, model)

    def _complete(self, *, is_whole: bool = False) -> Schema | None:
        if self._schema is not None:
            facts = (self._label, self._schema, self._data, self._unsaved)
            check_complete(*facts, is_whole=is_whole)
        return self._schema

    # -- snapshots ----------------------------------------------------------------------------

    def snapshot(self, path: str | os.PathLike[str]) -> Path:
        """Write the store to a JSON file, atomically: a crash leaves the old file or the new one.

        A value that cannot be stored is recorded as not saved; reading its key after a restore
        raises an error that says so. Parent folders are created.

        Returns:
            The path of the file.

        Raises:
            OSError: The file cannot be written.
        """
        from pocoflow.store.snapshot import write_snapshot

        return write_snapshot(Path(path), self.name, self._data, self._unsaved, self.definitions)

    @classmethod
    def restore(
        cls,
        path: str | os.PathLike[str],
        schema: type[ModelT] | Mapping[str, object] | None = None,
        *,
        types: Iterable[type] = (),
        aliases: Mapping[str, type] | None = None,
    ) -> Store[ModelT]:
        """Read a snapshot.

        Args:
            path: The file that :meth:`snapshot` wrote.
            schema: A schema that validates the values and vouches for their classes.
            types: Further classes that values may be of.
            aliases: Classes that were renamed or moved, by their names in the file.

        Raises:
            FileNotFoundError: There is no such file.
            DecodeError: The file is truncated or is not a snapshot; the message names it. A value
                of an unknown class raises ``UnreadableKeyError`` when its key is read.
            InvalidValueError: A value does not fit the schema.
        """
        from pocoflow.store.schema.vouching import classes_of
        from pocoflow.store.snapshot import read_snapshot

        read = read_snapshot(Path(path), classes_of(schema, types, aliases))
        return cls.rebuild(read.values, read.unsaved, read.name, schema, read.under)

    @classmethod
    def rebuild(
        cls,
        data: Mapping[str, object],
        unsaved: Mapping[str, Unsaved],
        name: str = "",
        schema: object = None,
        under: Mapping[str, str] | None = None,
    ) -> Store:
        """A store from restored values, which were accepted, and the marks of unsaved values.

        Args:
            data: The values.
            unsaved: The marks.
            name: The name of the store.
            schema: Its schema.
            under: The definition of each field when its value was accepted, if known.

        Raises:
            StoreError: A value does not fit the schema, and its validators cannot read it.
        """
        made = cls({}, None, name)
        made._unsaved = dict(unsaved)
        new_schema = make_schema(schema)
        known = dict.fromkeys(data, UNKNOWN) if under is None else dict(under)
        if new_schema is None:
            made._accepted = known
        else:
            data = revalidate(new_schema, made._label, data, known, unsaved)
        made._accept(data, new_schema)
        return made

    def miss(self, unsaved: Mapping[str, Unsaved]) -> None:
        """Mark absent keys whose values could not be stored."""
        self._unsaved = {**self._unsaved, **unsaved}
        self._set_plain()

    # -- messages -----------------------------------------------------------------------------

    @property
    def _label(self) -> str:
        return f"store {self.name!r}" if self.name else "store"

    def _missing(self, key: str) -> MissingKeyError:
        return missing_key(self._label, key, self._schema, self._data, self._unsaved)
