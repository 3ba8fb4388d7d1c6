"""Checks of the phases and settings of a class of nodes, or of flows."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Iterable, Iterator
from operator import attrgetter
from types import CodeType, FunctionType, MethodType
from typing import Any, get_origin

from pocoflow.errors import DefinitionError
from pocoflow.messages import package_of, short, type_label
from pocoflow.nodes.annotations import read_hints
from pocoflow.nodes.settings import STEP_SETTINGS
from pocoflow.values.callables import is_async, is_generator, python_code
from pocoflow.values.remembering import remembered

_PHASES = ("prep", "exec", "post", "exec_fallback")

_EVERY = (*_PHASES, "exec_async")

_OWN = frozenset(_EVERY)

_plain_phases = attrgetter(*_PHASES)

OF_STEPS = (*_PHASES, *STEP_SETTINGS)
"""The attributes of a node as one step."""

_INSTEAD = {"prep": "return a list", "post": "return the action"}


def check_phases(node: Any) -> None:
    """Refuse a phase that cannot be called, or is a generator, which would not be run.

    The ``prep`` of a batch may be a generator, which yields the items.

    Raises:
        DefinitionError: Names the phase.
    """
    kind: Any = type(node)
    if kind.is_flow:
        return  # it has none, which is checked with its class
    functions = class_phases(node)
    if functions is not None and check_class(kind, *functions):
        return
    for phase in _EVERY:
        if hasattr(kind, phase):  # its __getattr__ must not be called before its __init__
            _check_phase(kind, phase, getattr(node, phase, None), is_batch=node.is_batch)


def class_phases(node: Any) -> tuple[FunctionType, ...] | None:
    """The phases of a node as functions, if it shares them with all nodes of its class.

    These are ``prep``, ``exec``, ``post`` and ``exec_fallback``, and ``exec_async`` if it has that.
    ``None`` if a phase is the node's own, or not a function.
    """
    kind = type(node)
    if not _OWN.isdisjoint(node.__dict__):
        return None
    functions: tuple[Any, ...] = _plain_phases(kind)
    if hasattr(kind, "exec_async"):
        functions = (*functions, kind.exec_async)
    for function in functions:
        if type(function) is not FunctionType:  # may be equal to another one, or have no hash
            return None
    return functions


@remembered
def check_class(kind: Any, *functions: FunctionType) -> bool:
    """Refuse a class as :func:`check_phases` refuses a node, by the functions that are its phases.

    Returns:
        Whether it could be checked: a descriptor may return another function for a node.

    Raises:
        DefinitionError: Names the phase.
    """
    phases = dict(zip(_EVERY, functions, strict=False))
    if any(inspect.getattr_static(kind, phase) is not phases[phase] for phase in phases):
        return False
    for phase, function in phases.items():
        _check_phase(kind, phase, MethodType(function, kind), is_batch=kind.is_batch)
    return True


def _check_phase(kind: type, phase: str, function: object, *, is_batch: bool) -> None:
    if not callable(function):
        raise DefinitionError(
            f"{kind.__name__}.{phase} is {short(function)}: a phase is a function; leave one that "
            "does nothing out"
        )
    plain: object = getattr(function, "__func__", function)
    is_bound = plain is not function
    if isinstance(plain, FunctionType):
        if phase == "exec_async":
            _check_awaitable(kind.__name__, plain)
        if not hasattr(plain, "__wrapped__"):
            _check_arguments(kind.__name__, phase, plain, is_bound)
    gives_items = phase == "prep" and is_batch
    if is_generator(function, asynchronous=gives_items or None):
        advice = _INSTEAD.get(
            phase, "return one value, and show intermediate ones with context().emit(part)"
        )
        raise DefinitionError(
            f"{kind.__name__}.{phase} is a generator, which would not be run: {advice} (a "
            "decorator that turns it into a list must not use functools.wraps)"
        )


_GIVEN = {
    "prep": ("store",),
    "post": ("store", "prep_result", "exec_result"),
    "exec_fallback": ("prep_result", "exc"),
}


@remembered
def _check_arguments(owner: str, phase: str, function: FunctionType, is_bound: bool) -> None:
    given = _GIVEN.get(phase, ("prep_result",))
    signature = inspect.signature(function)
    parameters = list(signature.parameters)
    try:
        signature.bind(*(["self"] if is_bound else []), *given)
    except TypeError as exc:
        raise DefinitionError(
            f"{owner}.{phase}{_location(function)} takes "
            f"({', '.join(parameters)}), and is called with ({', '.join(given)}): {exc}; write "
            f"def {phase}({', '.join(('self', *given))})"
        ) from None


@remembered
def _check_awaitable(owner: str, function: FunctionType) -> None:
    """Refuse an ``exec_async`` that is annotated with a builtin type, which cannot be awaited."""
    hints = {} if is_async(function) else read_hints(function)
    if "return" not in hints:
        return
    hint = hints["return"]
    given = get_origin(hint) or hint
    if not isinstance(given, type) or given is object or issubclass(given, Awaitable):
        return
    if given.__module__ == "builtins":  # of another class, a subclass may be awaitable
        raise DefinitionError(
            f"{owner}.exec_async{_location(function)} returns "
            f"{type_label(hint)}, which cannot be awaited: write 'async def exec_async'"
        )


@remembered
def check_called(kind: Any) -> None:
    """Refuse a class with a phase that is never called, such as PocketFlow's ``prep_async``.

    One that the class calls itself, or that has the called phase beside it, is accepted.

    Raises:
        DefinitionError: Names it, its location, and what to write.
    """
    if kind.is_flow:
        return  # refuse_phases is for these
    bases = own_bases(kind)
    defined = {name for base in bases for name in vars(base)}
    for phase in _PHASES:
        name = f"{phase}_async"
        is_ours = any(name in vars(base) for base in kind.__mro__ if base not in bases)
        if phase in defined or name not in defined or is_ours or is_used(name, bases):
            continue
        function = inspect.unwrap(getattr(kind, name))
        how = "async def" if inspect.iscoroutinefunction(function) else "def"
        raise DefinitionError(
            f"{kind.__name__}.{name}{_location(function)} is never called: write '{how} {phase}'"
        )


def _location(function: object) -> str:
    code = python_code(function)
    return "" if code is None else f" ({code.co_filename}:{code.co_firstlineno})"


class NotOfFlows:
    """An attribute of nodes that are one step, which a flow does not have."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, flow: Any, kind: type) -> Any:
        who = kind.__name__ if flow is None else f"flow {flow.name!r}"
        raise AttributeError(
            f"{who} has no {self._name}: that is for nodes which are one step", name=self._name
        )

    def __set__(self, flow: object, value: object) -> None:
        self.__get__(flow, type(flow))


