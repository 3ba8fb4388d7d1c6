"""What a program written for PocketFlow, or in a hurry, is told: how it is said here."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from functools import wraps
from inspect import Parameter
from math import inf
from operator import attrgetter
from types import CodeType, FunctionType, MethodType
from typing import Any, NoReturn, TypeVar, cast, get_origin

from pocoflow.errors import DefinitionError, PocoflowError
from pocoflow.messages import closest, package_of, short, type_label
from pocoflow.nodes.annotations import read_hints
from pocoflow.nodes.settings import ITEM_SETTINGS, STEP_SETTINGS
from pocoflow.values.callables import is_async, is_generator
from pocoflow.values.remembering import remembered

MethodT = TypeVar("MethodT", bound=Callable[..., Any])

_PHASES = ("prep", "exec", "post", "exec_fallback")
_EVERY = (*_PHASES, "exec_async")
_OWN = frozenset(_EVERY)
_plain_phases = attrgetter(*_PHASES)
OF_STEPS = (*_PHASES, *STEP_SETTINGS)
"""What a node has because it is one step."""

RENAMED = {"max_retry": "max_retries", "retries": "max_retries", "wait": "retry_delay"}
"""What settings are called elsewhere, and here."""


def not_a_node(given: object) -> str:
    """What was given where a node is expected, and how to make one of it, for an error message."""
    if isinstance(given, type):
        return f"the class {given.__name__}: pass an instance, with ()"
    if getattr(given, "__name__", "") == "<lambda>":
        return "a lambda: define a function with def, and write @node above it"
    if (hidden := hidden_node(given)) is not None:
        return hidden
    if inspect.isroutine(given):
        return f"the function {getattr(given, '__name__', '')}: write @node above it"
    for base in type(given).__mro__:
        if package_of(base) == "pocketflow":
            name = type(given).__name__
            return f"{name}, which is a PocketFlow node; derive it from pocoflow.Node"
    return short(given)


def hidden_node(given: object) -> str | None:
    """What to do about a decorator that stands above ``@node`` and has hidden the node."""
    inner: object = given
    while (behind := getattr(inner, "__wrapped__", None)) is not None:
        if hasattr(type(behind), "exec_fallback"):
            name = (
                inner.__code__.co_qualname.partition(".")[0] if hasattr(inner, "__code__") else ""
            )
            who = f"the decorator {name!r}" if name else f"a {type(inner).__name__} above it"
            return (
                f"the function {getattr(given, '__name__', '')}: {who} has hidden the node that "
                "@node made of it; put the decorator below @node"
            )
        inner = behind
    return None


def two_arguments(method: MethodT) -> MethodT:
    """A ``then`` that says what its arguments are when it is given another number of them."""

    @wraps(method)
    def checked(self: Any, *given: object, **named: object) -> object:
        if len(given) != 2 or (named and named.keys() - {"at_most", "then"}):
            kind = "flow" if self.is_flow else "node"
            if self.is_flow and len(given) == 3 and isinstance(given[1], str):
                name = getattr(given[0], "__name__", "source")  # a function's, not a class
                raise TypeError(
                    "flow.then takes two arguments, by position: write "
                    f"flow.then({name}.when({given[1]!r}), target)"
                )
            raise TypeError(
                f"{kind}.then takes two arguments, by position: node.then('default', target), or "
                "flow.then(source, target); to limit the edge, at_most= and then= with them"
            )
        return method(self, *given, **named)

    return cast(MethodT, checked)


def by_keyword(**keywords: str) -> Callable[[MethodT], MethodT]:
    """A method that says which keyword was meant where it is called in another way.

    Args:
        **keywords: What to write for a keyword that is there for something else, by that; ``more``
            for an argument by position that is one too many.
    """

    def decorated(method: MethodT) -> MethodT:
        @wraps(method)
        def checked(self: object, *given: object, **named: object) -> object:
            try:
                return method(self, *given, **named)
            except PocoflowError as exc:
                if (behind := exc.__traceback__) is not None and behind.tb_next is not None:
                    exc.with_traceback(behind.tb_next.tb_next)  # this frame is enough
                raise
            except TypeError as exc:
                if exc.__traceback__ is None or exc.__traceback__.tb_next is not None:
                    raise  # it is not about the call
                parameters = list(_parameters(method))[1:]
                odd = [one for one in named if one in keywords or one not in parameters]
                meant = [keywords.get(one) or closest(one, parameters) for one in odd]
                hint = "".join(meant) if odd else keywords.get("more", "")
                raise TypeError(f"{exc}{hint}") from None

        return cast(MethodT, checked)

    return decorated


def keyword_only(init: MethodT) -> MethodT:
    """An ``__init__`` that takes ``name``, and tells where settings belong that it is given."""

    @wraps(init)
    def checked(self: object, *given: object, **named: object) -> None:
        if given or named.keys() - {"name"}:
            settings = {name: value for name, value in named.items() if name != "name"}
            kind = type(self)
            what = f"{kind.__name__}(...) takes no argument but name="
            own = ""
            if given and all(type(one) in (int, float) for one in given):
                of_pocketflow = dict(zip(("max_retries", "wait"), given, strict=False))
                settings, given = {**of_pocketflow, **settings}, given[2:]
                own = "; in an __init__: super().__init__(), then self.max_retries = ..."
            raise TypeError(about_settings(what, kind, settings, given) + own)
        init(self, **named)

    return cast(MethodT, checked)


def about_settings(
    what: str, kind: type, named: Mapping[str, object], given: tuple[object, ...] = ()
) -> str:
    """What whoever gave settings to a node, or to its class, is told: where they are written."""
    told, shown, unknown = [what], [], []
    known = ("name", *STEP_SETTINGS, *ITEM_SETTINGS)
    for name, value in named.items():
        here = RENAMED.get(name, name)
        if hasattr(kind, here):
            shown.append(f"{here} = {short(value)}")
        else:
            unknown.append(f"{name}{closest(name, (one for one in known if hasattr(kind, one)))}")
        if name in RENAMED:
            told.append(f"{name} is called {here}")
    if given or unknown:
        told[0] += f", not {', '.join([*map(short, given), *unknown])}"
    if given or shown or "?" in told[0]:
        told.append(f"settings are class attributes: {'; '.join(shown) or 'max_retries = 3'}")
    return "; ".join(told)


class NotHereError(DefinitionError, AttributeError):
    """An attribute of PocketFlow's nodes was read, which ours have not."""


