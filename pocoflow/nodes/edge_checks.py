"""Checks of the parts of an edge: its limit, the errors that it catches, and their field."""

from __future__ import annotations

from pocoflow.errors import BudgetError, DefinitionError
from pocoflow.logging import OwnLogger
from pocoflow.messages import short
from pocoflow.nodes.edges import AnyNode, Catch, Edge, End, Limit, NodeT
from pocoflow.store.fields import reference_of
from pocoflow.values.callables import UNSET, unfit

_log = OwnLogger("flow")


def make_limit(owner: str, target: NodeT | End, at_most: object, then: NodeT | End) -> Limit[NodeT]:
    """The limit of an edge, or an error that begins with ``owner``.

    Raises:
        DefinitionError: One of the arguments is missing, is invalid or has no effect.
    """
    if then is UNSET:
        raise DefinitionError(
            f"{owner}: at_most={short(at_most)} needs then=: where the run goes when the edge was "
            "taken so often, a node or END"
        )
    if type(at_most) is not int or at_most < 1:
        raise DefinitionError(
            f"{owner}: at_most={short(at_most)}: it is how often the edge is taken before then= "
            "counts, a whole number of at least 1"
        )
    if isinstance(target, End):
        raise DefinitionError(
            f"{owner}: an edge to END is taken once, so at_most={at_most} does nothing: leave "
            "at_most and then out"
        )
    if then is target:
        name = getattr(then, "name", "")
        raise DefinitionError(
            f"{owner}: then={name} is the target itself, so at_most={at_most} does nothing: name "
            "another node, or END"
        )
    return Limit(at_most, then)


def warn_replaced(name: str, before: Edge, after: Edge) -> None:
    """Log that an edge of a node replaces another one."""
    old, new = (getattr(edge.target, "name", "END") for edge in (before, after))
    chain = ""
    if not isinstance(before.target, End):
        chain = (
            f". then returns its source, so a chain is {name}.then({before.action!r}, {old}); "
            f"{old}.then('default', {new})"
        )
    _log.warning(
        "%s.then(%r, %s) at %s:%d replaces the edge to %s at %s:%d%s",
        *(name, after.action, new, after.file, after.line, old, before.file, before.line),
        chain,
    )


def make_catch(node: AnyNode, kinds: tuple[object, ...], writes: object, value: object) -> Catch:
    """The source of an edge that errors of a node take.

    Raises:
        DefinitionError: An argument is invalid.
    """
    where = f"{node.name}.catch(...)"
    classes = tuple(kind for kind in kinds if isinstance(kind, type))
    if not kinds or any(not issubclass(kind, Exception) for kind in classes) or classes != kinds:
        given = ", ".join(map(short, kinds)) or "nothing"
        raise DefinitionError(
            f"{where} takes classes of exceptions, node.catch(TimeoutError, ValueError), "
            f"not {given}"
        )
    field = None if writes is None else reference_of(f"{where}: writes", writes)
    if value is not None:
        wrong = "there is no writes=" if writes is None else unfit(value, "exc")
        if wrong is not None:
            raise DefinitionError(
                f"{where}: value={short(value)}: it is called with the exception, and returns what "
                f"the field that writes= names is to hold; {wrong}"
            )
    return Catch(node, classes, field, value if callable(value) else None)


def make_spent(node: AnyNode, names: tuple[object, ...]) -> Catch:
    """The source of an edge that is taken when budgets are spent.

    Raises:
        DefinitionError: A name is not a string.
    """
    given = tuple(name for name in names if isinstance(name, str) and name)
    if given != names:
        raise DefinitionError(
            f"{node.name}.when_spent({', '.join(map(short, names))}): names of what is spent, as "
            'in when_spent("usd")'
        )
    return Catch(node, (BudgetError,), spent=given)