@remembered
def refuse_phases(kind: Any) -> None:
    """Refuse a class of flows that defines attributes of single steps: they would have no effect.

    Raises:
        DefinitionError: It defines some; names them.
    """
    names = (*OF_STEPS, *(f"{phase}_async" for phase in _PHASES))
    bases = own_bases(kind)
    defined = [name for name in names if any(name in vars(base) for base in bases)]
    if not defined:
        _refuse_arguments(kind)
        return
    what = f"class {kind.__name__} defines {' and '.join(defined)}"
    if not any(name.startswith(_PHASES) for name in defined):
        raise DefinitionError(f"{what}, and a flow has no such settings: they are of its nodes")
    raise DefinitionError(
        f"{what}, and a flow has no phases of its own: put what prep does into a node before the "
        "others, and what post does into one after them; the params of a BatchFlow are a field "
        "that a node writes, and FanOut(flow, each=..., as_=...) runs the flow for each of them"
    )


_NOT_OF_BRANCHES = ("exec", "exec_async", "exec_fallback", *STEP_SETTINGS, "executor")


def refuse_settings(node: Any) -> None:
    """Refuse attributes of single steps on a node that runs branches: they would have no effect.

    Raises:
        DefinitionError: The node, or its class, has some; names it.
    """
    attributes_by_base = [vars(base) for base in own_bases(type(node))]
    for name in _NOT_OF_BRANCHES:
        if any(name in attributes for attributes in (vars(node), *attributes_by_base)):
            raise DefinitionError(
                f"{node.name} has {name}, which is for nodes that are one step: this one runs "
                "branches; set it in the nodes that they are"
            )


def _refuse_arguments(kind: Any) -> None:
    """Refuse attributes of a class of flows that its ``__init__`` would overwrite."""
    bases = own_bases(kind)
    ours = next(base for base in kind.__mro__ if base not in bases)
    arguments = inspect.signature(ours.__init__).parameters if kind in bases else {}
    for name in arguments.keys() & {name for base in bases for name in vars(base)}:
        value = inspect.getattr_static(kind, name)
        if hasattr(value, "__get__"):
            continue
        if not is_used(name, bases):
            raise DefinitionError(
                f"class {kind.__name__} defines {name}, which is an argument and would be written "
                f"over: write super().__init__(..., {name}=...)"
            )


def own_bases(kind: type) -> list[type]:
    """A class and its bases, without those of this package."""
    return [base for base in kind.__mro__ if package_of(base) != "pocoflow"]


def is_used(name: str, bases: Iterable[type]) -> bool:
    """Whether another method of these classes uses a name."""
    for base in bases:
        for other, value in vars(base).items():
            given = value.fget if isinstance(value, property) else value
            function = given.__func__ if isinstance(given, (classmethod, staticmethod)) else given
            if other == name or not isinstance(function, FunctionType):
                continue
            if name in _names(inspect.unwrap(function).__code__):
                return True
    return False


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, str):
            yield constant
        elif isinstance(constant, CodeType):
            yield from _names(constant)