class Elsewhere:
    """An attribute of PocketFlow's nodes that is not there, and says what is.

    A descriptor, since a class with a ``__getattr__`` is slower in every attribute. It sets
    nothing, so an attribute of a subclass or of a node goes before it, and so does one of a base
    behind it.
    """

    def __init__(self, advice: str) -> None:
        self._advice = advice

    def __set_name__(self, owner: type, name: str) -> None:
        self._owner, self._name = owner, name

    def __get__(self, node: Any, kind: type) -> Any:
        bases = kind.__mro__
        if any(self._name in vars(one) for one in bases[bases.index(self._owner) + 1 :]):
            behind = super(self._owner, kind if node is None else node)
            return getattr(behind, self._name)
        who = kind.__name__ if node is None else node.name
        raise NotHereError(f"{who}.{self._name} is PocketFlow's: {self._advice}")


def _refuse_arrow(node: Any, target: object) -> NoReturn:
    raise TypeError(
        f"{node.name} >> ... is PocketFlow's way to wire: here it is "
        f"{node.name}.then('default', target)"
    )


def _refuse_minus(node: Any, action: object) -> NoReturn:
    raise TypeError(
        f"{node.name} - {action!r} >> ... is PocketFlow's way to wire: here it is "
        f"{node.name}.then({action!r}, target)"
    )


_THEN, _VALUES = "edges are written node.then('default', target)", "put the values into the store"

OF_POCKETFLOW: Mapping[str, object] = {
    "__rshift__": _refuse_arrow,
    "__sub__": _refuse_minus,
    "next": Elsewhere(_THEN),
    "add_successor": Elsewhere(_THEN),
    "successors": Elsewhere("the edges of a node are in node.edges"),
    "params": Elsewhere(f"{_VALUES}, or give them to __init__"),
    "set_params": Elsewhere(f"{_VALUES}, or give them to __init__"),
    "run": Elsewhere("a node runs in a flow, Flow(start=node).run(store)"),
    "run_async": Elsewhere("a node runs in a flow, await Flow(start=node).run_async(store)"),
    "cur_retry": Elsewhere("pocoflow.context().attempt counts the attempts, from 1"),
    "start_node": Elsewhere("the first node of a flow is flow.graph.start.node"),
}
"""What PocketFlow's nodes have, for the class of nodes: each says how it is written here."""

