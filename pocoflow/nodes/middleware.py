"""Middleware: what wraps every visit of a node, or every attempt of ``exec``, of a flow.

A middleware is a generator function. ``yield`` proceeds, and evaluates to the outcome: the action
of a visit, or the result of an attempt; or it raises what was raised. The run continues with what
the generator returns. ``yield coroutine`` awaits one, in synchronous and asynchronous runs alike::

    def cached(attempt: Attempt) -> Around:
        key = attempt.given
        if key not in cache:
            cache[key] = yield
        return cache[key]


    flow.use(attempt=cached)
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from pocoflow.errors import DefinitionError
from pocoflow.messages import short
from pocoflow.store.store import Store
from pocoflow.values.callables import is_generator, misfit

Around: TypeAlias = Generator[Any, Any, Any]
"""What a middleware returns: it yields ``None`` to proceed, or a coroutine to await it."""


@dataclass(frozen=True, slots=True)
class Visit:
    """A node that is visited, from ``prep`` to ``post``.

    Attributes:
        node: The node itself.
        name: Its name in the graph.
        path: The names of the flows and branches around it.
        step: The number of the step.
        store: The store.
    """

    node: Any
    name: str
    path: tuple[str, ...]
    step: int
    store: Store


@dataclass(slots=True)
class Attempt:
    """An attempt of ``exec``.

    Attributes:
        node: The node itself.
        name: Its name in the graph.
        path: The names of the flows and branches around it.
        step: The number of the step.
        number: The number of the attempt, from 1.
        item: The number of the item in a batch, else ``None``.
        given: What ``exec`` is called with; another value may be set before the ``yield``.
    """

    node: Any
    name: str
    path: tuple[str, ...]
    step: int
    number: int
    item: int | None
    given: Any


VisitMiddleware: TypeAlias = Callable[[Visit], Around]
AttemptMiddleware: TypeAlias = Callable[[Attempt], Around]


class Middleware(NamedTuple):
    """The middleware of a flow, the outermost first."""

    visits: tuple[VisitMiddleware, ...] = ()
    attempts: tuple[AttemptMiddleware, ...] = ()

    def within(self, outer: Middleware) -> Middleware:
        """The middleware of a flow inside of another one, with that of the other around it."""
        return Middleware(outer.visits + self.visits, outer.attempts + self.attempts)


NO_MIDDLEWARE = Middleware()


def check_middleware(kind: str, given: object) -> None:
    """Refuse what cannot be a middleware.

    Raises:
        DefinitionError: It is not a generator function, or cannot be called with one argument.
    """
    message = f"flow.use({kind}=...) takes a generator function of one argument"
    if not callable(given) or not is_generator(given, asynchronous=False):
        raise DefinitionError(
            f"{message}: 'yield' proceeds and returns the outcome, 'yield coroutine' awaits one; "
            f"{short(given)} is not one"
        )
    wrong = misfit(given, "visit")
    if wrong is not None:
        raise DefinitionError(f"{message}; {wrong}")
