"""Hints for wrong arguments: which one was probably meant."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from typing import Any, NamedTuple, TypeVar, cast

from pocoflow.errors import DefinitionError, PocoflowError
from pocoflow.messages import closest, package_of, short
from pocoflow.nodes.porting import NEVER_CALLED, RENAMED
from pocoflow.nodes.settings import ITEM_SETTINGS, STEP_SETTINGS

MethodT = TypeVar("MethodT", bound=Callable[..., Any])


def not_a_node(given: object) -> str:
    """What was given instead of a node, and how to turn it into one, for an error message."""
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
    """The remedy for a decorator above ``@node`` that has hidden the node."""
    inner: object = given
    while (wrapped := getattr(inner, "__wrapped__", None)) is not None:
        if hasattr(type(wrapped), "exec_fallback"):
            name = (
                inner.__code__.co_qualname.partition(".")[0] if hasattr(inner, "__code__") else ""
            )
            who = f"the decorator {name!r}" if name else f"a {type(inner).__name__} above it"
            return (
                f"the function {getattr(given, '__name__', '')}: {who} has hidden the node that "
                "@node made of it; put the decorator below @node"
            )
        inner = wrapped
    return None


class WrongCall(NamedTuple):
    """A call of a method whose arguments do not fit its parameters.

    Attributes:
        error: What Python raised.
        method: The method.
        owner: Its object.
        given: The positional arguments.
        named: The keyword arguments.
    """

    error: TypeError
    method: Callable[..., object]
    owner: Any
    given: tuple[object, ...]
    named: Mapping[str, object]

    @property
    def known(self) -> list[str]:
        """The names of the parameters."""
        return list(inspect.signature(self.method).parameters)[1:]


def explained(explain: Callable[[WrongCall], Exception]) -> Callable[[MethodT], MethodT]:
    """A method that raises another error for a wrong call.

    Args:
        explain: Returns the error.
    """

    def decorated(method: MethodT) -> MethodT:
        @wraps(method)
        def checked(self: object, *given: object, **named: object) -> object:
            try:
                return method(self, *given, **named)
            except PocoflowError as exc:
                if (trace := exc.__traceback__) is not None and trace.tb_next is not None:
                    exc.with_traceback(trace.tb_next.tb_next)  # this frame is enough
                raise
            except TypeError as exc:
                if exc.__traceback__ is None or exc.__traceback__.tb_next is not None:
                    raise  # raised inside of the method
                raise explain(WrongCall(exc, method, self, given, named)) from None

        return cast(MethodT, checked)

    return decorated


def by_keyword(**keywords: str) -> Callable[[MethodT], MethodT]:
    """A method whose error for a wrong call says which keyword was meant.

    Args:
        **keywords: What to write instead of a keyword, by that keyword; ``more`` is for an excess
            positional argument.
    """

    def explain(call: WrongCall) -> TypeError:
        known = call.known
        unexpected = [name for name in call.named if name in keywords or name not in known]
        meant = [keywords.get(name) or closest(name, known) for name in unexpected]
        hint = "".join(meant) if unexpected else keywords.get("more", "")
        return TypeError(f"{call.error}{hint}")

    return explained(explain)


@explained
def two_arguments(call: WrongCall) -> TypeError:
    """A ``then`` whose error explains its arguments when their number is wrong."""
    kind, given = "flow" if call.owner.is_flow else "node", call.given
    if call.owner.is_flow and len(given) == 3 and isinstance(given[1], str):
        name = getattr(given[0], "__name__", "source")  # a function's, not a class
        return TypeError(
            "flow.then takes two arguments, by position: write "
            f"flow.then({name}.when({given[1]!r}), target)"
        )
    return TypeError(
        f"{kind}.then takes two arguments, by position: node.then('default', target), or "
        "flow.then(source, target); to limit the edge, at_most= and then= with them"
    )


@explained
def keyword_only(call: WrongCall) -> TypeError:
    """An ``__init__`` that takes ``name``, and whose error explains where settings belong."""
    settings = {name: value for name, value in call.named.items() if name != "name"}
    kind, given, advice = type(call.owner), call.given, ""
    what = f"{kind.__name__}(...) takes no argument but name="
    if given and all(type(value) in (int, float) for value in given):
        of_pocketflow = dict(zip(("max_retries", "wait"), given, strict=False))
        settings, given = {**of_pocketflow, **settings}, given[2:]
        advice = "; in an __init__: super().__init__(), then self.max_retries = ..."
    return TypeError(about_settings(what, kind, settings, given) + advice)


@explained
def first_and_keywords(call: WrongCall) -> Exception:
    """An ``__init__`` of a flow or a database, whose error says what was probably meant."""
    kind, known = type(call.owner).__name__, call.known
    if len(call.given) > 1:
        return DefinitionError(
            f"{kind}(...) takes 1 argument by position, and got {len(call.given)}: name the others "
            f"(it takes {', '.join(known)})"
        )
    for name in call.named:
        if name not in known:
            meant = _MEANT.get(name)
            near = f"; did you mean {meant!r}?" if meant in known else belongs(name)
            near = near or closest(name, known)
            return DefinitionError(
                f"{kind}(...) takes no {name!r}{near} (it takes {', '.join(known)})"
            )
    hint = "; a flow is made with its first node: Flow(start=node)" if "start" in known else ""
    return TypeError(f"{call.error}{hint}")


def about_settings(
    what: str, kind: type, named: Mapping[str, object], given: tuple[object, ...] = ()
) -> str:
    """The message for settings given to a node, or to its class: where they are written."""
    advice, shown, unknown = [what], [], []
    known = ("name", *STEP_SETTINGS, *ITEM_SETTINGS)
    for name, value in named.items():
        here = RENAMED.get(name, name)
        if hasattr(kind, here):
            shown.append(f"{here} = {short(value)}")
        else:
            unknown.append(f"{name}{closest(name, (key for key in known if hasattr(kind, key)))}")
        if name in RENAMED:
            advice.append(f"{name} is called {here}")
    if given or unknown:
        advice[0] += f", not {', '.join([*map(short, given), *unknown])}"
    if given or shown or "?" in advice[0]:
        advice.append(f"settings are class attributes: {'; '.join(shown) or 'max_retries = 3'}")
    return "; ".join(advice)


_MEANT = {"name": "flow_name", "db": "db_path", "database": "db_path", "path": "db_path"}

_OF_RUNS = ("store", "resources", "labels", "thread", "if_exists", "if_busy", "resume_from")


def belongs(name: str) -> str:
    """Where an argument belongs that a flow does not take; empty if unknown."""
    if name == "store":
        return "; give it to the run: flow.run(store)"
    if name in _OF_RUNS:
        return f"; give it to the run: flow.run(..., {name}=...)"
    if name in (*STEP_SETTINGS, *ITEM_SETTINGS):
        limit = "; one run is limited by Flow(deadline=...)" if name == "timeout" else ""
        return f"; it is a setting of a node: {name} = ... in its class{limit}"
    return ""


def refuse_near(who: str, name: str, known: Iterable[str]) -> None:
    """Refuse a new attribute whose name resembles an existing one, or that is never called.

    Raises:
        DefinitionError: Names both, or what to write.
    """
    import difflib

    if name in NEVER_CALLED:
        raise DefinitionError(f"{name} of {who} is never called: {NEVER_CALLED[name]}")

    near = difflib.get_close_matches(name, [other for other in known if other[:1] != "_"], 1, 0.8)
    if near and name[:1] != "_":
        raise DefinitionError(f"{who} has no attribute {name!r}; did you mean {near[0]!r}?")