_FAN_OUT = "FanOut(flow, each=..., as_=...), a node that runs a flow for each item"
CLASSES_OF_POCKETFLOW = {
    "BaseNode": "Node",
    "AsyncFlow": "Flow, which has run_async",
    "AsyncBatchNode": "BatchNode, whose exec may be async def",
    "AsyncParallelBatchNode": "BatchNode, whose exec may be async def, with concurrency = 10",
    **dict.fromkeys(("BatchFlow", "AsyncBatchFlow", "AsyncParallelBatchFlow"), _FAN_OUT),
}
"""What is in the place of classes that only PocketFlow has, by their names."""

_WRAP = "what wraps each visit of a node is a middleware, flow.use(visit=...)"
_NEVER_CALLED = {
    "_run": _WRAP,
    "_run_async": _WRAP,
    "_exec": "what wraps each attempt of exec is a middleware, flow.use(attempt=...)",
    "_exec_async": "what wraps each attempt of exec is a middleware, flow.use(attempt=...)",
    "_orch": _WRAP,
    "_orch_async": _WRAP,
    "next_node": "post returns the action, and edges say where it leads, node.then(action, target)",
    "get_next_node": "post returns the action, and edges say where it leads",
    "_next_node": "post returns the action, and edges say where it leads",
    "_successors": "edges are written node.then(action, target), and read as node.edges",
}


_READ = frozenset({"edges", "replaced", "is_batch"})
"""What the library reads of nodes and flows, and nobody else may define."""


def refuse_dead(kind: type) -> None:
    """Refuse a class that overrides what a version before, or PocketFlow, would have called.

    What another method of the class uses is the class's own, and left alone. So is refused what
    hides an attribute that the library reads.

    Raises:
        DefinitionError: Names it, and how it is written here.
    """
    own = _own(kind)
    if kind not in own:
        return
    for name in (*sorted(_READ), "name"):
        first = next((base for base in kind.__mro__ if name in vars(base)), None)
        if first in own and (name in _READ or _is_method(vars(first)[name])):
            raise DefinitionError(
                f"{first.__qualname__}.{name} hides what a run reads there: give it another name"
            )
    mixins = [base for base in own if not hasattr(base, "is_flow")]  # of which nobody was told
    for base in (kind, *mixins):
        for name in _NEVER_CALLED.keys() & vars(base).keys():
            if any(name in used for other in own for used in _used(other, name)):
                continue
            if not (callable(vars(base)[name]) or hasattr(vars(base)[name], "__get__")):
                continue  # a value of the user's
            raise DefinitionError(
                f"{base.__qualname__}.{name} is never called: {_NEVER_CALLED[name]}"
            )


def _is_method(value: object) -> bool:
    return callable(value) or isinstance(value, classmethod)


def _own(kind: type) -> list[type]:
    return [base for base in kind.__mro__ if package_of(base) != "pocoflow"]


_INSTEAD = {"prep": "return a list", "post": "return the action"}


def check_phases(node: Any) -> None:
    """Refuse a phase that cannot be called as it is, or is a generator: nobody would run it.

    The ``prep`` of a batch may be one: it gives the items.

    Raises:
        DefinitionError: Names the phase.
    """
    kind: Any = type(node)
    if kind.is_flow:
        return  # it has none, which is looked at with its class
    functions = class_phases(node)
    if functions is not None and check_class(kind, *functions):
        return
    for phase in _EVERY:
        if hasattr(kind, phase):  # a __getattr__ of the node is not asked before its __init__
            _check_phase(kind, phase, getattr(node, phase, None), is_batch=node.is_batch)


