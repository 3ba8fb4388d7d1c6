"""The signature of a function as a node: what it reads, writes, and returns."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from types import GenericAlias
from typing import Any, NamedTuple, NoReturn, get_args, get_origin

from pocoflow.errors import DefinitionError
from pocoflow.messages import closest, short, type_label
from pocoflow.nodes.annotations import (
    Unknown,
    actions_of,
    answered,
    awaited,
    is_unknown,
    plain,
    read_hints,
)
from pocoflow.nodes.call_checks import hidden_node
from pocoflow.nodes.resources import Resource
from pocoflow.store.fields import FieldRef, StoreField, field_of, is_fields, reference_of
from pocoflow.store.store import Store
from pocoflow.values.callables import is_generator

_ADVICE = "a node is a function defined with def or async def"


class Parameter(NamedTuple):
    """A parameter of a function node, and where its argument comes from.

    Attributes:
        name: The parameter.
        field: The field of the store that it reads, or ``None``.
        resource: The resource that it takes, or ``None``. With neither, it takes the store itself.
        required: Whether the field must be set: false if the parameter has a default of its own.
        by_reference: Whether its default is a reference that names the field.
        is_item: Whether it takes one item of the field that the node maps over.
    """

    name: str
    field: StoreField | None = None
    resource: Resource | None = None
    required: bool = True
    by_reference: bool = False
    is_item: bool = False

    @property
    def takes_store(self) -> bool:
        """Whether it takes the whole store."""
        return self.field is None and self.resource is None and not self.is_item


class Signature(NamedTuple):
    """What a function node reads and writes.

    Attributes:
        function: The function as it was decorated.
        is_async: Whether it is ``async def``.
        parameters: Its parameters in order.
        writes: The fields that its result is written to; empty if its result is its action.
        unpacks: Whether the result is a tuple with one value for each of ``writes``.
        hints: Its annotations by parameter, including ``"return"``; what is not annotated is left
            out, what cannot be resolved is (or contains) an ``Unknown``. For a node that maps over
            items, ``"return"`` is what is written: the list of what the function returns.
        each: The field whose items the first parameter takes, one at a time, or ``None``.
        asks: Whether it may return a question. ``hints`` then has the type of the answer.
        answer: The type of an answer, per item if the node maps over items.
        chooses: Whether its result is a tuple whose last element is the action. ``hints`` has the
            type of the elements before that, which are written.
        choice: The type of that element.
    """

    function: Callable[..., Any]
    is_async: bool
    parameters: tuple[Parameter, ...]
    writes: tuple[StoreField, ...]
    unpacks: bool
    hints: Mapping[str, object]
    each: StoreField | None = None
    asks: bool = False
    answer: object = Any
    chooses: bool = False
    choice: object = Any

    @property
    def takes_store(self) -> bool:
        """Whether a parameter takes the whole store."""
        return any(parameter.takes_store for parameter in self.parameters)

    def actions(self) -> tuple[str, ...] | None:
        """The actions that the function can return; ``None`` if they are unknown.

        A name that could not be resolved at decoration is looked up again: it may have been defined
        further down.

        Raises:
            TypeError: The annotation is known by now, and allows something that is not an action.
        """
        if self.chooses:
            hint = self.choice
            if is_unknown(hint):
                hint = split_choice(read_hints(self.function).get("return", Any))[1]
            return None if hint is Any else actions_of(hint)
        if self.writes or "return" not in self.hints:
            return ("default",)
        hint = self.hints["return"]
        if is_unknown(hint):
            hint, _ = answered(read_hints(self.function).get("return", hint))
        return actions_of(hint if self.is_async else awaited(hint))


def read_signature(
    function: Any,
    writes: object,
    names: Mapping[str, object] | None = None,
    each: object = None,
    supplied: object = (),
    actions: object = False,
) -> Signature:
    """Read the signature of a function as a node.

    Args:
        function: What ``@node`` decorates.
        writes: A field reference, a tuple of them, or ``None``.
        names: Local names that its annotations may use.
        each: A field reference; the first parameter takes one item of it.
        supplied: The parameters whose arguments are supplied by a decorator below ``@node``.
        actions: Whether its result is a tuple whose last element is the action.

    Raises:
        DefinitionError: It cannot be a node; the message names the reason, location and remedy.
    """
    _check_kind(function)
    hints = read_hints(function, names)
    result, asks = answered(hints.get("return", Any))
    if asks:
        hints["return"] = result
    signature = inspect.signature(function)
    _check_method(function, signature)
    taken = _without(function, signature, supplied)
    parameters = [_parameter(function, parameter, hints) for parameter in taken]
    written = _written(function, writes)
    is_async = inspect.iscoroutinefunction(function)
    unpacks = isinstance(writes, tuple)
    mapped = None if each is None else _mapped(function, each, parameters, unpacks)
    taken_in = tuple(parameters)
    read = Signature(function, is_async, taken_in, written, unpacks, hints, mapped, asks, result)
    if actions is not False:
        read = read._replace(chooses=True, choice=_chosen(read, hints, actions))
    _check_result(read)
    if each is not None and written and "return" in hints:
        hints["return"] = GenericAlias(list, hints["return"])
    return read


def split_choice(hint: object) -> tuple[tuple[object, ...], object]:
    """The types of what is written and of the action, from that of a tuple; ``Any`` if unknown."""
    hint = plain(hint)
    parts = get_args(hint) if get_origin(hint) is tuple else ()
    return (parts[:-1], parts[-1]) if len(parts) > 1 and ... not in parts else ((), Any)


def _chosen(read: Signature, hints: dict[str, object], actions: object) -> object:
    """The type of the action in a result; removes it from ``hints["return"]``."""
    if actions is not True:
        _refuse(read.function, f"actions={short(actions)}: it is True, or left out")
    if not read.writes:
        _refuse(
            read.function,
            "actions=True is for a function that also writes: without writes= what it returns is "
            "its action anyway",
        )
    if read.each is not None or read.asks:
        what = "works on items" if read.each is not None else "asks"
        _refuse(
            read.function, f"it {what}, so no single result of it is the action: leave actions out"
        )
    hint = awaited(hints.get("return", Any))
    if hint is Any or is_unknown(hint):
        hints.pop("return", None)
        return hint if hint is Any else split_choice(hint)[1]
    parts, choice = split_choice(hint)
    count = len(read.writes)
    if len(parts) != count:
        written = ", ".join(map(str, read.writes))
        _refuse(
            read.function,
            f"with actions=True it returns a tuple of what it writes ({written}) and its action, "
            f"tuple[{', '.join(['...'] * count)}, Literal['...']], not {type_label(hint)}",
        )
    hints["return"] = GenericAlias(tuple, parts) if read.unpacks else parts[0]
    return choice


def _without(
    function: Callable[..., object], signature: inspect.Signature, supplied: object
) -> list[inspect.Parameter]:
    """The parameters whose arguments are taken from the store."""
    names = list(signature.parameters)
    if isinstance(supplied, str) or not isinstance(supplied, Iterable):
        _refuse(function, f"supplied={short(supplied)}: it takes the names of parameters, a tuple")
    given = tuple(supplied)
    for name in given:
        if name not in names:
            hint = closest(str(name), names)
            _refuse(function, f"supplied={short(given)}: it has no parameter {name!r}{hint}")
    return [value for name, value in signature.parameters.items() if name not in given]


def _mapped(
    function: Callable[..., object], each: object, parameters: list[Parameter], unpacks: bool
) -> StoreField:
    """The field to map over; the first parameter is changed to take an item."""
    field = reference_of(f"{_about(function)}: each", each)
    if not parameters or parameters[0].takes_store or parameters[0].resource is not None:
        _refuse(function, "each=... gives its first parameter one item; it has no such parameter")
    first = parameters[0]
    if first.by_reference or not first.required:
        _refuse(function, f"each=... gives {first.name!r} one item, so it has no default")
    if any(parameter.takes_store for parameter in parameters):
        _refuse(function, "each=... works on items without the store; take fields as parameters")
    if unpacks:
        _refuse(function, "each=... writes one field, the list of the results; return one value")
    parameters[0] = Parameter(first.name, is_item=True)
    return field


def definition_location(function: Callable[..., object]) -> tuple[str, int]:
    """File and line of the definition of a function or a bound method."""
    code = inspect.unwrap(function).__code__
    return code.co_filename, code.co_firstlineno


def _about(function: Callable[..., object]) -> str:
    file, line = definition_location(function)
    return f"@node {function.__name__} ({file}:{line})"


def _refuse(function: Callable[..., object], text: str) -> NoReturn:
    raise DefinitionError(f"{_about(function)}: {text}")


def _check_kind(function: object) -> None:
    if isinstance(function, (FieldRef, str, tuple)):
        raise DefinitionError(f"@node({short(function)}): did you mean @node(writes=...)?")
    if isinstance(function, (staticmethod, classmethod)):
        kind = type(function).__name__
        raise DefinitionError(
            f"@node on a {kind}: {_ADVICE}; put @node below @staticmethod, or use a Node subclass"
        )
    if (hidden := hidden_node(function)) is not None:
        raise DefinitionError(f"@node on {hidden}")
    if isinstance(function, type):
        raise DefinitionError(f"@node on the class {function.__name__}: {_ADVICE}")
    if not (inspect.isfunction(function) or inspect.ismethod(function)):
        raise DefinitionError(f"@node on {short(function)}: {_ADVICE}")
    if function.__name__ == "<lambda>":
        _refuse(function, "a lambda has no name and no annotations; define it with def")
    if is_generator(function):
        _refuse(function, "it is a generator; a node returns one value, so return a list instead")


def _check_method(function: Callable[..., object], signature: inspect.Signature) -> None:
    names = list(signature.parameters)
    owner = function.__qualname__.rpartition(".")[0]
    in_class = bool(owner) and not owner.endswith("<locals>")
    if in_class and inspect.isfunction(function) and names and names[0] in ("self", "cls"):
        _refuse(
            function,
            f"it is a method of {owner}, and a node is not bound to an object; define it outside "
            f"the class, write a Node subclass, or make a node of a bound method: "
            f"node(...)(object.{function.__name__})",
        )


def _parameter(
    function: Callable[..., object], given: inspect.Parameter, hints: Mapping[str, object]
) -> Parameter:
    name, default = given.name, given.default
    if given.kind in (given.VAR_POSITIONAL, given.VAR_KEYWORD):
        _refuse(function, f"{given} cannot name fields; name each field as a parameter of its own")
    if given.kind is given.POSITIONAL_ONLY:
        _refuse(function, f"parameter {name!r} is positional-only; take the '/' out")
    if _is_store(hints.get(name)):
        return Parameter(name)
    if isinstance(default, Resource):
        return Parameter(name, resource=default)
    if isinstance(default, FieldRef):
        return Parameter(name, field_of(default), by_reference=True)
    if is_fields(default):
        _refuse(function, f"the default of {name!r} is {default!r}: name one of its fields")
    if name == "store" and name not in hints:
        _refuse(function, "annotate 'store' as Store for the whole store: store: Store[Model]")
    return Parameter(name, StoreField(name), required=default is given.empty)


def _is_store(hint: object) -> bool:
    hint = plain(hint)
    if isinstance(hint, Unknown):  # Store may be imported for the type checker alone
        return str(hint).rpartition(".")[2] == "Store"
    kind = get_origin(hint) or hint
    return isinstance(kind, type) and issubclass(kind, Store)


def _written(function: Callable[..., object], writes: object) -> tuple[StoreField, ...]:
    if writes is None:
        return ()
    if isinstance(writes, list):
        _refuse(function, f"writes={short(writes)}: several fields are a tuple, writes=(A.x, A.y)")
    given = writes if isinstance(writes, tuple) else (writes,)
    written = tuple(reference_of(f"{_about(function)}: writes", field) for field in given)
    names = [field.name for field in written]
    if not names or len(set(names)) < len(names):
        _refuse(function, f"writes={short(writes)}: name each field that it writes once")
    return written


def _check_result(read: Signature) -> None:
    """Refuse a result that does not fit ``writes``, or that could become an action by accident."""
    hint = plain(read.hints.get("return"))
    if read.chooses:
        try:
            read.actions()
        except TypeError:
            _refuse(
                read.function,
                f"with actions=True the last element of what it returns is its action, and it is "
                f"{type_label(read.choice)}: declare the actions as a Literal or a StrEnum",
            )
    if read.writes:
        parts = get_args(hint) if get_origin(hint) is tuple else (...,)
        if read.unpacks and ... not in parts and len(parts) != len(read.writes):
            _refuse(
                read.function,
                f"it writes {len(read.writes)} fields ({', '.join(map(str, read.writes))}) and "
                f"returns {type_label(hint)}, a tuple of {len(parts)}",
            )
        return
    try:
        actions = read.actions()
        if read.each is not None and actions is not None and actions != ("default",):
            raise TypeError(actions)
    except TypeError:
        if read.asks:
            what = "Question needs the type of its answer"
            if read.answer is not Any:
                what = (
                    f"it returns Question[{type_label(read.answer)}] and writes nothing, so the "
                    "answer would be an action; an answer that is no Literal needs writes="
                )
            _refuse(
                read.function,
                f"{what}: Question[bool] with @node(writes=...), or "
                "Question[Literal['yes', 'no']] for an action",
            )
        _refuse(
            read.function,
            f"it returns {type_label(hint)} and writes nothing, so its result would be an action; "
            "did you mean @node(writes=...)? An action is declared as a Literal or a StrEnum, "
            "no action as None",
        )