def class_phases(node: Any) -> tuple[FunctionType, ...] | None:
    """The functions that are the phases of a node and of all others of its class.

    These are ``prep``, ``exec``, ``post`` and ``exec_fallback``, and ``exec_async`` if it has that.
    ``None`` if a phase is the node's own, or no function.
    """
    kind = type(node)
    if not _OWN.isdisjoint(node.__dict__):
        return None
    functions: tuple[Any, ...] = _plain_phases(kind)
    if hasattr(kind, "exec_async"):
        functions = (*functions, kind.exec_async)
    for one in functions:
        if type(one) is not FunctionType:  # which may be equal to another one, or have no hash
            return None
    return functions


@remembered
def check_class(kind: Any, *functions: FunctionType) -> bool:
    """Refuse a class as :func:`check_phases` refuses a node, by the functions that are its phases.

    Returns:
        Whether it could be looked at: a descriptor may give another function to a node.

    Raises:
        DefinitionError: Names the phase.
    """
    phases = dict(zip(_EVERY, functions, strict=False))
    if any(inspect.getattr_static(kind, one) is not phases[one] for one in phases):
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
            phase, "return one value; what is to be seen meanwhile is told by context().emit(part)"
        )
        raise DefinitionError(
            f"{kind.__name__}.{phase} is a generator, and nobody would run it: {advice} (a "
            "decorator that makes a list of it does without functools.wraps)"
        )


_MEANT = {"name": "flow_name", "db": "db_path", "database": "db_path", "path": "db_path"}
_OF_RUNS = ("store", "resources", "labels", "thread", "if_exists", "if_busy", "resume_from")


def belongs(name: str) -> str:
    """Where an argument belongs that a flow does not take; empty if nobody knows."""
    if name == "store":
        return "; give it to the run: flow.run(store)"
    if name in _OF_RUNS:
        return f"; give it to the run: flow.run(..., {name}=...)"
    if name in (*STEP_SETTINGS, *ITEM_SETTINGS):
        limit = "; one run is limited by Flow(deadline=...)" if name == "timeout" else ""
        return f"; it is a setting of a node: {name} = ... in its class{limit}"
    return ""


def check_arguments(kind: Any, given: Collection[str], positional: int) -> None:
    """Refuse arguments that a flow or a database does not take, with what was probably meant.

    Raises:
        DefinitionError: There are some.
    """
    parameters, most, takes_more = _arguments_of(kind.__init__)
    if positional >= most:
        raise DefinitionError(
            f"{kind.__name__}(...) takes {most - 1:.0f} argument by position, and got "
            f"{positional}: name the others, as in Flow(start, schema=Model, flow_name='name')"
        )
    for name in given:
        if name not in parameters and not takes_more:
            known = list(parameters)[1:]
            meant = _MEANT.get(name)
            near = f"; did you mean {meant!r}?" if meant in known else belongs(name)
            near = near or closest(name, known)
            raise DefinitionError(
                f"{kind.__name__}(...) takes no {name!r}{near} (it takes {', '.join(known)})"
            )


@remembered
def _arguments_of(init: Callable[..., object]) -> tuple[Mapping[str, Parameter], float, bool]:
    """The parameters of an ``__init__``, how many it takes by position, and whether any keyword."""
    parameters = _parameters(init)
    kinds = [one.kind for one in parameters.values()]
    most = sum(one in (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD) for one in kinds)
    more = Parameter.VAR_POSITIONAL in kinds
    return parameters, inf if more else most, Parameter.VAR_KEYWORD in kinds


@remembered
def _parameters(function: Callable[..., object]) -> Mapping[str, Parameter]:
    return inspect.signature(function).parameters


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
        code = function.__code__
        raise DefinitionError(
            f"{owner}.{phase} ({code.co_filename}:{code.co_firstlineno}) takes "
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
        code = function.__code__
        raise DefinitionError(
            f"{owner}.exec_async ({code.co_filename}:{code.co_firstlineno}) returns "
            f"{type_label(hint)}, which cannot be awaited: write 'async def exec_async'"
        )


@remembered
def check_called(kind: Any) -> None:
    """Refuse a class with a phase that is never called, such as PocketFlow's ``prep_async``.

    One that the class calls itself, or that stands beside the phase that is called, is left alone.

    Raises:
        DefinitionError: Names it, its place, and what to write.
    """
    if kind.is_flow:
        return  # which says itself that it has no phases
    own = _own(kind)
    ours = {name for base in kind.__mro__ if base not in own for name in vars(base)}
    defined = {name for base in own for name in vars(base)}
    dead = {f"{phase}_async": phase for phase in _PHASES if phase not in defined}
    dead = {name: phase for name, phase in dead.items() if name not in ours}
    for name, phase in dead.items():
        if name not in defined or any(name in used for base in own for used in _used(base)):
            continue
        function = inspect.unwrap(getattr(kind, name))
        code = getattr(function, "__code__", None)
        place = "" if code is None else f" ({code.co_filename}:{code.co_firstlineno})"
        how = "async def" if inspect.iscoroutinefunction(function) else "def"
        raise DefinitionError(
            f"{kind.__name__}.{name}{place} is never called: write '{how} {phase}'"
        )


class NotOfFlows:
    """What a node has that is one step, and a flow has not, which is none."""

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
    """Refuse a class of flows that defines what single steps have: nothing would come of it.

    Raises:
        DefinitionError: It defines some; names them.
    """
    names = (*OF_STEPS, *(f"{phase}_async" for phase in _PHASES))
    bases = _own(kind)
    own = [name for name in names if any(name in vars(base) for base in bases)]
    if not own:
        _refuse_arguments(kind)
        return
    what = f"class {kind.__name__} defines {' and '.join(own)}"
    if not any(name.startswith(_PHASES) for name in own):
        raise DefinitionError(f"{what}, and a flow has no such settings: they are of its nodes")
    raise DefinitionError(
        f"{what}, and a flow has no phases of its own: put what prep does into a node before the "
        "others, and what post does into one after them; the params of a BatchFlow are a field "
        "that a node writes, and FanOut(flow, each=..., as_=...) runs the flow for each of them"
    )


_NOT_OF_BRANCHES = ("exec", "exec_async", "exec_fallback", *STEP_SETTINGS, "executor")


def refuse_settings(node: Any) -> None:
    """Refuse what only single steps have, of a node that runs branches: it would have no effect.

    Raises:
        DefinitionError: The node, or its class, has some; names it.
    """
    own = [vars(base) for base in _own(type(node))]
    for name in _NOT_OF_BRANCHES:
        if any(name in one for one in (vars(node), *own)):
            raise DefinitionError(
                f"{node.name} has {name}, which is for nodes that are one step: this one runs "
                "branches; set it in the nodes that they are"
            )


def _refuse_arguments(kind: Any) -> None:
    """Refuse attributes of a class of flows that its ``__init__`` would write over."""
    own = _own(kind)
    ours = next(base for base in kind.__mro__ if base not in own)
    arguments = inspect.signature(ours.__init__).parameters if kind in own else {}
    for name in arguments.keys() & {name for base in own for name in vars(base)}:
        value = inspect.getattr_static(kind, name)
        if hasattr(value, "__get__"):
            continue
        if not any(name in used for base in own for used in _used(base)):
            raise DefinitionError(
                f"class {kind.__name__} defines {name}, which is an argument and would be written "
                f"over: write super().__init__(..., {name}=...)"
            )


def refuse_near(who: str, name: str, known: Iterable[str]) -> None:
    """Refuse a new attribute whose name is nearly that of one that there is, or never called.

    Raises:
        DefinitionError: Names both, or what to write.
    """
    import difflib

    if name in _NEVER_CALLED:
        raise DefinitionError(f"{name} of {who} is never called: {_NEVER_CALLED[name]}")

    near = difflib.get_close_matches(name, [one for one in known if one[:1] != "_"], 1, 0.8)
    if near and name[:1] != "_":
        raise DefinitionError(f"{who} has no attribute {name!r}; did you mean {near[0]!r}?")


def _used(kind: type, but: str = "") -> Iterator[set[str]]:
    """The names that each method of a class uses, without one of them."""
    for name, value in vars(kind).items():
        if name == but:
            continue
        given = value.fget if isinstance(value, property) else value
        function = given.__func__ if isinstance(given, (classmethod, staticmethod)) else given
        if isinstance(function, FunctionType):
            yield set(_names(inspect.unwrap(function).__code__))


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, str):
            yield constant
        elif isinstance(constant, CodeType):
            yield from _names(constant)
